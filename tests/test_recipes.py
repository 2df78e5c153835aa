"""Recipes: all load and can be trained by; what is wrong in one is said with file and key."""

from __future__ import annotations

import json
import re
import tomllib

import numpy as np
import pytest

import minicnn as mc
from minicnn.recipes.recipe import FOLDER

OWN = """
about = "a test's"

[model]
name = "tutorial_cnn"

[training]
epochs = 4
batch_size = 8

[optimizer]
name = "SGD"
momentum = 0.9
nesterov = true

[schedule]
name = "cosine"
lr = 0.1
warmup_epochs = 1

[[augment]]
name = "RandomFlip"

[[augment]]
name = "RandomCrop"
padding = 2

[loss]
label_smoothing = 0.1
"""


@pytest.fixture
def write(tmp_path):
    """Return write(text) -> the path of a recipe."""

    def file(text):
        path = tmp_path / "own.toml"
        path.write_text(text)
        return path

    return file


@pytest.mark.parametrize("name", mc.recipes.names())
def test_recipe_takes_steps(name):
    """Its optimizer changes a network, its pictures and loss go together."""
    recipe = mc.recipes.load(name)
    recipe = recipe.changed(batch_size=8)
    optimizer, loss = recipe.optimizer(5), recipe.loss()
    assert len(recipe.about) > 50 and recipe.network().config()["type"] == "Sequential"
    model = mc.Sequential(
        mc.Normalize(), mc.Conv2D(4, 3, name="whiten"), mc.BatchNorm(), mc.ReLU(),
        mc.GlobalAveragePool2D(), mc.Dense(10),
    ).build((16, 16, 3))  # fmt: skip
    x, y = mc.datasets.synthetic(40, seed=0)
    streams = [mc.Stream(0, use) for use in ("shuffle", "augmentation")]
    batches = mc.Batches(
        x[:, ::2, ::2], y, 8, stream=streams[0], augment=recipe.augment(), augment_stream=streams[1]
    )
    before = model.params.data.copy()
    recipe.freeze(model, 0)
    for x_batch, labels in batches:
        value = mc.train_step(model, optimizer, x_batch, labels, loss)
    assert np.isfinite(value) and (model.params.data != before).any()
    steps = 5 * recipe.epochs
    rates = [optimizer.lr(step) for step in range(steps)]
    assert max(rates) == pytest.approx(recipe.tables["schedule"]["lr"], rel=0.02)
    assert len(set(rates)) == 1 or rates[-1] < 0.2 * max(rates)


def test_names_are_the_files():
    wanted = {
        "tutorial", "tutorial_best", "cifar_cnn", "resnet20", "resnet18", "vgg16", "speedrun94",
        "cpu_quick", "cpu_best",
    }  # fmt: skip
    assert wanted <= set(mc.recipes.names())


def test_tutorial_is_what_the_example_does_without_a_recipe():
    recipe = mc.recipes.load("tutorial")
    assert (recipe.epochs, recipe.batch_size, recipe.dtype) == (10, 128, "float32")
    optimizer = recipe.optimizer(391)
    assert type(optimizer) is mc.Adam and optimizer.current_lr == 1e-3
    assert (optimizer.weight_decay, recipe.augment(), recipe.loss()) == (0, [], mc.CrossEntropy())
    ours, plain = recipe.network().config(), mc.models.tutorial_cnn().config()
    assert ours == plain


