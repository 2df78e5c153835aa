"""The state of a training run: everything that the next batch depends on."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from ..backend import Shape, to_numpy
from ..data.batches import Batches
from ..layers import Sequential
from ..optim import Optimizer
from ..schedule import ReduceOnPlateau
from ..streams import Stream
from .file import CheckpointError, CheckpointWarning, Contents
from .json_text import shorten
from .model import arrays_of, compare, describe, numpy_arrays, put
from .schema import check_training


@dataclass(frozen=True)
class Parts:
    """What a run consists of."""

    model: Sequential
    optimizer: Optimizer
    batches: Batches

    def streams(self) -> dict[str, Stream]:
        """Return every random stream of the run, by name."""
        own = {"shuffle": self.batches.stream, "augmentation": self.batches.augment_stream}
        return {**{k: s for k, s in own.items() if s is not None}, **self.model.streams}


@dataclass(frozen=True)
class State:
    """How far a run has come; see `Run`.  meter: examples, sum of losses, right answers."""

    epoch: int
    position: int
    seconds: float
    meter: tuple[int, float, int]
    best: float | None
    records: list[dict[str, Any]]


def write_state(state: State, parts: Parts) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays and the description that make up a checkpoint.

    Raises `CheckpointError` if a weight isn't finite: the last good state is to stay.
    """
    model, optimizer, batches = parts.model, parts.optimizer, parts.batches
    arrays = numpy_arrays(model)
    for kind, flat in optimizer.memory.items():
        for name, view in model.params.views(flat).items():
            arrays[f"optimizer/{kind}/{name}"] = to_numpy(view)
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise CheckpointError(
                f"nothing was saved, since {name} has values that aren't finite: the last good "
                "state stays. A lower lr or global_clipnorm may help"
            )
    streams = {name: [s.seed, s.position] for name, s in parts.streams().items()}
    if batches.stream is not None and state.position:
        streams["shuffle"][1] = batches.drawn_from  # draw this epoch's order again
    plateau = optimizer.lr if isinstance(optimizer.lr, ReduceOnPlateau) else None
    return arrays, {
        **describe(model),
        "optimizer": {
            "type": type(optimizer).__name__,
            "steps": optimizer.steps,
            "lr": optimizer.current_lr,
            "options": options(optimizer),
            "plateau": None if plateau is None else asdict(plateau),
        },
        "run": {
            **asdict(state),
            "streams": streams,
            "batch_size": batches.batch_size,
            "data": batches.fingerprint(),
        },
    }


def read_state(contents: Contents, parts: Parts) -> State:
    """Put a checkpoint into a run's parts, and return how far it had come.

    Raises `CheckpointError` if it is broken, or of another architecture, optimizer, seed or data
    set; then nothing has been changed.  Says in a `CheckpointWarning` what else differs.
    """
    model, optimizer, found = parts.model, parts.optimizer, contents.description
    if "run" not in found:
        raise CheckpointError(f"{contents.path} holds a model, but no training run to go on with")
    check_training(contents.path, found, parts.batches.examples)
    refuse_others(contents, parts)
    memory = memory_of(contents, parts)
    compare(contents, arrays_of(model) | memory, model.dtype)
    arrays = contents.arrays()
    say_differences(contents, parts)
    optimizer.prepare(model.params)

    put(model, arrays)
    for kind, flat in optimizer.memory.items():
        for name, view in model.params.views(flat).items():
            if f"optimizer/{kind}/{name}" in memory:
                view[...] = model.device.asarray(arrays[f"optimizer/{kind}/{name}"])
    run, saved = found["run"], found["optimizer"]
    optimizer.steps = saved["steps"]
    if isinstance(optimizer.lr, ReduceOnPlateau) and saved["plateau"] is not None:
        for name in ("lr", "best", "waited"):
            setattr(optimizer.lr, name, saved["plateau"][name])
    for name, stream in parts.streams().items():
        stream.position = run["streams"][name][1]
    state = {f.name: run[f.name] for f in fields(State)}
    return State(**{**state, "meter": tuple(state["meter"])})


