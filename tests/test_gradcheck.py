"""The checker itself: it names planted bugs, and is silent where nothing is wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
from functional.planted_bugs import BUGS, OPERATIONS

import minicnn as mc
from minicnn.functional import activation, dense, pool
from minicnn.gradcheck import GradientError, check_function, check_layer, check_model
from minicnn.layers import LAYERS

NUMBERS = re.compile(
    r"^(?P<name>\w+(/\w+)*)(?P<index>\[[\d, ]*\]| direction \d): "
    r"the formula says (?P<formula>\S+), the difference (?P<difference>\S+) "
    r"\(error (?P<error>\S+), allowed 1e-06\)$"
)


def blamed(report):
    """Return the names in the failures, after making sure that each is told with both numbers."""
    found = {}
    for text in report.failures():
        match = NUMBERS.match(text)
        assert match, text
        assert f"  {text}" in str(report).splitlines()
        found[match["name"]] = match
    return found


def gradients(operation, inputs, backward=None):
    """Return the gradients that `check_function` gets to see, by the same dy."""
    y, cache = operation.forward(*inputs)
    dy = np.asarray(np.random.default_rng(0).standard_normal(np.shape(y)))
    grads = (backward or operation.backward)(dy, cache)
    return grads if isinstance(grads, tuple) else (grads,)


# Functions.


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", OPERATIONS)
def test_check_function_passes_right_gradients(name, seed):
    operation = OPERATIONS[name]
    inputs = operation.inputs(np.random.default_rng(seed))
    report = check_function(operation.forward, operation.backward, inputs, seed=seed)
    assert report.passed, str(report)
    assert all(a.kinks == 0 and a.checked == np.prod(a.shape) for a in report.arguments)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_check_function_names_the_planted_bug(bug):
    inputs = bug.operation.inputs(np.random.default_rng(1))
    report = check_function(bug.forward, bug.backward, inputs)
    assert not report
    found = blamed(report)
    assert set(found) == set(bug.blamed)
    with pytest.raises(GradientError, match=re.escape(f"{bug.blamed[0]}[")):
        report.raise_on_failure()

    # Both numbers are those of that entry: the wrong gradient's, and the right one's.
    right = gradients(bug.operation, inputs)
    y, cache = bug.forward(*inputs)
    dy = np.asarray(np.random.default_rng(0).standard_normal(np.shape(y)))
    wrong = bug.backward(dy, cache)
    wrong = wrong if isinstance(wrong, tuple) else (wrong,)
    for a, r, w in zip(report.arguments, right, wrong, strict=False):
        if a.name in found:
            index = tuple(int(i) for i in re.findall(r"\d+", found[a.name]["index"]))
            floor = 1e-5 * abs(r).max()
            assert float(found[a.name]["formula"]) == pytest.approx(w[index], rel=1e-6, abs=1e-15)
            assert float(found[a.name]["difference"]) == pytest.approx(
                r[index], rel=1e-6, abs=floor
            )


def test_there_are_many_planted_bugs():
    assert len(BUGS) >= 40
    assert len({bug.name for bug in BUGS}) == len(BUGS)
    unharmed = set(OPERATIONS) - {bug.name.split(":")[0] for bug in BUGS}
    assert not unharmed


def in_float32(dy, cache):
    return tuple(g.astype("float32") for g in dense.dense_backward(dy, cache))


def in_another_shape(dy, cache):
    dx, dw, db = dense.dense_backward(dy, cache)
    return dx, dw, db[None]


def in_a_shape_that_broadcasts(dy, cache):
    dx, dw, _ = dense.dense_backward(dy, cache)
    return dx, dw, dy


def with_a_nan(dy, cache):
    dx, dw, db = dense.dense_backward(dy, cache)
    dw[0, 1] = np.nan
    return dx, dw, db


def with_an_infinity(dy, cache):
    dx, dw, db = dense.dense_backward(dy, cache)
    dx[-1, -1] = np.inf
    return dx, dw, db


def input_modified(dy, cache):
    grads = dense.dense_backward(dy, cache)
    cache[0][0, 0] += 1
    return grads


@pytest.mark.parametrize(
    ("backward", "message"),
    [
        (in_float32, r"x: the gradient is \(4, 3\) float32, the argument \(4, 3\) float64"),
        (in_another_shape, r"b: the gradient is \(1, 3\) float64, the argument \(3,\) float64"),
        (in_a_shape_that_broadcasts, r"b: the gradient is \(4, 3\) float64, the argument \(3,\)"),
        (with_a_nan, r"w: the gradient has values that aren't finite"),
        (with_an_infinity, r"x: the gradient has values that aren't finite"),
        (input_modified, r"x: the input was changed by forward or backward"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_check_function_says_what_is_wrong_with_an_array(backward, message):
    operation = OPERATIONS["dense"]
    inputs = operation.inputs(np.random.default_rng(1))
    report = check_function(operation.forward, backward, inputs)
    assert not report.passed
    with pytest.raises(GradientError, match=message):
        report.raise_on_failure()


def test_check_function_sees_an_input_modified_by_forward():
    def forward(x):
        x *= x > 0  # ReLU in place
        return x.copy(), x > 0

    x = np.array([[-1.5, 2.5], [3.5, -4.5]])
    report = check_function(forward, lambda dy, cache: dy * cache, [x])
    assert not report.passed
    assert "x: the input was changed" in str(report)
    np.testing.assert_array_equal(x, [[-1.5, 2.5], [3.5, -4.5]])  # the caller's array is safe


def test_check_function_sees_a_modified_dy():
    """A backward that writes into dy spoils the other branch's gradient."""

    def backward(dy, cache):
        dy *= cache > 0
        return dy

    report = check_function(activation.relu_forward, backward, [np.array([-1.5, 2.5, -3.5])])
    assert not report.passed
    assert "dy" in str(report)


