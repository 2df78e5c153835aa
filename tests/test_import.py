from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import minicnn as mc

ROOT = Path(mc.__file__).parents[1]
OPTIONAL = [
    "cupy", "matplotlib", "PIL", "torch", "safetensors", "tqdm", "sklearn", "scipy", "tensorflow",
    "jax", "onnx", "h5py", "optuna", "starlette", "uvicorn", "mpi4py", "threadpoolctl", "pytest",
]  # fmt: skip
PROMISED = [
    "datasets.cifar10", "models.tutorial_cnn", "Sequential.build", "Sequential.forward",
    "Sequential.backward", "Sequential.summary", "fit", "train_step", "evaluate", "predict", "save",
    "load", "Adam", "SGD", "gradcheck.check_function", "gradcheck.check_layer",
    "gradcheck.check_model",
]  # fmt: skip


def run(code):
    """Run code in a fresh interpreter and return what it prints."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_import_is_quick():
    code = (
        "import time, numpy; numpy.random; t = time.perf_counter(); import minicnn; "
        "print(time.perf_counter() - t)"
    )
    assert statistics.median(float(run(code)) for _ in range(15)) < 0.3


def test_import_loads_nothing_optional():
    code = f"import sys, minicnn; print([n for n in {OPTIONAL} if n in sys.modules])"
    assert run(code).strip() == "[]"


@pytest.mark.parametrize("flags", [["-W", "error"], ["-O"], ["-I"]])
def test_import_is_silent(flags):
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import minicnn; minicnn.fit"
    result = subprocess.run([sys.executable, *flags, "-c", code], capture_output=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")


def test_import_changes_no_global_state():
    code = (
        "import numpy, warnings;"
        "a = numpy.geterr(), numpy.get_printoptions(), len(warnings.filters);"
        "numpy.random.seed(0); import minicnn; b = numpy.random.rand(); numpy.random.seed(0);"
        "print(a == (numpy.geterr(), numpy.get_printoptions(), len(warnings.filters)),"
        "b == numpy.random.rand())"
    )
    assert run(code).split() == ["True", "True"]


def test_public_names_exist():
    assert len(set(mc.__all__)) == len(mc.__all__)
    for name in mc.__all__:
        assert getattr(mc, name) is not None


@pytest.mark.parametrize("name", PROMISED)
def test_promised_names_exist(name):
    thing = mc
    for part in name.split("."):
        thing = getattr(thing, part)
    assert callable(thing) and thing.__doc__


def test_version_is_that_of_the_package():
    project = ROOT / "pyproject.toml"
    if not project.is_file():
        pytest.skip("not a source tree")
    assert f'version = "{mc.__version__}"' in project.read_text(encoding="utf-8")
