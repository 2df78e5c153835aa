"""Look at one picture from a stranger: is it one, what is it, and where was it seen?"""

from __future__ import annotations

import base64
import io
import warnings
from time import monotonic
from typing import Any

import numpy as np

from ..data.errors import DatasetError
from ..data.pictures import FORMATS, pillow
from ..explain import grad_cam, overlay
from ..layers import Sequential
from ..prediction import predict_image
from ..workers import processes
from .limits import LIMITS, Limits
from .upload import Refused

SCAN = b"\xff\xda"  # begins one; stands nowhere else in a JPEG, but in a thumbnail within it


class Answers:
    """Answers for one model, which it uses in one thread at a time.

    why_blind: why this network can't say where it looked; empty if it can.
    Raises ValueError for a model that takes no pictures.
    """

    def __init__(self, model: Sequential, limits: Limits = LIMITS) -> None:
        self.model, self.limits = model, limits
        self.why_blind = ""
        with processes(False):
            try:
                blank = predict_image(model, png(np.zeros((8, 8, 3), np.uint8))).picture
            except TypeError as error:  # it doesn't begin with Normalize
                raise ValueError(str(error)) from error
            try:
                grad_cam(model, blank[None])
            except ValueError as error:
                self.why_blind = str(error)

    def __call__(self, data: bytes, pictures: bool = True) -> dict[str, Any]:
        """Return what the network says of the picture in a file, as `Prediction.as_dict` does.

        pictures: with "picture", what the network saw, and "looked", where it looked, both as
        addresses that hold a PNG; "looked" is None for a network that can't say.
        Raises `Refused` (413, 415).
        """
        check_size(data, self.limits)
        file = Timed(data, self.limits.decode_seconds)
        try:
            with processes(False):  # a server with threads shouldn't fork
                prediction = predict_image(self.model, file, largest=self.limits.pixels)
        except DatasetError as error:
            why = "decoding it takes too long" if file.late else error
            raise Refused(415, f"The picture can't be used: {why}.") from None
        answer = prediction.as_dict()
        if pictures:
            seen = prediction.picture
            answer["picture"] = data_uri(seen)
            answer["looked"] = None if self.why_blind else data_uri(self.looked(seen))
        return answer

    def looked(self, seen: np.ndarray) -> np.ndarray:
        """Return the Grad-CAM of what the network calls a picture, laid over it: (H, W, 3)."""
        with processes(False):
            heat = grad_cam(self.model, seen[None])[0]
        return overlay(np.broadcast_to(seen, (*seen.shape[:2], 3)), heat)


class Timed(io.BytesIO):
    """A file that can be read for some seconds.  Decoders ask for it piece by piece."""

    def __init__(self, data: bytes, seconds: float) -> None:
        super().__init__(data)
        self.end, self.late = monotonic() + seconds, False

    def read(self, size: int | None = -1) -> bytes:
        """Return the next bytes; raise TimeoutError when time is up."""
        if monotonic() > self.end:
            self.late = True
            raise TimeoutError("it takes too long")
        return super().read(size)


def check_size(data: bytes, limits: Limits = LIMITS) -> None:
    """Refuse a file that is no picture, or would be too much work; decode nothing.

    A JPEG may go over its pixels as often as it likes, at 40 bytes a time: 5 MB are half an hour.
    Any format may have a million remarks before its pixels, each of which Pillow looks at.
    """
    Image = pillow()
    file = Timed(data, limits.open_seconds)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file, formats=FORMATS) as image:
                width, height = image.size
    except Exception as error:  # Pillow's decoders raise nearly any kind
        if isinstance(error, Image.DecompressionBombError):
            raise Refused(413, f"The picture has more than {limits.pixels:,} pixels.") from None
        why = "opening it takes too long" if file.late else f"it is no {names()} picture"
        raise Refused(415, f"The picture can't be used: {why}.") from None
    if width * height > limits.pixels:
        raise Refused(
            413,
            f"The picture has {width:,} x {height:,} pixels, more than {limits.pixels:,} in all.",
        )
    if data.startswith(b"\xff\xd8") and data.count(SCAN) > limits.scans:
        raise Refused(415, "The picture can't be used: it is a JPEG of far too many scans.")


def names() -> str:
    """Return the formats, for people."""
    return f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"


def png(picture: np.ndarray) -> bytes:
    """Return a picture, (H, W, C) uint8, as a PNG file."""
    file = io.BytesIO()
    grey = picture.shape[-1] == 1
    pillow().fromarray(picture[..., 0] if grey else picture).save(file, "PNG")
    return file.getvalue()


def data_uri(picture: np.ndarray) -> str:
    """Return a picture, (H, W, C) uint8, as an address that holds it."""
    return "data:image/png;base64," + base64.b64encode(png(picture)).decode()
