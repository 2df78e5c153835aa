"""``minicnn tune``: what it prints, writes and refuses."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import numpy as np
import pytest
from tuning_helpers import pictures, recipe

import minicnn as mc
from minicnn import cli
from minicnn.recipes.writing import recipe_text
from minicnn.tuning import Results

SPACE = """
[lr]
low = 0.01
high = 0.1
log = true
"""


class Untouchable:
    """A test set that says who touches it."""

    def __getattribute__(self, name):
        raise AssertionError(f"the test set was touched: {name}")

    def __iter__(self):
        raise AssertionError("the test set was touched")

    def __getitem__(self, key):
        raise AssertionError("the test set was touched")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to work in, with a recipe and a space; CIFAR-10 is small and has no test set."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(recipe_text(recipe()))
    (tmp_path / "space.toml").write_text(SPACE)

    def cifar10(data_dir=None, download=True):
        return pictures(), Untouchable()

    monkeypatch.setattr(mc.datasets, "cifar10", cifar10)
    return tmp_path


def tune(*arguments):
    command = ["tune", "--recipe", "small.toml", "--trials", "2", "--device", "cpu"]
    return cli.main([*command, "--validation", "0.3", *map(str, arguments)])


def test_tune_without_optuna_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    assert cli.main(["tune", "--dataset", "synthetic"]) == 2
    assert "pip install 'minicnn[tune]'" in capsys.readouterr().err
    with pytest.raises(ImportError, match=r"minicnn\[tune\]"):
        mc.tune(*pictures(), recipe(), trials=1)


def test_tune_prints_a_line_for_each_trial_and_their_table(folder, capsys):
    pytest.importorskip("optuna")
    assert tune("--space", "space.toml", "--pictures", "30") == 0
    said = capsys.readouterr().out
    assert "data: cifar10, 20 pictures to train with, 10 to judge by" in said
    assert "study: 'small' in sqlite:///tune.db, 2 trials of 1 epochs" in said
    assert "  lr: 0.01 to 0.1, logarithmic\n" in said
    assert "\ntrial 0  accuracy 0." in said and "\ntrial 1  accuracy 0." in said
    assert "\ntrial  accuracy  epochs" in said and "lr" in said
    assert "best: trial " in said and said.rstrip().endswith("its recipe: best.toml")
    best = mc.recipes.load("best.toml")
    assert best.about.endswith("a test's") and best.epochs == 1
    assert {p.name for p in folder.iterdir()} == {
        "small.toml", "space.toml", "best.toml", "tune.db",
    }  # fmt: skip
    (folder / "best.toml").write_text("about = 'Found by minicnn tune'")
    assert tune("--space", "space.toml", "--pictures", "30") == 0  # its own it writes over
    assert mc.recipes.load("best.toml").tables == best.tables


def test_tune_writes_the_best_recipe_though_its_table_can_not_be_printed(folder, monkeypatch):
    pytest.importorskip("optuna")

    def full(results):
        raise OSError("no space left where stdout goes")

    monkeypatch.setattr(Results, "__str__", full)
    assert tune("--space", "space.toml", "--pictures", "30") == 2
    assert mc.recipes.load("best.toml").epochs == 1


def test_tune_says_what_it_does_not_search(folder, capsys):
    pytest.importorskip("optuna")
    wide = recipe().tables | {"model": {"name": "densenet_small", "depth": 7, "growth": 2}}
    (folder / "small.toml").write_text(recipe_text(mc.Recipe(wide, "small")))
    assert tune("--pictures", "30", "--timeout", "0") == 1
    said = capsys.readouterr().out
    assert "dropout: not searched, the network densenet_small has no such option" in said
    assert "width: not searched, the network densenet_small has one width only" in said
    assert "no trial is complete: there is no best one yet" in said


def test_tune_draws_the_trials(folder, capsys):
    pytest.importorskip("optuna")
    pytest.importorskip("matplotlib")
    assert tune("--space", "space.toml", "--plot", "pictures/t.svg", "--out", "b.toml") == 0
    assert "</svg>" in (folder / "pictures" / "t.svg").read_text()
    assert (folder / "b.toml").exists()


def test_tune_stopped_by_ctrl_c_shows_and_writes_what_is_there(folder, capsys, monkeypatch):
    pytest.importorskip("optuna")
    from minicnn.tuning import training

    steps, step = [], training.train_step

    def interrupted(*args, **options):
        steps.append(1)
        if len(steps) == 4:  # two batches a trial
            signal.raise_signal(signal.SIGINT)
        return step(*args, **options)

    monkeypatch.setattr(training, "train_step", interrupted)
    with pytest.raises(SystemExit) as stop:
        tune("--space", "space.toml", "--trials", "5")
    assert stop.value.code == 130
    said = capsys.readouterr().out
    assert "failed: broken off" in said and "best: trial 0" in said
    assert (folder / "best.toml").exists()


def test_tune_takes_drawn_pictures_and_folders(folder, capsys):
    pytest.importorskip("optuna")
    options = ["--space", "space.toml", "--trials", "1"]
    assert tune(*options, "--dataset", "synthetic", "--pictures", "40") == 0
    assert "data: synthetic, 30 pictures to train with" in capsys.readouterr().out
    image = pytest.importorskip("PIL.Image")
    for name in ("day", "night"):
        (folder / "own" / name).mkdir(parents=True)
        for number in range(10):
            picture = np.full((40, 40, 3), 20 * number, "uint8")
            image.fromarray(picture).save(folder / "own" / name / f"{number}.png")
    assert tune(*options, "--dataset", "own", "--study", "mine") == 0
    assert "data: own, 14 pictures to train with" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--recipe", "none"], "recipe 'none': expected one of"),
        (["--space", "none.toml"], "none.toml: can't be read"),
        (["--storage", "tune.db"], "expected an address such as sqlite:///tune.db"),
        (["--trials", "0"], "trials 0: expected an integer >= 1"),
        (["--pictures", "0"], "--pictures 0: expected an integer >= 1"),
        (["--dataset", "nowhere"], "nowhere isn't there"),
        (["--plot", "t.txt"], "t.txt: expected a file that ends in one of .png, .svg, .pdf"),
        (["--out", "best"], "best: expected a file that ends in .toml"),
        (["--out", "small.toml"], "small.toml: it is there, and no search has written it"),
        (["--out", "space.toml/best.toml"], "space.toml"),
        (["--plot", "small.toml/t.png"], "small.toml"),
    ],
)
def test_tune_refuses(arguments, said, folder, capsys):
    pytest.importorskip("optuna")
    pytest.importorskip("PIL")
    pytest.importorskip("matplotlib")
    assert tune(*arguments) == 2
    said_out, said_err = capsys.readouterr()
    assert said in said_err and "trial" not in said_out


def test_guide_runs(tmp_path, monkeypatch, capsys):
    pytest.importorskip("optuna")
    monkeypatch.chdir(tmp_path)
    train = mc.datasets.synthetic(60, seed=0)
    monkeypatch.setattr(mc.datasets, "cifar10", lambda: (train, Untouchable()))
    text = Path(mc.__file__).parents[1].joinpath("docs", "tuning.md").read_text()
    names = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, names)
    assert mc.recipes.load("best.toml").epochs == 1
    assert set(names["results"].trials[0].values) == set(names["space"])
    assert "accuracy  epochs" in capsys.readouterr().out
