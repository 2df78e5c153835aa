from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from math import log

import numpy as np
import pytest

import minicnn as mc

SHAPE = (8, 8, 3)


def net(classes=10, rate=0.2):
    return mc.Sequential(
        mc.Normalize(0.5, 0.25),
        mc.Conv2D(6, 3, padding="same", kernel_initializer="he_normal"),
        mc.BatchNorm(),
        mc.ReLU(),
        mc.MaxPool2D(4),
        mc.Dropout(rate),
        mc.Flatten(),
        mc.Dense(classes),
    )


def pictures(n=60, classes=10, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (n, *SHAPE)).astype("uint8")
    return x, rng.permutation(np.arange(n) % classes)


def fit(model, x, y, **options):
    options = {"optimizer": mc.Adam(1e-3), "epochs": 1, "batch_size": 16, **options}
    return mc.fit(model, x, y, progress=False, **options)


# Learning.


def test_fit_learns():
    x, y = mc.datasets.synthetic(3300)
    model = mc.Sequential(
        mc.Normalize.of(x),
        mc.AveragePool2D(2),
        mc.Conv2D(16, 3, kernel_initializer="he_normal"),
        mc.BatchNorm(),
        mc.ReLU(),
        mc.MaxPool2D(2),
        mc.Conv2D(32, 3, kernel_initializer="he_normal"),
        mc.ReLU(),
        mc.Flatten(),
        mc.Dense(10),
    ).build((32, 32, 3), seed=1)
    optimizer, (x_new, y_new) = mc.Adam(4e-3), (x[3000:], y[3000:])
    before = mc.evaluate(model, x_new, y_new)
    epochs = list(fit(model, x[:3000], y[:3000], optimizer=optimizer, epochs=6, batch_size=50))
    losses = [epoch.loss for epoch in epochs]
    assert before["accuracy"] < 0.25  # chance is 0.1
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.6 * losses[0]
    assert epochs[-1].accuracy > 0.5
    assert mc.evaluate(model, x_new, y_new)["accuracy"] > 0.35
    assert optimizer.steps == 6 * 60


def test_train_step_overfits_one_batch():
    x, y = pictures(32)
    model, optimizer = net(rate=0.0).build(SHAPE), mc.Adam(0.02)
    losses = [float(mc.train_step(model, optimizer, x, y)) for _ in range(80)]
    assert losses[-1] < 0.05 * losses[0]
    assert mc.evaluate(model, x, y)["accuracy"] > 0.9  # by the running statistics


# The same seed, the same bits.


def trained(seed=0, build_seed=0, **options):
    x, y = pictures()
    model = net().build(SHAPE, seed=build_seed)
    augment = [mc.augment.RandomFlip(), mc.augment.RandomCrop(1), mc.augment.RandomRotation()]
    options = {"augment": augment, "validation": 0.2, "epochs": 2, "seed": seed, **options}
    records = list(fit(model, x, y, **options))
    return np.concatenate([model.params.data, *model.state.values()]), records


def test_same_seed_gives_the_same_bits():
    (first, records), (second, again) = trained(), trained()
    np.testing.assert_array_equal(first, second)
    figures = [(r.loss, r.accuracy, r.val_loss, r.val_accuracy) for r in records]
    assert figures == [(r.loss, r.accuracy, r.val_loss, r.val_accuracy) for r in again]


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"build_seed": 1}, {"augment": []}, {"batch_size": 15}, {"validation": None}],
)
def test_another_seed_gives_other_bits(change):
    assert (trained()[0] != trained(**change)[0]).any()


def test_shuffling_is_anew_in_every_epoch(monkeypatch):
    orders = spy(monkeypatch)
    x, y = numbered(12)
    list(fit(mc.Sequential(mc.Flatten(), mc.Dense(12)).build((1, 1, 1)), x, y, epochs=2))
    first, second = (np.concatenate(orders[i : i + 1]) for i in (0, 1))
    assert sorted(first) == sorted(second) == list(range(12))
    assert first.tolist() != second.tolist() and first.tolist() != list(range(12))


