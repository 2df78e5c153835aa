"""The benchmarks' parts, on little work: what they say must be right before anyone believes it."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import minicnn as mc

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import compare, epochs, machine, nets, ops, report, results, settings, table  # noqa: E402
from benchmarks.peers import protocol  # noqa: E402
from benchmarks.rounds import check_twin  # noqa: E402

RANDOM = [f"random:{seed}" for seed in range(5)]
COUNTS = {
    "tutorial_cnn": 122_570,
    "vgg_like": 2_197_706,
    "resnet20": 272_474,
    "resnet18": 11_173_962,
}


def contender(name, *rounds, peer="torch", **more):
    """Return a contender's record: rounds are (images, seconds)."""
    measured = [
        {"images": i, "seconds": s, "peak_mb": 150.0, "others_cores": 0.0, **more}
        for i, s in rounds
    ]
    return {"name": name, "peer": peer, "loaded_mb": 100.0, "peak_mb": 150.0, "rounds": measured}


def comparison(*contenders, mode="train"):
    """Return a comparison's record of a network with a million multiply-adds."""
    sgemm = contender("sgemm", (100, 2.0), (100, 1.0), (100, 4.0), peer="sgemm")
    return {
        "net": "toy", "mode": mode, "batch": 8, "threads": 2, "pictures": 64, "parameters": 10,
        "data": "drawn pictures",
        "multiply_adds": 1_000_000, "versions": {"torch": "0"}, "skipped": {"keras fit": "gone"},
        "contenders": [sgemm, *contenders],
    }  # fmt: skip


OURS = contender("minicnn", (100, 1.0), (120, 1.0), (110, 1.0), peer="minicnn")
SLOW = contender("torch default", (50, 1.0), (50, 1.0), (50, 1.0))
FAST = contender("torch channels_last", (100, 2.0), (100, 1.0), (110, 1.0))


# Figures.


def test_report_takes_medians_and_the_best_peer():
    c = comparison(OURS, SLOW, FAST)
    assert report.best(c)["name"] == "torch channels_last"
    figure = report.ratio(c, FAST)
    assert (figure.middle, figure.count) == (pytest.approx(1.1), 3)  # 110 / 100
    assert (figure.low, figure.high) == (pytest.approx(1.0), pytest.approx(2.0))
    assert report.added(FAST) == 50


@pytest.mark.parametrize(("mode", "factor"), [("train", 3), ("infer", 1)])
def test_report_roofline_counts_two_operations_each(mode, factor):
    c = comparison(OURS, mode=mode)
    speed, limit = report.roofline(c)
    assert speed == 50 * 2 * 1024**3  # the median of 50, 100 and 25 products a second
    assert limit == pytest.approx(speed / (2e6 * factor))


def test_report_says_what_was_skipped_and_who_disturbed():
    said = report.text(comparison(OURS, FAST))
    assert "minicnn" in said and "1.10 times as fast" in said and "keras fit: gone" in said
    assert "NOT ALONE" not in said
    noisy = contender("torch default", *[(50, 1.0)] * 3, others_cores=0.8)
    assert "up to 0.8 cores busy" in report.text(comparison(OURS, noisy))


def test_report_without_peers_has_no_ratio():
    c = comparison(OURS)
    assert report.best(c) is None and "roofline" in report.text(c)
    assert compare.worst([c]) == "no peer ran"


def test_report_latency_is_in_microseconds_and_speed_its_inverse():
    c = comparison(
        contender("minicnn", *[(9, 1.0)] * 3, latency_us=100.0),
        contender("torch default", *[(9, 1.0)] * 3, latency_us=150.0),
        mode="infer",
    )
    assert report.ratio(c, c["contenders"][2]).middle == pytest.approx(1.5)
    assert "us/picture" in report.text(c)


def test_compare_names_the_worst():
    other = comparison(OURS, contender("torch default", *[(220, 1.0)] * 3))
    said = compare.worst([comparison(OURS, FAST), other | {"net": "bad"}])
    assert said.startswith("worst of 2: bad, batch 8: 0.50 times")


