"""The search: what it tries, judges, gives up, goes on with and refuses."""

from __future__ import annotations

import dataclasses
import gc
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import tuning_helpers
from tuning_helpers import SPACE, pictures, recipe, tune

import minicnn as mc
from minicnn.tuning import Search, StorageError, owners, training

pytest.importorskip("optuna")


@pytest.fixture
def storage(tmp_path):
    """The address of a database that isn't there yet, if possible on a disk of memory."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else tmp_path
    with TemporaryDirectory(dir=memory) as folder:
        yield f"sqlite:///{folder}/tune.db"


@pytest.fixture(autouse=True, scope="module")
def old_objects_are_left_alone():
    """The garbage that is collected after each trial is looked for among new objects only."""
    mc.tune(*pictures(), recipe(), trials=1, storage="sqlite://", device="cpu")
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def process(*arguments):
    """Start a search in a process of its own, which waits to be told to begin."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", tuning_helpers.__file__, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(Path(mc.__file__).parents[1]), "MINICNN_PROCESSES": "0"},
    )


def say_go(search):
    search.stdin.write("go\n")
    search.stdin.flush()


def settings(results):
    """The values and accuracies of all trials that were judged."""
    judged = [t for t in results.trials if t.state in ("complete", "pruned")]
    return [(t.values, t.accuracy, t.state) for t in judged]


def test_same_seed_gives_the_same_trials_and_another_one_others():
    first = tune(None, 3)
    assert settings(first) == settings(tune(None, 3))
    assert settings(first)[1:] != settings(tune(None, 3, seed=1))[1:]


def test_search_goes_on_as_if_it_had_not_stopped(storage, monkeypatch):
    monkeypatch.setattr("minicnn.tuning.sampler.RANDOM", 2)
    at_once = tune(None, 5)  # beyond those that are drawn by chance
    assert len(tune(storage, 3).trials) == 3
    in_parts = tune(storage, 5)
    assert settings(in_parts) == settings(at_once)
    assert tune(storage, 5).trials == in_parts.trials  # there is nothing left to do


def test_first_trial_is_the_recipe_and_its_accuracy_is_what_fit_says():
    results = tune(None, 1)
    (trial,) = results.trials
    assert trial.values == {"lr": 0.05, "loss.label_smoothing": 0.0}
    base, (x, y) = recipe(), pictures()
    model = base.build_model((8, 8, 3), seed=0)
    assert results.pictures == (30, 10)
    *_, last = mc.fit(
        model, x, y, optimizer=base.optimizer(2), epochs=1, batch_size=15, validation=0.3
    )
    assert (trial.accuracy, trial.epochs) == (last.val_accuracy, 1)


def test_killed_search_is_made_up_for(storage):
    with process(storage, "10", "4") as killed:
        assert killed.stdout.readline() == "ready\n"
        say_go(killed)
        say_go(killed)
        assert len(killed.stdout.readlines()) == 4
    assert killed.returncode == -signal.SIGKILL
    results = tune(storage, 10)
    assert [t.state for t in results.trials] == ["complete"] * 4 + ["failed"] + ["complete"] * 6
    assert results.trials[4].note == "its process ended" and results.trials[4].epochs == 0
    assert [t.number for t in results.trials] == list(range(11))


def test_two_processes_share_a_study(storage):
    with process(storage, "10") as other:
        mine, theirs = [], []

        def report(trial):
            mine.append(trial)
            if len(mine) == 1:  # both have done one, and both go on
                theirs.append(other.stdout.readline())
                say_go(other)

        assert other.stdout.readline() == "ready\n"
        say_go(other)
        tune(storage, 10, report=report)  # both make the database, and the study
        theirs += other.stdout.readlines()
    assert other.returncode == 0
    results = tune(storage, 10)
    assert [t.state for t in results.trials if t.state != "failed"] == ["complete"] * 10
    assert len(mine) >= 1 and len(theirs) >= 1 and len(mine) + len(theirs) == 10
    assert len({str(t.values) for t in results.trials if t.values}) == 10


