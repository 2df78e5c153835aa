"""Anything that can be asked for: it works and its gradients are right, or it says what is wrong.

Never a bare error from inside NumPy or Python.
"""

from __future__ import annotations

import copy
import inspect
from math import inf, nan

import numpy as np
import pytest

import minicnn as mc

hypothesis = pytest.importorskip("hypothesis")
given, settings, st = hypothesis.given, hypothesis.settings, hypothesis.strategies


def examples(count):
    """Return settings for so many examples, the same ones each time."""
    return settings(
        derandomize=True,
        deadline=None,
        database=None,
        max_examples=count,
        suppress_health_check=list(hypothesis.HealthCheck),
    )


# Random networks.

PAIR = st.one_of(st.integers(1, 4), st.tuples(st.integers(1, 4), st.integers(1, 4)))
MARGIN = st.integers(0, 2)
PADDING = st.one_of(
    st.sampled_from(["valid", "same"]),
    MARGIN,
    st.tuples(MARGIN, MARGIN),
    st.tuples(st.tuples(MARGIN, MARGIN), st.tuples(MARGIN, MARGIN)),
)
STRIDE = st.one_of(st.integers(1, 3), st.tuples(st.integers(1, 3), st.integers(1, 3)))
SHAPE = st.one_of(
    st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 4)),
    st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 4)),
    st.tuples(st.integers(1, 6)),
    st.lists(st.integers(1, 3), min_size=1, max_size=4).map(tuple),
)
INITIALIZER = st.sampled_from(["glorot_uniform", "he_normal", "orthogonal", "ones", "zeros"])
SMOOTH = (mc.Tanh, mc.Sigmoid, mc.GELU, mc.SiLU, mc.Softmax)


def conv():
    return st.builds(
        mc.Conv2D,
        st.integers(1, 4),
        PAIR,
        strides=STRIDE,
        padding=PADDING,
        dilation_rate=PAIR,
        groups=st.sampled_from([1, 1, 1, 2, 3]),
        use_bias=st.booleans(),
        kernel_initializer=INITIALIZER,
    )


def pool():
    options = {"pool_size": PAIR, "strides": st.one_of(st.none(), STRIDE), "padding": PADDING}
    return st.one_of(st.builds(mc.MaxPool2D, **options), st.builds(mc.AveragePool2D, **options))


def simple():
    return st.one_of(
        st.builds(mc.ReLU),
        st.builds(mc.LeakyReLU, st.sampled_from([0.0, 0.1, 0.3, 1.0])),
        st.sampled_from(SMOOTH).map(lambda kind: kind()),
        st.builds(mc.Dropout, st.sampled_from([0.0, 0.3, 0.9])),
        st.builds(
            mc.BatchNorm,
            momentum=st.sampled_from([0.0, 0.9]),
            eps=st.sampled_from([1e-3, 0.1]),
            center=st.booleans(),
            scale=st.booleans(),
        ),
    )


def shaped():
    return st.one_of(
        conv(),
        conv(),
        pool(),
        st.builds(
            mc.Dense, st.integers(1, 5), use_bias=st.booleans(), kernel_initializer=INITIALIZER
        ),
        st.builds(mc.Flatten),
        st.builds(mc.GlobalAveragePool2D),
        st.builds(mc.Normalize, st.sampled_from([0.0, (0.1, 0.2, 0.3)]), st.just(0.5)),
    )


def layer():
    """A layer, or an error at once that says what is wrong with its arguments."""
    leaf = st.one_of(shaped(), simple())
    lists = st.lists(leaf, min_size=1, max_size=2)
    return st.one_of(
        leaf,
        leaf,
        leaf,
        st.builds(mc.Residual, lists),
        st.builds(mc.Residual, lists, lists),
        st.builds(mc.Residual, conv(), conv()),
        st.lists(st.one_of(leaf, lists), min_size=1, max_size=3).map(mc.Concat),
        st.lists(leaf, min_size=1, max_size=2).map(lambda layers: mc.Sequential(*layers)),
    )


@st.composite
def networks(draw):
    """Return layers, or the error that a constructor raised, with what was asked for."""
    try:
        return draw(st.lists(layer(), min_size=1, max_size=3))
    except (ValueError, TypeError) as error:
        return error


