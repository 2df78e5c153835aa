"""``minicnn predict``: what a trained model says of one's own pictures."""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from glob import has_magic, iglob
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ..evaluation.text import left, printable, width
from ..files import check_place, whole_file
from ..options import whole
from .sources import load_model

if TYPE_CHECKING:
    from ..prediction import Prediction

FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")
"""What a spreadsheet takes for the beginning of a formula: these, and as wide letters."""

CELLS = 50
"""The most that a class takes of a line in the table."""


def add_to(commands: Any) -> None:
    """Add the commands of this file to the parser's."""
    predict = commands.add_parser(
        "predict",
        help="say what is on pictures",
        description="Say what is on pictures: PNG, JPEG, WebP, BMP or GIF files of any size. "
        "A folder, with all folders in it, or a pattern in quotes gives CSV. Of a file that can't "
        "be used, one line on stderr says why, and the others go on. Exit code: 0, 1 if some of "
        "the pictures couldn't be used, 2 if none could.",
    )
    predict.add_argument("model", metavar="MODEL", help="a model's file, or a run's folder")
    predict.add_argument(
        "files", metavar="FILE", nargs="+", help="a picture, a folder, a pattern, or - for stdin"
    )
    predict.add_argument("--top", type=int, default=3, help="how many classes are told (3)")
    form = predict.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print a list of objects")
    form.add_argument("--csv", metavar="FILE", help="write a .csv file, or - for stdout")
    predict.add_argument("--tta", choices=("flip", "flip+shift"), help="average several views")
    predict.add_argument("--device", default="auto", help="cpu, gpu, gpu:1 or auto (the default)")
    predict.set_defaults(run=run_predict)


def run_predict(args: argparse.Namespace) -> int:
    """Print or write what a model says of pictures; 0 if all could be used, 1 if not, 2 if none."""
    from ..data.pictures import pillow
    from ..prediction import Prediction, predict_images

    top = whole(args.top, "--top")
    many = any(os.path.isdir(name) or is_pattern(name) for name in args.files)
    goal = "-" if many and not args.json and args.csv is None else args.csv
    if goal not in (None, "-") and not goal.lower().endswith(".csv"):
        raise ValueError(f"--csv {printable(goal)}: expected a name that ends in .csv, or -")
    if goal not in (None, "-"):
        check_place(Path(goal))
    if "-" in args.files and sys.stdin is None:
        raise ValueError("-: there is no stdin")
    pillow()
    model = load_model(args.model, args.device)
    failed = Failed()
    names = list_pictures(args.files, failed)
    sources = (sys.stdin.buffer if name == "-" else name for name in names)
    done = 0
    with opened(goal) as out:
        form: Json | Table | Csv = Json() if args.json else Table() if out is None else Csv(out)
        for source, found in predict_images(model, sources, args.tta):
            name = source if isinstance(source, str) else "-"
            if isinstance(found, Prediction):
                form.add(name, found, top)
                done += 1
            else:
                failed.say(name, str(found))
        form.end()
    if goal not in (None, "-"):
        print(f"{printable(goal)}: {done:,} pictures")
    return 0 if not failed.count else 1 if done else 2


class Failed:
    """What couldn't be used: each is told at once, in one line."""

    count = 0

    def say(self, name: str, why: str) -> None:
        """Tell one."""
        self.count += 1
        print(f"minicnn: {printable(name)}: {printable(why)}", file=sys.stderr)


class Table:
    """For people: a few lines for each picture."""

    def add(self, name: str, found: Prediction, top: int) -> None:
        """Print one."""
        print(printable(name) + ("" if found.certain else "   (uncertain: no class has half)"))
        classes = [(printable(label), p) for label, p in found.top(top)]
        cells = min(max(width(label) for label, _ in classes), CELLS)
        for label, p in classes:
            print(f"  {left(label, cells)}  {p:6.1%}")

    def end(self) -> None:
        """Print nothing more."""


