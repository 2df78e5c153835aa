"""Serve the application on a port, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from ..layers import Sequential
from ..signals import ASKED, say
from .app import Site, need
from .connection import protocol
from .guard import Hosts, is_loopback
from .limits import LIMITS, Limits


def serve(
    model: Sequential,
    host: str = "127.0.0.1",
    port: int = 8000,
    allow_hosts: Collection[str] = (),
    facts: Mapping[str, str] | None = None,
    limits: Limits = LIMITS,
) -> None:
    """Serve a model's web page until Ctrl-C or SIGTERM; print the address when it is ready.

        mc.web.serve(mc.load("cifar.safetensors"))

    Then requests at work are finished; a second signal ends at once.

    host: the address to listen at; any but this machine's own lets others in, of whom nothing is
    known.  port: 0 takes a free one.  allow_hosts: further names under which it may be asked for.
    facts: for the page about the network, name and text.  limits: of what strangers may have.
    Raises OSError, with what to do, if the port can't be had, ValueError for a model that takes no
    pictures, RuntimeError inside an event loop, and ImportError without the extra ``web``.
    """
    need("starlette", "uvicorn", "python_multipart", "PIL")
    if running():
        raise RuntimeError(
            "serve can't run inside an event loop, as a notebook has one: call it in a thread, "
            "threading.Thread(target=mc.web.serve, args=(model,), daemon=True).start()"
        )
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # a line for each bad form
    with listen(host, port) as listener:
        site = Site(model, facts or {}, limits)
        app = site.application(Hosts(host, allow_hosts))
        server = make_server(app, protocol(site.counts, limits), limits)
        if not is_loopback(host):
            say(
                f"note: everyone who can reach {host} can use this server; nothing is encrypted, "
                "and nobody is asked for a password"
            )
        print(f"{address(host, listener)}  (Ctrl-C ends it)", flush=True)
        asyncio.run(server.serve(sockets=[listener]))


def running() -> bool:
    """Whether the calling thread is inside an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; raise OSError, whose text says what to do, if there is none."""
    if not isinstance(port, int) or not 0 <= port < 65536:
        raise ValueError(f"port {port!r}: expected 0 to 65535")
    try:
        kind, flags = socket.SOCK_STREAM, socket.AI_PASSIVE
        found = socket.getaddrinfo(host or None, port, type=kind, flags=flags)
    except (OSError, UnicodeError) as error:
        raise OSError(f"host {host!r}: this is no address of this machine ({error})") from error
    family, _, number, _, place = found[0]
    listener = socket.socket(family, kind, number)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(128)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise OSError(why(error, host, port)) from error
    return listener


def why(error: OSError, host: str, port: int) -> str:
    """Return why a socket can't listen, and what to do."""
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} at {host} is in use by another program: choose another by --port, "
            "or --port 0 for a free one"
        )
    if error.errno == errno.EACCES:
        return f"port {port} is kept for the system: choose one above 1023 by --port"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"host {host!r}: this machine has no such address"
    return f"can't listen at {host}, port {port}: {error.strerror}"


def address(host: str, listener: socket.socket) -> str:
    """Return what to type into a browser."""
    name = host or "0.0.0.0"
    return f"http://{f'[{name}]' if ':' in name else name}:{listener.getsockname()[1]}/"


def make_server(app: Any, connection: type[asyncio.Protocol], limits: Limits = LIMITS) -> Any:
    """Return uvicorn's server, which ends as minicnn's commands do."""
    from uvicorn import Config, Server

    class Once(Server):
        """A server that the first signal asks to stop, and the second stops."""

        should_exit: bool

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            main = threading.current_thread() is threading.main_thread()
            before = {
                number: signal.signal(number, self.note)
                for number in ASKED
                if main and signal.getsignal(number) not in (signal.SIG_IGN, None)
            }
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)

        def note(self, number: int, frame: FrameType | None) -> None:
            """Take note of the first signal; at the second, die of it."""
            if self.should_exit:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
                return
            self.should_exit = True
            name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
            say(f"{name}: finishing what is at work; once more to quit at once", fresh=True)

    return Once(
        Config(
            app,
            http=connection,
            ws="none",
            loop="asyncio",
            interface="asgi3",
            lifespan="on",
            log_config=None,
            log_level="critical",  # the application writes its own
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=limits.idle_seconds,
            timeout_graceful_shutdown=limits.stop_seconds,
            h11_max_incomplete_event_size=limits.header,
        )
    )
