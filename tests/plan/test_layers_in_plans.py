"""What is special to some layers in a plan, and to layers of the user's own."""

from __future__ import annotations

import numpy as np
import pytest

import minicnn as mc
from minicnn import plan

from .nets import (
    LIMITS,
    PICTURE,
    N,
    batch,
    build,
    by_layers,
    by_plan,
    check,
    compare,
    each_way,
    head,
    like,
    upstream,
    wide,
)

pytestmark = pytest.mark.usefixtures("small_slices")

# Pooling.


class Table(mc.Layer):
    """Gives the picture that is its parameter, whatever it gets: its gradient tells who won."""

    def resolve(self, input_shape):
        self.declare("w", input_shape)
        return input_shape

    def forward(self, x, training=False):
        self.cache = ()
        return x * 0 + self.w

    def backward(self, dy):
        self.take_cache()
        self.dw[...] = dy.sum(axis=0)
        return dy * 0


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [mc.MaxPool2D(2)],
        lambda: [mc.Conv2D(2, 1), mc.MaxPool2D(2), mc.ReLU()],
        lambda: [mc.Conv2D(2, 1), mc.ReLU(), mc.MaxPool2D(2)],
        lambda: [mc.Conv2D(2, 2), mc.MaxPool2D(2)],
        lambda: [mc.Conv2D(4, 3), mc.ReLU(), mc.MaxPool2D(2)],
        lambda: [mc.Conv2D(4, 3), mc.MaxPool2D(2), mc.ReLU()],
        lambda: [mc.BatchNorm(), mc.ReLU(), mc.MaxPool2D(2)],
        lambda: [mc.Conv2D(2, 1), mc.BatchNorm(), mc.ReLU(), mc.MaxPool2D(2)],
    ],
    ids=" ".join(
        ["pool", "conv-pool-relu", "conv-relu-pool", "2x2-pool", "3x3-relu-pool", "3x3-pool-relu",
         "bn-relu-pool", "conv-bn-relu-pool"]
    ).split(),
)  # fmt: skip
@each_way
def test_of_equal_pixels_the_first_wins(layers, way):
    """In the order of the window, as in the book: where much is equal, and where all is."""
    dtype, algorithm = way

    def make():
        return head(Table(), *layers())

    for picture in (np.random.default_rng(0).integers(0, 2, (9, 10, 1)) * np.ones(3), 0.0):
        if algorithm == "winograd" and np.ndim(picture):
            continue  # equal windows aren't equal to the last digit, wherever they lie in a tile
        model = build(make(), (9, 10, 3), dtype)
        for name, view in model.params.items():
            view[...] = picture if name == "table_1/w" else abs(view) + 0.1
        truth = like(model, make(), "float64")
        x, dy = batch(model, N), upstream(model, N)
        with mc.threads(2), mc.conv_algorithm(algorithm):
            found, wanted = by_plan(model, x, dy), by_layers(truth, wide(x), dy.astype("float64"))
        check({"w": found["d table_1/w"]}, {"w": wanted["d table_1/w"]}, 10 * LIMITS[way])
        assert np.linalg.norm(wanted["d table_1/w"]) > 0.1 or "BatchNorm" in str(layers())


# BatchNorm.

FAR = {  # what makes values whose mean is far from zero, beside their standard deviation
    "batchnorm": lambda: [mc.Conv2D(8, 1), mc.LeakyReLU(1.0), mc.BatchNorm()],
    "dense batchnorm": lambda: [mc.Flatten(), mc.Dense(8), mc.BatchNorm()],
    "conv 1x1 batchnorm": lambda: [mc.Conv2D(8, 1), mc.BatchNorm()],
    "conv 3x3 batchnorm": lambda: [mc.Conv2D(16, 3), mc.BatchNorm()],
    "first conv batchnorm": lambda: [mc.Normalize(scale=0.01), mc.Conv2D(6, 3), mc.BatchNorm()],
}


@pytest.mark.parametrize("ratio", [10, 1000])
@pytest.mark.parametrize("name", FAR)
def test_batchnorm_keeps_digits_where_the_mean_is_large(name, ratio):
    """As many as the book's, which takes the mean first; at the first step and at the fifth."""

    def make():
        return [*FAR[name](), mc.SiLU(), mc.Flatten(), mc.Dense(4)]

    model = build(make(), (6, 6, 3), "float32")
    biased = next(layer for layer in model.walk() if "b" in layer.declared)
    biased.b[...] = ratio
    truth, plain = like(model, make(), "float64"), like(model, make(), "float32")
    x, dy = batch(model, 4 * N), upstream(model, 4 * N)
    with mc.threads(2):
        for _ in range(5):
            found, wanted = by_plan(model, x, dy), by_layers(truth, wide(x), dy.astype("float64"))
            check(found, wanted, 3e-6 * ratio, by_layers(plain, x, dy))


