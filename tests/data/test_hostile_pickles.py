"""Pickles and folders made to do harm."""

from __future__ import annotations

import os
import pickle
import struct

import numpy as np
import pytest
from hostile import refused

from minicnn.data import cifar10_files as files
from minicnn.data.cifar10 import cifar10
from minicnn.data.errors import DatasetError


def shared(levels: int) -> bytes:
    """A tuple of twice the same tuple of twice the same ...: small, but large to go through."""
    step = b"q\x00h\x00\x86"
    return b")" + step * levels


PICKLES = {
    "global": b"cposix\nsystem\n(U\x0btouch tracetR.",
    "global of python 2": b"c__builtin__\neval\n(U\x011tR.",
    "named on the stack": b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x0btouch trace\x85R.",
    "inside of what is allowed": b"cnumpy\ndtype.__init__.__globals__\n.",
    "numpy's own": b"cnumpy\nload\n(U\x07nowheretR.",
    "inst": b"(U\x0btouch traceiposix\nsystem\n.",
    "obj": b"(cposix\nsystem\nU\x0btouch traceo.",
    "newobj": b"cposix\nsystem\nU\x0btouch trace\x85\x81.",
    "newobj_ex": b"\x80\x04cposix\nsystem\n)}\x92.",
    "extension": b"\x80\x02\x82\x01.",
    "persistent id": b"Pevil\n.",
    "call of a string": b"U\x06system)R.",
    "call of an instance": b"cnumpy\ndtype\n)R)R.",
    "state of a list": b"]}b.",
    "memo bomb": b"]r\xff\xff\xff\xff.",
    "put bomb": b"]p99999999999\n.",
    "string bomb": b"T\xff\xff\xff\x7fabc.",
    "bytes bomb": b"B\xfe\xff\xff\xffabc.",
    "bytes8 bomb": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"abc.",
    "bytearray bomb": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"abc.",
    "frame bomb": b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"N.",
    "integer bomb": b"\x8b\xff\xff\xff\x7f1.",
    "decimal bomb": b"I" + b"9" * 500_000 + b"\n.",
    "name bomb": b"c" + b"a" * 500_000 + b"\nb\n.",
    "steps bomb": b"]" * 2_000_000,
    "marks bomb": b"(" * 2_000_000,
    "deep": b")" + b"\x85" * 50_000 + b".",
    "slow key": b"}" + shared(100) + b"Ns.",
    "slow text": b"}" + shared(100) + b"U\x04dataU\x04data" + b"a.",
    "slow labels": b"}U\x06labels(" + shared(100) + b"lsU\x04datacnumpy\nndarray\n)R"
    b"(NNcnumpy\ndtype\n" + shared(100) + b"\x85RNNtbs.",
    "empty stack": b"0.",
    "no mark": b"Nt.",
    "no memo": b"h\x07.",
    "odd dictionary": b"(U\x01ad.",
    "nothing to stop at": b"N",
    "self": b"]q\x00h\x00a.",
}


@pytest.mark.parametrize("data", PICKLES.values(), ids=PICKLES)
def test_cifar10_refuses_hostile_pickles(small, data):
    path = small.paths["python folder"] / "data_batch_2"
    path.write_bytes(data)
    with refused(
        path, "no whole pickle|was not run|CIFAR-10's pickles don't have|expected|more than"
    ):
        cifar10(path.parent)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_cifar10_refuses_what_reduces_to_a_call(small, protocol):
    class Gadget:
        def __reduce__(self):
            return os.system, (f"touch {small.root}/trace",)

    path = small.paths["python folder"] / "test_batch"
    path.write_bytes(pickle.dumps({"data": Gadget(), "labels": []}, protocol))
    with refused(path, "was not run|CIFAR-10's pickles don't have"):
        cifar10(path.parent)


@pytest.mark.parametrize(
    "shape", [(20, 3073), (-1,), (0,), (2**62, 2**62), (20, 3072, 1), "text", None]
)
def test_cifar10_refuses_wrong_shapes(small, pickled, shape):
    state = pickle.dumps((1, shape, None, False, b""), 3)
    array = pickled.array(small.pixels[0])
    if isinstance(shape, tuple) and max(map(abs, shape)) < 2**31:
        right = b"(" + b"".join(map(pickled.integer, (20, 3072))) + b"t"
        array = array.replace(right, b"(" + b"".join(map(pickled.integer, shape)) + b"t")
    else:
        array = pickled.call("numpy", "ndarray") + state[2:-1] + b"b"
    path = small.paths["python folder"] / "data_batch_1"
    labels = pickled.labels(small.labels[0].tolist())
    path.write_bytes(pickled.batch(labels=labels, data=array))
    with refused(path, "its array|no whole pickle|CIFAR-10's pickles don't have"):
        cifar10(path.parent)


@pytest.mark.parametrize("protocol", [3, 4])
def test_load_batch_reads_what_python_3_wrote(small, protocol):
    values = {"data": small.pixels[0], b"labels": small.labels[0].tolist(), "more": ["é", True]}
    pixels, labels = files.load_batch(pickle.dumps(values, protocol))
    np.testing.assert_array_equal(pixels, small.pixels[0])
    assert labels == small.labels[0].tolist()


def test_load_batch_survives_any_change_of_a_byte(small):
    """Flipped, lost or doubled bytes give an array of the same bytes or a clear error."""
    whole = (small.paths["python folder"] / "data_batch_1").read_bytes()
    rng = np.random.default_rng(0)
    heads = [k for k in range(len(whole)) if k < 400 or k > len(whole) - 900]
    for place in rng.choice(heads, 400):
        for data in (
            whole[:place] + bytes([rng.integers(256)]) + whole[place + 1 :],
            whole[:place] + whole[place + 1 :],
            whole[:place] + whole[place : place + 1] + whole[place:],
        ):
            try:
                files.parse_python(data)
            except DatasetError as error:
                assert len(str(error)) < 1000


# Folders.


@pytest.mark.parametrize("name", ["data_batch_1", "test_batch"])
def test_cifar10_reads_no_pipe_and_no_device(small, name):
    path = small.paths["python folder"] / name
    path.unlink()
    os.mkfifo(path)
    with refused(path, "isn't a plain file"):
        cifar10(path.parent)
    path.unlink()
    os.symlink("/dev/zero", path)
    with refused(path, "isn't a plain file"):
        cifar10(path.parent)
