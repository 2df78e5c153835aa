"""Right operations, and wrong ones: mistakes that people make in backward passes.

``OPERATIONS`` are pairs of functions with inputs that lie away from kinks.  A bug is a backward (or
a forward) to put into its operation's place; ``BUGS`` lists them with the arguments whose gradient
is then wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import pi, sqrt
from typing import Any

import numpy as np

from minicnn.functional import activation, conv, dense, dropout, loss, norm, pool
from minicnn.functional.windows import pad, shifted_views


@dataclass
class Operation:
    forward: Callable[..., Any]
    backward: Callable[..., Any]
    inputs: Callable[[np.random.Generator], tuple[np.ndarray, ...]]


@dataclass
class Bug:
    name: str
    operation: Operation
    forward: Callable[..., Any]
    backward: Callable[..., Any]
    blamed: tuple[str, ...]


def spaced(rng: np.random.Generator, *shape: int, shift: float = 0.0) -> np.ndarray:
    """Numbers in random order, no two closer than 0.1 and none closer to 0 than 0.05."""
    size = int(np.prod(shape))
    return (rng.permutation(size).reshape(shape) - size // 2 + 0.5) * 0.1 + shift


def normal(*shapes: Any) -> Callable[[np.random.Generator], tuple[np.ndarray, ...]]:
    return lambda rng: tuple(rng.standard_normal(shape) for shape in shapes)


def named(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    return partial(function, **options)


def conv_operation(x: Any, w: Any, **options: Any) -> Operation:
    inputs = normal(x, w, w[3:])
    return Operation(named(conv.conv2d_forward, **options), conv.conv2d_backward, inputs)


def pool_operation(kind: str, x: Any, shift: float = 0.0, **options: Any) -> Operation:
    forward, backward = getattr(pool, f"{kind}_forward"), getattr(pool, f"{kind}_backward")
    return Operation(
        named(forward, **options), backward, lambda rng: (spaced(rng, *x, shift=shift),)
    )


def activation_operation(name: str) -> Operation:
    forward = getattr(activation, f"{name}_forward")
    backward = getattr(activation, f"{name}_backward")
    return Operation(forward, backward, lambda rng: (spaced(rng, 3, 7),))


# A few operations that the layers have, but the book doesn't, as pairs.


def dropout_forward(x):
    return dropout.dropout_forward(x, 0.4, np.random.default_rng(6))


def concat_forward(x, z):
    return np.concatenate([x, z], axis=-1), x.shape[-1]


def concat_backward(dy, cache):
    return dy[..., :cache], dy[..., cache:]


def residual_forward(x, w):
    """y = tanh(x w) + x."""
    h, dense_cache = dense.dense_forward(x, w)
    y, tanh_cache = activation.tanh_forward(h)
    return y + x, (dense_cache, tanh_cache)


def residual_backward(dy, cache):
    dx, dw, _ = dense.dense_backward(activation.tanh_backward(dy, cache[1]), cache[0])
    return dx + dy, dw


def tied_forward(x):
    """Write every pixel four times and pool them: all windows are ties, and y = x is smooth.

    (At a tie between pixels of x itself there is a kink, and no slope to compare with.)
    """
    return pool.maxpool2d_forward(x.repeat(2, axis=1).repeat(2, axis=2), 2)


def tied_backward(dy, cache, unpool=pool.maxpool2d_backward):
    N, H, W, C = dy.shape
    return unpool(dy, cache).reshape(N, H, 2, W, 2, C).sum(axis=(2, 4))


def flatten_forward(x):
    return x.reshape(x.shape[0], -1), x.shape


def flatten_backward(dy, cache):
    return dy.reshape(cache)


def integer_labels(rng):
    return rng.standard_normal((4, 3)), rng.integers(0, 3, 4)


WEIGHTS = np.array([0.5, 2.0, 1.0])
TARGET = np.arange(12.0).reshape(4, 3) / 7 - 1
cross_entropy = loss.softmax_cross_entropy_forward
cross_entropy_backward = loss.softmax_cross_entropy_backward

OPERATIONS = {
    "conv2d": conv_operation((2, 5, 4, 2), (3, 3, 2, 2)),
    "conv2d strided": conv_operation((2, 6, 7, 1), (2, 3, 1, 2), stride=(2, 1)),
    "conv2d dilated": conv_operation((1, 7, 6, 2), (2, 2, 2, 2), dilation=(3, 2)),
    "conv2d grouped": conv_operation((2, 4, 4, 4), (2, 2, 2, 4), groups=2),
    "conv2d padded": conv_operation((2, 4, 4, 1), (3, 3, 1, 2), padding="same"),
    "dense": Operation(dense.dense_forward, dense.dense_backward, normal((4, 3), (3, 3), 3)),
    "maxpool2d": pool_operation("maxpool2d", (2, 5, 5, 2), size=3, stride=2),
    "maxpool2d padded": pool_operation("maxpool2d", (1, 4, 4, 2), -50, size=3, padding=1),
    "maxpool2d tied": Operation(
        tied_forward, tied_backward, lambda rng: (spaced(rng, 1, 3, 4, 2),)
    ),
    "averagepool2d": pool_operation("averagepool2d", (2, 5, 5, 2), size=3, stride=2),
    "averagepool2d padded": pool_operation("averagepool2d", (2, 4, 4, 1), size=3, padding=1),
    "globalaveragepool2d": pool_operation("globalaveragepool2d", (2, 4, 3, 2)),
    **{
        name: activation_operation(name)
        for name in ("relu", "leaky_relu", "sigmoid", "tanh", "silu", "gelu", "softmax")
    },
    "cross-entropy": Operation(cross_entropy, cross_entropy_backward, integer_labels),
    "cross-entropy smoothed": Operation(
        named(cross_entropy, label_smoothing=0.2), cross_entropy_backward, integer_labels
    ),
    "cross-entropy weighted": Operation(
        named(cross_entropy, class_weight=WEIGHTS), cross_entropy_backward, integer_labels
    ),
    "mean squared error": Operation(
        lambda y: loss.mean_squared_error_forward(y, TARGET),
        loss.mean_squared_error_backward,
        normal((4, 3)),
    ),
    "penalty": Operation(
        named(loss.penalty_forward, l1=0.3, l2=0.5),
        loss.penalty_backward,
        lambda rng: (spaced(rng, 3, 4),),
    ),
    "batchnorm": Operation(
        named(norm.batchnorm_forward, eps=0.3), norm.batchnorm_backward, normal((3, 2, 2, 2), 2, 2)
    ),
    "batchnorm inference": Operation(
        lambda x, gamma, beta: norm.batchnorm_inference_forward(
            x, gamma, beta, np.array([0.5, -1]), np.array([2.0, 0.3]), 0.1
        ),
        norm.batchnorm_inference_backward,
        normal((3, 2, 2, 2), 2, 2),
    ),
    "normalize": Operation(
        lambda x: norm.normalize_forward(x, np.array([1.0, 2]), np.array([0.5, 3]), 0.1),
        norm.normalize_backward,
        normal((2, 3, 2, 2)),
    ),
    "dropout": Operation(dropout_forward, dropout.dropout_backward, normal((5, 6))),
    "flatten": Operation(flatten_forward, flatten_backward, normal((2, 3, 2, 2))),
    "concat": Operation(concat_forward, concat_backward, normal((2, 2, 2, 2), (2, 2, 2, 2))),
    "residual": Operation(residual_forward, residual_backward, normal((4, 3), (3, 3))),
}

BUGS: list[Bug] = []


def backward_bug(operation: str, *blamed: str) -> Callable[..., Any]:
    """Plant the function as the operation's backward; its docstring's place is its name."""

    def plant(function: Callable[..., Any]) -> Callable[..., Any]:
        right = OPERATIONS[operation]
        name = f"{operation}: {function.__name__.replace('_', ' ')}"
        BUGS.append(Bug(name, right, right.forward, function, blamed))
        return function

    return plant


def forward_bug(operation: str, *blamed: str) -> Callable[..., Any]:
    """Plant the function as the operation's forward: what it caches is wrong."""

    def plant(function: Callable[..., Any]) -> Callable[..., Any]:
        right = OPERATIONS[operation]
        name = f"{operation}: {function.__name__.replace('_', ' ')}"
        BUGS.append(Bug(name, right, function, right.backward, blamed))
        return function

    return plant


