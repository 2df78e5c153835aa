"""A run's folder: what stays in it, what it survives, and who may use it."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import run_helpers as runs
from run_helpers import Plan, assert_same, figures, leftovers, net, pictures, process, saved, states

import minicnn as mc

PLAN = Plan(options={"validation": 0.25})


def file(folder, name):
    return folder / f"{name}.safetensors"


@pytest.fixture
def folder(tmp_path):
    """Return the folder of a run of four epochs: last, best, epoch-0002 to epoch-0004."""
    PLAN.train(4, tmp_path / "run")
    return tmp_path / "run"


# What stays.


@pytest.mark.parametrize("epochs", [1, 2, 3, 6])
def test_run_folder_keeps_the_newest_epochs(tmp_path, epochs):
    PLAN.train(epochs, tmp_path)
    kept = [f"epoch-{n:04d}" for n in range(1, epochs + 1)][-3:]
    assert states(tmp_path) == sorted(["last", "best", *kept])
    assert leftovers(tmp_path) == []
    for name in kept:
        assert saved(file(tmp_path, name))["epoch"] == int(name[-4:])
    assert saved(file(tmp_path, "last"))["epoch"] == epochs


def train_by_hand(folder, losses, keep=3):
    """Train an epoch for each loss, which validation is said to give; return the run."""
    model, optimizer = net().build(runs.SHAPE), mc.SGD(0.01)
    batches = mc.Batches(*pictures(), 8, stream=mc.Stream(0, "shuffle"))
    run = mc.Run(model, optimizer, batches, folder=folder, keep=keep, progress=False)
    with run:
        for loss in losses:
            for x, labels in run.rest_of_epoch():
                mc.train_step(model, optimizer, x, labels, meter=run.meter)
            run.end_epoch({"loss": loss, "accuracy": 0.5})
    return run


@pytest.mark.parametrize("keep", [1, 2, 5])
def test_run_folder_keeps_as_many_as_asked(tmp_path, keep):
    train_by_hand(tmp_path, [1.0, 1.0, 1.0, 1.0], keep)
    assert len(states(tmp_path)) == 2 + min(keep, 4)
    train_by_hand(tmp_path, [1.0, 1.0], keep)  # and goes on so
    names = [f"epoch-{n:04d}" for n in range(1, 7)][-keep:]
    assert states(tmp_path) == sorted(["last", "best", *names])


@pytest.mark.parametrize("keep", [-1, 0, 1.5, "3", None, True])
def test_run_folder_refuses_another_keep(tmp_path, keep):
    with pytest.raises(ValueError, match=re.escape(f"keep {keep!r}: expected an integer >= 1")):
        train_by_hand(tmp_path, [1.0], keep)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("losses", "best"),
    [([3, 2, 1], 3), ([1, 2, 3], 1), ([3, 1, 2], 2), ([2, 2, 2], 1), ([float("inf"), 5, 6], 2)],
)
@pytest.mark.parametrize("stop", [0, 1, 2])
def test_best_is_the_lowest_validation_loss(tmp_path, losses, best, stop):
    train_by_hand(tmp_path, losses[:stop]) if stop else None
    run = train_by_hand(tmp_path, losses[stop:])
    assert saved(file(tmp_path, "best"))["epoch"] == best
    assert run.best == min(losses)


def test_best_is_the_lowest_training_loss_without_validation(tmp_path):
    losses = [record.loss for record in Plan().train(4, tmp_path).records]
    assert saved(file(tmp_path, "best"))["epoch"] == 1 + int(np.argmin(losses))


def test_state_amid_an_epoch_is_last_only(tmp_path):
    PLAN.train(3, tmp_path, stop=7)
    assert states(tmp_path) == ["best", "epoch-0001", "last"]
    assert saved(file(tmp_path, "last"))["position"] > 0
    assert saved(file(tmp_path, "epoch-0001"))["position"] == 0


def test_run_folder_may_have_any_name(tmp_path):
    folder = tmp_path / "ein Läuf, 100 % [neu]" / "träining"
    PLAN.train(1, folder)
    assert_same(PLAN.train(2, str(folder)), PLAN.train(2))


def test_run_folder_works_without_hard_links(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", lambda *args: (_ for _ in ()).throw(OSError("no links here")))
    whole = PLAN.train(4, tmp_path)
    assert states(tmp_path) == ["best", "epoch-0002", "epoch-0003", "epoch-0004", "last"]
    monkeypatch.undo()
    assert file(tmp_path, "last").stat().st_nlink == 1
    assert_same(PLAN.train(4, tmp_path), whole)


# The newest is broken.


def cut(path):
    with open(path, "r+b") as opened:
        opened.truncate(path.stat().st_size // 2)


def flip(path):
    with open(path, "r+b") as opened:
        opened.seek(-20, os.SEEK_END)
        byte = opened.read(1)[0]
        opened.seek(-20, os.SEEK_END)
        opened.write(bytes([byte ^ 16]))


def flip_text(path):
    content = path.read_bytes()
    where = content.index(b"position") + 14
    with open(path, "r+b") as opened:
        opened.seek(where)
        opened.write(bytes([content[where] ^ 1]))


def empty(path):
    os.truncate(path, 0)


def replaced(path):
    """Put another file in its place, which leaves its other names alone."""
    path.unlink()
    path.write_bytes(b"something else")


DAMAGES = {"cut": cut, "flipped": flip, "flipped_text": flip_text, "emptied": empty}
DAMAGES |= {"replaced": replaced, "removed": Path.unlink}


@pytest.mark.parametrize("kind", DAMAGES)
def test_broken_last_falls_back_to_the_newest_whole_one(folder, kind):
    whole, last = PLAN.train(6), file(folder, "last")
    newest = file(folder, "epoch-0004").read_bytes()
    DAMAGES[kind](last)
    damaged = last.read_bytes() if last.exists() else None
    newest_is_whole = file(folder, "epoch-0004").read_bytes() == newest
    with pytest.warns(mc.CheckpointWarning) as said:
        run = PLAN.train(4, folder)
    texts = [str(warning.message) for warning in said]
    assert texts[0].startswith(str(last))
    if newest_is_whole:
        assert len(texts) == 1 and f"Going on from {file(folder, 'epoch-0004')}" in texts[0]
        assert run.records == []
        assert (last.read_bytes() if last.exists() else None) == damaged  # left where it is
        with pytest.warns(mc.CheckpointWarning):  # and told again until there is a new one
            rest = PLAN.train(6, folder)
    else:
        assert kind not in ("replaced", "removed")
        assert all(f"Going on from {file(folder, 'epoch-0003')}" in text for text in texts)
        assert [record.epoch for record in run.records] == [4]
        rest = PLAN.train(6, folder)
    assert_same(rest, whole)


@pytest.mark.parametrize("kind", DAMAGES)
def test_broken_newest_ones_fall_back_further(folder, kind):
    names = ["last", "epoch-0004", "epoch-0003"]
    for name in names:
        copy = file(folder, name).read_bytes()  # each a file of its own
        file(folder, name).unlink()
        file(folder, name).write_bytes(copy)
        DAMAGES[kind](file(folder, name))
    with pytest.warns(mc.CheckpointWarning) as said:
        run = PLAN.train(4, folder)
    assert [record.epoch for record in run.records] == [3, 4]
    texts = [str(warning.message) for warning in said]
    for name in names if kind != "removed" else names[:1]:
        assert sum(str(file(folder, name)) in text.split(". Going on")[0] for text in texts) == 1
    assert all("epoch-0002" in text.split("Going on from")[1] for text in texts)
    assert_same(PLAN.train(5, folder), PLAN.train(5))


@pytest.mark.parametrize("kind", [name for name in DAMAGES if name != "removed"])
def test_broken_states_all_of_them_are_refused(folder, kind):
    names = states(folder)  # best too, which is the last resort
    for name in names:
        if file(folder, name).stat().st_nlink > 1:
            copy = file(folder, name).read_bytes()
            file(folder, name).unlink()
            file(folder, name).write_bytes(copy)
        DAMAGES[kind](file(folder, name))
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(mc.CheckpointError, match=r"no state of the run is whole") as caught:
        PLAN.train(5, folder)
    for name in names:
        assert str(file(folder, name)) in str(caught.value)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_broken_last_amid_an_epoch_falls_back_to_its_start(tmp_path):
    PLAN.train(3, tmp_path, stop=7)
    cut(file(tmp_path, "last"))
    with pytest.warns(mc.CheckpointWarning, match=r"last.*Going on from .*epoch-0001"):
        rest = PLAN.train(3, tmp_path)
    assert_same(rest, PLAN.train(3))


def test_broken_last_in_place_leaves_an_earlier_state_whole(tmp_path):
    """A disk's bad sector in ``last``: whatever keep is, not all is lost."""
    train_by_hand(tmp_path, [2.0, 1.0, 3.0], keep=1)
    cut(file(tmp_path, "last"))
    with pytest.warns(mc.CheckpointWarning) as said:
        train_by_hand(tmp_path, [1.0], keep=1)
    assert str(file(tmp_path, "last")) in str(said[0].message)


