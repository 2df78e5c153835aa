"""Uploads: everything that comes in is counted, timed and doubted."""

from __future__ import annotations

import asyncio
import builtins
import os
import tempfile
import time

import pytest
from asgi import ask, encoded, form, request

from minicnn.web import Limits, application

pytest.importorskip("starlette")
pytest.importorskip("python_multipart")
pytest.importorskip("PIL")

MB = 1 << 20
RAW = [("Content-Type", "application/octet-stream")]


@pytest.fixture(scope="module")
def app(model):
    return application(model, limits=Limits(body_seconds=0.3))


def post(app, body, headers=(), path="/api/predict", **more):
    return ask(app, "POST", path, body, headers, **more)


def test_raw_bytes_and_forms_have_the_same_answer(app):
    picture = encoded()
    plain = post(app, picture, RAW)
    assert plain.status == 200 and plain.headers["content-type"] == "application/json"
    assert post(app, *form(picture)).json() == plain.json()
    assert post(app, picture).json() == plain.json()  # no type at all
    typed = [("Content-Type", "application/x-www-form-urlencoded")]  # what curl says
    assert post(app, picture, typed).json() == plain.json()


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_a_form_may_come_in_pieces(app, size):
    body, headers = form(encoded((9, 9)))
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    assert post(app, pieces, headers).status == 200


def test_the_body_is_counted_whatever_its_header_says(app):
    for said in ("10", "0", "-5", "x", "1e3"):
        answer = post(app, [bytes(MB)] * 50, [*RAW, ("Content-Length", said)])
        assert answer.status == 413 and "5 MB" in answer.error
    chunked = [("Transfer-Encoding", "chunked")]
    assert post(app, (bytes(MB) for _ in range(50)), chunked).status == 413


def test_a_body_that_is_said_to_be_too_large_is_not_awaited(app):
    for said in (str(5 * MB + 1), "9" * 18, "9" * 4000):
        headers = [("Content-Length", said), ("Expect", "100-continue")]
        answer = post(app, [bytes(MB)] * 9, headers)
        assert answer.status == 413 and answer.read == 0 and answer.headers["connection"] == "close"


def test_what_is_refused_is_read_for_a_while_and_not_kept(app):
    answer = post(app, [bytes(MB)] * 20, RAW)
    assert answer.status == 413 and answer.read >= 20  # else the line is cut before the answer


@pytest.mark.parametrize("extra", [0, 1])
def test_the_limit_is_exact(app, extra):
    picture = encoded(format="BMP")
    answer = post(app, [picture, bytes(5 * MB - len(picture) + extra)], RAW)
    assert answer.status == (413 if extra else 200)


def test_a_slow_body_is_not_awaited(app):
    start = time.perf_counter()
    answer = post(app, [encoded()[:100]], RAW, end=False)
    assert answer.status == 408 and "0.3 seconds" in answer.error
    assert answer.headers["connection"] == "close" and 0.25 < time.perf_counter() - start < 10


def test_a_body_that_trickles_is_not_awaited(model):
    """Each piece comes in time, the whole doesn't."""
    app = application(model, limits=Limits(body_seconds=0.3))

    async def run():
        pieces, sent = encoded((300, 300)), 0

        async def receive():
            nonlocal sent
            await asyncio.sleep(0.05)
            sent += 1
            return {"type": "http.request", "body": pieces[sent : sent + 1], "more_body": True}

        statuses = []

        async def send(message):
            statuses.append(message.get("status"))

        scope = {
            "type": "http", "method": "POST", "path": "/api/predict", "query_string": b"",
            "headers": [(b"host", b"localhost")], "http_version": "1.1", "scheme": "http",
        }  # fmt: skip
        await app(scope, receive, send)
        return statuses[0], sent

    status, sent = asyncio.run(run())
    assert status == 408 and sent < 20


