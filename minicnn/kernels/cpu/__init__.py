"""The CPU's floor: array functions written down as scripts, in chunks that stay in the cache.

Importing `bodies` and `update` puts faster bodies behind the functions of the book.
"""

from . import bodies, update
from .choose import conv_algorithm

__all__ = ["bodies", "conv_algorithm", "update"]