def numbered(n):
    """Float pictures that hold their own number."""
    return np.arange(n, dtype="float32").reshape(n, 1, 1, 1), np.arange(n) % 12


def spy(monkeypatch):
    """Note the pictures of every training step."""
    seen, step = [], mc.train.train_step

    def noting(model, optimizer, x, *rest):
        seen.append(x[:, 0, 0, 0].astype(int).tolist())
        return step(model, optimizer, x, *rest)

    monkeypatch.setattr(mc.fitting, "train_step", noting)
    return seen


def test_validation_rows_are_never_trained_on(monkeypatch):
    seen, held = spy(monkeypatch), []
    evaluate = mc.fitting.evaluate

    def noting(model, x, y, **options):
        held.append(x[options["indices"]][:, 0, 0, 0].astype(int).tolist())
        return evaluate(model, x, y, **options)

    monkeypatch.setattr(mc.fitting, "evaluate", noting)
    x, y = numbered(48)
    model = mc.Sequential(mc.Flatten(), mc.Dense(12)).build((1, 1, 1))
    list(fit(model, x, y, epochs=3, validation=0.25))
    trained_on = {number for part in seen for number in part}
    assert len(held) == 3 and held[0] == held[1] == held[2]
    assert len(held[0]) == 12 and sorted(n % 12 for n in held[0]) == list(range(12))
    assert trained_on.isdisjoint(held[0]) and trained_on | set(held[0]) == set(range(48))


def test_validation_pair_is_evaluated():
    x, y = pictures()
    model = net().build(SHAPE)
    *_, last = fit(model, x, y, validation=pictures(20, seed=1))
    scores = mc.evaluate(model, *pictures(20, seed=1))
    assert (last.val_loss, last.val_accuracy) == (scores["loss"], scores["accuracy"])


@pytest.mark.parametrize("validation", [None, 0, 0.0])
def test_validation_may_be_none(validation):
    (record,) = fit(net().build(SHAPE), *pictures(), validation=validation)
    assert record.val_loss is None and record.val_accuracy is None


# The record.


def test_epoch_reads_well():
    record = mc.Epoch(3, 1.25, 0.5, 1.5, 0.25, 0.001, 2.0, 12345.0)
    assert str(record) == (
        "epoch   3  loss 1.2500  accuracy 0.5000  val_loss 1.5000  val_accuracy 0.2500"
        "  lr 0.001  2.0 s  12,345 images/s"
    )
    assert "val" not in str(replace(record, val_loss=None, val_accuracy=None))
    assert json.loads(json.dumps(record.as_dict())) == {
        "epoch": 3, "loss": 1.25, "accuracy": 0.5, "val_loss": 1.5, "val_accuracy": 0.25,
        "lr": 0.001, "seconds": 2.0, "images_per_second": 12345.0,
    }  # fmt: skip


def test_epochs_are_numbered_and_measured():
    records = list(fit(net().build(SHAPE), *pictures(), epochs=3, drop_last=True))
    assert [record.epoch for record in records] == [1, 2, 3]
    for record in records:
        assert record.seconds > 0
        assert record.images_per_second == pytest.approx(48 / record.seconds)
        assert type(record.loss) is float and type(record.accuracy) is float


def test_epoch_loss_is_the_mean_over_its_pictures():
    x, y = pictures(20)
    model = mc.Sequential(mc.Normalize(), mc.Flatten(), mc.Dense(10)).build(SHAPE)
    expected = mc.evaluate(model, x, y)
    (record,) = fit(model, x, y, optimizer=mc.SGD(0.0))  # batches of 16 and 4
    assert record.loss == pytest.approx(expected["loss"], rel=1e-5)
    assert record.accuracy == expected["accuracy"]


def test_epoch_names_the_rate_of_its_last_step():
    optimizer = mc.SGD(lambda step: 0.1 / (step + 1))
    records = list(fit(net().build(SHAPE), *pictures(), optimizer=optimizer, epochs=2))
    assert [record.lr for record in records] == [0.1 / 4, 0.1 / 8]  # four batches an epoch


