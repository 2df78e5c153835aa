"""How much of what strangers may have, in one place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """The bounds of a server.  Sizes are in bytes, times in seconds."""

    header: int = 16 << 10
    """of a request, all its lines together."""
    header_seconds: float = 10.0
    """for it to come in."""
    body: int = 5 << 20
    """of a request, as it is counted, whatever its header says."""
    body_seconds: float = 10.0
    """for it to come in."""
    bodies: int = 64 << 20
    """of all requests together, that come in or wait."""
    write_seconds: float = 20.0
    """for a client to take what it asked for."""
    connections: int = 256
    places: int = 16
    """in the queue before the model."""
    waiting_seconds: float = 15.0
    """in that queue."""
    pixels: int = 20_000_000
    """of a picture, known before it is decoded."""
    open_seconds: float = 1.0
    """for what stands before a picture's pixels, which is milliseconds in a photograph."""
    decode_seconds: float = 3.0
    """for a picture to be decoded."""
    idle_seconds: int = 5
    """between two requests on a connection."""
    stop_seconds: int = 20
    """for what is at work when the server is to stop."""


LIMITS = Limits()