def test_check_function_sees_a_missing_gradient():
    """(dx, dw) for (x, w, b): the bias was forgotten, not left out by a None."""

    def backward(dy, cache):
        return dense.dense_backward(dy, cache)[:2]

    inputs = OPERATIONS["dense"].inputs(np.random.default_rng(1))
    report = check_function(dense.dense_forward, backward, inputs)
    assert not report.passed
    assert re.search(r"^  b: ", str(report), re.MULTILINE)


def test_check_function_sees_that_one_array_isnt_a_gradient_for_three():
    inputs = OPERATIONS["dense"].inputs(np.random.default_rng(1))
    alone = check_function(
        dense.dense_forward, lambda dy, c: dense.dense_backward(dy, c)[0], inputs
    )
    assert set(re.findall(r"^  (\w+): backward returned", str(alone), re.MULTILINE)) == {"w", "b"}


def test_check_function_leaves_out_what_is_none():
    def backward(dy, cache):
        return None, *dense.dense_backward(dy, cache)[1:]

    inputs = OPERATIONS["dense"].inputs(np.random.default_rng(1))
    report = check_function(dense.dense_forward, backward, inputs)
    assert report.passed
    assert [a.name for a in report.arguments] == ["w", "b"]


def test_check_function_with_nothing_to_compare_fails():
    report = check_function(activation.relu_forward, lambda dy, cache: None, [np.ones(3)])
    assert not report.passed


def test_check_function_checks_in_float64_whatever_it_gets():
    inputs = [a.astype("float32") for a in OPERATIONS["dense"].inputs(np.random.default_rng(1))]
    assert check_function(dense.dense_forward, dense.dense_backward, inputs).passed


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1e3, 1e6])
def test_check_function_is_blind_to_units(scale):
    """Small and large numbers: the right gradient passes, one off by 1e-5 fails."""
    x, w, b = OPERATIONS["dense"].inputs(np.random.default_rng(1))

    def slightly_off(dy, cache):
        dx, dw, db = dense.dense_backward(dy, cache)
        return dx * (1 + 1e-5), dw, db

    inputs = x * scale, w, b * scale
    assert check_function(dense.dense_forward, dense.dense_backward, inputs).passed
    report = check_function(dense.dense_forward, slightly_off, inputs)
    assert set(blamed(report)) == {"x"}


@pytest.mark.parametrize("size", [(30, 40), (7, 3)])
@pytest.mark.parametrize("wrong", [0, -1])
def test_check_function_sees_one_wrong_entry(size, wrong):
    """In a large argument too, where only some entries are checked one by one."""

    def backward(dy, cache):
        dx = activation.tanh_backward(dy, cache)
        dx.flat[wrong] += 0.5
        return dx

    x = np.random.default_rng(2).standard_normal(size)
    report = check_function(activation.tanh_forward, backward, [x])
    assert set(blamed(report)) == {"x"}
    assert check_function(activation.tanh_forward, activation.tanh_backward, [x]).passed


