"""``minicnn predict``, as it is called."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import picture_files as files
import pytest
from prediction_helpers import colour_model, expected

import minicnn as mc
from minicnn import cli
from minicnn.evaluation.text import printable, width

pytest.importorskip("PIL.Image")

GOOD, BAD = files.good(), files.bad()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "colours.safetensors"
    mc.save(colour_model(), path)
    return str(path)


@pytest.fixture
def run(model, capsys):
    """Run the command; return its exit code, its output, and the lines on stderr."""

    def call(*arguments, model=model):
        code = cli.main(["predict", model, *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err.splitlines()

    return call


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_predict_prints_a_table(run, tmp_path):
    (path,) = files.write(tmp_path, {"1x1.png": GOOD["1x1.png"]})
    code, out, err = run(path)
    p = sorted(expected([files.GREEN]), reverse=True)
    assert (code, err) == (0, [])
    assert out.splitlines() == [
        str(path), f"  green   {p[0]:5.1%}", f"  blue    {p[1]:5.1%}", f"  red     {p[2]:5.1%}",
    ]  # fmt: skip
    assert run(path, "--top", 1)[1].splitlines() == [str(path), f"  green   {p[0]:5.1%}"]


def test_predict_flags_what_it_is_unsure_of(run, tmp_path):
    from PIL import Image

    Image.new("RGB", (40, 30), (80, 80, 80)).save(tmp_path / "fog.png")
    code, out, _ = run(tmp_path / "fog.png")
    assert code == 0 and out.splitlines()[0].endswith("fog.png   (uncertain: no class has half)")
    assert json.loads(run(tmp_path / "fog.png", "--json")[1])[0]["certain"] is False
    assert rows(run(tmp_path)[1])[0]["certain"] == "no"


def test_predict_goes_through_all_kinds_of_files(run, tmp_path):
    """A folder: CSV, a line for each picture, and on stderr one for each that isn't any."""
    files.write(tmp_path / "good", GOOD)
    files.write(tmp_path / "bad" / "deep inside", BAD)
    odd = files.strange(tmp_path / "odd")
    (tmp_path / "good" / "notes.txt").write_text("beside the pictures")
    (tmp_path / ".hidden.png").write_text("not looked at")
    code, out, err = run(tmp_path)
    table = rows(out)
    assert code == 1 and len(table) == len(GOOD) >= 30
    assert [row["file"] for row in table] == sorted(row["file"] for row in table)
    for row in table:
        name = next(n for n in GOOD if os.path.basename(row["file"]) == printable(n))
        share = expected(GOOD[name][1])
        assert row["class"] == ("red", "green", "blue")[share.argmax()]
        assert float(row["probability"]) == pytest.approx(share.max(), abs=0.15)
    inside = [name for name in odd if name not in ("folder.png", "missing.png")]
    assert len(err) == len(BAD) + len(inside)
    for name, wanted in [*((n, BAD[n][1]) for n in BAD), *((n, odd[n]) for n in inside)]:
        (line,) = [line for line in err if line.startswith("minicnn: ") and f"/{name}: " in line]
        assert wanted in line


def test_predict_names_each_bad_file_and_goes_on(run, tmp_path):
    """Files by their names: missing ones and folders too."""
    odd = files.strange(tmp_path)
    chosen = {"rgb.png": GOOD["rgb.png"], "text.jpg": BAD["text.jpg"]}
    first, text = files.write(tmp_path / "more", chosen)
    names = [first, text, *(tmp_path / name for name in odd if name != "folder.png"), first]
    code, out, err = run(*names)
    assert code == 1 and out.count("rgb.png") == 2 and len(err) == len(names) - 2
    assert f"minicnn: {tmp_path / 'missing.png'}: No such file or directory" in err
    assert run(first, first)[0] == 0
    assert run(text, tmp_path / "missing.png")[0] == 2


@pytest.mark.parametrize("flags", [[], ["--json"], ["--csv", "-"]])
def test_predict_says_when_there_is_nothing(run, tmp_path, flags):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.md").write_text("no picture")
    code, out, err = run(tmp_path / "empty", *flags)
    assert code == 2 and err == [f"minicnn: {tmp_path / 'empty'}: there are no pictures in it"]
    assert out == ("[]\n" if flags == ["--json"] else "")
    pattern = tmp_path / "*.jpg"
    code, _, err = run(pattern, *flags)
    assert code == 2 and err == [f"minicnn: {pattern}: no picture is called so"]


