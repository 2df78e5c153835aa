"""Who is at work on a trial: so that one whose process was killed is found, and made up for.

On the same machine the process is looked up.  Of another machine there is a sign of life in the
storage, written while it trains; without a new one for `GRACE` seconds the trial is given up, by
the clocks of both.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

BEAT = 30.0
"""Seconds between two signs of life."""
GRACE = 600.0
"""Seconds without one, after which a process elsewhere is taken for dead."""
NAMELESS = 60.0
"""Seconds after which a trial is given up of which nobody has said that it's theirs."""


def machine() -> str:
    """Return what tells processes apart whose numbers mean something to each other."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip())
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def born(process: int) -> str:
    """Return when a process began, where the system says so: numbers of processes come again.

    One that has ended, and whose parent hasn't asked how, began at no time.
    """
    with suppress(OSError, IndexError):
        text = Path(f"/proc/{process}/stat").read_text("utf-8", "replace")
        state, *rest = text.rpartition(")")[2].split()
        return "" if state in "ZX" else rest[18]
    return ""


def me() -> dict[str, Any]:
    """Return who this process is, and that it is alive now: an attribute of its trial."""
    own = os.getpid()
    return {"machine": machine(), "process": own, "born": born(own), "seen": time.time()}


def at_work(owner: Mapping[str, Any] | None, begun: datetime | None) -> bool:
    """Whether the process that runs a trial is alive.

    owner: what it said of itself, see `me`.  begun: when the trial was made, by its clock.
    """
    if owner is None:
        return begun is not None and abs((datetime.now() - begun).total_seconds()) < NAMELESS
    if owner["machine"] == machine():
        return exists(owner["process"]) and born(owner["process"]) == owner["born"]
    return time.time() - owner["seen"] < GRACE


def exists(process: int) -> bool:
    """Whether there is a process of that number."""
    if os.name == "nt":  # there os.kill would end it
        import ctypes

        kernel: Any = ctypes.windll.kernel32  # type: ignore[attr-defined]
        handle = kernel.OpenProcess(0x1000, False, process)
        if handle:
            kernel.CloseHandle(handle)
        return bool(handle)
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
