from __future__ import annotations

import json
import re

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import minicnn as mc


def net():
    return mc.Sequential(
        mc.Normalize((0.4, 0.5, 0.6), (0.2, 0.3, 0.4)),
        mc.Conv2D(4, 3, kernel_regularizer=mc.L2(1e-3)),
        mc.BatchNorm(0.5),
        mc.Residual([mc.Conv2D(4, 1), mc.ReLU()]),
        mc.Concat([mc.GELU(), [mc.Conv2D(2, 1), mc.BatchNorm()]]),
        mc.Flatten(),
        mc.Dropout(0.5),
        mc.Dense(3, name="head"),
    )


def trained(dtype="float32"):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (12, 6, 5, 3)).astype("uint8"), rng.integers(0, 3, 12)
    model = net().build((6, 5, 3), seed=4, dtype=dtype)
    optimizer = mc.Adam(0.01)
    for _ in range(3):
        mc.train_step(model, optimizer, x, y)
    return model, x


def rewrite(path, change):
    """Save a model's file again, its arrays and its header changed."""
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    header = json.loads(metadata["minicnn"])
    change(arrays, header)
    save_file(arrays, path, metadata={"minicnn": json.dumps(header)})


@pytest.fixture
def path(tmp_path):
    return mc.save(trained()[0], tmp_path / "model.safetensors")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_load_gives_back_every_bit(tmp_path, dtype):
    model, x = trained(dtype)
    model.classes = ("cat", "dog", "Übergröße")
    path = mc.save(model, tmp_path / "model.safetensors")
    loaded = mc.load(path)
    assert loaded.dtype == dtype and loaded.input_shape == (6, 5, 3)
    assert loaded.classes == model.classes
    assert list(loaded.params) == list(model.params) and list(loaded.state) == list(model.state)
    assert len(loaded.state) == 6
    for ours, theirs in ((model.params, loaded.params), (model.state, loaded.state)):
        for name, array in ours.items():
            assert theirs[name].dtype == array.dtype
            np.testing.assert_array_equal(theirs[name], array)
    np.testing.assert_array_equal(mc.predict(loaded, x), mc.predict(model, x))
    assert loaded.config() == json.loads(json.dumps(model.config())) or (
        json.dumps(loaded.config()) == json.dumps(model.config())
    )


def test_loaded_model_trains_on(tmp_path):
    model, x = trained()
    loaded = mc.load(mc.save(model, tmp_path / "m"))
    before = loaded.params.data.copy()
    mc.train_step(loaded, mc.Adam(0.01), x, np.zeros(12, int))
    assert (loaded.params.data != before).any()
    for name, view in loaded.params.items():
        assert np.shares_memory(view, loaded.params.data), name


def test_save_makes_the_folder_and_returns_the_path(tmp_path):
    path = mc.save(trained()[0], str(tmp_path / "new" / "model.safetensors"))
    assert path == tmp_path / "new" / "model.safetensors" and path.is_file()
    assert [p.name for p in path.parent.iterdir()] == ["model.safetensors"]


def test_save_holds_what_the_model_holds_and_no_code(path):
    with safe_open(path, framework="numpy") as file:
        model, _ = trained()
        assert sorted(file.keys()) == sorted([*model.params, *model.state])
        header = json.loads(file.metadata()["minicnn"])
    assert sorted(header) == [
        "architecture", "classes", "dtype", "input_shape", "sha256", "version",
    ]  # fmt: skip


# Whole or not at all.


@pytest.mark.parametrize("where", ["safetensors.numpy.save_file", "os.replace"])
def test_error_while_saving_leaves_the_old_file(path, monkeypatch, where):
    old = path.read_bytes()

    def fail(*args, **options):
        if where.endswith("save_file"):
            args[1].write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(where, fail)
    model, _ = trained("float64")
    with pytest.raises(OSError, match="No space left"):
        mc.save(model, path)
    assert path.read_bytes() == old
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_save_never_shows_half_a_file(path, monkeypatch):
    old, seen = path.read_bytes(), []
    import safetensors.numpy

    def watching(arrays, target, **options):
        save_file(arrays, target, **options)
        seen.append((target, path.read_bytes() == old))

    monkeypatch.setattr(safetensors.numpy, "save_file", watching)
    mc.save(trained("float64")[0], path)
    [(part, old_was_there)] = seen
    assert part.suffix == ".part" and part.parent == path.parent and old_was_there
    assert path.read_bytes() != old and [*path.parent.iterdir()] == [path]


# What can't be loaded names the file and the reason.


def refused(path, text):
    with pytest.raises(mc.CheckpointError, match=text) as caught:
        mc.load(path)
    assert str(path) in str(caught.value)


