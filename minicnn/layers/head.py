"""Another head: the same network for other classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..backend import to_numpy
from ..options import whole
from ..params import Parameters
from ..streams import Stream
from .base import Layer
from .dense import Dense

if TYPE_CHECKING:
    from .sequential import Sequential


def replace_head(model: Sequential, classes: int, seed: int, names: Sequence[str]) -> None:
    """Give a model's last Dense ``classes`` outputs; see `Sequential.replace_head`."""
    model.check_built()
    classes = whole(classes, "replace_head: classes", least=2)
    if not isinstance(names, tuple | list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"replace_head: names {names!r}: expected texts, one for each class")
    if names and len(names) != classes:
        raise ValueError(f"replace_head: {len(names)} names for {classes} classes")
    drawn = Stream(seed, "weights")  # a seed that is none is refused while nothing has changed
    place, number, old = find_head(model)
    head = replace(old, units=classes, trainable=True)

    numbers = {name: to_numpy(view) for name, view in {**model.params, **model.state}.items()}
    streams = {layer.path: layer.stream for layer in model.walk()}
    place.layers[number], old.root = head, None
    model.lay_out(model.input_shape)
    model.allocate(model.device, model.compute, seed)
    fresh = {f"{head.path}/{name}": wanted for name, wanted in head.declared.items()}
    start = Parameters(fresh, drawn.next(), model.device, model.dtype)
    for name, view in {**model.params, **model.state}.items():
        view[...] = start[name] if name in fresh else model.device.asarray(numbers[name])
    for layer in model.walk():
        layer.stream = streams[layer.path]
    model.classes = tuple(names)


def find_head(model: Sequential) -> tuple[Sequential, int, Dense]:
    """Return the Sequential that has the last Dense, its place there, and itself.

    Raises ValueError if something stands behind it that isn't an activation or the like.
    """
    for place, number in reversed(list(places(model))):
        layer = place.layers[number]
        if isinstance(layer, Dense):
            return place, number, layer
        if not passing(layer):
            what = f"{layer.path} ({type(layer).__name__})"
            break
    else:
        what = "none"
    raise ValueError(
        "replace_head: expected a Dense at the end, with nothing but activations behind it; there "
        f"is {what}. End the network with Dense(classes)"
    )


def places(model: Sequential) -> Iterator[tuple[Sequential, int]]:
    """Yield where layers stand, one behind the other, also in models inside the model."""
    for number, layer in enumerate(model.layers):
        if isinstance(layer, type(model)) and layer.children():
            yield from places(layer)
        else:
            yield model, number


def passing(layer: Layer) -> bool:
    """Whether a layer has nothing of its own and leaves the shape: an activation, or a scale."""
    own = layer.declared or layer.buffers or layer.children()
    return not own and layer.output_shape == layer.input_shape