def test_check_function_repeats_with_the_seed():
    x = np.random.default_rng(2).standard_normal((20, 30))
    reports = [
        str(check_function(activation.tanh_forward, activation.tanh_backward, [x], seed=seed))
        for seed in (3, 3, 4)
    ]
    assert reports[0] == reports[1] != reports[2]


# Kinks.


def test_relu_at_zero_is_a_kink_and_no_failure():
    x = np.array([-1.5, 0.0, 2.5, 0.0, -3.5])
    report = check_function(activation.relu_forward, activation.relu_backward, [x])
    assert report.passed, str(report)
    (argument,) = report.arguments
    assert (argument.checked, argument.kinks) == (3, 2)


def test_a_tie_in_maxpool_is_a_kink_and_no_failure():
    x = np.array([1.0, 1.0, -5.0, -6.0]).reshape(1, 2, 2, 1)
    report = check_function(partial(pool.maxpool2d_forward, size=2), pool.maxpool2d_backward, [x])
    assert report.passed, str(report)
    assert (report.arguments[0].checked, report.arguments[0].kinks) == (2, 2)


def test_kinks_alone_arent_a_success():
    report = check_function(activation.relu_forward, activation.relu_backward, [np.zeros((2, 3))])
    assert not report.passed
    assert "x: nothing could be compared, 6 kinks" in str(report)


def test_a_bug_beside_kinks_is_found():
    x = np.array([-1.5, 0.0, 2.5, 0.0, -3.5])
    report = check_function(activation.relu_forward, lambda dy, cache: dy * (cache >= 0), [x])
    assert set(blamed(report)) == {"x"}
    assert report.arguments[0].kinks == 2


@pytest.mark.parametrize("distance", [1e-4, 3e-6])
def test_a_kink_near_by_gives_no_false_alarm(distance):
    x = np.array([-1.5, distance, 2.5, -distance])
    report = check_function(activation.relu_forward, activation.relu_backward, [x])
    assert report.passed, str(report)
    assert report.arguments[0].checked >= 2


# Layers.

LAYER_CASES = {
    "AveragePool2D": (mc.AveragePool2D(3, 2, "same"), (5, 6, 2)),
    "BatchNorm": (mc.BatchNorm(), (3, 4, 2)),
    "BatchNorm, flat": (mc.BatchNorm(), (5,)),
    "BatchNorm, bare": (mc.BatchNorm(center=False, scale=False), (3, 4, 2)),
    "Concat": (mc.Concat([[mc.Conv2D(2, 1), mc.Tanh()], mc.MaxPool2D(3, 1, "same")]), (4, 5, 3)),
    "Concat, x itself": (mc.Concat([None, [mc.Conv2D(2, 1), mc.Tanh()]]), (4, 5, 3)),
    "Conv2D": (mc.Conv2D(3, (3, 2), (2, 1), "same"), (5, 6, 2)),
    "Conv2D, grouped": (mc.Conv2D(4, 3, groups=2, dilation_rate=(1, 2), padding=2), (4, 5, 4)),
    "Conv2D, no bias": (mc.Conv2D(3, 2, use_bias=False), (4, 4, 2)),
    "Dense": (mc.Dense(4), (5,)),
    "Dense, no bias": (mc.Dense(4, use_bias=False), (5,)),
    "Dropout": (mc.Dropout(0.4), (4, 3, 2)),
    "Flatten": (mc.Flatten(), (3, 4, 2)),
    "GELU": (mc.GELU(), (3, 4, 2)),
    "GlobalAveragePool2D": (mc.GlobalAveragePool2D(), (3, 4, 2)),
    "LeakyReLU": (mc.LeakyReLU(0.1), (3, 4, 2)),
    "MaxPool2D": (mc.MaxPool2D(3, 2, 1), (5, 6, 2)),
    "Normalize": (mc.Normalize((0.5, -1.0), (0.2, 3.0), 0.1), (3, 4, 2)),
    "PadChannels": (mc.PadChannels(5), (3, 4, 2)),
    "ReLU": (mc.ReLU(), (3, 4, 2)),
    "Residual": (mc.Residual([mc.Conv2D(2, 3, padding="same"), mc.Tanh()]), (4, 3, 2)),
    "Residual, shortcut": (mc.Residual(mc.Conv2D(4, 3, 2, "same"), mc.Conv2D(4, 1, 2)), (4, 5, 2)),
    "Sequential": (mc.Sequential(mc.Conv2D(2, 3), mc.SiLU(), mc.Flatten(), mc.Dense(3)), (5, 4, 2)),
    "Scale": (mc.Scale(0.3), (3, 4, 2)),
    "SiLU": (mc.SiLU(), (3, 4, 2)),
    "Sigmoid": (mc.Sigmoid(), (3, 4, 2)),
    "Softmax": (mc.Softmax(), (5,)),
    "Tanh": (mc.Tanh(), (3, 4, 2)),
}