# Convolution.


@backward_bug("conv2d", "x")
def dx_reversed(dy, cache):
    dx, dw, db = conv.conv2d_backward(dy, cache)
    return dx[:, ::-1], dw, db


@backward_bug("conv2d", "x")
def col2im_shifted_by_one(dy, cache):
    dx, dw, db = conv.conv2d_backward(dy, cache)
    return np.roll(dx, 1, axis=2), dw, db


@backward_bug("conv2d", "x")
def filters_flipped_in_dx(dy, cache):
    x, w, *rest = cache
    dx, _, _ = conv.conv2d_backward(dy, (x, w[::-1, ::-1], *rest))
    return dx, *conv.conv2d_backward(dy, cache)[1:]


@backward_bug("conv2d", "w")
def dw_transposed(dy, cache):
    dx, dw, db = conv.conv2d_backward(dy, cache)
    return dx, dw.transpose(0, 1, 3, 2).copy(), db


@backward_bug("conv2d", "w")
def height_and_width_swapped_in_dw(dy, cache):
    dx, dw, db = conv.conv2d_backward(dy, cache)
    return dx, dw.transpose(1, 0, 2, 3).copy(), db


@backward_bug("conv2d", "b")
def bias_gradient_dropped(dy, cache):
    dx, dw, db = conv.conv2d_backward(dy, cache)
    return dx, dw, db * 0


