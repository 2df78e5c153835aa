"""Updates: what an optimizer does, as launches over the flat buffers."""

from __future__ import annotations

from typing import Any

from ...groups import Group, Part
from ...kernels.cuda import update
from ...optim import SGD, Adam, AdamW, Optimizer, RMSprop
from ...params import Parameters
from .clocks import Rates
from .launches import Launches

KNOWN = (SGD, RMSprop, Adam, AdamW)


def write_update(
    s: Launches, optimizer: Optimizer, params: Parameters, rates: Rates, scaling: Scaling | None
) -> None:
    """Write a step of an optimizer (`Optimizer.step`).

    scaling: if the gradient is a scaled one; it is taken back, and a step whose gradient isn't
    finite is left out.
    """
    groups, options = optimizer.groups(params), dict[str, Any]()
    if groups and (scaling is not None or optimizer.global_clipnorm is not None):
        scale, skip = s.lasting((1,), s.acc_dtype), s.lasting((1,), "int32")
        limit = optimizer.global_clipnorm or 0.0
        told = None if scaling is None else scaling.scale
        update.norm(s, [params.grad[g.where] for g in groups], None, scale, skip, limit, told)
        options |= {"scale": scale}
        if scaling is not None:
            options |= {"skip": skip}
    for group in groups:
        write_rule(s, optimizer, params, group, rates, options)
    if optimizer.ema_decay is not None:
        average = optimizer.memory["average"], params.data
        update.average(s, *average, optimizer.ema_decay, options.get("skip"))
    if scaling is not None and groups:
        update.take_back(s, params.grad, scaling.scale)
        update.adjust_loss_scale(s, scaling.scale, scaling.good, options["skip"])


def write_rule(
    s: Launches,
    optimizer: Optimizer,
    params: Parameters,
    group: Group,
    rates: Rates,
    options: dict[str, Any],
) -> None:
    """Write what the rule does with one group of parameters (`Optimizer.update`)."""
    part, dw = Part.of(group, params.data, optimizer.memory), params.grad[group.where]
    w, memory = part.data, part.memory
    options = options | {"factor": group.factor}
    if optimizer.weight_decay and not optimizer.decoupled:
        options |= {"decay": optimizer.weight_decay, "decayed": group.decayed}
    if isinstance(optimizer, Adam):
        if isinstance(optimizer, AdamW):
            options |= {"shrink": optimizer.weight_decay, "shrunk": group.decayed}
        moments, betas = (memory["m"], memory["v"]), (optimizer.beta1, optimizer.beta2)
        update.adam(s, w, dw, *moments, rates.rate, rates.clock, *betas, optimizer.eps, **options)
    elif isinstance(optimizer, RMSprop):
        rho_eps = optimizer.rho, optimizer.eps
        update.rmsprop(s, w, dw, memory["v"], rates.rate, *rho_eps, **options)
    elif isinstance(optimizer, SGD) and optimizer.momentum:
        how = optimizer.momentum, optimizer.nesterov
        update.momentum(s, w, dw, memory["v"], rates.rate, *how, **options)
    else:
        update.sgd(s, w, dw, rates.rate, **options)


class Scaling:
    """The number that a loss is multiplied by, so that small gradients aren't lost in float16.

    (Micikevicius et al. 2018, section 3.2.)  It finds itself: half after a step whose gradient
    overflowed, which is left out, and twice after many that didn't.  Plans hand it on to those
    that come after them, for a plan may be gone before it has found its own.
    """

    FIRST = 65536.0

    def __init__(self, s: Launches) -> None:
        self.scale, self.good = s.lasting((1,), s.acc_dtype), s.lasting((1,), "int64")
        self.scale.fill(self.FIRST)
        self.good.fill(0)