def test_every_layer_is_checked():
    assert {name.split(",")[0] for name in LAYER_CASES} == set(LAYERS)
    for name, (layer, _) in LAYER_CASES.items():
        assert type(layer) is LAYERS[name.split(",")[0]]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", LAYER_CASES)
def test_check_layer_passes_every_layer(name, training, seed):
    layer, shape = LAYER_CASES[name]
    report = check_layer(layer, shape, training=training, seed=seed)
    assert report.passed, str(report)
    parameters = mc.Sequential(layer).build(shape).params
    assert [a.name for a in report.arguments[1:]] == [p.split("/", 1)[1] for p in parameters]
    assert sum(a.kinks for a in report.arguments) == 0, str(report)


def test_check_layer_leaves_the_layer_alone():
    model = mc.Sequential(mc.Conv2D(3, 2), mc.BatchNorm(), mc.Dropout(0.5)).build((4, 4, 2))
    before = model.params.data.copy(), {k: v.copy() for k, v in model.state.items()}
    for layer in model:
        assert check_layer(layer, layer.input_shape).passed
    np.testing.assert_array_equal(model.params.data, before[0], strict=True)
    for name, value in before[1].items():
        np.testing.assert_array_equal(model.state[name], value, strict=True)
    assert all(stream.position == 0 for stream in model.streams.values())


# Layers of one's own, written as layers/base.py says.


class Square(mc.Layer):
    def forward(self, x, training=False):
        self.cache = x
        return x * x

    def backward(self, dy):
        return 2 * self.take_cache() * dy


class HalfSquare(Square):
    def backward(self, dy):
        return self.take_cache() * dy


@dataclass(eq=False, repr=False)
class Scale(mc.Layer):
    """y = a * x + c, a and c for each channel; ``bug`` spoils one gradient."""

    bug: str = ""

    def resolve(self, input_shape):
        self.declare("a", input_shape[-1:], "ones")
        self.declare("c", input_shape[-1:], decay=False)
        return input_shape

    def forward(self, x, training=False):
        self.cache = x
        return self.a * x + self.c

    def backward(self, dy):
        x, axes = self.take_cache(), tuple(range(dy.ndim - 1))
        self.da[...] = (dy * x).sum(axes) * (0.5 if self.bug == "a" else 1)
        if self.bug != "c":
            self.dc[...] = dy.sum(axes)
        return dy * (1 if self.bug == "x" else self.a)


@pytest.mark.parametrize("layer", [Square(), Scale()], ids=repr)
def test_check_layer_passes_own_layers(layer):
    assert check_layer(layer, (3, 4, 2)).passed
    assert check_layer(layer, (5,), training=False, batch_size=2).passed


def test_check_layer_sees_a_gradient_that_isnt_written():
    report = check_layer(Scale("c"), (3, 4, 2))
    assert report.failures() == [
        "c: backward doesn't write all of its gradient, or only adds to it"
    ]


@pytest.mark.parametrize("bug", ["x", "a"])
def test_check_layer_names_the_argument_of_a_bug(bug):
    report = check_layer(Scale(bug), (3, 4, 2))
    assert set(blamed(report)) == {bug}
    assert f"Scale(bug='{bug}'): FAILED" in str(report)


def test_check_layer_names_the_input_of_a_bug():
    assert set(blamed(check_layer(HalfSquare(), (3, 4)))) == {"x"}


class DroppedOnlyForward(mc.Dropout):
    def backward(self, dy):
        self.take_cache()
        return dy


