"""Every builder beside the same network in PyTorch, with copied weights, in float64.

The twin is made from ``model.config()``: it says whether our layers compute what PyTorch's do.
That they are the papers' layers in the papers' order is said by `by_hand`, which knows no config.
"""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
import pytest

import minicnn as mc
from minicnn import plan

from .small import SMALL, pictures, settled

torch = pytest.importorskip("torch", exc_type=ImportError)

from benchmarks.peers.torch_twin import copy_weights, gradients, trained, twin  # noqa: E402

from .by_hand import BY_HAND, Weights  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def one_thread():
    """Let PyTorch work alone: for networks this small, its threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pair(name):
    """Return a small network and its twin, with equal weights and statistics, and a batch."""
    model = settled(name, dtype="float64")
    model.trainable = True  # all gradients are compared
    for layer in model.walk():
        if isinstance(layer, mc.Dropout):
            layer.rate = 0.0  # both draw, but not the same
    module = twin(model.config(), model.input_shape).double()
    assert sum(p.numel() for p, _, _ in trained(module)) == model.params.count
    copy_weights(module, list(model.params.values()))
    x = pictures(model.input_shape, 5, seed=3)
    floats = model.first_leaf().infer(x)
    return model, module, x, torch.from_numpy(floats).permute(0, 3, 1, 2)


def close(found, wanted, what, limit=1e-9):
    """Compare arrays by their size; gradients that are zero in theory are noise."""
    size = max(float(np.linalg.norm(wanted)), 1e-3)
    error = float(np.linalg.norm(found - wanted)) / size
    assert found.shape == wanted.shape and error < limit, f"{what}: {error:.1e}"


@pytest.mark.parametrize("name", SMALL)
def test_builder_trains_as_its_twin(name):
    """Layer by layer and by plan: output, every gradient, then the output by running statistics."""
    model, module, x, floats = pair(name)
    planned = copy.deepcopy(model)
    labels = np.arange(len(x)) % 4
    logits = module.train()(floats)
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels))
    loss.backward()
    theirs = gradients(module)
    with torch.no_grad():
        expected = module.eval()(floats).numpy()

    def compare(way, ours, y, value, infer):
        close(y, logits.detach().numpy(), f"{way}: output")
        assert float(value) == pytest.approx(loss.item(), rel=1e-9)
        for (key, dw), their in zip(ours.grads.items(), theirs, strict=True):
            assert np.linalg.norm(their) > 1e-6, f"nothing to compare in {key}"
            close(dw, their, f"{way}: {key}")
        close(infer(x), expected, f"{way}: prediction")

    y = model.forward(x, training=True)
    value, dy = mc.CrossEntropy()(y, labels)
    model.backward(dy)
    compare("layers", model, y, value, model.infer)
    value, y = mc.backpropagate(planned, x, labels)
    compare("plan", planned, y, value, partial(plan.infer, planned))


@pytest.mark.parametrize("name", SMALL)
def test_builder_goes_back_as_its_twin_in_inference(name):
    """Forward without training and back: BatchNorm by its statistics; dx as well."""
    model, module, x, floats = pair(name)
    floats.requires_grad_(True)
    theirs = module.eval()(floats)
    dy = np.random.default_rng(4).standard_normal(theirs.shape)
    theirs.backward(torch.from_numpy(dy))
    close(model.forward(x, training=False), theirs.detach().numpy(), "output")
    dx = model.backward(dy)
    for (key, dw), their in zip(model.grads.items(), gradients(module), strict=True):
        close(dw, their, key)
    std = model.first_leaf().buffers["std"] / model.first_leaf().scale
    close(dx * std, floats.grad.permute(0, 2, 3, 1).numpy(), "dx")


def test_every_builder_is_written_by_hand():
    assert set(BY_HAND) == set(SMALL)


@pytest.mark.parametrize("name", BY_HAND)
def test_builder_is_the_papers_network(name):
    """The output in training, from the formulas; no weight is left over."""
    model, _, x, floats = pair(name)
    weights = Weights(model.params.values())
    theirs = BY_HAND[name](weights, floats)
    assert not list(weights.left)
    close(model.forward(x, training=True), theirs.numpy(), "output")
