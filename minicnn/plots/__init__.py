"""Pictures of training, of predictions and of what is in a network, by matplotlib (extra ``plot``).

    from minicnn import plots

    figure = plots.training_curves(epochs)
    plots.save(figure, "curves.png")

Every function returns a matplotlib ``Figure`` that belongs to nobody else: pyplot isn't used.
Colours can be told apart by the colour-blind (Okabe and Ito 2008; viridis), and right and wrong
also by a mark.  Class names are written as they are, whatever is in them.
"""

from .curves import range_test, training_curves
from .figure import new_figure, save
from .network import explanations, feature_maps, filters
from .pictures import image_grid, misclassified, predictions
from .scores import class_scores, confusion_matrix, reliability

__all__ = [
    "class_scores",
    "confusion_matrix",
    "explanations",
    "feature_maps",
    "filters",
    "image_grid",
    "misclassified",
    "new_figure",
    "predictions",
    "range_test",
    "reliability",
    "save",
    "training_curves",
]
