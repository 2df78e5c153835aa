"""The folder of a training run: its newest state, its best, and a few before."""

from __future__ import annotations

import os
import re
import shutil
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..files import sync_folder, take_lock, whole_file
from ..options import whole
from .file import CheckpointError, CheckpointWarning, Contents, opened, write

T = TypeVar("T")


NAMES = r"(\.writable|(last|best|epoch-\d+)\.safetensors)"
LEFTOVER = re.compile(rf"\.writable|\.{NAMES}\.\w+\.part|\.tmp\w{{6}}")
"""What killed writers leave: our own temporary files, and those of safetensors."""


class RunFolder:
    """Checkpoints of one run: ``last``, ``best`` and ``epoch-0007``, all .safetensors.

    One process at a time: entering locks the folder, and the lock ends with the process, however
    that ends.  keep: how many ``epoch-`` files stay.
    """

    def __init__(self, path: str | os.PathLike[str], keep: int = 3) -> None:
        self.path, self.keep = Path(path), whole(keep, "keep")
        self.last, self.best = self.path / "last.safetensors", self.path / "best.safetensors"
        self.open = ExitStack()

    def __enter__(self) -> RunFolder:
        self.path.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:  # undone only if something fails here
            if not stack.enter_context(take_lock(self.path / "lock")):
                raise CheckpointError(
                    f"{self.path}: another run is at work in this folder. Wait for it, stop it, or "
                    "give this one a folder of its own"
                )
            with whole_file(self.path / ".writable") as part:  # before training, not after it
                part.write_bytes(b"")
            for path in self.path.iterdir():  # nobody else writes here now
                if LEFTOVER.fullmatch(path.name):
                    path.unlink(missing_ok=True)
            self.open = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self.open.close()

    def save(
        self, arrays: Mapping[str, np.ndarray], description: Mapping[str, Any], best: bool
    ) -> None:
        """Write a state: it becomes ``last``, and ``best`` if it is.

        After every epoch it also stays as ``epoch-NNNN``; the oldest of those are removed.
        """
        write(self.last, arrays, description)
        run = description["run"]
        if run["position"] == 0:
            link(self.last, self.of_epoch(run["epoch"]))
            for old in self.epochs()[self.keep :]:
                old.unlink(missing_ok=True)
        if best:
            link(self.last, self.best)
        sync_folder(self.path)

    def mend(self, records: list[dict[str, Any]], best: int) -> None:
        """Do what is left of a `save` that was cut short after writing ``last``.

        records: of the epochs done.  best: the best of them, 0 if there is none.
        """
        for epoch, target in ((len(records), self.of_epoch(len(records))), (best, self.best)):
            there = history(target) or []
            behind = len(there) < epoch and there == records[: len(there)]
            if behind and history(self.last) == records[:epoch]:
                link(self.last, target)

    def after(self, records: list[dict[str, Any]]) -> dict[str, np.ndarray]:
        """Return the arrays of the state that these records ended with.

        Raises `CheckpointError` if it isn't there any more.
        """
        for path in (self.best, self.of_epoch(len(records)), self.last):
            try:
                if history(path) == records:
                    with opened(path) as contents:
                        return contents.arrays()
            except CheckpointError:
                continue  # a damaged one
        raise CheckpointError(
            f"{self.path}: the weights of epoch {len(records)}, the best one, aren't there any "
            "more: go on with the early stopping that the run began with, or without (or with "
            "restore=False)"
        )

    def of_epoch(self, epoch: int) -> Path:
        """Return the path of an epoch's state."""
        return self.path / f"epoch-{epoch:04d}.safetensors"

    def epochs(self) -> list[Path]:
        """Return the ``epoch-`` files, the newest first."""
        files = [p for p in self.path.iterdir() if re.fullmatch(r"epoch-\d+\.safetensors", p.name)]
        return sorted(files, key=lambda p: int(re.findall(r"\d+", p.name)[0]), reverse=True)

    def empty(self) -> bool:
        """Whether there is no state in the folder, not even a broken one."""
        return not any(path.exists() for path in self.newest_first())

    def newest_first(self) -> list[Path]:
        """Return where states may be; ``best`` is the last resort, since it may be old."""
        return [self.last, *self.epochs(), self.best]

    def newest(self, read: Callable[[Contents], T]) -> T:
        """Return what ``read`` makes of the newest state that isn't damaged.

        A damaged one is named in a `CheckpointWarning` and left where it is.  Raises
        `CheckpointError` if none is whole.
        """
        failures = []
        for path in self.newest_first():
            try:
                with opened(path) as contents:
                    contents.arrays()  # so that damage is told from what doesn't fit
            except CheckpointError as error:
                failures.append(str(error))
                continue
            for failure in failures:
                warnings.warn(f"{failure}. Going on from {path}", CheckpointWarning, stacklevel=4)
            with opened(path) as contents:
                return read(contents)
        raise CheckpointError(
            f"{self.path}: no state of the run is whole; start anew in another folder. "
            + "; ".join(failures)
        )


def history(path: Path) -> list[dict[str, Any]] | None:
    """Return the records in a state at an epoch's end; None if there is no such state."""
    try:
        with opened(path) as contents:
            run = contents.description["run"]
            return list(run["records"]) if run["position"] == 0 else None
    except (CheckpointError, KeyError, TypeError):
        return None


def link(source: Path, target: Path) -> None:
    """Let ``target`` be the file ``source`` is now, in one step; a copy where links can't be."""
    with whole_file(target) as part:
        part.unlink()
        try:
            os.link(source, part)
        except OSError:
            shutil.copyfile(source, part)
