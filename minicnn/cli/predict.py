"""``minicnn predict``: what a trained model says of one's own pictures."""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from glob import has_magic, iglob
from typing import IO, TYPE_CHECKING, Any

from ..options import whole
from .sources import load_model

if TYPE_CHECKING:
    from ..prediction import Prediction

FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")
"""What a spreadsheet takes for the beginning of a formula: these, and as wide letters."""


def add_to(commands: Any) -> None:
    """Add the commands of this file to the parser's."""
    predict = commands.add_parser(
        "predict",
        help="say what is on pictures",
        description="Say what is on pictures: PNG, JPEG, WebP, BMP or GIF files of any size. "
        "A folder, with all folders in it, or a pattern in quotes gives CSV. Of a file that can't "
        "be used, one line on stderr says why, and the others go on. Exit code: 0, 1 if some of "
        "the pictures couldn't be used, 2 if none could.",
    )
    predict.add_argument("model", metavar="MODEL", help="a model's file, or a run's folder")
    predict.add_argument(
        "files", metavar="FILE", nargs="+", help="a picture, a folder, a pattern, or - for stdin"
    )
    predict.add_argument("--top", type=int, default=3, help="how many classes are told (3)")
    form = predict.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print a list of objects")
    form.add_argument("--csv", metavar="FILE", help="write a .csv file, or - for stdout")
    predict.add_argument("--tta", choices=("flip", "flip+shift"), help="average several views")
    predict.add_argument("--device", default="auto", help="cpu, gpu, gpu:1 or auto (the default)")
    predict.set_defaults(run=run_predict)


def run_predict(args: argparse.Namespace) -> int:
    """Print or write what a model says of pictures; 0 if all could be used, 1 if not, 2 if none."""
    from ..data.pictures import pillow
    from ..prediction import Prediction, predict_images

    top = whole(args.top, "--top")
    many = any(os.path.isdir(name) or is_pattern(name) for name in args.files)
    goal = "-" if many and not args.json and args.csv is None else args.csv
    if goal not in (None, "-") and not goal.lower().endswith(".csv"):
        raise ValueError(f"--csv {visible(goal)}: expected a name that ends in .csv, or -")
    pillow()
    model = load_model(args.model, args.device)
    failed = Failed()
    names = list_pictures(args.files, failed)
    sources = (sys.stdin.buffer if name == "-" else name for name in names)
    done = 0
    with opened(goal) as out:
        form: Json | Table | Csv = Json() if args.json else Table() if out is None else Csv(out)
        for source, found in predict_images(model, sources, args.tta):
            name = source if isinstance(source, str) else "-"
            if isinstance(found, Prediction):
                form.add(name, found, top)
                done += 1
            else:
                failed.say(name, str(found))
        form.end()
    if goal not in (None, "-"):
        say(f"{visible(goal)}: {done:,} pictures")
    return 0 if not failed.count else 1 if done else 2


class Failed:
    """What couldn't be used: each is told at once, in one line."""

    count = 0

    def say(self, name: str, why: str) -> None:
        """Tell one."""
        self.count += 1
        say(f"minicnn: {visible(name)}: {visible(why)}", sys.stderr)


class Table:
    """For people: a few lines for each picture."""

    def add(self, name: str, found: Prediction, top: int) -> None:
        """Print one."""
        say(visible(name) + ("" if found.certain else "   (uncertain: no class has half)"))
        classes = [(visible(label), p) for label, p in found.top(top)]
        width = max(len(label) for label, _ in classes)
        for label, p in classes:
            say(f"  {label:{width}}  {p:6.1%}")

    def end(self) -> None:
        """Print nothing more."""


class Json:
    """For programs: a list with an object for each picture, written as they come."""

    between = "["

    def add(self, name: str, found: Prediction, top: int) -> None:
        """Print one."""
        say(f"{self.between}\n{json.dumps({'file': name} | found.as_dict(top))}", end="")
        self.between = ","

    def end(self) -> None:
        """Close the list."""
        say("[]" if self.between == "[" else "\n]")


class Csv:
    """For spreadsheets: a line for each picture."""

    def __init__(self, out: IO[str]) -> None:
        self.out, self.started = out, False
        self.rows = csv.writer(self, lineterminator="\n")

    def write(self, text: str) -> None:
        """Take a line from the writer."""
        say(text, self.out, end="")

    def add(self, name: str, found: Prediction, top: int) -> None:
        """Write one, and before the first what stands in which column."""
        classes = found.top(top)
        if not self.started:
            pairs = [(f"class_{k}", f"probability_{k}") for k in range(2, len(classes) + 1)]
            more = [column for pair in pairs for column in pair]
            self.rows.writerow(["file", "class", "probability", *more, "certain"])
            self.started = True
        cells = [cell for label, p in classes for cell in (harmless(label), f"{p:.6f}")]
        self.rows.writerow([harmless(name), *cells, "yes" if found.certain else "no"])

    def end(self) -> None:
        """Write nothing more."""


def list_pictures(arguments: Sequence[str], failed: Failed) -> Iterator[str]:
    """Yield the files that arguments mean, one by one: there may be very many."""
    for name in arguments:
        if is_pattern(name):
            matches = sorted(iglob(name, recursive=True))
            if not matches:
                failed.say(name, "no file is called so")
            for match in matches:
                yield from in_folder(match, failed) if os.path.isdir(match) else [match]
        elif os.path.isdir(name):
            yield from in_folder(name, failed)
        else:
            yield name


def is_pattern(name: str) -> bool:
    """Whether an argument is a pattern, such as "holiday/*.jpg", and not a file's own name."""
    return has_magic(name) and not os.path.lexists(name)


def in_folder(folder: str, failed: Failed) -> Iterator[str]:
    """Yield the files in a folder and in those inside, but for what is hidden, and for text."""
    from ..data.folder import BESIDES

    def refuse(error: OSError) -> None:
        failed.say(str(error.filename), error.strerror or str(error))

    before, count = failed.count, 0
    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() not in BESIDES:
                count += 1
                yield os.path.join(place, name)
    if not count and failed.count == before:
        failed.say(folder, "there are no pictures in it")


def opened(goal: str | None) -> AbstractContextManager[Any]:
    """Return a block with the file that CSV goes to; None for none."""
    if goal is None:
        return nullcontext(None)
    if goal == "-":
        return nullcontext(sys.stdout)
    return open(goal, "w", encoding="utf-8", newline="")


def visible(text: str) -> str:
    """Return a text in one line, with nothing in it that a terminal obeys: names may be anything.

    Line ends, control characters, marks that turn the direction of writing, and bytes that are no
    text are written by their numbers, as in Python's source.
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def harmless(text: str) -> str:
    """Return a text for a spreadsheet: what would be a formula there gets an apostrophe before."""
    text = visible(text)
    return f"'{text}" if text.lstrip().startswith(FORMULA) else text


def say(text: str, out: IO[str] | None = None, end: str = "\n") -> None:
    """Print a text, with what the terminal's encoding lacks written as Python writes it."""
    out = sys.stdout if out is None else out
    code = getattr(out, "encoding", None) or "utf-8"
    print(text.encode(code, "backslashreplace").decode(code), file=out, end=end)
