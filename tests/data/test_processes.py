"""Downloads in processes of their own: two at once, and ones that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest
from downloads import BODY, SHA256

from minicnn.data import lock as module
from minicnn.data.download import download
from minicnn.data.errors import DatasetWarning
from minicnn.data.lock import locked

SCRIPT = """
import sys
from pathlib import Path
from minicnn.data.download import download
download([sys.argv[1]], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
"""


@pytest.fixture
def start():
    """A function that starts a download in a process."""
    processes = []

    def start(url: str, path: Path) -> subprocess.Popen[str]:
        root = Path(module.__file__).parents[2]
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", SCRIPT, url, str(path), str(len(BODY)), SHA256],
            env={**os.environ, "PYTHONPATH": str(root)},
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def until(true) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + 20
    while not true():
        if time.monotonic() > end:
            pytest.fail("waited 20 s in vain")
        time.sleep(0.01)


def half_there(path: Path) -> bool:
    part = path.with_name(path.name + ".part")
    return part.is_file() and part.stat().st_size > 1000


def test_download_is_done_once_by_two_processes(server, page, tmp_path, start):
    gate = threading.Event()
    url, path = server.url(page(BODY, gate=gate)), tmp_path / "file"
    first = start(url, path)
    until(lambda: half_there(path))
    second = start(url, path)
    line = second.stderr.readline()
    assert line == "file: another process fetches it; waiting for it\n"
    time.sleep(0.3)
    assert second.poll() is None
    gate.set()
    for process in (first, second):
        assert process.communicate(timeout=20)[1] == "" and process.returncode == 0
    assert server.hits == ["/0"] and path.read_bytes() == BODY
    assert [file.name for file in tmp_path.iterdir() if "file" in file.name] == ["file"]


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_download_that_was_stopped_is_resumed(server, page, tmp_path, start, how):
    gate = threading.Event()
    url = server.url(page(BODY, gate=gate, etag='"a"'), page(BODY, etag='"a"'))
    path = tmp_path / "file"
    process = start(url, path)
    until(lambda: half_there(path))
    process.send_signal(getattr(signal, how))
    process.communicate(timeout=20)
    gate.set()
    assert process.returncode != 0 and not path.exists()
    assert how != "SIGINT" or not path.with_name("file.lock").exists()
    got = path.with_name("file.part").stat().st_size
    assert download([url], path, len(BODY), SHA256).read_bytes() == BODY
    assert server.asked[1] == ("/0", f"bytes={got}-", '"a"')
    assert not path.with_name("file.lock").exists()


def test_download_goes_to_whoever_is_left(server, page, tmp_path, start):
    gate = threading.Event()
    url, path = server.url(page(BODY, gate=gate), page(BODY)), tmp_path / "file"
    first = start(url, path)
    until(lambda: half_there(path))
    second = start(url, path)
    second.stderr.readline()  # it waits
    first.kill()
    gate.set()
    assert second.wait(timeout=20) == 0 and path.read_bytes() == BODY
    assert len(server.hits) == 2 and server.ranges[1].startswith("bytes=")


def test_locked_lets_one_in_at_a_time(tmp_path):
    inside, most, waits = [], [], []

    def work() -> None:
        for _ in range(20):
            with locked(tmp_path / "lock", lambda: waits.append(1)):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.001)
                inside.pop()

    module_poll, module.POLL = module.POLL, 0.001
    try:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        module.POLL = module_poll
    assert len(most) == 80 and max(most) == 1 and waits
    assert not (tmp_path / "lock").exists()


def test_locked_takes_a_stale_lock(tmp_path):
    (tmp_path / "lock").write_text("of a process that was killed")
    with locked(tmp_path / "lock", lambda: pytest.fail("waits")):
        pass


def test_locked_leaves_no_file_after_an_error(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path / "lock", lambda: None):
        raise KeyError
    assert not (tmp_path / "lock").exists()


@pytest.mark.skipif(os.name == "nt", reason="locks of POSIX")
def test_locked_says_where_there_are_no_locks(tmp_path, monkeypatch):
    def no_locks(*args: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(module, "lock", no_locks)
    with (
        pytest.warns(DatasetWarning, match="can't be locked"),
        locked(tmp_path / "lock", lambda: None),
    ):
        warnings.simplefilter("error")
