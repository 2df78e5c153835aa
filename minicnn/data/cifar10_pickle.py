"""Read CIFAR-10's pickles without running what a pickle could ask for.

A pickle is a program for a small machine with a stack: it may call any function by its name, ask
for any amount of memory, and build what takes for ever to compare.  Python's own machine stays out
of it.  The one in this file knows the few instructions that the official files need.  The three
functions of NumPy they name stand for two classes that only keep what they are given; any other
name is refused, and so is any other instruction.  No number in the file sets how much memory is
taken: strings are slices of the file, and the number of instructions is bounded.

The instructions are described in the standard library's pickletools.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import DatasetError

STEPS = 100_000  # at most this many instructions: the official files have about 30,000
NAME = 100  # at most this many letters in a name


class PickledDtype:
    """Stands for ``numpy.dtype``: keeps the name of a type."""

    def __init__(self, name: Any = None, *flags: Any) -> None:
        self.name = name


class PickledArray:
    """Stands for ``numpy.ndarray`` and what makes one: keeps shape, type and bytes."""

    def __init__(self, *empty: Any) -> None:
        self.state: Any = None  # then (version, shape, dtype, Fortran order, bytes)

    def pixels(self) -> np.ndarray:
        """Return the array if it is one of bytes in C order; raise ValueError if not."""
        _, shape, dtype, fortran, data = self.state
        if dtype.name != b"u1" or fortran or not isinstance(data, bytes):
            name = dtype.name[:NAME] if isinstance(dtype.name, bytes) else type(dtype.name)
            raise ValueError(f"the array is of type {name!r}, expected 'u1' in C order")
        return np.frombuffer(data, dtype=np.uint8).reshape(shape)


ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): PickledArray,
    ("numpy._core.multiarray", "_reconstruct"): PickledArray,  # its name since NumPy 2
    ("numpy", "ndarray"): PickledArray,
    ("numpy", "dtype"): PickledDtype,
}

# Instructions that push a constant, or what follows them: an integer or a string of some length.
CONSTANTS = {ord("N"): None, 0x88: True, 0x89: False, ord(")"): ()}
INTEGERS = {ord("K"): 1, ord("M"): 2, ord("J"): 4}  # code -> bytes of the integer
STRINGS = {ord("U"): 1, ord("T"): 4, ord("C"): 1, ord("B"): 4, ord("X"): 4, 0x8C: 1}  # of length
SMALL_TUPLES = {0x85: 1, 0x86: 2, 0x87: 3}  # code -> items
SKIPPED = {0x80: 1, 0x95: 8}  # version and frames: code -> bytes that follow
STOP = ord(".")


class Machine:
    """Runs one pickle; all strings, of either kind, become bytes."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0
        self.stack: list[Any] = []
        self.marks: list[int] = []  # heights of the stack
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """Return what the pickle builds.

        Raises `DatasetError` for what is refused, and other errors where the pickle is broken.
        """
        for _ in range(STEPS):
            code = self.take(1)[0]
            if code == STOP:
                return self.stack.pop()
            self.step(code)
        raise DatasetError(f"its pickle has more than {STEPS:,} instructions")

    def take(self, count: int) -> bytes:
        """Return the next ``count`` bytes."""
        start, self.at = self.at, self.at + count
        if self.at > len(self.data):
            raise EOFError(f"it ends at byte {len(self.data):,}, inside of an instruction")
        return self.data[start : self.at]

    def number(self, size: int) -> int:
        """Return the next ``size`` bytes as an integer without sign."""
        return int.from_bytes(self.take(size), "little")

    def line(self) -> str:
        """Return the text up to the end of the line."""
        end = self.data.index(b"\n", self.at, self.at + NAME)
        return self.take(end + 1 - self.at)[:-1].decode("ascii")

    def above_mark(self) -> list[Any]:
        """Take what lies above the last mark off the stack."""
        height = self.marks.pop()
        items = self.stack[height:]
        del self.stack[height:]
        return items

    def step(self, code: int) -> None:
        """Do one instruction."""
        stack = self.stack
        if code in CONSTANTS:
            stack.append(CONSTANTS[code])
        elif code in INTEGERS:
            data = self.take(INTEGERS[code])
            stack.append(int.from_bytes(data, "little", signed=len(data) == 4))
        elif code in STRINGS:
            stack.append(self.take(self.number(STRINGS[code])))
        elif code in SMALL_TUPLES:
            items = [stack.pop() for _ in range(SMALL_TUPLES[code])]
            stack.append(tuple(reversed(items)))
        elif code in SKIPPED:
            self.take(SKIPPED[code])
        else:
            self.step_by_letter(chr(code))

    def step_by_letter(self, letter: str) -> None:
        """Do one instruction that has a letter in pickletools, or is near the letters."""
        stack = self.stack
        match letter:
            case "(":
                self.marks.append(len(stack))
            case "]":
                stack.append([])
            case "}":
                stack.append({})
            case "t":
                stack.append(tuple(self.above_mark()))
            case "l":
                stack.append(self.above_mark())
            case "d":
                stack.append(pairs(self.above_mark()))
            case "a":
                item = stack.pop()
                expect(stack[-1], list).append(item)
            case "e":
                items = self.above_mark()
                expect(stack[-1], list).extend(items)
            case "s":
                value, key = stack.pop(), stack.pop()
                expect(stack[-1], dict).update(pairs([key, value]))
            case "u":
                items = self.above_mark()
                expect(stack[-1], dict).update(pairs(items))
            case "q":
                self.memo[self.number(1)] = stack[-1]
            case "r":
                self.memo[self.number(4)] = stack[-1]
            case "\x94":
                self.memo[len(self.memo)] = stack[-1]
            case "h":
                stack.append(self.memo[self.number(1)])
            case "j":
                stack.append(self.memo[self.number(4)])
            case "c":
                stack.append(allowed(self.line(), self.line()))
            case "\x93":
                name, module = expect(stack.pop(), bytes), expect(stack.pop(), bytes)
                stack.append(allowed(module.decode("ascii"), name.decode("ascii")))
            case "R":
                arguments, made = expect(stack.pop(), tuple), expect(stack.pop(), type)
                stack.append(made(*arguments))
            case "b":
                state = stack.pop()
                if not isinstance(stack[-1], PickledDtype):  # byte order means nothing for bytes
                    expect(stack[-1], PickledArray).state = state
            case _:
                raise DatasetError(
                    f"its byte {self.at - 1:,} is 0x{ord(letter):02x}, an instruction that "
                    "CIFAR-10's pickles don't have"
                )


