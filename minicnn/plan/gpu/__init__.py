"""Plans on a GPU: a network's whole step as launches with all their memory, and as one CUDA graph.

The walk is the CPU's, the planners are others: what runs fast in a few large kernels isn't what
runs fast in a cache.  Nothing is cut into slices, and BatchNorm needs no meeting.

Read `launches` (what a planner writes in), `simple` (Dense first), `convolution` and `norm`; then
`plan`, and `step`, which puts loss, update and counters behind it and has it all captured.
"""

from . import convolution, norm, simple, whole
from .launches import Launches
from .plan import DevicePlan
from .step import Step

__all__ = [
    "DevicePlan",
    "Launches",
    "Step",
    "convolution",
    "norm",
    "simple",
    "whole",
]
