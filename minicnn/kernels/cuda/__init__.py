"""The GPU's floor: CUDA kernels (``.cu``), and beside them the functions that write their launches.

Nothing here imports CuPy when it is imported itself.  Once `minicnn.backend` has done so, the
bodies that `registry` knows are put behind the functions of the book.
"""

from . import registry, update

__all__ = ["registry", "update"]
