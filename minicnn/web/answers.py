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

OPACITY = 0.75  # of the hottest place


class Answers:
    """Answers for one model, which it uses in one thread at a time.

    why_blind: why this network can't say where it looked; empty if it can.
    Raises ValueError for a model that takes no pictures.
    """

    def __init__(self, model: Sequential, limits: Limits = LIMITS) -> None:
        self.model, self.limits = model, limits
        self.why_blind = ""
        with processes(False):
            blank = predict_image(model, png(np.zeros((8, 8, 3), np.uint8))).picture
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
            raise refused("decoding it takes too long" if file.late else error) from None
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
        return overlay(np.broadcast_to(seen, (*seen.shape[:2], 3)), heat, OPACITY)


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
    """Refuse a file of too many pixels, or with too much before them; decode nothing.

    Any format may have a million remarks before its pixels, each of which Pillow looks at.  What is
    wrong with a file otherwise, whoever decodes it will say.
    """
    Image = pillow()
    file = Timed(data, limits.open_seconds)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file, formats=FORMATS) as image:
                width, height = image.size
    except Image.DecompressionBombError:
        raise Refused(413, f"The picture has more than {limits.pixels:,} pixels.") from None
    except Exception:  # Pillow's decoders raise nearly any kind
        if file.late:
            raise refused("opening it takes too long") from None
        return
    if width * height > limits.pixels:
        raise Refused(
            413,
            f"The picture has {width:,} x {height:,} pixels, more than {limits.pixels:,} in all.",
        )


def refused(why: object) -> Refused:
    """Return the refusal of what can't be decoded."""
    return Refused(415, f"The picture can't be used: {why}.")


def png(picture: np.ndarray) -> bytes:
    """Return a picture, (H, W, C) uint8, as a PNG file."""
    file = io.BytesIO()
    grey = picture.shape[-1] == 1
    pillow().fromarray(picture[..., 0] if grey else picture).save(file, "PNG")
    return file.getvalue()


def data_uri(picture: np.ndarray) -> str:
    """Return a picture, (H, W, C) uint8, as an address that holds it."""
    return "data:image/png;base64," + base64.b64encode(png(picture)).decode()