def test_twins_with_other_outputs_or_parameters_are_refused():
    reply = {"parameters": 10, "logits": [[1.0, -2.0]]}
    check_twin(reply, [[1.0001, -2.0]], 10)
    with pytest.raises(protocol.WorkerError, match=r"outputs differ by 0\.5"):
        check_twin(reply, [[2.0, -2.0]], 10)
    with pytest.raises(protocol.WorkerError, match="10 parameters, not 11"):
        check_twin(reply, [[1.0, -2.0]], 11)
    with pytest.raises(protocol.WorkerError, match="outputs differ"):
        check_twin({"parameters": 10, "logits": [[float("nan"), 1.0]]}, [[1.0, 1.0]], 10)


# Records, files and the table.


def test_command_leaves_places_out(monkeypatch):
    argv = "here/compare.py --net a --data-dir there/x --json=there --json --rounds 2"
    monkeypatch.setattr(sys, "argv", argv.split())
    said = machine.command()
    assert said == (
        "python benchmarks/compare.py --net a --data-dir DATA_DIR --json=JSON --json --rounds 2"
    )


def test_record_says_machine_and_versions():
    found = machine.record("compare")
    assert found["machine"]["cores"] >= 1 and found["machine"]["cpu"]
    assert found["versions"]["numpy"] == np.__version__
    assert found["versions"]["minicnn"].startswith(mc.__version__)


def test_results_go_to_a_file_or_into_a_folder(tmp_path):
    record = {"kind": "compare", "value": 1 / 3, "shape": (1, 2)}
    results.write(record, tmp_path / "new", "random:0 b128")
    results.write(record, tmp_path / "new" / "own.json", "unused")
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [
        "compare-random_0_b128.json", "own.json",
    ]  # fmt: skip
    assert results.read(tmp_path / "new")[0] == {
        "kind": "compare", "value": 0.333333, "shape": [1, 2],
    }  # fmt: skip


def test_table_has_a_line_for_each_measurement(tmp_path, capsys):
    base = {"date": "2026-11-21", "command": "python x", "machine": machine.describe()}
    base["versions"] = {"python": "3"}
    run = {"seconds": 10.0, "peak_mb": 300.0, "accuracy": 0.7, "others_cores": 0.0}
    records = [
        base | {"kind": "compare", "comparisons": [comparison(OURS, FAST), comparison(OURS)]},
        base | {"kind": "epochs", "epochs": 2, "runs": {
            "minicnn": [run], "keras": [run | {"seconds": 20.0}],
        }},
        base | {"kind": "ops", "rows": [{
            "op": "conv2d", "pass": "both", "case": "small", "flops": 1e6,
            "ms": {"minicnn": [2.0], "reference": [8.0], "torch": [3.0]},
        }]},
    ]  # fmt: skip
    for i, record in enumerate(records):
        results.write(record, tmp_path, str(i))
    assert table.main([str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split(" | ") for line in lines if line.startswith("| ")]
    assert len(rows) == 2 + 2 + 1 + 1 and {len(row) for row in rows} == {7}
    assert rows[2][1:4] == [
        "110 (100 to 120) images/s", "100 (50 to 110) images/s, torch channels_last",
        "1.10 (1.00 to 2.00)",
    ]  # fmt: skip
    assert rows[4][3] == "2.00" and rows[5][3] == "1.50"
    assert "python 3" in lines[-1]


def test_table_of_nothing_says_so(tmp_path, capsys):
    assert table.main([str(tmp_path)]) == 2
    assert "no results" in capsys.readouterr().err


def test_epochs_report_is_a_ratio_of_times():
    runs = {
        who: [{"seconds": seconds, "peak_mb": 1.0, "others_cores": 0.0}]
        for who, seconds in (("minicnn", 6.0), ("keras", 8.0))
    }
    assert "minicnn takes 0.75 of Keras' time" in epochs.text({"epochs": 1, "runs": runs})


# The command line.


def test_compare_reads_lists():
    args = compare.arguments(["--net", "resnet20,random", "--seeds", "0-2,7", "--peers", "none"])
    assert compare.wanted_nets(args) == ["resnet20", "random:0", "random:1", "random:2", "random:7"]
    assert args.peers == [] and compare.numbers("32,64") == [32, 64]


@pytest.mark.parametrize("flags", ["--peers caffe", "--rounds 0", "--seconds 0", "--threads 0"])
def test_compare_refuses_wrong_flags(flags, capsys):
    with pytest.raises(SystemExit):
        compare.arguments(flags.split())
    assert "error" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ("--net alexnet", "net 'alexnet': expected one of tutorial_cnn"),
        ("--settings torch", "no setting 'torch'; there are: torch channels_last"),
        ("--pictures 8 --batch 16", "8 pictures make no batch of 16"),
    ],
)
def test_compare_wrong_words_exit_with_2(flags, text, capsys):
    little = "--peers torch --pictures 8 --batch 4"
    assert compare.main([*little.split(), *flags.split()]) == 2
    assert text in capsys.readouterr().err


