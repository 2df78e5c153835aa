"""Time each fast body against its reference in the book, and against PyTorch's operation.

    python benchmarks/ops.py
    python benchmarks/ops.py --only conv2d,maxpool2d --rounds 15 --json
    python benchmarks/ops.py --all                  # also what has no fast body

All in one process, in turns, with the same number of threads.  "forward" is that pass alone;
"both" is forward and backward, PyTorch's through autograd.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the minicnn beside this file

from threadpoolctl import threadpool_limits

import minicnn as mc
from benchmarks.machine import OTHERS, Watch, cores, record
from benchmarks.op_cases import CASES, Case, functions, registered
from benchmarks.report import about, aligned
from benchmarks.results import add_json_option, write

PAUSE = 0.15  # seconds between turns: OpenBLAS lets its threads spin for 0.11 before they sleep

Contenders = dict[str, Callable[[], Any]]


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the command line's flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="operations, such as conv2d,maxpool2d")
    parser.add_argument("--all", action="store_true", help="also those without a fast body")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.03, help="of a turn, about")
    parser.add_argument("--threads", type=int, default=cores(), help="default: cores usable")
    parser.add_argument("--no-torch", action="store_true", help="leave PyTorch out")
    add_json_option(parser)
    args = parser.parse_args(argv)
    if min(args.rounds, args.threads) < 1:
        parser.error("--rounds and --threads must be at least 1")
    return args


def contenders(name: str, case: Case, twins: Any) -> Iterator[tuple[str, Contenders]]:
    """Yield ("forward", who is to be called) and ("both", ...) for one case."""
    found = functions()
    forward = found.get(f"{name}_forward") or found[name]
    backward = found.get(f"{name}_backward")
    ways = {
        "minicnn": (forward, backward),
        "reference": (forward.dispatch(object), backward and backward.dispatch(object)),
    }
    torch_forward, torch_both = twins[name](case) if twins and name in twins else (None, None)
    yield (
        "forward" if backward else "step",
        {who: partial(go, *case.args) for who, (go, _) in ways.items()}
        | ({"torch": torch_forward} if torch_forward else {}),
    )
    if backward:
        options = {} if case.needs_dx else {"need_dx": False}
        yield (
            "both",
            {who: partial(there_and_back, *way, case.args, options) for who, way in ways.items()}
            | ({"torch": torch_both} if torch_both else {}),
        )


def there_and_back(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    args: tuple[Any, ...],
    options: dict[str, Any],
) -> None:
    """Go forward, and back with the output as its own gradient."""
    y, cache = forward(*args)
    backward(y, cache, **options)


def measure(calls: Contenders, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Let all take turns; return the milliseconds of one call, turn by turn, of each."""
    times: dict[str, list[float]] = {who: [] for who in calls}
    counts = {who: repetitions(call, seconds) for who, call in calls.items()}
    order = list(calls)
    for number in range(rounds):
        first = number % len(order)
        for who in order[first:] + order[:first]:
            time.sleep(PAUSE)
            timed(calls[who], 1 + counts[who] // 4)  # after a sleep, threads look for their cores
            times[who].append(timed(calls[who], counts[who]) * 1e3)
    return times


def timed(call: Callable[[], Any], count: int) -> float:
    """Return the seconds of one call, over ``count`` of them."""
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def repetitions(call: Callable[[], Any], seconds: float) -> int:
    """Warm up; return how many calls take about so long."""
    time.sleep(PAUSE)
    call()
    return max(1, round(seconds / max(timed(call, 2), 1e-7)))


def line(row: dict[str, Any]) -> list[str]:
    """Return a measured row for the table."""
    ms = {who: median(times) for who, times in row["ms"].items()}
    ours, spread = ms["minicnn"], row["ms"]["minicnn"]
    flops = row["flops"]
    cells = [f"{row['op']} {row['pass']}", row["case"], f"{ours:.3f}"]
    cells += [f"{min(spread):.3f} .. {max(spread):.3f}"]
    cells += [f"{flops / ours / 1e6:,.0f}" if flops else ""]
    for who in ("reference", "torch"):
        cells += [f"{ms[who]:.3f}", f"{ms[who] / ours:.2f}"] if who in ms else ["", ""]
    return cells


def torch_twins(threads: int) -> dict[str, Any] | None:
    """Return PyTorch's operations, or None, said, where it isn't installed."""
    try:
        import torch

        from benchmarks.op_torch import TWINS
    except ImportError as error:
        print(f"  without PyTorch: {error}", file=sys.stderr)
        return None
    torch.set_num_threads(threads)
    return TWINS


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code, 2 if it can't be done."""
    args = arguments(argv)
    found = functions()
    chosen = set(CASES) if args.all else registered(found)
    if args.only:
        chosen = set(args.only.split(","))
        if unknown := chosen - set(CASES):
            print(f"ops: no case of {', '.join(sorted(unknown))}; there are: {', '.join(CASES)}")
            return 2
    if missing := sorted(chosen - set(CASES)):
        print(f"  no case yet: {', '.join(missing)}", file=sys.stderr)
    result = record("ops") | {"threads": args.threads, "rows": []}
    twins = None if args.no_torch else torch_twins(args.threads)
    if twins:
        result["versions"]["torch"] = sys.modules["torch"].__version__
    table = [
        ["", "", "ms", "min .. max", "GFLOP/s", "reference", "ratio", "PyTorch", "ratio"],
    ]
    watch, own = Watch(), time.process_time()
    with threadpool_limits(args.threads), mc.threads(args.threads):
        for name in (name for name in CASES if name in chosen):
            for case in CASES[name]():
                for way, calls in contenders(name, case, twins):
                    passes = {"forward": 1, "both": 3 if case.needs_dx else 2}.get(way, 1)
                    row = {"op": name, "pass": way, "case": case.label}
                    row["flops"] = case.flops * passes
                    row["ms"] = measure(calls, args.rounds, args.seconds)
                    result["rows"].append(row)
                    table.append(line(row))
                    print(f"  {name} {case.label} {way} ...", file=sys.stderr, flush=True)
    if not result["rows"]:
        print("no function has a fast body for NumPy arrays; --all times the references")
        return 0
    result["others_cores"] = watch.others(time.process_time() - own)
    print("\n".join(aligned(table)), end="\n\n")
    if result["others_cores"] > OTHERS:
        print(f"NOT ALONE: something else kept {result['others_cores']:.1f} cores busy\n")
    print(about(result))
    if args.json is not None:
        print(write(result, args.json, f"{args.only or 'all'}-t{args.threads}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
