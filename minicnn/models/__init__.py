"""Networks: functions that return a `Sequential`, not built yet."""

from collections.abc import Callable

from ..layers import Sequential
from .speedrun import speedrun94, whiten
from .tutorial import tutorial_cnn

MODELS: dict[str, Callable[..., Sequential]] = {f.__name__: f for f in (tutorial_cnn, speedrun94)}


def get(name: str) -> Callable[..., Sequential]:
    """Return the function of that name; raises ValueError that lists the names."""
    if name not in MODELS:
        raise ValueError(f"model {name!r}: expected one of {', '.join(MODELS)}")
    return MODELS[name]


__all__ = ["MODELS", "get", "speedrun94", "tutorial_cnn", "whiten"]