def test_load_refuses_a_missing_file(tmp_path):
    refused(tmp_path / "nothing.safetensors", "there is no such file")
    refused(tmp_path, "there is no such file")


@pytest.mark.parametrize("cut", [0, 4, 100, -1])
def test_load_refuses_a_cut_file(path, cut):
    path.write_bytes(path.read_bytes()[:cut])
    refused(path, r"isn't a whole safetensors file \(")


@pytest.mark.parametrize("content", [b"PK\x03\x04" + bytes(100), b"\xff" * 100, b"\x80\x04K\x01."])
def test_load_refuses_a_foreign_file(path, content):
    path.write_bytes(content)
    refused(path, "isn't a whole safetensors file")


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_load_refuses_arrays_of_others(path, metadata):
    save_file({"a": np.ones(3)}, path, metadata=metadata)
    refused(path, "holds arrays, but no minicnn model")


@pytest.mark.parametrize("text", ["{", "[]", "3", "{}"])
def test_load_refuses_a_broken_header(path, text):
    save_file({"a": np.ones(3)}, path, metadata={"minicnn": text})
    refused(path, "its description of the model is broken")


def edit(key, value):
    return lambda arrays, header: header.update({key: value})


def conv(**options):
    return lambda arrays, header: header["architecture"]["layers"][1].update(options)


def layers(change):
    return lambda arrays, header: change(header["architecture"]["layers"])


def stored(change):
    return lambda arrays, header: change(arrays)


MISFITS = {
    "version": (
        edit("version", 99),
        "has format version 99, this minicnn reads up to 1: update minicnn",
    ),
    "dtype": (edit("dtype", "float16"), "can't be built: its dtype is 'float16'"),
    "dtype_null": (edit("dtype", None), "can't be built"),
    "dtype_unknown": (edit("dtype", "nonsense"), "can't be built"),
    "shape": (edit("input_shape", [6, 5, 4]), "can't be built|don't fit"),
    "shape_empty": (edit("input_shape", []), "can't be built: input_shape"),
    "shape_null": (edit("input_shape", None), "can't be built"),
    "shape_gone": (lambda a, h: h.pop("input_shape"), "can't be built: KeyError: 'input_shape'"),
    "classes": (edit("classes", 3), "can't be built"),
    "no_model": (edit("architecture", None), "can't be built: unknown layer type None"),
    "no_sequential": (edit("architecture", {"type": "ReLU"}), "can't be built"),
    "code": (edit("architecture", {"type": "os.system"}), "unknown layer type 'os.system'"),
    "unknown_type": (layers(lambda x: x.append({"type": "Magic"})), "unknown layer type 'Magic'"),
    "no_layer": (layers(lambda x: x.append(3)), "unknown layer type 3"),
    "no_layers": (edit("architecture", {"type": "Sequential", "layers": 3}), "can't be built"),
    "negative": (conv(filters=-1), "Conv2D: filters -1"),
    "text": (conv(filters="4"), "Conv2D: filters '4'"),
    "unknown_option": (conv(colour=1), "layer Conv2D: .*'colour'"),
    "no_penalty": (conv(kernel_regularizer=3), "can't be built"),
    "layer_gone": (layers(list.pop), r"unknown: head/b \(3,\)"),
    "weight_gone": (stored(lambda a: a.pop("head/w")), r"missing: head/w \(\d+, 3\)"),
    "state_gone": (stored(lambda a: a.pop("batchnorm_1/running_mean")), "missing: batchnorm_1/run"),
    "reshaped": (
        stored(lambda a: a.update({"head/b": np.ones((3, 1))})),
        r"head/b: the file has \(3, 1\), the model \(3,\)",
    ),
    "extra": (stored(lambda a: a.update(extra=np.ones(2))), r"unknown: extra \(2,\)"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_load_refuses_what_doesnt_fit(path, name):
    change, text = MISFITS[name]
    rewrite(path, change)
    refused(path, text)


def test_load_passes_on_a_device_error(path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(mc.DeviceError, match="CuPy isn't installed"):
        mc.load(path, device="gpu")
    assert mc.load(path, device="auto").device.kind == "cpu"


# Own layers.


class Double(mc.Layer):
    def forward(self, x, training=False):
        self.cache = ()
        return x * 2

    def backward(self, dy):
        self.take_cache()
        return dy * 2


def test_own_layers_are_given_by_name(tmp_path):
    model = mc.Sequential(mc.Residual([Double()]), mc.Dense(2)).build((3,))
    path = mc.save(model, tmp_path / "m.safetensors")
    refused(path, re.escape("unknown layer type 'Double': expected one of AveragePool2D"))
    loaded = mc.load(path, own={"Double": Double})
    x = np.ones((2, 3), "float32")
    np.testing.assert_array_equal(loaded.forward(x), model.forward(x))
