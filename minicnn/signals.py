"""Ctrl-C and SIGTERM: the first asks for an orderly end, a second one ends at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
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

    If the block ends and nobody has, the signal takes its usual effect then: a Ctrl-C in the last
    moment isn't lost.  A signal that the program ignores, as in the background, stays ignored.  In
    threads other than the main one nothing is changed: Python gives signals to that one alone.
    """

    promise = "saving after this batch"

    def __init__(self) -> None:
        self.received: int | None = None
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        self.received = None
        if threading.current_thread() is threading.main_thread():
            for number in ASKED:
                handler = signal.getsignal(number)
                if handler not in (signal.SIG_IGN, None):  # None: not Python's, can't be put back
                    self.before[number] = handler
                    signal.signal(number, self.note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        caught = self.received if self.before else None
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}
        if caught is not None and (kind is None or kind is GeneratorExit):
            signal.raise_signal(caught)

    def note(self, number: int, frame: FrameType | None) -> None:
        """Take note of the first signal; at the second, die of it as if nobody had listened."""
        if self.received is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self.received = number
        name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
        say(f"{name}: {self.promise}; once more to quit at once", fresh=True)


def say(text: str, fresh: bool = False) -> None:
    """Write a line to stderr, whatever happens there: nobody reading it isn't an error.

    It goes past Python's own stream, which refuses to be written to by a signal's handler while it
    is at work.  fresh: something may stand on the line already; on a terminal it is wiped off.
    """
    with suppress(OSError, ValueError, RuntimeError, AttributeError):
        start = ""
        if fresh:
            start = "\r\x1b[K" if sys.stderr.isatty() and sys.platform != "win32" else "\n"
        line = f"{start}{text}\n"
        try:
            handle = sys.stderr.fileno()
        except (OSError, ValueError, AttributeError):  # no file: a notebook's, or a test's
            sys.stderr.write(line)
        else:
            os.write(handle, line.encode(errors="replace"))
