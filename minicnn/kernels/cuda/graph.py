"""Graphs: a list of launches captured once and launched as one.

To launch a kernel costs the host microseconds; a small network's step is a hundred kernels of
about as much.  A CUDA graph is all of them in one launch.  While a stream is captured nothing is
done, only written down: what waits for the device, copies from the host or calls cuBLAS by CuPy
is an error there (so `blas` calls it by itself).
"""

from __future__ import annotations

import gc
import importlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

VARIABLE = "MINICNN_GRAPHS"
_asked: ContextVar[bool | None] = ContextVar("minicnn_graphs", default=None)


def graphs_allowed() -> bool:
    """Return what the innermost `graphs` says, else MINICNN_GRAPHS (0 or 1), else yes."""
    asked, text = _asked.get(), os.environ.get(VARIABLE, "1")
    if asked is None and text not in ("0", "1"):
        raise ValueError(
            f"the environment variable {VARIABLE} is {text!r}: expected 1 (a step on a GPU may be "
            "captured as a graph, as without it) or 0 (kernel by kernel)"
        )
    return text == "1" if asked is None else asked


@contextmanager
def graphs(allowed: bool) -> Iterator[None]:
    """Say whether training steps on a GPU may be captured as CUDA graphs, within the block.

    The numbers are the same either way.  Raises TypeError unless ``allowed`` is True or False.
    """
    if not isinstance(allowed, bool):
        raise TypeError(f"graphs({allowed!r}): expected True or False")
    token = _asked.set(allowed)
    try:
        yield
    finally:
        _asked.reset(token)


def capture(calls: Sequence[tuple[Any, tuple[Any, ...]]]) -> Any:
    """Return the graph of some calls, none of which is done: ``graph.launch()`` does them all.

    A stream of its own is captured, since the default one can't be.  Garbage is collected before,
    not meanwhile: an array that goes may be one whose memory is returned by waiting.
    """
    cuda = importlib.import_module("cupy").cuda
    stream = cuda.Stream(non_blocking=True)
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        with stream:
            stream.begin_capture()
            try:
                for function, arguments in calls:
                    function(*arguments)
            except BaseException:
                abandon(stream)
                raise
            return stream.end_capture()
    finally:
        if collecting:
            gc.enable()


def abandon(stream: Any) -> None:
    """End a capture in which something failed; that it failed is no news."""
    with suppress(Exception):  # CUDA's own error for a capture that was spoiled
        stream.end_capture()
