"""A server of ours in a process of its own, what it takes, and lines to it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.peers.protocol import ROOT, environment

SECONDS = 60.0  # for an answer
START = """
import json, sys
import minicnn as mc
from minicnn.web import Limits, serve
serve(mc.load(sys.argv[1], "cpu"), port=0, limits=Limits(**json.loads(sys.argv[2])))
"""


class Server:
    """``minicnn serve``, from its start to its end; a context that gives itself.

    model: a model's file.  limits: other than the usual ones, as `minicnn.web.Limits` has them.
    """

    def __init__(self, model: Path | str, threads: int = 2, **limits: Any) -> None:
        self.model, self.threads, self.limits = str(model), threads, limits
        self.port = 0

    def __enter__(self) -> Server:
        command = [sys.executable, "-m", "minicnn", "serve", self.model, "--port", "0"]
        command += ["--device", "cpu"]
        if self.limits:
            command = [sys.executable, "-c", START, self.model, json.dumps(self.limits)]
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(sys.executable, self.threads),
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )
        line = self.process.stdout.readline() if self.process.stdout else ""
        if "http://" not in line:
            self.end()
            raise RuntimeError(f"the server didn't start: {self.said().strip()[-500:]}")
        self.port = int(line.split()[0].rstrip("/").rpartition(":")[2])
        return self

    def __exit__(self, *error: Any) -> None:
        self.end()
        self.last_words = self.said()
        self.errors.close()

    def end(self, number: int = signal.SIGTERM) -> int:
        """Ask it to stop, wait, and return its exit code; a server that doesn't is killed."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
        finally:
            if self.process.stdout:
                self.process.stdout.close()

    def said(self) -> str:
        """Return what it has written to stderr."""
        if self.errors.closed:
            return self.last_words
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace")

    def memory(self) -> tuple[float, float]:
        """Return its resident memory and that at its peak, in MB; 0 where the system won't say."""
        try:
            lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        except OSError:
            return 0.0, 0.0
        sizes = dict(line.split(":", 1) for line in lines if ":" in line)
        now, peak = (float(sizes[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
        return now, peak

    def files(self) -> int:
        """Count the files and sockets that it holds open; 0 where the system won't say."""
        try:
            return len(os.listdir(f"/proc/{self.process.pid}/fd"))
        except OSError:
            return 0


class Line:
    """A connection to a server, opened when it is needed."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.host, self.port = host, port
        self.writer: asyncio.StreamWriter | None = None

    async def send(self, data: bytes) -> None:
        """Send bytes as they are; a server that has hung up isn't an error here."""
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
        try:
            self.writer.write(data)
            await self.writer.drain()
        except ConnectionError:
            pass

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of an answer; status 0 if the server has hung up.

        Raises TimeoutError if there is none for `SECONDS`.
        """
        try:
            async with asyncio.timeout(SECONDS):
                head = await self.reader.readuntil(b"\r\n\r\n")
                first, *lines = head.decode("latin-1").split("\r\n")
                pairs = (line.partition(":") for line in lines)
                headers = {k.lower(): v.strip() for k, _, v in pairs}
                body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        except (asyncio.IncompleteReadError, ConnectionError):
            self.close()
            return 0, {}, b""
        if headers.get("connection") == "close":
            self.close()
        return int(first.split()[1]), headers, body

    async def post(self, data: bytes, path: str = "/api/predict") -> tuple[int, dict, bytes]:
        """Send a picture; return the answer."""
        await self.send(header(path, self.port, len(data)) + data)
        return await self.answer()

    def close(self) -> None:
        """Hang up."""
        if self.writer is not None:
            self.writer.close()
            self.writer = None


def header(path: str, port: int, length: int) -> bytes:
    """Return the lines above a picture."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {length}\r\n\r\n"
    ).encode()
