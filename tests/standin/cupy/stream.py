"""Streams, and what they record: graphs.

While a stream is recorded nothing is done: what would be launched is written down.  What a capture
can't take down is refused: copies between CPU and GPU, waiting, cuBLAS by CuPy's own calls.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from .memory import Memory, default_pool


class Capture:
    """What has been written down so far."""

    def __init__(self) -> None:
        self.actions: list[Callable[[], Any]] = []
        self.memories: dict[int, tuple[weakref.ref, Any]] = {}

    def add(self, action: Callable[[], Any], *memories: Memory | None) -> None:
        self.actions.append(action)
        for memory in memories:
            if memory is not None:
                pool = memory.pool
                owner = None if pool in (None, default_pool) else weakref.ref(pool)
                self.memories[id(memory)] = weakref.ref(memory), owner


class Graph:
    """What a stream recorded; `launch` does it."""

    def __init__(self, capture: Capture) -> None:
        self.capture = capture

    def launch(self, stream: Any = None) -> None:
        for memory, pool in self.capture.memories.values():
            if memory() is None and (pool is None or pool() is None):
                raise RuntimeError(
                    "the graph works on memory that was freed; CuPy would have given it to others"
                )
        if (stream or current[-1]).capture is not None:
            raise RuntimeError("a graph isn't launched in a capture")
        with np.errstate(all="ignore"):
            for action in self.capture.actions:
                action()

    def upload(self, stream: Any = None) -> None:
        pass


class Stream:
    """A stream; as a context it is the current one while the block runs."""

    def __init__(self, null: bool = False, non_blocking: bool = False, ptds: bool = False) -> None:
        self.non_blocking = non_blocking
        self.ptr = 0 if null else id(self)
        self.capture: Capture | None = None

    def synchronize(self) -> None:
        refuse("synchronize")
        from .array import counts

        counts.synchronizations += 1

    def begin_capture(self, mode: Any = None) -> None:
        if not self.non_blocking or self.capture is not None:
            raise RuntimeError("a capture wants a non-blocking stream, and one at a time")
        self.capture = Capture()

    def end_capture(self) -> Graph:
        if self.capture is None:
            raise RuntimeError("cudaErrorIllegalState: the stream isn't capturing")
        capture, self.capture = self.capture, None
        return Graph(capture)

    def is_capturing(self) -> bool:
        return self.capture is not None

    def use(self) -> Stream:
        current[-1] = self
        return self

    def __enter__(self) -> Stream:
        current.append(self)
        return self

    def __exit__(self, *error: Any) -> None:
        current.pop()


Stream.null = Stream(null=True)  # type: ignore[attr-defined]
current: list[Stream] = [Stream.null]  # type: ignore[attr-defined]


def get_current_stream() -> Stream:
    return current[-1]


def capturing() -> Capture | None:
    """Return what the current stream writes down, or None."""
    return current[-1].capture


def refuse(what: str) -> None:
    """Raise the error of what can't be captured."""
    if capturing() is not None:
        raise RuntimeError(f"{what}: not permitted while the stream is capturing")


def do(action: Callable[[], Any], *memories: Memory | None) -> None:
    """Do what changes arrays, or write it down."""
    capture = capturing()
    if capture is None:
        action()
    else:
        capture.add(action, *memories)