def test_check_layer_sees_a_bug_of_the_training_mode_only_there():
    assert set(blamed(check_layer(DroppedOnlyForward(0.5), (4, 5)))) == {"x"}
    assert check_layer(DroppedOnlyForward(0.5), (4, 5), training=False).passed


class ForgetsTheRunningMean(mc.BatchNorm):
    def backward(self, dy):
        go_back, cache = self.cache
        if len(cache) == 4:  # x, gamma, mean, inverse: in inference
            x, gamma, mean, inverse = cache
            self.cache = go_back, (x, gamma, mean * 0, inverse)
        return super().backward(dy)


def test_check_layer_doesnt_leave_state_at_its_trivial_start():
    """At running statistics of 0 and 1, forgetting them can't be seen."""
    report = check_layer(ForgetsTheRunningMean(), (3, 4, 2), training=False)
    assert set(blamed(report)) == {"gamma"}


class SpoilsDy(mc.ReLU):
    def backward(self, dy):
        dy *= self.take_cache() > 0
        return dy


def test_check_layer_sees_a_modified_dy():
    report = check_layer(SpoilsDy(), (3, 4, 2))
    assert not report.passed
    assert "dy" in str(report)


# Models.


def small_model():
    return mc.Sequential(
        mc.Normalize(0.5, 0.25),
        mc.Conv2D(4, 3, padding="same", use_bias=False),
        mc.BatchNorm(),
        mc.SiLU(),
        mc.Residual([mc.Conv2D(4, 3, padding="same"), mc.Tanh()]),
        mc.Concat([mc.Conv2D(2, 1), [mc.Conv2D(3, 3, padding="same"), mc.GELU()]]),
        mc.MaxPool2D(2),
        mc.Dropout(0.3),
        mc.Flatten(),
        mc.Dense(5),
    )


@pytest.mark.parametrize("training", [True, False])
def test_check_model_passes_a_right_model(training):
    model = small_model().build((6, 5, 3), seed=1)
    report = check_model(model, training=training)
    assert report.passed, str(report)
    names = [a.name for a in report.arguments]
    assert len(names) == len(set(names)) and set(model.params) < set(names)
    inside = [layer.path for layer in model.walk() if layer is not model]
    assert {f"{path}/x" for path in inside} == set(names) - set(model.params)
    assert all(a.checked > 0 for a in report.arguments)


def test_check_model_passes_in_float32_and_with_other_losses(rng):
    model = mc.Sequential(mc.Flatten(), mc.Dense(6), mc.Tanh(), mc.Dense(3)).build((3, 2, 1))
    x, labels = rng.standard_normal((5, 3, 2, 1)).astype("float32"), np.array([0, 1, 2, 1, 1])
    for loss in (mc.CrossEntropy(0.1, (1.0, 2.0, 0.5)), mc.MeanSquaredError()):
        report = check_model(model, x, labels, loss=loss)
        assert report.passed, str(report)
    soft = rng.dirichlet(np.ones(3), 5)
    assert check_model(model, x, soft).passed


def test_check_model_passes_the_tutorial_network():
    model = mc.models.tutorial_cnn().build((32, 32, 3), seed=0)
    report = check_model(model)
    assert report.passed, str(report)
    assert len(report.arguments) == 10 + 13
    assert all(a.checked >= 10 for a in report.arguments), str(report)


def test_check_model_leaves_the_model_alone(rng):
    model = small_model().build((6, 5, 3), seed=1)
    x = rng.integers(0, 256, (8, 6, 5, 3), dtype=np.uint8)
    mc.train_step(model, mc.Adam(), x, np.arange(8) % 5)  # moves statistics, streams and weights
    kept = [
        model.params.data.copy(),
        model.params.grad.copy(),
        {name: value.copy() for name, value in model.state.items()},
        {name: stream.position for name, stream in model.streams.items()},
        x.copy(),
    ]
    assert kept[3] == {"dropout_1": 1}
    check_model(model, x, np.arange(8) % 5)
    np.testing.assert_array_equal(model.params.data, kept[0], strict=True)
    np.testing.assert_array_equal(model.params.grad, kept[1], strict=True)
    for name, value in kept[2].items():
        np.testing.assert_array_equal(model.state[name], value, strict=True)
    assert {name: stream.position for name, stream in model.streams.items()} == kept[3]
    np.testing.assert_array_equal(x, kept[4], strict=True)
    assert model.dtype == "float32"