HEAD = "--XoX\r\nContent-Disposition: form-data; name=a; filename=b\r\n"
FIELD = b'--XoX\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n--XoX--\r\n'
KIND = "multipart/form-data; boundary=XoX"
BROKEN = {
    "nothing": (b"", KIND, "cut short"),
    "no boundary": (form(b"x")[0], "multipart/form-data", "boundary"),
    "empty boundary": (form(b"x")[0], "multipart/form-data; boundary=", "boundary"),
    "long boundary": (b"x", "multipart/form-data; boundary=" + "b" * 71, "boundary"),
    "other multipart": (form(b"x")[0], "multipart/mixed; boundary=XoX", "boundary"),
    "wrong boundary": (form(b"x")[0], "multipart/form-data; boundary=YoY", "broken"),
    "cut": (form(b"x" * 50, end=False)[0], KIND, "cut short"),
    "cut in the header": (HEAD[:30].encode(), KIND, "cut short"),
    "no file": (FIELD, KIND, "no file"),
    "no disposition": (b"--XoX\r\n\r\nx\r\n--XoX--\r\n", KIND, "no file"),
    "empty file": (form(b"")[0], KIND, "no picture"),
    "two files": (
        form(b"x")[0].replace(b"--XoX--\r\n", form(b"y")[0]), KIND, "more than one part",
    ),
    "file and field": (
        form(b"x")[0].replace(b"--XoX--\r\n", FIELD), KIND, "more than one part",
    ),
    "ten thousand parts": (
        form(b"x")[0].replace(b"--XoX--\r\n", form(b"")[0]) * 9999, KIND, "more than one part",
    ),
    "long name": (form(b"x", "n" * 1100)[0], KIND, "broken"),
    "name of 4 MB": (form(b"x", "n" * (4 * MB))[0], KIND, "broken"),
    "many headers": (form(b"x", headers="A: b\r\n" * 20)[0], KIND, "broken"),
    "header without end": (HEAD.encode() + b"A: " + b"x" * 5000, KIND, "broken"),
    "garbage": (os.urandom(5000), KIND, "broken"),
    "line feeds alone": (form(b"x")[0].replace(b"\r\n", b"\n"), KIND, "broken"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_broken_forms_are_refused(app, name):
    body, kind, said = BROKEN[name]
    answer = post(app, body, [("Content-Type", kind)])
    assert answer.status == 400 and said in answer.error


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "C:\\a.png", "<script>alert(1)</script>.png", "a\0b.png", "", "%2e%2e%2f"]
    + ["x" * 900, "\u202egnp.exe", 'a\\".png', "$(reboot).png", "''' or 1=1 --", "a;b=c.png"],
)
@pytest.mark.parametrize("path", ["/api/predict", "/result"])
def test_a_file_may_be_called_anything_and_its_name_comes_back_nowhere(app, path, name):
    body, headers = form(encoded(), name)
    answer = post(app, body, headers, path)
    assert answer.status == 200
    if len(name) > 4:
        assert name.encode() not in answer.body
    answer = post(app, *form(b"no picture", name), path)
    assert answer.status == 415 and (len(name) <= 4 or name.encode() not in answer.body)


def test_compressed_bodies_are_refused(app):
    answer = post(app, encoded(), [*RAW, ("Content-Encoding", "gzip")])
    assert answer.status == 415 and "Compressed" in answer.error
    assert post(app, encoded(), [*RAW, ("Content-Encoding", "identity")]).status == 200


def test_all_bodies_together_have_a_bound(model):
    """Each is small enough; the third finds the memory taken."""
    app = application(model, limits=Limits(bodies=2 * MB, body_seconds=5))

    async def run():
        leave = asyncio.Event()
        body = [bytes(900 << 10)]
        waiting = [
            asyncio.create_task(
                request(app, "POST", "/api/predict", body, RAW, end=False, leave=leave)
            )
            for _ in range(2)
        ]
        await asyncio.sleep(0.05)
        refused = await request(app, "POST", "/api/predict", body, RAW)
        small = await request(app, "POST", "/api/predict", encoded(), RAW)
        leave.set()
        await asyncio.gather(*waiting)
        again = await request(app, "POST", "/api/predict", body, RAW)
        return refused, small, again

    refused, small, again = asyncio.run(run())
    assert refused.status == 503 and refused.headers["retry-after"] == "1"
    assert small.status == 200
    assert again.status == 415  # no picture, but there is room for it again


def test_nothing_is_written(app, monkeypatch):
    """Neither by us nor by the libraries, however large the file."""

    def refuse(*args, **more):
        raise AssertionError("a file was opened for writing")

    opened = builtins.open

    def only_read(file, mode="r", *args, **more):
        if set(mode) & set("wax+"):
            refuse()
        return opened(file, mode, *args, **more)

    for name in ("TemporaryFile", "NamedTemporaryFile", "SpooledTemporaryFile", "mkstemp"):
        monkeypatch.setattr(tempfile, name, refuse)
    monkeypatch.setattr(builtins, "open", only_read)
    picture = encoded((1200, 1200))
    assert 4 * MB < len(picture) < 5 * MB
    for body, headers in ((picture, RAW), form(picture)):
        assert post(app, body, headers).status == 200


def test_a_client_that_leaves_while_sending_is_let_go(app):
    async def run():
        leave = asyncio.Event()
        leave.set()
        return await request(
            app, "POST", "/api/predict", encoded()[:50], RAW, end=False, leave=leave
        )

    assert asyncio.run(run()).status == 499  # which nobody gets
