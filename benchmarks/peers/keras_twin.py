"""The same network in Keras, made from ``model.config()``.

The layouts are the same, so that weights go over as they are.  `Normalize` is left out: the peers
get their pictures prepared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

Config = dict[str, Any]


class Twin:
    """Holds the model, and its layers with weights in the order of our declarations."""

    def __init__(self, config: Config, shape: tuple[int, int, int]) -> None:
        self.weighted: list[keras.Layer] = []
        x = keras.Input(tuple(shape))
        wanted = [layer for layer in config["layers"] if layer["type"] != "Normalize"]
        self.model = keras.Model(x, self.sequential({"layers": wanted}, x))

    def sequential(self, options: Config, x: Any) -> Any:
        """Lead x through all layers."""
        for layer in options["layers"]:
            x = self.through(layer, x)
        return x

    def through(self, layer: Config, x: Any) -> Any:
        """Lead x through one layer."""
        kind = layer["type"]
        if kind == "Sequential":
            return self.sequential(layer, x)
        if kind == "Residual":
            body = self.through(layer["body"], x)
            around = self.through(layer["shortcut"], x) if "shortcut" in layer else x
            return layers.add([body, around])
        if kind == "Concat":
            branches = layer["branches"]
            return layers.concatenate([x if b is None else self.through(b, x) for b in branches])
        if kind not in SIMPLE:
            raise ValueError(f"no twin of {kind} yet: add it to {__name__}")
        for made in SIMPLE[kind](layer):
            x = made(x)
            if made.trainable_weights:
                self.weighted.append(made)
        return x

    def copy_weights(self, arrays: list[np.ndarray]) -> None:
        """Take our weights: the arrays of ``model.params``, in order of declaration."""
        given = iter(arrays)
        for layer in self.weighted:
            for variable in layer.trainable_weights:
                variable.assign(next(given))
        if (left := sum(1 for _ in given)) > 0:
            raise ValueError(f"{left} arrays of weights are left over: not the same network")


def conv(layer: Config) -> list[keras.Layer]:
    """Make a convolution; a margin given as a number is "same", or a layer of its own."""
    padding, size, strides = layer["padding"], layer["kernel_size"], layer["strides"]
    before = []
    if not isinstance(padding, str):
        if strides == 1 and 2 * padding == size - 1:
            padding = "same"
        else:
            before = [layers.ZeroPadding2D(padding)] if padding else []
            padding = "valid"
    options = {"dilation_rate": layer["dilation_rate"], "groups": layer["groups"]}
    bias = layer["use_bias"]
    return [
        *before,
        layers.Conv2D(layer["filters"], size, strides, padding, use_bias=bias, **options),
    ]


SIMPLE: dict[str, Callable[[Config], list[keras.Layer]]] = {
    "Conv2D": conv,
    "BatchNorm": lambda o: [layers.BatchNormalization(momentum=o["momentum"], epsilon=o["eps"])],
    "Dense": lambda o: [layers.Dense(o["units"], use_bias=o["use_bias"])],
    "ReLU": lambda o: [layers.ReLU()],
    "LeakyReLU": lambda o: [layers.LeakyReLU(o["negative_slope"])],
    "MaxPool2D": lambda o: [layers.MaxPooling2D(o["pool_size"], o.get("strides"))],
    "AveragePool2D": lambda o: [layers.AveragePooling2D(o["pool_size"], o.get("strides"))],
    "GlobalAveragePool2D": lambda o: [layers.GlobalAveragePooling2D()],
    "Flatten": lambda o: [layers.Flatten()],
    "Dropout": lambda o: [layers.Dropout(o["rate"])],
}
