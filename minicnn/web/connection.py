"""One connection, by uvicorn's own protocol, with limits where that has none."""

from __future__ import annotations

import asyncio
import json
import sys
from http import HTTPStatus
from typing import Any

from .counts import Counts
from .guard import secured
from .limits import LIMITS, Limits


def protocol(counts: Counts, limits: Limits = LIMITS) -> type[asyncio.Protocol]:
    """Return the class of connections for uvicorn's ``http=``.

    uvicorn waits for ever for a header that comes byte by byte, and for a client that doesn't read;
    it closes a connection only between requests.  Here such a one ends in time (408, or at once),
    too many at a time are turned away (503), and what is no HTTP is answered as all else
    is, by JSON.
    """
    from h11 import IDLE, RemoteProtocolError
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Connection(H11Protocol):
        """A client's connection."""

        timer: asyncio.TimerHandle | None = None
        write_timer: asyncio.TimerHandle | None = None
        turned_away = False

        def connection_made(self, transport: Any) -> None:
            if len(self.connections) >= limits.connections:
                self.turned_away = True
                counts.request("other", 503, 0.0)
                transport.write(plain(503, "Too many connections: try again.", retry=True))
                transport.close()
                return
            super().connection_made(transport)
            self.start_timer()

        def connection_lost(self, exc: Exception | None) -> None:
            self.stop_timer()
            self.resume_writing_timer()
            if not self.turned_away:
                super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self.turned_away:
                return
            super().data_received(data)
            if self.at_work():
                self.stop_timer()
            elif self.timer is None:
                self.start_timer()

        def at_work(self) -> bool:
            """Whether a request's header is there, and its answer isn't."""
            return self.cycle is not None and not self.cycle.response_complete

        def start_timer(self) -> None:
            """Begin to wait for a header."""
            self.timer = self.loop.call_later(limits.header_seconds, self.too_slow)

        def stop_timer(self) -> None:
            """End waiting for a header."""
            if self.timer is not None:
                self.timer.cancel()
                self.timer = None

        def too_slow(self) -> None:
            """End a connection on which a header doesn't get done."""
            self.timer = None
            if self.at_work() or self.transport.is_closing():
                return
            if self.conn.their_state is IDLE and self.conn.our_state is IDLE:
                counts.request("other", 408, limits.header_seconds)
                self.transport.write(plain(408, "The request didn't arrive in time."))
            self.transport.close()

        def pause_writing(self) -> None:
            super().pause_writing()
            if self.write_timer is None:
                self.write_timer = self.loop.call_later(limits.write_seconds, self.transport.abort)

        def resume_writing(self) -> None:
            self.resume_writing_timer()
            super().resume_writing()

        def resume_writing_timer(self) -> None:
            """End waiting for a client to read."""
            if self.write_timer is not None:
                self.write_timer.cancel()
                self.write_timer = None

        def send_400_response(self, msg: str) -> None:
            """Answer what is no HTTP, unless an answer has begun already."""
            error = sys.exception()
            status = error.error_status_hint if isinstance(error, RemoteProtocolError) else 400
            if self.cycle is None or not self.cycle.response_started or not self.at_work():
                text = "This is no request in HTTP/1.1 that can be understood."
                if status == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
                    text = f"The request's header is larger than {limits.header >> 10} kB."
                counts.request("other", status, 0.0)
                self.transport.write(plain(status, text))
            self.transport.close()

    return Connection


def plain(status: int, text: str, retry: bool = False) -> bytes:
    """Return a whole answer as it goes over the line, for where there is no application."""
    body = json.dumps({"error": text}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
        *([(b"retry-after", b"1")] if retry else []),
    ]
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode()]
    lines += [name + b": " + value for name, value in secured(headers)]
    return b"\r\n".join([*lines, b"", body])
