from __future__ import annotations

import numpy as np
import pytest

from minicnn import initializers

RANDOM = sorted(set(initializers.INITIALIZERS) - {"zeros", "ones"})
SHAPES = [(300, 200), (3, 5, 40, 60)]


def draw(name, shape, seed=0):
    return initializers.get(name)(np.random.default_rng(seed), shape)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((7, 5), (7, 5)), ((3, 2, 4, 10), (24, 60)), ((1, 1, 4, 8), (4, 8)), ((5, 4, 6), (20, 30))],
)
def test_fans(shape, expected):
    assert initializers.fans(shape) == expected


@pytest.mark.parametrize("name", sorted(set(RANDOM)))
def test_biases_have_no_fans(name):
    with pytest.raises(ValueError, match=r"shape \(5,\) has no fans: use 'zeros' or 'ones'"):
        draw(name, (5,))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("name", "variance"),
    [
        ("glorot_uniform", lambda i, o: 2 / (i + o)),
        ("glorot_normal", lambda i, o: 2 / (i + o)),
        ("he_uniform", lambda i, o: 2 / i),
        ("he_normal", lambda i, o: 2 / i),
        ("lecun_uniform", lambda i, o: 1 / i),
        ("lecun_normal", lambda i, o: 1 / i),
    ],
)
def test_initializer_variance_and_form(name, variance, shape):
    taps = int(np.prod(shape[:-2]))
    wanted = variance(taps * shape[-2], taps * shape[-1])
    w = draw(name, shape)
    assert w.shape == shape and w.dtype == np.float64
    assert abs(w.mean()) < 5 * np.sqrt(wanted / w.size)
    assert w.var() == pytest.approx(wanted, rel=0.05)
    kurtosis = ((w / w.std()) ** 4).mean()
    assert kurtosis == pytest.approx(1.8 if "uniform" in name else 3.0, abs=0.15)
    if "uniform" in name:
        limit = np.sqrt(3 * wanted)
        assert 0.99 * limit < abs(w).max() <= limit


@pytest.mark.parametrize("shape", [(6, 6), (10, 4), (4, 10), (3, 3, 4, 8), (1, 1, 2, 9)])
def test_orthogonal(shape):
    w = draw("orthogonal", shape)
    assert w.shape == shape
    matrix = w.reshape(-1, shape[-1])
    product = matrix.T @ matrix if matrix.shape[0] >= matrix.shape[1] else matrix @ matrix.T
    np.testing.assert_allclose(product, np.eye(len(product)), atol=1e-12)


def test_orthogonal_takes_every_rotation_alike():
    first = [draw("orthogonal", (4, 4), seed)[0, 0] for seed in range(400)]
    assert abs(np.mean(first)) < 0.1 and np.var(first) == pytest.approx(1 / 4, rel=0.25)


@pytest.mark.parametrize("shape", [(3, 3, 4, 9), (2, 3, 5, 5), (1, 1, 6, 2), (4, 3), (3, 4)])
def test_dirac_passes_channels_through(shape):
    w = draw("dirac", shape)
    same = min(shape[-2:])
    assert w.shape == shape and w[..., :same].sum() == same
    for c in range(same):
        tap = [size // 2 for size in shape[:-2]]
        assert w[(*tap, c, c)] == 1 and np.count_nonzero(w[..., c]) == 1
    limit = 1 / np.sqrt(np.prod(shape[:-1]))  # PyTorch's
    rest = w[..., same:]
    assert rest.size == 0 or 0.5 * limit < abs(rest).max() <= limit


@pytest.mark.torch
@pytest.mark.parametrize("shape", [(3, 3, 4, 9), (3, 3, 5, 5), (3, 3, 6, 2), (2, 2, 2, 3)])
def test_dirac_is_torchs(shape):
    torch = pytest.importorskip("torch", exc_type=ImportError)
    KH, KW, C, O = shape
    w = torch.zeros(O, C, KH, KW)
    torch.nn.init.dirac_(w[:C])
    same = min(C, O)
    np.testing.assert_array_equal(
        draw("dirac", shape)[..., :same], w.permute(2, 3, 1, 0).numpy()[..., :same]
    )


def test_zeros_and_ones():
    assert not draw("zeros", (2, 3)).any() and (draw("ones", (4,)) == 1).all()


@pytest.mark.parametrize("name", RANDOM)
def test_initializer_follows_the_generator(name):
    np.testing.assert_array_equal(draw(name, (4, 5), 1), draw(name, (4, 5), 1))
    drawn = slice(4 if name == "dirac" else 0, None)  # its first filters are fixed
    assert (draw(name, (4, 5), 1) != draw(name, (4, 5), 2))[:, drawn].all()


def test_get_lists_the_names():
    with pytest.raises(ValueError, match="initializer 'xavier': expected one of zeros, ones, glo"):
        initializers.get("xavier")
