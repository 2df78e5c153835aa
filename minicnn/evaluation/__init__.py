"""What `evaluate` found: the figures, the table and the JSON that are made of them."""

from __future__ import annotations

from .result import Evaluation

__all__ = ["Evaluation"]
