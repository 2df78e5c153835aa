"""What a record of comparisons says: medians, ratios, the roofline; and the text for people."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.machine import OTHERS
from benchmarks.peers.blas_worker import FLOPS, SIDE
from benchmarks.settings import OWN, ROOFLINE


@dataclass(frozen=True)
class Figure:
    """A median and its spread."""

    middle: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: list[float]) -> Figure:
        """Sum values up."""
        return cls(median(values), min(values), max(values), len(values))


def speeds(contender: dict[str, Any]) -> list[float]:
    """Return images/s, round by round; from the latency where batches are of one picture."""
    return [
        1e6 / r["latency_us"] if "latency_us" in r else r["images"] / r["seconds"]
        for r in contender["rounds"]
    ]


def named(comparison: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a contender by its name."""
    return next(c for c in comparison["contenders"] if c["name"] == name)


def rivals(comparison: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the peers' settings."""
    return [c for c in comparison["contenders"] if c["name"] not in (OWN, ROOFLINE)]


def best(comparison: dict[str, Any]) -> dict[str, Any] | None:
    """Return the fastest setting of any peer; None where no peer ran."""
    found = rivals(comparison)
    return max(found, key=lambda c: median(speeds(c))) if found else None


def ratio(comparison: dict[str, Any], contender: dict[str, Any]) -> Figure:
    """Return how many times as fast minicnn is: of the medians, and the spread over the rounds."""
    ours, theirs = speeds(named(comparison, OWN)), speeds(contender)
    each = Figure.of([a / b for a, b in zip(ours, theirs, strict=True)])
    return Figure(median(ours) / median(theirs), each.low, each.high, each.count)


def flops(comparison: dict[str, Any]) -> float:
    """Count the operations for one picture by direct convolution: 3 times forward in training."""
    return comparison["multiply_adds"] * 2 * (3 if comparison["mode"] == "train" else 1)


def roofline(comparison: dict[str, Any]) -> tuple[float, float]:
    """Return the matrix product's FLOP/s, and the images/s that they would allow."""
    speed = median(speeds(named(comparison, ROOFLINE))) * FLOPS
    return speed, speed / flops(comparison)


def added(contender: dict[str, Any]) -> float:
    """Return the MB that the work added to a process with framework, network and data loaded."""
    return contender["peak_mb"] - contender["loaded_mb"]


def text(comparison: dict[str, Any]) -> str:
    """Return a comparison as a table, with what follows from it."""
    unit = "us/picture" if is_latency(comparison) else "images/s"
    head = ["", unit, "min .. max", "rounds", "peak MB", "+MB", "minicnn / it", "min .. max"]
    rows = [head]
    for contender in [named(comparison, OWN), *rivals(comparison)]:
        rows.append(row(comparison, contender))
    return "\n".join([title(comparison), "", *aligned(rows), "", *conclusions(comparison)])


def title(comparison: dict[str, Any]) -> str:
    """Return one line about the work."""
    c = comparison
    return (
        f"{c['net']}: {c['mode']}, batch {c['batch']}, {c['parameters']:,} parameters, "
        f"{c['pictures']:,} {c['data']}, {c['threads']} thread(s)"
    )


def is_latency(comparison: dict[str, Any]) -> bool:
    """Whether calls of one picture were timed."""
    return "latency_us" in named(comparison, OWN)["rounds"][0]


def row(comparison: dict[str, Any], contender: dict[str, Any]) -> list[str]:
    """Return a contender's line."""
    values = speeds(contender)
    if is_latency(comparison):
        values = [1e6 / value for value in values]
    f, times = Figure.of(values), ratio(comparison, contender)
    against = ["", ""]
    if contender["name"] != OWN:
        against = [f"{times.middle:.2f}", f"{times.low:.2f} .. {times.high:.2f}"]
    spread = f"{f.low:,.0f} .. {f.high:,.0f}"
    sizes = [f"{contender['peak_mb']:,.0f}", f"{added(contender):,.0f}"]
    return [contender["name"], f"{f.middle:,.0f}", spread, str(f.count), *sizes, *against]


def aligned(rows: list[list[str]]) -> list[str]:
    """Return the rows with their columns aligned, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def conclusions(comparison: dict[str, Any]) -> list[str]:
    """Return what is to be said below the table."""
    said = []
    top = best(comparison)
    if top is not None:
        times = ratio(comparison, top)
        said.append(
            f"against the best, {top['name']}: {times.middle:.2f} times as fast "
            f"({times.low:.2f} .. {times.high:.2f} over the rounds)"
        )
    _, limit = roofline(comparison)
    products = Figure.of([v * FLOPS / 1e9 for v in speeds(named(comparison, ROOFLINE))])
    reached = median(speeds(named(comparison, OWN))) / limit
    said.append(
        f"roofline: {flops(comparison) / 1e6:,.1f} MFLOP a picture, sgemm of {SIDE}^3 at "
        f"{products.middle:,.0f} ({products.low:,.0f} .. {products.high:,.0f}) GFLOP/s: "
        f"{limit:,.0f} images/s; minicnn reaches {reached:.2f} of it"
    )
    said += [f"skipped: {name}: {why}" for name, why in comparison["skipped"].items()]
    others = [r["others_cores"] for c in comparison["contenders"] for r in c["rounds"]]
    if max(others) > OTHERS:
        said.append(
            f"NOT ALONE: something else kept up to {max(others):.1f} cores busy during a round "
            f"(median {median(others):.2f}): measure again on a quiet machine"
        )
    return said


def about(record: dict[str, Any]) -> str:
    """Return machine, versions, date and command of a record."""
    machine, versions = record["machine"], dict(record["versions"])
    for comparison in record.get("comparisons", []):
        versions = comparison["versions"] | versions
    load = machine["load_before"]
    return "\n".join(
        [
            f"{machine['cpu']}, {machine['cores']} core(s) usable, {machine['memory_gb']} GB, "
            f"{machine['system']}" + ("" if load is None else f", load {load:.2f} before"),
            ", ".join(f"{name} {version}" for name, version in versions.items()),
            f"{record['date']}: {record['command']}",
        ]
    )