def check_constructor_error(error):
    assert type(error) is ValueError, repr(error)
    assert any(word in str(error) for word in (
        "Conv2D", "Pool2D", "pooling", "padding", "groups", "strides",
    )), error  # fmt: skip


def smooth_enough(model):
    """Whether differences can measure this network's slopes well."""
    kinds = [type(part) for part in model.walk()]
    flat = any(part.shape and part.initializer == "zeros" and name.endswith("/w")
               for name, part in model.declarations().items())  # fmt: skip
    return kinds.count(mc.BatchNorm) <= 1 and kinds.count(mc.Softmax) <= 1 and not flat


@examples(400)
@given(networks(), SHAPE, st.booleans())
def test_any_network_works_and_its_gradients_check_or_says_what_is_wrong(layers, shape, training):
    if isinstance(layers, Exception):
        check_constructor_error(layers)
        return
    model = mc.Sequential(*layers)
    try:
        model.build(shape, dtype="float64")
    except mc.ShapeError as error:
        part = str(error).split(" (")[0]
        named = [inside.path for inside in model.walk()]
        assert part in named and part, f"{part!r} isn't one of {named}"
        assert f"got pictures of shape {model_shape(model, part)}" in str(error)
        assert "expected" in str(error)
        return
    x = mc.gradcheck.checks.spaced(np.random.default_rng(0), (3, *shape))
    try:
        y = model.forward(x, training)
    except ValueError as error:  # one value a channel has no variance; with 3 pictures it has one
        raise AssertionError(f"{model} built for {shape}, but forward: {error}") from error
    assert y.shape == (3, *model.output_shape) and y.dtype == np.float64
    assert np.isfinite(y).all()
    dx = model.backward(np.ones_like(y))
    assert dx.shape == x.shape and np.isfinite(model.params.grad).all()
    if x.size <= 200 and model.params.count <= 150 and smooth_enough(model):
        report = mc.gradcheck.check_layer(mc.Sequential(*layers), shape, training=training)
        bad = [a for a in report.arguments if a.problem or not a.error <= 1e-5]
        assert not bad, f"{model} {shape}\n{report}"


def model_shape(model, path):
    return {inside.path: inside.input_shape for inside in model.walk()}[path]


@examples(120)
@given(st.data(), SHAPE)
def test_any_layer_gives_the_shape_it_says_in_both_dtypes(data, shape):
    kinds = st.one_of(conv(), pool(), st.builds(mc.Dense, st.integers(1, 4)), simple())
    try:
        one = data.draw(kinds)
        model = mc.Sequential(copy.deepcopy(one)).build(shape)
    except (mc.ShapeError, ValueError):
        return
    x = np.random.default_rng(0).standard_normal((2, *shape)).astype("float32")
    y = model.forward(x)
    assert y.shape == (2, *model.output_shape) and y.dtype == np.float32
    np.testing.assert_allclose(model.infer(x), y, rtol=1e-5, atol=1e-6)
    wide = mc.Sequential(one).build(shape, dtype="float64")
    np.testing.assert_allclose(wide.forward(x), y, rtol=1e-4, atol=1e-4)


# Arguments that can't be: every constructor, one at a time.

NOTHING = (None, "x", "3", b"3", [], {}, (), object(), np.ones(3), 1 + 2j, nan)
COUNT = (*NOTHING, 0, -1, 2.5, True, inf, -(10**30), np.float64(3))
PAIRS = (*COUNT, (1, 2, 3), (0, 1), (1, 2.0), ("1", "2"), (1, None), ((1, 2), (3, 4)), (True, 2))
MARGINS = (
    None, "full", "VALID", b"same", {}, (), object(), 1.5, -1, True, nan, (1, 2, 3), (-1, 0),
    ((0, 1), (1, -1)), ((0, 1), 2, 3), ("valid", "same"), (None, None), (1.0, 1.0),
)  # fmt: skip
TTA = (3, "", "Flip", "flip+", True, b"flip", [], {}, ("flip",), object())
SHARE = (*NOTHING, -0.1, 1.0, 2, inf, True)
POSITIVE = (*NOTHING, -0.1, 0, inf, -inf, True)
NOT_NEGATIVE = (*NOTHING, -0.1, inf, -inf, True)
NUMBER = (*NOTHING, inf, -inf, True)
NAME = ("he", "", None, 3, [], {}, object(), nan, ("zeros",))
LAYERS = (None, 3, "ReLU", mc.ReLU, {}, object(), [None], ["ReLU"], [mc.ReLU], [])