def test_misfit_is_no_damage(folder):
    """Another architecture isn't a reason to fall back to an older state."""
    with pytest.raises(
        mc.CheckpointError, match=r"last\.safetensors is of a run with another arch"
    ):
        Plan(model=lambda: net(5), options=PLAN.options).train(5, folder)


# One process at a time.


def test_run_folder_is_locked_while_a_run_is_open(tmp_path):
    fitted = mc.fit(
        net().build(runs.SHAPE), *pictures(), optimizer=mc.SGD(0.1), checkpoint=tmp_path,
        progress=False,
    )  # fmt: skip
    next(fitted)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(
        mc.CheckpointError, match=r"another run is at work in this folder.*of its own"
    ):
        Plan().train(1, tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    fitted.close()
    with pytest.raises(mc.CheckpointError, match="another"):  # unlocked: now it is looked at
        Plan().train(1, tmp_path, seed=7)


def test_two_processes_in_one_folder_are_refused_until_one_dies(tmp_path):
    with process(runs.__file__, tmp_path, 10**6) as first:
        assert first.stdout.readline() == "ready\n"
        while not file(tmp_path, "last").exists():
            assert first.poll() is None
        with process(runs.__file__, tmp_path, 3) as second:
            _, said = second.communicate(timeout=30)
        assert second.returncode == 1 and "another run is at work in this folder" in said
        with pytest.raises(mc.CheckpointError, match="another run is at work"):
            PLAN.train(1, tmp_path)
        assert first.poll() is None
        first.send_signal(signal.SIGKILL)
        first.wait()
    done = saved(file(tmp_path, "last"))["epoch"]
    with process(runs.__file__, tmp_path, done + 1) as third:
        printed, _ = third.communicate(timeout=30)
    assert third.returncode == 0 and "done" in printed


def test_run_folder_that_two_enter_at_once_is_one_runs(tmp_path, monkeypatch):
    """The other process may at any moment remove what it made to see if it could."""
    replace = os.replace

    def replace_and_lose(source, target):
        replace(source, target)
        if str(target).endswith(".writable"):
            os.unlink(target)

    monkeypatch.setattr(os, "replace", replace_and_lose)
    PLAN.train(1, tmp_path)
    assert leftovers(tmp_path) == []


# Killed at any step of saving.


def count_best(folder):
    """Return the epoch of the best state."""
    return saved(file(folder, "best"))["epoch"]


@pytest.mark.slow
def test_run_killed_before_any_file_operation_goes_on(tmp_path):
    """A process kills itself before its 1st, 2nd, ... operation on a file, in its first epochs."""
    with process(runs.__file__, tmp_path / "whole", 6) as whole:
        expected = whole.communicate(timeout=60)[0].split()[-1]
    best = count_best(tmp_path / "whole")

    def kill_and_go_on(number):
        folder = tmp_path / str(number)
        with process(runs.__file__, folder, 6, number) as killed:
            printed, said = killed.communicate(timeout=60)
        assert killed.returncode == -signal.SIGKILL, said
        if file(folder, "last").exists():
            mc.load(file(folder, "last"))
        with process(runs.__file__, folder, 6) as again:
            printed, said = again.communicate(timeout=60)
        assert again.returncode == 0 and "broken" not in said, said
        there = file(folder, "best").exists()
        mismatch = [number] if not there or count_best(folder) != best else []
        return printed.split()[-1], mismatch, leftovers(folder)

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(kill_and_go_on, range(1, 60, 3)))
    assert {digest for digest, _, _ in results} == {expected}
    assert [found for _, found, _ in results if found] == []  # where best isn't the best
    assert [found for _, _, found in results if found] == []  # where files are left for ever


