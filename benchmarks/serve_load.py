"""Load on ``minicnn serve``: many clients at once, on one machine with the server.

    python benchmarks/serve_load.py --model runs/one                    # 64 clients for a minute
    python benchmarks/serve_load.py --hostile --seconds 20 --json

Each client sends a picture, waits for the answer, and sends the next; at a 503 it waits for as
long as it is told, or --patience if that is less.  Every answer must be a 200, equal to what the
server said of the same picture when it was asked alone, or a 503.  With --hostile a fifth of the
clients send requests made to do harm, which must get an answer that refuses them, or none.  The
exit code is 1 if anything else came back, or the server grew beyond --most-mb.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median, quantiles
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the minicnn beside this file

import minicnn as mc
from benchmarks.hostile_pictures import Hostile, encoded
from benchmarks.hostile_uploads import attack, hostile_uploads
from benchmarks.machine import Watch, cores, record
from benchmarks.report import about, aligned
from benchmarks.results import add_json_option, write
from benchmarks.serving import Line, Server
from minicnn.cli.sources import model_file

SIZES = ((32, 32), (60, 40), (320, 240), (1024, 768))
FORMATS = ("PNG", "JPEG", "WEBP", "GIF")


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the command line's flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="file or run (default: tutorial_cnn, untrained)")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--patience", type=float, default=1.0, help="seconds after a 503, at most")
    parser.add_argument("--threads", type=int, default=cores(), help="default: cores usable")
    parser.add_argument("--hostile", action="store_true", help="with requests made to do harm")
    parser.add_argument("--most-mb", type=float, default=1000.0, help="the server's memory")
    add_json_option(parser)
    args = parser.parse_args(argv)
    if min(args.clients, args.seconds, args.threads) <= 0 or args.patience < 0:
        parser.error("--clients, --seconds and --threads must be positive, --patience not negative")
    return args


def pictures() -> list[bytes]:
    """Return the pictures that are sent: all formats, of several sizes."""
    return [encoded(format, size) for size in SIZES for format in FORMATS]


class Load:
    """What came back.  expected: the answers, one for each picture, when it was asked alone."""

    def __init__(self, server: Server, sent: list[bytes], expected: list[bytes]) -> None:
        self.server, self.sent, self.expected = server, sent, expected
        self.statuses: Counter[int] = Counter()
        self.unequal = 0
        self.refused: Counter[int] = Counter()
        self.wrong: list[str] = []
        self.latencies: list[float] = []
        self.most_files = 0

    async def client(self, number: int, end: float, patience: float) -> None:
        """Send one picture after the other."""
        line, rng = Line(self.server.port), random.Random(number)
        while time.perf_counter() < end:
            which = rng.randrange(len(self.sent))
            start = time.perf_counter()
            status, headers, body = await line.post(self.sent[which])
            self.statuses[status] += 1
            if status == 200:
                self.latencies.append(time.perf_counter() - start)
                self.unequal += body != self.expected[which]
            elif status == 503:
                await asyncio.sleep(min(patience, float(headers["retry-after"])))
        line.close()

    async def enemy(self, number: int, end: float, hostile: list[Hostile]) -> None:
        """Send one hostile request after the other; a server that is busy may say so."""
        rng = random.Random(number)
        while time.perf_counter() < end:
            one = rng.choice(hostile)
            status = await attack(self.server.port, one)
            self.refused[status] += 1
            if status not in one.statuses | {503} and not one.leave:
                self.wrong.append(f"{one.name}: {status}")

    async def watch(self, end: float) -> None:
        """Look now and then how many files the server holds open."""
        while time.perf_counter() < end:
            self.most_files = max(self.most_files, self.server.files())
            await asyncio.sleep(0.2)


async def alone(server: Server, sent: list[bytes]) -> list[bytes]:
    """Return the answers to pictures that are sent one after the other."""
    line, answers = Line(server.port), []
    for picture in sent:
        status, _, body = await line.post(picture)
        if status != 200:
            raise RuntimeError(f"asked alone, the server says {status}: {body[:200]!r}")
        answers.append(body)
    line.close()
    return answers


async def load(server: Server, args: argparse.Namespace) -> dict[str, Any]:
    """Ask alone, then with all clients, then alone again; return what was found."""
    sent = pictures()
    expected = await alone(server, sent)
    before, files = server.memory()[0], server.files()
    found, watch = Load(server, sent, expected), Watch()
    start = time.perf_counter()
    end = start + args.seconds
    enemies = args.clients // 5 if args.hostile else 0
    hostile = hostile_uploads() if enemies else []
    async with asyncio.TaskGroup() as group:
        group.create_task(found.watch(end))
        for number in range(args.clients):
            group.create_task(
                found.enemy(number, end, hostile)
                if number < enemies
                else found.client(number, end, args.patience)
            )
    seconds = time.perf_counter() - start
    found.unequal += sum(a != b for a, b in zip(await alone(server, sent), expected, strict=True))
    await asyncio.sleep(0.2)  # for lines to be closed on its side
    after, peak = server.memory()
    times = found.latencies or [0.0]
    return {
        "clients": args.clients,
        "enemies": enemies,
        "seconds": seconds,
        "statuses": {str(status): count for status, count in sorted(found.statuses.items())},
        "unequal_answers": found.unequal,
        "hostile_statuses": {str(s): count for s, count in sorted(found.refused.items())},
        "hostile_wrong": found.wrong[:20],
        "answers_per_second": len(found.latencies) / seconds,
        "latency_ms": {
            "median": 1e3 * median(times),
            "p95": 1e3 * quantiles(times, n=20)[-1] if len(times) > 1 else 1e3 * times[0],
            "most": 1e3 * max(times),
        },
        "memory_mb": {"before": before, "after": after, "peak": peak},
        "open_files": {"before": files, "most": found.most_files, "after": server.files()},
        "cores_busy": watch.others(0.0),
    }


def faults(result: dict[str, Any], most_mb: float) -> list[str]:
    """Return what isn't as it should be."""
    odd = {s: n for s, n in result["statuses"].items() if s not in ("200", "503")}
    peak, files = result["memory_mb"]["peak"], result["open_files"]
    return [
        text
        for text, wrong in {
            f"answers other than 200 and 503: {odd}": odd,
            "no answer at all": not result["statuses"].get("200"),
            f"{result['unequal_answers']} answers differ from those given alone": result[
                "unequal_answers"
            ],
            f"hostile requests got {result['hostile_wrong']}": result["hostile_wrong"],
            f"the server took {peak:,.0f} MB": peak > most_mb,
            f"{files['after']} files are open, {files['before']} were": files["after"]
            > files["before"] + 2,
            f"its exit code was {result['exit_code']}": result["exit_code"],
            f"it wrote an error: {result['said'][-300:]}": "Traceback" in result["said"],
        }.items()
        if wrong
    ]