CONSTRUCTORS = {
    "Conv2D": (mc.Conv2D, {"filters": 4, "kernel_size": 3}, {
        "filters": COUNT, "kernel_size": PAIRS, "strides": PAIRS, "dilation_rate": PAIRS,
        "padding": MARGINS, "groups": COUNT, "kernel_initializer": NAME, "bias_initializer": NAME,
        "kernel_regularizer": ("l2", 0.1, {}, object(), mc.L2),
        "name": (3, b"a", [], object(), "a/b", ""),
    }),
    "Dense": (mc.Dense, {"units": 4}, {
        "units": COUNT, "kernel_initializer": NAME, "bias_initializer": NAME,
        "kernel_regularizer": ("l2", 0.1, {}, object(), mc.L2),
    }),
    "MaxPool2D": (mc.MaxPool2D, {}, {
        "pool_size": PAIRS, "strides": tuple(v for v in PAIRS if v is not None),
        "padding": MARGINS,
    }),
    "AveragePool2D": (mc.AveragePool2D, {}, {
        "pool_size": PAIRS, "strides": tuple(v for v in PAIRS if v is not None),
        "padding": MARGINS,
    }),
    "Dropout": (mc.Dropout, {}, {"rate": SHARE}),
    "LeakyReLU": (mc.LeakyReLU, {}, {"negative_slope": NUMBER}),
    "BatchNorm": (mc.BatchNorm, {}, {"momentum": SHARE, "eps": POSITIVE}),
    "Normalize": (mc.Normalize, {}, {
        "mean": (None, "x", {}, object(), nan, inf, (nan, 0.1), ("a",), ((1.0, 2.0),)),
        "std": (None, "x", {}, object(), nan, inf, 0.0, -1.0, (1.0, 0.0), ("a",), (nan, 1.0)),
        "scale": (*NOTHING, inf, 0, -1.0),
    }),
    "Residual": (mc.Residual, {"body": [mc.ReLU()]}, {
        "body": LAYERS, "shortcut": tuple(v for v in LAYERS if v is not None),
    }),
    "Concat": (mc.Concat, {}, {
        "branches": (None, 3, "ReLU", object(), [], [None], [[None]], [[]], ["ReLU"], mc.ReLU),
    }),
    "Scale": (mc.Scale, {"factor": 0.5}, {"factor": NUMBER}),
    "PadChannels": (mc.PadChannels, {"channels": 4}, {"channels": COUNT}),
    "L1": (mc.L1, {}, {"strength": NOT_NEGATIVE}),
    "L2": (mc.L2, {}, {"strength": NOT_NEGATIVE}),
    "Penalty": (mc.Penalty, {}, {"l1": NOT_NEGATIVE, "l2": NOT_NEGATIVE}),
    "CrossEntropy": (mc.CrossEntropy, {}, {
        "label_smoothing": SHARE,
        "class_weight": (3, "x", nan, object(), [], ["a", "b"], [1.0, nan], [1.0, -1.0], [[1.0]]),
    }),
    "Stream": (mc.Stream, {"seed": 0, "name": "a"}, {
        "seed": (*NOTHING, -1, 2.5, True, inf),
    }),
    **{kind.__name__: (kind, {}, {
        "lr": NOT_NEGATIVE,
        "weight_decay": NOT_NEGATIVE,
        "global_clipnorm": tuple(v for v in POSITIVE if v is not None and v is not inf),
        "ema_decay": tuple(v for v in SHARE if v is not None),
        **more,
    }) for kind, more in (
        (mc.SGD, {"momentum": SHARE}),
        (mc.RMSprop, {"rho": SHARE, "eps": NOT_NEGATIVE}),
        (mc.Adam, {"beta1": SHARE, "beta2": SHARE, "eps": NOT_NEGATIVE}),
        (mc.AdamW, {"beta1": SHARE, "beta2": SHARE, "eps": NOT_NEGATIVE}),
    )},
    "constant": (mc.schedule.constant, {"lr": 0.1}, {"lr": NOT_NEGATIVE}),
    "step_decay": (mc.schedule.step_decay, {"lr": 0.1, "every": 10}, {
        "lr": NOT_NEGATIVE, "every": POSITIVE, "factor": POSITIVE,
    }),
    "exponential": (mc.schedule.exponential, {"lr": 0.1, "every": 10, "factor": 0.5}, {
        "lr": NOT_NEGATIVE, "every": POSITIVE, "factor": POSITIVE,
    }),
    "cosine": (mc.schedule.cosine, {"lr": 0.1, "steps": 10}, {
        "lr": NOT_NEGATIVE, "steps": COUNT, "final": NOT_NEGATIVE,
        "warmup": (*NOTHING, -1, 10, 11, 2.5, True, inf),
    }),
    "one_cycle": (mc.schedule.one_cycle, {"peak": 0.1, "steps": 10}, {
        "peak": NOT_NEGATIVE, "steps": COUNT, "rise": (*SHARE, 0.0), "start": POSITIVE,
        "final": POSITIVE,
    }),
    "ReduceOnPlateau": (mc.schedule.ReduceOnPlateau, {"lr": 0.1}, {
        "lr": POSITIVE, "factor": (*SHARE, 0.0), "patience": (*NOTHING, -1, 2.5, True),
        "threshold": NOT_NEGATIVE, "minimum": NOT_NEGATIVE,
    }),
}  # fmt: skip
CASES = [(name, key) for name, (_, _, bad) in CONSTRUCTORS.items() for key in bad]


