"""benchmarks/gpu.py: everything of it that runs without a GPU, on the CPU in its place."""

import sys
from pathlib import Path

import emulation
import numpy as np
import pytest
from standin import installed

import minicnn as mc

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import (  # noqa: E402
    gpu,
    gpu_about,
    gpu_correct,
    gpu_host,
    gpu_report,
    gpu_settings,
    gpu_speed,
    gpu_table,
    gpu_tasks,
    nets,
    results,
    table,
)  # fmt: skip
from benchmarks.peers.gpu_gemm_worker import Gemm  # noqa: E402
from benchmarks.peers.gpu_own_worker import OwnGpu  # noqa: E402
from benchmarks.peers.protocol import Worker, WorkerError  # noqa: E402
from benchmarks.settings import Setting  # noqa: E402

TINY = (
    "--device cpu --tiny --nets tutorial_cnn:4 --rounds 2 --seconds 0.02 --pictures 8 --threads 1"
)


def contender(name, peer, precision, *speeds, **more):
    """Return a contender's record; speeds: images/s, round by round."""
    rounds = [{"images": speed, "seconds": 1.0} for speed in speeds]
    return {
        "name": name, "peer": peer, "precision": precision, "rounds": rounds, "gpu_mb": 5.0, **more,
    }  # fmt: skip


def comparison():
    """Return the record of a network with a million multiply-adds: 6 MFLOP a picture."""
    return {
        "net": "toy", "batch": 8, "pictures": 64, "data": "drawn pictures", "parameters": 10,
        "multiply_adds": 1_000_000, "versions": {"torch": "0"}, "skipped": {"torch x": "gone"},
        "contenders": [
            contender("minicnn float32", "minicnn", "float32", 100, 120, 110),
            contender("minicnn bfloat16", "minicnn", "16-bit", 300, 300, 300),
            contender("minicnn float16", "minicnn", "16-bit", 400, 400, 400),
            contender("gemm float32", "gemm", "float32", 2, 1, 2, flops=6e8),
            contender("torch a", "torch", "float32", 50, 50, 50),
            contender("torch b", "torch", "float32", 100, 100, 100),
            contender("torch c", "torch", "16-bit", 500, 1000),  # it left after two rounds
        ],
    }  # fmt: skip


def record(**more):
    return {
        "kind": "gpu", "date": "2026-11-21", "command": "python x", "failed": {}, "versions": {},
        "machine": {"cpu": "C", "cores": 2, "memory_gb": 1}, "gpu": {"name": "G", "driver": "1"},
        "comparisons": [comparison()], **more,
    }  # fmt: skip


# Figures.


def test_report_compares_within_a_precision():
    c = comparison()
    ours = gpu_report.fastest(gpu_report.of_peer(c, "minicnn", "16-bit"))
    assert ours["name"] == "minicnn float16"
    (their,) = gpu_report.rivals(c, "16-bit")
    figure = gpu_report.ratio(ours, their)
    assert figure.middle == pytest.approx(400 / 750) and figure.count == 2
    assert gpu_report.share(c, c["contenders"][0]) == pytest.approx(110 * 6e6 / (2 * 6e8))
    assert gpu_report.share(c, ours) is None  # no product of 16 bits was measured
    said = gpu_report.text(c)
    assert "float32: minicnn float32 is 1.10 times as fast as torch b (1.00 .. 1.20 over" in said
    assert "gemm float32: 0.0012 TFLOP/s" in said and "skipped: torch x: gone" in said
    assert "TF32:" not in said


def test_table_says_what_was_not_measured():
    rows = gpu_table.rows(None)
    assert {row[1] for row in rows} == {"not measured yet"} and len(rows) == 4 * 3 + 1 + 2
    found = {row[0]: row for row in gpu_table.rows(record())}
    assert found["toy, batch 8, float32"][1:] == [
        "110 (100 to 120) images/s, float32", "100 (100 to 100) images/s, torch b",
        "1.10 (1.00 to 1.20)", "0.550",
    ]  # fmt: skip
    assert found["toy, batch 8, TF32"][1] == "not measured yet"
    assert gpu_table.markdown(None).count("\n") == len(rows) + 1