def test_batchnorm_of_constant_pictures():
    """Variance zero, on every slice and over all: no division by zero, no negative variance."""
    make = lambda: head(mc.Conv2D(4, 3), mc.BatchNorm(), mc.ReLU(), mc.Conv2D(3, 1), mc.Tanh())  # noqa: E731
    model = build(make(), PICTURE, "float32")
    truth = like(model, make(), "float64")
    x, dy = np.full((N, *PICTURE), 0.7, "float32"), upstream(model, N)
    with mc.threads(3):
        found, wanted = by_plan(model, x, dy), by_layers(truth, wide(x), dy.astype("float64"))
    check({"y": found["y"]}, {"y": wanted["y"]}, 1e-2)
    assert all(np.isfinite(array).all() for array in found.values())
    assert (found["batchnorm_1/running_var"] > 0).all()


def test_batchnorm_of_one_value_is_refused_as_in_the_book():
    model = build([mc.Flatten(), mc.Dense(3), mc.BatchNorm(), mc.Dense(2)], (2, 2, 1), "float32")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"one value a channel.*train on larger batches"):
            by_plan(model, batch(model, 1), upstream(model, 1))
    by_plan(model, batch(model, 2), upstream(model, 2))


@pytest.mark.parametrize("strange", [np.nan, np.inf])
def test_batchnorm_leaves_statistics_alone_that_are_not_finite(strange):
    make = lambda: head(mc.Conv2D(4, 3), mc.BatchNorm(), mc.ReLU())  # noqa: E731
    model = build(make(), PICTURE, "float32")
    before = {name: array.copy() for name, array in model.state.items()}
    x = batch(model, N).copy()
    x[5, 3, 3] = strange
    with mc.threads(3), np.errstate(all="ignore"):
        by_plan(model, x, upstream(model, N))
    for name, array in model.state.items():
        assert np.isfinite(array).all()
        np.testing.assert_array_equal(array, before[name])


# Dropout.


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("slices", [1, 2, 3, 5])
@pytest.mark.parametrize("shape", [(3, 5, 1), (7,), (2, 2, 2)], ids=str)
def test_dropout_draws_what_one_generator_would(shape, slices, dtype):
    """Bit for bit, wherever a slice begins; and the stream moves on by one."""
    make = lambda: [mc.Dropout(0.4), mc.Dropout(0.25), mc.Flatten()][: len(shape) + 1]  # noqa: E731
    model, plain = build(make(), shape, dtype), build(make(), shape, dtype)
    x, dy = batch(model, N), upstream(model, N)
    masks = []
    for step in range(3):
        with mc.threads(slices):
            y = by_plan(model, x, dy)["y"]
        wanted = plain.forward(x, training=True)
        plain.forget()
        assert y.tobytes() == wanted.tobytes()
        positions = [stream.position for stream in model.streams.values()]
        assert positions == [step + 1] * len(positions)
        masks.append(y != 0)
        with mc.threads(slices):
            plan.infer(model, x)  # draws nothing
    assert (masks[0] != masks[1]).any() and (masks[1] != masks[2]).any()


def test_dropout_goes_on_from_where_its_stream_is_put():
    model = build(head(mc.Dropout(0.5), mc.Tanh()), PICTURE, "float32")
    x, dy = batch(model, N), upstream(model, N)
    results = [by_plan(model, x, dy) for _ in range(3)]
    (stream,) = model.streams.values()
    stream.position = 1
    again = by_plan(model, x, dy)
    assert again["y"].tobytes() == results[1]["y"].tobytes() and stream.position == 2


# Own layers, and layers that somebody has changed.


