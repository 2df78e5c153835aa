"""What can be explained: which models, which classes, and by which of their layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..backend import Array, to_numpy
from ..layers import Layer, Sequential
from ..options import is_whole
from ..train import check_pictures


def check_classifier(model: Sequential, x: Any) -> None:
    """Raise an error unless the model says of pictures x, (N, H, W, C), which class they are."""
    check_pictures(model, x)
    check_spatial(model)
    if len(model.output_shape) != 1:
        raise ValueError(
            f"the model's output is {model.output_shape}: expected scores of classes, (K,)"
        )


def check_spatial(model: Sequential) -> None:
    """Raise ValueError unless the model's input is pictures."""
    if len(model.input_shape) != 3:
        raise ValueError(
            f"the model takes inputs of shape {model.input_shape}: expected pictures, (H, W, C)"
        )


def check_target(model: Sequential, x: Array, target: Any) -> np.ndarray | None:
    """Return the classes to explain, (N,), or None for those that the model will say.

    Raises TypeError and ValueError for what is no class, or not one for each picture.
    """
    if target is None:
        return None
    N, K = len(x), model.output_shape[-1]
    wanted = f"expected None, a class from 0 to {K - 1}, or one for each of the {N} pictures"
    if is_whole(target):
        target = np.full(N, target)
    try:
        classes = to_numpy(target)
    except ValueError as error:  # lists of unequal lengths
        raise TypeError(f"target {target!r}: {wanted}") from error
    if classes.dtype.kind not in "iu":
        raise TypeError(f"target {target!r}: {wanted}")
    if classes.shape != (N,):
        raise ValueError(f"target of shape {classes.shape}: {wanted}")
    if classes.min() < 0 or classes.max() >= K:
        raise ValueError(f"target {classes[(classes < 0) | (classes >= K)][0]}: {wanted}")
    return classes.astype(np.int64)


def find_layer(model: Sequential, layer: Layer | str | None) -> Layer:
    """Return the layer of a model that is meant, whose output is spatial, (h, w, C).

    layer: itself; its path, "residual_2/body/conv2d_1"; the end of its path, if no other layer's
    path ends so; or None, for the last one whose output has more than one place.  Raises ValueError
    with the names that there are.
    """
    if layer is None:
        return last_spatial(model)
    found = named(model, layer)
    if len(found.output_shape) != 3:
        raise ValueError(
            f"layer {found.path}: its output is {found.output_shape}: expected a layer with "
            f"spatial output, (h, w, C), such as {last_spatial(model).path}"
        )
    return found


def named(model: Sequential, layer: Any) -> Layer:
    """Return the layer that is meant, whatever its output; see `find_layer`."""
    layers = [part for part in model.walk() if part is not model]
    if isinstance(layer, Layer):
        if any(part is layer for part in layers):
            return layer
        raise ValueError(f"{layer} isn't a layer of this model")
    if not isinstance(layer, str):
        raise TypeError(f"layer {layer!r}: expected a layer of the model, its name, or None")
    for part in layers:
        if part.path == layer:
            return part
    found = [part for part in layers if f"/{part.path}".endswith(f"/{layer}")]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"layer {layer!r}: there are {len(found)}; say which: {listed(found)}")
    raise ValueError(f"no layer {layer!r}; there are: {listed(layers)}")


def listed(layers: list[Layer], most: int = 40) -> str:
    """Return the paths of layers, but of very many only the first."""
    more = f" and {len(layers) - most} more" if len(layers) > most else ""
    return ", ".join(layer.path for layer in layers[:most]) + more


def last_spatial(model: Sequential) -> Layer:
    """Return the last layer, of those one after the other, whose output has more than one place."""
    for layer in reversed(list(chain(model))):
        shape = layer.output_shape
        if len(shape) == 3 and shape[0] * shape[1] > 1:
            return layer
    raise ValueError(
        "the model has no layer with spatial output, (h, w, C) with more than one place: what it "
        "looked at can't be told from its layers; try saliency or occlusion"
    )


def chain(model: Sequential) -> Iterator[Layer]:
    """Yield the layers one after the other, with those of models inside the model."""
    for layer in model.layers:
        if isinstance(layer, Sequential):
            yield from chain(layer)
        else:
            yield layer
