"""A training run: how far it has come, and its folder."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from math import inf
from typing import Any

from .backend import Array
from .checkpoint.file import CheckpointError, CheckpointWarning, Contents
from .checkpoint.folder import RunFolder
from .checkpoint.state import Parts, State, read_state, say_frozen, write_state
from .data.batches import Batches
from .diagnosis import NotFinite, broken_array, check_epoch, check_loss
from .early_stopping import EarlyStopping
from .layers import Sequential
from .metrics import Meter
from .optim import Optimizer
from .progress import progress_bar
from .schedule import ReduceOnPlateau
from .signals import Interrupted, Interruption, say

CHECK_EVERY = 100  # batches between two looks at the loss on a GPU


@dataclass(frozen=True)
class Epoch:
    """What `fit` yields: one epoch's record.  Validation figures are None without validation.

    epoch: 1 for the first.  loss, accuracy: means over the epoch, while the weights changed.
    lr: of the last step.  seconds: of the training part; images_per_second likewise.
    stopped: why this was the last epoch, if `EarlyStopping` says so; else "".
    """

    epoch: int
    loss: float
    accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    lr: float
    seconds: float
    images_per_second: float
    stopped: str = ""

    def __str__(self) -> str:
        val = ""
        if self.val_loss is not None and self.val_accuracy is not None:
            val = f"  val_loss {self.val_loss:.4f}  val_accuracy {self.val_accuracy:.4f}"
        return (
            f"epoch {self.epoch:3d}  loss {self.loss:.4f}  accuracy {self.accuracy:.4f}{val}"
            f"  lr {self.lr:.3g}  {self.seconds:.1f} s  {self.images_per_second:,.0f} images/s"
            + (f"  stopped: {self.stopped}" if self.stopped else "")
        )

    @property
    def judged(self) -> float:
        """What makes an epoch better than another: the loss in validation, or else in training."""
        return self.loss if self.val_loss is None else self.val_loss

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as a dictionary, for JSON."""
        return {name: value for name, value in asdict(self).items() if name != "stopped"}


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

    check_finite: at an epoch's end, and on a GPU every 100 batches, raise `NotFinite` if loss or
    weights aren't finite.  Such a state is never saved, whatever this is.

    early_stopping: observes every epoch; the record at which it stops says so in ``stopped``, and
    the best state in the folder is the one that it means.

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
        early_stopping: EarlyStopping | None = None,
    ) -> None:
        if not isinstance(resume, bool) and resume != "auto":
            raise ValueError(f"resume {resume!r}: expected 'auto', True or False")
        self.model, self.optimizer, self.batches = model, optimizer, batches
        self.folder = None if folder is None else RunFolder(folder, keep)
        self.resume, self.progress, self.check_finite = resume, progress, check_finite
        self.early_stopping = early_stopping
        self.epoch, self.position, self.seconds = 0, 0, 0.0
        self.meter, self.lr = Meter(), optimizer.current_lr
        self.records: list[Epoch] = []
        self.architecture: Any = None
        """Of the state that it was taken up from, until that has been compared."""
        self.interruption, self.open, self.shown = Interruption(), ExitStack(), ExitStack()

    def __enter__(self) -> Run:
        if self.early_stopping is not None:
            self.early_stopping.take_up((), self.model)
        with ExitStack() as stack:  # undone only if something fails here
            if self.folder is not None:
                stack.enter_context(self.folder)
                self.take_up(self.folder)
                stack.enter_context(self.interruption)
            self.open = stack.pop_all()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.shown.close()  # the bar, if the caller's loop didn't end
        self.open.__exit__(kind, error, trace)
        if isinstance(error, NotFinite):
            batch = min(self.position // self.batches.batch_size + 1, len(self.batches))
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
        state, self.architecture = folder.newest(self.read)
        self.epoch, self.position, self.seconds = state.epoch, state.position, state.seconds
        self.records = [Epoch(**record) for record in state.records]
        self.meter.examples, self.meter.loss_sum, self.meter.correct = state.meter
        if callable(self.optimizer.lr) and self.optimizer.steps:  # of the last step, for a record
            self.lr = float(self.optimizer.lr(self.optimizer.steps - 1))
        if self.batches.stream is not None:  # as if this epoch's order had been drawn here
            self.batches.drawn_from = self.batches.stream.position
        stopping, records = self.early_stopping, state.records
        if stopping is not None:
            stopping.take_up(self.records, self.model, lambda n: folder.after(records[:n]))
            if self.stopped:
                self.records[-1] = replace(self.records[-1], stopped=self.stopped)
        folder.mend(records, self.best_epoch)

    def read(self, contents: Contents) -> tuple[State, Any]:
        """Put what is in a file into this run; return its state, and the architecture there."""
        return read_state(contents, self.parts()), contents.description["architecture"]

    @property
    def stopped(self) -> str:
        """Why early stopping ends this run now; "" if it doesn't."""
        return "" if self.early_stopping is None else self.early_stopping.stopped

    @property
    def best(self) -> float:
        """The lowest loss of an epoch: in validation, or in training where there is none."""
        return min((r.judged for r in self.records if r.judged < inf), default=inf)

    @property
    def best_epoch(self) -> int:
        """The first epoch with that loss, or what early stopping says; 0 if there is none."""
        if self.early_stopping is not None:
            return self.early_stopping.best_epoch
        return next((r.epoch for r in self.records if r.judged == self.best < inf), 0)

    def rest_of_epoch(self) -> Iterator[tuple[Array, Array]]:
        """Yield the batches (x, labels) of this epoch that are still to be done."""
        self.stop_if_asked()
        if self.architecture is not None:  # by now the caller has frozen what is to be frozen
            say_frozen(self.architecture, self.model)
            self.architecture = None
        start, before = time.perf_counter(), self.seconds
        total, title, x = self.batches.examples, f"epoch {self.epoch + 1}", None
        with self.shown:
            bar = progress_bar(total, title, self.progress, done=self.position)
            advance = self.shown.enter_context(bar).advance
            for number, (x, labels) in enumerate(self.batches.epoch(self.position), start=1):
                self.lr = self.optimizer.current_lr
                yield x, labels
                self.seconds = before + time.perf_counter() - start
                if self.check_finite and number % CHECK_EVERY == 0:
                    self.look_at_loss(x)
                self.position += len(x)
                advance(len(x), self.meter)
                if self.asked:
                    break
        self.stop_if_asked()  # without the bar
        if self.check_finite and x is not None:  # which waits for a GPU
            check_epoch(self.model, self.optimizer, x, self.meter.loss_sum, self.lr)
        else:
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
        if isinstance(self.optimizer.lr, ReduceOnPlateau):
            self.optimizer.lr.observe(record.judged)
        if self.early_stopping is not None:
            self.early_stopping.observe(record, self.model)
            record = replace(record, stopped=self.stopped)
        self.records.append(record)
        self.epoch, self.position, self.seconds, self.meter = self.epoch + 1, 0, 0.0, Meter()
        self.save()
        self.stop_if_asked(saved=True)
        return record

    def save(self) -> bool:
        """Write the state to the folder, if there is one; return whether that was done.

        A state that isn't finite isn't written, so that the last good one stays: a
        `CheckpointWarning` says so.
        """
        if self.folder is None:
            return False
        broken = broken_array(self.model, self.optimizer)
        if broken:
            text = f"nothing was saved, since there are values in {broken} that aren't finite"
            warnings.warn(text, CheckpointWarning, stacklevel=2)
            return False
        state = State(
            epoch=self.epoch,
            position=self.position,
            seconds=self.seconds,
            meter=(self.meter.examples, float(self.meter.loss_sum), int(self.meter.correct)),
            best=None if self.best == inf else self.best,
            records=[record.as_dict() for record in self.records],
        )
        best = self.position == 0 and 0 < self.epoch == self.best_epoch
        self.folder.save(*write_state(state, self.parts()), best)
        return True

    def parts(self) -> Parts:
        """Return what a state is about."""
        return Parts(self.model, self.optimizer, self.batches)

    @property
    def asked(self) -> bool:
        """Whether a signal has asked for an end."""
        return self.folder is not None and self.interruption.received is not None

    def stop_if_asked(self, saved: bool = False) -> None:
        """After a signal: save, and raise `Interrupted` with the way to go on."""
        number = self.interruption.received
        if number is None or self.folder is None:
            return
        where = f"saved in {self.folder.last}"
        if not saved and not self.save():
            where = f"which weren't saved; what was before may be in {self.folder.last}"
        text = (
            f"stopped in epoch {self.epoch + 1} after {self.position:,} pictures, {where}; "
            "go on with the same command and --resume, or resume=True"
        )
        say(text)
        raise Interrupted(number, text)
