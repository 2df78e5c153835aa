"""The measurement of accuracies: PyTorch's twin does what our recipe does, in every feature."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import minicnn as mc

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import accuracy, accuracy_work, curves  # noqa: E402

STEPS = 5


def network():
    """A convolution without a bias, whose norm has all, and one with, whose norm has no gamma.

    A bias before a norm has a gradient of rounding errors, which Adam would make steps of.
    """
    return mc.Sequential(
        mc.Normalize(0.4, 0.25),
        mc.Conv2D(4, 3, padding="same", use_bias=False, name="first"), mc.BatchNorm(), mc.ReLU(),
        mc.MaxPool2D(2), mc.Conv2D(5, 3), mc.GELU(), mc.BatchNorm(scale=False), mc.Flatten(),
        mc.Dense(10),
    )  # fmt: skip


@pytest.fixture(scope="module")
def torch():
    """PyTorch, and one thread on both sides: little work isn't worth a second one."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with mc.threads(1):
        yield torch
    torch.set_num_threads(before)


def tables(**changes):
    """A recipe's tables: SGD with everything that is usual."""
    start = {
        "about": "a test's",
        "model": {"name": "tutorial_cnn"},
        "training": {"epochs": 1, "batch_size": 8, "dtype": "float64"},
        "optimizer": {"name": "SGD", "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
        "schedule": {"name": "one_cycle", "lr": 0.1},
    }
    return start | changes


def given(name, **options):
    return {"optimizer": {"name": name, **options}}


FEATURES = {
    "sgd": given("SGD"),
    "momentum": given("SGD", momentum=0.8),
    "nesterov and decay": {},
    "decay of all": given("SGD", momentum=0.9, weight_decay=0.1, decay_all=True),
    "adam": given("Adam", weight_decay=0.1),
    "adamw": given("AdamW", weight_decay=0.3, beta2=0.9),
    "rmsprop": given("RMSprop", rho=0.8),
    "clipping": given("SGD", momentum=0.9, global_clipnorm=0.5),
    "average": given("Adam", ema_decay=0.7),
    "lr_scale": given("AdamW", weight_decay=0.3, lr_scale={"*/beta": 9.0, "first/*": 0.5}),
    "lookahead": given("SGD", momentum=0.9, lookahead={"every": 2, "decay": 0.6}),
    "lookahead, rising": given(
        "SGD", momentum=0.9, lookahead={"every": 2, "decay": 0.6, "power": 2.0}
    ),
    "smoothing": {"loss": {"label_smoothing": 0.2}},
    "parts": {"training": {"epochs": 1, "batch_size": 8, "dtype": "float64", "accumulate": 3}},
    "mixed": {"augment": [{"name": "MixUp"}], "loss": {"label_smoothing": 0.1}},
    "varied": {"augment": [{"name": "AlternatingFlip"}, {"name": "RandomCrop", "padding": 2}]},
    "views": {"test": {"tta": "flip+shift"}},
}


def side_by_side(recipe, network, epochs, pictures=40, crop=8):
    """Train in both; return the losses of both, the twin, our model and its optimizer.

    network: makes it; None takes the recipe's.
    """
    from benchmarks.peers.torch_recipe import TorchRecipe

    x, y = mc.datasets.synthetic(pictures, seed=0)
    x = x[:, crop : 32 - crop, crop : 32 - crop]
    batches = mc.Batches(
        x, y, recipe.batch_size, stream=mc.Stream(0, "shuffle"), augment=recipe.augment(),
        augment_stream=mc.Stream(0, "augmentation"),
    )  # fmt: skip
    make = network or recipe.network
    ours, pattern = (make().build(x.shape[1:], dtype=recipe.dtype) for _ in range(2))
    for model in (ours, pattern):
        recipe.prepare(model, x)
    optimizer, twin = recipe.optimizer(len(batches)), TorchRecipe(recipe, pattern, len(batches))
    losses = []
    for epoch in range(epochs):
        recipe.freeze(ours, epoch)
        twin.freeze(epoch)
        for x_batch, labels in batches:
            parts = recipe.accumulate
            one = mc.train_step(ours, optimizer, x_batch, labels, recipe.loss(), accumulate=parts)
            two, _ = twin.step(x_batch, labels)
            losses.append((float(one), float(two)))
    return np.array(losses).T, twin, ours, optimizer


def check_weights(twin, ours, rtol=1e-8):
    """Compare all parameters, in our layout."""
    for name, theirs in twin.weights().items():
        np.testing.assert_allclose(theirs, ours.params[name], rtol=rtol, atol=1e-10, err_msg=name)


def check_found(theirs, ours, rtol):
    """Compare what both say of the same pictures: the twin knows loss and accuracy."""
    assert set(theirs) == {"loss", "accuracy"}
    assert theirs == pytest.approx({name: ours[name] for name in theirs}, rel=rtol)


@pytest.mark.torch
@pytest.mark.parametrize("feature", FEATURES)
def test_torch_follows_a_recipe(feature, torch):
    recipe = mc.Recipe(tables(**FEATURES[feature]), "own")
    (one, two), twin, ours, optimizer = side_by_side(recipe, network, epochs=1)
    np.testing.assert_allclose(two, one, rtol=1e-6 if feature == "clipping" else 1e-9)
    assert len(set(one)) == STEPS
    check_weights(twin, ours, rtol=1e-5 if feature == "clipping" else 1e-8)

    x, y = mc.datasets.synthetic(30, seed=1)
    x = x[:, 8:24, 8:24]
    with recipe.weights_to_test(ours, optimizer), twin.weights_to_test():
        expected, found = mc.evaluate(ours, x, y, tta=recipe.tta), twin.evaluate(x, y, batch=13)
    check_found(found, expected, rtol=1e-5 if feature == "clipping" else 1e-8)
    check_weights(twin, ours, rtol=1e-5 if feature == "clipping" else 1e-8)  # put back


@pytest.mark.torch
def test_torch_freezes_as_a_recipe_does(torch):
    """A convolution and its norm stop after an epoch, with momentum and decay in motion."""
    frozen = [{"layer": "first", "after": 1}, {"layer": "batchnorm_1", "after": 1}]
    recipe = mc.Recipe(tables(freeze=frozen), "own").changed(epochs=3)
    (one, two), twin, ours, _ = side_by_side(recipe, network, epochs=3)
    np.testing.assert_allclose(two, one, rtol=1e-9)
    check_weights(twin, ours)
    norm, part = ours["batchnorm_1"], twin.norms[0][1]
    np.testing.assert_allclose(part.running_mean.numpy(), norm.buffers["running_mean"], rtol=1e-9)
    assert not part.training and not twin.parameters["first/w"].requires_grad


@pytest.mark.torch
def test_torch_follows_speedrun(torch):
    """The whole recipe on a narrow network, whitening and views included."""
    found = mc.recipes.load("speedrun94").tables
    found["model"]["widths"] = (4, 6, 6)
    found["training"] |= {"epochs": 4, "batch_size": 50, "dtype": "float64"}
    recipe = mc.Recipe(found, "narrow")
    (one, two), twin, ours, _ = side_by_side(recipe, None, epochs=4, pictures=100, crop=0)
    np.testing.assert_allclose(two, one, rtol=1e-7)
    check_weights(twin, ours, rtol=1e-5)
    x, y = mc.datasets.synthetic(20, seed=1)
    check_found(twin.evaluate(x, y), mc.evaluate(ours, x, y, tta=recipe.tta), rtol=1e-6)


@pytest.mark.torch
def test_curves_tell_where_two_part(tmp_path, torch, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    flags = "--nets tutorial_cnn --pictures 128 --batch-size 32 --control --threads 1"
    flags += " --epochs 3 --lr 1e-3"
    places = ["--json", str(tmp_path), "--picture", str(tmp_path / "curves.png")]
    assert curves.main([*flags.split(), *places]) == 0
    (path,) = tmp_path.glob("*.json")
    (net,) = json.loads(path.read_text())["nets"]
    assert {len(values) for values in net["losses"].values()} == {12}
    largest = net["largest difference, minicnn"]
    assert 0 < largest["first 10"] <= largest["first 100"] < 1e-4
    assert 0 < net["largest difference, control"]["first 10"] < 1e-4
    assert net["losses"]["minicnn"][-1] < net["losses"]["minicnn"][0]
    assert (tmp_path / "curves.png").stat().st_size > 10_000
    assert "tutorial_cnn" in capsys.readouterr().out


def test_curves_compare_by_the_peers_loss():
    losses = {"minicnn": [1.0, 2.0] + [4.0] * 8 + [3.0], "torch": [1.0, 1.0] + [4.0] * 9}
    found = curves.compared(losses)["largest difference, minicnn"]
    assert found == {"first 10": 1.0, "first 100": 1.0}
    losses["minicnn"][1] = 1.1
    found = curves.compared(losses)["largest difference, minicnn"]
    assert found == pytest.approx({"first 10": 0.1, "first 100": 0.25})


# The command.


def test_work_holds_out_pictures_or_takes_the_test_set():
    task = {
        "recipe": "tutorial", "changes": {"batch_size": 16}, "seed": 2, "data_dir": None,
        "pictures": 200, "held_out": 0.25, "framework": "minicnn",
    }  # fmt: skip
    work = accuracy_work.prepare(task, "cpu")
    assert len(work.batches.indices) == 150 and len(work.pictures) == 150
    assert len(work.judged[0]) == 50 and work.judged_on == "50 held-out training pictures"
    x, _ = mc.datasets.synthetic(200, seed=0)
    used, held = {p.tobytes() for p in work.pictures}, {p.tobytes() for p in work.judged[0]}
    assert not used & held and used | held == {p.tobytes() for p in x}
    work = accuracy_work.prepare(task | {"held_out": 0.0}, "cpu")
    test = mc.datasets.synthetic(50, seed=1)
    assert (work.judged[0] == test[0]).all() and work.judged_on == "test set"
    assert work.data == {"copy": "drawn pictures"} and work.batches.examples == 200


RECIPE = """
about = "a test's"
[model]
name = "tutorial_cnn"
[training]
epochs = 2
batch_size = 50
[optimizer]
name = "SGD"
momentum = 0.9
[schedule]
name = "one_cycle"
lr = 0.02
[[augment]]
name = "RandomFlip"
"""


@pytest.mark.torch
def test_accuracy_measures_both_from_one_start(tmp_path, capsys, torch):
    (tmp_path / "own.toml").write_text(RECIPE)
    flags = f"--recipes {tmp_path}/own.toml --seeds 1 --frameworks minicnn,torch --pictures 200"
    flags += " --threads 1"
    assert accuracy.main([*flags.split(), "--json", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    ours, theirs = found["runs"]
    assert [run["framework"] for run in found["runs"]] == ["minicnn", "torch"]
    assert theirs["loss"] == pytest.approx(ours["loss"], rel=1e-3)
    for one, two in zip(ours["records"], theirs["records"], strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-3)
    assert ours["parameters"] == 122_570 and ours["multiply_adds"] > 1e6
    assert ours["steps"] == 8 and not ours["stopped"] and ours["judged_on"] == "test set"
    assert 0 < ours["training_seconds"] < ours["total_seconds"]
    assert ours["tables"]["schedule"]["lr"] == 0.02 and "torch" in found["versions"]
    assert "own, torch" in capsys.readouterr().out


def test_accuracy_stops_in_time_and_holds_out(tmp_path):
    (tmp_path / "own.toml").write_text(RECIPE.replace("epochs = 2", "epochs = 900"))
    flags = f"--recipes {tmp_path}/own.toml --seeds 1 --pictures 200 --minutes 0.005 --held-out 0.2"
    assert accuracy.main([*flags.split(), "--json", str(tmp_path)]) == 0
    (path,) = tmp_path.glob("accuracy-own-minicnn-cpu-minutes0.005-held_out-s1.json")
    (run,) = json.loads(path.read_text())["runs"]
    assert run["stopped"] and 0 < run["steps"] < 3600 and "held-out" in run["judged_on"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--recipes nothing", "expected one of"),
        ("--recipes tutorial --epochs 0", "training.epochs"),
        ("--recipes tutorial --seeds 0 --data-dir /nowhere", "CIFAR-10 isn't on this machine"),
    ],
)
def test_accuracy_that_cant_be_measured_exits_with_2(capsys, flags, said):
    assert accuracy.main(flags.split()) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("flags", ["--seeds x", "--frameworks keras", "--minutes 0", "--threads 0"])
def test_accuracy_refuses_flags(flags):
    with pytest.raises(SystemExit):
        accuracy.arguments(["--recipes", "tutorial", *flags.split()])
