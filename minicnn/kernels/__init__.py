"""Faster bodies for the functions of the book (``functional/``), the same numbers in less time.

A body here is registered for one kind of array (``conv2d_forward.register(numpy.ndarray)``); the
one in the book stays its definition, ``f.dispatch(object)``, and the tests compare the two.

``cpu`` is for NumPy's arrays, ``cuda`` for CuPy's.  Both write calls down (`script`), hand memory
from one use to the next (`memory`) and know the sizes of a convolution (`geometry`).
"""

from . import cuda

__all__ = ["cuda"]
