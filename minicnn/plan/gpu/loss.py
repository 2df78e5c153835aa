"""Losses, penalties and counters as launches: what stands between forward and backward."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...backend import Array
from ...kernels.cuda import elementwise
from ...kernels.cuda import loss as kernels
from ...losses import CrossEntropy, MeanSquaredError
from ...params import Parameters
from .launches import Launches

if TYPE_CHECKING:
    from .plan import DevicePlan

KNOWN = (CrossEntropy, MeanSquaredError)


class Counted:
    """A step's loss, shape (), and the counters of a `Meter`, on the device."""

    def __init__(self, s: Launches) -> None:
        self.value = s.lasting((), s.acc_dtype)
        self.loss_sum, self.correct = s.lasting((), "float64"), s.lasting((), "int64")

    @property
    def sums(self) -> tuple[Array, Array]:
        """Sum of the losses of all pictures, and how many of them were right."""
        return self.loss_sum, self.correct


def write_loss(
    s: Launches,
    plan: DevicePlan,
    labels: Array,
    loss: Any,
    counted: Counted,
    upstream: Array | None,
) -> None:
    """Write the loss of ``plan.y`` and its gradient, times ``upstream``; count the batch.

    Where weights are charged, what that costs belongs to the loss that is counted.
    """
    charged = bool(plan.params.penalized)
    sums = None if charged else counted.sums
    if isinstance(loss, CrossEntropy):
        weight = None
        loss.check_weight(plan.y.shape[1])
        if loss.class_weight is not None:
            weight = s.lasting((len(loss.class_weight),), s.acc_dtype)
            weight.set(np.array(loss.class_weight, s.acc_dtype))
        how = loss.label_smoothing, weight
        kernels.cross_entropy(
            s, plan.y, labels, *how, counted.value, plan.dy, upstream, counters=sums
        )
    else:
        kernels.mean_squared_error(s, plan.y, labels, counted.value, plan.dy, upstream, sums)
    if charged:
        write_penalties(s, plan.params, counted.value)
        kernels.counters(s, counted.value, plan.y, labels, *counted.sums)


def write_penalties(s: Launches, params: Parameters, value: Array) -> None:
    """Write value += the charges for large weights (`functional.loss.penalty_forward`)."""
    wide = s.wide()
    for name, penalty in params.penalized:
        charge = s.new((), s.acc_dtype)
        kernels.penalty(wide, params[name], penalty.l1, penalty.l2, charge)
        elementwise.add(wide, value, charge, value)
        s.free(charge)


def write_penalty_gradients(s: Launches, params: Parameters, upstream: Array | None) -> None:
    """Write the gradients of the charges, times ``upstream``, and add them to the others.

    What is frozen has a charge, but no gradient.
    """
    wide = s.wide()
    trained = [(name, penalty) for name, penalty in params.penalized if name not in params.frozen]
    for name, penalty in trained:
        extra, dw = s.new(params[name].shape, s.acc_dtype), params.grads[name]
        kernels.penalty_backward(wide, params[name], penalty.l1, penalty.l2, extra, upstream)
        elementwise.add(wide, dw, extra, dw)
        s.free(extra)