def test_own_recipe(write):
    recipe = mc.recipes.load(write(OWN))
    assert (recipe.name, recipe.epochs, recipe.drop_last, recipe.tta) == ("own", 4, False, None)
    optimizer = recipe.optimizer(10)
    assert isinstance(optimizer, mc.SGD) and optimizer.nesterov and optimizer.momentum == 0.9
    lr = mc.schedule.cosine(0.1, steps=40, warmup=10)
    assert [optimizer.lr(s) for s in range(41)] == [lr(s) for s in range(41)]
    assert recipe.augment() == [mc.augment.RandomFlip(), mc.augment.RandomCrop(2)]
    assert recipe.loss() == mc.CrossEntropy(0.1)
    model = recipe.build_model((32, 32, 3), classes=7, seed=3)
    plain = mc.models.tutorial_cnn(7).build((32, 32, 3), seed=3)
    assert (model.params.data == plain.params.data).all() and model.dtype == "float32"
    assert json.loads(json.dumps(recipe.tables))["schedule"]["warmup_epochs"] == 1


def test_changed_stretches_shares_and_not_epochs(write):
    text = OWN.replace("warmup_epochs = 1", "warmup = 0.25")
    for source, top in ((OWN, 10), (text, 20)):
        recipe = mc.recipes.load(write(source)).changed(epochs=8, lr=0.2, batch_size=None)
        lr = recipe.optimizer(10).lr
        rates = [lr(step) for step in range(80)]
        assert rates.index(max(rates)) == top - 1 and max(rates) == pytest.approx(0.2)
        assert (recipe.epochs, recipe.batch_size) == (8, 8)
    with pytest.raises(mc.RecipeError, match="speed: unknown"):
        recipe.changed(speed=1)
    with pytest.raises(mc.RecipeError, match=r"training\.epochs"):
        recipe.changed(epochs=0)


SCHEDULES = [
    ("constant", "", mc.schedule.constant(0.1)),
    ("step_decay", "every_epochs = 1.5", mc.schedule.step_decay(0.1, 15)),
    ("step_decay", "every = 0.5\nfactor = 0.3", mc.schedule.step_decay(0.1, 20, 0.3)),
    ("step_decay", "every_epochs = 30", mc.schedule.constant(0.1)),  # never in so short a run
    ("milestones", "at = [0.5, 0.75]", mc.schedule.milestones(0.1, [20, 30])),
    ("milestones", "at_epochs = [1, 3]\nfactor = 0.2", mc.schedule.milestones(0.1, [10, 30], 0.2)),
    ("one_cycle", "rise = 0.2", mc.schedule.one_cycle(0.1, 40, 0.2)),
    ("triangle", "final = 0.5", mc.schedule.triangle(0.1, 40, final=0.5)),
]


@pytest.mark.parametrize(("name", "options", "expected"), SCHEDULES)
def test_schedules_are_those_of_the_module(write, name, options, expected):
    start = OWN.index('name = "cosine"')
    text = OWN[:start] + f'name = "{name}"\nlr = 0.1\n{options}\n' + OWN[OWN.index("[[augment") :]
    lr = mc.recipes.load(write(text)).optimizer(10).lr
    assert [lr(step) for step in range(40)] == [expected(step) for step in range(40)]


