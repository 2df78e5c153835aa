"""Broken and hostile model files: a clear error, in little time and memory, and nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
import warnings
from contextlib import contextmanager
from pathlib import Path

import hostile_checkpoints as hostile
import numpy as np
import pytest

import minicnn as mc
from minicnn.checkpoint import file

CONSTANT = 32 << 20  # bytes of memory, beside twice the file's size


@contextmanager
def in_time(seconds: float):
    """Interrupt what waits for something that never comes."""

    def stop(*_):
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def everything(folder: Path) -> dict[Path, int]:
    return {file: file.lstat().st_mtime_ns for file in folder.rglob("*")}


@contextmanager
def refused(path: Path, match: str):
    """Expect a `CheckpointError` within a second and in bounded memory, and no side effect.

    The block is run under tracemalloc, which makes it several times as slow; so loading is timed
    once more without.
    """
    files, modules = everything(path.parent), set(sys.modules)
    size = path.lstat().st_size if path.is_file() else 0
    tracemalloc.start()
    try:
        with in_time(20), pytest.raises(mc.CheckpointError, match=match) as caught:
            yield caught
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    start = time.process_time()
    with in_time(20), pytest.raises(mc.CheckpointError):
        mc.load(path)
    seconds = time.process_time() - start
    text = str(caught.value)
    assert path.name in text and len(text) < 5000, f"{len(text)} characters: {text[:300]}"
    assert everything(path.parent) == files and set(sys.modules) == modules
    assert peak < 2 * size + CONSTANT, f"{peak:,} bytes for a file of {size:,}"
    assert seconds < 1, f"{seconds:.2f} s"


@pytest.fixture(scope="module", autouse=True)
def warmed_up(tmp_path_factory):
    """Import what loading imports, and be sure that the good file is good."""
    path = tmp_path_factory.mktemp("good") / "good.safetensors"
    path.write_bytes(hostile.good())
    loaded = mc.load(path)
    assert (loaded.params.data == hostile.model().params.data).all()


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of its own to stand in, where a gadget would leave its trace."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", hostile.FILES)
def test_load_refuses_file(here, name):
    make, text = hostile.FILES[name]
    path = here / "model.safetensors"
    path.write_bytes(make())
    with refused(path, text):
        mc.load(path)
    assert os.listdir(here) == ["model.safetensors"]


@pytest.mark.parametrize("name", hostile.PLACES)
def test_load_refuses_what_is_no_file(here, name):
    path = here / "model.safetensors"
    hostile.PLACES[name](path)
    with refused(path, "."):
        mc.load(path)


def test_load_refuses_a_type_that_numpy_lacks(here):
    for dtype, width in (("BF16", "float16"), ("F8_E4M3", "int8"), ("F8_E5M2", "int8")):
        arrays, description = hostile.whole()
        arrays["head/b"] = arrays["head/b"].astype(width)
        data = hostile.sealed(arrays, description)
        old = f'"head/b": {{"dtype": "{hostile.NAMES[width]}"'
        assert old.encode() in data
        new = data.replace(old.encode(), f'"head/b": {{"dtype": "{dtype}"'.encode())
        length = int.from_bytes(data[:8], "little") + len(new) - len(data)
        path = here / "model.safetensors"
        path.write_bytes(length.to_bytes(8, "little") + new[8:])
        with refused(path, "head/b"):
            mc.load(path)


@pytest.mark.parametrize("kind", ["extra", "Sequential", "Residual", "Concat"])
def test_load_of_any_depth_works_or_is_refused(here, kind):
    path = here / "model.safetensors"
    x = np.ones((2, *hostile.SHAPE), "float32")
    depths = range(700, 1000, 2) if kind == "extra" else range(5, 480, 25)
    for depth in depths:
        if kind == "extra":
            path.write_bytes(hostile.text_with(extra="[" * depth + "]" * depth)())
        else:
            text = '{"version": 1, "input_shape": [6, 5, 3], "dtype": "float32", "classes": [], '
            text += f'"architecture": {hostile.deep(depth, kind)}}}'
            try:
                seal = hostile.checksum(json.loads(text), {})
            except RecursionError:
                seal = ""
            path.write_bytes(hostile.with_text(text[:-1] + f', "sha256": "{seal}"}}', {}))
        try:
            loaded = mc.load(path)
        except mc.CheckpointError as error:
            assert path.name in str(error)
            continue
        if kind != "extra":
            assert loaded.backward(loaded.forward(x)).shape == x.shape


def test_load_lists_what_doesnt_fit_on_both_sides(here):
    def change(arrays, description):
        arrays["tail/w"] = arrays.pop("head/w")
        arrays["head/b"] = arrays["head/b"][:, None]
        arrays["conv2d_1/b"] = np.zeros(7, "float32")

    path = here / "model.safetensors"
    path.write_bytes(hostile.changed(change)())
    with pytest.raises(mc.CheckpointError) as caught:
        mc.load(path)
    for text in (
        str(path),
        "missing: head/w (12, 3)",
        "unknown: tail/w (12, 3)",
        "head/b: the file has (3, 1), the model (3,)",
        "conv2d_1/b: the file has (7,), the model (4,)",
    ):
        assert text in str(caught.value)


def test_load_of_many_misfits_is_short(here):
    def change(arrays, description):
        arrays.clear()
        arrays.update({f"{'other' * 20}/{i}": np.zeros(1, "float32") for i in range(1000)})

    path = here / "model.safetensors"
    path.write_bytes(hostile.changed(change)())
    with refused(path, "missing: .* and 9[0-9][0-9] more"):
        mc.load(path)


# An older version is brought up to date, and its checksum is that of what was written.


def test_load_migrates(here, monkeypatch):
    def up(description):
        assert description["version"] == 1
        return {**description, "version": 2, "classes": ["a", "b", "c"]}

    def older(arrays, description):
        del description["classes"]  # as if version 1 hadn't had it

    path = here / "model.safetensors"
    path.write_bytes(hostile.changed(older)())
    monkeypatch.setattr(file, "VERSION", 2)
    monkeypatch.setitem(file.MIGRATIONS, 1, up)
    loaded = mc.load(path)
    assert loaded.classes == ("a", "b", "c")
    np.testing.assert_array_equal(loaded.params.data, hostile.model().params.data)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with refused(path, "is damaged"):
        mc.load(path)


def test_load_of_an_older_file_that_cant_be_migrated(here, monkeypatch):
    path = here / "model.safetensors"
    path.write_bytes(hostile.changed(lambda a, d: d.pop("classes"))())
    monkeypatch.setattr(file, "VERSION", 2)
    monkeypatch.setitem(file.MIGRATIONS, 1, lambda d: {**d, "classes": d["classes"][0]})
    with refused(path, "classes"):
        mc.load(path)


# Small enough files, in an address space that has no room for anything else.

LIMITED = """
import resource, sys
sys.path[:0] = {folders!r}
import hostile_checkpoints as hostile, minicnn as mc
from pathlib import Path
path = Path({path!r})
path.write_bytes(hostile.good())
mc.load(path)
names = {names!r}
for name in names:
    make = hostile.FILES[name][0]
    path.write_bytes(make())
    size = path.stat().st_size
    text = Path("/proc/self/statm").read_text()
    now = int(text.split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + 3 * size + {room}, resource.RLIM_INFINITY))
    try:
        mc.load(path)
    except mc.CheckpointError as error:
        assert path.name in str(error) and len(str(error)) < 5000, (name, len(str(error)))
        print(name)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
    path.unlink()
