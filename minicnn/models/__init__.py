"""Networks: functions that return a `Sequential`, not built yet.

Each docstring has the source, a diagram, parameters and multiply-adds of the forward pass for one
picture of 32x32, and the accuracy to expect with its source.
"""

from collections.abc import Callable

from ..layers import Sequential
from .cifar import cifar_cnn
from .densenet import densenet_small
from .inception import inception_small
from .resnet import resnet18, resnet20, resnet32, resnet34, resnet44, resnet56, resnet110
from .speedrun import speedrun94, whiten
from .tutorial import tutorial_cnn
from .vgg import vgg11, vgg13, vgg16, vgg19
from .wide_resnet import wide_resnet

MODELS: dict[str, Callable[..., Sequential]] = {
    f.__name__: f
    for f in (
        tutorial_cnn,
        cifar_cnn,
        vgg11,
        vgg13,
        vgg16,
        vgg19,
        resnet20,
        resnet32,
        resnet44,
        resnet56,
        resnet110,
        resnet18,
        resnet34,
        wide_resnet,
        inception_small,
        densenet_small,
        speedrun94,
    )
}


def get(name: str) -> Callable[..., Sequential]:
    """Return the function of that name; raises ValueError that lists the names."""
    if name not in MODELS:
        raise ValueError(f"model {name!r}: expected one of {', '.join(MODELS)}")
    return MODELS[name]


__all__ = [
    "MODELS",
    "cifar_cnn",
    "densenet_small",
    "get",
    "inception_small",
    "resnet18",
    "resnet20",
    "resnet32",
    "resnet34",
    "resnet44",
    "resnet56",
    "resnet110",
    "speedrun94",
    "tutorial_cnn",
    "vgg11",
    "vgg13",
    "vgg16",
    "vgg19",
    "whiten",
    "wide_resnet",
]
