"""Real processes, interrupted and killed at random moments: nothing is lost."""

from __future__ import annotations

import os
import pty
import random
import re
import select
import signal
import termios
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import run_helpers as runs
from run_helpers import leftovers, process, saved, states

import minicnn as mc

EPOCHS = 150  # about a second, most of it spent on saving


# Stopped at random moments, and taken up each time.


def whole_run(folder, epochs=EPOCHS):
    """Return the digest of a run that nobody stops, and the seconds that it works."""
    with process(runs.__file__, folder, epochs) as started:
        assert started.stdout.readline() == "ready\n"
        start = time.monotonic()
        printed, said = started.communicate(timeout=60)
    assert started.returncode == 0, said
    return printed.split()[-1], time.monotonic() - start


def stopped_run(folder, number, count, seed, most, epochs=EPOCHS):
    """Stop a run ``count`` times with a signal, then let it end; return digest and codes."""
    rng, codes = random.Random(seed), []
    for attempt in range(count + 20):
        with process(runs.__file__, folder, epochs) as started:
            assert started.stdout.readline() == "ready\n"
            if attempt < count:
                time.sleep(rng.uniform(0, most))
                started.send_signal(number)
            printed, said = started.communicate(timeout=60)
        codes.append(started.returncode)
        last = folder / "last.safetensors"
        if last.exists():
            mc.load(last)  # whatever happened, it is whole
        assert "isn't whole" not in said and "damaged" not in said, said
        if "done" in printed:
            return printed.split()[-1], codes
    raise AssertionError(f"never done: {codes}, {said}")


def stop_many(tmp_path, number, chains, count):
    """Stop several runs, two at once; return each one's folder and codes."""
    expected, seconds = whole_run(tmp_path / "whole")
    folders = [tmp_path / f"run {i}" for i in range(chains)]
    most = 0.6 * seconds / count  # so that the stops reach far, but the run isn't over before
    with ThreadPoolExecutor(2) as pool:
        ends = list(
            pool.map(
                lambda job: stopped_run(job[1], number, count, job[0], most), enumerate(folders)
            )
        )
    assert {digest for digest, _ in ends} == {expected}
    best = tmp_path / "whole" / "best.safetensors"
    for folder in folders:
        assert (folder / best.name).exists()
        assert saved(folder / best.name)["epoch"] == saved(best)["epoch"]
    return [(folder, codes) for folder, (_, codes) in zip(folders, ends, strict=True)]


@pytest.mark.slow
def test_run_killed_at_random_moments_ends_as_if_nothing_had_been(tmp_path):
    found = stop_many(tmp_path, signal.SIGKILL, chains=4, count=14)
    assert sum(code == -signal.SIGKILL for _, codes in found for code in codes) >= 50
    for folder, _ in found:
        assert leftovers(folder) == []


@pytest.mark.slow
@pytest.mark.parametrize(("number", "chains"), [(signal.SIGINT, 5), (signal.SIGTERM, 1)])
def test_run_interrupted_at_random_moments_ends_as_if_nothing_had_been(tmp_path, number, chains):
    found = stop_many(tmp_path, number, chains, count=13)
    codes = [code for _, codes in found for code in codes]
    assert set(codes) <= {0, 128 + number, -number}  # the last: before the run took over
    assert len(codes) - codes.count(0) >= 10 * chains and 128 + number in codes
    for folder, _ in found:
        assert leftovers(folder) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_second_signal_quits_at_once_and_leaves_the_state_whole(tmp_path, number):
    expected, _ = whole_run(tmp_path / "whole", 30)
    folder, ends = tmp_path / "run", []
    for pause in (0.0, 0.0005, 0.001, 0.003):
        with process(runs.__file__, folder, 10**6) as started:
            assert started.stdout.readline() == "ready\n"
            while not (folder / "last.safetensors").exists():
                time.sleep(0.005)
            time.sleep(0.02)
            started.send_signal(number)
            time.sleep(pause)
            started.send_signal(number)
            started.communicate(timeout=30)
        ends.append(started.returncode)
        mc.load(folder / "last.safetensors")
    assert set(ends) <= {-number, 128 + number}
    if saved(folder / "last.safetensors")["epoch"] < 30:
        with process(runs.__file__, folder, 30) as started:
            printed, _ = started.communicate(timeout=30)
        assert printed.split()[-1] == expected


# The example.


