"""Take in what a stranger sends: counted, timed, in memory alone.

A request's body is either one file in ``multipart/form-data``, as a form sends it, or the file
itself.  Nothing that its sender says about it is believed: not its length, type or name.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from time import monotonic
from typing import Any

from .limits import LIMITS, Limits

PART_HEADER = 1024  # bytes of a line above a file: its name is in it
DRAIN, DRAIN_SECONDS = 64 << 20, 2.0  # what is read and thrown away before a refusal

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class Refused(Exception):
    """A request isn't done: ``status`` as HTTP counts, the text one sentence for people."""

    def __init__(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(text)
        self.status, self.text, self.headers = status, text, headers or {}


class Gone(Exception):
    """The client has hung up: nobody is there to be answered."""


def busy(text: str) -> Refused:
    """Return the refusal that asks to come again."""
    return Refused(503, text, {"Retry-After": "1"})


class Memory:
    """Counts the bytes of all bodies together; who would take too much is refused."""

    def __init__(self, most: int) -> None:
        self.most, self.used = most, 0

    @contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """Give what is to be called with each number of bytes taken; all go back at the end."""
        mine = 0

        def take(count: int) -> None:
            nonlocal mine
            if self.used + count > self.most:
                raise busy("The server is taking in as many pictures as it can: try again.")
            mine += count
            self.used += count

        try:
            yield take
        finally:
            self.used -= mine


async def read_upload(
    headers: dict[bytes, bytes],
    receive: Receive,
    take: Callable[[int], None],
    limits: Limits = LIMITS,
) -> bytes:
    """Return the bytes of the one file in a request.

    headers: the request's, names in lower case.  take: called with the size of each piece before
    it is kept.  Raises `Refused` (400, 408, 413, 415, 503) and `Gone`.
    """
    file: Raw | Multipart
    body = Body(receive)
    try:
        kind = content_type(headers)
        file = Multipart(kind) if kind.startswith(b"multipart/") else Raw()
        said = headers.get(b"content-length", b"")
        if said.isdigit() and (len(said) > 18 or int(said) > limits.body):
            raise too_large(limits.body)
        async with asyncio.timeout(limits.body_seconds):
            async for piece in body.pieces(limits.body):
                take(len(piece))
                file.add(piece)
        return file.whole()
    except TimeoutError:
        text = f"The picture didn't arrive within {limits.body_seconds:g} seconds."
        raise Refused(408, text, {"Connection": "close"}) from None
    except Refused as refusal:
        if not body.over:
            refusal.headers["Connection"] = "close"
            if headers.get(b"expect", b"").lower() != b"100-continue":
                await body.drain()
        raise


class Body:
    """A request's body, as it comes in.  over: whether all of it is there."""

    def __init__(self, receive: Receive) -> None:
        self.receive, self.over = receive, False

    async def piece(self) -> bytes:
        """Return the next bytes; raise `Gone`."""
        message = await self.receive()
        if message["type"] == "http.disconnect":
            raise Gone
        self.over = not message.get("more_body", False)
        return bytes(message.get("body", b""))

    async def pieces(self, most: int) -> AsyncIterator[bytes]:
        """Yield it piece by piece; raise `Refused` as soon as it is too large."""
        size = 0
        while not self.over:
            piece = await self.piece()
            size += len(piece)
            if size > most:
                raise too_large(most)
            if piece:
                yield piece

    async def drain(self) -> None:
        """Read on for a while and keep nothing.

        Who is refused while still sending would otherwise find the line cut, and not see the
        answer.
        """
        end, left = monotonic() + DRAIN_SECONDS, DRAIN
        while left > 0 and not self.over:
            try:
                async with asyncio.timeout(end - monotonic()):
                    left -= len(await self.piece())
            except TimeoutError:
                return


def content_type(headers: dict[bytes, bytes]) -> bytes:
    """Return a body's type; refuse bodies that would have to be unpacked first."""
    encoding = headers.get(b"content-encoding", b"identity").strip().lower()
    if encoding not in (b"", b"identity"):
        raise Refused(415, "Compressed requests aren't taken: send the picture's file as it is.")
    return headers.get(b"content-type", b"").strip()


def too_large(most: int) -> Refused:
    """Return the refusal of a body that is too large."""
    return Refused(413, f"The picture is larger than {most / 2**20:g} MB.")


class Raw:
    """The file itself, as the body."""

    def __init__(self) -> None:
        self.data = bytearray()

    def add(self, piece: bytes) -> None:
        """Take the next bytes."""
        self.data += piece

    def whole(self) -> bytes:
        """Return the file; refuse none."""
        if not self.data:
            raise Refused(400, "There was no picture in the request.")
        return bytes(self.data)


class Multipart(Raw):
    """A form's one file, by python-multipart's parser, which is handed the body as it comes.

    Its own classes of files, and Starlette's form(), may write to the disk; they aren't used.
    """

    def __init__(self, kind: bytes) -> None:
        from python_multipart.exceptions import FormParserError
        from python_multipart.multipart import MultipartParser, parse_options_header

        super().__init__()
        self.parts, self.field, self.name = 0, b"", b""
        self.named = self.ended = False
        self.broken = FormParserError
        name, options = parse_options_header(kind.decode("latin-1"))
        boundary = options.get(b"boundary", b"")
        if name != b"multipart/form-data" or not 0 < len(boundary) <= 70:  # RFC 2046, 5.1.1
            raise Refused(400, "The form can't be read: it has no proper boundary.")
        calls: Any = {
            "on_part_begin": self.begin,
            "on_header_field": self.header_field,
            "on_header_value": self.header_value,
            "on_header_end": self.header_end,
            "on_headers_finished": self.headers_finished,
            "on_part_data": self.part_data,
            "on_end": self.end,
        }
        self.parser: Any = MultipartParser(
            boundary, calls, max_header_count=8, max_header_size=PART_HEADER
        )

    def add(self, piece: bytes) -> None:
        """Take the next bytes."""
        try:
            self.parser.write(piece)
        except self.broken:
            raise Refused(400, "The form that carries the picture is broken.") from None

    def whole(self) -> bytes:
        """Return the file; refuse a form that is cut, or has none."""
        if not self.ended:
            raise Refused(400, "The form that carries the picture is cut short.")
        return super().whole()

    def begin(self) -> None:
        """Begin a part: there may be one."""
        self.parts += 1
        if self.parts > 1:
            raise Refused(400, "There was more than one part in the form: send one picture.")

    def header_field(self, data: bytes, start: int, end: int) -> None:
        """Take a piece of a line's name."""
        self.field += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        """Take a piece of what a line says."""
        self.name += data[start:end]

    def header_end(self) -> None:
        """See whether a line says that the part is a file: a name is asked for, not looked at."""
        if self.field.lower() == b"content-disposition" and b"filename" in self.name.lower():
            self.named = True
        self.field = self.name = b""

    def headers_finished(self) -> None:
        """Refuse a part that is no file."""
        if not self.named:
            raise Refused(400, "There was no file in the form, but something else.")

    def part_data(self, data: bytes, start: int, end: int) -> None:
        """Take the next bytes of the file."""
        self.data += data[start:end]

    def end(self) -> None:
        """Take note of the form's end."""
        self.ended = True
