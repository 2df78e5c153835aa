"""What a run's folder tells of the model in it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

KNOWN = {"cifar10": "CIFAR-10", "synthetic": "shapes drawn by formulas"}
LARGEST = 16 << 20  # bytes of a metrics.json


def read_facts(model_file: str | os.PathLike[str]) -> dict[str, str]:
    """Return facts for people on the model in a run's folder, from its ``metrics.json``.

    The accuracy there is that of the finished model, ``model.safetensors``, not of the others.
    Without such a file, or with one that says nothing of the kind, there are fewer facts.
    """
    path = Path(model_file)
    told = read(path.parent / "metrics.json")
    facts = {}
    if isinstance(told.get("model"), str):
        facts["Architecture"] = told["model"][:100]
    if isinstance(told.get("dataset"), str):
        facts["Trained on"] = KNOWN.get(told["dataset"], told["dataset"][:100])
    if isinstance(told.get("epochs"), list):
        facts["Epochs"] = f"{len(told['epochs'])}"
    accuracy = told.get("test_accuracy")
    if path.name == "model.safetensors" and isinstance(accuracy, float) and 0 <= accuracy <= 1:
        facts["Right on test pictures"] = f"{100 * accuracy:.1f} %"
    return facts


def read(path: Path) -> dict[str, Any]:
    """Return what a file of JSON holds; nothing if it is none."""
    try:
        if not path.is_file() or path.stat().st_size > LARGEST:
            return {}
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}