def test_break_ends_the_training():
    model, optimizer = net().build(SHAPE), mc.Adam()
    for epoch in fit(model, *pictures(), optimizer=optimizer, epochs=10):
        if epoch.epoch == 2:
            break
    assert optimizer.steps == 8
    weights = model.params.data.copy()
    list(fit(model, *pictures(), optimizer=optimizer, epochs=1))  # and goes on
    assert optimizer.steps == 12 and (model.params.data != weights).any()


# One step.


def test_train_step_returns_the_loss_before_the_step():
    x, y = pictures(16)
    model = mc.Sequential(mc.Normalize(), mc.Flatten(), mc.Dense(10)).build(SHAPE)
    expected, before = mc.evaluate(model, x, y)["loss"], model.params.data.copy()
    loss = mc.train_step(model, mc.SGD(0.1), x, y)
    assert loss.shape == () and loss.dtype == np.float32
    assert float(loss) == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(model.params.data, before - 0.1 * model.params.grad, atol=1e-7)


@pytest.mark.parametrize("loss", [mc.CrossEntropy(0.1), mc.MeanSquaredError()])
def test_train_step_leaves_its_batch_alone(loss):
    for x, y in (pictures(16), (pictures(16)[0], np.eye(10, dtype="float32")[pictures(16)[1]])):
        x_before, y_before = x.copy(), y.copy()
        mc.train_step(net().build(SHAPE), mc.Adam(), x, y, loss)
        np.testing.assert_array_equal(x, x_before)
        np.testing.assert_array_equal(y, y_before)


def test_fit_leaves_its_pictures_alone():
    x, y = pictures()
    x_before, y_before = x.copy(), y.copy()
    x.flags.writeable = y.flags.writeable = False
    trained_on = [mc.augment.RandomFlip(), mc.augment.MixUp(), mc.augment.Cutout(2)]
    list(fit(net().build(SHAPE), x, y, augment=trained_on, validation=0.2))
    np.testing.assert_array_equal(x, x_before)
    np.testing.assert_array_equal(y, y_before)


def test_backpropagate_is_the_gradient_of_what_it_returns():
    x, y = pictures(8)
    model = net(rate=0.0).build(SHAPE, dtype="float64")
    loss, logits = mc.backpropagate(model, x, y)
    assert logits.shape == (8, 10)
    direction = np.random.default_rng(0).standard_normal(model.params.data.shape)
    direction[model.params.data == 0] = 0  # the gaps, and biases at zero
    slope, start, h = (model.params.grad * direction).sum(), model.params.data.copy(), 1e-6
    values = []
    for sign in (1, -1):
        model.params.data[...] = start + sign * h * direction
        values.append(float(mc.backpropagate(model, x, y)[0]))
    assert slope == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-5)
    assert float(loss) == pytest.approx(sum(values) / 2, rel=1e-6)


@pytest.mark.parametrize("use", ["predict", "backpropagate"])
def test_loss_may_use_the_model_itself(use):
    """A plan is in the middle of a step then; its memory isn't for others."""
    x, y = pictures(32)
    model, plain = net(rate=0.0).build(SHAPE), net(rate=0.0).build(SHAPE)
    for _ in range(2):
        mc.train_step(model, mc.SGD(0.1), x, y)  # there is a plan for such batches
        mc.train_step(plain, mc.SGD(0.1), x, y)
    asked = []

    def curious(logits, labels):
        if not asked:
            asked.append(None)
            before = {name: array.copy() for name, array in model.state.items()}
            if use == "predict":
                asked[0] = mc.predict(model, x)
            else:
                asked[0] = mc.backpropagate(model, x[::-1].copy(), y[::-1].copy())[1]
            for name, array in before.items():
                model.state[name][...] = array
        return mc.CrossEntropy()(logits, labels)

    loss, logits = mc.backpropagate(model, x, y, curious)
    plain_loss, plain_logits = mc.backpropagate(plain, x, y)
    assert float(loss) == float(plain_loss)
    np.testing.assert_array_equal(logits, plain_logits)
    np.testing.assert_array_equal(model.params.grad, plain.params.grad)
    if use == "predict":  # by the statistics that forward had moved by then
        np.testing.assert_allclose(asked[0], mc.predict(plain, x), rtol=1e-5, atol=1e-6)
    else:
        np.testing.assert_allclose(asked[0][::-1], plain_logits, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="os.fork")
