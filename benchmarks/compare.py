"""Train (or predict with) the same network in minicnn and in its peers, in alternating rounds.

    python benchmarks/compare.py --net tutorial_cnn --batch 128 --peers torch,keras
    python benchmarks/compare.py --net vgg_like,resnet20 --batch 64 --peers torch --json
    python benchmarks/compare.py --net tutorial_cnn --mode infer --batch 1,256 --peers torch
    python benchmarks/compare.py --net random --seeds 0-9 --batch 64 --peers torch

Every setting of every peer runs in a process of its own; benchmarks/README.md says what they get.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from itertools import product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the minicnn beside this file

import minicnn as mc
from benchmarks import nets, report
from benchmarks.comparison import Work, compare
from benchmarks.machine import cores, record
from benchmarks.peers.protocol import WorkerError
from benchmarks.results import add_json_option, write
from benchmarks.settings import PEERS


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the command line's flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = ", ".join([*nets.NETS, "random", "random:SEED"])
    parser.add_argument("--net", default="tutorial_cnn", help=f"one or more of {known}")
    parser.add_argument("--seeds", default="0-9", help="for --net random: 0-9, or 3,5 (default)")
    parser.add_argument("--mode", default="train", choices=["train", "infer"])
    parser.add_argument("--batch", default="128", help="batch sizes, 128 or 32,64 (default 128)")
    parser.add_argument("--peers", default="torch,keras", help="torch, keras, both or none")
    parser.add_argument("--settings", default="", help="only these, by name, commas between")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a round, about")
    parser.add_argument("--threads", type=int, default=cores(), help="default: cores usable")
    parser.add_argument("--data-dir", help="CIFAR-10 from there; drawn pictures if not given")
    parser.add_argument("--pictures", type=int, default=12_800, help="how many of them to use")
    parser.add_argument("--torch-python", default=sys.executable, help="a Python with PyTorch")
    parser.add_argument("--keras-python", default=sys.executable, help="a Python with Keras")
    add_json_option(parser)
    args = parser.parse_args(argv)
    args.peers = [] if args.peers == "none" else words(args.peers)
    if unknown := [peer for peer in args.peers if peer not in PEERS]:
        parser.error(f"no peer {unknown[0]!r}; there are: {', '.join(PEERS)}")
    if min(args.rounds, args.threads, args.pictures) < 1 or args.seconds <= 0:
        parser.error("--rounds, --threads and --pictures must be at least 1, --seconds above 0")
    return args


def words(text: str) -> list[str]:
    """Cut "a,b" into its words."""
    return [word.strip() for word in text.split(",") if word.strip()]


def numbers(text: str) -> list[int]:
    """Read "0-3,7" as 0, 1, 2, 3, 7."""
    found = []
    for word in words(text):
        first, _, last = word.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def wanted_nets(args: argparse.Namespace) -> list[str]:
    """Return the names of the networks; "random" stands for one of each seed."""
    names = []
    for name in words(args.net):
        names += [f"random:{s}" for s in numbers(args.seeds)] if name == "random" else [name]
    return names


def pictures(args: argparse.Namespace) -> tuple[tuple[Any, Any], str]:
    """Return uint8 pictures and labels, CIFAR-10's first or drawn ones, and which they are."""
    if args.data_dir is None:
        return mc.datasets.synthetic(args.pictures, seed=0), "drawn pictures"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mc.DatasetWarning)  # any copy of the pictures will do
        (x, y), _ = mc.datasets.cifar10(args.data_dir, download=False)
    return (x[: args.pictures], y[: args.pictures]), "pictures of CIFAR-10"


def say(words: str) -> None:
    """Tell what is going on, apart from the results."""
    print(f"  {words} ...", file=sys.stderr, flush=True)


def worst(comparisons: list[dict[str, Any]]) -> str:
    """Return the line about the network in which minicnn does worst against its best rival."""
    found = [(report.ratio(c, top), c, top) for c in comparisons if (top := report.best(c))]
    if not found:
        return "no peer ran"
    times, where, top = min(found, key=lambda entry: entry[0].middle)
    return (
        f"worst of {len(found)}: {where['net']}, batch {where['batch']}: {times.middle:.2f} times "
        f"as fast as {top['name']} ({times.low:.2f} .. {times.high:.2f} over the rounds)"
    )


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code, 2 if it can't be done, or not to its end."""
    args = arguments(argv)
    found = record("compare") | {"comparisons": []}
    pythons = {"torch": args.torch_python, "keras": args.keras_python}
    code = 0
    try:
        data, name = pictures(args)
        for net, batch in product(wanted_nets(args), numbers(args.batch)):
            work = Work(net, batch, args.mode, args.threads, args.rounds, args.seconds, name)
            comparison = compare(work, data, args.peers, words(args.settings), pythons, say)
            found["comparisons"].append(comparison)
            print(report.text(comparison), end="\n\n", flush=True)
    except (WorkerError, mc.DatasetError, ValueError, OSError, KeyboardInterrupt) as error:
        print(f"compare: {error or 'interrupted'}", file=sys.stderr)
        code = 2
    if not found["comparisons"]:
        return code
    if len(found["comparisons"]) > 1:
        print(worst(found["comparisons"]), end="\n\n")
    print(report.about(found))
    if args.json is not None:
        print(write(found, args.json, f"{args.mode}-{args.net}-b{args.batch}-t{args.threads}"))
    return code


if __name__ == "__main__":
    sys.exit(main())
