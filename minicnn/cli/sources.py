"""What commands are given: a trained model, by the name of its file or of its run's folder."""

from __future__ import annotations

from pathlib import Path

from ..checkpoint import load
from ..layers import Sequential

IN_A_FOLDER = ("model.safetensors", "best.safetensors", "last.safetensors")
"""What a run's folder holds, the model to use first: the finished one, or the best so far."""


def model_file(path: str) -> Path:
    """Return the file of the model that a path means: itself, or the best one in a run's folder.

    Raises FileNotFoundError, which says what was expected, where there is none.
    """
    place = Path(path)
    if place.is_file():
        return place
    if place.is_dir():
        for name in IN_A_FOLDER:
            if (place / name).is_file():
                return place / name
        raise FileNotFoundError(
            f"{place} holds no model: expected {', '.join(IN_A_FOLDER[:-1])} or {IN_A_FOLDER[-1]}, "
            "as examples/train_cifar.py leaves them in its --out"
        )
    raise FileNotFoundError(f"there is no {place}: expected a model's file or a run's folder")


def load_model(path: str, device: str = "auto") -> Sequential:
    """Return the model that a path means, on a device, its classes named one way or another."""
    model = load(model_file(path), device)
    if not model.classes:
        model.classes = tuple(f"class {i}" for i in range(model.output_shape[-1]))
    return model