def test_model_works_in_a_child_process_whatever_was_at_work():
    """The child has a copy of everything, and none of the threads that would go on with it."""
    script = """
import os, threading
import numpy as np, minicnn as mc

model = mc.Sequential(mc.Flatten(), mc.Dense(10)).build((8, 8, 3))
x, y = np.ones((64, 8, 8, 3), "float32"), np.zeros(64, int)
mc.train_step(model, mc.SGD(0.1), x, y)
expected, arrived, over = mc.predict(model, x), threading.Event(), threading.Event()

def waiting(logits, labels):
    arrived.set()
    over.wait()
    return mc.CrossEntropy()(logits, labels)

step = threading.Thread(target=mc.backpropagate, args=(model, x, y, waiting))
step.start()
arrived.wait()
child = os.fork()
if child == 0:
    found = mc.predict(model, x)
    mc.train_step(model, mc.SGD(0.1), x, y)
    os._exit(0 if np.allclose(found, expected) else 1)
over.set()
step.join()
print(os.waitpid(child, 0)[1])
"""
    command = [sys.executable, "-W", "ignore", "-c", script]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.stdout.strip() == "0", ran.stderr[-2000:]


# Penalties.


def test_penalties_show_in_the_loss_and_the_gradient():
    def make(penalty):
        layers = mc.Normalize(), mc.Flatten(), mc.Dense(10, kernel_regularizer=penalty)
        return mc.Sequential(*layers).build(SHAPE, dtype="float64")

    x, y = pictures(16)
    plain, model = make(None), make(mc.Penalty(l1=0.01, l2=0.02))
    w = model.params["dense_1/w"]
    extra = 0.01 * abs(w).sum() + 0.02 * (w**2).sum()
    for a, b in (
        (mc.backpropagate(plain, x, y)[0], mc.backpropagate(model, x, y)[0]),
        (mc.evaluate(plain, x, y)["loss"], mc.evaluate(model, x, y)["loss"]),
    ):
        assert float(b) == pytest.approx(float(a) + extra, rel=1e-12)
    expected = plain.grads["dense_1/w"] + 0.01 * np.sign(w) + 0.04 * w
    np.testing.assert_allclose(model.grads["dense_1/w"], expected, rtol=1e-12)
    np.testing.assert_array_equal(model.grads["dense_1/b"], plain.grads["dense_1/b"])
    (record,) = fit(model, x, y, optimizer=mc.SGD(0.0))
    assert record.loss == pytest.approx(mc.evaluate(model, x, y)["loss"], rel=1e-9)


# Evaluation and prediction.


def test_evaluate_and_predict_dont_depend_on_the_batch_size():
    x, y = pictures(37)
    model = net().build(SHAPE, dtype="float64")
    mc.train_step(model, mc.Adam(0.01), x, y)
    probabilities = mc.predict(model, x)
    scores = mc.evaluate(model, x, y)
    assert scores["accuracy"] == (probabilities.argmax(axis=1) == y).mean()
    assert scores["loss"] == pytest.approx(-np.log(probabilities[range(37), y]).mean())
    for size in (1, 5, 36, 37, 1000):
        np.testing.assert_allclose(mc.predict(model, x, size), probabilities, rtol=1e-12)
        assert mc.evaluate(model, x, y, size) == pytest.approx(scores, rel=1e-12)


