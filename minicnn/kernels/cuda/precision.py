"""Whether float32 products may use TF32."""

from __future__ import annotations

import os

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
