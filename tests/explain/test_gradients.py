"""Grad-CAM, saliency and feature maps: what they say by hand, and that nothing is changed.

That they are PyTorch's is in test_torch.py.
"""

from __future__ import annotations

import threading

import numpy as np
import pytest
from standin import installed

import minicnn as mc
from minicnn import explain
from minicnn.explain.gradients import enlarge

from .nets import NETS, SHAPE, corner_model, pictures, settled

EACH = {
    "grad_cam": explain.grad_cam,
    "saliency": explain.saliency,
    "occlusion": lambda model, x: explain.occlusion(model, x, size=6, stride=6),
    "feature_maps": explain.feature_maps,
}
each = pytest.mark.parametrize("way", EACH.values(), ids=EACH)


@pytest.mark.parametrize("target", range(4))
def test_saliency_sees_only_the_corner_that_counts(target):
    x = pictures(3, (8, 8, 3))
    heat = explain.saliency(corner_model(), x, target)
    assert heat.dtype == np.float32
    expected = np.zeros((8, 8))
    expected[4 * (target // 2) :, 4 * (target % 2) :][:4, :4] = 1 / 16
    np.testing.assert_allclose(heat, [expected] * 3, rtol=1e-6)


def test_grad_cam_by_hand():
    """Two maps of 2 x 2: one bright at the upper left and for the class, one against it."""
    model = mc.Sequential(mc.Conv2D(2, 1, use_bias=False), mc.GlobalAveragePool2D(), mc.Dense(2))
    model.build((2, 2, 2), dtype="float64")
    model.params["conv2d_1/w"][...] = np.eye(2)
    model.params["dense_1/w"][...] = [[1, -3], [-2, 1]]
    x = np.array([[[[8, 0], [4, 1]], [[2, 3], [0, 4]]]], "float64")
    # relu(8 - 0), relu(4 - 2), relu(2 - 6), relu(0 - 8), over 8; then relu(-24 + 0) ...
    np.testing.assert_allclose(explain.grad_cam(model, x, 0), [[[1, 0.25], [0, 0]]], rtol=1e-6)
    np.testing.assert_allclose(explain.grad_cam(model, x, 1), [[[0, 0], [0, 1]]], rtol=1e-6)


def test_grad_cam_is_zero_where_nothing_speaks_for_the_class():
    model = mc.Sequential(mc.Conv2D(1, 1, use_bias=False), mc.GlobalAveragePool2D(), mc.Dense(2))
    model.build((4, 4, 1))
    model.params["conv2d_1/w"][...] = 1
    model.params["dense_1/w"][...] = [[1, -1]]
    x = np.ones((2, 4, 4, 1), "float32")
    assert (explain.grad_cam(model, x, [0, 1]) == np.array([1, 0])[:, None, None]).all()


@pytest.mark.parametrize("name", NETS)
def test_explanations_take_the_predicted_class(name):
    model, x = settled(NETS[name]()), pictures(6)
    model.params["dense_1/b"][...] -= model.infer(x).mean(axis=0)
    said = mc.predict(model, x).argmax(axis=1)
    assert len(set(said.tolist())) > 1
    for way in (explain.grad_cam, explain.saliency, explain.occlusion):
        found = way(model, x)
        np.testing.assert_array_equal(found, way(model, x, said))
        np.testing.assert_allclose(found[2], way(model, x[2:3], int(said[2]))[0], atol=1e-6)
        assert not np.allclose(found, way(model, x, (said + 1) % 4))


@pytest.mark.parametrize("name", NETS)
def test_grad_cam_of_the_default_is_that_of_the_last_layer_with_places(name):
    model, x = settled(NETS[name]()), pictures()
    last = {"plain": "dropout_1", "residual": "concat_1"}[name]
    expected = explain.grad_cam(model, x, 1)
    np.testing.assert_array_equal(expected, explain.grad_cam(model, x, 1, last))
    np.testing.assert_array_equal(expected, explain.grad_cam(model, x, 1, model[last]))
    assert expected.any()


def test_grad_cam_of_a_model_in_a_model_and_of_one_place():
    """A last map of 1 x 1 tells nothing of where."""
    inner = mc.Sequential(mc.Conv2D(4, 3, name="inner"), mc.ReLU(), name="front")
    model = mc.Sequential(inner, mc.MaxPool2D(6), mc.Flatten(), mc.Dense(3)).build((8, 8, 3))
    x = np.random.default_rng(0).standard_normal((3, 8, 8, 3)).astype("float32")
    expected = explain.grad_cam(model, x, 0)
    np.testing.assert_array_equal(expected, explain.grad_cam(model, x, 0, "front/relu_1"))
    np.testing.assert_array_equal(expected, explain.grad_cam(model, x, 0, "front"))
    assert explain.grad_cam(model, x, 0, "inner").shape == (3, 8, 8)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 7])
