"""Saving and loading: models, and training runs that can be taken up again."""

from .file import CheckpointError, CheckpointWarning
from .model import load, save

__all__ = ["CheckpointError", "CheckpointWarning", "load", "save"]
