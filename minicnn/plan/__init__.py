"""Plans: a network's whole step on the CPU, written down once and run many times.

What a network does to a batch depends on shapes only.  A plan is made once per network and batch
size: the batch is cut into slices, one for each core; a planner for each layer, or for a run of
layers that are faster together, writes the calls of every slice, with all views and buffers made;
and the network is cut where a layer is about the whole batch.  To train is then to play calls.

Read `slices` (what a planner is), `simple` (Dense first), `walk`, `plan`, `kept`; then
`convolution`, `norm` and `again`.  The calls themselves are written by ``kernels/cpu``.
"""

from . import activation, convolution, estimate, gelu, norm, pooling, profile, simple, whole
from .kept import alone, forget, infer, layers_of, step, tidy, whole_step
from .plan import Plan

__all__ = [
    "Plan",
    "activation",
    "alone",
    "convolution",
    "estimate",
    "forget",
    "gelu",
    "infer",
    "layers_of",
    "norm",
    "pooling",
    "profile",
    "simple",
    "step",
    "tidy",
    "whole",
    "whole_step",
]
