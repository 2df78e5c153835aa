"""A file to download, and the impatience to do it in tests."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from minicnn.data.download import download
from minicnn.data.transfer import Patience

BODY = bytes(range(256)) * 3000
SIZE = len(BODY)
SHA256 = hashlib.sha256(BODY).hexdigest()
QUICK = Patience(connect=2, stall=0.3, slow=1e6, window=0.2, tries=2, pause=0.01)


def fetch(path: Path, *urls: str, **patience: float) -> Path:
    return download(urls, path, SIZE, SHA256, patience=replace(QUICK, **patience))


def names(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.iterdir())