@pytest.mark.parametrize("name", EACH)
def test_explanations_do_not_depend_on_the_batch(name, batch_size):
    model, x = settled(NETS["residual"]()), pictures(5)
    way = getattr(explain, name)
    found = way(model, x, batch_size=batch_size)
    np.testing.assert_allclose(found, way(model, x), rtol=1e-5, atol=1e-7)


def test_explanations_are_of_logits_not_of_probabilities():
    """A Softmax at the end changes nothing, also where it is certain and has no slope left."""
    x = np.zeros((1, 8, 8, 3), "uint8")
    x[:, :4, :4] = 255
    plain, soft = corner_model(mc.Scale(300.0)), corner_model(mc.Scale(300.0), mc.Softmax())
    assert mc.predict(soft, x).max() == 1
    for way in (explain.saliency, explain.grad_cam):
        np.testing.assert_array_equal(way(soft, x), way(plain, x))
    assert explain.saliency(soft, x).max() > 1


@each
@pytest.mark.parametrize("name", NETS)
def test_explanations_leave_the_model_as_it_was(name, way):
    """Between forward and backward of a step, with gradients of the last one, and random places."""
    model, x = settled(NETS[name](), dtype="float32"), pictures(6)
    labels = np.arange(6) % 4
    optimizer = mc.SGD(0.01)
    mc.train_step(model, optimizer, x, labels)
    y = model.forward(x, training=True)
    arrays = {**model.params, **model.state, **{f"d{k}": v for k, v in model.grads.items()}}
    before = {key: array.copy() for key, array in arrays.items()}
    caches = [layer.cache for layer in model.walk()]
    places = {key: stream.position for key, stream in model.streams.items()}
    attributes = [dict(vars(layer)) for layer in model.walk()]
    way(model, x)
    for key, array in before.items():
        np.testing.assert_array_equal(arrays[key], array, err_msg=key)
    assert all(layer.cache is cache for layer, cache in zip(model.walk(), caches, strict=True))
    assert {key: stream.position for key, stream in model.streams.items()} == places
    for layer, kept in zip(model.walk(), attributes, strict=True):
        assert vars(layer).keys() == kept.keys()
        assert all(vars(layer)[key] is value for key, value in kept.items())
    model.backward(np.ones_like(y))
    assert any(array.any() for array in model.grads.values())


