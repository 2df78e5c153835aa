"""Loop oracles: every operation written out entry by entry, slow and hard to get wrong.

Nothing here is shared with the package, not even the meaning of "same".  Pictures are (N, H, W, C).
"""

from __future__ import annotations

from math import ceil, erf, exp, inf, log, sqrt
from typing import Any

import numpy as np


def two(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def same_margins(n: int, taps: int, stride: int, dilation: int) -> tuple[int, int]:
    """The fewest pixels that give ceil(n / stride) windows; the odd one comes last."""
    span = (taps - 1) * dilation + 1
    total = 0
    while len(range(0, n + total - span + 1, stride)) < ceil(n / stride):
        total += 1
    return total // 2, total - total // 2


def margins(padding: Any, hw: Any, size: Any, stride: Any = 1, dilation: Any = 1) -> Any:
    """((top, bottom), (left, right)) for every way to say it."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        return tuple(map(same_margins, hw, two(size), two(stride), two(dilation)))
    vertical, horizontal = two(padding)
    return two(vertical), two(horizontal)


def places(n: int, margin: tuple[int, int], taps: int, stride: int, dilation: int) -> list[int]:
    """The first pixel of every window, counted from the picture's edge (so it may be < 0)."""
    last = n + sum(margin) - (taps - 1) * dilation - 1
    return [start - margin[0] for start in range(0, last + 1, stride)]


def windows(shape: Any, size: Any, stride: Any, margin: Any, dilation: Any = 1) -> Any:
    """Yield oh, ow and the pixels of that window, None where it lies in the margin."""
    (KH, KW), (SH, SW), (DH, DW) = two(size), two(stride), two(dilation)
    H, W = shape[1:3]
    for oh, top in enumerate(places(H, margin[0], KH, SH, DH)):
        for ow, left in enumerate(places(W, margin[1], KW, SW, DW)):
            pixels = {}
            for i in range(KH):
                for j in range(KW):
                    h, w = top + i * DH, left + j * DW
                    pixels[i, j] = (h, w) if 0 <= h < H and 0 <= w < W else None
            yield oh, ow, pixels


def output_size(shape: Any, size: Any, stride: Any, margin: Any, dilation: Any = 1) -> Any:
    (KH, KW), (SH, SW), (DH, DW) = two(size), two(stride), two(dilation)
    return (
        len(places(shape[1], margin[0], KH, SH, DH)),
        len(places(shape[2], margin[1], KW, SW, DW)),
    )


def conv2d(
    x: Any,
    w: Any,
    b: Any = None,
    stride: Any = 1,
    padding: Any = "valid",
    dilation: Any = 1,
    groups: int = 1,
) -> np.ndarray:
    KH, KW, per_group, O = w.shape
    margin = margins(padding, x.shape[1:3], (KH, KW), stride, dilation)
    out = output_size(x.shape, (KH, KW), stride, margin, dilation)
    y = np.zeros((x.shape[0], *out, O))
    for n in range(x.shape[0]):
        for oh, ow, pixels in windows(x.shape, (KH, KW), stride, margin, dilation):
            for o in range(O):
                first = (o // (O // groups)) * per_group  # of the channels that filter o reads
                total = 0.0 if b is None else float(b[o])
                for (i, j), pixel in pixels.items():
                    if pixel is not None:
                        for c in range(per_group):
                            total += float(x[n, *pixel, first + c]) * float(w[i, j, c, o])
                y[n, oh, ow, o] = total
    return y


def maxpool2d(x: Any, size: Any, stride: Any = None, padding: Any = "valid") -> np.ndarray:
    stride = size if stride is None else stride
    margin = margins(padding, x.shape[1:3], size, stride)
    y = np.full((x.shape[0], *output_size(x.shape, size, stride, margin), x.shape[3]), -inf)
    for n in range(x.shape[0]):
        for oh, ow, pixels in windows(x.shape, size, stride, margin):
            for c in range(x.shape[3]):
                inside = [x[n, *pixel, c] for pixel in pixels.values() if pixel is not None]
                y[n, oh, ow, c] = max(inside)
    return y


def averagepool2d(
    x: Any, size: Any, stride: Any = None, padding: Any = "valid", count_padding: bool = False
) -> np.ndarray:
    stride = size if stride is None else stride
    margin = margins(padding, x.shape[1:3], size, stride)
    y = np.zeros((x.shape[0], *output_size(x.shape, size, stride, margin), x.shape[3]))
    for n in range(x.shape[0]):
        for oh, ow, pixels in windows(x.shape, size, stride, margin):
            for c in range(x.shape[3]):
                inside = [float(x[n, *pixel, c]) for pixel in pixels.values() if pixel is not None]
                y[n, oh, ow, c] = sum(inside) / (len(pixels) if count_padding else len(inside))
    return y


def globalaveragepool2d(x: Any) -> np.ndarray:
    N, H, W, C = x.shape
    y = np.zeros((N, C))
    for n in range(N):
        for c in range(C):
            y[n, c] = sum(float(x[n, h, w, c]) for h in range(H) for w in range(W)) / (H * W)
    return y


def dense(x: Any, w: Any, b: Any = None) -> np.ndarray:
    y = np.zeros((x.shape[0], w.shape[1]))
    for n in range(x.shape[0]):
        for o in range(w.shape[1]):
            y[n, o] = 0.0 if b is None else float(b[o])
            for i in range(w.shape[0]):
                y[n, o] += float(x[n, i]) * float(w[i, o])
    return y


def softmax(x: Any) -> np.ndarray:
    """Of the rows of x, (N, K)."""
    y = np.zeros(x.shape)
    for n, row in enumerate(x.tolist()):
        terms = [exp(v - max(row)) for v in row]
        y[n] = [t / sum(terms) for t in terms]
    return y


def softmax_cross_entropy(
    logits: Any, labels: Any, label_smoothing: float = 0.0, class_weight: Any = None
) -> float:
    """labels: (N,) class ids or (N, K) distributions."""
    N, K = logits.shape
    total = 0.0
    for n in range(N):
        row = [float(v) for v in logits[n]]
        target = [float(k == labels[n]) for k in range(K)] if labels.ndim == 1 else labels[n]
        weight = 1.0
        if class_weight is not None:
            weight = sum(float(t) * float(v) for t, v in zip(target, class_weight, strict=True))
        log_sum = max(row) + log(sum(exp(v - max(row)) for v in row))
        for k in range(K):
            smooth = (1 - label_smoothing) * float(target[k]) + label_smoothing / K
            total -= weight * smooth * (row[k] - log_sum)
    return total / N


def batchnorm(x: Any, gamma: Any, beta: Any, eps: float) -> tuple[np.ndarray, list, list]:
    """Return y and every channel's mean and (biased) variance; x: (..., C)."""
    rows = x.reshape(-1, x.shape[-1])
    y, means, variances = np.zeros(rows.shape), [], []
    for c in range(rows.shape[1]):
        values = [float(v) for v in rows[:, c]]
        mean = sum(values) / len(values)
        variance = sum((v - mean) ** 2 for v in values) / len(values)
        for m, v in enumerate(values):
            y[m, c] = float(gamma[c]) * (v - mean) / sqrt(variance + eps) + float(beta[c])
        means.append(mean)
        variances.append(variance)
    return y.reshape(x.shape), means, variances


def elementwise(formula: Any, x: Any) -> np.ndarray:
    return np.array([formula(v) for v in x.ravel().tolist()]).reshape(x.shape)


def relu(x: float) -> float:
    return x if x > 0 else 0.0


def leaky_relu(x: float, slope: float = 0.3) -> float:
    return x if x > 0 else slope * x


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


def silu(x: float) -> float:
    return x / (1 + exp(-x))


def gelu(x: float) -> float:
    return x * (1 + erf(x / sqrt(2))) / 2