def test_no_more_trials_than_asked_for_when_another_was_quicker(storage, monkeypatch):
    search = Search(*pictures(), recipe(), trials=1, storage=storage, device="cpu")
    ask = search.study.ask

    def late():
        mc.tune(*pictures(), recipe(), trials=1, storage=storage, device="cpu")
        return ask()

    monkeypatch.setattr(search.study, "ask", late)
    search.run()
    states = [(t.state, t.note) for t in search.results().trials]
    assert states == [("complete", ""), ("failed", "one more than there were to be")]


def shades(monkeypatch):
    """Return dark and light pictures, labels, and a recipe that learns them in an epoch."""
    monkeypatch.setattr("minicnn.tuning.sampler.RANDOM", 100)
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    light = (150 * y).astype("uint8")[:, None, None, None]
    base = recipe({"name": "tutorial_cnn"}, epochs=2, batch_size=10)
    return rng.integers(0, 100, (40, 32, 32, 3), "uint8") + light, y, base


@pytest.mark.parametrize("pruner", ["median", "halving"])
def test_bad_setting_is_pruned_at_the_first_epoch(pruner, monkeypatch):
    space = {"lr": {"choices": [0.05, 0.04, 0.03, 1e-12]}}
    options = {"space": space, "device": "cpu", "validation": 0.3, "pruner": pruner}
    results = mc.tune(*shades(monkeypatch), trials=8, **options)
    good = [t for t in results.trials if t.values["lr"] > 0.01]
    bad = [t for t in results.trials if t.values["lr"] < 0.01 and t.number > 2]
    assert {(t.state, t.accuracy, t.epochs) for t in good} == {("complete", 1.0, 2)}
    assert bad and {(t.state, t.epochs) for t in bad} == {("pruned", 1)}
    assert results.best.values == {"lr": 0.05}


@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered")
def test_trial_that_diverges_is_judged_and_the_search_goes_on():
    results = tune(None, 6, space={"lr": [0.05, 1e30]})
    bad = [t for t in results.trials if t.values["lr"] > 1]
    assert len(results.trials) == 6 and bad
    for trial in bad:
        assert trial.state == "pruned" and "diverged: epoch 1, batch" in trial.note
        assert trial.accuracy is None
    assert "diverged" in str(results)


def test_trial_without_memory_is_judged_and_the_search_goes_on(monkeypatch):
    step = training.train_step

    def greedy(model, optimizer, x, *rest, **options):
        if len(x) > 10:
            raise MemoryError("Unable to allocate 3 GiB. Take less")
        return step(model, optimizer, x, *rest, **options)

    monkeypatch.setattr(training, "train_step", greedy)
    results = tune(None, 5, space={"batch_size": [10, 15]})
    notes = {(t.values["batch_size"], t.state, t.note) for t in results.trials}
    want = "out of memory: Unable to allocate 3 GiB"
    assert notes == {(15, "pruned", want), (10, "complete", "")}


def test_setting_that_does_not_fit_the_pictures_is_judged():
    space = {"batch_size": [15, 64]}
    base = recipe(drop_last=True)
    results = mc.tune(*pictures(), base, trials=4, space=space, validation=0.3, device="cpu")
    (note,) = {t.note for t in results.trials if t.values["batch_size"] == 64}
    assert "can't be trained: 30 examples make no batch of 64" in note