def wrongly_taken(call, argument, values):
    """Return what ``call`` did with each bad value, but for the right thing.

    Right is a ValueError or a TypeError whose text holds the argument's name.
    """
    wrong = []
    for value in values:
        try:
            call(value)
        except (ValueError, TypeError) as error:
            if argument not in str(error):
                wrong.append(f"{argument}={value!r}: {type(error).__name__}: {error}")
        except Exception as error:
            wrong.append(f"{argument}={value!r}: {type(error).__name__}: {error}")
        else:
            wrong.append(f"{argument}={value!r} was taken")
    return wrong


WORDS = {"kernel_initializer": "initializer", "bias_initializer": "initializer"}
WORDS |= {"l1": "L1", "l2": "L2", "body": "layer", "shortcut": "layer", "branches": ""}


@pytest.mark.parametrize(("name", "argument"), CASES)
def test_constructor_refuses_what_cant_be(name, argument):
    kind, good, bad = CONSTRUCTORS[name]
    kind(**{**good, **({argument: 0.1} if name in ("Dropout", "L1", "L2") else {}),
            **({argument: [mc.ReLU()]} if name == "Concat" else {})})  # fmt: skip

    def call(value):
        made = kind(**{**good, argument: value})
        if argument == "name":
            mc.Sequential(made).build((6, 6, 4))

    wrong = wrongly_taken(call, WORDS.get(argument, argument), bad[argument])
    assert not wrong, "\n".join(wrong)


OF_ALL = {"name", "trainable"}  # arguments of every layer


def test_constructors_are_all_in_the_table():
    layers = {name for name, kind in mc.layers.LAYERS.items() if set(arguments(kind)) - OF_ALL}
    assert layers - set(CONSTRUCTORS) == {"Sequential"}
    for name in layers - {"Sequential"}:
        kind, _, bad = CONSTRUCTORS[name]
        flags = {key for key, given in arguments(kind).items() if isinstance(given.default, bool)}
        assert set(arguments(kind)) - flags - OF_ALL <= set(bad), name


def arguments(kind):
    return inspect.signature(kind).parameters


# Arguments of build, fit, evaluate, predict, train_step and summary.

PICTURES = np.random.default_rng(0).integers(0, 256, (12, 6, 5, 3)).astype("uint8")
LABELS = np.arange(12) % 3