def text(result: dict[str, Any]) -> str:
    """Return the figures for people."""
    memory, files, latency = result["memory_mb"], result["open_files"], result["latency_ms"]
    rows = [
        ["clients, of which hostile", f"{result['clients']}, {result['enemies']}"],
        ["seconds", f"{result['seconds']:.1f}"],
        ["answers", " ".join(f"{s}: {n:,}" for s, n in result["statuses"].items())],
        ["unequal answers", str(result["unequal_answers"])],
        ["pictures a second", f"{result['answers_per_second']:.0f}"],
        ["latency of a 200, ms", f"{latency['median']:.0f}, 95 %: {latency['p95']:.0f}"],
        ["the longest, ms", f"{latency['most']:.0f}"],
        ["MB before, after, peak", "{before:.0f}, {after:.0f}, {peak:.0f}".format(**memory)],
        ["files before, after, most", "{before}, {after}, {most}".format(**files)],
        ["exit code", str(result["exit_code"])],
    ]
    if result["enemies"]:
        refused = " ".join(f"{s}: {n:,}" for s, n in result["hostile_statuses"].items())
        rows.insert(3, ["hostile requests", refused])
    return "\n".join(aligned(rows))


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Start a server, load it, stop it; return what was found."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.safetensors"
        if args.model is None:
            mc.save(mc.models.tutorial_cnn().build((32, 32, 3)), model)
        else:
            model = model_file(str(args.model))
        with Server(model, args.threads) as server:
            result = asyncio.run(load(server, args))
            return result | {"exit_code": server.end(), "said": server.said()}


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code, 1 if the server did something that it shouldn't."""
    args = arguments(argv)
    result = record("serve-load") | {"threads": args.threads} | run(args)
    print(text(result), end="\n\n")
    print(about(result))
    wrong = faults(result, args.most_mb)
    for fault in wrong:
        print(f"WRONG: {fault}")
    if args.json is not None:
        kept = {key: value for key, value in result.items() if key != "said"}
        name = f"{args.clients}-t{args.threads}" + ("-hostile" if args.hostile else "")
        print(write(json.loads(json.dumps(kept)), args.json, name))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
