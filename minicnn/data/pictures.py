"""Turn one picture file, of any size and kind, into an array; trust nothing in it.

Pillow (the extra ``image``) decodes.  It is asked only for the formats in `FORMATS`, which it
recognizes by what is in the file; the number of pixels is looked at before any is decoded.
"""

from __future__ import annotations

import os
import warnings
from typing import IO, Any

import numpy as np

from .errors import DatasetError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
LARGEST = 64_000_000  # pixels
WHITE = (255, 255, 255, 255)


def read_picture(
    file: str | os.PathLike[str] | IO[bytes],
    size: tuple[int, int] = (32, 32),
    channels: int = 3,
    largest: int = LARGEST,
) -> np.ndarray:
    """Return the picture in a file, as uint8 (H, W, channels) with (H, W) = ``size``.

    It is turned upright as its EXIF data say, what is transparent becomes white, it is scaled with
    antialiasing until its shorter side fits, and cropped about its middle.  Of an animation the
    first picture is taken.  channels: 3, red, green and blue, or 1, grey.

    Raises `DatasetError`, whose text is the reason alone, if the file isn't a whole picture in one
    of the `FORMATS` of at most ``largest`` pixels, and ImportError without Pillow.
    """
    if channels not in (1, 3):
        raise ValueError(f"channels {channels!r}: expected 3, or 1 for grey")
    Image = pillow()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged remarks beside the picture
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(file, formats=FORMATS) as image:
                if image.width * image.height > largest:
                    raise DatasetError(
                        f"it has {image.width:,} x {image.height:,} pixels, expected at most "
                        f"{largest:,} in all"
                    )
                return decode(image, size, channels)
        except DatasetError:
            raise
        except Exception as error:  # Pillow's decoders raise nearly any kind
            raise DatasetError(reason(error)) from error


def decode(image: Any, size: tuple[int, int], channels: int = 3) -> np.ndarray:
    """Do the work of `read_picture` on a picture that is open and not too large."""
    from PIL import Image, ImageOps

    H, W = size
    image.draft(None, (8 * max(size), 8 * max(size)))  # a JPEG needn't be decoded in full size
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):  # 16 bits of grey
        grey = np.asarray(image).clip(0, 65535) >> 8
        image = Image.fromarray(grey.astype(np.uint8))
    image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    image = ImageOps.fit(image, (W, H), Image.Resampling.BICUBIC)
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", (W, H), WHITE), image).convert("RGB")
    return np.array(image.convert("L" if channels == 1 else "RGB")).reshape(H, W, channels)


def reason(error: Exception) -> str:
    """Return in one short line why a picture can't be read."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return f"it is no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} picture"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def pillow() -> Any:
    """Return Pillow's Image; raise ImportError with the install line without it."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("reading pictures needs Pillow: pip install 'minicnn[image]'") from error
    return Image
