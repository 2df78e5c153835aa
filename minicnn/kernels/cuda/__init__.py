"""The GPU's floor: CUDA kernels (``.cu``), and beside them the functions that write their launches.

Nothing here imports CuPy when it is imported itself.  Once `minicnn.backend` has done so, the
bodies that `all_bodies` names are put behind the functions of the book (`registry`).
"""

from .graph import graphs
from .precision import allow_tf32, tf32_allowed
from .registry import registered

__all__ = ["allow_tf32", "graphs", "registered", "tf32_allowed"]