@backward_bug("conv2d", "b")
def bias_mean_instead_of_sum(dy, cache):
    dx, dw, _ = conv.conv2d_backward(dy, cache)
    return dx, dw, dy.mean(axis=(0, 1, 2))


@backward_bug("conv2d", "w")
def only_the_first_picture_in_dw(dy, cache):
    x, *rest = cache
    dx, _, db = conv.conv2d_backward(dy, cache)
    return dx, conv.conv2d_backward(dy[:1], (x[:1], *rest))[1], db


@backward_bug("conv2d", "x", "w")
def dy_reversed_as_all_ones_cant_see(dy, cache):
    """With dy all ones nothing would be wrong; db is right in any case."""
    return conv.conv2d_backward(dy[:, ::-1], cache)


@backward_bug("conv2d strided", "x")
def stride_ignored(dy, cache):
    x, w, has_bias, _, margins, dilation, groups = cache
    N, H, W, _ = x.shape
    spread = np.zeros((N, H - w.shape[0] + 1, W - w.shape[1] + 1, w.shape[3]))
    spread[:, : dy.shape[1], : dy.shape[2]] = dy  # should be spread[:, ::SH, ::SW]
    dx, _, _ = conv.conv2d_backward(spread, (x, w, has_bias, 1, margins, dilation, groups))
    return dx, *conv.conv2d_backward(dy, cache)[1:]


@backward_bug("conv2d dilated", "x")
def dilation_ignored(dy, cache):
    x, w, *_ = cache
    dx = np.zeros(x.shape)
    for i in range(w.shape[0]):
        for j in range(w.shape[1]):
            dx[:, i : i + dy.shape[1], j : j + dy.shape[2]] += dy @ w[i, j].T
    return dx, *conv.conv2d_backward(dy, cache)[1:]


@backward_bug("conv2d grouped", "w", "x")
def groups_swapped(dy, cache):
    dx, dw, _ = conv.conv2d_backward(np.roll(dy, 2, axis=-1), cache)
    return dx, dw, conv.conv2d_backward(dy, cache)[2]


@backward_bug("conv2d padded", "x")
def margins_cropped_from_the_wrong_side(dy, cache):
    x, w, has_bias, stride, margins, dilation, groups = cache
    bare = pad(x, margins), w, has_bias, stride, ((0, 0), (0, 0)), dilation, groups
    dx, dw, db = conv.conv2d_backward(dy, bare)
    return dx[:, : x.shape[1], : x.shape[2]], dw, db


# Dense.


@backward_bug("dense", "x")
def dx_without_transposing_w(dy, cache):
    _, dw, db = dense.dense_backward(dy, cache)
    return dy @ cache[1], dw, db


@backward_bug("dense", "w")
def dense_dw_transposed(dy, cache):
    dx, dw, db = dense.dense_backward(dy, cache)
    return dx, dw.T, db


@backward_bug("dense", "w", "b")
def divided_by_the_batch_twice(dy, cache):
    dx, dw, db = dense.dense_backward(dy, cache)
    return dx, dw / len(dy), db / len(dy)


@backward_bug("dense", "x")
def one_entry_off_by_a_millionth_part(dy, cache):
    dx, dw, db = dense.dense_backward(dy, cache)
    i = np.unravel_index(abs(dx).argmax(), dx.shape)
    dx[i] *= 1 + 1e-5
    return dx, dw, db