@pytest.mark.parametrize("at", range(1, 7))
def test_error_at_any_step_of_saving_leaves_best_the_best(tmp_path, monkeypatch, at):
    """Each epoch is better than the one before; something fails while the third is saved."""
    train_by_hand(tmp_path, [5.0, 4.0])
    replace, count = os.replace, 0

    def failing(source, target):
        nonlocal count
        count += not str(target).endswith(".writable")
        if count == at:
            raise OSError(28, "No space left on device", str(source))
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    try:
        train_by_hand(tmp_path, [3.0])
    except OSError:
        assert at <= 3
    monkeypatch.undo()
    done = saved(file(tmp_path, "last"))["epoch"]
    train_by_hand(tmp_path, [3.0, 6.0][done - 2 :])
    assert saved(file(tmp_path, "last"))["epoch"] == 4
    assert count_best(tmp_path) == 3


# A full disk.


FILL = """
import sys
from pathlib import Path
import minicnn as mc, run_helpers as runs
folder, limit = Path(sys.argv[1]), int(sys.argv[2])
if limit:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    runs.Plan().train(10_000, folder)
except Exception as error:
    print(f"{type(error).__name__}: {error}")
    assert isinstance(error, (OSError, mc.CheckpointError)), "another kind of error"
else:
    print("never full")
"""


