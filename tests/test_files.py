"""Files that are whole or not there, and locks that end with their process."""

from __future__ import annotations

import errno
import os
import signal
import stat
import threading
from contextlib import ExitStack

import pytest
import run_helpers as runs

from minicnn.files import check_place, lock, take_lock, umask, whole_file


class Stop(BaseException):
    """Something that stops a program and that `except Exception` doesn't catch."""


# whole_file.


@pytest.mark.parametrize("old", [None, b"", b"old"])
def test_whole_file_puts_the_new_file_in_place(tmp_path, old):
    path = tmp_path / "a.bin"
    if old is not None:
        path.write_bytes(old)
    with whole_file(path) as part:
        assert part.parent == tmp_path and part.suffix == ".part" and part.name != path.name
        part.write_bytes(b"new")
        assert (path.read_bytes() if path.exists() else None) == old
    assert path.read_bytes() == b"new"
    assert [*tmp_path.iterdir()] == [path]


def test_whole_file_makes_the_folders(tmp_path):
    with whole_file(tmp_path / "a" / "b" / "c.bin") as part:
        part.write_bytes(b"x")
    assert (tmp_path / "a" / "b" / "c.bin").read_bytes() == b"x"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, Stop, MemoryError])
@pytest.mark.parametrize("old", [None, b"old"])
def test_whole_file_leaves_the_old_one_after_an_error(tmp_path, error, old):
    path = tmp_path / "a.bin"
    if old is not None:
        path.write_bytes(old)
    with pytest.raises(error), whole_file(path) as part:
        part.write_bytes(b"half")
        raise error
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([] if old is None else [old])


@pytest.mark.parametrize("step", ["fsync", "replace", "chmod"])
def test_whole_file_leaves_the_old_one_when_the_system_fails(tmp_path, monkeypatch, step):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def fail(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space left"), whole_file(path) as part:
        part.write_bytes(b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old" and [*tmp_path.iterdir()] == [path]


def test_whole_file_is_on_the_disk_before_it_is_renamed(tmp_path, monkeypatch):
    """File, then name, then folder: in this order, or a power cut leaves an empty file."""
    happened, fsync, replace = [], os.fsync, os.replace

    def note_fsync(handle):
        kind = "folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file"
        happened.append((f"fsync {kind}", os.fstat(handle).st_size if kind == "file" else None))
        fsync(handle)

    def note_replace(source, target):
        happened.append(("replace", None))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    with whole_file(tmp_path / "a.bin") as part:
        part.write_bytes(b"12345")
    assert happened == [("fsync file", 5), ("replace", None), ("fsync folder", None)]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002, 0o000])
def test_whole_file_has_the_usual_permissions(tmp_path, mask):
    before = os.umask(mask)
    try:
        with whole_file(tmp_path / "a.bin") as part:
            part.write_bytes(b"x")
            assert stat.S_IMODE(part.stat().st_mode) & 0o077 == 0  # nobody reads the half
        assert umask() == mask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.bin").stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize("name", ["Übung ñ 文.bin", "with space", "-dash", "a" * 200, "%s{x}"])
def test_whole_file_takes_any_name(tmp_path, name):
    with whole_file(tmp_path / name) as part:
        part.write_bytes(b"x")
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_whole_file_doesnt_replace_a_folder(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError, match="directory"), whole_file(tmp_path / "a") as part:
        part.write_bytes(b"x")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_check_place_says_beforehand_what_is_in_the_way(tmp_path, monkeypatch):
    check_place(tmp_path / "new" / "file")
    assert [place.name for place in tmp_path.rglob("*")] == ["new"]
    with pytest.raises(IsADirectoryError, match="new"):
        check_place(tmp_path / "new")

    def full(**options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a name of no interest")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(OSError, match=r"No space left on device: .*wanted'"):
        check_place(tmp_path / "wanted")


def test_whole_file_by_many_at_once_is_one_of_theirs(tmp_path):
    path, barrier, errors = tmp_path / "a.bin", threading.Barrier(4), []

    def write(byte):
        try:
            barrier.wait()
            for _ in range(20):
                with whole_file(path) as part:
                    part.write_bytes(byte * 5000)
                assert len(set(path.read_bytes())) == 1 and path.stat().st_size == 5000
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(bytes([65 + i]),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [] and [*tmp_path.iterdir()] == [path]


def test_whole_file_leaves_other_names_of_the_old_file_alone(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    os.link(tmp_path / "a", tmp_path / "b")
    with whole_file(tmp_path / "a") as part:
        part.write_bytes(b"new")
    assert (tmp_path / "b").read_bytes() == b"old"


# take_lock.


def test_take_lock_is_for_one_at_a_time(tmp_path):
    path = tmp_path / "lock"
    with take_lock(path) as first:
        assert first is True
        for _ in range(2):
            with take_lock(path) as second:
                assert second is False
    with take_lock(path) as third:
        assert third is True
    assert path.read_bytes() == b""


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_take_lock_ends_with_an_error(tmp_path, error):
    with pytest.raises(error), take_lock(tmp_path / "lock"):
        raise error
    with take_lock(tmp_path / "lock") as free:
        assert free


def test_take_lock_leaves_a_file_of_that_name_alone(tmp_path):
    (tmp_path / "lock").write_bytes(b"something of somebody")
    with take_lock(tmp_path / "lock") as mine:
        assert mine
    assert (tmp_path / "lock").read_bytes() == b"something of somebody"


def test_lock_needs_an_open_file(tmp_path):
    with open(tmp_path / "a", "wb") as file:
        pass
    with pytest.raises(ValueError, match="closed file"):
        lock(file)


HOLD = """
import sys
from pathlib import Path
from minicnn.files import take_lock
with take_lock(Path(sys.argv[1])) as mine:
    print(mine, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, None])
def test_take_lock_ends_with_the_process(tmp_path, number):
    path = tmp_path / "lock"
    with runs.process("-c", HOLD, path, stdin=-1) as holder:
        assert holder.stdout.readline() == "True\n"
        with take_lock(path) as mine:
            assert not mine
        if number is None:
            holder.stdin.close()
        else:
            holder.send_signal(number)
        holder.wait(timeout=30)
        with take_lock(path) as mine:
            assert mine


def test_take_lock_isnt_inherited_by_programs_that_are_started(tmp_path):
    """A child that outlives its parent doesn't keep the folder locked."""
    wait = "import sys; print('up'); sys.stdin.read()"
    with ExitStack() as stack:
        with take_lock(tmp_path / "lock"):
            child = stack.enter_context(runs.process("-c", wait, stdin=-1))
            assert child.stdout.readline() == "up\n"
        with take_lock(tmp_path / "lock") as mine:
            assert mine and child.poll() is None
