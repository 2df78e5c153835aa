"""Check gradients: the formula against differences.

    report = check_function(conv2d_forward, conv2d_backward, (x, w, b))
    report = check_layer(Conv2D(8, 3), (9, 7, 3))
    report = check_model(tutorial_cnn().build((32, 32, 3)))
    print(report)
    report.raise_on_failure()

A function with many outputs is made into one number, L = sum(dy * y), with a random ``dy``.  (All
ones, a common choice, can't see outputs that were flipped, shifted or permuted.)  Then, along a
direction v in the space of one argument, dL/dh at x + h v is measured and held against
sum(dx * v).  Small arguments are checked entry by entry; of large ones, some entries and some
random directions, which see every entry at once.

Measuring: central differences at h, h/2 and h/4 in float64, extrapolated in pairs (Richardson).
Where the two results disagree, or where the slopes to the left and to the right do, there is a
kink near (ReLU at 0, a tie in max-pooling): h is made smaller, and if that doesn't help, the
direction is left out and counted.  A report with nothing left to compare has failed.
"""

from .checks import check_function, check_layer, check_model
from .report import Argument, GradientError, Report

__all__ = ["Argument", "GradientError", "Report", "check_function", "check_layer", "check_model"]
