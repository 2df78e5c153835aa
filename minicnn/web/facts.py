"""What a run tells of the model in it, for the page about the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KNOWN = {"cifar10": "CIFAR-10", "synthetic": "shapes drawn by formulas"}
LONGEST = 100  # characters of a name


def facts_of(run: Mapping[str, Any], finished: bool) -> dict[str, str]:
    """Return facts for people on a model.

    run: what its run's metrics.json says; of what isn't there, or is something odd, nothing is
    told.  finished: whether the model is the one that the run tested, not an earlier state of it:
    only then is the accuracy its own.
    """
    facts = {}
    if isinstance(run.get("model"), str):
        facts["Architecture"] = run["model"][:LONGEST]
    if isinstance(run.get("dataset"), str):
        facts["Trained on"] = KNOWN.get(run["dataset"], run["dataset"][:LONGEST])
    if isinstance(run.get("epochs"), list):
        facts["Epochs"] = f"{len(run['epochs'])}"
    accuracy = run.get("test_accuracy")
    if finished and isinstance(accuracy, float) and 0 <= accuracy <= 1:
        facts["Right on test pictures"] = f"{100 * accuracy:.1f} %"
    return facts
