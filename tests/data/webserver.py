"""A web server on this machine that plays every part a bad source can play."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class Page:
    """What the server answers."""

    body: bytes = b""
    status: int = 200
    length: int | None = -1  # Content-Length; -1: the true one, None: not given
    wait: float = 0.0  # seconds before the body
    etag: str = ""
    modified: str = ""
    ranges: bool = True  # honour Range
    content_range: str = ""  # said in place of the true one
    cut: int | None = None  # bytes sent before the connection is closed
    stall: int | None = None  # bytes sent before nothing more comes
    rate: float | None = None  # bytes a second
    gate: threading.Event | None = None  # waited for in the middle
    headers: dict[str, str] = field(default_factory=dict)


class Server:
    """``url(page, ...)`` puts pages up, one for each request, and returns their address.

    The last page answers all later requests.  ``asked`` holds the path, Range and If-Range of each.
    """

    def __init__(self, certificate: Path | None = None) -> None:
        self.pages: dict[str, list[Page]] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.closing = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                ranges = self.headers.get("Range", ""), self.headers.get("If-Range", "")
                outer.asked.append((self.path, *ranges))
                pages = outer.pages[self.path]
                outer.answer(self, pages.pop(0) if len(pages) > 1 else pages[0], *ranges)

            def log_message(self, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.handle_error = lambda *args: None  # type: ignore[method-assign]
        self.scheme = "http"
        if certificate:
            self.scheme = "https"
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.http.socket = context.wrap_socket(self.http.socket, server_side=True)

    @property
    def hits(self) -> list[str]:
        return [path for path, *_ in self.asked]

    @property
    def ranges(self) -> list[str]:
        return [wanted for _, wanted, _ in self.asked]

    def url(self, *pages: Page) -> str:
        path = f"/{len(self.pages)}"
        self.pages[path] = list(pages)
        return f"{self.scheme}://127.0.0.1:{self.http.server_port}{path}"

    def answer(self, request: Any, page: Page, wanted: str, only_if: str) -> None:
        status, start = page.status, 0
        same = only_if in ("", page.etag, page.modified)
        if wanted and page.ranges and same and status == 200:
            status, start = 206, int(wanted.removeprefix("bytes=").rstrip("-"))
        body = page.body[start:]
        request.send_response(status)
        length = len(body) if page.length == -1 else page.length
        last = len(page.body) - 1
        headers = {
            "Content-Length": "" if length is None else str(length),
            "ETag": page.etag,
            "Last-Modified": page.modified,
            "Content-Range": page.content_range or f"bytes {start}-{last}/{last + 1}",
            **page.headers,
        }
        if status != 206:
            del headers["Content-Range"]
        for name, value in headers.items():
            if value:
                request.send_header(name, value)
        request.end_headers()
        self.closing.wait(page.wait)
        with suppress(OSError):  # the other end may have had enough
            self.send(request.wfile, page, body)

    def send(self, out: Any, page: Page, body: bytes) -> None:
        if page.cut is not None:
            out.write(body[: page.cut])
        elif page.stall is not None:
            out.write(body[: page.stall])
            self.closing.wait(30)
        elif page.gate is not None:
            out.write(body[: len(body) // 2])
            page.gate.wait(30)
            out.write(body[len(body) // 2 :])
        elif page.rate is not None:
            step = max(1, int(page.rate / 50))
            for start in range(0, len(body), step):
                out.write(body[start : start + step])
                if self.closing.wait(0.02):
                    return
        else:
            out.write(body)


@contextmanager
def running(certificate: Path | None = None) -> Iterator[Server]:
    server = Server(certificate)
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.http.shutdown()
        thread.join()
        server.http.server_close()