def refuse_others(contents: Contents, parts: Parts) -> None:
    """Raise `CheckpointError` if a checkpoint is of a run that isn't this one."""
    found, mine = contents.description, describe(parts.model)
    run, saved = found["run"], found["optimizer"]
    architectures = (trained_or_not(each.get("architecture")) for each in (found, mine))
    refuse(contents, "architecture", *architectures)
    refuse(contents, "picture shape", found.get("input_shape"), mine["input_shape"])
    refuse(contents, "dtype", found.get("dtype"), mine["dtype"])
    refuse(contents, "optimizer", saved["type"], type(parts.optimizer).__name__)
    refuse(contents, "data set", run["data"], parts.batches.fingerprint())
    seeds = {name: seed for name, (seed, _) in run["streams"].items()}
    refuse(contents, "seeds", seeds, {name: s.seed for name, s in parts.streams().items()})


def trained_or_not(config: Any) -> Any:
    """Return an architecture without what is trained in it: that may change."""
    if isinstance(config, dict):
        return {k: trained_or_not(value) for k, value in config.items() if k != "trainable"}
    return list(map(trained_or_not, config)) if isinstance(config, list | tuple) else config


def memory_of(contents: Contents, parts: Parts) -> dict[str, Shape]:
    """Return the name and shape of everything that a file has to hold of the optimizer's memory.

    Memory that only other options would need doesn't matter.
    """
    optimizer, saved = parts.optimizer, contents.description["optimizer"]
    memory: dict[str, Shape] = {}
    for kind in (*optimizer.arrays, *optimizer.averages):
        if any(name.startswith(f"optimizer/{kind}/") for name in contents.shapes):
            for name, wanted in parts.model.declarations().items():
                memory[f"optimizer/{kind}/{name}"] = wanted.shape
        elif saved["steps"]:
            raise CheckpointError(
                f"{contents.path} lacks the optimizer's {kind}: it ran with other options, "
                f"{shorten(saved['options'])}"
            )
    return memory


def say_differences(contents: Contents, parts: Parts) -> None:
    """Warn of everything in which the run goes on differently."""
    optimizer, saved = parts.optimizer, contents.description["optimizer"]
    batch_size = contents.description["run"]["batch_size"]
    if batch_size != parts.batches.batch_size:
        say(contents, "batch_size", batch_size, parts.batches.batch_size)
    if not isinstance(optimizer.lr, ReduceOnPlateau) or saved["plateau"] is None:
        try:
            lr = float(optimizer.lr(saved["steps"]) if callable(optimizer.lr) else optimizer.lr)
        except ArithmeticError as error:
            raise CheckpointError(
                f"{contents.path}: no lr for its optimizer.steps, {saved['steps']} ({error})"
            ) from error
        if lr != saved["lr"]:
            say(contents, "lr", saved["lr"], lr)
    for name, value in options(optimizer).items():
        if saved["options"].get(name) != json.loads(json.dumps(value)):
            say(contents, name, saved["options"].get(name), value)


def say_frozen(architecture: Any, model: Sequential) -> None:
    """Warn that a run goes on with other layers frozen than those of the architecture it had."""
    if architecture != json.loads(json.dumps(model.config())):  # no more than that can differ
        frozen = ", ".join(sorted(model.params.frozen)) or "nothing"
        text = f"going on with {shorten(frozen)} frozen, which wasn't so before"
        warnings.warn(text, CheckpointWarning, stacklevel=3)


def options(optimizer: Optimizer) -> dict[str, Any]:
    """Return an optimizer's arguments but the learning rate, as JSON can hold them."""
    kept = ("lr", "steps", "memory")
    found = {f.name: getattr(optimizer, f.name) for f in fields(optimizer) if f.name not in kept}
    if optimizer.lookahead is not None:
        found["lookahead"] = optimizer.lookahead.described()
    return {k: v.item() if isinstance(v, np.generic) else v for k, v in found.items()}


def refuse(contents: Contents, what: str, found: Any, mine: Any) -> None:
    """Raise `CheckpointError` if a run's own part differs from the one in the file."""
    if found != json.loads(json.dumps(mine)):  # which makes lists of tuples, as the file did
        raise CheckpointError(
            f"{contents.path} is of a run with another {what}: {shorten(found)} there, "
            f"{shorten(mine)} here. Go on with the same one, or give this run another folder"
        )


def say(contents: Contents, what: str, found: Any, mine: Any) -> None:
    """Warn that the run goes on with something else than before."""
    text = f"{contents.path}: going on with {what} {mine!r}, it was {shorten(repr(found))}"
    warnings.warn(text, CheckpointWarning, stacklevel=2)