@each
def test_explanations_between_steps_change_no_training(way):
    models = [settled(NETS["plain"](), dtype="float32") for _ in range(2)]
    optimizers = [mc.Adam(0.01) for _ in models]
    x, labels = pictures(8), np.arange(8) % 4
    for _ in range(3):
        for k, (model, optimizer) in enumerate(zip(models, optimizers, strict=True)):
            mc.train_step(model, optimizer, x, labels)
            if k:
                way(model, x)
    np.testing.assert_array_equal(models[0].params.data, models[1].params.data)
    for one, other in zip(models[0].state.values(), models[1].state.values(), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(way(models[0], x), way(models[1], x))


def test_explanations_follow_the_weights():
    """Nothing of an earlier call is kept."""
    model, x = settled(NETS["plain"]()), pictures()
    first = explain.saliency(model, x, 0)
    model.params["dense_1/w"][...] *= 2
    np.testing.assert_allclose(explain.saliency(model, x, 0), 2 * first, rtol=1e-6)


def test_explanations_of_frozen_layers():
    """What isn't trained is explained as well: nobody stops above it."""
    model, x = settled(NETS["residual"]()), pictures()
    expected = [way(model, x) for way in (explain.grad_cam, explain.saliency)]
    model.trainable = False
    for way, wanted in zip((explain.grad_cam, explain.saliency), expected, strict=True):
        np.testing.assert_array_equal(way(model, x), wanted)


def test_explanations_of_an_own_layer():
    class Square(mc.Layer):
        def forward(self, x, training=False):
            self.cache = x
            return x * x

        def backward(self, dy):
            return 2 * self.take_cache() * dy

    model = mc.Sequential(Square(), mc.GlobalAveragePool2D(), mc.Dense(2)).build((4, 4, 3))
    x = np.random.default_rng(0).standard_normal((2, 4, 4, 3)).astype("float32")
    w = model.params["dense_1/w"][:, 1]
    np.testing.assert_allclose(
        explain.saliency(model, x, 1), abs(2 * x * w / 16).max(-1), rtol=1e-5
    )
    np.testing.assert_allclose(explain.feature_maps(model, x, "square_1"), x * x, rtol=1e-6)


def test_explanations_inside_an_own_layer():
    """One that knows only forward, and one that computes without the layer inside it."""

    class Twice(mc.Layer):
        def __init__(self, calls=True):
            super().__init__()
            self.inner, self.calls = mc.ReLU(), calls

        def children(self):
            return [("inner", self.inner)]

        def resolve(self, input_shape):
            return self.inner.connect(input_shape, f"{self.path}/inner")

        def forward(self, x, training=False):
            return 2 * (self.inner.forward(x, training) if self.calls else x)

        def backward(self, dy):
            return self.inner.backward(2 * dy) if self.calls else 2 * dy

    def build(calls):
        layers = Twice(calls), mc.GlobalAveragePool2D(), mc.Dense(2)
        return mc.Sequential(*layers).build((4, 4, 3))

    x = np.random.default_rng(0).standard_normal((2, 4, 4, 3)).astype("float32")
    for name, factor in (("inner", 1), ("twice_1", 2)):
        found = explain.feature_maps(build(True), x, name)
        np.testing.assert_allclose(found, factor * np.maximum(x, 0), rtol=1e-6)
    expected = explain.grad_cam(build(True), x, 0, "twice_1")
    np.testing.assert_allclose(explain.grad_cam(build(True), x, 0, "inner"), expected, rtol=1e-5)
    for way in (explain.grad_cam, explain.feature_maps):
        with pytest.raises(ValueError, match="twice_1/inner: the model doesn't go through it"):
            way(build(False), x, layer="inner")


def test_explanations_in_several_threads():
    model, x = settled(NETS["residual"](), dtype="float32"), pictures(4)
    expected = [way(model, x) for way in EACH.values()]
    wrong = []

    def work():
        for _ in range(3):
            for way, wanted in zip(EACH.values(), expected, strict=True):
                if not np.array_equal(way(model, x), wanted):
                    wrong.append(way)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@each
def test_explanations_on_the_gpus_path(way):
    x = pictures(3)
    expected = way(settled(NETS["residual"](), dtype="float32"), x)
    with installed() as cupy:
        model = settled(NETS["residual"](), dtype="float32", device="gpu")
        before = model.params.data.get()
        for pixels in (x, cupy.asarray(x)):
            found = way(model, pixels)
            assert type(found) is np.ndarray
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(model.params.data.get(), before)


def test_enlarge_interpolates_between_middles():
    maps = np.array([[[0.0, 4.0]]])
    np.testing.assert_allclose(enlarge(maps, (2, 8)), [[[0, 0, 0.5, 1.5, 2.5, 3.5, 4, 4]] * 2])
    np.testing.assert_array_equal(enlarge(np.eye(3)[None], (3, 3)), np.eye(3)[None])
    np.testing.assert_allclose(enlarge(np.full((1, 3, 2), 7.0), (11, 5)), np.full((1, 11, 5), 7))


# What is refused.

TARGETS = [
    (4, ValueError, "target 4: expected None, a class from 0 to 3, or one for each of the 5"),
    (-1, ValueError, "target -1"),
    (1.0, TypeError, "target 1.0: expected None"),
    (True, TypeError, "target True"),
    ("cat", TypeError, "target 'cat'"),
    ([0, 1], ValueError, r"target of shape \(2,\)"),
    ([0, 1, 2, 3, 9], ValueError, "target 9"),
    ([[0, 1], [2]], TypeError, "target"),
    (np.zeros((5, 4), int), ValueError, r"target of shape \(5, 4\)"),
]
LAYERS = [
    ("conv2d_9", ValueError, "no layer 'conv2d_9'; there are: normalize_1, conv2d_1, relu_1"),
    ("dense_1", ValueError, r"dense_1: its output is \(4,\): expected .* such as concat_1"),
    ("body/conv2d_1", ValueError, "there are 2; say which: residual_1/body/conv2d_1, residual_2"),
    (mc.ReLU(), ValueError, r"ReLU\(\) isn't a layer of this model"),
    (3, TypeError, "layer 3: expected a layer of the model, its name, or None"),
]


@pytest.mark.parametrize(("target", "error", "match"), TARGETS)
@pytest.mark.parametrize("name", ["grad_cam", "saliency", "occlusion"])
def test_explanations_refuse_wrong_targets(name, target, error, match):
    with pytest.raises(error, match=match):
        getattr(explain, name)(settled(NETS["plain"]()), pictures(5), target)


@pytest.mark.parametrize(("layer", "error", "match"), LAYERS)
@pytest.mark.parametrize("name", ["grad_cam", "feature_maps"])
def test_explanations_refuse_wrong_layers(name, layer, error, match):
    with pytest.raises(error, match=match):
        getattr(explain, name)(settled(NETS["residual"]()), pictures(), layer=layer)


@each
def test_explanations_refuse_wrong_pictures(way):
    model = settled(NETS["plain"]())
    with pytest.raises(mc.ShapeError, match=r"a single picture\? Give a batch of one"):
        way(model, pictures()[0])
    with pytest.raises(mc.ShapeError, match="another picture size"):
        way(model, pictures(2, (9, 9, 3)))
    with pytest.raises(mc.ShapeError, match="empty batch"):
        way(model, pictures(0))
    with pytest.raises(TypeError, match="expects uint8"):
        way(model, pictures().astype("float32"))
    with pytest.raises(RuntimeError, match="isn't built"):
        way(mc.Sequential(mc.Dense(2)), pictures())
    vectors = mc.Sequential(mc.Dense(2)).build((5,))
    with pytest.raises(ValueError, match=r"expected pictures, \(H, W, C\)"):
        way(vectors, np.zeros((2, 5), "float32"))


@pytest.mark.parametrize("name", EACH)
def test_explanations_refuse_wrong_batch_sizes(name):
    with pytest.raises(ValueError, match="batch_size 0"):
        getattr(explain, name)(settled(NETS["plain"]()), pictures(), batch_size=0)


def test_explanations_refuse_models_without_places_or_classes():
    flat = mc.Sequential(mc.Normalize(), mc.Flatten(), mc.Dense(3)).build((1, 1, 3))
    with pytest.raises(ValueError, match=r"no layer with spatial output.*try saliency or"):
        explain.grad_cam(flat, pictures(2, (1, 1, 3)))
    assert explain.saliency(flat, pictures(2, (1, 1, 3))).shape == (2, 1, 1)
    maps = mc.Sequential(mc.Normalize(), mc.Conv2D(2, 1)).build(SHAPE)
    for name in ("grad_cam", "saliency", "occlusion"):
        with pytest.raises(ValueError, match=r"output is \(12, 10, 2\): expected scores"):
            getattr(explain, name)(maps, pictures())
    assert explain.feature_maps(maps, pictures()).shape == (5, 12, 10, 2)
