"""The console command."""

import io
import subprocess
import sys

import pytest

import minicnn as mc
from minicnn import cli


def test_gradcheck_prints_every_parameter(capsys):
    assert cli.main(["gradcheck", "--model", "tutorial_cnn"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "passed" in lines[0]
    names = {line.split()[0] for line in lines[2:]}
    model = mc.models.tutorial_cnn().build((32, 32, 3))
    assert names == set(model.params) | {f"{layer.path}/x" for layer in model}


def test_summary_prints_the_parameters(capsys):
    assert cli.main(["summary"]) == 0
    assert "122,570" in capsys.readouterr().out


def test_doctor_says_why_there_is_no_gpu(capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cupy", None)
    assert cli.main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "GPU       can't be used: CuPy isn't installed" in said and "pip install" in said


def test_data_fetch_offline_says_what_to_do(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("MINICNN_OFFLINE", "1")
    assert cli.main(["data", "fetch", "--data-dir", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "cifar-10-python.tar.gz" in said and "6d958be0" in said and str(tmp_path) in said


def test_unknown_command_is_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["bake"])
    assert stop.value.code == 2


def test_profile_prints_where_a_step_goes(capsys, monkeypatch):
    monkeypatch.setattr("minicnn.plan.profile.SECONDS", 0)
    assert cli.main(["profile", "--batch-size", "2"]) == 0
    said = capsys.readouterr().out
    assert "conv2d_2" in said and "images/s" in said
    assert cli.main(["profile", "--batch-size", "0"]) == 2
    assert "batch size 0: expected an integer >= 1" in capsys.readouterr().err


def test_reader_that_has_enough_ends_a_command_in_silence():
    command = [sys.executable, "-m", "minicnn", "summary"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()  # before anything is printed
    assert (process.stderr.read(), process.wait(60)) == (b"", 0)
    process.stderr.close()


def test_text_is_printed_whatever_stdout_can_show(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", newline="\n")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(cli.networks, "run_summary", lambda args: print("猫 called chien") or 0)
    assert cli.main(["summary"]) == 0
    assert stream.buffer.getvalue() == rb"\u732b called chien" + b"\n"


def test_ctrl_c_ends_a_command_in_one_line(monkeypatch, capsys):
    def stopped(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.networks, "run_summary", stopped)
    assert cli.main(["summary"]) == 130
    assert capsys.readouterr().err == "minicnn: stopped by Ctrl-C\n"


@pytest.mark.parametrize("command", [["evaluate", "none"], ["compare", "none"]])
def test_json_is_written_to_no_run_and_no_model(command, tmp_path, capsys):
    """``--json RUN`` isn't a wish to write over it, and what can't be written is said at once."""
    model = tmp_path / "model.safetensors"
    model.write_bytes(b"weights")
    (tmp_path / "folder.json").mkdir()
    for path, why in (
        (model, "expected a name that ends in .json"),
        (tmp_path / "folder.json", "Is a directory"),
        (model / "a.json", "model.safetensors"),
    ):
        assert cli.main([*command, "--json", str(path)]) == 2
        assert why in capsys.readouterr().err
    assert model.read_bytes() == b"weights"
