"""Turn the files of benchmarks/results/ into one Markdown table.

    python benchmarks/table.py
    python benchmarks/table.py FOLDER --kind compare

A line for each comparison, with the command that made it; machines and versions below.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the minicnn beside this file

from benchmarks import epochs, gpu_report, gpu_table, report
from benchmarks.results import RESULTS, read
from benchmarks.settings import OWN

HEAD = ("what", "minicnn", "best peer", "times as fast", "of the roofline", "memory, MB", "command")


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the command line's flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, default=RESULTS)
    parser.add_argument("--kind", choices=[*ROWS], help="only files of this kind")
    return parser.parse_args(argv)


def span(figure: report.Figure, digits: int = 0) -> str:
    """Write a median and its spread."""
    return f"{figure.middle:,.{digits}f} ({figure.low:,.{digits}f} to {figure.high:,.{digits}f})"


def comparison_rows(record: dict[str, Any]) -> Iterator[list[str]]:
    """Yield a line for each network and batch size: images/s, or microseconds for batch 1.

    The memory is what the work adds to the process: minicnn's, then the best peer's.
    """
    for c in record["comparisons"]:
        latency, ours, top = report.is_latency(c), report.named(c, OWN), report.best(c)
        unit = "µs" if latency else "images/s"

        def speed(contender: dict[str, Any], latency: bool = latency, unit: str = unit) -> str:
            values = report.speeds(contender)
            return f"{span(report.Figure.of([1e6 / v if latency else v for v in values]))} {unit}"

        _, limit = report.roofline(c)
        memory = [report.added(contender) for contender in (ours, top) if contender]
        yield [
            f"{c['net']}, {c['mode']}, batch {c['batch']}, {c['threads']} threads",
            speed(ours),
            f"{speed(top)}, {top['name']}" if top else "",
            span(report.ratio(c, top), 2) if top else "",
            f"{median(report.speeds(ours)) / limit:.2f}",
            " / ".join(f"{mb:,.0f}" for mb in memory),
        ]


def epoch_rows(record: dict[str, Any]) -> Iterator[list[str]]:
    """Yield the line of whole commands: seconds, and the peak memory of all."""
    figures, memory = {}, []
    for who, runs in record["runs"].items():
        figures[who] = report.Figure.of([run["seconds"] for run in runs])
        memory.append(f"{max(run['peak_mb'] for run in runs):,.0f}")
    yield [
        f"{record['epochs']} epochs of CIFAR-10, everything included",
        f"{span(figures['minicnn'], 1)} s",
        f"{span(figures['keras'], 1)} s, keras" if "keras" in figures else "",
        f"{1 / epochs.ratio(record):.2f}" if "keras" in figures else "",
        "",
        " / ".join(memory),
    ]


def op_rows(record: dict[str, Any]) -> Iterator[list[str]]:
    """Yield a line for each operation: milliseconds, against PyTorch's operation alone."""
    for row in record["rows"]:
        ms = {who: report.Figure.of(times) for who, times in row["ms"].items()}
        torch = ms.get("torch")
        yield [
            f"{row['op']} {row['pass']}, {row['case']}",
            f"{span(ms['minicnn'], 2)} ms",
            f"{span(torch, 2)} ms, torch" if torch else "",
            f"{torch.middle / ms['minicnn'].middle:.2f}" if torch else "",
            "",
            "",
        ]


def gpu_rows(record: dict[str, Any]) -> Iterator[list[str]]:
    """Yield a line for each thing that was measured on a GPU; the memory is the GPU's."""
    compared = {gpu_table.name(c): c for c in record.get("comparisons", [])}
    for row in gpu_table.rows(record):
        if row[1] != gpu_table.MISSING:
            what, _, precision = row[0].rpartition(", ")
            yield [*row, gpu_table.memory(compared.get(what), precision)]


ROWS = {"compare": comparison_rows, "epochs": epoch_rows, "ops": op_rows, "gpu": gpu_rows}


def table(records: list[dict[str, Any]]) -> str:
    """Return the Markdown table of the records, and below it where they were measured."""
    lines = [HEAD, ("---",) * len(HEAD)]
    for record in records:
        lines += [(*row, f"`{record['command']}`") for row in ROWS[record["kind"]](record)]
    places = {place(record): None for record in records}  # in order, each once
    rows = ["| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |" for cells in lines]
    return "\n".join([*rows, "", *places])


def place(record: dict[str, Any]) -> str:
    """Return one line about machine, versions and date of a record."""
    about = gpu_report.about if record["kind"] == "gpu" else report.about
    machine, rest, _ = about(record).split("\n")
    machine = machine.partition(", load")[0]
    return f"{machine}. {rest}. {record['date']}."


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code, 2 if there is nothing to show."""
    args = arguments(argv)
    records = [r for r in read(args.folder) if args.kind in (None, r["kind"])]
    if not records:
        print(f"table: no results in {args.folder}: compare.py --json writes some", file=sys.stderr)
        return 2
    print(table(records))
    return 0


if __name__ == "__main__":
    sys.exit(main())
