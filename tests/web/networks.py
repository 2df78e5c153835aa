"""A network to serve."""

import minicnn as mc

CLASSES = ("disc", "ring", "<script>alert(1)</script>", "cat & dog", *"abcdef")


def small_network(shape=(32, 32, 3), **more):
    """With more than one place left, so that Grad-CAM has something to show."""
    model = mc.Sequential(
        mc.Normalize(),
        mc.Conv2D(4, 3, name="conv"),
        mc.ReLU(),
        mc.MaxPool2D(4),
        mc.Flatten(),
        mc.Dense(10),
    ).build(shape, seed=3, **more)
    model.classes = CLASSES
    return model
