"""The report: complete, true, harmless, and never half a file."""

import base64
import json
import os
import re
import struct
import tomllib
import zlib
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from standin import installed

import minicnn as mc
from minicnn import cli, plots
from minicnn.report import cards, images, training, writing

HOUSE = Path(__file__).parent.parent
SHAPE = (9, 8, 3)
HOSTILE = ("<script>alert(1)</script>", "\"'><img src=x onerror=alert(1)>", "$a_b$ &amp;\x00\u202e")
VOID = {"meta", "link", "img", "source", "br", "hr", "wbr"}
RECORD = {
    "epoch": 1, "loss": 2.0, "accuracy": 0.5, "val_loss": None, "val_accuracy": None, "lr": 0.1,
    "seconds": 3.0, "images_per_second": 9.0,
}  # fmt: skip
SECTIONS = [
    "training", "classes", "confusion", "calibration", "pictures", "errors", "looked", "filters",
    "maps", "network", "settings", "versions",
]  # fmt: skip


@pytest.fixture
def matplotlib():
    return pytest.importorskip("matplotlib")


@pytest.fixture
def undrawn(matplotlib, monkeypatch):
    """Figures are made, but not rendered, which takes most of a report's time."""
    for module in (images, plots.figure):
        monkeypatch.setattr(module, "written", lambda *figure, **options: b"<svg/>")


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A model, pictures, what `evaluate` says of them, and the report."""
    pytest.importorskip("matplotlib")
    model, (x, y) = network(classes=("cat", "dog", "emu")), pictures()
    path = tmp_path_factory.mktemp("first") / "new" / "report.html"
    options = {"title": "A network", "dataset": "noise", "pictures": 7}
    page = Page(mc.report.write(model, x, y, path, **options))
    return SimpleNamespace(model=model, x=x, y=y, found=mc.evaluate(model, x, y), page=page)


class Page(HTMLParser):
    """A page as a browser reads it: its tags with their attributes, its texts, its tables."""

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags, self.open, self.texts, self.tables = [], [], [], {}
        self.feed(self.source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        assert len(attrs) == len(dict(attrs))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.rows = []
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "caption":
            self.caption = ""

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "table":
            self.tables[self.caption] = self.rows

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)
        if self.open and {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data
        elif self.open and self.open[-1] == "caption":
            self.caption += data

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def network(K=3, shape=SHAPE, classes=(), device="cpu"):
    model = mc.Sequential(
        mc.Normalize(), mc.Conv2D(4, 3, padding="same"), mc.BatchNorm(), mc.ReLU(),
        mc.MaxPool2D(2), mc.Conv2D(5, 3), mc.ReLU(), mc.Flatten(), mc.Dense(K),
    ).build(shape, seed=3, device=device)  # fmt: skip
    model.classes = tuple(classes)
    return model


def pictures(n=40, K=3, shape=SHAPE, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, *shape), "uint8"), rng.integers(0, K, n)


def report(path, model=None, K=3, shape=SHAPE, **options):
    model = network(K, shape) if model is None else model
    return Page(mc.report.write(model, *pictures(K=K, shape=shape), path, **options))


def assert_harmless(page):
    """Nothing of the page asks for anything outside, runs, or is cut off from its meaning."""
    assert not {"script", "iframe", "object", "embed", "link", "base", "form"} & {
        tag for tag, _ in page.tags
    }
    for tag, attrs in page.tags:
        assert not any(name.startswith("on") for name in attrs)
        for name in ("src", "srcset", "href", "action", "data", "poster"):
            value = attrs.get(name, "#")
            assert value.startswith(("#", "data:image/png;base64,", "data:image/svg+xml;base64,"))
        if tag == "img":
            assert attrs["alt"].strip() and int(attrs["width"]) > 0 < int(attrs["height"])
    style = re.search(r"<style>(.*?)</style>", page.source, re.DOTALL)[1]
    assert "url(" not in style and "@import" not in style
    policy = next(a for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy["content"].startswith("default-src 'none'; img-src data:; style-src 'unsafe-in")
    for image in (*page.all("img"), *page.all("source")):
        content = base64.b64decode(re.sub(r"^[^,]*,", "", image.get("src") or image["srcset"]))
        if content.startswith(b"\x89PNG"):
            continue
        links = re.findall(rb'href="([^"]*)"', content)
        assert all(link.startswith((b"#", b"data:")) for link in links) and b"<svg" in content
        assert b"<script" not in content


def test_report_has_all_sections(first):
    page = first.page
    assert_harmless(page)
    assert [a["id"] for a in page.all("section")] == SECTIONS
    assert [a["href"] for a in page.all("a")] == ["#main", *(f"#{name}" for name in SECTIONS)]
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for part in page.all("section"):
        assert part["aria-labelledby"] in ids
    assert sum(tag == "h1" for tag, _ in page.tags) == 1 and "A network" in page.text
    assert page.all("html")[0]["lang"] == "en"
    assert "noise" in page.text and "one look at each" in page.text
    classes = [attrs.get("class") for tag, attrs in page.tags if tag == "figure"]
    assert classes.count("chart") == 3  # no run: scores, confusion, calibration
    assert classes.count("sheet") == 3  # filters, two convolutions
    assert "The model was given without its run" in page.text


def test_report_numbers_are_those_of_evaluate(first):
    model, found, page = first.model, first.found, first.page
    for text in (
        f"accuracy {100 * found['accuracy']:.2f} %", f"top 3 {100 * found['top5']:.2f} %",
        f"loss {found['loss']:.4f}", f"calibration error {found.calibration.ece:.4f}",
        f"parameters {model.params.count:,}",
    ):  # fmt: skip
        assert text in page.text
    rows = page.tables["Each class, in percent"][1:]
    assert [row[0] for row in rows] == [*model.classes, "macro mean", "weighted mean"]
    for i, row in enumerate(rows[:3]):
        figures = (found.scores.precision[i], found.scores.recall[i], found.scores.f1[i])
        assert row[1:4] == [f"{100 * value:.1f}" for value in figures]
        assert row[4:] == [str(found.confusion[i].sum()), str(found.confusion[:, i].sum())]
    macro = found.scores.average("macro")
    assert rows[3][1:4] == [f"{100 * macro[k]:.1f}" for k in ("precision", "recall", "f1")]
    pairs = page.tables["Most confused pairs"][1:]
    expected = [(model.classes[i], model.classes[j], str(n)) for i, j, n in found.confused(12)]
    assert [tuple(row[:3]) for row in pairs] == expected
    layers = page.tables["Layers, from the picture to the answer"]
    assert [row[0] for row in layers[1:-1]] == [row.name for row in model.summary().rows]
    assert layers[-1][3] == f"{model.params.count:,}"


def test_report_shows_pictures_with_their_answers(first):
    model, x, y, found, source = first.model, first.x, first.y, first.found, first.page.source
    for kind, name in (("pictures", "errors"), ("errors", "looked")):
        part = source[source.index(f'<section id="{kind}"') : source.index(f'<section id="{name}"')]
        figures = re.findall(r'<figure class="card (\w+)">.*?src="([^"]*)".*?test picture (\d+)'
                             r"(.*?)</figure>", part, re.DOTALL)  # fmt: skip
        assert len(figures) == 7
        for judged, uri, row, rest in figures:
            label, guess = y[int(row)], found.predicted[int(row)]
            assert judged == ("right" if label == guess else "wrong")
            assert ("✓" in rest, "✗" in rest) == (label == guess, label != guess)
            assert f"<bdi>{model.classes[guess]}</bdi>" in rest
            assert (f"is <bdi>{model.classes[label]}</bdi>" in rest) == (label != guess)
            assert f"{100 * found.probabilities[int(row), guess]:.0f} %" in rest
            np.testing.assert_array_equal(pixels_of(uri), x[int(row)])
    sure = [float(n) for n in re.findall(r'class="sure">(\d+) %', part)]
    assert sure == sorted(sure, reverse=True) and {f[0] for f in figures} == {"wrong"}


def pixels_of(uri):
    """Decode a PNG as `images.png` writes it: 8 bits, one piece, no filters."""
    content = base64.b64decode(uri.partition(",")[2])
    W, H, bits, kind = struct.unpack(">IIBB", content[16:26])
    assert bits == 8
    length = struct.unpack(">I", content[33:37])[0]
    C = {0: 1, 2: 3}[kind]
    rows = np.frombuffer(zlib.decompress(content[41 : 41 + length]), np.uint8)
    return rows.reshape(H, 1 + W * C)[:, 1:].reshape(H, W, C)


def test_pictures_are_shown_as_people_see_them():
    x = pictures()[0]
    assert writing.shown(x) is x
    np.testing.assert_array_equal(writing.shown(x.astype("float32")), x)
    np.testing.assert_array_equal(writing.shown(x / np.float32(255)), x)
    stretched = writing.shown((x - np.float32(127)) / 64)
    assert stretched.min() == 0 and stretched.max() == 255
    assert (np.diff(np.sort(stretched.ravel())) >= 0).all() and len(np.unique(stretched)) > 200


@pytest.mark.parametrize("C", [1, 3])
def test_png_is_read_by_others(C, tmp_path):
    Image = pytest.importorskip("PIL.Image")
    x = np.random.default_rng(0).integers(0, 256, (5, 7, C), "uint8")
    (tmp_path / "a.png").write_bytes(images.png(x))
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(np.asarray(image).reshape(x.shape), x)


def test_large_pictures_become_smaller():
    x = np.arange(4 * 300 * 200, dtype="uint8").reshape(2 * 300, 2 * 200, 1)
    assert images.smaller(x).shape == (120, 80, 1)
    np.testing.assert_allclose(images.smaller(x)[3, 2, 0], x[15:20, 10:15].mean(), atol=0.5)
    assert images.smaller(x[:128, :128]).shape == (128, 128, 1)


def test_report_escapes_what_it_is_told(tmp_path, matplotlib):
    run = tmp_path / "run"
    run.mkdir()
    nan = float("nan")
    told = {"dataset": HOSTILE[0], HOSTILE[1]: [HOSTILE[0]], "recipe": {"name": HOSTILE[1]}}
    told |= {"test_accuracy": nan, "epochs": [RECORD | {"loss": nan, "accuracy": float("inf")}]}
    (run / "metrics.json").write_text(json.dumps(told))
    page = report(
        tmp_path / "r.html", network(classes=HOSTILE), run=run, title=HOSTILE[0],
        dataset=HOSTILE[1], notes=((HOSTILE[0], HOSTILE[1]),),
    )  # fmt: skip
    assert_harmless(page)
    assert HOSTILE[0] in page.text and HOSTILE[1] in page.text
    assert r"$a_b$ &amp;\x00\u202e" in page.text
    assert "\x00" not in page.source and "\u202e" not in page.source
    assert page.tables["What the run left beside the model"][1] == ["dataset", HOSTILE[0]]
    assert "1 epoch in 3 s: loss nan" in page.text and "nan %" not in page.text


def mlp():
    return mc.Sequential(mc.Normalize(), mc.Flatten(), mc.Dense(3)).build(SHAPE)


def no_norm():
    return mc.Sequential(mc.Conv2D(2, 3), mc.Flatten(), mc.Dense(3)).build(SHAPE)


def many():
    return network(31, classes=[f"class number {i}" for i in range(31)])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: network(2), "top 2"),
        (many, "class number 30"),
        (lambda: network(shape=(28, 20, 1)), "28 x 20 x 1"),
        (mlp, "Grad-CAM needs a convolution"),
        (no_norm, "2 filters of"),
    ],
    ids=["two classes", "many classes", "grey", "no convolution", "no normalization"],
)
def test_report_of_other_networks(make, said, tmp_path, matplotlib):
    model = make()
    x, y = pictures(K=model.output_shape[0], shape=model.input_shape)
    x = x if make is not no_norm else x / np.float32(255)
    page = Page(mc.report.write(model, x, y, tmp_path / "r.html", pictures=4))
    assert_harmless(page)
    assert said in page.text and [a["id"] for a in page.all("section")] == SECTIONS


def test_report_without_an_error_says_so(tmp_path, undrawn):
    model, (x, _) = network(), pictures(6)
    page = Page(mc.report.write(model, x, mc.predict(model, x).argmax(axis=1), tmp_path / "r.html"))
    assert "There is no error" in page.text and "accuracy 100.00 %" in page.text


def test_report_of_a_model_on_a_gpu(first, tmp_path, undrawn):
    with installed():
        model = network(classes=first.model.classes, device="gpu")
        page = Page(mc.report.write(model, first.x, first.y, tmp_path / "r.html"))
    for caption in ("Each class, in percent", "Most confused pairs"):
        assert page.tables[caption] == first.page.tables[caption]
    assert ["device", "gpu:0"] in page.tables["How this report was made"]


def fitted(folder, validation=0.25):
    model, (x, y) = network(), pictures()
    options = {"optimizer": mc.Adam(), "epochs": 2, "batch_size": 16, "progress": False}
    return model, list(mc.fit(model, x, y, checkpoint=folder, validation=validation, **options))


@pytest.mark.parametrize("validation", [None, 0.25])
def test_report_reads_the_state_of_a_run(validation, tmp_path, undrawn):
    model, epochs = fitted(tmp_path / "run", validation)
    found = training.read_training(tmp_path / "run")
    assert found.epochs == epochs and ("batch_size", "16") in found.settings
    assert ("optimizer.name", "Adam") in found.settings
    page = report(tmp_path / "r.html", model, run=tmp_path / "run")
    assert f"2 epochs in {sum(e.seconds for e in epochs):,.0f} s: loss" in page.text
    assert ("without validation" in page.text) == (validation is None)
    assert page.tables["What the run left beside the model"][1] == ["optimizer.name", "Adam"]
    assert len(page.all("source")) == 1  # the curves, for a phone


def test_training_is_read_from_metrics(tmp_path):
    optimizer = {"name": "SGD", "nesterov": True, "x": None}
    recipe = {"optimizer": optimizer, "augment": [{"name": "Crop", "padding": 2}]}
    told = {"epochs": [RECORD], "recipe": recipe, "test_accuracy": 0.5}
    (tmp_path / "metrics.json").write_text(json.dumps(told))
    for place in (tmp_path, tmp_path / "model.safetensors"):
        found = training.read_training(place)
        assert [e.loss for e in found.epochs] == [2.0] and not found.note
        assert found.settings == [
            ("recipe.optimizer.name", "SGD"), ("recipe.optimizer.nesterov", "yes"),
            ("recipe.augment", "Crop padding=2"), ("test_accuracy", "0.5"),
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "JSONDecodeError"),
        ("[1]", "isn't a dictionary"),
        ('{"epochs": 3}', "expected a list"),
        ('{"epochs": [{"epoch": 1}]}', "is missing"),
        ('{"a": 1, "a": 2}', "twice"),
        ('{"a": ' + "[" * 200 + "]" * 200 + "}", "lie inside each other"),
    ],
)
def test_training_says_what_it_cant_read(content, why, tmp_path):
    (tmp_path / "metrics.json").write_text(content)
    found = training.read_training(tmp_path)
    assert not found.epochs and "can't be used" in found.note and why in found.note


def test_training_of_a_lone_model_is_unknown(tmp_path):
    mc.save(network(), tmp_path / "model.safetensors")
    found = training.read_training(tmp_path / "model.safetensors")
    assert not found.epochs and "There is no run beside the model's file" in found.note


def test_report_replaces_only_reports(first, tmp_path, undrawn):
    path = tmp_path / "r.html"
    path.write_text("<html>my diary</html>")
    with pytest.raises(FileExistsError, match="is no report of minicnn"):
        report(path)
    assert "my diary" in path.read_text()
    writing.check_free(path, replace=True)
    path.write_text(first.page.source)
    assert "again" in report(path, title="again").text
    with pytest.raises(IsADirectoryError, match="is a folder"):
        report(tmp_path)
    for replace in (False, True):  # a pipe would keep its reader waiting, and a device be gone
        with pytest.raises(FileExistsError, match="no plain file"):
            writing.check_free(Path(os.devnull), replace)


@pytest.mark.parametrize("fault", ["evaluate", "saliency", "replace"])
def test_report_that_fails_leaves_the_old_file(fault, first, tmp_path, monkeypatch, undrawn):
    path = tmp_path / "r.html"
    path.write_text(first.page.source)

    def fail(*args, **options):
        raise OSError(28, "No space left on device")

    places = {"evaluate": "minicnn.report.writing.", "saliency": "minicnn.explain."}
    monkeypatch.setattr(places.get(fault, "os.") + fault, fail)
    with pytest.raises(OSError, match="No space left"):
        report(path)
    assert path.read_text() == first.page.source and list(tmp_path.iterdir()) == [path]


def test_report_refuses_what_it_cant_show(tmp_path, matplotlib):
    model, (x, y) = network(), pictures()
    for wrong in (x.astype("int64"), x[:0], x[..., :2], x[0]):
        with pytest.raises(ValueError, match="report: pictures"):
            mc.report.write(model, wrong, y, tmp_path / "r.html")
    with pytest.raises(ValueError, match="pictures 0"):
        mc.report.write(model, x, y, tmp_path / "r.html", pictures=0)
    bad = x.astype("float32")
    bad[3, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="infinity or NaN"):
        mc.report.write(no_norm(), bad, y, tmp_path / "r.html")
    model["conv2d_1"].w[...] = np.nan
    with pytest.raises(ValueError, match="a training that diverged"):
        mc.report.write(model, x, y, tmp_path / "r.html")
    assert not list(tmp_path.iterdir())


def test_report_without_matplotlib_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"minicnn\[plot\]"):
        report(tmp_path / "r.html")


def test_sample_is_always_the_same():
    found = SimpleNamespace(labels=np.zeros(100))
    rows = cards.sample(found, 10)
    assert len(set(rows)) == 10 and (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(rows, cards.sample(found, 10))
    np.testing.assert_array_equal(cards.sample(found, 200), np.arange(100))


def drawn(tmp_path):
    """Save a network for the drawn pictures."""
    model = mc.Sequential(
        mc.Normalize(), mc.Conv2D(4, 3, strides=4), mc.ReLU(), mc.Flatten(), mc.Dense(10)
    ).build((32, 32, 3))
    model.classes = mc.datasets.SYNTHETIC_CLASSES
    return mc.save(model, tmp_path / "run" / "model.safetensors")


def test_command_writes_the_report(tmp_path, matplotlib, monkeypatch, capsys):
    monkeypatch.setitem(cli.sources.DRAWN, "test", (60, 5))
    file = drawn(tmp_path)
    assert cli.main(["report", str(file.parent), "--pictures", "3", "--tta", "flip"]) == 0
    assert f"report in {file.parent / 'report.html'}" in capsys.readouterr().out
    page = Page(file.parent / "report.html")
    assert_harmless(page)
    assert "drawn pictures, test set of seed 0" in page.text
    rows = dict(page.tables["How this report was made"][1:])
    assert rows["model"] == str(file) and rows["minicnn"] == mc.__version__
    found = mc.evaluate(mc.load(file), *mc.datasets.synthetic(60, seed=5), tta="flip")
    assert "mean of views (flip)" in page.text
    assert f"accuracy {100 * found['accuracy']:.2f} %" in page.text


def test_command_refuses_before_it_works(tmp_path, monkeypatch, capsys):
    file = drawn(tmp_path)
    monkeypatch.setattr(cli.report, "load_model", lambda *a: pytest.fail("it has begun"))
    (file.parent / "report.html").write_text("mine")
    assert cli.main(["report", str(file.parent)]) == 2
    assert "is no report of minicnn" in capsys.readouterr().err
    assert cli.main(["report", str(file), "--pictures", "0"]) == 2
    assert "--pictures 0: expected" in capsys.readouterr().err


def test_guide_to_the_report_runs(tmp_path, undrawn, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sets = mc.datasets.synthetic(60, seed=0), mc.datasets.synthetic(20, seed=1)
    monkeypatch.setattr(mc.datasets, "cifar10", lambda: sets)
    text = (HOUSE / "docs" / "report.md").read_text()
    blocks, names = re.findall(r"```python\n(.*?)```", text, re.DOTALL), {}
    assert len(blocks) == 3
    for block in blocks:
        exec(block, names)
    assert "A small network" in Page(tmp_path / "report.html").text
    saved = set(re.findall(r'"(\w+\.(?:png|svg))"\)', text))
    assert len(saved) == 10 and saved < {path.name for path in tmp_path.iterdir()}


def test_page_and_style_are_packaged():
    names = tomllib.loads((HOUSE / "pyproject.toml").read_text())["tool"]["setuptools"]
    listed = set(names["package-data"]["minicnn"])
    files = (HOUSE / "minicnn" / "report").iterdir()
    there = {f"report/{path.name}" for path in files if path.suffix in (".html", ".css")}
    assert len(there) == 2 and there <= listed
