"""A real server in a process of its own: load, harm, slowness, and its end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import minicnn as mc
from benchmarks import serve_load
from benchmarks.hostile_pictures import MB, encoded, request
from benchmarks.hostile_uploads import attack, hostile_uploads
from benchmarks.serving import Line, Server, header
from minicnn import cli

for name in ("starlette", "uvicorn", "python_multipart", "PIL"):
    pytest.importorskip(name)

ROOT = Path(mc.__file__).parents[1]

LINUX = sys.platform == "linux"


@pytest.fixture(scope="module")
def server(model_file):
    """A server that is soon tired of waiting."""
    limits = {"header_seconds": 0.6, "body_seconds": 0.6, "write_seconds": 0.6, "idle_seconds": 1}
    with Server(model_file, open_seconds=0.1, connections=40, **limits) as server:
        yield server
        assert server.end() == 0
        assert "Traceback" not in server.said()


def post(port, data):
    async def run():
        line = Line(port)
        answer = await line.post(data)
        line.close()
        return answer

    return asyncio.run(run())


def test_hostile_uploads_neither_crash_nor_hang_nor_grow_it(server):
    """Many of them twice: what is kept once, libraries' tables and the like, isn't growth."""
    hostile = hostile_uploads()
    assert len(hostile) >= 200
    good = encoded("PNG")
    expected = post(server.port, good)
    wrong, sizes = [], []

    async def attack_all(hostile):
        gate = asyncio.Semaphore(8)

        async def one(request):
            async with gate:
                status = await attack(server.port, request)
            if not request.leave and status not in request.statuses:
                wrong.append(f"{request.name}: {status}")

        await asyncio.gather(*map(one, hostile))

    quick = [one for one in hostile if len(one.data) < MB and 408 not in one.statuses]
    assert len(quick) > 200
    for some in (hostile, quick[::2]):
        asyncio.run(attack_all(some))
        again = post(server.port, good)
        assert (again[0], again[2]) == (200, expected[2])
        sizes.append(server.memory())
    assert wrong == []
    if LINUX:
        assert sizes[1][0] < sizes[0][0] + 60 and sizes[1][1] < 600
        deadline = time.monotonic() + 10
        while server.files() > 12 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert server.files() <= 12


def test_64_clients_get_answers_or_are_asked_to_wait(capsys, monkeypatch):
    monkeypatch.setattr(serve_load, "SIZES", serve_load.SIZES[:3])  # the largest take long to make
    assert serve_load.main(["--seconds", "1"]) == 0
    said = capsys.readouterr().out
    assert "200: " in said and "unequal answers" in said


def test_the_load_s_judgement_can_fail():
    good = {
        "statuses": {"200": 5, "503": 2}, "unequal_answers": 0, "hostile_wrong": [], "said": "",
        "memory_mb": {"peak": 90}, "open_files": {"before": 8, "after": 7}, "exit_code": 0,
    }  # fmt: skip
    assert serve_load.faults(good, 100) == []
    for change in (
        {"statuses": {"200": 5, "500": 1}},
        {"statuses": {"200": 5, "0": 1}},
        {"statuses": {"503": 1}},
        {"unequal_answers": 1},
        {"hostile_wrong": ["cut: 500"]},
        {"memory_mb": {"peak": 101}},
        {"open_files": {"before": 8, "after": 70}},
        {"exit_code": -9},
        {"said": "Traceback (most recent call last):"},
    ):
        assert len(serve_load.faults(good | change, 100)) == 1


def test_a_header_that_trickles_is_not_awaited(server):
    """Each byte comes in time, the whole doesn't: what uvicorn alone waits for, for ever."""

    async def run():
        line = Line(server.port)
        await line.send(b"GET / HTTP/1.1\r\nA: ")

        async def trickle():
            while True:
                await asyncio.sleep(0.05)
                await line.send(b"b")

        task = asyncio.create_task(trickle())
        start = time.monotonic()
        status, headers, _ = await line.answer()
        task.cancel()
        line.close()
        return status, headers, time.monotonic() - start

    status, headers, seconds = asyncio.run(run())
    assert status == 408 and 0.3 < seconds < 20
    assert headers["x-content-type-options"] == "nosniff"


