"""Ctrl-C and SIGTERM: the first asks for an orderly end, a second one ends at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

ASKED = (signal.SIGINT, signal.SIGTERM)


class Interrupted(SystemExit):
    """A run was stopped by a signal, after saving.

    Uncaught, the program ends with code 130 or 143, a shell's for Ctrl-C and for SIGTERM.
    """

    def __init__(self, number: int, text: str) -> None:
        super().__init__(128 + number)
        self.text = text

    def __str__(self) -> str:
        return self.text


class Interruption:
    """While the block runs, the first signal only sets ``received``; whoever works looks at it.

    In threads other than the main one nothing is changed: Python gives signals to that one alone.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in ASKED:
                self.before[number] = signal.signal(number, self.note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}

    def note(self, number: int, frame: FrameType | None) -> None:
        """Take note of the first signal; at the second, die of it as if nobody had listened."""
        if self.received is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self.received = number
        name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
        print(f"\n{name}: saving after this batch; once more to quit at once", file=sys.stderr)