def test_other_errors_end_the_search_and_the_trial_is_not_counted(storage, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(training, "train_step", lambda *a, **b: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            tune(storage, 2)
    results = tune(storage, 2)
    assert [t.state for t in results.trials] == ["failed", "complete", "complete"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_the_search_with_what_is_there(number, storage, tmp_path, monkeypatch, capfd):
    done, step = [], training.train_step

    def interrupted(*args, **options):
        if len(done) == 2:
            signal.raise_signal(number)
        return step(*args, **options)

    monkeypatch.setattr(training, "train_step", interrupted)
    out = tmp_path / "best.toml"
    with pytest.raises(mc.Interrupted) as stop:
        tune(storage, 5, report=done.append, out=out)
    assert stop.value.code == 128 + number and "isn't counted" in str(stop.value)
    assert "ending after this batch" in capfd.readouterr().err
    assert mc.recipes.load(out).name == "best"
    monkeypatch.undo()
    states = [t.state for t in tune(storage, 5).trials]
    assert states == ["complete"] * 2 + ["failed"] + ["complete"] * 3


def test_timeout_begins_no_new_trial():
    assert tune(None, 5, timeout=0).trials == []
    done = []
    results = tune(None, 500, timeout=0.4, report=done.append)
    assert 0 < len(results.trials) < 500 and {t.state for t in results.trials} == {"complete"}


def test_study_about_something_else_is_refused(storage):
    tune(storage, 1)
    for change, said in (
        ({"space": SPACE | {"lr": [0.1, 0.2]}}, "about another space: space.lr.choices"),
        ({"epochs": 2}, "about another recipe: recipe.training.epochs is 1 there, 2 here"),
        ({"seed": 1}, "about another seed: seed is 0 there, 1 here"),
        ({"validation": 0.5}, "about another data set"),
    ):
        with pytest.raises(ValueError, match=f"study 'small' in .*tune.db is {said}"):
            tune(storage, 1, **change)
    assert len(tune(storage, 1, **change, study="another").trials) == 1


def test_study_with_other_pictures_is_refused(storage):
    tune(storage, 1)
    x, y = pictures()
    x[0, 0, 0, 0] ^= 1
    options = {"space": SPACE, "validation": 0.3, "device": "cpu"}
    with pytest.raises(ValueError, match="is about another data set"):
        mc.tune(x, y, recipe(), trials=1, storage=storage, **options)


def test_study_of_somebody_else_is_refused(storage):
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(storage=storage, study_name="small")
    study.ask()
    with pytest.raises(ValueError, match=r"study 'small' .* wasn't made by minicnn"):
        tune(storage, 1)


def test_trials_are_trained_with_the_values_that_are_said(monkeypatch):
    trained, train = [], training.epochs_of

    def watched(recipe, *rest):
        trained.append({"lr": recipe.tables["schedule"]["lr"], **recipe.tables["loss"]})
        return train(recipe, *rest)

    monkeypatch.setattr("minicnn.tuning.search.epochs_of", watched)
    results = tune(None, 3)
    said = [list(trial.values.values()) for trial in results.trials]
    assert [list(values.values()) for values in trained] == said
    assert all(len(f"{values[0]:.12g}") <= len("0.0123") for values in said)


def test_best_recipe_can_be_read_and_trained_by(tmp_path):
    out = tmp_path / "folder" / "best.toml"
    results = tune(None, 3, out=out)
    read = mc.recipes.load(out)
    best = results.best
    assert best.accuracy == max(t.accuracy for t in results.trials)
    assert read.tables["schedule"]["lr"] == best.values["lr"]
    assert read.tables["loss"]["label_smoothing"] == best.values["loss.label_smoothing"]
    assert read.epochs == 1
    assert f"trial {best.number}" in read.about and f"{best.accuracy:.4f}" in read.about
    assert "study 'small'" in read.about and "of 10 held-out pictures" in read.about
    x, y = pictures()
    model = read.build_model((8, 8, 3), seed=0)
    *_, last = mc.fit(
        model,
        x,
        y,
        optimizer=read.optimizer(2),
        epochs=1,
        batch_size=15,
        validation=0.3,
        loss=read.loss(),
    )
    assert last.val_accuracy == best.accuracy
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered")
def test_without_a_complete_trial_there_is_no_best_one(tmp_path):
    results = tune(None, 2, space={"lr": [1e30, 2e30]}, out=tmp_path / "best.toml")
    assert results.best is None and not (tmp_path / "best.toml").exists()
    with pytest.raises(ValueError, match="study 'small' has no complete trial yet"):
        results.write(tmp_path / "best.toml")


def test_database_that_is_busy_is_waited_for(storage):
    tune(storage, 1)
    with sqlite3.connect(storage.removeprefix("sqlite:///"), check_same_thread=False) as busy:
        busy.execute("BEGIN EXCLUSIVE")
        timer = threading.Timer(0.5, busy.rollback)
        timer.start()
        started = time.monotonic()
        assert len(tune(storage, 2).trials) == 2
        assert time.monotonic() - started > 0.3
        timer.join()
    busy.close()


def test_database_that_stays_busy_is_an_error(storage, monkeypatch):
    tune(storage, 1)
    monkeypatch.setattr("minicnn.tuning.storage.BUSY", 0.1)
    busy = sqlite3.connect(storage.removeprefix("sqlite:///"))
    busy.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StorageError, match=r"tune.db: database is locked \(waited 0.1 s"):
        tune(storage, 2)
    busy.close()


@pytest.mark.parametrize(
    ("address", "kind", "said"),
    [
        ("tune.db", ValueError, "storage 'tune.db': expected an address such as sqlite:///"),
        ("nosuch://x", ValueError, "storage 'nosuch://x': .*as sqlite:///"),
        ("sqlite:////no/such/folder/t.db", StorageError, "unable to open database file"),
    ],
)
def test_bad_storage_is_refused(address, kind, said):
    with pytest.raises(kind, match=said):
        tune(address, 1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"trials": 0}, "trials 0: expected an integer >= 1"),
        ({"pruner": "rose"}, "pruner 'rose': expected one of median, halving, none"),
        ({"timeout": -1}, "timeout -1: expected a number >= 0"),
        ({"validation": 0}, "fraction 0: expected a number between 0 and 1"),
        ({"epochs": 0}, "training.epochs: value 0: expected an integer >= 1"),
    ],
)
def test_bad_arguments_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        tune(None, **({"trials": 1} | options))


