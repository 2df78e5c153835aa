"""What the builders make: counted against the papers' and others' own figures, saved, refused."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest

import minicnn as mc
from minicnn.layers.summary import Summary
from minicnn.models import MODELS

from .small import SMALL, pictures, settled


def counts(model, shape=(32, 32, 3)):
    model.lay_out(shape)
    summary = Summary.of(model)
    return summary.parameters, summary.multiply_adds


PARAMETERS = {  # as their sources count them
    "tutorial_cnn": 122_570,  # TensorFlow's tutorial
    "cifar_cnn": 1_250_858,  # Keras' example
    # kuangliu/pytorch-cifar's, less the biases of convolutions, which BatchNorm undoes
    "vgg11": 9_231_114 - 2_752,
    "vgg13": 9_416_010 - 2_944,
    "vgg16": 14_728_266 - 4_224,
    "vgg19": 20_040_522 - 5_504,
    # He et al. 2016, table 6: 0.27, 0.46, 0.66, 0.85 and 1.7 million
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    "resnet18": 11_173_962,  # kuangliu/pytorch-cifar
    "resnet34": 21_282_122,
    "wide_resnet": 36_479_194,  # 36.5 million in Zagoruyko and Komodakis 2016
    "inception_small": 1_738_282,
    "densenet_small": 1_019_722,  # 1.0 million in Huang et al. 2017
    "speedrun94": 1_971_640,  # airbench94: 1.97 million
}
OPTIONS = {
    "resnet20 B": (lambda: mc.models.resnet20(shortcut="B"), 272_474),  # chenyaofo's
    "resnet56 B": (lambda: mc.models.resnet56(shortcut="B"), 855_770),
}
MILLIONS = {  # of the papers' tables
    "wide_resnet 40-1": (lambda: mc.models.wide_resnet(depth=40, width=1), 0.6),
    "wide_resnet 40-4": (lambda: mc.models.wide_resnet(depth=40, width=4), 8.9),
    "wide_resnet 16-8": (lambda: mc.models.wide_resnet(depth=16, width=8), 11.0),
    "wide_resnet 22-8": (lambda: mc.models.wide_resnet(depth=22, width=8), 17.2),
    "densenet 40-12": (lambda: mc.models.densenet_small(), 1.0),
    "densenet 100-12": (lambda: mc.models.densenet_small(depth=100), 7.0),
    "densenet 100-24": (lambda: mc.models.densenet_small(depth=100, growth=24), 27.2),
}


def test_every_builder_is_tried():
    assert list(PARAMETERS) == list(MODELS)
    assert {name.partition(",")[0] for name in SMALL} == set(MODELS)
    assert {name for name in mc.models.__all__ if name not in ("MODELS", "get", "whiten")} == set(
        MODELS
    )


@pytest.mark.parametrize("name", MODELS)
def test_parameters_are_the_sources_own(name):
    assert counts(MODELS[name]())[0] == PARAMETERS[name]


@pytest.mark.parametrize("name", OPTIONS)
def test_parameters_with_options(name):
    make, wanted = OPTIONS[name]
    assert counts(make())[0] == wanted


@pytest.mark.parametrize("name", MILLIONS)
def test_parameters_of_the_papers_tables(name):
    make, wanted = MILLIONS[name]
    assert counts(make())[0] / 1e6 == pytest.approx(wanted, abs=0.06)


@pytest.mark.parametrize("name", MODELS)
def test_docstring_says_what_summary_counts(name):
    doc = inspect.getdoc(MODELS[name])
    said = re.search(r"([\d,]+) parameters, ([\d,]+) multiply-adds", doc.split("\n")[0])
    assert said, doc
    assert tuple(int(text.replace(",", "")) for text in said.groups()) == counts(MODELS[name]())
    assert " -> " in doc and "%" in doc


def test_multiply_adds_are_those_of_the_tables():
    """ResNet-20 B 40.8 and VGG-16 313 million: chenyaofo's tables and others', by convolution."""
    assert counts(mc.models.resnet20(shortcut="B"))[1] == 40_813_184
    convolutions = sum(
        pixels * 9 * a * b
        for pixels, pairs in (
            (32 * 32, [(3, 64), (64, 64)]),
            (16 * 16, [(64, 128), (128, 128)]),
            (8 * 8, [(128, 256), (256, 256), (256, 256)]),
            (4 * 4, [(256, 512), (512, 512), (512, 512)]),
            (2 * 2, [(512, 512)] * 3),
        )
        for a, b in pairs
    )
    assert counts(mc.models.vgg16())[1] == convolutions + 512 * 10


@pytest.mark.parametrize("name", MODELS)
def test_classes_come_first(name):
    first, *others = inspect.signature(MODELS[name]).parameters.values()
    assert (first.name, first.default) == ("classes", 10)
    assert all(option.default is not option.empty for option in others)
    model = MODELS[name](7)
    model.lay_out((32, 32, 3))
    assert model.output_shape == (7,)
    assert isinstance(model[0], mc.Normalize)


@pytest.mark.parametrize("name", SMALL)
def test_builder_is_saved_and_loaded(name, tmp_path):
    model, x = settled(name), pictures(SMALL[name][1], 3)
    mc.save(model, tmp_path / "model.safetensors")
    twin = mc.load(tmp_path / "model.safetensors")
    assert twin.config() == model.config()
    assert list(twin.params) == list(model.params)
    np.testing.assert_array_equal(mc.predict(twin, x), mc.predict(model, x))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: mc.models.resnet20(shortcut="C"), "shortcut 'C': expected one of A, B"),
        (lambda: mc.models.resnet18(filters=0), "filters 0: expected an integer >= 1"),
        (lambda: mc.models.vgg16(filters=2.5), "filters 2.5: expected an integer >= 1"),
        (lambda: mc.models.wide_resnet(depth=29), r"depth 29: expected 6n \+ 4"),
        (lambda: mc.models.wide_resnet(depth=4), r"depth 4: expected 6n \+ 4"),
        (lambda: mc.models.wide_resnet(width=0), "wide_resnet: width 0"),
        (lambda: mc.models.wide_resnet(dropout=1.0), "wide_resnet: dropout 1.0.* < 1"),
        (lambda: mc.models.inception_small(filters=6), "filters 6: expected a multiple of 4"),
        (lambda: mc.models.densenet_small(depth=41), r"depth 41: expected 3n \+ 4"),
        (lambda: mc.models.densenet_small(growth=0), "densenet_small: growth 0"),
        (lambda: mc.models.get("resnet19"), "model 'resnet19': expected one of tutorial_cnn, cif"),
    ],
)
def test_builder_refuses(make, text):
    with pytest.raises(ValueError, match=text):
        make()
