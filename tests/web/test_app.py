"""What is answered at which address."""

from __future__ import annotations

import asyncio
import base64
import functools
import gc
import io
import re
import threading
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from asgi import ask, encoded, form, request
from networks import CLASSES, small_network

import minicnn as mc
from minicnn.explain import grad_cam, overlay
from minicnn.prediction import predict_image
from minicnn.web import Limits, application
from minicnn.web.upload import Refused

pytest.importorskip("starlette")
pytest.importorskip("python_multipart")
Image = pytest.importorskip("PIL.Image")

PNG = "data:image/png;base64,"


@pytest.fixture(scope="module")
def app(model):
    return application(model, facts={"Trained on": "<b>tests</b>"})


def opened(address):
    assert address.startswith(PNG)
    with Image.open(io.BytesIO(base64.b64decode(address.removeprefix(PNG)))) as image:
        return np.asarray(image)


def test_the_answer_is_predict_image_s(app, model):
    picture = encoded((50, 40), "JPEG")
    expected = predict_image(model, picture)
    answer = ask(app, "POST", "/api/predict", picture).json()
    seen, looked = answer.pop("picture"), answer.pop("looked")
    assert answer == expected.as_dict()
    assert [entry["class"] for entry in answer["top"]] == [name for name, _ in expected.top(10)]
    assert np.array_equal(opened(seen), expected.picture)
    heat = grad_cam(model, expected.picture[None])[0]
    assert np.array_equal(opened(looked), overlay(expected.picture, heat))


def test_pictures_can_be_left_out(app):
    answer = ask(app, "POST", "/api/predict?pictures=no", encoded()).json()
    assert set(answer) == {"class", "probability", "certain", "top"}
    assert ask(app, "POST", "/api/predict?pictures=maybe", encoded()).status == 400


@pytest.mark.parametrize("shape", [(20, 28, 1), (48, 24, 3)])
def test_other_shapes_of_networks(shape):
    app = application(small_network(shape=shape))
    answer = ask(app, "POST", "/api/predict", encoded()).json()
    assert opened(answer["picture"]).shape == (shape if shape[2] == 3 else shape[:2])
    assert opened(answer["looked"]).shape == (*shape[:2], 3)
    assert f"{shape[1]}\xa0\u00d7\xa0{shape[0]}" in ask(app).body.decode()


def test_a_network_that_can_t_say_where_it_looked():
    model = mc.Sequential(mc.Normalize(), mc.Flatten(), mc.Dense(3)).build((1, 1, 3))
    app = application(model)
    answer = ask(app, "POST", "/api/predict", encoded()).json()
    assert answer["looked"] is None and answer["picture"]
    assert 'id="looked-figure" hidden' in ask(app).body.decode()
    assert "cannot say where it looked" in ask(app, path="/about").body.decode()


@pytest.mark.parametrize(
    ("layers", "shape", "said"),
    [
        ([mc.Dense(3)], (8,), "of pictures"),
        ([mc.Flatten(), mc.Dense(3)], (8, 8, 3), "begin it with Normalize"),
        ([mc.Normalize(), mc.Conv2D(3, 1)], (8, 8, 3), "scores of classes"),
    ],
)
def test_a_model_for_no_pictures_is_refused(layers, shape, said):
    with pytest.raises(ValueError, match=said):
        application(mc.Sequential(layers).build(shape))


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("HEAD", "/", 200),
        ("GET", "/about", 200),
        ("GET", "/samples/9", 200),
        ("GET", "/samples/9.png", 200),
        ("GET", "/samples/10", 404),
        ("GET", "/samples/99999999999999999999.png", 404),
        ("GET", "/samples/-1", 404),
        ("GET", "/static/style.css", 200),
        ("GET", "/static/../app.py", 404),
        ("GET", "/static/base.html", 404),
        ("GET", "/static/%2e%2e/app.py", 404),
        ("GET", "/static//etc/passwd", 404),
        ("GET", "/about/", 404),
        ("GET", "//evil.example/", 404),
        ("GET", "/docs", 404),
        ("GET", "/api/predict", 405),
        ("PUT", "/api/predict", 405),
        ("OPTIONS", "/api/predict", 405),
        ("TRACE", "/", 405),
        ("POST", "/", 405),
        ("GET", "/result", 405),
        ("BREW", "/", 405),
        ("GET", "/healthz", 200),
        ("GET", "/metrics", 200),
    ],
)
def test_addresses(app, method, path, status):
    answer = ask(app, method, path)
    assert answer.status == status
    if status >= 400:
        assert answer.json().keys() == {"error"} and len(answer.error) < 80
    if status == 405:
        assert answer.headers["allow"]