def test_tables_read_the_files_of_results(tmp_path, capsys):
    run = {"seconds": 2.0, "epochs": [1.0, 1.0], "accuracy": 0.7}
    entry = {"data": "CIFAR-10", "start": 3.0, "runs": [run], "pictures": 50_000}
    results.write(record(), tmp_path, "a")
    epochs = {"count": 2, "runs": {"bfloat16": entry}, "failed": {}}
    results.write(record(comparisons=[], epochs=epochs), tmp_path, "b")
    assert table.main([str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split(" | ") for line in lines if line.startswith("| ")]
    assert {len(row) for row in rows} == {7} and len(rows) == 2 + 2 + 1
    assert rows[2][5:] == ["5 / 5", "`python x` |"] and rows[2][0] == "| toy, batch 8, float32"
    assert rows[4][:2] == [
        "| 2 epochs, tutorial_cnn, bfloat16, CIFAR-10",
        "2.00 (2.00 to 2.00) s after 3.0 s of start; test accuracy 0.700 (0.700 to 0.700)",
    ]
    assert lines[-1].startswith("G (driver 1); C")
    assert gpu_table.main([str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "toy, batch 8" in said and "2 epochs, tutorial_cnn, bfloat16, CIFAR-10" in said


@pytest.mark.parametrize(
    ("more", "troubled"),
    [
        ({}, False),
        ({"failed": {"host": "x"}}, True),
        ({"not compared": {"toy": "x"}}, True),
        ({"correct": {"findings": [{"passed": False}], "failed": {}}}, True),
        ({"correct": {"findings": [{"passed": True}], "failed": {"a": "b"}}}, True),
        ({"epochs": {"failed": {"float32": "x"}}}, True),
    ],
)
def test_trouble_is_told_by_the_exit_code(more, troubled):
    assert gpu_table.troubled(record(**more)) is troubled


# The same work.


def test_losses_must_fall_as_ours_do():
    ours = [2.0, 2.1, 1.5, 1.5, 1.0, 1.1]
    gpu_speed.check_losses(ours, ours, "float32")
    gpu_speed.check_losses([x + 0.02 for x in ours], ours, "16-bit")
    with pytest.raises(WorkerError, match=r"its first loss is 2\.02, not 2"):
        gpu_speed.check_losses([x + 0.02 for x in ours], ours, "float32")
    for wrong in ([2.0] * 6, [2.0, 2.0, 2.0, 2.0, 1.9, 1.9], [2.0, 2.1, 1, 1, 0.1, 0.1]):
        with pytest.raises(WorkerError, match="in 6 steps its loss falls by"):
            gpu_speed.check_losses(wrong, ours, "16-bit")


def test_same_work_takes_the_first_for_the_others():
    check = gpu_speed.SameWork([[1.0, 2.0]], 3)
    own, *_ = gpu_settings.own(["float32"])
    reply = {"parameters": 3, "logits": [[1.0, 2.0]], "losses": [2.0, 2.0, 1.0, 1.0]}
    check(own, reply)
    their = Setting("torch", "torch", "m", {"precision": "default"})
    with pytest.raises(WorkerError, match="falls by"):
        check(their, reply | {"losses": [2.0, 2.0, 2.0, 2.0]})
    with pytest.raises(WorkerError, match="aren't finite"):
        check(their, reply | {"losses": [2.0, float("nan")]})
    with pytest.raises(WorkerError, match="outputs differ"):
        check(their, reply | {"logits": [[1.0, 2.1]]})
    check(gpu_settings.gemms(["float32"])[0], {})  # it has no network


def test_settings_have_names_workers_and_classes():
    for quick in (True, False):
        found = gpu_settings.chosen("gpu", ["torch"], quick, True, [])
        assert len({setting.name for setting in found}) == len(found)
        for setting in found:
            assert (ROOT / (setting.module.replace(".", "/") + ".py")).is_file()
            assert setting.variables["CUDA_VISIBLE_DEVICES"]  # others' processes hide GPUs
        classes = {gpu_settings.class_of(s) for s in found if s.peer == "torch"}
        assert classes == {"float32", "TF32", "16-bit"}
    own = {s.name: s.variables["MINICNN_TF32"] for s in found if s.peer == "minicnn"}
    assert own == {
        "minicnn float32": "0", "minicnn tf32": "1", "minicnn bfloat16": "0",
        "minicnn float16": "0",
    }  # fmt: skip
    with pytest.raises(ValueError, match="no setting 'torch x'; there are: torch amp"):
        gpu_settings.chosen("gpu", ["torch"], True, False, ["torch x"])


# Right or wrong.


def test_distance_is_relative_to_the_largest_of_an_array():
    exact = {"grad a": np.array([1.0, 2.0]), "grad b": np.array([1e-9]), "loss": np.array(2.0)}
    ours = exact | {"grad a": np.array([1.1, 2.0]), "grad b": np.array([-1e-9])}
    apart, worst = gpu_correct.distance(ours, exact, "grad")
    assert (apart, worst) == (pytest.approx(0.05), "a")  # b is rounding beside a
    assert gpu_correct.distance(ours, exact, "loss") == (0.0, "")
    assert np.isnan(gpu_correct.distance({"loss": np.array(np.nan)}, exact, "loss")[0])
    assert gpu_correct.norm_apart(ours, exact) == pytest.approx(0.1 / np.sqrt(5), rel=1e-6)
    finding = gpu_correct.Finding("toy", "what", float("nan"), 1.0)
    assert not finding.passed and "WRONG" in gpu_correct.text(
        {"findings": [finding.record()], "failed": {"toy: graphs": "lost"}}
    )


def steps(way, factor=1.0, same=False):
    """Return what `gpu_steps` would write."""
    rng = np.random.default_rng(0)
    noise = {"float32": 1e-6, "float64": 0.0, "bfloat16": 1e-2, "float16": 1e-3}[way.dtype]
    noise = 1e-4 if way.tf32 and not same else noise
    found = {"loss": 2.0, "losses": rng.uniform(1, 2, 8), "final": rng.normal(size=4)}
    found |= {"grad w": rng.normal(size=9), "weight w": rng.normal(size=9)}
    return {k: np.asarray(v * (1 + noise * factor)) for k, v in found.items()}


def test_correct_accepts_rounding_and_finds_what_is_wrong():
    def wrong(after):
        found = [
            f for check in gpu_correct.CHECKS.values() for f in check("tutorial_cnn", "gpu", after)
        ]
        return {f.what for f in found if not f.passed}

    assert wrong(steps) == set()
    assert wrong(lambda way: steps(way, same=True)) == {"tf32 is float32 after all"}
    found = wrong(lambda way: steps(way, 1000 if way.device == "gpu" else 1))
    assert "float32 against the CPU: grads" in found
    found = wrong(lambda way: steps(way, 1.1 if not way.graphs else 1))
    assert found == {"graph against kernel by kernel: numbers that differ"}
    found = wrong(lambda way: steps(way, 1.1 if way.again else 1))
    assert found == {"a second run against the first: numbers that differ"}
    found = wrong(lambda way: steps(way, 100 if way.dtype == "bfloat16" else 1))
    assert "bfloat16 against float32: gradients, by norm" in found


def test_per_call_leaves_the_waiting_out():
    waits = []
    found = gpu_host.per_call(lambda: None, lambda: waits.append(1), blocks=3, each=5)
    assert 0 < found < 1000 and len(waits) == 5


# The command.


def test_command_measures_everything_with_the_cpu_in_place_of_a_gpu(tmp_path, capfd):
    flags = f"{TINY} --peers none --json {tmp_path}"
    assert gpu.main(flags.split()) == 0
    (found,) = results.read(tmp_path)
    assert found["failed"] == {} and not found["host"]["failed"] and not found["epochs"]["failed"]
    assert len(found["correct"]["findings"]) == 9
    assert set(found["host"]["first step"]) == {"cold cache", "warm cache"}
    assert found["host"]["steps"]["by graph"]["step us"] > 0
    (c,) = found["comparisons"]
    assert [who["name"] for who in c["contenders"]] == ["minicnn float32", "gemm float32"]
    assert all(len(who["rounds"]) == 2 for who in c["contenders"])
    assert len(c["contenders"][0]["losses"]) == 6 and c["contenders"][1]["flops"] == 2 * 64**3
    assert len(found["epochs"]["runs"]["float32"]["runs"][0]["epochs"]) == 1
    said = capfd.readouterr().out
    assert "9 comparisons, 0 wrong" in said and "| tutorial_cnn, batch 4, float32 | " in said
    assert said.count("not measured yet") > 20


@pytest.mark.torch
def test_command_compares_with_torch(tmp_path, capfd):
    pytest.importorskip("torch", exc_type=ImportError)
    words = "torch default eager,torch float32 channels_last graph"
    flags = [*TINY.split(), "--parts", "speed", "--settings", words, "--json", str(tmp_path)]
    assert gpu.main(flags) == 0
    (c,) = results.read(tmp_path)[0]["comparisons"]
    assert c["skipped"] == {}
    ours, _, eager, graph = c["contenders"]
    assert (eager["precision"], graph["precision"]) == ("TF32", "float32")
    for their in (eager, graph):
        assert their["losses"] == pytest.approx(ours["losses"], rel=1e-3)
    assert "is" in capfd.readouterr().out


def test_command_goes_on_when_a_part_fails(monkeypatch, tmp_path, capfd):
    def fail(args, found):
        raise OSError("no room")

    monkeypatch.setitem(gpu.PARTS, "host", fail)
    flags = f"{TINY} --parts host,epochs --json {tmp_path / 'one.json'}"
    assert gpu.main(flags.split()) == 1
    assert "host failed: no room" in capfd.readouterr().err
    (found,) = results.read(tmp_path)
    assert found["failed"] == {"host": "OSError: no room"} and found["epochs"]["runs"]


def test_command_without_a_gpu_says_so(monkeypatch, capsys):
    monkeypatch.setattr(gpu.gpu_tasks, "run", fails)
    assert gpu.main(["--quick"]) == 2
    assert "no GPU here" in capsys.readouterr().err


def fails(*args, **options):
    raise WorkerError("no GPU here")


def test_parts_that_fail_are_said(monkeypatch, capfd):
    about = gpu_tasks.run("about", "cpu", 1)
    monkeypatch.setattr(
        gpu.gpu_tasks, "run", lambda name, *a, **o: about if name == "about" else fails()
    )
    assert gpu.main([*TINY.split(), "--parts", "correct,host,epochs"]) == 1
    said = capfd.readouterr().out
    assert "couldn't be compared: tutorial_cnn: graphs: no GPU here" in said
    assert "failed: steps by graph: no GPU here" in said and "failed: float32: no GPU here" in said


@pytest.mark.parametrize("flags", ["--parts bake", "--nets alexnet:5", "--device tpu"])
def test_command_refuses_wrong_flags(flags, capsys):
    with pytest.raises(SystemExit):
        gpu.arguments(flags.split())
    assert "error" in capsys.readouterr().err


def test_nets_and_batches_are_read():
    assert gpu.arguments([]).work == [
        ("tutorial_cnn", 128), ("tutorial_cnn", 1024), ("vgg_like", 512), ("resnet18", 512),
    ]  # fmt: skip
    assert gpu.arguments(["--nets", "resnet20,random:3:64"]).work == [
        ("resnet20", 128), ("random:3", 64),
    ]  # fmt: skip
    for net, batch in gpu_table.WORK:
        assert nets.get(net) and batch


def test_a_task_that_gives_no_answer_is_ended():
    with pytest.raises(WorkerError, match="no answer for 0 seconds"):
        gpu_tasks.run("first_step", "cpu", 1, patience=0.05, began=0.0)


def test_a_worker_that_fails_in_a_round_leaves_alone(tmp_path, monkeypatch):
    settings = gpu_settings.chosen("cpu", [], True, False, [])
    ask = Worker.ask

    def moody(self, do, **order):
        self.asked = getattr(self, "asked", 0) + (do == "round")
        if "gemm" in str(self.log) and self.asked > 3:
            raise WorkerError("it has gone")
        return ask(self, do, **order)

    monkeypatch.setattr(Worker, "ask", moody)
    work = gpu_speed.Work("tutorial_cnn", 4, "cpu", 1, 3, 1e-6, side=8)
    c = gpu_speed.measure(work, mc.datasets.synthetic(8, seed=0), settings, {}, lambda text: None)
    assert [who["name"] for who in c["contenders"]] == ["minicnn float32"]
    assert c["skipped"] == {"gemm float32": "it has gone"}


# On a stand-in for CuPy: what only GPUs are asked.


@pytest.fixture
def cupy():
    with installed() as module:
        yield module


def test_about_a_gpu(cupy):
    found = gpu_about.about("gpu")
    assert found["name"] == "Stand-in 0" and found["memory"] == "16 GiB"
    assert (found["driver's CUDA"], found["compute capability"]) == ("13.0", "9.0")
    assert gpu_about.about("cpu") == {"name": "no GPU: the CPU in its place"}


@pytest.mark.skipif(emulation.compiler() is None, reason="needs g++")
def test_launches_of_a_gpu(cupy):
    found = gpu_host.launches("gpu", blocks=1)
    assert [name for name, value in found.items() if not isinstance(value, float)] == []
    assert list(found) == [
        "empty kernel", "cupy.add", "cupy.matmul", "graph of 20 kernels",
        "a graph's node on the GPU",
    ]  # fmt: skip
    cost = {"launches": found | {"x": "Error: y"}, "steps": {}, "first step": {}, "failed": {}}
    assert "Error: y" in gpu_table.host_text(cost)


@pytest.mark.parametrize("precision", ["float32", "tf32", "float16"])
def test_products_of_a_gpu_are_looked_at(cupy, precision, monkeypatch):
    worker = Gemm({"device": "gpu", "side": 16, "precision": precision})
    assert worker.introduction() == {"flops": 2 * 16**3} and worker.round(3) == {"images": 3}
    worker.c.fill(0)
    with pytest.raises(ValueError, match="the product is wrong"):
        worker.introduction()


def test_memory_of_a_gpu_is_what_was_taken_since(cupy, tmp_path, monkeypatch, rng):
    np.save(tmp_path / "uint8.npy", rng.integers(0, 256, (8, 32, 32, 3), "uint8"))
    np.save(tmp_path / "labels.npy", np.arange(8))
    monkeypatch.setitem(
        nets.NETS, "toy", lambda: mc.Sequential(mc.Normalize(), mc.Flatten(), mc.Dense(10))
    )
    task = {
        "folder": tmp_path, "net": "toy", "shape": [32, 32, 3], "batch": 4, "device": "gpu",
        "precision": "float32",
    }  # fmt: skip
    worker = OwnGpu(task)
    assert np.shape(worker.logits(2)) == (2, 10)
    said = worker.introduction()
    assert len(said["losses"]) == 6 and said["losses"][4] < said["losses"][0]
    least = (3072 * 10 * 4 * 3 + 8 * 3072) / 1e6  # weights, their gradients, Adam's two, pictures
    assert least < said["gpu_mb"] < 100
    cupy.counts.reset()
    assert worker.round(2) == {"images": 8}
    assert cupy.counts.synchronizations == 1  # at its end
