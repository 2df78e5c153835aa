"""Devices: two of them, and which one is current."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from .array import counts, current_device
from .memory import MemoryPool, OutOfMemoryError, info, using_allocator
from .stream import Graph, Stream, get_current_stream, refuse

__all__ = ["Device", "Graph", "MemoryPool", "Stream", "get_current_stream", "using_allocator"]

DEVICES = 2


class Device:
    """A device; as a context it is the current one while the block runs."""

    compute_capability = "90"

    def __init__(self, device: int | None = None) -> None:
        self.id = current_device[0] if device is None else int(device)
        self.before: list[int] = []

    def use(self) -> None:
        if not 0 <= self.id < DEVICES:
            raise RuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
        current_device[0] = self.id

    def synchronize(self) -> None:
        refuse("synchronize")
        counts.synchronizations += 1

    def __enter__(self) -> Device:
        self.before.append(current_device[0])
        self.use()
        return self

    def __exit__(self, *error: Any) -> None:
        current_device[0] = self.before.pop()


def is_available() -> bool:
    return True


def properties(device: int) -> dict[str, Any]:
    return {"name": f"Stand-in {device}".encode(), "major": 9, "minor": 0}


runtime = SimpleNamespace(
    getDeviceCount=lambda: DEVICES,
    getDeviceProperties=properties,
    memGetInfo=info,
    driverGetVersion=lambda: 13000,
    runtimeGetVersion=lambda: 13000,
)
memory = SimpleNamespace(OutOfMemoryError=OutOfMemoryError)
