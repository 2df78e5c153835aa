from __future__ import annotations

import io
import os
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

Image = pytest.importorskip("PIL.Image")

from minicnn.data import datasets  # noqa: E402
from minicnn.data.errors import DatasetError, DatasetNotFound, DatasetWarning  # noqa: E402
from minicnn.data.folder import from_directory  # noqa: E402
from minicnn.data.pictures import FORMATS, read_picture  # noqa: E402


def smooth(w, h, seed=0):
    """A picture without sharp edges, uint8 (h, w, 3)."""
    a, b, c = np.random.default_rng(seed).uniform(1, 3, 3)
    rows, columns = np.linspace(0, 1, h)[:, None], np.linspace(0, 1, w)
    waves = [np.sin(a * rows + b * columns), np.cos(c * columns - rows), rows * columns]
    return np.stack([np.broadcast_to(127 + 120 * wave, (h, w)) for wave in waves], 2).astype("u1")


def save(path: Path, picture=None, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = smooth(32, 32) if picture is None else picture
    Image.fromarray(picture).save(path, **options)
    return path


def encoded(image, **options) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, **options)
    file.seek(0)
    return file


@pytest.fixture
def pets(tmp_path):
    root = tmp_path / "pets"
    for k, name in enumerate(("dog", "cat", "cat", "ant")):
        save(root / name / f"{k}.png", smooth(32, 32, k))
    return root


def test_from_directory_reads_sorted_classes(pets):
    x, y, classes = datasets.from_directory(str(pets))
    assert classes == ("ant", "cat", "dog")
    assert x.dtype == np.uint8 and x.shape == (4, 32, 32, 3) and x.flags.c_contiguous
    assert y.dtype == np.int64 and y.tolist() == [0, 1, 1, 2]
    np.testing.assert_array_equal(x, [smooth(32, 32, k) for k in (3, 1, 2, 0)])


def test_from_directory_reads_grey(pets):
    x, _, _ = from_directory(pets, channels=1)
    assert x.shape == (4, 32, 32, 1)
    np.testing.assert_array_equal(x[0], read_picture(pets / "ant" / "3.png", channels=1))
    with pytest.raises(ValueError, match="channels=4: expected 3, or 1 for grey"):
        from_directory(pets, channels=4)


def test_from_directory_leaves_out_what_is_beside(pets):
    for name in (".hidden", ".git/config", "cat/.DS_Store", "cat/notes.TXT", "readme"):
        (pets / name).parent.mkdir(exist_ok=True)
        (pets / name).write_bytes(b"text")
    assert len(from_directory(pets)[0]) == 4


@pytest.mark.parametrize("size", [(32, 32), (7, 12), (1, 1), (40, 3)])
def test_from_directory_gives_the_size(pets, size):
    save(pets / "ant" / "wide.png", smooth(50, 11))
    save(pets / "ant" / "tall.jpg", smooth(9, 70))
    assert from_directory(pets, size)[0].shape == (6, *size, 3)


def test_from_directory_takes_any_name(pets):
    for name in ("é ü.png", "a\nb.png", "no ending", "wrong.gif"):
        save(pets / "ant" / name, format="PNG")
    assert len(from_directory(pets)[0]) == 8


def test_from_directory_follows_links_to_folders(pets, tmp_path):
    save(tmp_path / "elsewhere" / "1.png")
    os.symlink(tmp_path / "elsewhere", pets / "owl")
    assert from_directory(pets)[2] == ("ant", "cat", "dog", "owl")


# Bad files and folders.


@pytest.fixture
def spoiled(pets):
    (pets / "cat" / "text.png").write_text("I am no picture")
    (pets / "cat" / "empty.png").write_bytes(b"")
    (pets / "dog" / "cut.png").write_bytes((pets / "dog" / "0.png").read_bytes()[:300])
    (pets / "dog" / "deeper").mkdir()
    os.symlink(pets / "dog" / "round.png", pets / "dog" / "round.png")
    if hasattr(os, "mkfifo"):
        os.mkfifo(pets / "dog" / "pipe.png")
    return pets


def test_from_directory_lists_every_bad_file(spoiled):
    with pytest.raises(DatasetError) as caught:
        from_directory(spoiled)
    lines = str(caught.value).splitlines()
    assert "6 of 10 files can't be used" in lines[0] and "errors='skip'" in lines[-1]
    for name, reason in (
        ("cat/text.png", "it is no PNG, JPEG, WEBP, BMP or GIF picture"),
        ("cat/empty.png", "it is no PNG"),
        ("dog/cut.png", "runcated"),
        ("dog/deeper", "it is a folder"),
        ("dog/round.png", "symbolic link"),
        ("dog/pipe.png", "it is no plain file"),
    ):
        assert any(name in line and reason in line for line in lines), name


def test_from_directory_skips_with_one_warning(spoiled):
    with pytest.warns(DatasetWarning, match="6 of 10 files were skipped") as caught:
        x, y, _ = from_directory(spoiled, errors="skip")
    assert len(caught) == 1 and caught[0].filename == __file__
    assert "and 1 more" in str(caught[0].message)
    np.testing.assert_array_equal(x, [smooth(32, 32, k) for k in (3, 1, 2, 0)])
    assert y.tolist() == [0, 1, 1, 2]


def test_from_directory_lists_no_thousand_files(pets):
    for k in range(1000):
        (pets / "cat" / f"{k}.jpg").write_text("no")
    with pytest.raises(DatasetError, match="and 980 more") as caught:
        from_directory(pets)
    assert len(str(caught.value)) < 3000


