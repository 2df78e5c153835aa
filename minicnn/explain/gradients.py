"""What the layers make of a picture, and what the answer owes to them, by gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backend import Array, array_module, to_numpy
from ..layers import Layer, Normalize, Sequential
from ..options import whole
from ..train import check_pictures
from .checks import check_classifier, check_spatial, check_target, find_layer
from .watch import Watch

BATCH = 32


def grad_cam(
    model: Sequential,
    x: Array,
    target: Any = None,
    layer: Layer | str | None = None,
    batch_size: int = BATCH,
) -> np.ndarray:
    """Return where the model looked when it scored a class (Selvaraju et al. 2017, section 3).

        weight[k] = 1/(h w) sum_ij dscore/dA[i,j,k]       heat[i,j] = relu(sum_k weight[k] A[i,j,k])

    A: the layer's output, (h, w, C), of one picture.  A channel weighs as much as the score would
    grow with it; what speaks against the class is cut off.  The heat is enlarged to (H, W)
    bilinearly and divided by its maximum, picture by picture; where nothing speaks for the class
    it is zero.

    x: (N, H, W, C), as for `predict`.  target: the class, one for all pictures or (N,); None, the
    class that the model says.  layer: a layer whose output is (h, w, C), or its name, as "conv2d_2"
    or "residual_1/body/conv2d_1"; None, the last one that has more than one place.
    batch_size: pictures at once, which is what the memory depends on.
    Returns (N, H, W), float32, 0 to 1.  The model stays what it was, its gradients included.
    Raises ValueError for a model without such a layer, and for wrong targets and layers.
    """
    check_classifier(model, x)
    place = find_layer(model, layer)

    def heat(watch: Watch, dy: Array) -> np.ndarray:
        A, dA = watch.seen(watch.y), watch.gradient(dy)
        weights = dA.mean(axis=(1, 2), keepdims=True)  # (N, 1, 1, C)
        maps = to_numpy((weights * A).sum(axis=-1))
        return scaled(enlarge(np.maximum(maps, 0), model.input_shape[:2]))

    return in_batches(model, x, target, place, batch_size, heat)


def saliency(
    model: Sequential, x: Array, target: Any = None, batch_size: int = BATCH
) -> np.ndarray:
    """Return how much each pixel moves the score of a class (Simonyan et al. 2014, section 3).

        heat[i,j] = max_c |dscore/dx[i,j,c]|

    Where the model begins with Normalize, the gradient is that at the picture as Normalize has
    prepared it, whose channels have one scale: the network's own input, as in the paper.

    x, target, batch_size: as for `grad_cam`.
    Returns (N, H, W), float32, >= 0, not scaled: how much depends on the network and the class.
    The model stays what it was, its gradients included.
    """
    check_classifier(model, x)
    first = model.first_leaf()

    def heat(watch: Watch, dy: Array) -> np.ndarray:
        return to_numpy(abs(watch.gradient(dy)).max(axis=-1))

    place = first if isinstance(first, Normalize) else None
    return in_batches(model, x, target, place, batch_size, heat)


def feature_maps(
    model: Sequential, x: Array, layer: Layer | str | None = None, batch_size: int = BATCH
) -> np.ndarray:
    """Return what a layer makes of pictures in prediction: (N, h, w, C), in the model's dtype.

    x: (N, H, W, C).  layer, batch_size: as for `grad_cam`.  The model stays what it was.
    """
    check_pictures(model, x)
    check_spatial(model)
    batch_size = whole(batch_size, "batch_size")
    watch = Watch(model, find_layer(model, layer))
    starts = range(0, len(x), batch_size)
    parts = (model.device.asarray(x[start : start + batch_size]) for start in starts)
    return np.concatenate([to_numpy(watch.output(part)) for part in parts])


def in_batches(
    model: Sequential, x: Array, target: Any, place: Layer | None, batch_size: int, heat: Any
) -> np.ndarray:
    """Return heat(watch, dy) for all pictures, dy being the gradient of the wanted scores."""
    batch_size = whole(batch_size, "batch_size")
    targets = check_target(model, x, target)
    watch = Watch(model, place)
    found = np.empty((len(x), *model.input_shape[:2]), np.float32)
    for start in range(0, len(x), batch_size):
        part = slice(start, start + batch_size)
        logits = watch.forward(model.device.asarray(x[part]))
        xp = array_module(logits)
        classes = logits.argmax(axis=1) if targets is None else xp.asarray(targets[part])
        dy = (xp.arange(logits.shape[1]) == classes[:, None]).astype(logits.dtype)
        found[part] = heat(watch, dy)
    return found


def enlarge(maps: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Resize maps, (N, h, w), to (N, H, W) bilinearly, pixels being squares and not points."""
    rows, columns = (bilinear(*pair) for pair in zip(maps.shape[1:], size, strict=True))
    return rows @ maps @ columns.T


def bilinear(size: int, wanted: int) -> np.ndarray:
    """Return the matrix (wanted, size) that interpolates linearly along one axis."""
    places = ((np.arange(wanted) + 0.5) * size / wanted - 0.5).clip(0, size - 1)
    return np.maximum(0, 1 - abs(places[:, None] - np.arange(size)))


def scaled(maps: np.ndarray) -> np.ndarray:
    """Divide each map by its maximum, if it has one above zero."""
    largest = maps.max(axis=(1, 2), keepdims=True)
    return maps / np.where(largest > 0, largest, 1)