def test_every_setting_has_a_name_and_a_worker_of_its_own():
    for mode in ("train", "infer"):
        found = settings.chosen(["torch", "keras"], mode, [])
        assert len({s.name for s in found}) == len(found)
        for setting in found:
            assert (ROOT / (setting.module.replace(".", "/") + ".py")).is_file()


# Workers.


@pytest.mark.parametrize("flags", ["--mode train --batch 8", "--mode infer --batch 1"])
def test_compare_runs_minicnn_alone(flags, tmp_path, capfd):
    flags += " --peers none --rounds 2 --seconds 0.05 --pictures 16 --threads 1"
    assert compare.main([*flags.split(), "--json", str(tmp_path)]) == 0
    (record,) = results.read(tmp_path)
    (c,) = record["comparisons"]
    assert [who["name"] for who in c["contenders"]] == ["minicnn", "sgemm"]
    for who in c["contenders"]:
        assert len(who["rounds"]) == 2 and who["peak_mb"] >= who["loaded_mb"] > 0
    assert (c["parameters"], c["multiply_adds"]) == (122_570, 4_548_608)
    assert ("latency_us" in c["contenders"][0]["rounds"][0]) == ("infer" in flags)
    assert "roofline: " in capfd.readouterr().out


def test_compare_skips_a_peer_that_is_not_there(tmp_path, capfd):
    flags = "--peers keras --batch 8 --rounds 1 --seconds 0.05 --pictures 16 --threads 1"
    nowhere = tmp_path / "python"
    nowhere.write_text(f"#!{sys.executable}\nraise SystemExit('No module named keras')\n")
    nowhere.chmod(0o755)
    assert compare.main([*flags.split(), "--keras-python", str(nowhere)]) == 0
    assert "skipped: keras fit: it ended: No module named keras" in capfd.readouterr().out


def test_a_worker_that_cannot_be_started_is_an_error_of_its_own(tmp_path):
    with pytest.raises(protocol.WorkerError, match="can't be started"):
        protocol.Worker(str(tmp_path / "python"), "benchmarks", 1, tmp_path / "log")


def test_worker_says_what_went_wrong(tmp_path):
    module = "benchmarks.peers.own_worker"
    worker = protocol.Worker(sys.executable, module, 1, tmp_path / "log")
    try:
        with pytest.raises(protocol.WorkerError, match=r"FileNotFoundError.*uint8\.npy"):
            worker.ask("start", task={"folder": str(tmp_path), "batch": 1})
        assert worker.process.poll() is None  # and waits for the next order
    finally:
        worker.close()
    assert worker.process.returncode == 0