def test_the_second_request_on_a_line_is_not_awaited_longer(server):
    async def run():
        line = Line(server.port)
        first = await line.post(encoded("PNG"))
        await line.send(b"GET / HT")
        second = await line.answer()
        line.close()
        return first[0], second[0]

    assert asyncio.run(run()) == (200, 408)


def test_a_client_that_does_not_read_is_dropped(server):
    """It asks a thousand times for a page, and takes none: buffers would fill."""
    ask = request(b"", method=b"GET", path=b"/about").replace(b":8000", b":%d" % server.port)

    async def run():
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
        reader._transport.pause_reading()
        start = time.monotonic()
        with pytest.raises(ConnectionError):
            while time.monotonic() < start + 20:
                writer.write(ask * 50)
                async with asyncio.timeout(20):
                    await writer.drain()
                await asyncio.sleep(0.01)
        writer.close()

    asyncio.run(run())
    assert post(server.port, encoded("PNG"))[0] == 200


def test_too_many_connections_are_turned_away(server):
    async def run():
        lines = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(40)]
        late = Line(server.port)
        await late.send(b"")
        status, headers, body = await late.answer()
        for _, writer in lines:
            writer.close()
        late.close()
        return status, headers, json.loads(body)

    status, headers, body = asyncio.run(run())
    assert status == 503 and headers["retry-after"] == "1" and "connections" in body["error"]
    deadline = time.monotonic() + 10
    while post(server.port, encoded("PNG"))[0] != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_requests_are_counted_to_the_last(server):
    async def run():
        line = Line(server.port)
        await line.send(request(b"", method=b"GET", path=b"/metrics").replace(b":8000", b""))
        answer = await line.answer()
        line.close()
        return answer[2].decode()

    before = asyncio.run(run())
    assert 'path="/api/predict",status="200"' in before
    assert "minicnn_queue_length 0" in before


def test_a_signal_lets_what_is_at_work_finish(model_file):
    picture = encoded("PNG", (300, 300))
    with Server(model_file) as server:

        async def run():
            line, idle = Line(server.port), Line(server.port)
            await idle.send(b"")
            await line.send(header("/api/predict", server.port, len(picture)) + picture[:1000])
            await asyncio.sleep(0.2)
            server.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.4)
            with pytest.raises(ConnectionError):
                await asyncio.open_connection("127.0.0.1", server.port)
            await line.send(picture[1000:])
            answer = await line.answer()
            line.close()
            idle.close()
            return answer[0]

        assert asyncio.run(run()) == 200
        assert server.process.wait(20) == 0
        said = server.said()
    assert "SIGTERM: finishing what is at work" in said and "Traceback" not in said


def test_a_second_signal_ends_at_once(model_file):
    with Server(model_file) as server:

        async def run():
            line = Line(server.port)
            await line.send(header("/api/predict", server.port, 1000) + b"x")
            await asyncio.sleep(0.2)
            server.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.3)
            assert server.process.poll() is None
            server.process.send_signal(signal.SIGTERM)
            start = time.monotonic()
            server.process.wait(20)
            line.close()
            return time.monotonic() - start

        assert asyncio.run(run()) < 5
        assert server.process.returncode == -signal.SIGTERM