def test_check_model_looks_at_the_weights_of_the_model(rng):
    """Not at fresh ones: a weight that is far out shows in the numbers."""
    model = mc.Sequential(mc.Dense(2)).build((3,))
    x, labels = rng.standard_normal((4, 3)), np.array([0, 1, 1, 0])
    before = check_model(model, x, labels).arguments[1].formula
    model.params["dense_1/b"][...] = 5.0, -5.0
    assert check_model(model, x, labels).arguments[1].formula != before


def test_check_model_looks_at_the_state_of_the_model(rng):
    """In inference, BatchNorm's gradients are those at the model's running statistics."""
    model = mc.Sequential(mc.BatchNorm(), mc.Dense(2)).build((3,))
    x, labels = rng.standard_normal((4, 3)), np.array([0, 1, 1, 0])

    def gamma():
        report = check_model(model, x, labels, training=False)
        assert report.passed
        return next(a.difference for a in report.arguments if a.name == "batchnorm_1/gamma")

    before = gamma()
    model.state["batchnorm_1/running_mean"][...] = 2.0, -3.0, 5.0
    assert abs(gamma() - before) > 0.1


class ConvWithoutBatchSum(mc.Conv2D):
    def go_back(self, dy, need_dx):
        dx = super().go_back(dy, need_dx)
        self.dw /= len(dy)
        return dx


class ForgetfulResidual(mc.Residual):
    def backward(self, dy):
        self.side and self.side.backward(dy)
        return self.main.backward(dy)


class OtherWayRoundConcat(mc.Concat):
    def backward(self, dy):
        return super().backward(dy[..., ::-1])


class FrozenBatchNorm(mc.BatchNorm):
    def backward(self, dy):
        gamma_inverse = self.cache[1][3] * self.cache[1][4]
        super().backward(dy)
        return dy * gamma_inverse


@pytest.mark.parametrize(
    ("layers", "wrong", "right"),
    [
        ([ConvWithoutBatchSum(2, 2)], {"convwithoutbatchsum_1/w"}, {"convwithoutbatchsum_1/b"}),
        (
            [mc.Conv2D(3, 1), ForgetfulResidual(mc.Conv2D(3, 1))],
            {"conv2d_1/w", "conv2d_1/b"},
            {"forgetfulresidual_1/body/w"},
        ),
        (
            [OtherWayRoundConcat([mc.Conv2D(2, 1), mc.Conv2D(2, 1)])],
            {"otherwayroundconcat_1/branch_1/w", "otherwayroundconcat_1/branch_2/b"},
            {"dense_1/w"},
        ),
        ([mc.Conv2D(2, 2), FrozenBatchNorm()], {"conv2d_1/w"}, {"frozenbatchnorm_1/gamma"}),
        ([mc.Conv2D(2, 2), DroppedOnlyForward(0.5)], {"conv2d_1/w", "conv2d_1/b"}, {"dense_1/w"}),
        ([Scale("a")], {"scale_1/a"}, {"scale_1/c"}),
    ],
    ids=["conv", "residual", "concat", "batchnorm", "dropout", "own"],
)
def test_check_model_names_the_parameter_of_a_bug(layers, wrong, right):
    model = mc.Sequential(*layers, mc.Tanh(), mc.Flatten(), mc.Dense(3)).build((4, 3, 2), seed=2)
    report = check_model(model)
    found = set(blamed(report))
    assert wrong <= found
    assert not right & found
    assert not {"dense_1/w", "dense_1/b"} & found


def test_check_model_wants_a_built_model():
    with pytest.raises(RuntimeError, match="isn't built"):
        check_model(small_model())


# What a layer promises besides numbers, and where the checker must not be silent.


class Adds(Scale):
    def backward(self, dy):
        x, axes = self.take_cache(), tuple(range(dy.ndim - 1))
        self.da[...] += (dy * x).sum(axes)
        self.dc[...] = dy.sum(axes)
        return dy * self.a


class OtherWay(mc.Dense):
    def backward_params(self, dy):
        super().backward_params(dy)
        self.dw *= 2


class WritesIntoX(mc.ReLU):
    def forward(self, x, training=False):
        x *= x > 0
        self.cache = x
        return x


class TellsAnotherShape(mc.ReLU):
    def resolve(self, input_shape):
        return (*input_shape[:-1], 7)