WRONG = [
    ('about = "a test\'s"', "", "about: is missing"),
    ('"a test\'s"', '" "', "about: expected a text"),
    ('"a test\'s"', "[]", "about: expected a text"),
    ("tutorial_cnn", "tutorial", "model.name: 'tutorial': expected one of tutorial_cnn"),
    ('"tutorial_cnn"', "3", "model.name: 3: expected one of"),
    ('"tutorial_cnn"', '"tutorial_cnn"\nwidth = 3', "model.width: unknown"),
    ('"tutorial_cnn"', '"tutorial_cnn"\nclasses = 3', "model.classes: unknown"),
    ('name = "tutorial_cnn"', "", "model.name: is missing"),
    ("epochs = 4", "", "training.epochs: is missing; for example epochs = 10"),
    ("epochs = 4", "epochs = 0", "training.epochs: value 0: expected an integer >= 1"),
    ("epochs = 4", "epochs = 4.5", "training.epochs: 4.5: expected an integer"),
    ("epochs = 4", "epochs = true", "training.epochs: True: expected an integer"),
    ("batch_size = 8", "batch_size = '8'", "training.batch_size: '8': expected an integer"),
    ("batch_size = 8", "batch_size = 8\nbatchsize = 8", "training.batchsize: unknown"),
    ("batch_size = 8", "batch_size = 8\ndtype = 'half'", "training.dtype: 'half': expected one of"),
    ("batch_size = 8", "batch_size = 8\ndrop_last = 1", "training.drop_last: 1: expected true or"),
    ("batch_size = 8", "batch_size = 8\naccumulate = 0", "training.accumulate: value 0"),
    ('"SGD"', '"Sgd"', "optimizer.name: 'Sgd': expected one of SGD, Adam, AdamW, RMSprop"),
    ("momentum = 0.9", "momentum = 1.5", "optimizer: momentum 1.5: expected a number >= 0 and < 1"),
    ("momentum = 0.9", "momentum = '0.9'", "optimizer.momentum: '0.9': expected a number"),
    ("momentum = 0.9", "momentum = 0.9\nlr = 0.1", "optimizer.lr: unknown; expected one of"),
    ("momentum = 0.9", "momentum = 0.9\nbeta1 = 0.1", "optimizer.beta1: unknown"),
    ("momentum = 0.9", "", "optimizer: SGD: nesterov looks ahead"),
    ("nesterov = true", "nesterov = 1", "optimizer.nesterov: 1: expected true or false"),
    ('"cosine"', '"cos"', "schedule.name: 'cos': expected one of constant"),
    ("lr = 0.1", "", "schedule.lr: is missing"),
    ("lr = 0.1", "lr = -1", "schedule: lr -1: expected a number >= 0"),
    ("lr = 0.1", "lr = nan", "schedule: lr nan"),
    ("warmup_epochs = 1", "warmup_epochs = 4", "schedule: a warm-up of 1 of the run"),
    ("warmup_epochs = 1", "warmup_epochs = 1\nwarmup = 0.1", "schedule: warmup and warmup_epochs"),
    ("warmup_epochs = 1", "warmup = -0.1", "schedule: warmup -0.1: expected a number >= 0"),
    ("warmup_epochs = 1", "steps = 100", "schedule.steps: unknown; expected one of lr, warmup"),
    ("RandomFlip", "Flip", "augment.name: 'Flip': expected one of"),
    ("padding = 2", "padding = -2", "augment RandomCrop: RandomCrop"),
    ("padding = 2", "padding = 2.5", "augment RandomCrop.padding: 2.5: expected an integer"),
    ("padding = 2", "pad = 2", "augment RandomCrop.pad: unknown; expected one of padding"),
    ("label_smoothing = 0.1", "label_smoothing = 1", "loss: label_smoothing 1"),
    ("label_smoothing = 0.1", "smoothing = 0.1", "loss.smoothing: unknown"),
    ("[loss]", "[losses]", "losses: unknown; expected one of about"),
    ("[loss]", "[loss]\n[loss]", "isn't TOML: "),
    ("[loss]\nlabel_smoothing = 0.1", "[test]\ntta = 'turn'", "test.tta: 'turn': expected one of"),
    ("[loss]\nlabel_smoothing = 0.1", "[freeze]\nafter = 1", "freeze: .*each under [[freeze]]"),
    ("[loss]\nlabel_smoothing = 0.1", "[[freeze]]\nafter = 1", "freeze.layer: is missing"),
    (
        "[loss]\nlabel_smoothing = 0.1",
        "[[freeze]]\nlayer = 'x'\nafter = -1",
        "freeze.after: value -1: expected an integer >= 0",
    ),
]


