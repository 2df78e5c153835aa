"""The table of docs/results.md: what counts, how it's written, and that the page has it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import minicnn as mc

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import accuracy_table, results  # noqa: E402

MACHINE = {"cpu": "Intel(R) Xeon(R) Processor", "cores": 2, "memory_gb": 8.0, "system": "Linux"}


def run(accuracy, seed=0, framework="minicnn", recipe="tutorial", **more):
    """Return a run's record; ``more`` replaces what it says, ``change`` changes its recipe."""
    tables = mc.recipes.load(recipe).changed(**more.pop("change", {})).tables
    return {
        "framework": framework, "recipe": recipe, "tables": tables, "seed": seed, "epochs": 10,
        "stopped": False, "training_seconds": 60.0 + seed, "judged_on": "test set",
        "accuracy": accuracy, "parameters": 122_570, "multiply_adds": 4_548_608, "device": "CPU",
        "data": {"copy": "packed copy"}, **more,
    }  # fmt: skip


def record(*runs, command="python benchmarks/accuracy.py --json"):
    return {
        "kind": "accuracy", "date": "2026-11-21", "command": command, "runs": list(runs),
        "machine": MACHINE | {"load_before": 0.0}, "versions": {"python": "3"},
    }  # fmt: skip


def lines(folder, *records):
    """Return the table's lines as lists of cells, of records that went through files."""
    for number, one in enumerate(records):
        results.write(one, folder / f"{number}.json", "")
    text = accuracy_table.markdown(results.read(folder))
    rows = [line for line in text.split("\n") if line.startswith("| ")]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows[2:]], text


def test_runs_become_a_line_with_mean_and_spread(tmp_path):
    ours = record(run(0.70, 0), run(0.69, 1), run(0.713, 2), command="ours")
    theirs = record(run(0.695, 0, "torch"), command="theirs")
    rows, text = lines(tmp_path, ours, theirs)
    assert rows[0] == [
        "tutorial_cnn", "tutorial", "122,570", "4,548,608", "10", "2 cores, Intel Xeon", "61.0 s",
        "70.10 % (69.00 to 71.30, 3 seeds)", "packed copy", "69.50 % (1 seed)",
        accuracy_table.WANTED["tutorial"][1], "`ours`",
    ]  # fmt: skip
    assert "2026-11-21" in text and text.count("tutorial_best |") == 1


def test_what_nobody_measured_says_so_with_its_command(tmp_path):
    rows, _ = lines(tmp_path, {"kind": "compare", "comparisons": []})
    assert [row[1] for row in rows] == list(accuracy_table.WANTED)
    for row in rows:
        assert row[6] == row[7] == row[9] == "not measured yet"
    found = {row[1]: row for row in rows}
    assert found["resnet20"][2:6] == ["269,722", "40,551,040", "200", "CPU"]
    command = "`python benchmarks/accuracy.py --recipes resnet18 --frameworks minicnn,torch"
    assert found["resnet18"][-1].startswith(f"{command} --device gpu")
    assert found["cpu_quick"][0].startswith("speedrun94(widths=[")


@pytest.mark.parametrize(
    "other",
    [
        {"judged_on": "5,000 held-out training pictures"},
        {"stopped": True},
        {"change": {"lr": 0.01}},
        {"change": {"batch_size": 64}},
        {"recipe": "resnet20", "change": {"lr": 1.0}},
    ],
)
def test_only_ended_runs_by_the_recipe_on_the_test_set_count(tmp_path, other):
    rows, _ = lines(tmp_path, record(run(0.70), run(0.99, 1, **other)))
    assert rows[0][7] == "70.00 % (1 seed)"
    assert not any("99.00" in cell for row in rows for cell in row)


def test_epochs_precision_and_device_are_lines_of_their_own(tmp_path):
    more = {"epochs": 20, "change": {"epochs": 20}, "training_seconds": 600.0}
    gpu = {"device": "NVIDIA H200", "change": {"dtype": "bfloat16"}}
    rows, _ = lines(tmp_path, record(run(0.70), run(0.71, **more), run(0.69, **gpu)))
    assert [(row[1], row[4], row[5], row[6]) for row in rows[:3]] == [
        ("tutorial", "10", "2 cores, Intel Xeon", "60.0 s"),
        ("tutorial, bfloat16", "10", "H200", "60.0 s"),
        ("tutorial", "20", "2 cores, Intel Xeon", "10.0 min"),
    ]


def test_the_later_of_two_runs_counts(tmp_path):
    rows, _ = lines(tmp_path, record(run(0.5)), record(run(0.7)))
    assert rows[0][7] == "70.00 % (1 seed)"


def test_write_puts_it_between_the_marks(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- accuracy_table.py -->\nold\n<!-- /accuracy_table.py -->\nafter\n")
    results.write(record(run(0.7)), tmp_path / "a.json", "")
    for _ in range(2):  # the second time changes nothing
        assert accuracy_table.main([str(tmp_path), "--write", str(page)]) == 0
        text = page.read_text()
        assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
        assert text.count("70.00 %") == 1
    page.write_text("no marks")
    assert accuracy_table.main([str(tmp_path), "--write", str(page)]) == 2
    assert "no place for a table" in capsys.readouterr().err


def test_pages_are_what_the_command_makes():
    records = results.read(results.RESULTS)
    for name in ("docs/results.md", "README.md"):
        page = (ROOT / name).read_text()
        command = "python benchmarks/accuracy_table.py --write docs/results.md README.md"
        assert page == accuracy_table.put(page, records), f"run: {command}"


def test_every_recipe_has_a_line():
    assert set(accuracy_table.WANTED) == set(mc.recipes.names())
