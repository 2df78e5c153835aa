"""What holds for every request and every answer: who may ask, and what a browser may do with it."""

from __future__ import annotations

import ipaddress
import json
import logging
import socket
from collections.abc import Awaitable, Callable, Collection
from time import perf_counter
from typing import Any

from .counts import Counts
from .limits import LIMITS, Limits

SECURITY = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self' data: blob:; style-src 'self'; script-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with no-referrer a form's Origin would be "null"
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
READING = ("GET", "HEAD", "OPTIONS")  # requests that change nothing
LOG = logging.getLogger("minicnn.web")

Application = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


class Hosts:
    """The names under which the server may be asked for.

    A stranger's web page can have its own name point to 127.0.0.1, and then talk to a server there
    as if it were its own (DNS rebinding).  It can't choose the name: that is its own, and isn't
    among these.  Where the server listens to the outside, any address in numbers is one of them,
    for those can't be pointed elsewhere.
    """

    def __init__(self, host: str = "127.0.0.1", more: Collection[str] = ()) -> None:
        self.open = False
        names = LOOPBACK | {name.strip("[]").lower() for name in more}
        if not is_loopback(host):
            names |= {host.lower(), socket.gethostname().lower()}
            self.open = is_any(host)
        self.names = names

    def __contains__(self, name: str) -> bool:
        return name in self.names or (self.open and address(name) is not None)


class Guard:
    """An application around the application.

    Refuses names that aren't ours (421), other sites' forms and scripts (403), headers that the
    server let pass although they are huge (431), and bodies that a proxy before us may see end
    elsewhere than we do (400), gives every answer the headers in `SECURITY`,
    counts it, and turns an error into an answer that tells nothing of our insides.
    """

    def __init__(
        self, inner: Application, hosts: Hosts, counts: Counts, limits: Limits = LIMITS
    ) -> None:
        self.inner, self.hosts, self.counts, self.limits = inner, hosts, counts, limits

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Do one request."""
        if scope["type"] == "lifespan":
            await self.inner(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        start, status = perf_counter(), 0

        async def answer(message: dict[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": secured(message.get("headers", []))}
            await send(message)

        try:
            if refusal := self.refusal(scope):
                await refuse(answer, *refusal)
            else:
                await self.inner(scope, receive, answer)
        except Exception:
            LOG.exception("an error while answering %s", scope["method"])
            if not status:
                await refuse(answer, 500, "Something went wrong in the server: its log says what.")
        finally:
            self.counts.request(scope["path"], status or 499, perf_counter() - start)

    def refusal(self, scope: dict[str, Any]) -> tuple[int, str] | None:
        """Return why a request isn't let in, if it isn't: status and sentence."""
        size = sum(len(name) + len(value) for name, value in scope["headers"])
        size += len(scope["method"]) + len(scope["path"]) + len(scope["query_string"])
        if size > self.limits.header:
            return 431, f"The request's header is larger than {self.limits.header >> 10} kB."
        headers = dict(scope["headers"])
        if b"content-length" in headers and b"transfer-encoding" in headers:  # RFC 9112, 6.1
            return 400, "The request tells its length in two ways."
        asked = headers.get(b"host", b"").decode("latin-1")
        name = split_host(asked)
        if name is None:
            return 400, "The request doesn't say which host it is for."
        if name not in self.hosts:
            return 421, "This server isn't called that: --allow-host NAME adds a name."
        if scope["method"] in READING:
            return None
        site = headers.get(b"sec-fetch-site", b"same-origin")
        origin = headers.get(b"origin")
        if site not in (b"same-origin", b"none") or (
            origin is not None and origin.decode("latin-1").partition("://")[2] != asked
        ):
            return 403, "Other sites' pages may not send anything here."
        return None


def secured(headers: Any) -> list[tuple[bytes, bytes]]:
    """Return an answer's headers with `SECURITY`'s; what isn't said otherwise isn't stored."""
    given = list(headers)
    names = {name.lower() for name, _ in given}
    for name, value in {"Cache-Control": "no-store", **SECURITY}.items():
        if name.lower().encode() not in names:
            given.append((name.lower().encode(), value.encode()))
    return given


async def refuse(send: Any, status: int, text: str) -> None:
    """Answer with one sentence, as JSON."""
    body = json.dumps({"error": text}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),  # a body may be on its way: it isn't read
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def split_host(text: str) -> str | None:
    """Return the name in a Host line, without its port and in lower case; None if it is none."""
    name, colon, port = text.rpartition(":")
    if not colon or "]" in port:
        name = text
    elif not (port.isascii() and port.isdigit()):
        return None
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1]
    elif ":" in name:
        return None
    return name.lower() or None


def address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that a name is, if it is one in numbers."""
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host."""
    found = address(host)
    return host.lower() in LOOPBACK or (found is not None and found.is_loopback)


def is_any(host: str) -> bool:
    """Whether a host means all addresses of this machine."""
    found = address(host)
    return not host or (found is not None and found.is_unspecified)