def check_full(folder, said):
    """Check the folder of a run whose disk is full, and what it said."""
    assert "never full" not in said
    states_there = states(folder)
    for name in states_there:
        mc.load(file(folder, name))
    epoch = saved(file(folder, "last"))["epoch"]
    assert f"epoch-{epoch:04d}" in states_there
    assert leftovers(folder) == []
    return epoch


def test_run_with_a_limit_on_files_keeps_the_last_state(tmp_path):
    folder = tmp_path / "run"
    with process("-c", FILL, folder, 20_000) as filled:
        said, errors = filled.communicate(timeout=60)
    epoch = check_full(folder, said)
    assert epoch > 3
    rest = Plan().train(epoch + 1, folder)  # the limit is gone: on it goes
    assert_same(rest, Plan().train(epoch + 1))
    assert filled.returncode == 0, errors
    assert "File too large" in said and str(file(folder, "last")) in said


def can_mount():
    """Whether a process here may mount file systems that it alone sees."""
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    probe = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs none /tmp"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def mounted(options, folder, command):
    """Run a Python command where a file system of its own is mounted on ``folder``."""
    folder.mkdir()
    script = 'mount -t tmpfs -o "$1" none "$2" && shift 2 && exec "$@"'
    inner = ["sh", "-c", script, "sh", options, str(folder), sys.executable, *map(str, command)]
    return subprocess.run(
        ["unshare", "-rm", *inner],
        env=runs.environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.skipif("not can_mount()", reason="mounting a small disk isn't permitted here")
def test_run_on_a_full_disk_keeps_the_last_state(tmp_path):
    look = "import sys; from pathlib import Path; from test_run_folder import check_full\n"
    look += "print('epoch', check_full(Path(sys.argv[1]), ''))"
    code = FILL + "\nimport subprocess\nsubprocess.run([sys.executable, '-c', " + repr(look)
    code += ", str(folder)], check=True)"
    done = mounted("size=100k", tmp_path / "small", ["-c", code, tmp_path / "small" / "run", "0"])
    assert re.search(r"epoch \d+", done.stdout), done.stdout + done.stderr
    assert done.returncode == 0, done.stderr
    assert "No space left" in done.stdout and "last.safetensors" in done.stdout


def test_save_on_a_full_disk_says_which_file(tmp_path):
    """A model's own file, at a limit: the old one stays, the error names it."""
    path = mc.save(net().build(runs.SHAPE), tmp_path / "model.safetensors")
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises((OSError, mc.CheckpointError), match=r"model\.safetensors"):
            mc.save(net(30).build(runs.SHAPE), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before and [*tmp_path.iterdir()] == [path]


# A folder that can't be written to: said before anything is trained.


def refused_before_training(folder):
    """Try to train in a folder that can't be one; return the error's text."""
    model, optimizer = net().build(runs.SHAPE), mc.SGD(0.1)
    before = model.params.data.copy()
    fitted = mc.fit(model, *pictures(), optimizer=optimizer, checkpoint=folder, progress=False)
    with pytest.raises((OSError, mc.CheckpointError)) as caught:
        next(fitted)
    assert optimizer.steps == 0
    np.testing.assert_array_equal(model.params.data, before)
    assert str(folder) in str(caught.value)
    return caught.value


@pytest.mark.parametrize("below", ["", "deeper", "deeper/still"])
def test_run_folder_that_is_a_file_is_refused_before_training(tmp_path, below):
    (tmp_path / "file").write_bytes(b"mine")
    refused_before_training(tmp_path / "file" / below)
    assert (tmp_path / "file").read_bytes() == b"mine"


@pytest.mark.skipif("os.geteuid() == 0", reason="root may write everywhere")
def test_run_folder_that_is_read_only_is_refused_before_training(tmp_path):
    tmp_path.chmod(0o500)
    refused_before_training(tmp_path)
    tmp_path.chmod(0o700)


@pytest.mark.skipif("not can_mount()", reason="mounting a read-only disk isn't permitted here")
@pytest.mark.parametrize("below", ["", "run"])
def test_run_folder_on_a_read_only_disk_is_refused_before_training(tmp_path, below):
    code = "import sys; from pathlib import Path; from test_run_folder import *\n"
    code += "error = refused_before_training(Path(sys.argv[1])); print(error)"
    done = mounted("ro", tmp_path / "ro", ["-c", code, tmp_path / "ro" / below])
    assert done.returncode == 0, done.stderr
    assert "Read-only file system" in done.stdout


@pytest.mark.parametrize("name", ["last", "epoch-0004"])
def test_record_of_every_state_is_complete(folder, name):
    whole = PLAN.train(4)
    assert figures(saved(file(folder, name))["records"]) == figures(whole.records)


@pytest.mark.parametrize("kind", runs.KINDS)
def test_state_without_steps_can_be_taken_up(tmp_path, kind):
    """A state from before the first step: nothing is trained yet, and that goes on too."""
    plan = Plan(partial(kind, 0.01))
    model, optimizer = plan.model().build(plan.shape, seed=1), plan.optimizer()
    streams = {use: mc.Stream(3, use) for use in ("shuffle", "augmentation")}
    batches = mc.Batches(
        *plan.data, 4, stream=streams["shuffle"], augment_stream=streams["augmentation"]
    )
    with mc.Run(model, optimizer, batches, folder=tmp_path) as run:
        run.save()
    assert_same(plan.train(2, tmp_path), plan.train(2))
