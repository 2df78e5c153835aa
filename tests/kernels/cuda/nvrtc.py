"""NVIDIA's compiler by its C interface: it needs neither a GPU nor a driver."""

from __future__ import annotations

import ctypes
from pathlib import Path


class Compiler:
    """NVRTC from ``pip install nvidia-cuda-nvrtc``."""

    def __init__(self, path: Path) -> None:
        self.library = ctypes.CDLL(str(path))

    def compile(self, source: str, options: tuple[str, ...]) -> tuple[bool, str, bytes]:
        """Return whether it worked, the log, and the machine code."""
        program = ctypes.c_void_p()
        self.call("nvrtcCreateProgram", ctypes.byref(program), source.encode(), b"", 0, None, None)
        texts = [option.encode() for option in options]
        array = (ctypes.c_char_p * len(texts))(*texts)
        worked = self.library.nvrtcCompileProgram(program, len(texts), array) == 0
        log = self.text("nvrtcGetProgramLog", program).decode().rstrip("\0")
        code = self.text("nvrtcGetCUBIN", program) if worked else b""
        self.call("nvrtcDestroyProgram", ctypes.byref(program))
        return worked, log, code

    def text(self, name: str, program: ctypes.c_void_p) -> bytes:
        size = ctypes.c_size_t()
        self.call(f"{name}Size", program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self.call(name, program, buffer)
        return buffer.raw

    def call(self, name: str, *arguments: object) -> None:
        error = getattr(self.library, name)(*arguments)
        if error:
            raise RuntimeError(f"{name}: error {error}")


def compile_one(path: Path, source: str, options: tuple[str, ...]) -> tuple[bool, str, bytes]:
    """Compile in a process of its own."""
    return Compiler(path).compile(source, options)