@backward_bug("dense", "w")
def gradient_added_to_the_last_one(dy, cache):
    """+= without a reset."""
    dx, dw, db = dense.dense_backward(dy, cache)
    return dx, dw + dw, db


# Pooling.


@backward_bug("maxpool2d", "x")
def overlap_forgotten(dy, cache):
    winner, x_shape, size, stride, _ = cache
    dx = np.zeros(x_shape)
    for k, view in enumerate(shifted_views(dx, size, stride)):
        view[winner == k] = dy[winner == k]  # = where += is needed
    return dx


@backward_bug("maxpool2d", "x")
def gradient_to_the_first_tap(dy, cache):
    winner, *rest = cache
    return pool.maxpool2d_backward(dy, (winner * 0, *rest))


@backward_bug("maxpool2d", "x")
def rows_and_columns_of_the_winner_swapped(dy, cache):
    winner, *rest = cache
    return pool.maxpool2d_backward(dy, (winner % 3 * 3 + winner // 3, *rest))


@backward_bug("maxpool2d tied", "x")
def ties_paid_by_each(dy, cache):
    def unpool(dy, cache):
        return dy.repeat(2, axis=1).repeat(2, axis=2)  # all four equal the maximum

    return tied_backward(dy, cache, unpool)


@backward_bug("maxpool2d padded", "x")
def zero_margin_wins(dy, cache):
    """What backward does if forward's margin was 0 and all inputs are negative."""
    winner, x_shape, size, stride, margins = cache
    inside = np.stack(
        list(
            shifted_views(pad(np.ones(x_shape), margins), size, size if stride is None else stride)
        )
    )
    first_outside = inside.argmin(axis=0)
    touches = inside.min(axis=0) == 0
    return pool.maxpool2d_backward(
        dy, (np.where(touches, first_outside, winner), x_shape, size, stride, margins)
    )


@backward_bug("averagepool2d", "x")
def sum_instead_of_mean(dy, cache):
    scale, *rest = cache
    return pool.averagepool2d_backward(dy, (scale * 0 + 1, *rest))


@backward_bug("averagepool2d", "x")
def average_overlap_forgotten(dy, cache):
    scale, x_shape, size, stride, _ = cache
    dx = np.zeros(x_shape)
    for view in shifted_views(dx, size, stride):
        view[...] = dy * scale
    return dx


@backward_bug("averagepool2d padded", "x")
def margin_counted_in_backward_only(dy, cache):
    scale, *rest = cache
    return pool.averagepool2d_backward(dy, (scale * 0 + 1 / 9, *rest))


@backward_bug("globalaveragepool2d", "x")
def divided_by_the_height_only(dy, cache):
    return pool.globalaveragepool2d_backward(dy, cache) * cache[2]


# Activations.


@backward_bug("relu", "x")
def everything_let_through(dy, cache):
    return dy


@backward_bug("relu", "x")
def wrong_sign(dy, cache):
    return -activation.relu_backward(dy, cache)


@backward_bug("leaky_relu", "x")
def slope_squared(dy, cache):
    x, slope = cache
    return activation.leaky_relu_backward(dy, (x, slope * slope))


@forward_bug("sigmoid", "x")
def stale_cache(x):
    y, _ = activation.sigmoid_forward(x)
    return y, activation.sigmoid_forward(x[::-1])[1]  # of another call


@backward_bug("sigmoid", "x")
def derivative_taken_twice(dy, cache):
    return activation.sigmoid_backward(activation.sigmoid_backward(dy, cache), cache)


@backward_bug("tanh", "x")
def square_forgotten(dy, cache):
    return dy * (1 - cache)


@backward_bug("silu", "x")
def second_factor_constant(dy, cache):
    return dy * cache[1]


@backward_bug("gelu", "x")
def density_term_forgotten(dy, cache):
    return dy * cache[1]


@backward_bug("gelu", "x")
def density_of_another_variance(dy, cache):
    x, F = cache
    return dy * (F + x * np.exp(-x * x) / sqrt(2 * pi))


@backward_bug("softmax", "x")
def diagonal_of_the_jacobian_only(dy, cache):
    return dy * cache * (1 - cache)


# Losses.


@backward_bug("cross-entropy", "logits")
def target_not_subtracted(dy, cache):
    log_p, target, scale = cache
    return cross_entropy_backward(dy, (log_p, target * 0, scale))


@backward_bug("cross-entropy", "logits")
def batch_not_averaged(dy, cache):
    return cross_entropy_backward(dy, cache) * len(cache[0])


@backward_bug("cross-entropy", "logits")
def upstream_gradient_ignored(dy, cache):
    return cross_entropy_backward(np.ones(()), cache)


@backward_bug("cross-entropy smoothed", "logits")
def smoothing_forgotten_backward(dy, cache):
    log_p, target, scale = cache
    hard = np.eye(target.shape[1])[target.argmax(axis=1)]
    return cross_entropy_backward(dy, (log_p, hard, scale))


@backward_bug("cross-entropy weighted", "logits")
def class_weight_forgotten_backward(dy, cache):
    log_p, target, _ = cache
    return cross_entropy_backward(dy, (log_p, target, 1 / len(target)))


@backward_bug("mean squared error", "y")
def two_forgotten(dy, cache):
    return loss.mean_squared_error_backward(dy, cache) / 2


@backward_bug("mean squared error", "y")
def divided_by_the_batch_not_the_size(dy, cache):
    return loss.mean_squared_error_backward(dy, cache) * cache.shape[1]


@backward_bug("penalty", "w")
def half_of_the_penalty(dy, cache):
    w, l1, l2 = cache
    return loss.penalty_backward(dy, (w, l1, l2 / 2))


# Normalization and noise.


@backward_bug("batchnorm", "x")
def mean_and_variance_held_fixed(dy, cache):
    _, dgamma, dbeta = norm.batchnorm_backward(dy, cache)
    return dy * cache[3] * cache[4], dgamma, dbeta


@backward_bug("batchnorm", "x")
def variance_held_fixed(dy, cache):
    _, dgamma, dbeta = norm.batchnorm_backward(dy, cache)
    return (dy - dy.mean(axis=(0, 1, 2))) * cache[3] * cache[4], dgamma, dbeta


@backward_bug("batchnorm", "x", "gamma")
def eps_outside_the_root(dy, cache):
    mean, var, x, gamma, _ = cache
    return norm.batchnorm_backward(dy, (mean, var, x, gamma, 1 / (np.sqrt(var) + 0.3)))


@backward_bug("batchnorm", "gamma", "beta")
def gamma_and_beta_swapped(dy, cache):
    dx, dgamma, dbeta = norm.batchnorm_backward(dy, cache)
    return dx, dbeta, dgamma


@backward_bug("batchnorm inference", "gamma")
def running_mean_forgotten(dy, cache):
    x, gamma, mean, inverse = cache
    return norm.batchnorm_inference_backward(dy, (x, gamma, mean * 0, inverse))


@backward_bug("batchnorm inference", "x")
def statistics_of_the_batch_in_inference(dy, cache):
    _x, _gamma, _mean, _inverse = cache
    dx, dgamma, dbeta = norm.batchnorm_inference_backward(dy, cache)
    return dx - dx.mean(axis=(0, 1, 2)), dgamma, dbeta


@backward_bug("normalize", "x")
def multiplied_by_the_deviation(dy, cache):
    return dy / cache


@backward_bug("dropout", "x")
def mask_not_applied_backward(dy, cache):
    return dy * cache[1]


@backward_bug("dropout", "x")
def scale_missing_backward(dy, cache):
    return dy * cache[0]


@backward_bug("dropout", "x")
def new_mask_drawn_backward(dy, cache):
    keep, scale = cache
    return dy * (np.random.default_rng(7).random(keep.shape) >= 0.4) * scale


# Shapes and branches.


@backward_bug("flatten", "x")
def channels_first_backward(dy, cache):
    N, H, W, C = cache
    return dy.reshape(N, C, H, W).transpose(0, 2, 3, 1).copy()


@backward_bug("concat", "x", "z")
def channels_in_the_wrong_order(dy, cache):
    z_channels = dy.shape[-1] - cache
    return dy[..., z_channels:], dy[..., :z_channels]


@backward_bug("residual", "x")
def way_round_forgotten(dy, cache):
    dx, dw = residual_backward(dy, cache)
    return dx - dy, dw


@backward_bug("residual", "x")
def body_forgotten(dy, cache):
    return dy, residual_backward(dy, cache)[1]
