"""The pages, from the templates in ``static/``; whatever goes into one is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from ..data.pictures import FORMATS
from ..layers import Sequential
from ..prediction import CERTAIN
from .limits import LIMITS, Limits

SHOWN = 10  # classes with a bar


@cache
def static(name: str) -> bytes:
    """Return a file of ``static/``."""
    return (files(__package__) / "static" / name).read_bytes()


def fill(name: str, **values: str) -> str:
    """Return a template with its places filled; the values are HTML already."""
    return Template(static(name).decode()).substitute(values)


def base(title: str, main: str, here: str = "", script: bool = False, failed: bool = False) -> str:
    """Return a whole page.  here: "try" or "about".  failed: it says what went wrong."""
    marks = {
        f"here_{page}": ' aria-current="page"' if page == here else "" for page in ("try", "about")
    }
    tag = '<script type="module" src="/static/page.js"></script>' if script else ""
    state = ' class="failed"' if failed else ""
    return fill("base.html", title=escape(title), main=main, script=tag, state=state, **marks)


class Pages:
    """The pages about one model.

    samples: the names of the sample pictures.  facts: what else is known of the model, name and
    text.  why_blind: why there is no picture of where it looked, if there is none.
    """

    def __init__(
        self,
        model: Sequential,
        samples: Sequence[str],
        facts: Mapping[str, str],
        why_blind: str = "",
        limits: Limits = LIMITS,
    ) -> None:
        self.model, self.facts, self.why_blind, self.limits = model, facts, why_blind, limits
        H, W, _ = model.input_shape
        self.size = f"{W}\u00a0\u00d7\u00a0{H}"
        self.samples = samples

    def answer(
        self, answer: Mapping[str, Any] | None = None, problem: str = "", sample: int | None = None
    ) -> str:
        """Return the page to try the network, empty, or with an answer or a problem on it."""
        known = bool(set(self.samples) & set(self.model.classes))
        shown: dict[str, str] = {}
        for place, key in (("seen", "picture"), ("looked", "looked")):
            address = answer.get(key) if answer else None
            shown[place] = f' src="{escape(address)}"' if address else ""
        sure = answer is None or answer["certain"]
        name, share = (answer["class"], answer["probability"]) if answer else ("", 0.0)
        entries = answer["top"] if answer else []
        return base(
            f"{name} · minicnn" if answer else "minicnn: what does the network see?",
            fill(
                "try.html",
                size=self.size,
                count=str(len(self.model.classes)),
                formats=f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}",
                bytes=str(self.limits.body),
                pixels=str(self.limits.pixels),
                megabytes=f"{self.limits.body / 2**20:g}",
                samples="\n".join(
                    f'<li><a href="/samples/{i}"{current(i == sample)}>'
                    f'<img src="/samples/{i}.png" width="32" height="32" alt="{escape(drawn)}">'
                    "</a></li>"
                    for i, drawn in enumerate(self.samples)
                ),
                samples_hint="Drawn by formulas, like those that it was trained on."
                if known
                else "Shapes, drawn by formulas. This network never saw such things: it will "
                "call them by what it knows.",
                problem=escape(problem),
                problem_hidden=hidden(not problem),
                status="" if answer or problem else "The answer will appear here.",
                quiet=" quiet" if answer or problem else "",
                answer_hidden=hidden(not answer),
                unsure_hidden=hidden(sure),
                top_name=escape(name),
                top_share=percent(share) if answer else "",
                given=f' src="/samples/{sample}.png"' if sample is not None else "",
                seen=shown["seen"],
                looked=shown["looked"],
                looked_hidden=hidden(bool(self.why_blind)),
                scale_hidden=hidden(not shown["looked"]),
                bars="\n".join(bar(entry) for entry in entries[:SHOWN]),
                rest=rest(entries[SHOWN:]),
            ),
            "try",
            script=True,
            failed=bool(problem),
        )

    def about(self, address: str) -> str:
        """Return the page about the network.  address: of the server, for the example."""
        classes = self.model.classes
        C = self.model.input_shape[-1]
        facts = {
            "Pictures": f"{self.size} pixels, {'in colour' if C == 3 else f'{C} channel(s)'}",
            "Parameters": f"{self.model.params.count:,}",
            "Computes on": str(self.model.device).upper(),
            **self.facts,
        }
        looked = (
            f"It cannot say where it looked: {self.why_blind}."
            if self.why_blind
            else "“Where it looked” is Grad-CAM: it shows the parts that spoke for the answer, "
            "coarsely. It shows no reasons."
        )
        return base(
            "This network · minicnn",
            fill(
                "about.html",
                lead=f"It sorts pictures of {self.size} pixels into {len(classes)} classes.",
                facts="\n".join(
                    f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>"
                    for name, text in facts.items()
                ),
                count=str(len(classes)),
                size=self.size,
                sure=f"{CERTAIN:.0%}".replace("%", "\u00a0%"),
                looked=escape(looked),
                classes="\n".join(f"<li>{escape(name)}</li>" for name in classes),
                address=escape(address),
                summary=escape(str(self.model.summary())),
            ),
            "about",
        )

    def problem(self, title: str, text: str) -> str:
        """Return a page that says what can't be shown."""
        main = f'<h1>{escape(title)}</h1><p class="lead">{escape(text)}</p>'
        return base(f"{title} · minicnn", f'{main}<p><a href="/">To the start</a></p>')


def hidden(yes: bool) -> str:
    """Return the attribute that hides an element, or nothing."""
    return " hidden" if yes else ""


def current(yes: bool) -> str:
    """Return the attribute that marks the chosen one of several, or nothing."""
    return ' aria-current="true"' if yes else ""


def percent(share: float) -> str:
    """Return a probability for people; page.js writes it alike."""
    if 0.995 < share < 1:
        return "&gt;\u00a099\u00a0%"
    if 0 < share < 0.005:
        return "&lt;\u00a01\u00a0%"
    return f"{100 * share:.0f}\u00a0%"


def bar(entry: Mapping[str, Any]) -> str:
    """Return a class' line with its bar."""
    share = entry["probability"]
    return (
        f'<li><span class="name">{escape(entry["class"])}</span><svg aria-hidden="true">'
        f'<rect width="{100 * share:.4g}%" height="100%" rx="6"></rect></svg>'
        f'<span class="share">{percent(share)}</span></li>'
    )


def rest(entries: Sequence[Mapping[str, Any]]) -> str:
    """Return what is said of the classes without a bar."""
    if not entries:
        return ""
    left = sum(entry["probability"] for entry in entries)
    return f"{len(entries)} other classes: {percent(left)} together"