@pytest.mark.parametrize("errors", ["refuse", "skip"])
def test_from_directory_refuses_a_class_without_pictures(pets, errors):
    (pets / "bee").mkdir()
    (pets / "bee" / "list.txt").write_text("nothing here")
    with pytest.raises(DatasetError, match="bee has no picture"):
        from_directory(pets, errors=errors)
    (pets / "bee" / "1.png").write_text("no picture")
    with pytest.raises(DatasetError, match=r"(?s)bee(/1\.png|: )|bee has no picture"):
        from_directory(pets, errors=errors)


def test_from_directory_says_what_it_expects_of_a_folder(tmp_path):
    with pytest.raises(DatasetNotFound, match="isn't there; expected a folder"):
        from_directory(tmp_path / "nowhere")
    save(tmp_path / "flat" / "1.png")
    with pytest.raises(DatasetError, match=r"flat has no sub-folders; expected .*cat/1\.png"):
        from_directory(tmp_path / "flat")
    with pytest.raises(DatasetError, match=r"1\.png can't be read as a folder: Not a directory"):
        from_directory(tmp_path / "flat" / "1.png")


@pytest.mark.parametrize("target", ["round", "nowhere", "..", "."])
def test_from_directory_follows_no_loop(pets, target):
    os.symlink(target, pets / "round")
    with pytest.raises(DatasetError, match=r"a link that leads nowhere|it is a folder"):
        from_directory(pets)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_from_directory_names_what_may_not_be_read(pets):
    (pets / "cat" / "1.png").chmod(0)
    with pytest.raises(DatasetError, match=r"cat/1\.png: Permission denied"):
        from_directory(pets)
    (pets / "cat").chmod(0)
    with pytest.raises(DatasetError, match="cat can't be read as a folder: Permission denied"):
        from_directory(pets)
    (pets / "cat").chmod(0o700)


@pytest.mark.parametrize(
    "options, found",
    [
        ({"errors": "ignore"}, "errors='ignore': expected 'refuse' or 'skip'"),
        ({"size": (32,)}, "size"),
        ({"size": (0, 5)}, "size"),
        ({"size": (3.5, 5)}, "size"),
    ],
)
def test_from_directory_refuses_wrong_arguments(pets, options, found):
    with pytest.raises(ValueError, match=found):
        from_directory(pets, **options)


def test_from_directory_names_the_extra(pets, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"pip install 'minicnn\[image\]'"):
        from_directory(pets)


# One picture.


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK"])
def test_read_picture_takes_every_kind(format, mode):
    image = Image.fromarray(smooth(40, 48)).convert(mode)
    try:
        file = encoded(image, format=format)
    except (OSError, ValueError):
        pytest.skip(f"{format} has no {mode}")
    x = read_picture(file, (48, 40))
    assert x.shape == (48, 40, 3) and x.dtype == np.uint8
    expected = np.asarray(image.convert("RGB"))
    assert np.abs(x.mean((0, 1)) - expected.mean((0, 1))).max() < 5


def test_read_picture_takes_sixteen_bits():
    grey = smooth(40, 48)[..., 0]
    image = Image.fromarray(grey.astype(np.uint16) * 256 + 99)
    x = read_picture(encoded(image, format="PNG"), (48, 40))
    np.testing.assert_array_equal(x, np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_read_picture_turns_as_exif_says(orientation):
    upright = np.full((8, 12, 3), 40, np.uint8)
    upright[:4, :6] = 230  # the upper left is bright
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = encoded(Image.fromarray(np.ascontiguousarray(stored)), format="PNG", exif=exif)
    np.testing.assert_array_equal(read_picture(file, (8, 12)), upright)


def test_read_picture_puts_transparency_on_white():
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[:2, :, 3] = 255  # the upper half is black, the rest can't be seen
    x = read_picture(encoded(Image.fromarray(rgba), format="PNG"), (4, 4))
    assert (x[:2] == 0).all() and (x[2:] == 255).all()
    palette = Image.fromarray(np.array([[0, 1]] * 2, np.uint8))
    palette = palette.convert("P")
    x = read_picture(encoded(palette, format="PNG", transparency=b"\x00\xff"), (2, 2))
    assert (x[:, 0] == 255).all() and (x[:, 1] == 1).all()


def test_read_picture_crops_the_middle():
    wide = np.zeros((10, 50, 3), np.uint8)
    wide[:, 20:30] = 200
    file = encoded(Image.fromarray(wide), format="BMP")
    np.testing.assert_array_equal(read_picture(file, (10, 10)), np.full((10, 10, 3), 200))


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (3, 2), (700, 900)])
def test_read_picture_scales_any_shape(shape):
    x = read_picture(encoded(Image.fromarray(np.full((*shape, 3), 99, "u1")), format="PNG"))
    np.testing.assert_array_equal(x, np.full((32, 32, 3), 99))


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_read_picture_is_antialiased(format):
    """Stripes one pixel wide become grey, not an arbitrary choice of stripes."""
    stripes = np.zeros((640, 640, 3), np.uint8)
    stripes[:, ::2] = 255
    x = read_picture(encoded(Image.fromarray(stripes), format=format, quality=95))
    assert abs(x.astype(int) - 127).max() < 8


def test_read_picture_takes_the_first_of_an_animation():
    frames = [Image.new("RGB", (8, 8), (k, k, k)) for k in range(0, 250, 5)]
    file = encoded(frames[0], format="GIF", save_all=True, append_images=frames[1:])
    assert (read_picture(file, (8, 8)) == 0).all()


def test_read_picture_of_a_file_equals_the_array(tmp_path):
    picture = smooth(32, 32, 5)
    np.testing.assert_array_equal(
        read_picture(save(tmp_path / "a" / "1.webp", picture, lossless=True)), picture
    )


def test_read_picture_leaves_the_filters_of_warnings_alone(tmp_path):
    before = list(warnings.filters)
    read_picture(save(tmp_path / "1.png"))
    assert warnings.filters == before