def test_pictures_that_do_not_fit_the_network_are_refused_at_once():
    with pytest.raises(ValueError, match="expected pictures"):
        mc.tune(np.zeros((20, 8), "uint8"), np.arange(20) % 2, recipe(), trials=1)
    with pytest.raises(TypeError, match="expects uint8"):
        mc.tune(np.zeros((20, 8, 8, 3), "float32"), np.arange(20) % 2, recipe(), trials=1)


def test_sign_of_life_is_written_while_it_trains(storage, monkeypatch):
    monkeypatch.setattr(owners, "BEAT", 0.0)
    said = []
    monkeypatch.setattr(owners, "me", lambda: said.append(1) or {"machine": "x", "seen": 0.0})
    tune(storage, 1)
    assert len(said) == 3  # before it, and after each batch


def test_trial_that_another_process_gave_up_is_not_counted(storage, monkeypatch):
    monkeypatch.setattr(owners, "BEAT", 0.0)
    import optuna

    def gone(numbers, trial, name):
        study = optuna.load_study(study_name="small", storage=storage)
        if not trial.number:
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        return 0.05

    monkeypatch.setattr("minicnn.tuning.space.Numbers.draw", gone)
    results = tune(storage, 2, space={"lr": SPACE["lr"]})
    assert [t.state for t in results.trials] == ["failed", "complete", "complete"]


def test_picture_shows_every_parameter(tmp_path):
    pytest.importorskip("matplotlib")
    results = tune(None, 5, space=SPACE | {"augment": ["none", "flip"]})
    figure = results.figure()
    assert [axes.get_title().partition(",")[0] for axes in figure.axes] == [*SPACE, "augment"]
    assert all(len(axes.collections[0].get_offsets()) == 5 for axes in figure.axes)
    formula = dataclasses.replace(results, study="a $\\frac{$ b")  # as people may call it
    assert formula.plot(tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="expected a file that ends in"):
        results.plot(tmp_path / "t.txt")
    with pytest.raises(ValueError, match="has no trial that could be drawn"):
        tune(None, 5, timeout=0).figure()


def test_search_runs_on_a_gpu(cupy):
    results = tune(None, 1, device="gpu", epochs=1)
    assert [t.state for t in results.trials] == ["complete"]
