"""What is expected of every file that is made to do harm."""

from __future__ import annotations

import time
import tracemalloc
from contextlib import contextmanager
from pathlib import Path

import pytest

from minicnn.data.errors import DatasetError

CONSTANT = 24 << 20  # bytes of memory, beside twice the file's size


@contextmanager
def refused(path: Path, match: str):
    """Expect a `DatasetError` within a second, in bounded memory, that changes no file."""
    top = path.parents[1]

    def everything() -> dict[Path, int]:
        return {file: file.lstat().st_mtime_ns for file in top.rglob("*")}

    before, bound = everything(), 2 * path.stat().st_size + CONSTANT
    tracemalloc.start()
    start = time.process_time()
    try:
        with pytest.raises(DatasetError, match=match) as caught:
            yield
        seconds, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    text = str(caught.value)
    assert path.name in text and len(text) < 2000
    assert seconds < 1 and peak < bound, f"{seconds:.2f} s, {peak:,} bytes"
    assert everything() == before
