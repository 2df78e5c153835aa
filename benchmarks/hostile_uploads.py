"""Requests that no honest client sends, by the hundred; each with the answers that it may get."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterator

import numpy as np

from benchmarks.hostile_pictures import (
    BROKEN,
    FINE,
    HOST,
    HUNG_UP,
    MB,
    NO_PICTURE,
    Hostile,
    bombs,
    encoded,
    no_pictures,
    pictures,
    request,
)
from benchmarks.serving import Line

STUCK = -1


def hostile_uploads() -> list[Hostile]:
    """Return them all."""
    return [*pictures(), *bombs(), *no_pictures(), *forms(), *lines(), *lengths(), *silent()]


async def attack(port: int, hostile: Hostile, seconds: float = 60.0) -> int:
    """Send one; return the status of the answer, `HUNG_UP`, or `STUCK` if nothing happens."""
    line = Line(port)
    try:
        async with asyncio.timeout(seconds):
            await line.send(hostile.data.replace(HOST, b"127.0.0.1:%d" % port))
            return HUNG_UP if hostile.leave else (await line.answer())[0]
    except TimeoutError:
        return STUCK
    finally:
        line.close()


def forms() -> Iterator[Hostile]:
    """Yield forms that are broken, and names that mean something elsewhere."""
    picture, kind = encoded("PNG"), b"Content-Type: multipart/form-data; boundary=XoX"

    def part(name: bytes = b"a.png", data: bytes = picture, more: bytes = b"") -> bytes:
        head = b'--XoX\r\nContent-Disposition: form-data; name="p"; filename="' + name + b'"\r\n'
        return head + more + b"\r\n" + data + b"\r\n"

    end = b"--XoX--\r\n"
    names = [
        b"../../../etc/passwd", b"/etc/passwd", b"C:\\boot.ini", b"\\\\host\\share", b"a\0b.png",
        b"<script>alert(1)</script>", b"<img src=x onerror=alert(1)>", b"$(reboot)", b"`id`",
        b"' or 1=1 --", b"a" * 900, b"\xff\xfe\xfa", "\u202egnp.exe".encode(), b"CON", b"",
        b"%00%2e%2e%2f", b"{{7*7}}", b"${jndi:ldap://x/}", b"a;b=c", b"\x1b[2J", b"-rf",
    ]  # fmt: skip
    for name in names:
        yield Hostile(f"form named {name[:40]!r}", request(part(name) + end, kind), FINE)
    broken = {
        "empty": b"",
        "without an end": part(),
        "cut": (part() + end)[:200],
        "of two files": part() * 2 + end,
        "of 9999 parts": part(data=b"") * 9999 + end,
        "with a name of 4 MB": part(b"n" * (4 * MB)) + end,
        "with a name of 2 kB": part(b"n" * 2000) + end,
        "with a thousand headers": part(more=b"A: b\r\n" * 1000) + end,
        "with a header of 1 MB": part(more=b"A: " + b"b" * MB + b"\r\n") + end,
        "with a field": b'--XoX\r\nContent-Disposition: form-data; name="p"\r\n\r\nx\r\n' + end,
        "without a disposition": b"--XoX\r\n\r\nx\r\n" + end,
        "with line feeds alone": (part() + end).replace(b"\r\n", b"\n"),
        "of another boundary": (part() + end).replace(b"XoX", b"YoY"),
        "of noise": np.random.default_rng(3).bytes(5000),
        "of boundaries": b"--XoX\r\n" * 100_000,
        "of dashes": b"--" * MB,
        "of almost boundaries": b"--XoX\r\n" + b"\r\n--Xo" * 500_000,
        "with an empty file": part(data=b"") + end,
        "with a header of zeros": part(more=bytes(500) + b"\r\n") + end,
    }
    for name, body in broken.items():
        yield Hostile(f"form {name}", request(body, kind), BROKEN)
    inner = b"--YoY\r\n" + part()[7:] + b"--YoY--\r\n"
    nested = part(data=inner, more=b"Content-Type: multipart/mixed; boundary=YoY\r\n") + end
    yield Hostile("form in a form", request(nested, kind), NO_PICTURE)
    for boundary in (b"", b'""', b"b" * 71, b"b" * 9000, b"\xff\xfe", b"a b"):
        line = b"Content-Type: multipart/form-data; boundary=" + boundary
        yield Hostile(f"boundary {boundary[:80]!r}", request(part() + end, line), BROKEN)
    yield Hostile("no boundary", request(b"x", b"Content-Type: multipart/form-data"), BROKEN)
    yield Hostile("mixed", request(part() + end, kind.replace(b"form-data", b"mixed")), BROKEN)
    charset = b"Content-Type: multipart/form-data; charset=utf-7; boundary=XoX"
    yield Hostile("charset", request(part() + end, charset), FINE)


def lines() -> Iterator[Hostile]:
    """Yield requests whose header is broken, huge, or not for us."""
    picture = encoded("PNG")
    host, stop = b"Host: " + HOST, frozenset({400, 431, 408})
    raw = {
        "noise": np.random.default_rng(4).bytes(3000),
        "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500) + b"\r\n\r\n",
        "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "HTTP/0.9": b"GET /\r\n\r\n",
        "no host": b"GET / HTTP/1.1\r\n\r\n",
        "two hosts": b"GET / HTTP/1.1\r\n" + host + b"\r\nHost: evil.example\r\n\r\n",
        "zero in a header": b"GET / HTTP/1.1\r\n" + host + b"\r\nA: \0\r\n\r\n",
        "space before a colon": b"GET / HTTP/1.1\r\n" + host + b"\r\nA : b\r\n\r\n",
        "header without a colon": b"GET / HTTP/1.1\r\n" + host + b"\r\nabc\r\n\r\n",
        "header of 64 kB": b"GET / HTTP/1.1\r\n" + host + b"\r\nA: " + b"b" * 65536 + b"\r\n\r\n",
        "9000 headers": b"GET / HTTP/1.1\r\n" + host + b"\r\n" + b"A: b\r\n" * 9000 + b"\r\n",
        "address of 64 kB": b"GET /" + b"a" * 65536 + b" HTTP/1.1\r\n" + host + b"\r\n\r\n",
        "method of 64 kB": b"G" * 65536 + b" / HTTP/1.1\r\n" + host + b"\r\n\r\n",
        "spaces": b" " * 65536,
        "SMTP": b"EHLO evil.example\r\nMAIL FROM:<a@b>\r\n\r\n",
        "address with a zero": b"GET /\0 HTTP/1.1\r\n" + host + b"\r\n\r\n",
    }
    for name, data in raw.items():
        yield Hostile(f"header: {name}", data, stop)
    ours = {
        "other host": (request(picture).replace(HOST, b"evil.example"), {421}),
        "rebound host": (request(picture).replace(HOST, b"127.0.0.1.evil.example"), {421}),
        "host and path": (request(picture).replace(b"Host: " + HOST, b"Host: a/b"), {421}),
        "empty host": (request(picture).replace(b"Host: " + HOST, b"Host:"), {400}),
        "other site's form": (request(picture, b"Origin: https://evil.example"), {403}),
        "null origin": (request(picture, b"Origin: null"), {403}),
        "cross-site": (request(picture, b"Sec-Fetch-Site: cross-site"), {403}),
        "gzip body": (request(gzip.compress(picture), b"Content-Encoding: gzip"), {415}),
        "brotli body": (request(picture, b"Content-Encoding: br"), {415}),
        "PUT": (request(picture, method=b"PUT"), {405}),
        "DELETE": (request(picture, method=b"DELETE"), {405}),
        "CONNECT": (request(b"", method=b"CONNECT", path=b"evil.example:443"), {400, 404, 405}),
        "TRACE": (request(b"", method=b"TRACE"), {405}),
        "upload to /": (request(picture, path=b"/"), {405}),
        "upload to nowhere": (request(picture, path=b"/upload.php"), {404}),
        "climbing": (request(b"", method=b"GET", path=b"/static/../../../etc/passwd"), {404}),
        "climbing, encoded": (request(b"", method=b"GET", path=b"/static/%2e%2e%2fapp.py"), {404}),
        "absolute address": (request(b"", method=b"GET", path=b"http://evil.example/"), {404}),
        "odd option": (request(picture, path=b"/api/predict?pictures=%00&pictures=x"), {400}),
        "number of digits": (request(b"", method=b"GET", path=b"/samples/" + b"9" * 9000), {404}),
        "upgrade": (request(b"", b"Connection: upgrade", b"Upgrade: websocket"), {400}),
        "h2c": (request(picture, b"Connection: upgrade", b"Upgrade: h2c"), {200}),
        "unknown coding": (request(picture, b"Transfer-Encoding: rot13"), {400, 501}),
        "folded header": (request(picture, b"A: b\r\n c"), {200}),
        "pipelined": (request(b"x") * 60, {415}),
    }  # fmt: skip
    for name, (data, statuses) in ours.items():
        yield Hostile(f"request: {name}", data, frozenset(statuses))


def lengths() -> Iterator[Hostile]:
    """Yield requests that lie about their length, or about their pieces."""
    picture = encoded("PNG")
    head = b"POST /api/predict HTTP/1.1\r\nHost: " + HOST + b"\r\n"
    for said in (b"-1", b"1e3", b"0x10", b"+5", b"1,2", b"", b"9" * 30, b"\xb2", b"5 5"):
        data = head + b"Content-Length: " + said + b"\r\n\r\n" + picture
        yield Hostile(f"length {said!r}", data, frozenset({400, 413}))
    two = b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n"
    yield Hostile("two lengths", head + two + picture, BROKEN)
    short = b"Content-Length: 20\r\nConnection: close\r\n\r\n"
    yield Hostile("length too short", head + short + picture, NO_PICTURE)
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n"
    broken = BROKEN | {HUNG_UP, 408, 431}
    pieces = {
        "garbage": b"zz\r\n" + picture,
        "negative": b"-5\r\n" + picture,
        "size of 20 digits": b"f" * 21 + b"\r\nabc",
        "size without an end": b"1" * 70_000,
        "remarks of 64 kB": b"5;a=" + b"b" * 65536 + b"\r\nhello\r\n",
        "no end of line": b"5\r\nhelloworld\r\n0\r\n\r\n",
        "trailer of 64 kB": b"5\r\nhello\r\n0\r\nA: " + b"b" * 65536 + b"\r\n\r\n",
        "zeros": bytes(5000),
    }
    for name, body in pieces.items():
        yield Hostile(f"chunked: {name}", chunked + body, broken | NO_PICTURE)
    endless = (b"10000\r\n" + bytes(65536) + b"\r\n") * 120
    yield Hostile("chunked: 7.5 MB", chunked + endless + b"0\r\n\r\n", frozenset({413}))
    drops = b"".join(b"1\r\n%c\r\n" % byte for byte in picture) + b"0\r\n\r\n"
    yield Hostile("chunked: byte by byte", chunked + drops, FINE)
    both = b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    yield Hostile("length and chunked", head + both, BROKEN)


def silent() -> Iterator[Hostile]:
    """Yield clients that stop in the middle, and wait or hang up."""
    picture = encoded("PNG", (300, 300))
    whole = request(picture)
    body = whole.index(b"\r\n\r\n") + 4
    late = frozenset({408})
    for name, place in {"header": 20, "header's end": body - 2, "body": body + 9}.items():
        yield Hostile(f"silent in the {name}", whole[:place], late)
        yield Hostile(f"gone in the {name}", whole[:place], frozenset(), leave=True)
    yield Hostile("silent before it all", b"", late)
    yield Hostile("gone after it all", whole, frozenset(), leave=True)
    yield Hostile("gone before it all", b"", frozenset(), leave=True)
    said = whole.replace(b"Content-Length: ", b"Content-Length: 1")
    yield Hostile("length too long", said, late)
    chunked = (
        b"POST /api/predict HTTP/1.1\r\nHost: " + HOST + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    yield Hostile("chunked without an end", chunked + b"5\r\nhello\r\n", late)
    boundary = b"Content-Type: multipart/form-data; boundary=XoX"
    form = request(b"--XoX\r\n" + bytes(9), boundary).replace(b"Length: 16", b"Length: 99")
    yield Hostile("silent in a form", form, BROKEN | late)