def net():
    return mc.Sequential(
        mc.Normalize(), mc.Conv2D(2, 3), mc.BatchNorm(), mc.ReLU(), mc.Flatten(), mc.Dense(3)
    )


def built():
    return net().build((6, 5, 3))


def fit(**options):
    options = {"optimizer": mc.SGD(), "epochs": 1, "batch_size": 4, "progress": False, **options}
    x, y = options.pop("x", PICTURES), options.pop("y", LABELS)
    return list(mc.fit(options.pop("model", built()), x, y, **options))


BAD_PICTURES = (
    None, 3, "x", b"x", [], {}, object(), nan, [[1, 2], [3]], PICTURES[0], PICTURES[:0],
    PICTURES.transpose(0, 3, 1, 2), PICTURES[..., :1], PICTURES / 255, PICTURES.astype("int64"),
    PICTURES > 100, PICTURES.astype(object), PICTURES.astype("complex64"), PICTURES.astype("str"),
    PICTURES.astype("datetime64[s]"), PICTURES[None], np.zeros(()), np.zeros(12),
)  # fmt: skip
BAD_LABELS = (
    3, "x", b"x", [], {}, object(), nan, [[1], [2, 3]], LABELS[:-1], LABELS[:, None], LABELS[:0],
    LABELS * 1.0, LABELS + 1, LABELS - 1, LABELS > 0, LABELS.astype("str"), LABELS.astype(object),
    LABELS.astype("complex64"), np.eye(3)[LABELS][:, :2], np.zeros(()),
    np.eye(3, dtype=int)[LABELS], LABELS.astype("datetime64[s]"), np.full(12, 2**62),
    LABELS.astype("uint8") + np.uint8(253),
)  # fmt: skip
USES = {
    "build": (lambda **a: net().build(**{"input_shape": (6, 5, 3), **a}), {
        "input_shape": (
            None, 3, "abc", "", b"abc", [], (), {}, object(), nan, (6, 5, 0), (6, -5, 3),
            (6.0, 5, 3), (True, 5, 3), ("6", "5", "3"), (None, 5, 3), ((6, 5, 3),), [[6], 5, 3],
        ),
        "seed": (-1, None, "0", 1.5, nan, True, [], {}, object()),
        "device": (None, "", "cuda", "gpu:x", "gpu:-1", "gpu:", 3, 0, [], {}, object(), b"cpu"),
        "dtype": (None, "", "float16", "int32", "x", 3, [], {}, object(), complex, nan),
    }),
    "fit": (fit, {
        "x": BAD_PICTURES,
        "y": (None, *BAD_LABELS),
        "model": (None, 3, "x", object(), mc.ReLU(), net),
        "optimizer": (None, 3, "adam", object(), mc.SGD, {}),
        "epochs": (*NOTHING, 0, -1, 1.5, True, inf),
        "batch_size": COUNT,
        "validation": (
            "x", -0.1, 1, 1.0, 2, True, nan, inf, object(), (PICTURES,), (PICTURES, None),
            (None, LABELS), (PICTURES, LABELS, LABELS), (PICTURES, LABELS[:-1]), {1: 2},
            (PICTURES[:, :5], LABELS), b"x",
        ),
        "augment": (3, "x", [3], ["flip"], [None], object(), [mc.augment.RandomFlip]),
        "loss": (None, 3, "mse", object(), mc.CrossEntropy),
        "seed": (-1, None, "0", 1.5, nan, True, [], {}, object()),
        "progress": ("yes", None, 3, [], object()),
        "resume": ("yes", None, 3, [], object()),
        "checkpoint": (3, 2.5, [], {}, object()),
        "accumulate": (*COUNT, 5, 100),
        "early_stopping": (3, True, "val_loss", object(), mc.EarlyStopping, mc.EarlyStopping()),
    }),
    "find_lr": (
        lambda **a: mc.find_lr(**{
            "model": built(), "x": PICTURES, "y": LABELS, "optimizer": mc.SGD(), "steps": 2, **a
        }), {
        "model": (None, 3, "x", object(), mc.ReLU(), net),
        "x": BAD_PICTURES,
        "y": (None, *BAD_LABELS),
        "optimizer": (None, 3, "adam", object(), mc.SGD, {}),
        "lowest": (*NOTHING, 0, -1, True, inf),
        "highest": (*NOTHING, 0, -1, True, inf, 1e-6),
        "steps": (*COUNT, 1),
        "batch_size": COUNT,
        "smoothing": SHARE,
        "augment": (3, "x", [3], ["flip"], [None], object(), [mc.augment.RandomFlip]),
        "loss": (None, 3, "mse", object(), mc.CrossEntropy),
        "seed": (-1, None, "0", 1.5, nan, True, [], {}, object()),
    }),
    "EarlyStopping": (mc.EarlyStopping, {
        "patience": COUNT,
        "monitor": (None, 3, "f1", "", [], {}, object()),
        "min_delta": (*NOTHING, -1, True, inf),
    }),
    "evaluate": (lambda **a: mc.evaluate(**{"model": built(), "x": PICTURES, "y": LABELS, **a}), {
        "model": (None, 3, "x", object(), mc.ReLU(), net),
        "x": BAD_PICTURES,
        "y": (None, *BAD_LABELS),
        "batch_size": COUNT,
        "loss": (None, 3, "mse", object()),
        "indices": (3, "x", [1.5], [-1], [12], [[1]], {}, object(), np.zeros(12, bool), []),
        "tta": TTA,
    }),
    "predict": (lambda **a: mc.predict(**{"model": built(), "x": PICTURES, **a}), {
        "model": (None, 3, "x", object(), mc.ReLU(), net),
        "x": BAD_PICTURES,
        "batch_size": COUNT,
        "tta": TTA,
    }),
    "train_step": (
        lambda **a: mc.train_step(**{
            "model": built(), "optimizer": mc.SGD(), "x": PICTURES, "labels": LABELS, **a
        }), {
        "model": (None, 3, "x", object(), mc.ReLU(), net),
        "optimizer": (None, 3, "adam", object(), mc.SGD),
        # floats on the scale of 0 to 255 are taken here, as Normalize takes them
        "x": tuple(v for v in BAD_PICTURES if not (
            isinstance(v, np.ndarray) and v.shape == PICTURES.shape and v.dtype.kind in "fib")),
        "labels": (None, *BAD_LABELS),
        "loss": (None, 3, "mse", object()),
        "accumulate": (*COUNT, 13),
    }),
    "stratified_split": (
        lambda **a: mc.stratified_split(
            **{"y": LABELS, "fraction": 0.5, "stream": mc.Stream(0, "a"), **a}
        ), {
        "y": (None, 3, "x", [], LABELS * 1.0, LABELS[:, None], LABELS[:0], LABELS > 0),
        "fraction": (*NOTHING, 0, 1, -0.5, 1.5, True, inf),
    }),
    "Batches": (lambda **a: mc.Batches(**{"x": PICTURES, "y": LABELS, "batch_size": 4, **a}), {
        "x": (None, 3, nan, object(), PICTURES[:5]),
        "y": (None, 3, nan, object(), LABELS[:5]),
        "batch_size": COUNT,
        "indices": (3, "x", [1.5], [-1], [12], [[1]], object(), np.zeros(12, bool)),
        "augment": (3, object()),
    }),
}  # fmt: skip
USE_WORDS = {"x": ("picture", "x"), "y": ("label", "y"), "labels": ("label",)}
USE_WORDS |= {"validation": ("validation", "fraction", "picture", "label"), "model": ("model",)}