class Noting(mc.Layer):
    """Notes what it is called with."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, x, training=False):
        self.calls.append(("forward", x.shape, training))
        self.cache = x
        return x * x

    def infer(self, x):
        self.calls.append(("infer", x.shape))
        return x * x

    def backward(self, dy):
        self.calls.append(("backward", dy.shape))
        return 2 * self.take_cache() * dy


class Scale(mc.Layer):
    """Has a parameter and a state, and mixes the pictures of the batch."""

    def resolve(self, input_shape):
        self.declare("w", input_shape[-1:], "ones")
        self.keep("seen", np.zeros(1))
        return input_shape

    def forward(self, x, training=False):
        self.cache = centered = x - x.mean(axis=0)
        self.buffers["seen"] += len(x)
        return centered * self.w

    def backward(self, dy):
        self.dw[...] = (self.take_cache() * dy).reshape(-1, len(self.w)).sum(axis=0)
        dx = dy * self.w
        return dx - dx.mean(axis=0)


def test_own_layer_gets_the_whole_batch_once():
    layer = Noting()
    model = build(head(mc.Conv2D(4, 3), layer, mc.ReLU()), PICTURE, "float32")
    x, shape = batch(model, N), (N, 5, 7, 4)
    with mc.threads(4):
        by_plan(model, x, upstream(model, N))
        assert layer.calls == [("forward", shape, True), ("backward", shape)]
        layer.calls.clear()
        plan.infer(model, x)
        assert layer.calls == [("infer", shape)]


@pytest.mark.parametrize("slices", [1, 2])
def test_own_layer_may_keep_what_it_gets_and_what_it_gives(slices):
    """Nothing that it was handed is written to afterwards."""

    class Keeping(mc.Layer):
        def __init__(self):
            super().__init__()
            self.kept = []

        def forward(self, x, training=False):
            y = np.tanh(x)
            self.cache = y
            self.kept += [(x, x.copy()), (y, y.copy())]
            return y

        def backward(self, dy):
            dx = dy * (1 - self.take_cache() ** 2)
            self.kept += [(dy, dy.copy()), (dx, dx.copy())]
            return dx

    layer = Keeping()
    model = build(head(mc.Conv2D(4, 3), layer, mc.ReLU(), mc.Dropout(0.5)), PICTURE, "float32")
    with mc.threads(slices):
        for seed in range(3):
            by_plan(model, batch(model, N, seed), upstream(model, N))
            plan.infer(model, batch(model, N, seed + 10))
    assert len(layer.kept) == 3 * 6
    for array, then in layer.kept:
        np.testing.assert_array_equal(array, then)


def test_own_layer_may_return_its_input():
    class Same(mc.Layer):
        def forward(self, x, training=False):
            self.cache = ()
            return x

        def backward(self, dy):
            self.take_cache()
            return dy

    for layers in (
        lambda: head(mc.Conv2D(4, 3), Same(), mc.ReLU(), Same()),
        lambda: head(Same(), mc.Residual(Same()), mc.Conv2D(4, 3), mc.Residual(Same())),
    ):
        compare(layers, PICTURE)


@each_way
def test_own_layers_give_what_they_give(way):
    def make():
        return head(
            Scale(), mc.Conv2D(6, 3), Scale(), mc.Residual([mc.Conv2D(6, 1), Scale()], Scale()),
            mc.Concat([Scale(), [mc.Conv2D(2, 1), Noting()]]), mc.Sequential(Scale()),
        )  # fmt: skip

    compare(make, PICTURE, way)


class Loud(mc.Conv2D):
    """An own subclass of a layer that has a planner."""

    def forward(self, x, training=False):
        return super().forward(x, training) * 3

    def backward(self, dy):
        return super().backward(dy * 3)

    def backward_params(self, dy):
        super().backward_params(dy * 3)


class Shifted(mc.Sequential):
    """An own subclass of Sequential."""

    def forward(self, x, training=False):
        return super().forward(x, training) + 1

    def infer(self, x):
        return super().infer(x) + 1


@each_way
def test_own_subclasses_are_themselves(way):
    def make():
        return head(
            Loud(5, 3), mc.ReLU(), mc.MaxPool2D(2), Shifted(mc.Conv2D(4, 1), mc.ReLU()),
            mc.Residual(Loud(4, 1)),
        )  # fmt: skip

    compare(make, PICTURE, way)


CHANGED = {
    "conv": (lambda layers: layers[0], (5, 7, 4)),
    "relu of a run": (lambda layers: layers[1], (5, 7, 4)),
    "in a residual": (lambda layers: layers[2].main[0], (5, 7, 4)),
    "residual": (lambda layers: layers[2], (5, 7, 4)),
    "nested": (lambda layers: layers[3], (5, 7, 4)),
    "in nested": (lambda layers: layers[3][0], (5, 7, 4)),
}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", CHANGED)
def test_forward_that_was_replaced_on_the_object_is_called(name, when):
    """Before the first step, or after it, when there is a plan; and put back, it is gone."""
    layers = [
        mc.Conv2D(4, 3), mc.ReLU(), mc.Residual([mc.Conv2D(4, 1), mc.ReLU()]),
        mc.Sequential(mc.Conv2D(4, 1), mc.Tanh()), mc.Flatten(), mc.Dense(3),
    ]  # fmt: skip
    model = build(layers, PICTURE, "float32")
    x, dy, calls = batch(model, N), upstream(model, N), []
    plain = by_plan(model, x, dy)["y"] if when == "after" else None
    layer = CHANGED[name][0](layers)
    own = layer.forward

    def louder(x, training=False):
        calls.append((x.shape, training))
        return own(x, training) * 2

    layer.forward = louder
    with mc.threads(2):
        found = by_plan(model, x, dy)
    assert len(calls) == 1 and calls[0][1] and calls[0][0][0] == N
    calls.clear()
    check(found, by_layers(model, x, dy), 1e-5)
    assert len(calls) == 1
    del layer.forward
    again = by_plan(model, x, dy)["y"]
    assert len(calls) == 1 and (again != found["y"]).any()
    if plain is not None:
        np.testing.assert_array_equal(again, plain)


def test_backward_that_was_replaced_on_the_object_is_called():
    """As someone would who clips the gradient at a layer."""
    layers = [mc.Conv2D(4, 3), mc.ReLU(), mc.Conv2D(4, 3), mc.Flatten(), mc.Dense(3)]
    model = build(layers, PICTURE, "float32")
    x, dy = batch(model, N), upstream(model, N)
    plain, own = by_plan(model, x, dy), layers[2].backward
    layers[2].backward = lambda dy: np.clip(own(dy), -0.01, 0.01)
    found = by_plan(model, x, dy)
    check(found, by_layers(model, x, dy), 1e-5)
    assert (found["d conv2d_1/w"] != plain["d conv2d_1/w"]).any()


@pytest.mark.parametrize("method", ["forward", "backward_params", "infer"])
def test_method_that_was_replaced_on_the_model_is_called(method):
    model = build(head(mc.Conv2D(4, 3), mc.ReLU()), PICTURE, "float32")
    x, dy, calls = batch(model, N), upstream(model, N), []
    own = getattr(model, method)
    setattr(
        model, method, lambda *arguments, **options: calls.append(1) or own(*arguments, **options)
    )
    by_plan(model, x, dy)
    plan.infer(model, x)
    assert calls


# Several at once.


def test_two_models_step_by_step_in_turns():
    """One goes back after the other has gone forward."""
    makes = [
        lambda: head(mc.Conv2D(5, 3), mc.BatchNorm(), mc.ReLU(), mc.MaxPool2D(2)),
        lambda: head(mc.Conv2D(5, 3), mc.ReLU(), mc.Dropout(0.5)),
    ]
    models = [build(make(), PICTURE, "float64") for make in makes]
    truths = [like(model, make(), "float64") for model, make in zip(models, makes, strict=True)]
    batches = [batch(model, N, seed) for seed, model in enumerate(models)]
    dys = [upstream(model, N) for model in models]
    with (
        mc.threads(2),
        plan.step(models[0], batches[0]) as (y0, back0),
        plan.step(models[1], batches[1]) as (y1, back1),
    ):
        back0(dys[0])
        back1(dys[1])
    for model, truth, x, y, dy in zip(models, truths, batches, (y0, y1), dys, strict=True):
        wanted = by_layers(truth, x, dy)
        check({**wanted, "y": y, **{f"d {k}": v for k, v in model.grads.items()}}, wanted, 1e-10)


def test_loss_of_the_users_own():
    """On whole pictures; and it may ask the model for predictions meanwhile."""
    make = lambda: [mc.Conv2D(4, 3, padding="same"), mc.ReLU(), mc.Conv2D(3, 1)]  # noqa: E731
    model = build(make(), PICTURE, "float64")
    truth = like(model, make(), "float64")
    x, other = batch(model, N), batch(model, N, seed=1)

    def loss(y, target):
        plan.infer(model, other)
        mc.predict(model, other[:5])
        return 0.5 * ((y - target) ** 2).sum(), y - target

    with mc.threads(3):
        value, y = mc.backpropagate(model, x, other, loss)
    wanted = by_layers(truth, x, truth.infer(x) - other)
    check({**wanted, **{f"d {k}": v for k, v in model.grads.items()}, "y": y}, wanted, 1e-10)
    assert float(value) == pytest.approx(0.5 * ((wanted["y"] - other) ** 2).sum())