@pytest.mark.parametrize(("right", "wrong", "said"), WRONG)
def test_what_is_wrong_is_said_with_file_and_key(write, right, wrong, said):
    assert right in OWN
    path = write(OWN.replace(right, wrong, 1))
    with pytest.raises(mc.RecipeError) as caught:
        mc.recipes.load(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and "\n" not in text.split("isn't TOML")[0]
    pattern = ".*".join(map(re.escape, said.split(".*")))
    assert re.search(pattern, text), text


def test_load_says_what_there_is(tmp_path):
    with pytest.raises(mc.RecipeError, match=r"expected one of .*tutorial.* ends in \.toml"):
        mc.recipes.load("resnet2")
    with pytest.raises(mc.RecipeError, match=r"none\.toml: can't be read: No such file"):
        mc.recipes.load(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(mc.RecipeError, match="isn't TOML"):
        mc.recipes.load(str(tmp_path / "bytes.toml"))


FREEZE = (
    OWN
    + '\n[[freeze]]\nlayer = "conv2d_*"\nafter = 1\n\n[[freeze]]\nlayer = "dense_1"\nafter = 2\n'
)


def test_freeze_stops_layers_when_their_time_has_come(write):
    recipe = mc.recipes.load(write(FREEZE))
    model, optimizer = recipe.build_model((32, 32, 3)), recipe.optimizer(1)
    x, y = mc.datasets.synthetic(8, seed=0)
    moved = []
    for epoch in range(3):
        recipe.freeze(model, epoch)
        before = {name: array.copy() for name, array in model.params.items()}
        mc.train_step(model, optimizer, x, y, recipe.loss())
        moved.append(
            {name.split("/")[0] for name, a in model.params.items() if (a != before[name]).any()}
        )
    convs = {"conv2d_1", "conv2d_2", "conv2d_3"}
    assert moved == [convs | {"dense_1", "dense_2"}, {"dense_1", "dense_2"}, {"dense_2"}]


def test_freeze_names_a_layer_that_is_there(write):
    recipe = mc.recipes.load(write(FREEZE.replace("dense_1", "dense_9")))
    with pytest.raises(mc.RecipeError, match="'dense_9': the network has no such layer; expected"):
        recipe.build_model((32, 32, 3))
    recipe = mc.recipes.load(write(f'{FREEZE}parameters = ["v"]'))
    with pytest.raises(mc.RecipeError, match=r"freeze.parameters: 'v': no such .*some of b, w"):
        recipe.build_model((32, 32, 3))


def test_speedrun_is_whitened_and_looks_ahead():
    recipe = mc.recipes.load("speedrun94").changed(dtype="float32")
    optimizer = recipe.optimizer(48)
    assert optimizer.lr_scale == {"*/beta": 64.0}
    decay = optimizer.lookahead.decay
    assert [decay(0), decay(240), decay(480)] == pytest.approx([0, 0.774 / 8, 0.774])
    x, _ = mc.datasets.synthetic(200, seed=0)
    model = recipe.build_model((32, 32, 3))
    before = model.params["whiten/w"].copy()
    recipe.prepare(model, x)
    assert (model.params["whiten/w"] != before).all()
    frozen = []
    for epoch in (0, 2, 3, 3):
        recipe.freeze(model, epoch)
        frozen.append(set(model.params.frozen))
    assert frozen == [{"whiten/w"}] * 2 + [{"whiten/w", "whiten/b"}] * 2


def test_speedruns_rates_are_airbenchs():
    """Theirs: a sum over the batch, PyTorch's SGD with wd/lr; ours: the mean.  One step of each."""
    tables = tomllib.loads((FOLDER / "speedrun94.toml").read_text())
    N, momentum = 1024, 0.85
    scale = 1024 * (1 + 1 / (1 - momentum))
    lr, wd = 11.5 / scale, 0.0153 * N / scale
    g, w = 0.3, 0.7  # the mean gradient of a picture, a weight
    theirs = lr * (N * g + wd / lr * w)
    ours = tables["schedule"]["lr"] * (g + tables["optimizer"]["weight_decay"] * w)
    assert ours == pytest.approx(theirs, rel=1e-3)
    assert tables["optimizer"]["momentum"] == momentum
