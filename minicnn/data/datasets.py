"""The data sets, by name: each returns uint8 pictures (N, H, W, C) and int64 labels (N,)."""

from __future__ import annotations

from .cifar10 import CLASSES as CIFAR10_CLASSES
from .cifar10 import cifar10
from .folder import from_directory
from .synthetic import CLASSES as SYNTHETIC_CLASSES
from .synthetic import synthetic

__all__ = ["CIFAR10_CLASSES", "SYNTHETIC_CLASSES", "cifar10", "from_directory", "synthetic"]
