"""Whether float32 products may use TF32, and what the GPU can multiply."""

from __future__ import annotations

import importlib
import os

from ...backend import DeviceError

AMPERE = 80  # compute capability 8.0: the first with bfloat16 and TF32

allowed: list[bool | None] = [None]  # None: as the environment says


def allow_tf32(yes: bool) -> None:
    """Let convolutions and products of float32 arrays use TF32, or not (the default).

    TF32 is the tensor cores' format for float32: operands are rounded to 10 bits of mantissa (about
    three decimal digits), sums are float32.  It is several times as fast, but the numbers aren't
    those of the CPU any more, so it has to be asked for; MINICNN_TF32=1 asks for a whole process.
    PyTorch uses TF32 for convolutions unless told otherwise (torch.backends.cudnn.allow_tf32), and
    for other products only if told to: who compares speeds should know.  Plans keep what was
    allowed when they were made.
    """
    if not isinstance(yes, bool):
        raise ValueError(f"allow_tf32({yes!r}): expected True or False")
    allowed[0] = yes


def tf32_allowed() -> bool:
    """Return whether float32 products may use TF32 now."""
    if allowed[0] is not None:
        return allowed[0]
    value = os.environ.get("MINICNN_TF32", "0")
    if value not in ("", "0", "1"):
        raise ValueError(f"MINICNN_TF32={value!r}: expected 0 or 1")
    return value == "1"


def uses_tf32(kind: str) -> bool:
    """Return whether products of this storage type are TF32's.

    Raises DeviceError if the current GPU can't multiply what the storage type or TF32 wants.
    """
    tf32 = kind == "float32" and tf32_allowed()
    if tf32 or kind == "bfloat16":
        gpu = importlib.import_module("cupy").cuda.Device()
        if int(gpu.compute_capability) < AMPERE:
            raise DeviceError(
                f"gpu:{gpu.id} has compute capability {gpu.compute_capability}; {AMPERE} is the "
                f"first that multiplies {'TF32' if tf32 else kind}: use float16 or float32"
            )
    return tf32
