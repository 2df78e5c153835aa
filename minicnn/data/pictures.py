"""Turn one picture file, of any size and kind, into an array; trust nothing in it.

Pillow (the extra ``image``) decodes.  It is asked only for the formats in `FORMATS`, which it
recognizes by what is in the file, whatever its name says: those that cameras, phones and web pages
use, and no more, for each further decoder is one more to be trusted (EPS runs another program, TIFF
can hold nearly anything).  What could take much memory or time is looked at before any pixel is
decoded: the file's size, the number of pixels, and the scans of a JPEG.
"""

from __future__ import annotations

import io
import os
import re
import warnings
from typing import IO, Any

import numpy as np

from .errors import DatasetError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
OTHERS = {
    b"II*\x00": "TIFF", b"MM\x00*": "TIFF", b"%PDF": "PDF", b"<svg": "SVG", b"8BPS": "Photoshop",
    b"ftypheic": "HEIC", b"ftypheix": "HEIC", b"ftypmif1": "HEIC", b"ftypavif": "AVIF",
    b"\x00\x00\x00\x0cjP  ": "JPEG 2000", b"\xff\x0a": "JPEG XL", b"JXL ": "JPEG XL",
    b"\x00\x00\x01\x00": "icon",
}  # fmt: skip
"""Pictures of other formats, by what stands in their first bytes: they are told by name."""

LARGEST = 64_000_000  # pixels
HEAVIEST = 256 << 20  # bytes of a file
SCANS = 100  # of a JPEG: programs write ten; each goes over all pixels, and may take a few bytes
WHITE = (255, 255, 255, 255)
ORIENTATION = 0x0112  # the EXIF tag (CIPA DC-008, section 4.6.4), and what makes each value upright
TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}


def read_picture(
    file: str | os.PathLike[str] | IO[bytes],
    size: tuple[int, int] = (32, 32),
    channels: int = 3,
    largest: int = LARGEST,
) -> np.ndarray:
    """Return the picture in a file, as uint8 (H, W, channels) with (H, W) = ``size``.

    It is turned upright as its EXIF data say, what is transparent becomes white, it is scaled with
    antialiasing until its shorter side fits, and cropped about its middle.  Of an animation the
    first picture is taken; of 16 bits the upper eight; colour profiles are left out of account.
    channels: 3, red, green and blue, or 1, grey.

    Raises `DatasetError`, whose text is the reason alone, if the file isn't a whole picture in one
    of the `FORMATS` of at most ``largest`` pixels, and ImportError without Pillow.
    """
    if channels not in (1, 3):
        raise ValueError(f"channels {channels!r}: expected 3, or 1 for grey")
    pillow()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged remarks beside the picture
        try:
            if isinstance(file, str | os.PathLike):
                with open(file, "rb") as stream:
                    return read_stream(stream, size, channels, largest)
            return read_stream(file, size, channels, largest)
        except DatasetError:
            raise
        except Exception as error:  # Pillow's decoders raise nearly any kind
            raise DatasetError(reason(error)) from error


def read_stream(
    stream: IO[bytes], size: tuple[int, int], channels: int, largest: int
) -> np.ndarray:
    """Do the work of `read_picture` on an open file, with the errors that there are."""
    from PIL import Image, UnidentifiedImageError

    warnings.simplefilter("error", Image.DecompressionBombWarning)
    stream = weighed(stream)
    check_scans(stream)
    try:
        opened = Image.open(stream, formats=FORMATS)
    except UnidentifiedImageError as error:
        stream.seek(0)
        raise DatasetError(unknown(stream.read(12))) from error
    with opened as image:
        if image.width * image.height > largest:
            raise DatasetError(
                f"it has {image.width:,} x {image.height:,} pixels, expected at most {largest:,} "
                "in all"
            )
        return decode(image, size, channels)


def weighed(stream: IO[bytes]) -> IO[bytes]:
    """Return a stream that can be sought in; raise `DatasetError` if there is too much in it."""
    if not stream.seekable():
        stream = io.BytesIO(stream.read(HEAVIEST + 1))
    if stream.seek(0, os.SEEK_END) > HEAVIEST:
        raise DatasetError(f"it has more than {HEAVIEST >> 20} MiB")
    return stream


def check_scans(stream: IO[bytes]) -> None:
    """Raise `DatasetError` for a JPEG of so many scans that decoding it would take for ever.

    A segment says how long it is; the data of a scan go on until the next marker, which is FF and
    something that isn't zero, a restart (D0 to D7) or another FF.  Markers without a length (01,
    D8) are passed over, too: there may be millions.
    """
    stream.seek(0)
    data = stream.read(2)
    if data == b"\xff\xd8":
        data += stream.read()
        marker = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")
        place, scans = 2, 0
        while (found := marker.search(data, place)) and found[1] != b"\xd9":
            place = found.end()
            scans += found[1] == b"\xda"
            if scans > SCANS:
                raise DatasetError(f"it has more than {SCANS} scans, as no program writes them")
            place += max(2, int.from_bytes(data[place : place + 2], "big"))


def decode(image: Any, size: tuple[int, int], channels: int = 3) -> np.ndarray:
    """Do the work of `read_picture` on a picture that is open and not too large."""
    from PIL import Image, ImageOps

    H, W = size
    image.draft(None, (8 * max(size), 8 * max(size)))  # a JPEG needn't be decoded in full size
    turn = TURNS.get(image.getexif().get(ORIENTATION))
    if (
        turn is not None
    ):  # ImageOps.exif_transpose writes all EXIF data anew, however many there are
        image = image.transpose(Image.Transpose[turn])
    if image.mode.startswith("I"):
        image = eight_bits(image)
    mode = "RGBA" if image.has_transparency_data else "RGB"
    if image.mode != mode:  # a copy of a large picture takes as much memory again
        image = image.convert(mode)
    image = ImageOps.fit(image, (W, H), Image.Resampling.BICUBIC)
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", (W, H), WHITE), image).convert("RGB")
    return np.array(image.convert("L" if channels == 1 else "RGB")).reshape(H, W, channels)


def eight_bits(image: Any) -> Any:
    """Return the upper half of 16 bits of grey, which Pillow would cut off at 255."""
    from PIL import Image

    grey = np.asarray(image)
    half = Image.fromarray((grey.clip(0, 65535) >> 8).astype(np.uint8))
    clear = image.info.get("transparency")  # the one grey that is transparent
    if isinstance(clear, int):
        half.putalpha(Image.fromarray(np.where(grey == clear, 0, 255).astype(np.uint8)))
    return half


def unknown(head: bytes) -> str:
    """Return what is said of a file that begins so, and has none of the `FORMATS`."""
    wanted = f"it is no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} picture"
    if not head:
        return f"{wanted}, but empty"
    for start, name in OTHERS.items():
        if head.startswith(start) or head[4:].startswith(start):
            return f"{wanted}, but {name}: convert it"
    return wanted


def reason(error: Exception) -> str:
    """Return in one short line why a picture can't be read."""
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
