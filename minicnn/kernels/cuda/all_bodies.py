"""All bodies for CuPy's arrays: to import this is to make them known to `registry`."""

from . import (
    bodies_activation,
    bodies_batch,
    bodies_conv,
    bodies_dropout,
    bodies_loss,
    bodies_norm,
    bodies_pool,
    update,
)

__all__ = [
    "bodies_activation",
    "bodies_batch",
    "bodies_conv",
    "bodies_dropout",
    "bodies_loss",
    "bodies_norm",
    "bodies_pool",
    "update",
]
