"""Ask an ASGI application without a network: every message of both sides is in the test's hand."""

from __future__ import annotations

import asyncio
import io
import json
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    read: int = 0  # pieces of the request that were asked for

    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        return self.json()["error"]


def ask(app, method="GET", path="/", pieces=(), headers=(), host="127.0.0.1:8000", end=True):
    """Do one request.  end: whether the body's end comes; else the client waits, silent."""
    return asyncio.run(request(app, method, path, pieces, headers, host, end))


async def request(
    app, method="GET", path="/", pieces=(), headers=(), host="127.0.0.1:8000", end=True, leave=None
):
    """leave: an event; when it is set the client hangs up."""
    if isinstance(pieces, bytes):
        pieces = (pieces,)
    path, _, query = path.partition("?")
    given = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    if host is not None:
        given.append((b"host", host.encode("latin-1")))
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
        "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": query.encode(),
        "root_path": "", "headers": given, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    answer, left = Answer(), iter(pieces)
    over = False

    async def receive():
        nonlocal over
        answer.read += 1
        for piece in left:
            return {"type": "http.request", "body": piece, "more_body": True}
        if end and not over:
            over = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await (leave.wait() if leave is not None else asyncio.Event().wait())
        return {"type": "http.disconnect"}

    async def send(message):
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {k.decode().lower(): v.decode() for k, v in message["headers"]}
        else:
            answer.body += message.get("body", b"")

    await app(scope, receive, send)
    return answer


def form(data, name="a.png", boundary="XoX", field="picture", headers="", end=True):
    """A form with one file, and the header that it takes: (body, headers)."""
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n'
    body = head.encode("utf-8", "surrogateescape") + headers.encode() + b"\r\n" + data
    body += f"\r\n--{boundary}--\r\n".encode() if end else b""
    return body, [("Content-Type", f"multipart/form-data; boundary={boundary}")]


def encoded(size=(40, 30), format="PNG", mode="RGB", **options):
    """A picture of noise as a file."""
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(file, format, **options)
    return file.getvalue()