def run_example(*flags):
    """Run the example to its end; return code and what it printed and said."""
    with runs.example(*flags) as started:
        printed, said = started.communicate(timeout=60)
    return started.returncode, printed, said


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_train_cifar_interrupted_goes_on_with_resume(tmp_path, number, code):
    flags = ["--epochs", 3, "--batch-size", 2, "--augment"]  # many batches: an epoch takes a while
    assert run_example(*flags, "--out", tmp_path / "whole")[0] == 0
    out = tmp_path / "run"
    with runs.example(*flags, "--out", out) as started:
        for line in started.stdout:
            if line.startswith("epoch   1"):
                break
        time.sleep(0.05)
        started.send_signal(number)
        printed, said = started.communicate(timeout=60)
    assert started.returncode == code, said
    name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
    assert f"\n{name}: saving after this batch; once more to quit at once\n" in said
    found = re.search(
        r"\nstopped in epoch [23] after \d+ pictures, saved in (.+); go on with", said
    )
    assert found and found[1] == str(out / "last.safetensors") and "--resume" in said
    assert "Traceback" not in said and not (out / "model.safetensors").exists()
    done, printed, said = run_example(*flags, "--out", out, "--resume")
    assert done == 0 and "epoch   1" not in printed and "epoch   3" in printed, said
    names = ["model.safetensors"]
    assert [(out / n).read_bytes() for n in names] == [
        (tmp_path / "whole" / n).read_bytes() for n in names
    ]


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--seed", 1, "--resume"], "is of a run with another"),
        (["--validation", 0.2, "--resume"], "is of a run with another data set"),
        (["--optimizer", "sgd", "--resume"], "is of a run with another optimizer"),
        ([], "holds a run already: go on with it (resume=True, --resume)"),
    ],
    ids=["seed", "validation", "optimizer", "resume"],
)
def test_train_cifar_refuses_another_run_with_2(tmp_path, flags, text):
    assert run_example("--epochs", 1, "--out", tmp_path)[0] == 0
    before = (tmp_path / "last.safetensors").read_bytes()
    code, _, said = run_example("--epochs", 2, "--out", tmp_path, *flags)
    assert code == 2 and text in said and "Traceback" not in said
    assert (tmp_path / "last.safetensors").read_bytes() == before


def test_train_cifar_resume_of_nothing_exits_with_2(tmp_path):
    code, _, said = run_example("--out", tmp_path / "new", "--resume")
    assert code == 2 and "there is no run to go on with" in said
    assert states(tmp_path / "new") == []


def test_train_cifar_in_a_folder_that_cant_be_one_exits_with_2(tmp_path):
    (tmp_path / "file").write_bytes(b"mine")
    code, _, said = run_example("--epochs", 1, "--out", tmp_path / "file")
    assert "Traceback" not in said and str(tmp_path / "file") in said
    assert code == 2 and (tmp_path / "file").read_bytes() == b"mine"


# On a terminal.


def screen(output):
    """Return the lines that a terminal shows after this output, and the cursor's column."""
    lines, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|[\s\S]", output):
        if part == "\r":
            column = 0
        elif part == "\n":
            row += 1
        elif part.startswith("\x1b["):
            count = int(re.sub(r"\D", "", part) or 1)
            if part[-1] == "A":
                row = max(0, row - count)
            elif part[-1] == "K":
                lines[row] = lines[row][:column]
        else:
            lines[row] = lines[row].ljust(column)
            lines[row] = lines[row][:column] + part + lines[row][column + 1 :]
            column += 1
        lines += [""] * (row + 1 - len(lines))
    return [line.rstrip() for line in lines], column


def on_a_terminal(arguments, when, number):
    """Run Python on a terminal of its own; send a signal once it shows ``when``."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 110))
    before, output, sent = termios.tcgetattr(slave), "", False
    try:
        with process(*arguments, stdout=slave, stderr=slave, stdin=slave) as started:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                over = started.poll() is not None
                if select.select([master], [], [], 0.05)[0]:
                    output += os.read(master, 65536).decode()
                elif over:
                    break
                if not sent and re.search(when, output):
                    started.send_signal(number)
                    sent = True
        assert termios.tcgetattr(slave) == before
    finally:
        os.close(master)
        os.close(slave)
    return started.returncode, output


SLOW = """
import sys, time
import minicnn as mc, run_helpers as runs
def slow(x, labels, rng):
    time.sleep(0.12)  # so that the bar is drawn anew after every batch
    return x, labels
model = runs.net().build(runs.SHAPE)
for epoch in mc.fit(model, *runs.pictures(40), optimizer=mc.SGD(0.01), epochs=9, batch_size=4,
                    augment=[slow], checkpoint=sys.argv[1]):
    print(epoch)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_run_leaves_the_terminal_whole(tmp_path, number, code):
    returned, output = on_a_terminal(["-c", SLOW, tmp_path], r"epoch 2: +[1-9]\d", number)
    assert returned == code, output
    lines, column = screen(output.replace("\r\n", "\n\r"))
    assert output.count("\x1b[?25l") == output.count("\x1b[?25h")  # the cursor is seen
    assert column == 0 and lines[-1] == ""
    [stopped] = [line for line in lines if "stopped in epoch" in line]
    assert stopped.startswith("stopped in epoch 2 after"), lines  # on a line of its own
    [saving] = [line for line in lines if "once more to quit" in line]
    assert saving.startswith(("Ctrl-C: saving", "SIGTERM: saving")), lines
    assert not any("%|" in line for line in lines), lines  # no bar is left


def test_run_on_a_terminal_leaves_no_bar(tmp_path):
    code = SLOW.replace("epochs=9", "epochs=2").replace("0.12", "0.05")
    returned, output = on_a_terminal(["-c", code, tmp_path], "never", signal.SIGINT)
    assert returned == 0 and "%|" in output
    lines, column = screen(output.replace("\r\n", "\n\r"))
    assert [line[:11] for line in lines] == ["epoch   1  ", "epoch   2  ", ""] and column == 0