def test_a_port_that_is_taken_is_one_line(model_file, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert cli.main(["serve", str(model_file), "--port", str(port), "--device", "cpu"]) == 2
    said = capsys.readouterr().err
    assert f"port {port} at 127.0.0.1 is in use" in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--port", "65536"], "expected 0 to 65535"),
        (["--host", "192.0.2.1", "--port", "0"], "no such address"),
        (["--host", "no such host", "--port", "0"], "no address of this machine"),
    ],
)
def test_a_wrong_place_is_one_line(model_file, capsys, flags, said):
    assert cli.main(["serve", str(model_file), "--device", "cpu", *flags]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_inside_an_event_loop_it_says_what_to_do(model):
    async def run():
        mc.web.serve(model, port=0)

    with pytest.raises(RuntimeError, match="call it in a thread"):
        asyncio.run(run())


def test_it_runs_in_a_thread(model_file):
    """As the error for notebooks says: there it gets no signals, and ends with the program."""
    script = (
        "import sys, threading, time, minicnn as mc\n"
        "model = mc.load(sys.argv[1], 'cpu')\n"
        "serve = threading.Thread(target=mc.web.serve, args=(model,), kwargs={'port': 0})\n"
        "serve.daemon = True\n"
        "serve.start()\n"
        "sys.stdin.readline()\n"
    )
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", script, str(model_file)]
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        port = int(process.stdout.readline().split()[0].rstrip("/").rpartition(":")[2])
        assert post(port, encoded("PNG"))[0] == 200
        process.communicate("\n", timeout=20)
    assert process.returncode == 0


def test_no_model_is_one_line(tmp_path, capsys):
    assert cli.main(["serve", str(tmp_path / "none")]) == 2
    assert "expected a model's file" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["starlette", "uvicorn", "python_multipart"])
def test_without_the_extra_it_is_named(model_file, capsys, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    assert cli.main(["serve", str(model_file), "--device", "cpu"]) == 2
    assert "pip install 'minicnn[web]'" in capsys.readouterr().err


def test_a_server_for_others_says_what_that_means_and_ends_by_ctrl_c(model_file):
    command = [sys.executable, "-m", "minicnn", "serve", str(model_file), "--device", "cpu"]
    command += ["--host", "0.0.0.0", "--port", "0", "--allow-host", "pictures.example"]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    port = int(process.stdout.readline().split()[0].rstrip("/").rpartition(":")[2])

    async def status(host):
        line = Line(port)
        ask = request(b"", method=b"GET", path=b"/healthz").replace(b"127.0.0.1:8000", host)
        await line.send(ask)
        answer = await line.answer()
        line.close()
        return answer[0]

    hosts = (b"10.1.2.3", b"pictures.example:80", b"localhost", b"evil.example")
    assert [asyncio.run(status(host)) for host in hosts] == [200, 200, 200, 421]
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=20)[1]
    assert process.returncode == 0 and time.monotonic() - start < 10
    assert "Ctrl-C: finishing" in said and "Traceback" not in said
    assert "everyone who can reach 0.0.0.0" in said and "nothing is encrypted" in said


@pytest.mark.skipif(not LINUX, reason="reads what a process maps as Linux tells")
def test_nothing_lies_on_the_disk(model_file, tmp_path):
    """Neither in the folder for temporary files nor as an open file without a name."""
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "minicnn", "serve", str(model_file), "--port", "0"]
    pipe = subprocess.PIPE  # no file, as pytest's own stderr is
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe, text=True
    )
    port = int(process.stdout.readline().split()[0].rstrip("/").rpartition(":")[2])
    large = encoded("PNG", (1200, 1200))
    body = b'--X\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n\r\n' + large
    form = request(body + b"\r\n--X--\r\n", b"Content-Type: multipart/form-data; boundary=X")
    form = form.replace(b":8000", b":%d" % port, 1)

    async def run():
        line = Line(port)
        await line.send(form[: len(form) // 2])
        await asyncio.sleep(0.2)
        opened = [os.readlink(path) for path in Path(f"/proc/{process.pid}/fd").iterdir()]
        await line.send(form[len(form) // 2 :])
        answer = await line.answer()
        line.close()
        return opened, answer[0]

    opened, status = asyncio.run(run())
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert status == 200 and len(large) > 4 << 20
    assert not [name for name in opened if "(deleted)" in name or str(tmp_path) in name]
    assert list(tmp_path.iterdir()) == []