def test_ops_times_what_it_is_asked_for(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(ops.CASES, "relu", lambda: [ops.Case("2x3", (np.ones((2, 3), "f"),))])
    flags = "--only relu --rounds 2 --seconds 0.0001 --no-torch --threads 1"
    assert ops.main([*flags.split(), "--json", str(tmp_path / "r.json")]) == 0
    rows = json.loads((tmp_path / "r.json").read_text())["rows"]
    assert [row["pass"] for row in rows] == ["forward", "both"]
    assert all(len(times) == 2 for row in rows for times in row["ms"].values())
    assert "relu both" in capsys.readouterr().out


def test_ops_has_cases_for_every_fast_body():
    found = ops.functions()
    assert "conv2d_forward" in found and "adam_update" in found
    assert ops.registered(found) <= set(ops.CASES)


# Networks and their twins.


@pytest.mark.parametrize("name", COUNTS)
def test_net_has_the_size_in_the_paper(name):
    assert nets.get(name).build((32, 32, 3)).params.count == COUNTS[name]


def test_random_networks_are_the_same_each_time_and_differ():
    assert repr(nets.get("random:3")) == repr(nets.get("random:3"))
    written = [repr(nets.get(f"random:{seed}")) for seed in range(20)]
    assert len(set(written)) == 20
    for word in ("Residual", "Concat", "Dropout", "BatchNorm", "LeakyReLU", "AveragePool2D"):
        assert any(word in text for text in written)


def settled(name, rng):
    """Return a network with weights, biases and statistics that all matter."""
    model = nets.get(name).build((32, 32, 3), seed=1)
    for key, w in model.params.items():
        if w.ndim == 1:
            w[...] = rng.uniform(0.5, 1.5, w.shape) if "gamma" in key else rng.normal(size=w.shape)
    return model


@pytest.mark.torch
@pytest.mark.parametrize("name", [*COUNTS, *RANDOM])
def test_torch_twin_computes_the_same(name, rng):
    torch = pytest.importorskip("torch", exc_type=ImportError)
    from benchmarks.peers.torch_twin import copy_weights, twin

    model = settled(name, rng)
    module = twin(model.config(), model.input_shape).eval()
    assert sum(p.numel() for p in module.parameters()) == model.params.count
    copy_weights(module, list(model.params.values()))
    x = rng.integers(0, 256, (2, 32, 32, 3), dtype="uint8")
    floats = model.first_leaf().infer(x)
    with torch.no_grad():
        theirs = module(torch.from_numpy(floats).permute(0, 3, 1, 2)).numpy()
    ours = model.infer(x)
    np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-4 * abs(ours).max())


@pytest.mark.torch
def test_torch_twin_trains_the_same(rng):
    """In training mode, in place and all: the gradients of a Residual with BatchNorm are ours."""
    torch = pytest.importorskip("torch", exc_type=ImportError)
    from benchmarks.peers.torch_twin import copy_weights, twin

    model = settled("random:1", rng)
    module = twin(model.config(), model.input_shape).train()
    copy_weights(module, list(model.params.values()))
    x = rng.integers(0, 256, (4, 32, 32, 3), dtype="uint8")
    labels = np.arange(4)
    mc.backpropagate(model, x, labels)
    floats = torch.from_numpy(model.first_leaf().infer(x)).permute(0, 3, 1, 2)
    torch.nn.functional.cross_entropy(module(floats), torch.from_numpy(labels)).backward()
    theirs = [p.grad.numpy() for p in module.parameters()]
    for (key, dw), their in zip(model.grads.items(), theirs, strict=True):
        expected = {4: lambda a: a.transpose(2, 3, 1, 0), 2: np.transpose}.get(their.ndim, np.array)
        np.testing.assert_allclose(
            dw, expected(their), rtol=1e-2, atol=1e-3 * abs(their).max(), err_msg=key
        )


@pytest.mark.parametrize("name", ["tutorial_cnn", "vgg_like", "resnet20", *RANDOM])
def test_keras_twin_computes_the_same(name, rng):
    pytest.importorskip("keras", exc_type=ImportError)
    from benchmarks.peers.keras_twin import Twin

    model = settled(name, rng)
    twin = Twin(model.config(), model.input_shape)
    assert sum(np.prod(w.shape) for w in twin.model.trainable_weights) == model.params.count
    twin.copy_weights(list(model.params.values()))
    x = rng.integers(0, 256, (2, 32, 32, 3), dtype="uint8")
    theirs = twin.model(model.first_leaf().infer(x), training=False).numpy()
    ours = model.infer(x)
    np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-4 * abs(ours).max())
