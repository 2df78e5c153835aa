"""minicnn: convolutional networks to study, to check gradients with, and to train.

import minicnn as mc

(x_train, y_train), (x_test, y_test) = mc.datasets.cifar10()
model = mc.models.tutorial_cnn().build((32, 32, 3), seed=0, device="auto")
for epoch in mc.fit(model, x_train, y_train, optimizer=mc.Adam(1e-3), validation=0.1):
    print(epoch)
print(mc.evaluate(model, x_test, y_test))
mc.save(model, "cifar.safetensors")

Reading the source: ``functional`` is the book, every operation forward and backward; ``layers``
wires them; ``train`` puts it to work.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import functional, gradcheck, metrics, models, recipes, schedule
from .backend import Device, DeviceError, device, to_numpy
from .checkpoint import CheckpointError, CheckpointWarning, load, save
from .data import augment, datasets
from .data.batches import Batches, stratified_split
from .data.errors import DatasetError, DatasetNotFound, DatasetWarning
from .diagnosis import NotFinite
from .early_stopping import EarlyStopping
from .evaluation import Evaluation
from .fitting import fit
from .kernels.cpu import conv_algorithm
from .kernels.cuda import allow_tf32, graphs
from .layers import (
    GELU,
    AveragePool2D,
    BatchNorm,
    Concat,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePool2D,
    Layer,
    LeakyReLU,
    MaxPool2D,
    Normalize,
    PadChannels,
    ReLU,
    Residual,
    Scale,
    Sequential,
    ShapeError,
    Sigmoid,
    SiLU,
    Softmax,
    Tanh,
)
from .lookahead import Lookahead
from .losses import CrossEntropy, MeanSquaredError
from .lr_finder import find_lr
from .metrics import Meter
from .optim import SGD, Adam, AdamW, RMSprop
from .parallel import threads
from .params import L1, L2, Parameters, Penalty
from .progress import progress_bar
from .recipes import Recipe, RecipeError
from .run import Epoch, Run
from .signals import Interrupted
from .streams import Stream
from .train import backpropagate, evaluate, predict, train_step
from .workers import processes

if TYPE_CHECKING:
    from . import explain, plots, report, web
    from .prediction import Prediction, predict_image
    from .tuning import tune

__version__ = "0.1.0"

# What isn't needed to train is imported when it is asked for: a name, and the file that has it.
LATER = {
    "Prediction": "prediction",
    "explain": "explain",
    "plots": "plots",
    "predict_image": "prediction",
    "report": "report",
    "tune": "tuning",
    "web": "web",
}

__all__ = [
    "GELU",
    "L1",
    "L2",
    "SGD",
    "Adam",
    "AdamW",
    "AveragePool2D",
    "BatchNorm",
    "Batches",
    "CheckpointError",
    "CheckpointWarning",
    "Concat",
    "Conv2D",
    "CrossEntropy",
    "DatasetError",
    "DatasetNotFound",
    "DatasetWarning",
    "Dense",
    "Device",
    "DeviceError",
    "Dropout",
    "EarlyStopping",
    "Epoch",
    "Evaluation",
    "Flatten",
    "GlobalAveragePool2D",
    "Interrupted",
    "Layer",
    "LeakyReLU",
    "Lookahead",
    "MaxPool2D",
    "MeanSquaredError",
    "Meter",
    "Normalize",
    "NotFinite",
    "PadChannels",
    "Parameters",
    "Penalty",
    "Prediction",
    "RMSprop",
    "ReLU",
    "Recipe",
    "RecipeError",
    "Residual",
    "Run",
    "Scale",
    "Sequential",
    "ShapeError",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Stream",
    "Tanh",
    "allow_tf32",
    "augment",
    "backpropagate",
    "conv_algorithm",
    "datasets",
    "device",
    "evaluate",
    "explain",
    "find_lr",
    "fit",
    "functional",
    "gradcheck",
    "graphs",
    "load",
    "metrics",
    "models",
    "plots",
    "predict",
    "predict_image",
    "processes",
    "progress_bar",
    "recipes",
    "report",
    "save",
    "schedule",
    "stratified_split",
    "threads",
    "to_numpy",
    "train_step",
    "tune",
    "web",
]


def __getattr__(name: str) -> Any:
    """Return a public name whose file is imported only now."""
    if name not in LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f".{LATER[name]}", __name__)
    return module if name == LATER[name] else getattr(module, name)
