"""speedrun94's own: its first layer is set from pictures."""

from __future__ import annotations

import numpy as np
import pytest

import minicnn as mc
from minicnn.backend import to_numpy
from minicnn.functional.windows import im2col


def pictures(N=150, seed=0):
    """Return smooth pictures: neighbours and colours go together, as in photographs."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (N, 9, 9, 3)) + rng.uniform(-60, 60, (N, 9, 9, 1))
    x = coarse.repeat(4, axis=1).repeat(4, axis=2)[:, :32, :32]
    return np.clip(x + rng.normal(0, 8, x.shape), 0, 255).astype("uint8")


def narrow(**options):
    return mc.models.speedrun94(widths=(4, 8, 8)).build((32, 32, 3), **options)


def test_whiten_leaves_outputs_uncorrelated_and_of_one_size():
    model, x = narrow(dtype="float64"), pictures()
    mc.models.whiten(model, x, eps=1e-9)
    y = model["whiten"].infer(model[0].infer(x)).reshape(-1, 24)  # its bias is zero
    np.testing.assert_allclose(y[:, :12].T @ y[:, :12] / len(y), np.eye(12), atol=1e-6)
    np.testing.assert_array_equal(y[:, 12:], -y[:, :12])


def test_whiten_weakens_what_hardly_varies():
    """By the formula, from the patches one after the other, the largest variance first."""
    model, x = narrow(dtype="float64"), pictures()
    before = {name: w.copy() for name, w in model.params.items()}
    mc.models.whiten(model, x)
    patches = im2col(model[0].infer(x), 2).reshape(-1, 12)
    moment = sum(np.outer(p, p) for p in patches[::50]) / len(patches[::50])
    w = model.params["whiten/w"].reshape(12, 24)[:, :12]
    sizes = 1 / (w * w).sum(0) - 5e-4  # the eigenvectors have length 1
    assert (np.diff(sizes) < 0).all()
    np.testing.assert_allclose(sizes[:4], np.linalg.eigvalsh(moment)[::-1][:4], rtol=0.1)
    exact = patches.T @ patches / len(patches)
    np.testing.assert_allclose(exact @ w, w * sizes, atol=1e-9 * abs(w).max())
    changed = {name for name, value in model.params.items() if (value != before[name]).any()}
    assert changed == {"whiten/w"}


def test_whiten_looks_at_the_first_pictures_only():
    models, x = [narrow(), narrow(), narrow()], pictures()
    mc.models.whiten(models[0], x, pictures=100)
    mc.models.whiten(models[1], x[:100])
    mc.models.whiten(models[2], x)
    first, second, third = (model.params["whiten/w"] for model in models)
    np.testing.assert_array_equal(first, second)
    assert (first != third).any()


def test_whiten_on_a_gpu_is_the_same(cupy):
    x, cpu, gpu = pictures(100), narrow(), narrow(device="gpu")
    for model, given in ((cpu, x), (gpu, x)):
        mc.models.whiten(model, given)
    w = to_numpy(gpu.params["whiten/w"])
    np.testing.assert_allclose(w, cpu.params["whiten/w"], rtol=1e-3, atol=1e-4 * abs(w).max())
    mc.models.whiten(gpu, cupy.asarray(x))
    np.testing.assert_array_equal(to_numpy(gpu.params["whiten/w"]), w)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: mc.models.tutorial_cnn(), r'Conv2D\(..., name="whiten"\).*has normalize_1, conv'),
        (lambda: mc.Sequential(mc.Dense(3, name="whiten")), "this one has whiten"),
        (lambda: mc.Sequential(mc.Conv2D(23, 2, name="whiten")), "patches of 12 .*expected 24 fil"),
        (lambda: mc.Sequential(mc.Conv2D(24, 2, 2, name="whiten")), "by steps of 1"),
        (lambda: mc.Sequential(mc.Conv2D(24, 2, name="whiten")), "whiten: 99 pictures: expected"),
    ],
)
def test_whiten_refuses(make, text):
    model, x = make(), pictures(99)
    shape = (3,) if isinstance(model[0], mc.Dense) else (32, 32, 3)
    with pytest.raises(ValueError, match=text):
        mc.models.whiten(model.build(shape), x)


def test_whiten_wants_a_model_that_is_built_and_its_pictures():
    with pytest.raises(RuntimeError, match="isn't built"):
        mc.models.whiten(mc.models.speedrun94(), pictures(100))
    with pytest.raises(mc.ShapeError, match="another picture size"):
        mc.models.whiten(narrow(), pictures(100)[:, :28])
    with pytest.raises(ValueError, match="pictures 50: expected an integer >= 100"):
        mc.models.whiten(narrow(), pictures(100), pictures=50)


@pytest.mark.parametrize("widths", [(64, 256), (64, 0, 2), "abc", 64, None])
def test_speedrun94_refuses_widths(widths):
    with pytest.raises(ValueError, match="speedrun94: widths"):
        mc.models.speedrun94(widths=widths)
