"""A training run: how far it has come, and its folder."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from math import inf
from typing import Any

from .backend import Array
from .checkpoint.file import CheckpointError
from .checkpoint.folder import RunFolder
from .checkpoint.state import Parts, State, read_state, write_state
from .data.batches import Batches
from .diagnosis import NotFinite, check_loss
from .layers import Sequential
from .metrics import Meter
from .optim import Optimizer
from .progress import progress_bar
from .schedule import ReduceOnPlateau
from .signals import Interrupted, Interruption

CHECK_EVERY = 100  # batches between two looks at the loss on a GPU


@dataclass(frozen=True)
class Epoch:
    """What `fit` yields: one epoch's record.  Validation figures are None without validation.

    epoch: 1 for the first.  loss, accuracy: means over the epoch, while the weights changed.
    lr: of the last step.  seconds: of the training part; images_per_second likewise.
    """

    epoch: int
    loss: float
    accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    lr: float
    seconds: float
    images_per_second: float

    def __str__(self) -> str:
        val = ""
        if self.val_loss is not None and self.val_accuracy is not None:
            val = f"  val_loss {self.val_loss:.4f}  val_accuracy {self.val_accuracy:.4f}"
        return (
            f"epoch {self.epoch:3d}  loss {self.loss:.4f}  accuracy {self.accuracy:.4f}{val}"
            f"  lr {self.lr:.3g}  {self.seconds:.1f} s  {self.images_per_second:,.0f} images/s"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the record as a dictionary, for JSON."""
        return asdict(self)


