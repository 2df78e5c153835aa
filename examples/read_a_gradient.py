"""Read a gradient: one small convolution, its gradient by formula and by difference.

    python examples/read_a_gradient.py

The loss is a weighted sum of the outputs, L = sum(dy * y).  Its gradient for one weight can be had
in two ways: by the formula in minicnn/functional/conv.py, and by turning that weight up and down a
little and watching L.  Both are printed side by side, for every weight of one filter.
"""

import numpy as np

from minicnn.functional.conv import conv2d_backward, conv2d_forward

rng = np.random.default_rng(0)
x = rng.standard_normal((1, 6, 6, 2))  # one picture, 6 x 6, two channels
w = rng.standard_normal((3, 3, 2, 4))  # four 3 x 3 filters
b = rng.standard_normal(4)

y, cache = conv2d_forward(x, w, b)
dy = rng.standard_normal(y.shape)  # what the layers above would hand down
dx, dw, db = conv2d_backward(dy, cache)


def loss():
    """Return L for x, w and b as they are now."""
    return float((conv2d_forward(x, w, b)[0] * dy).sum())


def difference(array, index, h=1e-6):
    """Turn one number up and down by h and return the slope of L."""
    kept = array[index]
    array[index] = kept + h
    up = loss()
    array[index] = kept - h
    down = loss()
    array[index] = kept
    return (up - down) / (2 * h)


def compare(name, array, gradient, indices):
    """Print formula and difference side by side; return the largest difference of the two."""
    print(f"\n{'':14}{'formula':>14}{'difference':>14}{'apart':>10}")
    largest = 0.0
    for index in indices:
        slope = difference(array, index)
        apart = abs(gradient[index] - slope)
        largest = max(largest, apart)
        label = f"{name}[{','.join(map(str, index))}]"
        print(f"{label:14}{gradient[index]:14.8f}{slope:14.8f}{apart:10.1e}")
    return largest


print("y[n,oh,ow,o] = b[o] + sum_ijc x[n,oh+i,ow+j,c] w[i,j,c,o]        L = sum(dy * y)")
worst = max(
    compare("dL/dw", w, dw, [(i, j, c, 0) for i in range(3) for j in range(3) for c in range(2)]),
    compare("dL/db", b, db, [(o,) for o in range(4)]),
    compare("dL/dx", x, dx, [(0, h, h, 0) for h in range(6)]),
)
print(f"\nThe formula and the difference are at most {worst:.1e} apart.")
