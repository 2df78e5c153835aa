"""A small network, and its application; who needs no extra package asks for neither."""

from __future__ import annotations

import pytest

import minicnn as mc

CLASSES = ("disc", "ring", "<script>alert(1)</script>", "cat & dog", *"abcdef")


@pytest.fixture(scope="session")
def model():
    """A network with more than one place left, so that Grad-CAM has something to show."""
    return small_model()


def small_model(**more):
    model = mc.Sequential(
        mc.Normalize(),
        mc.Conv2D(4, 3, name="conv"),
        mc.ReLU(),
        mc.MaxPool2D(4),
        mc.Flatten(),
        mc.Dense(10),
    ).build(more.pop("shape", (32, 32, 3)), seed=3, **more)
    model.classes = CLASSES
    return model


@pytest.fixture(scope="session")
def model_file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("served") / "model.safetensors"
    mc.save(model, path)
    return path
