"""The layers: thin wiring between the functions of ``functional`` and a network."""

from .activation import GELU, LeakyReLU, ReLU, Sigmoid, SiLU, Softmax, Tanh
from .base import Layer, ShapeError
from .branches import Concat, Residual
from .conv import Conv2D
from .dense import Dense, Flatten
from .dropout import Dropout
from .fixed import PadChannels, Scale
from .norm import BatchNorm, Normalize
from .pool import AveragePool2D, GlobalAveragePool2D, MaxPool2D
from .registry import LAYERS, from_config
from .sequential import Sequential

__all__ = [
    "GELU",
    "LAYERS",
    "AveragePool2D",
    "BatchNorm",
    "Concat",
    "Conv2D",
    "Dense",
    "Dropout",
    "Flatten",
    "GlobalAveragePool2D",
    "Layer",
    "LeakyReLU",
    "MaxPool2D",
    "Normalize",
    "PadChannels",
    "ReLU",
    "Residual",
    "Scale",
    "Sequential",
    "ShapeError",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "from_config",
]