def test_predict_is_the_softmax_of_the_logits():
    x, _ = pictures(9)
    model = net().build(SHAPE)
    e = np.exp(model.forward(x).astype("float64"))
    probabilities = mc.predict(model, x)
    assert type(probabilities) is np.ndarray and probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, e / e.sum(axis=1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    ended = mc.Sequential(*net().layers, mc.Softmax()).build(SHAPE)
    np.testing.assert_allclose(mc.predict(ended, x), probabilities, rtol=1e-6)


def test_evaluate_takes_rows():
    x, y = pictures(30)
    model, rows = net().build(SHAPE), np.array([3, 7, 11])
    assert mc.evaluate(model, x, y, indices=rows) == mc.evaluate(model, x[rows], y[rows])


@pytest.mark.parametrize("use", ["predict", "evaluate"])
def test_prediction_changes_nothing_and_keeps_nothing(use):
    x, y = pictures(20)
    model = net().build(SHAPE)
    before = {k: v.copy() for k, v in {**model.params, **model.state}.items()}
    mc.predict(model, x) if use == "predict" else mc.evaluate(model, x, y)
    for name, array in {**model.params, **model.state}.items():
        np.testing.assert_array_equal(array, before[name])
    assert all(layer.cache is None for layer in model.walk())
    assert all(stream.position == 0 for stream in model.streams.values())


@pytest.mark.parametrize("use", ["predict", "evaluate"])
def test_prediction_memory_doesnt_grow_with_the_pictures(use):
    x, y = pictures(1600)
    model = net().build(SHAPE)
    peaks = []
    for n in (64, 64, 1600):  # the first run warms up
        tracemalloc.start()
        mc.predict(model, x[:n], 32) if use == "predict" else mc.evaluate(model, x[:n], y[:n], 32)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # What it returns: probabilities, in parts and whole; logits, in parts, and labels.
    kept = 2 * 1600 * 10 * 4 if use == "predict" else 1600 * (10 * 4 + 2 * 8)
    assert peaks[2] - kept < max(1.2 * peaks[1], x.nbytes / 3)  # steps allocate next to nothing


# What is refused, and when.


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"batch_size": 0}, "batch_size 0: expected an integer >= 1"),
        ({"batch_size": 100, "drop_last": True}, "60 examples make no batch of 100"),
        ({"validation": 1.5}, "fraction 1.5: expected a number between 0 and 1"),
        ({"validation": -0.1}, "fraction -0.1"),
        ({"seed": -1}, "seed -1: expected an integer >= 0"),
        ({"validation": (pictures(4)[0], np.full(4, 10))}, "class ids from 0 to 9, got 10 to 10"),
        ({"validation": (np.zeros((4, 9, 8, 3), "uint8"), np.zeros(4, int))}, "another picture"),
        ({"epochs": -1}, "epochs -1"),
        ({"epochs": 1.5}, "epochs 1.5"),
        ({"progress": "yes"}, "progress 'yes'"),
    ],
)  # fmt: skip
def test_fit_refuses_options_before_anything_is_trained(options, text):
    options = {"optimizer": mc.Adam(), "progress": False, **options}
    with pytest.raises(ValueError, match=text):
        mc.fit(net().build(SHAPE), *pictures(), **options)  # no next()


@pytest.mark.parametrize(
    "options", [{"batch_size": 59}, {"batch_size": 49, "validation": 0.2}, {"batch_size": 1}]
)
def test_fit_refuses_a_batch_of_one_with_batchnorm(options):
    def make():
        layers = mc.Normalize(), mc.Flatten(), mc.Dense(10), mc.BatchNorm()
        return mc.Sequential(*layers).build(SHAPE)

    model, (x, y) = make(), pictures(60)
    with pytest.raises(ValueError, match=r"batch.*BatchNorm"):
        fit(model, x, y, **options)
    np.testing.assert_array_equal(model.params.data, make().params.data)
    if options["batch_size"] > 1:
        assert len(list(fit(model, x, y, drop_last=True, **options))) == 1


