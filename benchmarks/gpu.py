"""Everything there is to know about minicnn on this machine's GPU, with one command.

    python benchmarks/gpu.py                                   # about an hour with PyTorch
    python benchmarks/gpu.py --quick --json                    # a quarter of an hour
    python benchmarks/gpu.py --parts correct,host              # minutes
    python benchmarks/gpu.py --parts speed --nets tutorial_cnn:128 --peers none
    python benchmarks/gpu.py --torch-python TORCH/bin/python --data-dir DIR --json

Parts: "correct" (against the CPU, graph against single kernels, each dtype), "host" (what launches
and steps cost the CPU, the first step with a cold and a warm cache), "speed" (images/s against
PyTorch, in turns; share of the roofline), "epochs" (ten epochs of CIFAR-10, or of drawn pictures).
Each measurement is a process of its own: if one fails, that is said and the next begins.
benchmarks/README.md says what is compared.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the minicnn beside this file

import minicnn as mc
from benchmarks import gpu_correct, gpu_report, gpu_speed, gpu_table, gpu_tasks, nets
from benchmarks.compare import pictures, words
from benchmarks.gpu_settings import chosen
from benchmarks.machine import cores, record
from benchmarks.peers.protocol import WorkerError
from benchmarks.results import add_json_option, write

NETS = "tutorial_cnn:128,tutorial_cnn:1024,vgg_like:512,resnet18:512"
QUICK_NETS = "tutorial_cnn:128,resnet18:512"


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the command line's flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer networks, settings, rounds")
    parser.add_argument("--parts", default=",".join(PARTS), help="only these (default: all)")
    parser.add_argument("--nets", help=f"NET:BATCH, commas between (default {NETS})")
    parser.add_argument("--peers", default="torch", choices=["torch", "none"])
    parser.add_argument("--settings", default="", help="only these of PyTorch's, by name")
    parser.add_argument("--autotune", action="store_true", help="torch.compile's max-autotune too")
    parser.add_argument("--rounds", type=int, help="default 5, quick 3")
    parser.add_argument("--seconds", type=float, help="of a round (default 2, quick 0.5)")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=cores(), help="default: cores usable")
    parser.add_argument("--data-dir", help="CIFAR-10 from there; drawn pictures if not given")
    parser.add_argument("--pictures", type=int, default=12_800, help="how many of them for speed")
    parser.add_argument("--torch-python", default=sys.executable, help="a Python with PyTorch")
    parser.add_argument("--device", default="gpu", choices=["gpu", "cpu"], help=argparse.SUPPRESS)
    parser.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)  # for the tests
    add_json_option(parser)
    args = parser.parse_args(argv)
    args.parts = words(args.parts)
    if unknown := [part for part in args.parts if part not in PARTS]:
        parser.error(f"no part {unknown[0]!r}; there are: {', '.join(PARTS)}")
    args.given = args.nets
    args.nets = args.nets or (QUICK_NETS if args.quick else NETS)
    args.rounds = args.rounds or (3 if args.quick else 5)
    args.seconds = args.seconds or (0.5 if args.quick else 2.0)
    args.work = [parted(word) for word in words(args.nets)]
    try:
        for net, _ in args.work:
            nets.get(net)
    except ValueError as error:
        parser.error(f"--nets {args.nets}: {error}")
    return args


def parted(word: str) -> tuple[str, int]:
    """Cut "resnet18:512" in two; 128 is the batch where none is said."""
    net, _, batch = word.rpartition(":")
    return (net, int(batch)) if net and batch.isdigit() else (word, 128)


def correct(args: argparse.Namespace, found: dict[str, Any]) -> str:
    """Compare the GPU's numbers with the CPU's, and with each other."""
    works = gpu_correct.QUICK if args.quick else gpu_correct.NETS
    if args.tiny:
        works = {"tutorial_cnn": (4, 8, 2)}
    found["correct"] = gpu_correct.check(args.device, works, args.threads, say)
    return gpu_correct.text(found["correct"])


def host(args: argparse.Namespace, found: dict[str, Any]) -> str:
    """Measure what launches, steps and the first step take."""
    cost: dict[str, Any] = {"launches": {}, "steps": {}, "first step": {}}
    found["host"] = cost
    little = {"blocks": 2, "each": 2, "batch": 4} if args.tiny else {}
    failed = {}

    def note(kind: str, name: str, task: str, **options: Any) -> None:
        say(f"{kind} {name}".strip())
        try:
            reply = gpu_tasks.run(task, args.device, args.threads, **options)
            cost[kind] |= reply if kind == "launches" else {name: reply}
        except WorkerError as error:
            failed[f"{kind} {name}".strip()] = str(error)

    note("launches", "", "launches")
    for name, value in {"by graph": "1", "kernel by kernel": "0"}.items():
        note("steps", name, "step_cost", variables={"MINICNN_GRAPHS": value}, **little)
    with tempfile.TemporaryDirectory() as cache:
        for name in ("cold cache", "warm cache"):
            variables = {"CUPY_CACHE_DIR": cache}
            note("first step", name, "first_step", variables=variables, began=time.time())
    cost["failed"] = failed
    return gpu_table.host_text(cost)


def speed(args: argparse.Namespace, found: dict[str, Any]) -> str:
    """Measure images/s against PyTorch."""
    found["comparisons"], found["not compared"] = [], {}
    data, name = pictures(args)
    peers = [] if args.peers == "none" else [args.peers]
    settings = chosen(args.device, peers, args.quick, args.autotune, words(args.settings))
    pythons = {"torch": args.torch_python}
    for net, batch in args.work:
        schedule, side = (args.rounds, args.seconds), 64 if args.tiny else 8192
        work = gpu_speed.Work(net, batch, args.device, args.threads, *schedule, name, side)
        say(f"{net}, batch {batch}")
        try:
            comparison = gpu_speed.measure(work, data, settings, pythons, say)
        except (WorkerError, ValueError, OSError) as error:
            found["not compared"][f"{net}, batch {batch}"] = str(error)
            continue
        found["comparisons"].append(comparison)
        print(gpu_report.text(comparison), end="\n\n", flush=True)
        args.save(found)
    return "\n".join(f"not compared: {who}: {why}" for who, why in found["not compared"].items())


def epochs(args: argparse.Namespace, found: dict[str, Any]) -> str:
    """Time whole runs."""
    runs: dict[str, Any] = {}
    count = 1 if args.tiny else args.epochs
    found["epochs"] = {"count": count, "runs": runs, "failed": {}}
    precisions = ["float32", "bfloat16"] if args.quick else ["float32", "tf32", "bfloat16"]
    for precision in precisions if args.device == "gpu" else ["float32"]:
        say(f"{count} epochs in {precision}")
        dtype = "float32" if precision == "tf32" else precision
        options = {"count": count, "runs": 1 if args.quick else 3, "dtype": dtype}
        options |= {"runs": 1, "pictures": 40, "batch": 16} if args.tiny else {}
        tf32 = {"MINICNN_TF32": str(int(precision == "tf32"))}
        try:
            runs[precision] = gpu_tasks.run(
                "epochs", args.device, args.threads, tf32,
                began=time.time(), data_dir=args.data_dir, **options,
            )  # fmt: skip
        except WorkerError as error:
            found["epochs"]["failed"][precision] = str(error)
    return gpu_table.epochs_text(found["epochs"])


PARTS: dict[str, Callable[[argparse.Namespace, dict[str, Any]], str]] = {
    "correct": correct,
    "host": host,
    "speed": speed,
    "epochs": epochs,
}


def say(text: str) -> None:
    """Tell what is going on, apart from the results."""
    print(f"  {text} ...", file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code: 1 if something is wrong or failed, 2 without a GPU."""
    args = arguments(argv)
    found = record("gpu") | {"failed": {}}
    try:
        found["gpu"] = gpu_tasks.run("about", args.device, args.threads)
    except WorkerError as error:
        print(f"gpu: {error}\ngpu: `minicnn doctor` says more", file=sys.stderr)
        return 2
    print(gpu_report.about(found), end="\n\n", flush=True)
    name = found["gpu"]["name"].replace("NVIDIA ", "")
    name += "-quick" if args.quick else ""
    name += "" if args.parts == list(PARTS) else "-" + "_".join(args.parts)
    name += f"-{args.given}" if args.given else ""

    def save(found: dict[str, Any]) -> None:
        if args.json is not None:  # what was measured stays, whatever comes next
            print(write(found, args.json, name), end="\n\n", flush=True)

    args.save = save
    try:
        for part in args.parts:
            print(f"== {part}", end="\n\n", flush=True)
            try:
                print(PARTS[part](args, found), end="\n\n", flush=True)
            except (WorkerError, mc.DatasetError, ValueError, OSError) as error:
                found["failed"][part] = f"{type(error).__name__}: {error}"
                print(f"gpu: {part} failed: {error}", file=sys.stderr)
            args.save(found)
    except KeyboardInterrupt:
        found["failed"]["all"] = "interrupted"
    print(gpu_table.markdown(found), end="\n\n")
    print(gpu_report.about(found))
    return int(gpu_table.troubled(found))


if __name__ == "__main__":
    sys.exit(main())
