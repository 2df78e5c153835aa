"""The state of a training run: everything that the next batch depends on."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from ..backend import to_numpy
from ..data.batches import Batches
from ..layers import Sequential
from ..optim import Optimizer
from ..schedule import ReduceOnPlateau
from ..streams import Stream
from .file import CheckpointError, CheckpointWarning, Contents
from .model import arrays_of, compare, describe, numpy_arrays, put


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

    Raises `CheckpointError` if it is of another architecture, optimizer, seed or data set; says
    in a `CheckpointWarning` what else differs.
    """
    found, mine = contents.description, describe(parts.model)
    if "run" not in found:
        raise CheckpointError(f"{contents.path} holds a model, but no training run to go on with")
    run, saved = found["run"], found["optimizer"]
    refuse(contents, "architecture", found["architecture"], mine["architecture"])
    refuse(contents, "picture shape", found["input_shape"], mine["input_shape"])
    refuse(contents, "dtype", found["dtype"], mine["dtype"])
    refuse(contents, "optimizer", saved["type"], type(parts.optimizer).__name__)
    refuse(contents, "data set", run["data"], parts.batches.fingerprint())
    streams = parts.streams()
    seeds = {name: seed for name, (seed, _) in run["streams"].items()}
    refuse(contents, "seeds", seeds, {name: stream.seed for name, stream in streams.items()})
    compare(contents, arrays_of(parts.model))

    arrays = contents.arrays()
    put(parts.model, arrays, contents.path)
    restore_optimizer(contents, arrays, saved, parts)
    for name, stream in streams.items():
        stream.position = run["streams"][name][1]
    if run["batch_size"] != parts.batches.batch_size:
        say(contents, "batch_size", run["batch_size"], parts.batches.batch_size)
    state = {f.name: run[f.name] for f in fields(State)}
    return State(**{**state, "meter": tuple(state["meter"])})


def restore_optimizer(
    contents: Contents, arrays: Mapping[str, np.ndarray], saved: Mapping[str, Any], parts: Parts
) -> None:
    """Give an optimizer its memory and its steps back, and say what is different now."""
    model, optimizer = parts.model, parts.optimizer
    optimizer.prepare(model.params)
    for kind, flat in optimizer.memory.items():
        for name, view in model.params.views(flat).items():
            if f"optimizer/{kind}/{name}" in arrays:
                view[...] = model.device.asarray(arrays[f"optimizer/{kind}/{name}"])
            elif saved["steps"]:
                raise CheckpointError(
                    f"{contents.path} lacks the optimizer's {kind}: it ran with other options, "
                    f"{saved['options']}"
                )
    optimizer.steps = saved["steps"]
    if isinstance(optimizer.lr, ReduceOnPlateau) and saved["plateau"] is not None:
        for name in ("lr", "best", "waited"):
            setattr(optimizer.lr, name, saved["plateau"][name])
    elif optimizer.current_lr != saved["lr"]:
        say(contents, "lr", saved["lr"], optimizer.current_lr)
    for name, value in options(optimizer).items():
        if saved["options"].get(name) != json.loads(json.dumps(value)):
            say(contents, name, saved["options"].get(name), value)


def options(optimizer: Optimizer) -> dict[str, Any]:
    """Return an optimizer's arguments but the learning rate."""
    kept = ("lr", "steps", "memory")
    return {f.name: getattr(optimizer, f.name) for f in fields(optimizer) if f.name not in kept}


def refuse(contents: Contents, what: str, found: Any, mine: Any) -> None:
    """Raise `CheckpointError` if a run's own part differs from the one in the file."""
    if found != json.loads(json.dumps(mine)):  # which makes lists of tuples, as the file did
        raise CheckpointError(
            f"{contents.path} is of a run with another {what}: {shorten(found)} there, "
            f"{shorten(mine)} here. Go on with the same one, or give this run another folder"
        )


def say(contents: Contents, what: str, found: Any, mine: Any) -> None:
    """Warn that the run goes on with something else than before."""
    text = f"{contents.path}: going on with {what} {mine!r}, it was {found!r}"
    warnings.warn(text, CheckpointWarning, stacklevel=2)


def shorten(value: Any) -> str:
    """Write a value, cut if it is long."""
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
