"""What a gradient check found."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..backend import Shape


class GradientError(AssertionError):
    """A gradient isn't that of its function; the text is the report."""


@dataclass
class Argument:
    """How one argument's gradient compares.

    error: the largest of |formula - difference| / (|formula| + |difference| + floor), floor a
    thousandth of the gradient's largest entry plus what float64 can't resolve.  worst: its index,
    or "direction k".  kinks: what was left out.
    """

    name: str
    shape: Shape
    checked: int = 0
    kinks: int = 0
    error: float = 0.0
    worst: str = "-"
    formula: float = 0.0
    difference: float = 0.0
    problem: str = ""

    def join(self, other: Argument) -> None:
        """Take in another comparison of the same argument: the worse of the two counts."""
        self.checked, self.kinks = self.checked + other.checked, self.kinks + other.kinks
        self.problem = self.problem or other.problem
        if not other.error <= self.error:
            self.error, self.worst = other.error, other.worst
            self.formula, self.difference = other.formula, other.difference


@dataclass
class Report:
    """The result of a check; true if everything agrees.  Printing it gives a table."""

    title: str
    rtol: float
    arguments: list[Argument] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every argument was compared and agrees."""
        return bool(self.arguments) and not self.failures()

    def __bool__(self) -> bool:
        return self.passed

    def failures(self) -> list[str]:
        """Say what is wrong, argument by argument: name, worst index, both numbers."""
        texts = []
        for a in self.arguments:
            if a.problem:
                texts.append(f"{a.name}: {a.problem}")
            elif a.checked == 0 or a.kinks > a.checked:
                what = "nothing" if a.checked == 0 else f"only {a.checked}"
                texts.append(f"{a.name}: {what} could be compared, {a.kinks} kinks")
            elif not a.error <= self.rtol:
                texts.append(
                    f"{a.name}{a.worst}: the formula says {a.formula:.9g}, the difference "
                    f"{a.difference:.9g} (error {a.error:.1e}, allowed {self.rtol:.0e})"
                )
        return texts

    def raise_on_failure(self) -> Report:
        """Return self, or raise `GradientError` with the report."""
        if not self.passed:
            raise GradientError(str(self))
        return self

    def __str__(self) -> str:
        rows = [("argument", "shape", "checked", "kinks", "error", "worst")]
        for a in self.arguments:
            counts = str(a.checked), str(a.kinks)
            rows.append((a.name, str(a.shape), *counts, f"{a.error:.1e}", a.worst))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
        verdict = f"passed, rtol {self.rtol:.0e}" if self.passed else "FAILED"
        failures = [f"  {text}" for text in self.failures()]
        return "\n".join([f"{self.title}: {verdict}", *lines, *failures])