def allowed(module: str, name: str) -> Any:
    """Return what stands for ``module.name``; raise `DatasetError` for a foreign name."""
    if (module, name) not in ALLOWED:
        raise DatasetError(
            f"it asks for {module[:NAME]}.{name[:NAME]}, which CIFAR-10's files never do; it may "
            "be an attack, and was not run"
        )
    return ALLOWED[module, name]


def expect(value: Any, kind: type) -> Any:
    """Return ``value`` if it is a ``kind``; raise TypeError if not."""
    if not isinstance(value, kind):
        raise TypeError(f"a {type(value).__name__} where a {kind.__name__} belongs")
    return value


def pairs(items: list[Any]) -> dict[bytes, Any]:
    """Return the dictionary of keys and values in turn; a key is a string."""
    keys = [expect(key, bytes) for key in items[::2]]
    return dict(zip(keys, items[1::2], strict=True))


def load_batch(data: bytes) -> tuple[np.ndarray, list[Any]]:
    """Return the pixels and the labels in one pickled batch file.

    data: the file, a dictionary written by Python 2, whose keys ``data`` (an array of bytes) and
    ``labels`` (a list) are used.  Returns an array of uint8 of any shape, and the list as it is:
    the caller checks both.  Raises `DatasetError` for anything else.
    """
    try:
        batch = Machine(data).run()
    except (EOFError, LookupError, TypeError, ValueError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"it is no whole pickle ({type(error).__name__}: {error})") from error
    if not isinstance(batch, dict) or not {b"data", b"labels"} <= batch.keys():
        found: Any = type(batch).__name__
        if isinstance(batch, dict):
            found = [key[:NAME] for key in sorted(batch)[:8]]
        raise DatasetError(f"it holds {found}, expected a dictionary with b'data' and b'labels'")
    pixels, labels = batch[b"data"], batch[b"labels"]
    if not isinstance(pixels, PickledArray) or not isinstance(labels, list):
        raise DatasetError(
            f"data is a {type(pixels).__name__} and labels a {type(labels).__name__}, "
            "expected an array and a list"
        )
    try:
        return pixels.pixels(), labels
    except (TypeError, ValueError, AttributeError) as error:
        raise DatasetError(f"its array can't be put together ({error})") from error