@pytest.mark.parametrize(
    ("name", "argument"), [(name, key) for name, (_, bad) in USES.items() for key in bad]
)
def test_use_refuses_what_cant_be(name, argument):
    use, bad = USES[name]
    use()
    words = USE_WORDS.get(argument, (argument,))
    wrong = []
    for value in bad[argument]:
        try:
            use(**{argument: value})
        except (ValueError, TypeError) as error:
            if not any(word in str(error) for word in words):
                wrong.append(f"{argument}={value!r:.60}: {type(error).__name__}: {error}")
        except Exception as error:
            wrong.append(f"{argument}={value!r:.60}: {type(error).__name__}: {error}")
        else:
            wrong.append(f"{argument}={value!r:.60} was taken")
    assert not wrong, "\n".join(wrong)


# Random arrays.

DTYPES = ("bool", "int8", "uint8", "int16", "int32", "uint32", "int64", "uint64", "float16",
          "float32", "float64", "complex64", "object", "U3", "S3", "datetime64[s]")  # fmt: skip


@st.composite
def arrays(draw, shapes):
    shape, dtype = draw(shapes), draw(st.sampled_from(DTYPES))
    size = int(np.prod(shape))
    values = draw(st.lists(st.integers(-2, 5), min_size=size, max_size=size))
    array = np.array(values, "int64").reshape(shape)
    if dtype.startswith(("u", "b")):
        array = abs(array)
    array = array.astype(dtype)
    if array.dtype.kind in "fc" and size and draw(st.booleans()):
        array.reshape(-1)[0] = draw(st.sampled_from([nan, inf, -inf, 0.5]))
    return array


