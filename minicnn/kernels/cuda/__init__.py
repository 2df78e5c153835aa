"""The GPU's floor: CUDA kernels (``.cu``), and beside them the functions that write their launches.

Nothing here imports CuPy by itself: once `minicnn.backend` has done so, the bodies of `bodies` are
put behind the functions of the book.
"""
