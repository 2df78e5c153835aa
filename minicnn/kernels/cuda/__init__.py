"""The GPU's floor: CUDA kernels (``.cu``), and beside them the functions that write their launches.

Nothing here imports CuPy when it is imported itself.  Once `minicnn.backend` has done so, the
bodies that `registry` knows are put behind the functions of the book.
"""

from . import (
    bodies_activation,
    bodies_conv,
    bodies_dropout,
    bodies_loss,
    bodies_norm,
    bodies_pool,
    registry,
    update,
)
from .graph import graphs
from .precision import allow_tf32, tf32_allowed
from .registry import registered

__all__ = [
    "allow_tf32",
    "bodies_activation",
    "bodies_conv",
    "bodies_dropout",
    "bodies_loss",
    "bodies_norm",
    "bodies_pool",
    "graphs",
    "registered",
    "registry",
    "tf32_allowed",
    "update",
]