LABEL_SHAPES = st.one_of(
    st.just((12,)), st.just((12,)), st.just((12, 3)), st.just((12, 1)),
    st.lists(st.integers(0, 4), max_size=3).map(tuple),
)  # fmt: skip


@examples(250)
@given(
    arrays(LABEL_SHAPES),
    st.sampled_from(["evaluate", "train_step", "fit"]),
    st.sampled_from([mc.CrossEntropy(), mc.MeanSquaredError(), mc.CrossEntropy(0.1)]),
)
def test_any_labels_are_class_ids_or_refused(labels, use, loss):
    model = TRAINED
    ids = labels.shape == (12,) and labels.dtype.kind in "iu" and set(labels.tolist()) <= {0, 1, 2}
    spread = labels.shape == (12, 3) and labels.dtype.kind == "f"
    before = model.params.data.copy()
    try:
        if use == "evaluate":
            result = mc.evaluate(model, PICTURES, labels, loss=loss)["loss"]
        elif use == "train_step":
            result = float(mc.train_step(model, mc.SGD(0.0), PICTURES, labels, loss))
        else:
            (epoch,) = fit(model=model, y=labels, loss=loss, optimizer=mc.SGD(0.0))
            result = epoch.loss
    except (ValueError, TypeError) as error:
        named = any(word in str(error) for word in ("label", "target"))
        assert named and not ids, f"{labels!r}: {error}"
    except mc.NotFinite:
        assert spread and not np.isfinite(labels).all()
    else:
        assert ids or spread, f"{labels!r} was taken"
        assert use == "evaluate" or np.isfinite(result)
    np.testing.assert_array_equal(model.params.data, before)


PICTURE_SHAPES = st.one_of(
    st.just((2, 6, 5, 3)), st.just((2, 3, 6, 5)), st.just((6, 5, 3)), st.just((0, 6, 5, 3)),
    st.lists(st.integers(0, 3), max_size=5).map(tuple),
)  # fmt: skip


@examples(120)
@given(st.data(), st.booleans(), st.sampled_from(["predict", "forward", "infer", "train_step"]))
def test_any_pictures_work_or_are_refused(data, prepared, use):
    x = data.draw(arrays(PICTURE_SHAPES))
    model = TRAINED if prepared else PLAIN
    try:
        if use == "predict":
            y = mc.predict(model, x)
        elif use == "train_step":
            y = mc.train_step(model, mc.SGD(0.0), x, np.zeros(2, int))
        else:
            y = getattr(model, use)(x)
    except (ValueError, TypeError) as error:
        assert any(word in str(error) for word in ("picture", "array")), f"{x!r}: {error}"
        fits = x.shape == (2, 6, 5, 3) and x.dtype.name == ("uint8" if prepared else "float32")
        assert not fits, str(error)
    except mc.NotFinite:
        assert x.dtype.kind == "f" and not np.isfinite(x).all()
    else:
        assert x.shape == (2, 6, 5, 3) and y.dtype == np.float32
        assert x.dtype.kind in ("uifb" if prepared else "f"), f"{x.dtype} was taken"


TRAINED = built()
PLAIN = mc.Sequential(mc.Conv2D(2, 3), mc.Flatten(), mc.Dense(3)).build((6, 5, 3))
