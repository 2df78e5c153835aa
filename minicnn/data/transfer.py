"""Bring the bytes that a part of a file lacks from one source on the web.

Certificates are always checked, and a redirection never leaves TLS.  Whatever is wrong with the
network or the source is a `SourceError`; what is wrong with the disk stays an OSError.
"""

from __future__ import annotations

import http.client
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from .part import Part

CHUNK = 1 << 18  # bytes
BUSY = (408, 425, 429)  # with 5xx: the answers of a server that may do better later


@dataclass(frozen=True)
class Patience:
    """How long a source is waited for, in seconds."""

    connect: float = 15.0  # until a connection stands
    stall: float = 20.0  # without a byte
    slow: float = 100e3  # bytes a second: less, on average over ``window``, is a crawl
    window: float = 20.0
    tries: int = 3  # of one source
    pause: float = 1.0  # before second tries; twice as long before third ones


class SourceError(Exception):
    """A source failed; the text is the reason.  It may do better if it is tried again."""


class SourceRefused(SourceError):
    """A source failed, and would fail again."""


class CertificateError(SourceRefused):
    """A source can't prove who it is."""


class SourceCrawls(SourceError):
    """A source was left because it is slow; ``rate`` is in bytes a second."""

    def __init__(self, rate: float) -> None:
        super().__init__(f"it crawls: {rate / 1000:,.0f} kB/s")
        self.rate = rate


def transfer(
    url: str, part: Part, patience: Patience, slow: float, arrived: Callable[[int], object]
) -> int:
    """Ask ``url`` for the bytes that ``part`` lacks, and add them.

    slow: the rate under which the source is left.  arrived: called with the number of bytes that
    are there.  Returns the first byte that came: 0 if the source gave the whole file.
    """
    with answer(url, part, patience) as response:
        got = start = first_byte(response, part)
        with part.writer(start, url, strong_validator(response.headers)) as file:
            arrived(start)
            for chunk in chunks(response, slow, patience.window):
                file.write(chunk)
                got += len(chunk)
                arrived(got)
                if got > part.size:
                    break
    if got > part.size:
        part.drop()
        raise SourceRefused(f"it gives more than the {part.size:,} bytes expected")
    if got < part.size:
        raise SourceError(f"it ended after {got:,} bytes, expected {part.size:,}")
    return start


def answer(url: str, part: Part, patience: Patience) -> Any:
    """Open ``url`` at the first byte that ``part`` lacks.

    If the part is of this source, the source is to give the rest only if it still has the same
    version, and else all of it.  A part of another source is continued as well: the checksum
    tells in the end whether the two had the same file.
    """
    headers = {"User-Agent": "minicnn"}
    if got := part.got():
        headers["Range"] = f"bytes={got}-"
        if validator := part.validator(url):
            headers["If-Range"] = validator
    with blaming_the_source():
        if urlsplit(url).scheme not in ("https", "http"):
            raise SourceRefused("unknown url type, expected https://... or http://...")
        web = urllib.request.build_opener(Web(patience.stall), Redirects())
        request = urllib.request.Request(url, headers=headers)
        return web.open(request, timeout=patience.connect)


def first_byte(response: Any, part: Part) -> int:
    """Return the number of the first byte of an answer.

    Raises `SourceRefused`, before any byte is lost, if it isn't the file that it promises.
    """
    got, size = part.got(), part.size
    if response.status == 206:
        found = response.headers.get("Content-Range", "nothing")
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", found)
        if not match or int(match[1]) != got or match[2] not in (str(size), "*"):
            raise SourceRefused(f"it offers {found}, expected bytes {got}-{size - 1}/{size}")
        return got
    offered = response.headers.get("Content-Length") or str(size)
    kind = response.headers.get("Content-Type", "unknown type")
    if response.status != 200 or offered != str(size) or kind.startswith("text/html"):
        raise SourceRefused(
            f"it offers {offered} bytes ({kind}, HTTP {response.status}), expected {size}"
        )
    return 0


def strong_validator(headers: Any) -> str:
    """Return the ETag of an answer or, where that may stand for similar bytes, its date."""
    etag = headers.get("ETag", "")
    return etag if etag.startswith('"') else headers.get("Last-Modified", "")


def chunks(response: Any, slow: float, window: float) -> Iterator[bytes]:
    """Yield the bytes of an answer as they come; raise `SourceCrawls` if they are too few."""
    since, got = time.monotonic(), 0
    while True:
        with blaming_the_source():
            chunk = response.read1(CHUNK)
        if not chunk:
            return
        yield chunk
        got += len(chunk)
        seconds = time.monotonic() - since
        if seconds >= window:
            if got / seconds < slow:
                raise SourceCrawls(got / seconds)
            since, got = time.monotonic(), 0


@contextmanager
def blaming_the_source() -> Iterator[None]:
    """Turn every error of the network, or of an address, into a `SourceError`."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        temporary = error.code in BUSY or error.code >= 500
        kind = SourceError if temporary else SourceRefused
        raise kind(f"HTTP {error.code} {' '.join(str(error.reason).split())}") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise CertificateError(f"its certificate fails: {reason.verify_message}") from error
        raise SourceError(f"{type(reason).__name__}: {reason}") from error
    except ValueError as error:
        raise SourceRefused(f"{type(error).__name__}: {error}") from error


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a few redirections, and none from https to anything else."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """Return the next request; what else this answer says is left unread."""
        fp.close()
        scheme = urlsplit(newurl).scheme
        if scheme != "https" and not (scheme == "http" and req.type == "http"):
            raise SourceRefused(f"it redirects from {req.type} to {newurl}, which isn't followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class Connection(http.client.HTTPConnection):
    """A connection with two time-outs: one until it stands, then ``stall``."""

    def __init__(self, *args: Any, stall: float = 20.0, **options: Any) -> None:
        super().__init__(*args, **options)
        self.stall = stall

    def connect(self) -> None:
        """Connect, with a proxy's and TLS' greetings, then change the time-out."""
        super().connect()
        self.sock.settimeout(self.stall)


class SecureConnection(Connection, http.client.HTTPSConnection):
    """The same over TLS."""


class Web(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """Opens connections with a time-out ``stall``; certificates are checked."""

    def __init__(self, stall: float) -> None:
        super().__init__()
        self.stall = stall

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """Open an http address."""
        return self.do_open(Connection, req, stall=self.stall)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """Open an https address."""
        context = ssl.create_default_context()  # whatever was done to the default of `http`
        return self.do_open(SecureConnection, req, stall=self.stall, context=context)
