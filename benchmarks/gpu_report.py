"""What a record of a GPU's speed says: medians, ratios by precision, share of the roofline."""

from __future__ import annotations

from statistics import median
from typing import Any

from benchmarks.gpu_settings import CLASSES, GEMM
from benchmarks.report import Figure, aligned, speeds
from benchmarks.settings import OWN

ORDER = tuple(dict.fromkeys(CLASSES.values()))


def of_peer(comparison: dict[str, Any], peer: str, precision: str = "") -> list[dict[str, Any]]:
    """Return the contenders of a peer, in one class of precision or in all."""
    return [
        c
        for c in comparison["contenders"]
        if c["peer"] == peer and precision in ("", c["precision"]) and c["rounds"]
    ]


def fastest(contenders: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the one with the highest median; None if there are none."""
    return max(contenders, key=lambda c: median(speeds(c)), default=None)


def rivals(comparison: dict[str, Any], precision: str) -> list[dict[str, Any]]:
    """Return the peers' settings of a class."""
    return [
        c for c in comparison["contenders"] if c["peer"] not in (OWN, GEMM)
        and c["precision"] == precision and c["rounds"]
    ]  # fmt: skip


def ratio(ours: dict[str, Any], theirs: dict[str, Any]) -> Figure:
    """Return how many times as fast: of the medians, and the spread over the rounds."""
    a, b = speeds(ours), speeds(theirs)
    each = Figure.of([x / y for x, y in zip(a, b, strict=False)])  # one may have left early
    return Figure(median(a) / median(b), each.low, each.high, each.count)


def flops(comparison: dict[str, Any]) -> float:
    """Count the operations for one picture by direct convolution: 3 times forward."""
    return comparison["multiply_adds"] * 2 * 3


def peak(comparison: dict[str, Any], precision: str) -> float | None:
    """Return the FLOP/s of the large product in a class; None where none was measured."""
    found = fastest(of_peer(comparison, GEMM, precision))
    return None if found is None else median(speeds(found)) * found["flops"]


def share(comparison: dict[str, Any], contender: dict[str, Any]) -> float | None:
    """Return the share of the roofline that a contender reaches; None where none was measured."""
    limit = peak(comparison, contender["precision"])
    return None if limit is None else median(speeds(contender)) * flops(comparison) / limit


def text(comparison: dict[str, Any]) -> str:
    """Return a comparison as a table, class by class, with what follows from it."""
    c = comparison
    head = ["", "class", "images/s", "min .. max", "rounds", "GPU MB", "roofline", "minicnn / it"]
    rows, said = [head], []
    for precision in ORDER:
        ours = fastest(of_peer(c, OWN, precision))
        rows += [row(c, who, None) for who in of_peer(c, OWN, precision)]
        rows += [row(c, who, ours) for who in rivals(c, precision)]
        said += conclusion(c, precision)
    for who in of_peer(c, GEMM):
        tera = Figure.of([v * who["flops"] / 1e12 for v in speeds(who)])
        said.append(
            f"{who['name']}: {tera.middle:,.3g} TFLOP/s ({tera.low:,.3g} .. {tera.high:,.3g})"
        )
    said += [f"skipped: {name}: {why}" for name, why in c["skipped"].items()]
    title = (
        f"{c['net']}: train, batch {c['batch']}, {c['parameters']:,} parameters, "
        f"{c['pictures']:,} {c['data']}, {flops(c) / 1e6:,.1f} MFLOP a picture"
    )
    return "\n".join([title, "", *aligned(rows), "", *said])


def row(comparison: dict[str, Any], who: dict[str, Any], ours: dict[str, Any] | None) -> list[str]:
    """Return a contender's line."""
    f, reached = Figure.of(speeds(who)), share(comparison, who)
    return [
        who["name"],
        who["precision"],
        f"{f.middle:,.0f}",
        f"{f.low:,.0f} .. {f.high:,.0f}",
        str(f.count),
        f"{who.get('gpu_mb', 0):,.0f}",
        "" if reached is None else f"{reached:.3f}",
        "" if ours is None else f"{ratio(ours, who).middle:.2f}",
    ]


def conclusion(comparison: dict[str, Any], precision: str) -> list[str]:
    """Say how minicnn does against the best of a class."""
    ours, top = fastest(of_peer(comparison, OWN, precision)), fastest(rivals(comparison, precision))
    if ours is None or top is None:
        return []
    times = ratio(ours, top)
    return [
        f"{precision}: {ours['name']} is {times.middle:.2f} times as fast as {top['name']} "
        f"({times.low:.2f} .. {times.high:.2f} over the rounds)"
    ]


def about(record: dict[str, Any]) -> str:
    """Return machine, GPU, versions, date and command of a record."""
    machine, gpu, versions = record["machine"], record.get("gpu", {}), dict(record["versions"])
    for comparison in record.get("comparisons", []):
        versions |= {k: v for k, v in comparison["versions"].items() if k not in versions}
    place = f"{machine['cpu']}, {machine['cores']} core(s) usable, {machine['memory_gb']} GB"
    named = ", ".join(f"{key} {value}" for key, value in gpu.items() if key != "name")
    return "\n".join(
        [
            f"{gpu.get('name', 'no GPU')}" + (f" ({named})" if named else "") + f"; {place}",
            ", ".join(f"{name} {version}" for name, version in versions.items()),
            f"{record['date']}: {record['command']}",
        ]
    )
