"""Who is compared: minicnn, and every setting of its peers in which somebody might run them.

A setting is a process of its own.  The fastest of a peer's settings is the peer's figure.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from itertools import product
from typing import Any

OWN = "minicnn"
ROOFLINE = "sgemm"


@dataclass(frozen=True)
class Setting:
    """One contender: its name, the peer it belongs to, its worker's module, and its options.

    variables: of its process' environment.
    """

    name: str
    peer: str
    module: str
    options: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def layout(self) -> str:
        """The file of pictures that it reads."""
        default = {OWN: "uint8", "keras": "nhwc"}.get(self.peer, "")
        return self.options.get("layout", default)


def own() -> list[Setting]:
    """Return minicnn, and the matrix product that the roofline comes from."""
    return [
        Setting(OWN, OWN, "benchmarks.peers.own_worker"),
        Setting(ROOFLINE, ROOFLINE, "benchmarks.peers.blas_worker"),
    ]


def torch(mode: str) -> list[Setting]:
    """Return PyTorch's settings: layout, eager or compiled, order of the pictures."""
    found = []
    orders = (False, True) if mode == "train" else (False,)
    for compiled, layout, shuffled in product((False, True), ("nchw", "nhwc"), orders):
        words = ["compile"] if compiled else []
        words += ["channels_last"] if layout == "nhwc" else ["default"]
        words += ["shuffled"] if shuffled else []
        options = {"layout": layout, "compiled": compiled, "shuffled": shuffled}
        found.append(
            Setting(f"torch {' '.join(words)}", "torch", "benchmarks.peers.torch_worker", options)
        )
    return found


def keras(mode: str) -> list[Setting]:
    """Return Keras' settings: `fit` on pictures as they lie or shuffled; ways to predict."""
    if mode == "train":
        named = {"fit": {"shuffled": False}, "fit shuffled": {"shuffled": True}}
    else:
        named = {how: {"how": how} for how in ("predict", "predict_on_batch", "call")}
    return [
        Setting(f"keras {name}", "keras", "benchmarks.peers.keras_worker", options)
        for name, options in named.items()
    ]


PEERS = {"torch": torch, "keras": keras}


def chosen(peers: list[str], mode: str, words: list[str]) -> list[Setting]:
    """Return ours, then the peers' settings; ``words``, if any, name the ones to keep."""
    found = [setting for peer in peers for setting in PEERS[peer](mode)]
    if words:
        names = {setting.name for setting in found}
        unknown = [word for word in words if word not in names]
        if unknown:
            raise ValueError(f"no setting {unknown[0]!r}; there are: {', '.join(sorted(names))}")
        found = [setting for setting in found if setting.name in words]
    return own() + found


def python_of(setting: Setting, pythons: dict[str, str]) -> str:
    """Return the interpreter that has the setting's framework."""
    return pythons.get(setting.peer, sys.executable)
