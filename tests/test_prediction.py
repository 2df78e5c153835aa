"""`predict_image`: what a network says of files of all kinds."""

from __future__ import annotations

import io
import json
import re
import tracemalloc
from pathlib import Path

import numpy as np
import picture_files as files
import pytest

Image = pytest.importorskip("PIL.Image")

from prediction_helpers import colour_model, expected  # noqa: E402

import minicnn as mc  # noqa: E402
from minicnn.prediction import predict_images  # noqa: E402

GOOD, BAD = files.good(), files.bad()


@pytest.fixture(scope="module")
def model():
    return colour_model()


@pytest.mark.parametrize("name", GOOD)
def test_predict_image_knows_the_colours(model, name, tmp_path):
    data, colours, off = GOOD[name]
    (path,) = files.write(tmp_path, {name: GOOD[name]})
    found = mc.predict_image(model, path)
    wanted = expected(colours)
    assert abs(found.probabilities - wanted).max() < 0.02 + 0.01 * off
    assert found.top(1)[0][0] == ("red", "green", "blue")[wanted.argmax()]
    assert found.picture.shape == (32, 32, 3) and found.picture.dtype == np.uint8
    np.testing.assert_array_equal(found.probabilities, mc.predict(model, found.picture[None])[0])
    for source in (str(path), data, bytearray(data), io.BytesIO(data)):
        other = mc.predict_image(model, source)
        np.testing.assert_array_equal(other.picture, found.picture)


def test_predict_image_of_a_file_equals_the_array(tmp_path):
    """Pictures of the size that the model takes aren't changed on their way through a file."""
    model = mc.models.tutorial_cnn().build((32, 32, 3), seed=0)
    x, _ = mc.datasets.synthetic(4, seed=0)
    for k, picture in enumerate(x):
        Image.fromarray(picture).save(tmp_path / f"{k}.png")
    for tta in (None, "flip"):
        pairs = list(predict_images(model, sorted(tmp_path.iterdir()), tta))
        together = np.stack([found.probabilities for _, found in pairs])
        np.testing.assert_array_equal(together, mc.predict(model, x, tta=tta))
        one = mc.predict_image(model, tmp_path / "2.png", tta)
        np.testing.assert_allclose(one.probabilities, together[2], rtol=1e-5)


def test_predict_image_of_a_grey_model():
    layers = mc.Normalize(), mc.Flatten(), mc.Dense(2)
    model = mc.Sequential(*layers).build((5, 7, 1))
    found = mc.predict_image(model, GOOD["grey.png"][0])
    assert found.picture.shape == (5, 7, 1) and found.classes == ("class 0", "class 1")


def test_prediction_tells_the_first_classes(model):
    found = mc.predict_image(model, GOOD["1x1.png"][0])
    names, shares = zip(*found.top(), strict=True)
    assert names[0] == "green" and set(names) == {"red", "green", "blue"}
    assert list(shares) == sorted(shares, reverse=True) and sum(shares) == pytest.approx(1)
    assert found.top(2) == found.top()[:2] and found.top(9) == found.top()
    assert found.certain and str(found).startswith("green ")
    said = json.loads(json.dumps(found.as_dict()))
    assert said["class"] == "green" and said["probability"] == shares[0] and said["certain"]
    assert [(part["class"], part["probability"]) for part in said["top"]] == found.top()
    assert len(found.as_dict(1)["top"]) == 1
    with pytest.raises(ValueError, match="top 0"):
        found.top(0)


def test_prediction_is_uncertain_below_a_half(model):
    grey = files.encoded(Image.new("RGB", (9, 9), (99, 99, 99)), "PNG")
    found = mc.predict_image(model, grey)
    assert not found.certain and found.as_dict()["certain"] is False
    assert max(found.probabilities) == pytest.approx(1 / 3, abs=1e-3)


def test_prediction_of_a_network_that_has_diverged_is_strict_json(model):
    found = mc.predict_image(model, GOOD["rgb.png"][0])
    found.probabilities[:] = np.nan
    text = json.dumps(found.as_dict(2), allow_nan=False)
    one = {"class": "red", "probability": None}
    assert json.loads(text) == {
        **one, "certain": False, "top": [one, {"class": "green", "probability": None}],
    }  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_predict_image_says_what_is_wrong(model, name, tmp_path):
    (path,) = files.write(tmp_path, {name: BAD[name]})
    for source in (path, BAD[name][0]):
        with pytest.raises(mc.DatasetError) as caught:
            mc.predict_image(model, source)
        assert BAD[name][1] in str(caught.value) and "\n" not in str(caught.value)


