"""Grad-CAM, saliency and feature maps beside PyTorch's own gradients, with copied weights."""

from __future__ import annotations

import numpy as np
import pytest

from minicnn import explain

from .nets import NETS, pictures, settled

torch = pytest.importorskip("torch", exc_type=ImportError)

from benchmarks.peers.torch_twin import copy_weights, twin  # noqa: E402

pytestmark = pytest.mark.torch

# Where to look: our layer's name, None for the default, and its place in PyTorch's modules, which
# have no Normalize.
PLACES = {
    "plain": [(None, "7"), ("last_conv", "4"), ("batchnorm_1", "1"), ("maxpool2d_1", "3")],
    "residual": [
        (None, "6"),
        ("residual_1", "2"),
        ("residual_1/body/relu_1", "2.body.2"),
        ("residual_2/shortcut/conv2d_1", "4.shortcut.0"),
        ("concat_1/branch_1/conv2d_1", "6.branches.0.0"),
    ],
}
CASES = [(name, *place) for name in NETS for place in PLACES[name]]


@pytest.fixture(autouse=True)
def one_thread():
    """Let PyTorch work alone: for networks this small, its threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pair(name):
    model = settled(NETS[name]())
    config = model.config()
    module = twin(config, model.input_shape).double().eval()
    copy_weights(module, list(model.params.values()))
    norms = [m for m in module.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    state = [v for key, v in model.state.items() if "running" in key]
    for norm, mean, var in zip(norms, state[::2], state[1::2], strict=True):
        norm.running_mean[...] = torch.from_numpy(mean)
        norm.running_var[...] = torch.from_numpy(var)
    for part in module.modules():
        if isinstance(part, torch.nn.ReLU):
            part.inplace = False  # what stands before it is looked at
    return model, module


def prepared(model, x):
    floats = torch.from_numpy(model.first_leaf().infer(x)).permute(0, 3, 1, 2)
    return floats.contiguous().requires_grad_(True)


def score(module, x, target):
    y = module(x)
    classes = y.argmax(1) if target is None else torch.as_tensor(target).expand(len(x))
    return y.gather(1, classes[:, None]).sum()


@pytest.mark.parametrize("target", [None, 2, [3, 0, 1, 1, 2]], ids=["said", "one", "each"])
@pytest.mark.parametrize(("name", "layer", "place"), CASES)
def test_grad_cam_is_pytorchs(name, layer, place, target):
    (model, module), x = pair(name), pictures()
    kept = {}

    def keep(part, inputs, output):
        output.retain_grad()
        kept["A"] = output

    module.get_submodule(place).register_forward_hook(keep)
    score(module, prepared(model, x), target).backward()
    A, dA = kept["A"].detach(), kept["A"].grad
    maps = torch.relu((dA.mean((2, 3), keepdim=True) * A).sum(1, keepdim=True))
    maps = torch.nn.functional.interpolate(maps, x.shape[1:3], mode="bilinear")[:, 0]
    top = maps.amax((1, 2), keepdim=True)
    expected = (maps / torch.where(top > 0, top, 1.0)).numpy()
    found = explain.grad_cam(model, x, target, layer, batch_size=2)
    assert found.shape == x.shape[:3] and found.dtype == np.float32
    assert (expected.max((1, 2)) == 1).sum() >= 2, "nothing to compare"
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("target", [None, 2, [3, 0, 1, 1, 2]], ids=["said", "one", "each"])
@pytest.mark.parametrize("name", NETS)
def test_saliency_is_pytorchs(name, target):
    (model, module), x = pair(name), pictures()
    floats = prepared(model, x)
    score(module, floats, target).backward()
    found = explain.saliency(model, x, target, batch_size=2)
    np.testing.assert_allclose(found, floats.grad.abs().amax(1).numpy(), rtol=1e-6, atol=1e-9)
    assert found.min((1, 2)).max() < found.max((1, 2)).min()


@pytest.mark.parametrize(("name", "layer", "place"), CASES)
def test_feature_maps_are_pytorchs(name, layer, place):
    (model, module), x = pair(name), pictures()
    kept = []
    module.get_submodule(place).register_forward_hook(lambda part, inputs, y: kept.append(y))
    module(prepared(model, x))
    found = explain.feature_maps(model, x, layer, batch_size=2)
    expected = kept[0].detach().permute(0, 2, 3, 1).numpy()
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
