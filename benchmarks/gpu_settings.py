"""Who is compared on a GPU: minicnn in each precision, PyTorch's ways to train, matrix products.

Each belongs to a class of precision, and is compared within it alone:

    float32   products are exact to float32's rounding
    TF32      float32 numbers, of which products take 10 bits of the mantissa: PyTorch's default
              for convolutions
    16-bit    bfloat16 or float16, with sums and weights in float32
"""

from __future__ import annotations

import os
from dataclasses import replace

from benchmarks.settings import OWN, Setting

GEMM = "gemm"
CLASSES = {"float32": "float32", "tf32": "TF32", "bfloat16": "16-bit", "float16": "16-bit"}
CLASSES |= {"default": "TF32"}  # PyTorch's: its convolutions use TF32

LOGITS = {"float32": 1e-3, "TF32": 1e-2, "16-bit": 5e-2}
"""How far outputs may be from the CPU's, of the largest: the same network gives the same."""
FIRST_LOSS = {"float32": 1e-3, "TF32": 5e-3, "16-bit": 3e-2}
"""How far the loss of the first batch may be from minicnn's, of that."""
LEARNED = {"float32": 0.2, "TF32": 0.25, "16-bit": 0.5}
"""How far what the losses fell by may be from minicnn's, of that: all have learned the same."""

EAGER = [("default", "nchw", "eager"), ("default", "nhwc", "eager")]
FULL = [
    *EAGER,
    ("float32", "nchw", "eager"),
    ("float32", "nhwc", "eager"),
    ("float32", "nhwc", "compile"),
    ("float32", "nchw", "graph"),
    ("float32", "nhwc", "graph"),
    ("tf32", "nchw", "eager"),
    ("tf32", "nhwc", "eager"),
    ("tf32", "nhwc", "compile"),
    ("tf32", "nchw", "graph"),
    ("tf32", "nhwc", "graph"),
    ("bfloat16", "nhwc", "eager"),
    ("bfloat16", "nhwc", "compile"),
    ("bfloat16", "nhwc", "graph"),
]
QUICK = [
    ("default", "nchw", "eager"),
    ("float32", "nchw", "graph"),
    ("tf32", "nhwc", "graph"),
    ("bfloat16", "nhwc", "eager"),
    ("bfloat16", "nhwc", "compile"),
    ("bfloat16", "nhwc", "graph"),
]
AUTOTUNE = [("tf32", "nhwc", "max-autotune"), ("bfloat16", "nhwc", "max-autotune")]


def own(precisions: list[str]) -> list[Setting]:
    """Return minicnn on its ordinary path, `mc.train_step`, in each precision."""
    return [
        Setting(
            f"{OWN} {precision}",
            OWN,
            "benchmarks.peers.gpu_own_worker",
            {
                "precision": precision,
                "layout": "uint8",
                "tolerance": LOGITS[CLASSES[precision]],
            },
            {"MINICNN_TF32": str(int(precision == "tf32"))},
        )
        for precision in precisions
    ]


def gemms(precisions: list[str]) -> list[Setting]:
    """Return the products of large matrices, cuBLAS' through CuPy, that rooflines come from."""
    return [
        Setting(
            f"{GEMM} {precision}",
            GEMM,
            "benchmarks.peers.gpu_gemm_worker",
            {"precision": precision},
            {"CUPY_TF32": str(int(precision == "tf32"))},
        )
        for precision in precisions
    ]


def torch(ways: list[tuple[str, str, str]]) -> list[Setting]:
    """Return PyTorch's settings: precision, layout, and how the step is launched."""
    found = []
    for precision, layout, how in ways:
        words = {"bfloat16": "amp bfloat16"}.get(precision, precision)
        named = ["torch", words, "channels_last" if layout == "nhwc" else "", how]
        options = {"precision": precision, "layout": layout, "how": how}
        name = " ".join(word for word in named if word)
        found.append(Setting(name, "torch", "benchmarks.peers.gpu_torch_worker", options))
    return found


def class_of(setting: Setting) -> str:
    """Return the class of precision that a setting belongs to."""
    return CLASSES[setting.options["precision"]]


def visible(device: str) -> dict[str, str]:
    """Return what lets a process see one GPU: the first, or the first of those that we see."""
    if device == "cpu":
        return {}
    return {"CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0")}


def chosen(
    device: str, peers: list[str], quick: bool, autotune: bool, words: list[str]
) -> list[Setting]:
    """Return all contenders; ``words``, if any, name those of PyTorch to keep."""
    precisions = ["float32"] if device == "cpu" else ["float32", "tf32", "bfloat16", "float16"]
    ways = (QUICK if quick else FULL) + (AUTOTUNE if autotune else [])
    theirs = torch(ways) if "torch" in peers else []
    if words:
        names = {setting.name for setting in theirs}
        unknown = [word for word in words if word not in names]
        if unknown:
            raise ValueError(f"no setting {unknown[0]!r}; there are: {', '.join(sorted(names))}")
        theirs = [setting for setting in theirs if setting.name in words]
    found = [*own(precisions), *gemms(precisions), *theirs]
    return [replace(s, variables=s.variables | visible(device)) for s in found]