@pytest.mark.parametrize(
    ("x", "y", "kind", "text"),
    [
        (pictures()[0] / 255, pictures()[1], TypeError, r"uint8, 0 to 255; got float64.*\* 255"),
        (pictures()[0], pictures()[1] + 1, ValueError, "class ids from 0 to 9, got 1 to 10"),
        (pictures()[0], pictures()[1] - 1, ValueError, "got -1 to 8"),
        (pictures()[0], pictures()[1][:-1], ValueError, r"expected \(60,\) integer class ids"),
        (pictures()[0], pictures()[1][:, None], ValueError, r"take labels\[:, 0\]"),
        (pictures()[0], pictures()[1] * 1.0, ValueError, r"got \(60,\) float64"),
        (pictures()[0].transpose(0, 3, 1, 2), pictures()[1], ValueError, "channels first"),
        (pictures()[0][0], pictures()[1], ValueError, "a single picture"),
        (pictures()[0][:0], pictures()[1][:0], ValueError, "an empty batch"),
        (pictures()[0].tolist(), pictures()[1], TypeError, "expected an array, got list"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("use", ["fit", "evaluate"])
def test_data_that_doesnt_fit_is_refused(use, x, y, kind, text):
    model = net().build(SHAPE)
    with pytest.raises(kind, match=text):
        fit(model, x, y) if use == "fit" else mc.evaluate(model, x, y)


@pytest.mark.parametrize("kind", ["labels", "Ctrl-C in the loss"])
def test_train_step_that_fails_changes_nothing_but_gradients(kind):
    (x, y), model, optimizer = pictures(), net().build(SHAPE), mc.Adam()
    mc.train_step(model, optimizer, x, y)
    arrays = {**model.params, **model.state}
    before, places = {k: v.copy() for k, v in arrays.items()}, repr(model.streams)

    def interrupted(logits, labels):
        raise KeyboardInterrupt

    if kind == "labels":
        with pytest.raises(ValueError, match="got 1 to 10"):
            mc.train_step(model, optimizer, x, y + 1)
    else:
        with pytest.raises(KeyboardInterrupt):
            mc.train_step(model, optimizer, x, y, interrupted)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, before[name])
    assert repr(model.streams) == places and optimizer.steps == 1


def test_predict_refuses_float_pictures():
    x, _ = pictures()
    with pytest.raises(TypeError, match=r"got float64.*\(x \* 255\).round\(\).astype\('uint8'\)"):
        mc.predict(net().build(SHAPE), x / 255)
    cured = (x / 255 * 255).round().astype("uint8")
    np.testing.assert_array_equal(cured, x)


def test_model_that_ends_in_softmax_is_refused():
    model = mc.Sequential(*net().layers, mc.Softmax()).build(SHAPE)
    with pytest.raises(ValueError, match=r"ends in Softmax\(\).*leave Softmax out"):
        fit(model, *pictures())
    with pytest.raises(ValueError, match="leave Softmax out"):
        mc.evaluate(model, *pictures())


def test_model_that_ends_in_pictures_is_refused():
    model = mc.Sequential(mc.Normalize(), mc.Conv2D(4, 3)).build(SHAPE)
    with pytest.raises(ValueError, match=r"outputs of shape \(6, 6, 4\).*Dense\(classes\)"):
        fit(model, *pictures())


# The tutorial's network.


def test_tutorial_cnn_is_that_of_the_tutorials():
    model = mc.models.tutorial_cnn().build((32, 32, 3))
    summary = model.summary()
    assert summary.parameters == model.params.count == 122_570
    assert summary.multiply_adds == 4_548_608
    assert model.output_shape == (10,)
    x, y = mc.datasets.synthetic(16)
    assert float(mc.train_step(model, mc.Adam(), x, y)) == pytest.approx(log(10), abs=0.6)


def test_models_by_name():
    assert mc.models.get("tutorial_cnn") is mc.models.tutorial_cnn
    assert mc.models.tutorial_cnn(classes=4).build((32, 32, 3)).output_shape == (4,)
    with pytest.raises(ValueError, match="model 'lenet': expected one of tutorial_cnn"):
        mc.models.get("lenet")