def test_browsers_get_errors_as_pages(app):
    answer = ask(app, path="/<script>", headers=[("Accept", "text/html,*/*")])
    assert answer.status == 404 and answer.headers["content-type"].startswith("text/html")
    assert b"<script>" not in answer.body and b"nothing at this address" in answer.body


def test_names_of_classes_and_facts_are_escaped(app):
    for path in ("/", "/about", "/samples/1"):
        text = ask(app, path=path).body.decode()
        assert "alert(1)</script>" not in text and "<b>tests" not in text
    about = ask(app, path="/about").body.decode()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in about and "cat &amp; dog" in about
    assert "&lt;b&gt;tests&lt;/b&gt;" in about
    assert "10 classes at 32\xa0\u00d7\xa032" in about


def test_pages_need_nothing_from_elsewhere_and_no_inline_code(app):
    for path in ("/", "/about", "/samples/1"):
        text = ask(app, path=path).body.decode()
        assert "style=" not in text and "<style" not in text and " onclick" not in text
        assert "http" not in text.replace("http://127.0.0.1:8000/api/predict", "")
        assert text.count("<script") == text.count('<script type="module" src="/static/page.js">')
    code = ask(app, path="/static/page.js").body.decode()
    assert "http" not in code.replace("http://www.w3.org/2000/svg", "") and "innerHTML" not in code
    assert "url(" not in ask(app, path="/static/style.css").body.decode()


def test_the_form_works_without_scripts(app, model):
    picture = encoded()
    expected = predict_image(model, picture).top(1)[0][0]
    answer = ask(app, "POST", "/result", *form(picture))
    text = answer.body.decode()
    assert answer.status == 200 and text.count('<svg aria-hidden="true">') == 10
    assert text.count(PNG) == 2 and f'id="top-name">{expected.replace("&", "&amp;")}' in text
    answer = ask(app, "POST", "/result", *form(b"<b>no picture"))
    assert answer.status == 415 and b"can&#x27;t be used: it is no PNG" in answer.body
    assert ask(app, "POST", "/result", *form(b"")).status == 400


def test_samples_are_pictures_of_the_synthetic_set(app):
    for number, name in enumerate(mc.data.synthetic.CLASSES):
        answer = ask(app, path=f"/samples/{number}.png")
        with Image.open(io.BytesIO(answer.body)) as image:
            assert image.size == (32, 32)
        assert f'alt="{name}"' in ask(app).body.decode()
        assert ask(app, path=f"/samples/{number}").body.decode().count(PNG) == 2


def test_many_classes_are_summed_up():
    model = mc.Sequential(mc.Normalize(), mc.Flatten(), mc.Dense(100)).build((8, 8, 3))
    app = application(model)
    text = ask(app, path="/samples/0").body.decode()
    assert text.count('<svg aria-hidden="true">') == 10 and "90 other classes: " in text


@functools.cache
def bombs():
    """Files that are small and would be much work: name, file, status, what is said."""
    start = encoded((8, 8))
    header, rest = start[:33], start[33:]
    jpeg = encoded((64, 64), "JPEG", progressive=True)
    scan = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    private = b"\0\0\0\0prVt" + zlib.crc32(b"prVt").to_bytes(4, "big")
    wide = header[:16] + (30_000).to_bytes(4, "big") * 2 + header[24:29]
    wide += zlib.crc32(wide[12:]).to_bytes(4, "big")
    return {
        "many pixels": (encoded((4001, 5001), "PNG", "1"), 413, "4,001 x 5,001"),
        "far too many": (wide + rest, 413, "20,000,000"),
        "many scans": (jpeg[:-2] + scan * 150 + jpeg[-2:], 415, "scans"),
        "many remarks": (header + private * 430_000 + rest, 415, "too long"),
        "HEIC": (b"\0\0\0\x18ftypheic" + bytes(99), 415, "but HEIC: convert it"),
        "text": (b"I am no picture", 415, "it is no PNG"),
        "cut": (encoded(format="JPEG")[:-300], 415, "can't be used"),
    }


