"""Time whole commands: epochs of CIFAR-10 with the example, and with a Keras script doing the same.

    python benchmarks/epochs.py --data-dir DIR --keras-python KERAS/bin/python
    python benchmarks/epochs.py --data-dir DIR --epochs 2 --rounds 3 --json

Everything is included: start of the process, reading the files, training with validation after
each epoch, the test, and what the example writes.  The commands alternate.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the minicnn beside this file

from benchmarks.machine import OTHERS, Watch, cores, record
from benchmarks.peers.protocol import ROOT, environment
from benchmarks.report import about, aligned
from benchmarks.results import add_json_option, write


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the command line's flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path, required=True, help="where CIFAR-10's files lie")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=cores(), help="default: cores usable")
    parser.add_argument("--keras-python", default=sys.executable, help="a Python with Keras")
    add_json_option(parser)
    args = parser.parse_args(argv)
    if min(args.epochs, args.rounds, args.threads, args.batch_size) < 1:
        parser.error("--epochs, --rounds, --threads and --batch-size must be at least 1")
    return args


def commands(args: argparse.Namespace, out: Path) -> dict[str, list[str]]:
    """Return the two command lines, the interpreter first."""
    same = ["--data-dir", str(args.data_dir.resolve()), "--epochs", str(args.epochs)]
    same += ["--batch-size", str(args.batch_size)]
    ours = [str(ROOT / "examples" / "train_cifar.py"), "--device", "cpu", "--dataset", "cifar10"]
    theirs = [str(ROOT / "benchmarks" / "peers" / "keras_cifar.py")]
    return {
        "minicnn": [sys.executable, *ours, *same, "--out", str(out)],
        "keras": [args.keras_python, *theirs, *same],
    }


def measure(command: list[str], threads: int, log: Path) -> dict[str, Any]:
    """Run a command; return its seconds, its peak memory and its accuracy.

    Raises RuntimeError with its last words if it fails.
    """
    watch, start = Watch(), time.perf_counter()
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=environment(command[0], threads)
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    others = watch.others(usage.ru_utime + usage.ru_stime)
    words = log.read_text(errors="replace")
    if process.returncode:
        last = "".join(words.strip().splitlines()[-1:])
        raise RuntimeError(f"{Path(command[1]).name} exited with {process.returncode}: {last}")
    unit = 1 if sys.platform == "darwin" else 1024
    peak = usage.ru_maxrss * unit / 1e6
    found = {"seconds": seconds, "peak_mb": peak, "others_cores": others}
    if versions := re.search(r"^versions (.+)$", words, re.MULTILINE):
        found["versions"] = dict(word.split() for word in versions[1].split(", "))
    if accuracy := re.search(r"test accuracy ([\d.]+)", words):
        found["accuracy"] = float(accuracy[1])
    return found


def ratio(result: dict[str, Any]) -> float:
    """Return minicnn's time divided by Keras', of the medians."""
    ours, theirs = (
        median(r["seconds"] for r in result["runs"][who]) for who in ("minicnn", "keras")
    )
    return ours / theirs


def text(result: dict[str, Any]) -> str:
    """Return the table, and what follows from it."""
    rows = [["", "seconds", "min .. max", "rounds", "peak MB", "accuracy"]]
    for who, runs in result["runs"].items():
        seconds = [run["seconds"] for run in runs]
        rows.append(
            [
                who,
                f"{median(seconds):.1f}",
                f"{min(seconds):.1f} .. {max(seconds):.1f}",
                str(len(runs)),
                f"{max(run['peak_mb'] for run in runs):,.0f}",
                " ".join(f"{run['accuracy']:.3f}" for run in runs if "accuracy" in run),
            ]
        )
    said = [f"CIFAR-10, {result['epochs']} epochs, whole commands", "", *aligned(rows), ""]
    if "keras" in result["runs"]:
        said.append(f"minicnn takes {ratio(result):.2f} of Keras' time")
    others = [run["others_cores"] for runs in result["runs"].values() for run in runs]
    if max(others) > OTHERS:
        said.append(f"NOT ALONE: something else kept up to {max(others):.1f} cores busy")
    return "\n".join(said)


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code, 2 if it can't be done."""
    args = arguments(argv)
    result = record("epochs") | {"epochs": args.epochs, "threads": args.threads, "runs": {}}
    runs = result["runs"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        skipped: set[str] = set()
        for number in range(args.rounds):
            for who, command in commands(args, folder / f"run{number}").items():
                if who in skipped:
                    continue
                print(f"  round {number + 1} of {args.rounds}: {who} ...", file=sys.stderr)
                try:
                    runs.setdefault(who, []).append(
                        measure(command, args.threads, folder / f"{who}.log")
                    )
                except (RuntimeError, OSError) as error:
                    print(f"epochs: {who}: {error}", file=sys.stderr)
                    if who == "minicnn":
                        return 2
                    skipped.add(who)
                    runs.pop(who, None)
    for run in runs.get("keras", []):
        result["versions"] |= run.pop("versions", {})
    print(text(result), end="\n\n")
    print(about(result))
    if args.json is not None:
        print(write(result, args.json, f"{args.epochs}-t{args.threads}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
