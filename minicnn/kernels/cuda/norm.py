"""Normalization (``norm.cu``, ``norm_backward.cu``, ``normalize.cu``).

x, y, dx, dy, addend: (..., C) in the storage type.  gamma, beta, mean, var, inverse and their
gradients: (C,) in the type of sums; gamma None is 1, beta None is 0.
"""

from __future__ import annotations

from ...backend import Array
from .activation import packs
from .columns import Columns
from .writer import Writer

APPLIED = 2112, 4
"""Blocks and rows a thread for passes without sums, which need not be few: see `Columns.of`."""

Running = tuple[Array, Array, float]
"""Running mean and variance, (C,) in the type of sums, and the momentum that they follow with."""


def normalize_forward(s: Writer, x: Array, mean: Array, std: Array, scale: float, y: Array) -> None:
    """Write y = (x scale - mean) / std.  x: uint8, or in the storage type.  mean, std: (C,)."""
    name = "normalize_bytes" if x.dtype == "uint8" else "normalize_numbers"
    s.launch(name, packs(s, x.size), x, mean, std, scale, y, x.shape[-1], x.size)


def normalize_backward(s: Writer, dy: Array, std: Array, scale: float, dx: Array) -> None:
    """Write dx = dy scale / std."""
    C = dy.shape[-1]
    s.launch("normalize_numbers", packs(s, dy.size), dy, None, std, scale, dx, C, dy.size)


def batchnorm_forward(
    s: Writer,
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    eps: float,
    y: Array,
    mean: Array,
    var: Array,
    inverse: Array,
    relu: bool = False,
    addend: Array | None = None,
    running: Running | None = None,
) -> None:
    """Write what is done in training: y = (x - mean) inverse gamma + beta + addend, cut off at 0.

    mean, var, inverse: room for the batch's mean, variance and 1 / sqrt(var + eps).  relu: whether
    to cut off.  addend: what a residual connection adds before that.  running: as in
    `running_update`, which then isn't needed.  y may be x if nobody goes back, or the addend.
    """
    found = batch_moments(s, x)
    finish_moments(s, x, found, eps, mean, var, inverse, running)
    s.free(found)
    cut = Columns.of(s, x, *APPLIED)
    s.launch(
        "batchnorm_apply", 0,
        x, addend, mean, None, eps, inverse, gamma, beta, int(relu), y,
        cut.M, cut.C, cut.parts, cut.across,
        grid=cut.blocks,
    )  # fmt: skip


def batch_moments(s: Writer, x: Array) -> Array:
    """Write the moments of parts of the rows (``norm.cu``); return them, (3, parts, C)."""
    cut = Columns.of(s, x)
    found = s.new((3, cut.parts, cut.C), s.acc_dtype)
    s.launch("moments", 0, x, found, cut.M, cut.C, cut.parts, cut.across, grid=cut.blocks)
    return found


def finish_moments(
    s: Writer,
    x: Array,
    found: Array,
    eps: float,
    mean: Array,
    var: Array,
    inverse: Array,
    running: Running | None,
) -> None:
    """Write how `batch_moments` of all of x are put together."""
    _, parts, C = found.shape
    running_mean, running_var, momentum = running or (None, None, 0.0)
    s.launch(
        "moments_finish", 32 * C,
        found, eps, mean, var, inverse, running_mean, running_var, momentum,
        x.size // C, C, parts,
    )  # fmt: skip


def running_update(s: Writer, mean: Array, var: Array, M: int, running: Running) -> None:
    """Write running <- momentum running + (1 - momentum) batch, of a batch of M values a channel.

    The variance is made unbiased, M / (M - 1); what isn't finite is left out.
    """
    running_mean, running_var, momentum = running
    C = mean.size
    s.launch("running_update", C, mean, var, running_mean, running_var, momentum, M, C)


def batchnorm_backward(
    s: Writer,
    dy: Array,
    x: Array,
    y_if_relu: Array | None,
    gamma: Array | None,
    mean: Array,
    inverse: Array,
    dx: Array,
    dgamma: Array | None,
    dbeta: Array | None,
    daddend: Array | None = None,
    fixed: bool = False,
) -> None:
    """Write the way back through `batchnorm_forward`.

    y_if_relu: what was cut off at 0, or None if nothing was.  dgamma, dbeta: None if there is no
    such parameter.  daddend: room for the addend's gradient, if there was one.  fixed: the way back
    through `batchnorm_inference_forward`, whose mean and inverse don't depend on x.  dx may be dy,
    and so may daddend, but not both.
    """
    C, unwanted = x.shape[-1], list[Array]()
    if not (fixed and dgamma is dbeta is None):
        if dgamma is None:
            unwanted.append(dgamma := s.new((C,), s.acc_dtype))
        if dbeta is None:
            unwanted.append(dbeta := s.new((C,), s.acc_dtype))
        column_sums(s, dy, dbeta, y_if_relu, x, mean, inverse, dgamma)
    cut = Columns.of(s, x, *APPLIED)
    s.launch(
        "batchnorm_backward_apply", 0,
        dy, None if fixed else x, y_if_relu, gamma, mean, inverse, dgamma, dbeta, dx, daddend,
        cut.M, cut.C, cut.parts, cut.across,
        grid=cut.blocks,
    )  # fmt: skip
    s.free(*unwanted)


def batchnorm_inference_forward(
    s: Writer,
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    mean: Array,
    var: Array,
    eps: float,
    y: Array,
    relu: bool = False,
    addend: Array | None = None,
    inverse: Array | None = None,
) -> None:
    """Write y = (x - mean) / sqrt(var + eps) gamma + beta + addend, cut off at 0 with ``relu``.

    inverse: room for 1 / sqrt(var + eps), if somebody wants to go back (`batchnorm_backward`,
    fixed).  y may be x or the addend.
    """
    cut = Columns.of(s, x, *APPLIED)
    s.launch(
        "batchnorm_apply", 0,
        x, addend, mean, var, eps, inverse, gamma, beta, int(relu), y,
        cut.M, cut.C, cut.parts, cut.across,
        grid=cut.blocks,
    )  # fmt: skip


def channel_sum(s: Writer, dy: Array, db: Array, y_if_relu: Array | None = None) -> None:
    """Write db, (C,) in the type of sums: dy, (..., C), added up but for the channels.

    y_if_relu: counts only where this isn't 0, behind a fused ReLU.
    """
    column_sums(s, dy, db, y_if_relu)


def column_sums(
    s: Writer,
    dy: Array,
    total: Array,
    y_if_relu: Array | None = None,
    x: Array | None = None,
    mean: Array | None = None,
    inverse: Array | None = None,
    product: Array | None = None,
) -> None:
    """Write total = sum dy and, where x is given, product = sum dy (x - mean) inverse."""
    cut = Columns.of(s, dy)
    plain, along = total, product
    if cut.parts > 1:
        plain = s.new((cut.parts, cut.C), s.acc_dtype)
        along = None if x is None else s.new((cut.parts, cut.C), s.acc_dtype)
    s.launch(
        "column_sums", 0,
        dy, x, y_if_relu, mean, inverse, plain, along,
        cut.M, cut.C, cut.parts, cut.across,
        grid=cut.blocks,
    )  # fmt: skip
    if cut.parts > 1:
        s.launch("column_sums_finish", 32 * cut.C, plain, along, total, product, cut.C, cut.parts)
        s.free(plain, along)