class Run:
    """A training run, from wherever it stands to wherever the caller leads it.

        with Run(model, optimizer, batches, folder="runs/one") as run:
            while run.epoch < 10:
                for x, labels in run.rest_of_epoch():
                    train_step(model, optimizer, x, labels, meter=run.meter)
                print(run.end_epoch(evaluate(model, x_val, y_val)))

    With a folder, the state is saved after every epoch, and a run that finds one there goes on from
    it: the weights after N epochs, a stop, and M more are those of N + M at once, bit for bit on
    the same CPU.  Ctrl-C and SIGTERM let the batch at work finish, save, and raise `Interrupted`.

    resume: "auto" goes on if there is something, True wants that, False refuses it.  keep: how many
    epochs' states stay.  Raises `CheckpointError` on entering if the folder is another run's: of
    another architecture, optimizer, seed or data set, or at work in another process.  Another batch
    size or learning rate is said in a `CheckpointWarning`.

    epoch: how many are done.  position: pictures of the next one that are done.  records: of the
    epochs done.  meter: of the epoch at work.
    """

    def __init__(
        self,
        model: Sequential,
        optimizer: Optimizer,
        batches: Batches,
        *,
        folder: str | os.PathLike[str] | None = None,
        resume: bool | str = "auto",
        keep: int = 3,
        progress: str | bool = "auto",
        check_finite: bool = True,
    ) -> None:
        if resume not in (True, False, "auto"):
            raise ValueError(f"resume {resume!r}: expected 'auto', True or False")
        self.model, self.optimizer, self.batches = model, optimizer, batches
        self.folder = None if folder is None else RunFolder(folder, keep)
        self.resume, self.progress, self.check_finite = resume, progress, check_finite
        self.epoch, self.position, self.seconds = 0, 0, 0.0
        self.meter, self.best, self.lr = Meter(), inf, optimizer.current_lr
        self.records: list[Epoch] = []
        self.interruption, self.open = Interruption(), ExitStack()

    def __enter__(self) -> Run:
        with ExitStack() as stack:  # undone only if something fails here
            if self.folder is not None:
                stack.enter_context(self.folder)
                self.take_up(self.folder)
                stack.enter_context(self.interruption)
            self.open = stack.pop_all()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.open.close()
        if isinstance(error, NotFinite):
            batch = self.position // self.batches.batch_size + 1
            error.args = (f"epoch {self.epoch + 1}, batch {batch}: {error}",)

    def take_up(self, folder: RunFolder) -> None:
        """Go on from the newest state in the folder, if there is one and it may be."""
        if folder.empty():
            if self.resume is True:
                raise CheckpointError(f"{folder.path}: there is no run to go on with")
            return
        if self.resume is False:
            raise CheckpointError(
                f"{folder.path} holds a run already: go on with it (resume=True, --resume), or "
                "give this one a folder of its own"
            )
        state = folder.newest(lambda contents: read_state(contents, self.parts()))
        self.epoch, self.position, self.seconds = state.epoch, state.position, state.seconds
        self.records = [Epoch(**record) for record in state.records]
        self.best = inf if state.best is None else state.best
        self.meter.examples, self.meter.loss_sum, self.meter.correct = state.meter

    def rest_of_epoch(self) -> Iterator[tuple[Array, Array]]:
        """Yield the batches (x, labels) of this epoch that are still to be done."""
        start, before = time.perf_counter(), self.seconds
        total, title = self.batches.examples, f"epoch {self.epoch + 1}"
        with progress_bar(total, title, self.progress, done=self.position) as bar:
            for number, (x, labels) in enumerate(self.batches.epoch(self.position), start=1):
                self.lr = self.optimizer.current_lr
                yield x, labels
                self.seconds = before + time.perf_counter() - start
                if self.check_finite and number % CHECK_EVERY == 0:
                    self.look_at_loss(x)
                self.position += len(x)
                bar.advance(len(x), self.meter)
                self.stop_if_asked()
        self.model.device.synchronize()
        self.seconds = before + time.perf_counter() - start

    def look_at_loss(self, x: Array) -> None:
        """On a GPU, where a step doesn't ask: raise `NotFinite` if the loss so far isn't finite."""
        if self.model.device.kind == "gpu" and self.meter.examples:
            steps = self.optimizer.steps
            check_loss(self.model, x, self.meter.loss_sum, self.lr, steps, waiting=True)

    def end_epoch(self, validation: Mapping[str, float] | None = None) -> Epoch:
        """Close the epoch and save; return its record.

        validation: what `evaluate` says of held-out pictures.  The lowest loss there, or in
        training where there is none, marks the best state.
        """
        scores = validation or {}
        record = Epoch(
            epoch=self.epoch + 1,
            loss=self.meter.loss,
            accuracy=self.meter.accuracy,
            val_loss=scores.get("loss"),
            val_accuracy=scores.get("accuracy"),
            lr=self.lr,
            seconds=self.seconds,
            images_per_second=self.meter.examples / max(self.seconds, 1e-9),
        )
        judged = record.loss if record.val_loss is None else record.val_loss
        if isinstance(self.optimizer.lr, ReduceOnPlateau):
            self.optimizer.lr.observe(judged)
        self.records.append(record)
        self.epoch, self.position, self.seconds, self.meter = self.epoch + 1, 0, 0.0, Meter()
        best = judged < self.best
        self.best = min(self.best, judged)
        self.save(best)
        self.stop_if_asked(saved=True)
        return record

    def save(self, best: bool = False) -> None:
        """Write the state to the folder, if there is one."""
        if self.folder is None:
            return
        state = State(
            epoch=self.epoch,
            position=self.position,
            seconds=self.seconds,
            meter=(self.meter.examples, float(self.meter.loss_sum), int(self.meter.correct)),
            best=None if self.best == inf else self.best,
            records=[record.as_dict() for record in self.records],
        )
        self.folder.save(*write_state(state, self.parts()), best)

    def parts(self) -> Parts:
        """Return what a state is about."""
        return Parts(self.model, self.optimizer, self.batches)

    def stop_if_asked(self, saved: bool = False) -> None:
        """After a signal: save, and raise `Interrupted` with the way to go on."""
        number = self.interruption.received
        if number is None or self.folder is None:
            return
        if not saved:
            self.save()
        text = (
            f"stopped in epoch {self.epoch + 1} after {self.position:,} pictures, saved in "
            f"{self.folder.last}; go on with the same command and --resume, or resume=True"
        )
        print(text, file=sys.stderr)
        raise Interrupted(number, text)
