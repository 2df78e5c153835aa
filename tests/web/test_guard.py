"""Who may ask, under which name, and what every answer carries."""

from __future__ import annotations

import asyncio
import logging
import socket

import pytest
from asgi import ask

from minicnn.web.counts import Counts
from minicnn.web.guard import SECURITY, Guard, Hosts, split_host

POLICY = SECURITY["Content-Security-Policy"]


@pytest.fixture
def counts():
    return Counts()


@pytest.fixture
def app(counts):
    """The guard around an application that says yes, or breaks."""

    async def inner(scope, receive, send):
        if scope["path"] == "/broken":
            raise RuntimeError("secret: /home/me")
        headers = [(b"content-type", b"text/plain"), (b"Cache-Control", b"max-age=9")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"yes"})

    return Guard(inner, Hosts(), counts)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("localhost", "localhost"),
        ("LocalHost:80", "localhost"),
        ("[::1]:8000", "::1"),
        ("[::1]", "::1"),
        ("a.b:c", None),
        ("::1", None),
        ("a:1:2", None),
        ("", None),
        (":80", None),
        ("a:²", None),
    ],
)
def test_split_host(line, name):
    assert split_host(line) == name


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "LOCALHOST:1", "[::1]:8000"])
def test_own_names_are_let_in(app, host):
    assert ask(app, host=host).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "8.8.8.8", "0.0.0.0"],
)
def test_other_names_are_misdirected(app, host):
    answer = ask(app, host=host)
    assert answer.status == 421 and "--allow-host" in answer.error


@pytest.mark.parametrize("host", [None, "", "a:b", "::1"])
def test_a_request_for_no_host_is_bad(app, host):
    assert ask(app, host=host).status == 400


def test_hosts_of_a_server_for_others():
    wide = Hosts("0.0.0.0", ["Pictures.Example"])
    for name in ("192.168.1.5", "10.0.0.1", "fe80::1", socket.gethostname().lower()):
        assert name in wide
    assert "pictures.example" in wide and "localhost" in wide
    assert "evil.example" not in wide and "192.168.1.5.evil.example" not in wide
    one = Hosts("192.168.1.5")
    assert "192.168.1.5" in one and "192.168.1.6" not in one


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),  # no browser
        ({"Origin": "http://127.0.0.1:8000"}, 200),
        ({"Origin": "http://127.0.0.1:8000", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Origin": "http://127.0.0.1:9000"}, 403),  # another server of this machine
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:8000.evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
def test_other_sites_may_not_post(app, headers, status):
    assert ask(app, "POST", headers=headers.items()).status == status
    assert ask(app, "GET", headers=headers.items()).status == 200


def test_a_body_of_two_lengths_is_refused(app):
    """Or it might end elsewhere for a proxy before the server (RFC 9112, 6.1 and 11.2)."""
    both = [("Content-Length", "5"), ("Transfer-Encoding", "chunked")]
    answer = ask(app, "POST", headers=both)
    assert answer.status == 400 and answer.headers["connection"] == "close"
    for one in both:
        assert ask(app, "POST", headers=[one]).status == 200


def test_every_answer_carries_the_headers(app):
    for answer in (ask(app), ask(app, host="evil.example"), ask(app, path="/broken")):
        for name, value in SECURITY.items():
            assert answer.headers[name.lower()] == value
    assert ask(app).headers["cache-control"] == "max-age=9"  # what is said isn't overruled
    assert ask(app, host="evil.example").headers["cache-control"] == "no-store"
    assert ask(app).headers["content-type"] == "text/plain"


def test_policy_lets_nothing_in():
    rules = dict(rule.split(None, 1) for rule in POLICY.split("; "))
    assert rules["default-src"] == rules["frame-ancestors"] == rules["base-uri"] == "'none'"
    assert "unsafe" not in POLICY and "*" not in POLICY and "http" not in POLICY


def test_an_error_tells_nothing_but_to_the_log(app, caplog):
    with caplog.at_level(logging.ERROR):
        answer = ask(app, path="/broken")
    assert answer.status == 500 and b"secret" not in answer.body
    assert "secret" in caplog.text


def test_requests_are_counted(app, counts):
    ask(app, path="/")
    ask(app, path="/" + "x" * 100)
    ask(app, path="/about", host="evil.example")
    assert counts.requests == {("/", 200): 1, ("other", 200): 1, ("/about", 421): 1}


def test_websockets_are_closed(app):
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(app({"type": "websocket", "path": "/", "headers": []}, None, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]