class Json:
    """For programs: a list with an object for each picture, written as they come."""

    between = "["

    def add(self, name: str, found: Prediction, top: int) -> None:
        """Print one."""
        print(f"{self.between}\n{json.dumps({'file': name} | found.as_dict(top))}", end="")
        self.between = ","

    def end(self) -> None:
        """Close the list."""
        print("[]" if self.between == "[" else "\n]")


class Csv:
    """For spreadsheets: a line for each picture."""

    def __init__(self, out: IO[str]) -> None:
        self.rows, self.started = csv.writer(out, lineterminator="\n"), False

    def add(self, name: str, found: Prediction, top: int) -> None:
        """Write one, and before the first what stands in which column."""
        classes = found.top(top)
        if not self.started:
            pairs = [(f"class_{k}", f"probability_{k}") for k in range(2, len(classes) + 1)]
            more = [column for pair in pairs for column in pair]
            self.rows.writerow(["file", "class", "probability", *more, "certain"])
            self.started = True
        cells = [cell for label, p in classes for cell in (harmless(label), f"{p:.6f}")]
        self.rows.writerow([harmless(name), *cells, "yes" if found.certain else "no"])

    def end(self) -> None:
        """Write nothing more."""


def list_pictures(arguments: Sequence[str], failed: Failed) -> Iterator[str]:
    """Yield the files that arguments mean, one by one: there may be very many."""
    for name in arguments:
        if is_pattern(name):
            yield from matches(name, failed)
        elif os.path.isdir(name):
            yield from in_folder(name, failed)
        else:
            yield name


def matches(pattern: str, failed: Failed) -> Iterator[str]:
    """Yield the pictures that a pattern means, those in the folders that it means too, once each.

    "holiday/**" means the folder, and besides all that is in it, also through links that lead back.
    """
    found = sorted(iglob(pattern, recursive=True))
    found = [name for name in found if os.path.isdir(name) or not is_text(name)]
    if not found:
        failed.say(pattern, "no picture is called so")
    folders: tuple[str, ...] = ()  # that were gone through
    seen: set[tuple[str, str]] = set()
    for name in found:
        if name.startswith(folders):
            continue
        if os.path.isdir(name):
            folders += (os.path.join(name, ""),)
        for file in in_folder(name, failed) if os.path.isdir(name) else [name]:
            folder, last = os.path.split(file)
            place = os.path.realpath(folder), last
            if place not in seen:
                seen.add(place)
                yield file


def is_pattern(name: str) -> bool:
    """Whether an argument is a pattern, such as "holiday/*.jpg", and not a file's own name."""
    return has_magic(name) and not os.path.lexists(name)


def is_text(name: str) -> bool:
    """Whether a file's name says that it isn't meant to be a picture."""
    from ..data.folder import BESIDES

    return os.path.splitext(name)[1].lower() in BESIDES


def in_folder(folder: str, failed: Failed) -> Iterator[str]:
    """Yield the files in a folder and in those inside, but for what is hidden, and for text."""

    def refuse(error: OSError) -> None:
        failed.say(str(error.filename), error.strerror or str(error))

    before, count = failed.count, 0
    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and not is_text(name):
                count += 1
                yield os.path.join(place, name)
    if not count and failed.count == before:
        failed.say(folder, "there are no pictures in it")


@contextmanager
def opened(goal: str | None) -> Iterator[IO[str] | None]:
    """Give the block the file for CSV, which appears whole or not at all; None for none."""
    if goal in (None, "-"):
        yield None if goal is None else sys.stdout
        return
    with whole_file(Path(goal)) as part, open(part, "w", encoding="utf-8", newline="") as file:
        yield file


def harmless(text: str) -> str:
    """Return a text for a spreadsheet: what would be a formula there gets an apostrophe before."""
    text = printable(text)
    return f"'{text}" if text.lstrip().startswith(FORMULA) else text