def test_predict_takes_patterns(run, tmp_path):
    chosen = {name: GOOD[name] for name in ("rgb.png", "grey.png", "plain.jpg")}
    files.write(tmp_path / "a", chosen)
    files.write(tmp_path / "b" / "c", {"1x1.png": GOOD["1x1.png"]})
    names = lambda *a: [Path(row["file"]).name for row in rows(run(*a)[1])]  # noqa: E731
    assert names(tmp_path / "a" / "*.png") == ["grey.png", "rgb.png"]
    assert names(tmp_path / "**" / "*.png") == ["grey.png", "rgb.png", "1x1.png"]
    assert names(tmp_path / "?") == ["grey.png", "plain.jpg", "rgb.png", "1x1.png"]
    (tmp_path / "b" / "notes.txt").write_text("text")
    assert names(tmp_path / "b" / "**") == names(tmp_path / "b" / "**" / "*") == ["1x1.png"]
    (tmp_path / "b" / "empty").mkdir()  # of no interest where the folder that it lies in is meant
    assert run(tmp_path / "b" / "**")[::2] == run(tmp_path / "b")[::2] == (0, [])
    (tmp_path / "b" / "c" / "back").symlink_to("..", target_is_directory=True)
    assert (
        names(tmp_path / "b" / "**" / "*.png") == names(tmp_path / "b" / "c" / "*") == ["1x1.png"]
    )
    (own,) = files.write(tmp_path, {"[1].png": GOOD["1x1.png"]})
    assert run(own)[1].startswith(f"{own}\n")  # a file's own name is no pattern


def test_predict_prints_json(run, tmp_path):
    chosen = {name: GOOD[name] for name in ("rgb.png", "line\nend\x1b[31m\u202e.png")}
    chosen["text.jpg"] = BAD["text.jpg"]
    paths = files.write(tmp_path, chosen)
    code, out, err = run(*paths, "--json", "--top", 2)
    found = json.loads(out)
    assert code == 1 and len(err) == 1
    assert [one["file"] for one in found] == list(map(str, paths[:2]))
    share = sorted(expected(files.QUARTERS), reverse=True)
    for one in found:
        assert [part["probability"] for part in one["top"]] == pytest.approx(share[:2], abs=0.01)
        assert one["class"] == one["top"][0]["class"] and len(one["top"]) == 2
    assert json.loads(run(tmp_path, "--json")[1])[0]["certain"] in (True, False)


def test_predict_writes_csv(run, tmp_path):
    files.write(tmp_path / "in", {name: GOOD[name] for name in ("1x1.png", "rgb.png")})
    goal = tmp_path / "out.csv"
    code, out, err = run(tmp_path / "in", "--csv", goal, "--top", 2)
    assert (code, out, err) == (0, f"{goal}: 2 pictures\n", [])
    table = rows(goal.read_text(encoding="utf-8"))
    columns = ["file", "class", "probability", "class_2", "probability_2", "certain"]
    assert list(table[0]) == columns and table[0]["class"] == "green"
    assert float(table[0]["probability"]) > float(table[0]["probability_2"]) > 0
    assert run(tmp_path / "in" / "1x1.png", "--csv", "-")[1].startswith("file,class,")


def test_predict_writes_over_no_picture(run, tmp_path):
    (path,) = files.write(tmp_path, {"rgb.png": GOOD["rgb.png"]})
    code, out, err = run(path, "--csv", path)
    assert code == 2 and "expected a name that ends in .csv" in err[0] and out == ""
    assert path.read_bytes() == GOOD["rgb.png"][0]


HARM = (
    "=1+1", "+1", "-1", "@SUM(1)", "\uff1d1", "\t=1", " =1", 'a,"b"', "c\nd", "e\x1b[0m", "\u202eg",
)  # fmt: skip


@pytest.mark.parametrize("flags", [[], ["--csv=-"]], ids=["table", "csv"])
@pytest.mark.parametrize("label", HARM)
def test_predict_obeys_no_names(tmp_path, capsys, label, flags, monkeypatch):
    """Names of classes come from a model's file, names of files from anywhere."""
    mc.save(colour_model(("red", label, "blue")), tmp_path / "model.safetensors")
    names = f"{label}.png", f"x{label}"
    files.write(tmp_path / "in", dict(zip(names, (GOOD["1x1.png"], BAD["text.jpg"]), strict=True)))
    monkeypatch.chdir(tmp_path / "in")
    assert cli.main(["predict", *flags, "--", str(tmp_path / "model.safetensors"), *names]) == 1
    said = capsys.readouterr()
    for line in [*said.out.split("\n"), *said.err.split("\n")]:
        assert line.isprintable(), line
    assert said.err.count("\n") == 1
    if flags:
        lines = list(csv.reader(io.StringIO(said.out)))
        assert len(lines) == 2 and len(lines[0]) == len(lines[1])
        for cell in lines[1]:
            assert not cell.lstrip().startswith(("=", "+", "-", "@", "\uff1d"))


