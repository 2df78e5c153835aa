"""A stand-in for CuPy 14 that computes with NumPy and refuses what CuPy refuses.

What works here should work on a GPU; where the stand-in differs, it is stricter:

- NumPy's functions, operands, indices and scalars are refused beside a device array.
- Arrays of one device are refused while another one is current.
- Only the names in `functions` and `array.METHODS` exist.  They are CuPy's, and what minicnn uses.
- `counts` counts what makes the CPU wait for the GPU, and copies to the GPU.
- `empty` is full of rubbish.
- Kernels (`RawModule`) run on the CPU, see ``tests/emulation``; arrays have guards around them.
"""

from typing import Any

import numpy as np

from . import cuda, functions, memory, random, stream
from .array import counts, current_device, ndarray
from .memory import default_pool
from .raw import RawModule

__version__ = "14.0.stand-in"
__all__ = ["RawModule", "counts", "cuda", "ndarray", "random"]

float16, float32, float64 = np.float16, np.float32, np.float64
int32, int64, uint8, uint16, bool_ = np.int32, np.int64, np.uint8, np.uint16, np.bool_
inf, pi, newaxis, dtype = np.inf, np.pi, None, np.dtype


def reset() -> None:
    """Begin anew: nothing counted, the first device, no stream, the default pool."""
    counts.reset()
    current_device[:] = [0]
    stream.current[:] = [stream.Stream.null]
    memory.allocators[:] = [default_pool.malloc]
    default_pool.set_limit()


def get_default_memory_pool() -> cuda.MemoryPool:
    return default_pool


def __getattr__(name: str) -> Any:
    try:
        return functions.FUNCTIONS[name]
    except KeyError:
        raise AttributeError(
            f"the stand-in for CuPy has no {name!r}: check that CuPy 14 has it, with the same "
            "arguments, and add it to tests/standin/cupy/functions.py"
        ) from None
