"""Runs CUDA kernels on the CPU: the sources are compiled as C++, with `cuda.h` beside this file.

    library = Library(source, ("-DREAL_F32",))
    library.launch("copy", (1, 1, 1), (256, 1, 1), addresses, shared=0)

The C++ compiler is g++; `compiler()` is None where there is none.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
FLAGS = ("-std=c++17", "-O1", "-fPIC", "-w", "-ffp-contract=off")
KERNELS = (
    *("-fvisibility=hidden", "-fsanitize=bounds,alignment"),
    "-ftrivial-auto-var-init=pattern",
)
BOUNDS = r"(?:__launch_bounds__\([^)]*\)\s*)?"
KERNEL = re.compile(rf'extern\s+"C"\s+__global__\s+{BOUNDS}void\s+{BOUNDS}(\w+)')
DYNAMIC = re.compile(
    r"extern\s+__shared__\s+((?:__align__\(\w+\)\s*)?)([\w ]+?)\s*(\w+)\s*\[\s*\]\s*;"
)

SHARED = re.compile(r"\b__shared__\s+([^;{}]*);")
INSIDE = re.compile(r"\[[^][]*\]|<[^<>]*>|\([^()]*\)")

backwards = False
"""Whether blocks, warps and threads run from the last to the first: results must be the same."""


class CompileError(Exception):
    """The C++ compiler's complaint."""


class KernelError(Exception):
    """A kernel did what it mustn't; the text says which, where and what."""


def compiler() -> str | None:
    """Return the C++ compiler, or None where there is none."""
    return shutil.which("g++")


class Launch(ctypes.Structure):
    """How a kernel is launched: `Launch` in emulation.h."""

    _fields_ = (
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared", ctypes.c_uint),
        ("backwards", ctypes.c_uint),
    )


class Library:
    """The kernels of a source; options: those with -D count.

    A source of several files (``#line 1 "name.cu"`` before each) is compiled file by file, each
    with what stands before the first of them, and only when one of its kernels is asked for.
    """

    def __init__(self, source: str, options: Sequence[str] = ()) -> None:
        self.options = tuple(options)
        self.shared, *files = re.split(r'(?m)^(?=#line 1 "[^"]*\.cu")', source)
        self.files = files or [""]
        self.file_of = {
            name: k for k, text in enumerate(self.files) for name in KERNEL.findall(text)
        }
        if not files:
            self.file_of = dict.fromkeys(KERNEL.findall(source), 0)
        self.names = list(self.file_of)
        self.loaded: dict[int, ctypes.PyDLL] = {}

    def load(self, name: str) -> ctypes.PyDLL:
        """Return the compiled file that a kernel is in."""
        k = self.file_of[name]
        if k not in self.loaded:
            path = build(self.shared + self.files[k], self.options)
            self.loaded[k] = ctypes.PyDLL(str(path))  # it keeps Python's lock: one launch at a time
        return self.loaded[k]

    def signature(self, name: str) -> tuple[str, ...]:
        """Return a kernel's parameters: "p4" points to 4 bytes each, "i8" and "f4" are values."""
        text = ctypes.create_string_buffer(4096)
        self.load(name)[f"signature_{name}"](text)
        return tuple(text.value.decode().split())

    def launch(
        self,
        name: str,
        grid: Sequence[int],
        block: Sequence[int],
        arguments: Sequence[int],
        shared: int = 0,
    ) -> None:
        """Run a kernel.  arguments: the addresses of its arguments' values."""
        pointers = (ctypes.c_void_p * max(1, len(arguments)))(*arguments)
        how = Launch((*grid,), (*block,), shared, backwards)
        text = ctypes.create_string_buffer(1000)
        if self.load(name)[f"launch_{name}"](pointers, ctypes.byref(how), text, 1000):
            raise KernelError(f"{name}: {text.value.decode(errors='replace')}")


def translate(source: str) -> str:
    """Turn CUDA's C++ into C++."""
    source = re.sub(r"//[^\n]*", "", source)  # nothing is found in comments
    names = KERNEL.findall(source)
    source = re.sub(r'extern\s+"C"\s+__global__', "__global__", source)
    source = DYNAMIC.sub(r"\2* \3 = (\2*)emulation::dynamic_shared;", source)
    source = SHARED.sub(spoiled, source)
    kernels = "\n".join(f"EMULATED_KERNEL({name})" for name in names)
    return f'#include "cuda.h"\nnamespace {{\n{source}\n{kernels}\n}}\n'


def spoiled(declaration: re.Match[str]) -> str:
    """Let shared memory be spoiled when a block comes by its declaration."""
    text = declaration[1]
    while INSIDE.search(text):  # sizes, arguments of templates
        text = INSIDE.sub(" ", text)
    names = [part.split()[-1] for part in text.split(",")]
    calls = "".join(f" emulation::shared(&{name}, sizeof {name});" for name in names)
    return declaration[0] + calls


def build(source: str, options: tuple[str, ...]) -> Path:
    """Compile a source, or find it compiled; return the library's path."""
    defined = [option for option in options if option.startswith("-D")]
    return made(
        translate(source), [*FLAGS, *KERNELS, *defined], [runtime("-DBY_UCONTEXT" in defined)]
    )


@cache
def runtime(by_ucontext: bool = False) -> Path:
    """Compile what runs the kernels, once for all of them, or find it compiled."""
    text = (HERE / "tensor.cpp").read_text()
    return made(text, [*FLAGS, "-O2", *(["-DBY_UCONTEXT"] if by_ucontext else [])], [])


def made(text: str, flags: list[str], libraries: list[Path]) -> Path:
    """Return the library that a text becomes."""
    path = folder() / f"{digest(text, *flags)}.so"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=folder()) as place:
            code, compiled, linked = (Path(place) / f"kernels.{end}" for end in ("cpp", "o", "so"))
            code.write_text(text)
            command([*flags, f"-I{HERE}", "-c", str(code), "-o", str(compiled)])
            # Linked without the sanitizer's flag: what it calls is in fibers.cpp.
            command(["-shared", str(compiled), *map(str, libraries), "-o", str(linked)])
            linked.replace(path)
    return path


def digest(*parts: str) -> str:
    """Return a name for what is made of these, the headers and this compiler."""
    parts = (
        *parts,
        version(),
        *(path.read_text() for path in sorted([*HERE.glob("*.h"), *HERE.glob("*.cpp")])),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def command(arguments: list[str]) -> None:
    """Run the compiler."""
    done = subprocess.run([compiler() or "g++", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise CompileError(done.stderr[:4000])


@cache
def version() -> str:
    """Return what the compiler says about itself."""
    program = compiler()
    if program is None:
        raise CompileError("the emulation of kernels needs a C++ compiler, g++")
    return subprocess.run([program, "--version"], capture_output=True, text=True).stdout


@cache
def folder() -> Path:
    """Return the folder of compiled sources, this user's alone."""
    path = Path(tempfile.gettempdir()) / f"minicnn-emulation-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    if path.stat().st_uid != os.getuid() or path.stat().st_mode & 0o077:
        return Path(tempfile.mkdtemp(prefix="minicnn-emulation-"))
    return path