path.touch()
with open(path, "wb") as file:
    file.truncate(1 << 40)
resource.setrlimit(resource.RLIMIT_AS, (now + {room}, resource.RLIM_INFINITY))
try:
    mc.load(path)
except mc.CheckpointError as error:
    assert path.name in str(error)
    print("sparse")
"""

WORST = [
    "huge_filters", "huge_kernel", "huge_units", "huge_padding", "input_shape_huge", "huge_shape",
    "huge_product", "length_99_MB", "many_arrays", "many_lists", "many_dicts", "many_layers",
    "long_name", "long_type", "long_shape", "wide_text", "json_deep", "int8",
]  # fmt: skip


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_AS and /proc")
def test_load_refuses_the_worst_in_a_small_address_space(here):
    script = LIMITED.format(
        folders=[str(Path(__file__).parents[n]) for n in (0, 1)],
        path=str(here / "m.safetensors"),
        names=WORST,
        room=2 * CONSTANT,
    )
    ran = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout.split() == [*WORST, "sparse"]


# A state to go on from.


def batches():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (12, *hostile.SHAPE)).astype("uint8")
    return mc.Batches(x, np.arange(12) % 3, 4, stream=mc.Stream(0, "shuffle"))


def run_in(folder, optimizer=None, **options):
    model = hostile.net().build(hostile.SHAPE, seed=4)
    optimizer = optimizer or mc.Adam(0.01)
    return mc.Run(model, optimizer, batches(), folder=folder, progress=False, **options)


def train(run, epochs):
    with run:
        while run.epoch < epochs:
            for x, labels in run.rest_of_epoch():
                mc.train_step(run.model, run.optimizer, x, labels, meter=run.meter)
            run.end_epoch()
    return run


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """The file of a run of two epochs."""
    folder = tmp_path_factory.mktemp("run")
    train(run_in(folder), 2)
    return (folder / "last.safetensors").read_bytes()


@pytest.mark.parametrize("name", hostile.STATES)
def test_run_refuses_state(here, state, name):
    path = here / "run" / "last.safetensors"
    path.parent.mkdir()
    path.write_bytes(state)
    hostile.restore(path, hostile.STATES[name])
    run, before = run_in(path.parent), path.read_bytes()
    start = run.model.params.data.copy()
    kinds = (mc.CheckpointError, mc.CheckpointWarning)  # warnings are errors here
    kinds = kinds if name in hostile.MAY_BE_SAID else mc.CheckpointError
    with in_time(20), pytest.raises(kinds) as caught, run:
        pass
    text = str(caught.value)
    assert path.name in text and len(text) < 5000
    assert path.read_bytes() == before
    assert {p.name for p in path.parent.iterdir()} <= {path.name, "lock"}
    if isinstance(caught.value, mc.CheckpointError):  # nothing is half done
        np.testing.assert_array_equal(run.model.params.data, start)
        assert run.optimizer.steps == 0 and run.epoch == 0


@pytest.mark.parametrize("name", ["sealed_twice", "scheduled"])
def test_run_takes_up_the_state_when_it_is_good(here, state, name):
    path = here / "last.safetensors"
    path.write_bytes(state)
    hostile.restore(path, lambda arrays, description: None)
    optimizer = mc.Adam(mc.schedule.constant(0.01)) if name == "scheduled" else None
    run = train(run_in(here, optimizer), 3)
    assert run.epoch == 3 and len(run.records) == 3


@pytest.mark.parametrize(
    "name", ["empty", "flip_numbers", "json_deep", "many_lists", "version_2", "pickle", "nan"]
)
def test_run_falls_back_from_a_broken_state(here, state, name):
    (here / "epoch-0002.safetensors").write_bytes(state)
    (here / "last.safetensors").write_bytes(hostile.FILES[name][0]())
    with (
        in_time(20),
        pytest.warns(mc.CheckpointWarning, match=r"last\.safetensors.*Going on from") as caught,
        run_in(here) as run,
    ):
        assert run.epoch == 2
    assert len(str(caught[0].message)) < 5000


@pytest.mark.parametrize("name", hostile.PLACES)
def test_run_falls_back_from_what_is_no_file(here, state, name):
    (here / "epoch-0002.safetensors").write_bytes(state)
    hostile.PLACES[name](here / "last.safetensors")
    with in_time(20), warnings.catch_warnings():
        warnings.simplefilter("ignore", mc.CheckpointWarning)
        with run_in(here) as run:
            assert run.epoch == 2


# Anything at all.

hypothesis = pytest.importorskip("hypothesis")
given, settings, st = hypothesis.given, hypothesis.settings, hypothesis.strategies
GOOD = hostile.good()
HEADER = 8 + int.from_bytes(GOOD[:8], "little")


def changes():
    """Bytes changed, in the header more often than not, and cuts."""
    place = st.one_of(st.integers(0, HEADER - 1), st.integers(0, len(GOOD) - 1))
    flip = st.tuples(st.just("flip"), place, st.integers(0, 255))
    cut = st.tuples(st.just("cut"), place, st.integers(1, 40))
    repeat = st.tuples(st.just("repeat"), place, st.integers(1, 40))
    return st.lists(st.one_of(flip, flip, flip, cut, repeat), min_size=1, max_size=4)


def apply(data, steps):
    data = bytearray(data)
    for kind, place, value in steps:
        place = min(place, len(data) - 1)
        if kind == "flip" and data:
            data[place] = value
        elif kind == "cut":
            del data[place : place + value]
        elif kind == "repeat":
            data[place:place] = data[place : place + value]
    return bytes(data)


@settings(derandomize=True, deadline=None, max_examples=600, database=None)
@given(changes(), st.booleans())
def test_load_of_random_damage_is_refused_or_harmless(tmp_path_factory, steps, mend_length):
    data = apply(GOOD, steps)
    if mend_length and len(data) > 8:  # so that the header is read to its end
        data = (HEADER - 8 + len(data) - len(GOOD)).to_bytes(8, "little", signed=True) + data[8:]
    path = tmp_path_factory.getbasetemp() / "random.safetensors"
    path.write_bytes(data)
    same_as_the_good_one(path)


@settings(derandomize=True, deadline=None, max_examples=300, database=None)
@given(st.data())
def test_load_of_random_json_is_refused_or_harmless(tmp_path_factory, data):
    json_values = st.recursive(
        st.one_of(
            st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20),
            st.sampled_from(["ReLU", "Dense", "Sequential", "float64", 10**12, -1]),
        ),
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.dictionaries(
                st.sampled_from(["type", "layers", "body", "name", "units", "branches", "w"]),
                inner,
                max_size=3,
            ),
        ),
        max_leaves=8,
    )  # fmt: skip
    arrays, description = hostile.whole()
    inside = description
    while True:  # walk to a random place, and put something else there
        keys = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(inside[key], dict | list) or not inside[key] or data.draw(st.booleans()):
            inside[key] = data.draw(json_values)
            break
        inside = inside[key]
    path = tmp_path_factory.getbasetemp() / "random.safetensors"
    path.write_bytes(hostile.sealed(arrays, description))
    try:
        loaded = mc.load(path)
    except mc.CheckpointError as error:
        assert path.name in str(error) and len(str(error)) < 5000
        return
    x = np.zeros((2, *loaded.input_shape), "uint8")
    assert np.isfinite(mc.predict(loaded, x)).all()  # what is loaded can be used


def same_as_the_good_one(path):
    try:
        loaded = mc.load(path)
    except mc.CheckpointError as error:
        assert path.name in str(error) and len(str(error)) < 5000
        return
    assert loaded.config() == hostile.model().config()
    for name, array in {**hostile.model().params, **hostile.model().state}.items():
        np.testing.assert_array_equal({**loaded.params, **loaded.state}[name], array)