@pytest.mark.parametrize(
    "name",
    ["many pixels", "far too many", "many scans", "many remarks", "HEIC", "text", "cut"],
)
def test_bombs_are_refused_before_they_are_decoded(model, name):
    app = application(model, limits=Limits(open_seconds=0.1))
    data, status, said = bombs()[name]
    assert len(data) < 5 << 20
    answer = ask(app, "POST", "/api/predict", data)
    assert answer.status == status and said in answer.error and "\n" not in answer.error


def test_decoding_that_takes_long_is_ended(model, monkeypatch):
    app = application(model, limits=Limits(decode_seconds=0))
    answer = ask(app, "POST", "/api/predict", encoded())
    assert answer.status == 415 and "decoding it takes too long" in answer.error


def test_usual_progressive_pictures_pass(app):
    data = encoded((640, 480), "JPEG", progressive=True)
    assert data.count(b"\xff\xda") > 5
    assert ask(app, "POST", "/api/predict", data).status == 200


def waiting_app(model, **limits):
    """An application whose worker is kept until the event is set."""
    app = application(model, limits=Limits(**limits))
    site, gate, begun = app.inner, threading.Event(), threading.Event()
    worker = site.router.lifespan_context.__self__.worker
    worker.submit(lambda: (begun.set(), gate.wait(30)))
    assert begun.wait(30)
    return app, worker, gate


async def until(condition):
    while not condition():
        await asyncio.sleep(0.005)


def test_a_full_queue_refuses_and_then_gives_the_same_answers(model):
    app, worker, gate = waiting_app(model, places=16)
    expected = ask(application(model), "POST", "/api/predict", encoded()).json()

    async def run():
        first = [
            asyncio.create_task(request(app, "POST", "/api/predict", encoded())) for _ in range(16)
        ]
        await until(lambda: worker.waiting == 16)
        metrics = (await request(app, path="/metrics")).body.decode()
        refused = await request(app, "POST", "/api/predict", encoded())
        page = await request(app, "POST", "/result", *form(encoded()))
        gate.set()
        return refused, page, metrics, await asyncio.gather(*first)

    refused, page, metrics, answers = asyncio.run(run())
    assert refused.status == page.status == 503
    assert refused.headers["retry-after"] == page.headers["retry-after"] == "1"
    assert "again" in refused.error and "minicnn_queue_length 16" in metrics
    assert [a.status for a in answers] == [200] * 16
    assert all(a.json() == expected for a in answers)


def test_who_leaves_the_queue_costs_no_work(model):
    app, worker, gate = waiting_app(model)

    async def run():
        leave = asyncio.Event()
        task = asyncio.create_task(request(app, "POST", "/api/predict", encoded(), leave=leave))
        await until(lambda: worker.waiting == 1)
        leave.set()
        answer = await task
        assert worker.waiting == 0
        return answer

    assert asyncio.run(run()).status == 499
    gate.set()
    assert worker.submit(int).result(30) == 0 and worker.done <= 2  # the gate, and this


def test_an_error_that_comes_when_the_client_has_gone_is_none(model):
    app = application(model)
    site = app.inner.router.lifespan_context.__self__
    gate, begun, said = threading.Event(), threading.Event(), []

    def answers(data, pictures):
        begun.set()
        gate.wait(30)
        raise Refused(415, "bad")

    site.answers = answers

    async def run():
        asyncio.get_running_loop().set_exception_handler(lambda loop, what: said.append(what))
        leave = asyncio.Event()
        task = asyncio.create_task(request(app, "POST", "/api/predict", b"x", leave=leave))
        await until(begun.is_set)
        leave.set()
        assert (await task).status == 499
        gate.set()
        await until(lambda: site.worker.done)
        await asyncio.sleep(0.05)
        gc.collect()

    asyncio.run(run())
    assert said == []


