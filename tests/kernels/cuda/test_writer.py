"""What a writer takes, and what it refuses with a word that helps."""

from __future__ import annotations

import emulation
import numpy as np
import pytest

from minicnn.kernels.cuda import module
from minicnn.kernels.cuda.module import KINDS
from minicnn.kernels.cuda.writer import MOST_BLOCKS, Now, Writer


class Kept(Writer):
    """Keeps the calls."""

    def __init__(self, kind):
        super().__init__(kind)
        self.calls = []

    def call(self, function, *arguments):
        self.calls.append((function, arguments))


def test_dtypes_of_a_kind():
    assert [(str(Now(k).dtype), str(Now(k).acc_dtype)) for k in KINDS] == [
        ("float32", "float32"),
        ("float64", "float64"),
        ("float16", "float32"),
        ("uint16", "float32"),
    ]
    with pytest.raises(ValueError, match="storage type 'half': expected one of float32, float64"):
        Now("half")
    with pytest.raises(ValueError, match="storage type 'int8': expected one of"):
        module.compile("int8")


@pytest.mark.parametrize("kind", KINDS)
def test_new_array_has_the_storage_type(cupy, kind):
    s = Now(kind)
    assert s.new((2, 3)).dtype == s.dtype and s.new([4], np.int64).dtype == np.int64
    assert s.new((2, 3)).shape == (2, 3)
    s.free(s.new((1,)), None)


def test_parameters_are_read_from_the_sources():
    found = module.parameters("bfloat16")
    assert found["round_elements"] == (
        ("master", np.dtype("float32"), True),
        ("copy", np.dtype("uint16"), True),
        ("n", np.dtype("int64"), False),
    )
    assert module.parameters("float64")["fill_sums"][1] == ("value", np.dtype("float64"), False)
    with pytest.raises(ValueError, match="'half' isn't a type of"):
        module.parameter("float32", "const half* x")


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_those_of_the_compiler(standin, kind):
    library = module.compile(kind)
    library.compile()
    for name, declared in module.parameters(kind).items():
        sizes = [
            ("p" if is_array else "f" if dtype.kind == "f" else "i", dtype and dtype.itemsize)
            for _, dtype, is_array in declared
        ]
        expected = tuple(f"{letter}{size or 0}" for letter, size in sizes)
        assert library.library.signature(name) == expected, name
    assert set(library.library.names) == set(module.parameters(kind))


def test_launch_packs_its_arguments(cupy):
    s, x = Kept("float64"), cupy.ones((5000,))
    s.launch("fill_elements", x.size, x, 3, x.size)
    s.launch("fill_elements", 10**9, x, 3, x.size, block=128)
    s.launch("fill_elements", 0, x, 3, 0)
    s.launch("fill_elements", 1, x, 3, x.size, grid=(3, 2), shared=100)
    shapes = [arguments[:2] for _, arguments in s.calls]
    assert shapes == [
        ((20, 1, 1), (256, 1, 1)),
        ((MOST_BLOCKS, 1, 1), (128, 1, 1)),
        ((3, 2, 1), (256, 1, 1)),
    ]
    assert s.calls[-1][1][3] == 100
    array, value, size = s.calls[0][1][2]
    assert array is x and type(value) is np.float64 and type(size) is np.int64
    for function, arguments in s.calls[:1]:
        function(*arguments)
    assert (x.get() == 3).all()


def test_launch_says_what_is_wrong(cupy):
    s, x = Now("float32"), cupy.ones((6,), dtype="float32")
    launch = s.launch
    for error, text, arguments in [
        (ValueError, "no kernel 'nothing'; there are .*copy_elements", ("nothing", 6, x)),
        (TypeError, r"copy_elements\(x, y, n\): got 2 arguments", ("copy_elements", 6, x, x)),
        (TypeError, "y must be float32, got float64", ("copy_elements", 6, x, cupy.ones(6), 6)),
        (ValueError, "x isn't C-contiguous", ("copy_elements", 3, x[::2], x, 3)),
        (TypeError, "must be an array on the GPU", ("copy_elements", 6, x, np.ones(6), 6)),
        (TypeError, "must be an array on the GPU", ("copy_elements", 6, x, 5, 6)),
        (TypeError, "n must be a whole number", ("copy_elements", 6, x, x, 6.5)),
        (TypeError, "n must be a number", ("copy_elements", 6, x, x, x)),
        (TypeError, "n must be a number", ("copy_elements", 6, x, x, "6")),
        (OverflowError, "too large for int64", ("copy_elements", 6, x, x, 2**63)),
    ]:
        with pytest.raises(error, match=text):
            launch(*arguments)


def test_null_pointer(cupy):
    s, w = Now("float32"), cupy.ones((4,), dtype="float32")
    s.launch("decay_step", 4, w, None, None, None, 0.25, 4)
    np.testing.assert_array_equal(w.get(), 0.75)


def test_writing_beyond_an_array_is_seen(standin):
    s = Now("float32")
    x = s.new((40,))
    with pytest.raises(emulation.KernelError, match="fill_elements writes behind its array"):
        s.launch("fill_elements", 41, x, 1, 41)
    whole = standin.zeros((60,), dtype="float32")
    with pytest.raises(emulation.KernelError, match="fill_elements writes behind"):
        s.launch("fill_elements", 41, whole[20:], 1, 41)


def test_a_module_is_compiled_once(standin):
    assert module.compile("float32") is module.compile("float32")
    first = module.kernel("float32", "copy_elements")
    assert module.kernel("float32", "copy_elements") is first
    with standin.cuda.Device(1):
        assert module.compile("float32") is not module.functions  # one for each device
        assert module.kernel("float32", "copy_elements") is not first


def test_much_shared_memory_is_asked_for(standin):
    s, x = Now("float32"), standin.ones((4,), dtype="float32")
    s.launch("fill_elements", 4, x, 1, 4, shared=100 << 10)
    with pytest.raises(RuntimeError, match="INVALID_VALUE"):
        s.launch("fill_elements", 4, x, 1, 4, shared=300 << 10)
