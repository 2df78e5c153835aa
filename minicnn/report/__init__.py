"""The report on a trained network: one HTML file that needs nothing else.

    mc.report.write(model, x_test, y_test, "report.html")

Where it errs and how sure it is, pictures with its answers, where it looked, what is in it, and, of
a run, how it was trained.  Pictures are inside the file; there is no script and nothing to load.
"""

from .writing import write

__all__ = ["write"]