def test_predict_image_of_what_is_no_file(model, tmp_path):
    for name, wanted in files.strange(tmp_path / "odd").items():
        with pytest.raises(mc.DatasetError, match=wanted):
            mc.predict_image(model, tmp_path / "odd" / name)
    with pytest.raises(mc.DatasetError, match="no file can be called so"):
        mc.predict_image(model, "a\0b.png")
    with pytest.raises(mc.DatasetError, match="File name too long"):
        mc.predict_image(model, "a" * 5000)
    with pytest.raises(TypeError, match="expected a path, bytes, or a file"):
        mc.predict_image(model, 3)
    with pytest.raises(TypeError, match="a file open for bytes"):
        mc.predict_image(model, io.StringIO("text"))


def test_predict_image_refuses_models_that_take_no_pictures():
    dense = mc.Sequential(mc.Dense(3)).build((4,))
    with pytest.raises(ValueError, match=r"the model makes \(3,\) of \(4,\): expected scores"):
        mc.predict_image(dense, GOOD["rgb.png"][0])
    maps = mc.Sequential(mc.Normalize(), mc.Conv2D(2, 1)).build((4, 4, 3))
    with pytest.raises(ValueError, match="expected scores of classes"):
        mc.predict_image(maps, GOOD["rgb.png"][0])
    one = mc.Sequential(mc.Normalize(), mc.Flatten(), mc.Dense(1)).build((4, 4, 3))
    with pytest.raises(ValueError, match=r"the model makes \(1,\) of .* with K > 1"):
        mc.predict_image(one, GOOD["rgb.png"][0])
    bare = mc.Sequential(mc.Flatten(), mc.Dense(3)).build((4, 4, 3))
    with pytest.raises(ValueError, match=r"begin it with Normalize\(\)"):
        mc.predict_image(bare, GOOD["rgb.png"][0])
    with pytest.raises(ValueError, match="tta 'mirror'"):
        mc.predict_image(colour_model(), GOOD["rgb.png"][0], tta="mirror")


def test_predict_images_keeps_the_order_and_goes_on(model):
    data, broken = GOOD["rgb.png"][0], BAD["text.jpg"][0]
    sources = [data, broken, data, data, broken, broken, broken, data]
    found = list(predict_images(model, iter(sources), batch_size=3))
    assert [source for source, _ in found] == sources
    assert [isinstance(one, mc.Prediction) for _, one in found] == [s is data for s in sources]
    assert list(predict_images(model, [])) == []
    with pytest.raises(ValueError, match="batch_size 0"):
        list(predict_images(model, [data], batch_size=0))


def test_predict_images_takes_the_memory_of_a_batch(model):
    """It reads on only when its answers are taken, and keeps none of them."""
    data, read = GOOD["rgb.png"][0], 0

    def sources(n):
        nonlocal read
        for _ in range(n):
            read += 1
            yield data

    def peak(n):
        tracemalloc.start()
        for _ in predict_images(model, sources(n), batch_size=8):
            pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    few = peak(16)
    assert peak(400) < few + 100_000
    read = 0
    answers = predict_images(model, sources(1000), batch_size=8)
    next(answers)
    assert read == 8


def test_guide_to_prediction_runs(monkeypatch, tmp_path, capsys):
    """The Python of docs/predict.md, as it stands."""
    monkeypatch.chdir(tmp_path)
    mc.save(mc.models.tutorial_cnn().build((32, 32, 3), seed=0), "cifar.safetensors")
    chosen = {"a.jpg": GOOD["plain.jpg"], "b.jpg": BAD["text.jpg"]}
    files.write(tmp_path, {"holiday.jpg": GOOD["plain.jpg"]})
    files.write(tmp_path / "holiday", chosen)
    guide = Path(__file__).parents[1] / "docs" / "predict.md"
    blocks = re.findall(r"```python\n(.*?)```", guide.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    names = {}
    for block in blocks:
        exec(block, names)
    assert names["heat"].shape == (1, 32, 32)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 4 and said[2].startswith("a.jpg ") and "it is no PNG" in said[3]
