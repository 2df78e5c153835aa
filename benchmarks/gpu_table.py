"""What was measured on GPUs as README's table, from the files of benchmarks/results/.

    python benchmarks/gpu_table.py
    python benchmarks/gpu_table.py FOLDER

Records of several commands are taken together, the later by name over the earlier; what none of
them has is said to be not measured yet.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the minicnn beside this file

from benchmarks.gpu_report import ORDER, about, fastest, of_peer, ratio, rivals, share
from benchmarks.report import Figure, aligned, speeds
from benchmarks.results import RESULTS, read
from benchmarks.settings import OWN

MISSING = "not measured yet"
WORK = (("tutorial_cnn", 128), ("tutorial_cnn", 1024), ("vgg_like", 512), ("resnet18", 512))
HEAD = ("what", "minicnn", "best of PyTorch", "times as fast", "of the roofline")


def host_text(cost: dict[str, Any]) -> str:
    """Return what launches, steps and the first step take."""
    rows = [["", "us of the CPU per call"]]
    for name, value in cost["launches"].items():
        rows.append([name, value if isinstance(value, str) else f"{value:.2f}"])
    said = [*aligned(rows), ""] if len(rows) > 1 else []
    for kind in ("steps", "first step"):
        for name, values in cost[kind].items():
            unit = " s" if kind == "first step" else ""
            told = ", ".join(f"{what} {value:,.3g}{unit}" for what, value in values.items())
            said.append(f"{kind}, {name}: {told}")
    said += [f"failed: {what}: {why}" for what, why in cost["failed"].items()]
    return "\n".join(said)


def epochs_text(found: dict[str, Any]) -> str:
    """Return the seconds and accuracies of whole runs."""
    rows = [["", "seconds", "min .. max", "runs", "an epoch", "start", "test accuracy"]]
    for precision, entry in found["runs"].items():
        whole = Figure.of([run["seconds"] for run in entry["runs"]])
        each = median(s for run in entry["runs"] for s in run["epochs"])
        rows.append(
            [
                f"minicnn {precision}",
                f"{whole.middle:.2f}",
                f"{whole.low:.2f} .. {whole.high:.2f}",
                str(whole.count),
                f"{each:.3f}",
                f"{entry['start']:.1f}",
                " ".join(f"{run['accuracy']:.3f}" for run in entry["runs"]),
            ]
        )
    data = next((f"{e['pictures']:,} of {e['data']}" for e in found["runs"].values()), "no")
    said = [f"{found['count']} epochs of tutorial_cnn, {data}", ""]
    said += aligned(rows) if len(rows) > 1 else []
    return "\n".join([*said, *(f"failed: {who}: {why}" for who, why in found["failed"].items())])


def rows(record: dict[str, Any] | None) -> list[list[str]]:
    """Return the lines for README; what wasn't measured says so."""
    found: dict[str, Any] = record or {}
    compared = {(c["net"], c["batch"]): c for c in found.get("comparisons", [])}
    lines = []
    for net, batch in dict.fromkeys([*WORK, *compared]):
        for precision in ORDER:
            lines.append(speed_row(compared.get((net, batch)), net, batch, precision))
    runs = found.get("epochs", {}).get("runs", {})
    for precision in dict.fromkeys(["float32", *runs]):
        lines.append(epochs_row(found.get("epochs", {}), runs.get(precision), precision))
    steps = found.get("host", {}).get("first step", {})
    for name in ("cold cache", "warm cache"):
        value = steps.get(name, {}).get("to the first loss")
        told = MISSING if value is None else f"{value:.1f} s"
        lines.append([f"process to first loss, {name} of kernels", told, "", "", ""])
    return lines


def speed_row(comparison: dict[str, Any] | None, net: str, batch: int, precision: str) -> list[str]:
    """Return the line of a network in one class of precision."""
    what = f"{name({'net': net, 'batch': batch})}, {precision}"
    ours = comparison and fastest(of_peer(comparison, OWN, precision))
    if not comparison or not ours:
        return [what, MISSING, MISSING, "", ""]
    top, reached = fastest(rivals(comparison, precision)), share(comparison, ours)
    return [
        what,
        f"{pace(ours)}, {ours['name'].removeprefix(OWN).strip()}",
        f"{pace(top)}, {top['name']}" if top else MISSING,
        "" if top is None else written(ratio(ours, top), 2),
        "" if reached is None else f"{reached:.3f}",
    ]


def epochs_row(found: dict[str, Any], entry: dict[str, Any] | None, precision: str) -> list[str]:
    """Return the line of whole runs."""
    what = f"{found.get('count', 10)} epochs, tutorial_cnn, {precision}"
    if entry is None:
        return [what, MISSING, "", "", ""]
    seconds = Figure.of([run["seconds"] for run in entry["runs"]])
    accuracy = Figure.of([run["accuracy"] for run in entry["runs"]])
    told = f"{written(seconds, 2)} s after {entry['start']:.1f} s of start"
    return [f"{what}, {entry['data']}", f"{told}; test accuracy {written(accuracy, 3)}", "", "", ""]


def name(comparison: dict[str, Any]) -> str:
    """Name a comparison in a table."""
    return f"{comparison['net']}, batch {comparison['batch']}"


def memory(comparison: dict[str, Any] | None, precision: str) -> str:
    """Return the MB on the GPU that minicnn takes, and the best of PyTorch; "" if none is known."""
    found = comparison or {"contenders": []}
    both = fastest(of_peer(found, OWN, precision)), fastest(rivals(found, precision))
    return " / ".join(f"{who['gpu_mb']:,.0f}" for who in both if who)


def pace(contender: dict[str, Any]) -> str:
    """Write a contender's images/s."""
    return f"{written(Figure.of(speeds(contender)))} images/s"


def written(figure: Figure, digits: int = 0) -> str:
    """Write a median and its spread."""
    return f"{figure.middle:,.{digits}f} ({figure.low:,.{digits}f} to {figure.high:,.{digits}f})"


def markdown(record: dict[str, Any] | None) -> str:
    """Return the table for README, of a record or of none."""
    cells = [HEAD, ("---",) * len(HEAD), *rows(record)]
    return "\n".join("| " + " | ".join(line) + " |" for line in cells)


def troubled(found: dict[str, Any]) -> bool:
    """Whether a part failed, or a comparison came out wrong."""
    findings = found.get("correct", {}).get("findings", [])
    lost = [found["failed"], found.get("not compared"), found.get("correct", {}).get("failed")]
    lost += [found.get("host", {}).get("failed"), found.get("epochs", {}).get("failed")]
    return any(lost) or not all(finding["passed"] for finding in findings)


def merged(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Return several records as one: of what was measured twice, the last."""
    compared: dict[str, Any] = {}
    found: dict[str, Any] = {"failed": {}, "epochs": {"runs": {}}, "host": {"first step": {}}}
    for record in records:
        compared |= {name(c): c for c in record.get("comparisons", [])}
        runs = record.get("epochs", {})
        found["epochs"] = (
            found["epochs"] | runs | {"runs": found["epochs"]["runs"] | runs.get("runs", {})}
        )
        found["host"]["first step"] |= record.get("host", {}).get("first step", {})
    return found | {"comparisons": list(compared.values())}


def main(argv: list[str] | None = None) -> int:
    """Print the table, and where and how it was measured; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, default=RESULTS)
    records = [r for r in read(parser.parse_args(argv).folder) if r["kind"] == "gpu"]
    print(markdown(merged(records)))
    for record in records:
        print(f"\n{about(record)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