class Widens(mc.ReLU):
    def forward(self, x, training=False):
        return super().forward(x, training) * np.float64(1.0)


class WrongInFloat32(mc.ReLU):
    def backward(self, dy):
        return super().backward(dy) * (1 if dy.dtype == "float64" else 2)


class InfersOtherwise(mc.ReLU):
    def infer(self, x):
        return x


class OwnDice(mc.ReLU):
    def forward(self, x, training=False):
        return super().forward(x + np.random.standard_normal(x.shape))  # noqa: NPY002


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (Adds(), "a: backward doesn't write all of its gradient, or only adds to it"),
        (OtherWay(3), "w: backward_params writes another gradient than backward"),
        (WritesIntoX(), "x: it was changed; another layer may need it"),
        (TellsAnotherShape(), r"y: resolve tells \(7,\), forward gives \(5,\)"),
        (Widens(), "y: float32 inputs give float64"),
        (WrongInFloat32(), "x: in float32 it is .* away from what it is in float64"),
        (InfersOtherwise(), r"y \(inference\): infer gives another output than forward"),
        (OwnDice(), "x: forward isn't repeatable: draw random numbers from self.stream"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, mc.Layer) else "",
)
def test_check_layer_sees_a_broken_promise(layer, text):
    report = check_layer(layer, (5,))
    assert not report.passed
    assert re.search(text, str(report)), str(report)


def test_check_layer_looks_at_both_modes():
    report = check_layer(ForgetsTheRunningMean(), (3, 4, 2))
    assert [name.split(":")[0] for name in report.failures()] == ["gamma (inference)[0]"] or (
        "gamma (inference)" in str(report.failures())
    )


def test_check_layer_takes_an_input():
    """Of a layer that lives on small positive numbers."""

    class Log(mc.Layer):
        def forward(self, x, training=False):
            self.cache = x
            return np.log(x)

        def backward(self, dy):
            return dy / self.take_cache()

    x = np.random.default_rng(0).uniform(1e-4, 3e-4, (3, 5))
    report = check_layer(Log(), (5,), x=x)
    assert report.passed, str(report)


def test_check_function_sees_a_surplus_gradient():
    report = check_function(
        activation.relu_forward, lambda dy, c: (activation.relu_backward(dy, c), dy), [np.ones(3)]
    )
    assert "more gradients than there are inputs" in str(report)


def test_check_function_sees_float64_made_of_float32():
    forward = lambda x: (x * np.float64(2), None)  # noqa: E731
    backward = lambda dy, cache: dy * 2.0  # noqa: E731
    assert check_function(forward, backward, [np.ones(3)]).passed
    assert not check_function(forward, backward, [np.ones(3)], float32=True).passed


def test_report_with_more_kinks_than_comparisons_has_failed():
    """One entry of ten has a slope; the rest sits on kinks."""
    x = np.zeros(10)
    x[0] = 3.0
    report = check_function(activation.relu_forward, activation.relu_backward, [x])
    assert not report.passed and "only 1 could be compared, 9 kinks" in str(report)


class ForgetsFilters(mc.Conv2D):
    def go_back(self, dy, need_dx):
        dx = super().go_back(dy, need_dx)
        self.dw[..., 1:] = 0
        return dx


@pytest.mark.parametrize("kind", [mc.Conv2D, ForgetsFilters])
def test_check_model_sees_into_deep_networks(kind):
    """Through many ReLUs, nearly every step of a weight crosses a kink somewhere."""
    layers = [kind(8, 3, padding="same"), mc.BatchNorm(), mc.ReLU()]
    for _ in range(5):
        layers += [mc.Conv2D(8, 3, padding="same"), mc.BatchNorm(), mc.ReLU()]
    model = mc.Sequential(*layers, mc.GlobalAveragePool2D(), mc.Dense(4)).build((10, 10, 3))
    report = check_model(model)
    assert report.passed == (kind is mc.Conv2D), str(report)
    if kind is ForgetsFilters:
        assert re.search(r"^  forgetsfilters_1/w\[", str(report), re.MULTILINE)


def test_check_model_refuses_what_isnt_a_classifier():
    model = mc.Sequential(mc.ReLU()).build((3, 4, 2))
    with pytest.raises(ValueError, match=r"outputs are \(3, 4, 2\), expected logits"):
        check_model(model)