def test_who_waits_long_is_refused(model):
    app, worker, gate = waiting_app(model, waiting_seconds=0.05)
    answer = ask(app, "POST", "/api/predict", encoded())
    assert answer.status == 503 and answer.headers["retry-after"] and worker.waiting == 0
    gate.set()


def test_the_loop_stays_free_while_a_picture_is_looked_at(model):
    app, worker, gate = waiting_app(model)

    async def run():
        task = asyncio.create_task(request(app, "POST", "/api/predict", encoded()))
        await until(lambda: worker.waiting == 1)
        start = time.perf_counter()
        health = await request(app, path="/healthz")
        took = time.perf_counter() - start
        gate.set()
        await task
        return health, took

    health, took = asyncio.run(run())
    assert health.json() == {"status": "ok"} and took < 1


def test_the_end_of_the_application_finishes_what_waits(model):
    app, worker, gate = waiting_app(model)
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    said = []

    async def receive():
        message = next(messages)
        if message["type"] == "lifespan.shutdown":
            gate.set()
        return message

    async def send(message):
        said.append(message["type"])

    future = worker.submit(lambda: 7)
    asyncio.run(app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send))
    assert said == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert future.result(0) == 7 and not worker.thread.is_alive()
    assert ask(app, path="/healthz").status == 503


def test_an_error_of_ours_is_500_and_says_nothing(model, caplog):
    app = application(model)
    site = app.inner.router.lifespan_context.__self__
    site.answers.model = None
    answer = ask(app, "POST", "/api/predict", encoded())
    assert answer.status == 500 and "None" not in answer.error
    assert "model None" in caplog.text


def test_metrics_are_prometheus_text(model):
    app = application(model)
    ask(app, "POST", "/api/predict", encoded())
    ask(app, "POST", "/api/predict", b"x")
    answer = ask(app, path="/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    text = answer.body.decode()
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert values['minicnn_requests_total{path="/api/predict",status="200"}'] == "1"
    assert values['minicnn_requests_total{path="/api/predict",status="415"}'] == "1"
    assert values["minicnn_queue_length"] == "0" and values["minicnn_queue_places"] == "16"
    assert values["minicnn_jobs_total"] == "2" and float(values["minicnn_job_seconds_total"]) > 0
    named = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert {name.partition("{")[0] for name in values} == named


def test_nothing_warns(model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ask(application(model), "POST", "/api/predict", encoded()).status == 200


def test_class_names_are_the_model_s(app):
    answer = ask(app, "POST", "/api/predict", encoded()).json()
    assert {entry["class"] for entry in answer["top"]} == set(CLASSES)


def test_guide_to_serving_runs(monkeypatch, tmp_path, model):
    """The Python of docs/serve.md, as it stands, and its table of limits."""
    monkeypatch.chdir(tmp_path)
    mc.save(model, "cifar.safetensors")
    guide = Path(__file__).parents[2].joinpath("docs", "serve.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    names = {}
    exec(block, names)
    assert ask(names["app"], "POST", "/api/predict", encoded()).status == 200
    answer = ask(names["app"], "POST", "/api/predict", bytes((1 << 20) + 1))
    assert answer.status == 413 and "1 MB" in answer.error
    limits = Limits()
    for said in (
        f"took longer than {limits.body_seconds:g} s", f"than {limits.body >> 20} MB or",
        f"{limits.pixels // 10**6} million pixels", f"{limits.header >> 10} kB",
        f"more than {limits.decode_seconds:g} s", f"{limits.places} pictures wait",
        f"below {limits.bodies >> 20} MB", f"{limits.connections} may be connected",
    ):  # fmt: skip
        assert said in guide.replace("\n", " "), said
    assert limits.header_seconds == limits.body_seconds