def test_predict_averages_views(run, tmp_path):
    mc.save(mc.models.tutorial_cnn().build((32, 32, 3), seed=0), tmp_path / "model.safetensors")
    (path,) = files.write(tmp_path, {"rgb.png": GOOD["rgb.png"]})
    shares = []
    for flags in ([], ["--tta", "flip"]):
        code, out, _ = run(path, "--json", "--top", 10, *flags, model=str(tmp_path))
        assert code == 0
        shares.append({part["class"]: part["probability"] for part in json.loads(out)[0]["top"]})
    model = mc.load(tmp_path / "model.safetensors")
    x = mc.predict_image(model, path).picture[None]
    assert "class 3" in shares[0]
    for found, tta in zip(shares, (None, "flip"), strict=True):
        wanted = mc.predict(model, x, tta=tta)[0]
        np.testing.assert_allclose([found[f"class {k}"] for k in range(10)], wanted, rtol=1e-5)
    assert abs(shares[0]["class 3"] - shares[1]["class 3"]) > 1e-6


@pytest.mark.parametrize(
    "arguments, wanted",
    [
        (["--top", "0"], "--top 0: expected an integer >= 1"),
        (["--device", "tpu"], "device 'tpu'"),
    ],
)
def test_predict_refuses_wrong_flags(run, tmp_path, arguments, wanted):
    code, _, err = run(tmp_path / "a.png", *arguments)
    assert code == 2 and wanted in err[0]


def test_predict_says_what_is_wrong_with_the_model(run, tmp_path):
    (tmp_path / "none").write_text("no model")
    mc.save(mc.Sequential(mc.Dense(3)).build((4,)), tmp_path / "dense.safetensors")
    for model, wanted in (
        ("missing", "expected a model's file or a run's folder"),
        ("none", "none"),
        ("dense.safetensors", "expected scores of classes, (K,) with K > 1, of pictures"),
    ):
        code, out, err = run("a.png", model=str(tmp_path / model))
        assert code == 2 and wanted in err[0] and out == "", model


def test_predict_names_the_extra(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    code, _, err = run("a.png")
    assert code == 2 and "pip install 'minicnn[image]'" in err[0]


def test_predict_reads_stdin_and_writes_what_the_terminal_can(model, tmp_path):
    """In a process of its own, with ASCII only, and a name that is no text."""
    name = os.fsencode(tmp_path) + b"/\xff \xe2\x82\xac.png"
    with open(name, "wb") as file:
        file.write(GOOD["rgb.png"][0])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "minicnn", "predict", model, "-", name, "--top", "1"],
        input=GOOD["1x1.gif"][0],
        capture_output=True,
        timeout=60,
        env=os.environ
        | {"PYTHONPATH": str(Path(mc.__file__).parents[1]), "PYTHONIOENCODING": "ascii"},
    )
    lines = done.stdout.decode("ascii").splitlines()
    assert (done.returncode, done.stderr, len(lines)) == (0, b"", 4)
    assert lines[0] == "-" and lines[1].startswith("  green") and r"/\udcff " in lines[2]


def test_predict_cuts_long_names_of_classes(tmp_path, capsys):
    (path,) = files.write(tmp_path, {"1x1.png": GOOD["1x1.png"]})
    net = colour_model()
    net.classes = ("x" * 300, "猫" * 4, "blue")
    mc.save(net, tmp_path / "long.safetensors")
    assert cli.main(["predict", str(tmp_path / "long.safetensors"), str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert {width(line) for line in lines} == {2 + cli.predict.CELLS + 2 + 6}


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_predict_with_a_closed_stream(model, tmp_path, closed):
    """In a shell: one line says that there is no stdin; what nobody reads goes nowhere else."""
    files.write(tmp_path, {"text.jpg": BAD["text.jpg"]})
    source = "-" if closed == "<&-" else tmp_path / "text.jpg"
    done = subprocess.run(
        f'"{sys.executable}" -m minicnn predict "{model}" "{source}" {closed}',
        shell=True,
        capture_output=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(Path(mc.__file__).parents[1])},
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert len(done.stderr.splitlines()) == (closed != "2>&-")


def test_predict_leaves_an_old_csv_when_it_is_stopped(run, tmp_path, monkeypatch):
    (path,) = files.write(tmp_path, {"rgb.png": GOOD["rgb.png"]})
    (tmp_path / "out.csv").write_text("old")

    def stopped(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.predict.Csv, "add", stopped)
    assert run(path, "--csv", tmp_path / "out.csv")[0] == 130
    assert (tmp_path / "out.csv").read_text() == "old"
    assert {place.name for place in tmp_path.iterdir()} == {"rgb.png", "out.csv"}
