"""The book and what stands on it, compared with PyTorch in float64."""

from __future__ import annotations

import numpy as np
import pytest

import minicnn as mc
from minicnn.functional import activation, conv, loss, norm, pool
from minicnn.layers.norm import CIFAR10_MEAN, CIFAR10_STD

from .test_conv import CASES as CONV_CASES
from .test_pool import CASES as POOL_CASES
from .test_pool import spaced

torch = pytest.importorskip("torch")
F = torch.nn.functional
pytestmark = pytest.mark.torch

CLOSE = {"rtol": 1e-10, "atol": 1e-12}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def leaf(array):
    return torch.tensor(np.asarray(array, "float64"), requires_grad=True)


def nchw(x):
    """Pictures or filters to PyTorch's order."""
    return x.permute(0, 3, 1, 2)


def oihw(w):
    return w.permute(3, 2, 0, 1)


def nhwc(y):
    return y.permute(0, 2, 3, 1)


def two(value):
    return (value, value) if isinstance(value, int) else tuple(value)


def padded(x, padding, value=0.0):
    """Pad NCHW by four margins; only what PyTorch can't be told otherwise."""
    (top, bottom), (left, right) = (two(p) for p in two(padding))
    return F.pad(x, (left, right, top, bottom), value=value)


def compare(ours, theirs, **limits):
    np.testing.assert_allclose(ours, theirs.detach().numpy(), **(CLOSE | limits))


def compare_gradients(rng, y, ours, theirs, leaves):
    """Send one random dy through both; ``ours`` maps it to our gradients."""
    dy = rng.standard_normal(y.shape)
    theirs.backward(torch.tensor(dy))
    grads = ours(dy)
    for grad, tensor in zip(grads if isinstance(grads, tuple) else (grads,), leaves, strict=True):
        compare(grad, tensor.grad)


@pytest.mark.parametrize(
    "case", [name for name, c in CONV_CASES.items() if c[2].get("padding") != "same"]
)
def test_conv2d_matches_torch(rng, case):
    x_shape, w_shape, options = CONV_CASES[case]
    arrays = [rng.standard_normal(shape) for shape in (x_shape, w_shape, w_shape[3:])]
    x, w, b = map(leaf, arrays)
    padding = options.get("padding", 0)
    theirs = nhwc(
        F.conv2d(
            padded(nchw(x), padding),
            oihw(w),
            b,
            stride=options.get("stride", 1),
            dilation=options.get("dilation", 1),
            groups=options.get("groups", 1),
        )
    )
    y, cache = conv.conv2d_forward(*arrays, **options)
    compare(y, theirs)
    compare_gradients(rng, y, lambda dy: conv.conv2d_backward(dy, cache), theirs, (x, w, b))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("size", [(3, 3), (2, 4), (1, 5)])
@pytest.mark.parametrize("dilation", [1, (2, 1)])
def test_conv2d_same_matches_torch_at_stride_one(rng, size, dilation):
    arrays = [rng.standard_normal(s) for s in ((2, 6, 7, 3), (*size, 3, 4), (4,))]
    x, w, b = map(leaf, arrays)
    theirs = nhwc(F.conv2d(nchw(x), oihw(w), b, padding="same", dilation=dilation))
    y, cache = conv.conv2d_forward(*arrays, padding="same", dilation=dilation)
    compare(y, theirs)
    compare_gradients(rng, y, lambda dy: conv.conv2d_backward(dy, cache), theirs, (x, w, b))


def torchs(options):
    """Whether PyTorch's pooling has this padding: symmetric, at most half a window."""
    padding = options.get("padding", 0)
    if padding == "same" or not all(isinstance(p, int) for p in two(padding)):
        return False
    return all(2 * p <= k for p, k in zip(two(padding), two(options["size"]), strict=True))


TORCH_POOL_CASES = [name for name, (_, options) in POOL_CASES.items() if torchs(options)]


@pytest.mark.parametrize("case", TORCH_POOL_CASES)
def test_maxpool2d_matches_torch(rng, case):
    shape, options = POOL_CASES[case]
    array = spaced(rng, shape, shift=-3)
    x = leaf(array)
    theirs = nhwc(
        F.max_pool2d(nchw(x), options["size"], options.get("stride"), options.get("padding", 0))
    )
    y, cache = pool.maxpool2d_forward(array, **options)
    compare(y, theirs)
    compare_gradients(rng, y, lambda dy: pool.maxpool2d_backward(dy, cache), theirs, [x])


def test_maxpool2d_ties_match_torch(rng):
    array = rng.integers(0, 3, (2, 6, 6, 3)).astype("float64")  # many ties
    x = leaf(array)
    theirs = nhwc(F.max_pool2d(nchw(x), 3, 2, 1))
    y, cache = pool.maxpool2d_forward(array, 3, 2, 1)
    compare(y, theirs)
    compare_gradients(rng, y, lambda dy: pool.maxpool2d_backward(dy, cache), theirs, [x])


@pytest.mark.parametrize("count_padding", [False, True])
@pytest.mark.parametrize("case", TORCH_POOL_CASES)
def test_averagepool2d_matches_torch(rng, case, count_padding):
    shape, options = POOL_CASES[case]
    array = rng.standard_normal(shape)
    x = leaf(array)
    place = options["size"], options.get("stride"), options.get("padding", 0)
    theirs = nhwc(F.avg_pool2d(nchw(x), *place, count_include_pad=count_padding))
    y, cache = pool.averagepool2d_forward(array, **options, count_padding=count_padding)
    compare(y, theirs)
    compare_gradients(rng, y, lambda dy: pool.averagepool2d_backward(dy, cache), theirs, [x])


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("relu", F.relu),
        ("leaky_relu", lambda x: F.leaky_relu(x, 0.3)),
        ("sigmoid", torch.sigmoid),
        ("tanh", torch.tanh),
        ("silu", F.silu),
        ("gelu", F.gelu),
        ("softmax", lambda x: F.softmax(x, dim=-1)),
    ],
)
def test_activation_matches_torch(rng, name, theirs):
    array = np.concatenate([rng.standard_normal((3, 5)) * 3, np.zeros((1, 5))])
    x = leaf(array)
    y, cache = getattr(activation, f"{name}_forward")(array)
    backward = getattr(activation, f"{name}_backward")
    compare(y, theirs(x))
    compare_gradients(rng, y, lambda dy: backward(dy, cache), theirs(x), [x])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_softmax_cross_entropy_matches_torch(rng, smoothing, weighted):
    """With class weights ours is mean(w[y] * loss); torch divides by the weights' sum."""
    array, labels = rng.standard_normal((6, 4)) * 3, rng.integers(0, 4, 6)
    weight = np.array([0.5, 2.0, 1.0, 0.25]) if weighted else None
    logits = leaf(array)
    each = F.cross_entropy(
        logits, torch.tensor(labels), label_smoothing=smoothing, reduction="none"
    )
    theirs = (each * (torch.tensor(weight)[labels] if weighted else 1)).mean()
    ours, cache = loss.softmax_cross_entropy_forward(array, labels, smoothing, weight)
    compare(ours, theirs)
    theirs.backward()
    compare(loss.softmax_cross_entropy_backward(np.ones(()), cache), logits.grad)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_softmax_cross_entropy_of_distributions_matches_torch(rng, smoothing):
    array, soft = rng.standard_normal((6, 4)), rng.dirichlet(np.ones(4), 6)
    logits = leaf(array)
    theirs = F.cross_entropy(logits, torch.tensor(soft), label_smoothing=smoothing)
    ours, cache = loss.softmax_cross_entropy_forward(array, soft, smoothing)
    compare(ours, theirs)
    theirs.backward()
    compare(loss.softmax_cross_entropy_backward(np.ones(()), cache), logits.grad)


def test_mean_squared_error_matches_torch(rng):
    array, target = rng.standard_normal((2, 4, 3))
    y = leaf(array)
    theirs = F.mse_loss(y, torch.tensor(target))
    ours, cache = loss.mean_squared_error_forward(array, target)
    compare(ours, theirs)
    theirs.backward()
    compare(loss.mean_squared_error_backward(np.ones(()), cache), y.grad)


def test_batchnorm_matches_torch(rng):
    arrays = [rng.standard_normal(s) + 1 for s in ((3, 4, 2, 5), (5,), (5,))]
    x, gamma, beta = map(leaf, arrays)
    theirs = nhwc(F.batch_norm(nchw(x), None, None, gamma, beta, training=True, eps=1e-3))
    y, cache = norm.batchnorm_forward(*arrays, 1e-3)
    compare(y, theirs)
    backward = lambda dy: norm.batchnorm_backward(dy, cache)  # noqa: E731
    compare_gradients(rng, y, backward, theirs, (x, gamma, beta))


@pytest.mark.parametrize("shape", [(3, 4, 5), (5,)])
def test_batchnorm_layer_follows_torch(rng, shape):
    """Three training batches, then inference: running statistics, outputs and gradients."""
    model = mc.Sequential(mc.BatchNorm(momentum=0.8, eps=1e-3)).build(shape, dtype="float64")
    kind = torch.nn.BatchNorm2d if len(shape) == 3 else torch.nn.BatchNorm1d
    twin = kind(5, eps=1e-3, momentum=1 - 0.8, dtype=torch.float64)
    model.params["batchnorm_1/gamma"][...] = gamma = rng.standard_normal(5)
    model.params["batchnorm_1/beta"][...] = beta = rng.standard_normal(5)
    with torch.no_grad():
        twin.weight.copy_(torch.tensor(gamma))
        twin.bias.copy_(torch.tensor(beta))
    for training in (True, True, True, False):
        array = rng.standard_normal((4, *shape)) * 2 + 3
        x = leaf(array)
        twin.train(training).zero_grad()
        theirs = nhwc(twin(nchw(x))) if len(shape) == 3 else twin(x)
        y = model.forward(array, training)
        compare(y, theirs)
        compare_gradients(rng, y, model.backward, theirs, [x])
        compare(model.grads["batchnorm_1/gamma"], twin.weight.grad)
        compare(model.grads["batchnorm_1/beta"], twin.bias.grad)
        compare(model.state["batchnorm_1/running_mean"], twin.running_mean)
        compare(model.state["batchnorm_1/running_var"], twin.running_var)


OPTIMIZERS = {
    "sgd": (lambda lr: mc.SGD(lr), lambda p: torch.optim.SGD(p, 0.05)),
    "sgd, decay": (
        lambda lr: mc.SGD(lr, weight_decay=0.1, decay_all=True),
        lambda p: torch.optim.SGD(p, 0.05, weight_decay=0.1),
    ),
    "momentum": (
        lambda lr: mc.SGD(lr, momentum=0.9, weight_decay=0.1, decay_all=True),
        lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, weight_decay=0.1),
    ),
    "nesterov": (
        lambda lr: mc.SGD(lr, momentum=0.9, nesterov=True),
        lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, nesterov=True),
    ),
    "rmsprop": (
        lambda lr: mc.RMSprop(lr, rho=0.8, eps=1e-3),
        lambda p: torch.optim.RMSprop(p, 0.05, alpha=0.8, eps=1e-3),
    ),
    "adam": (
        lambda lr: mc.Adam(lr, beta1=0.8, beta2=0.95, eps=1e-3),
        lambda p: torch.optim.Adam(p, 0.05, betas=(0.8, 0.95), eps=1e-3),
    ),
    "adam, decay": (
        lambda lr: mc.Adam(lr, weight_decay=0.1, decay_all=True),
        lambda p: torch.optim.Adam(p, 0.05, weight_decay=0.1),
    ),
    "adamw": (
        lambda lr: mc.AdamW(lr, weight_decay=0.3, decay_all=True),
        lambda p: torch.optim.AdamW(p, 0.05, weight_decay=0.3),
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_matches_torch(rng, name):
    """Ten steps of a dense layer on fresh random pictures."""
    ours, theirs = OPTIMIZERS[name]
    model = mc.Sequential(mc.Dense(3)).build((4,), dtype="float64")
    w, b = (leaf(model.params[f"dense_1/{n}"]) for n in "wb")
    optimizer, twin = ours(0.05), theirs([w, b])
    for _ in range(10):
        x, labels = rng.standard_normal((5, 4)), rng.integers(0, 3, 5)
        mc.train_step(model, optimizer, x, labels)
        twin.zero_grad()
        F.cross_entropy(torch.tensor(x) @ w + b, torch.tensor(labels)).backward()
        twin.step()
        compare(model.params["dense_1/w"], w, rtol=1e-9)
        compare(model.params["dense_1/b"], b, rtol=1e-9)


def torch_rates(make, steps):
    optimizer = torch.optim.SGD([leaf([1.0])], 0.5)
    schedule, rates = make(optimizer), []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


@pytest.mark.parametrize("options", [{}, {"rise": 0.1}, {"start": 10.0, "final": 100.0}], ids=str)
@pytest.mark.parametrize("steps", [50, 47])
def test_one_cycle_matches_torch(steps, options):
    rise, start, final = (
        options.get(k, d) for k, d in (("rise", 0.3), ("start", 25.0), ("final", 1e4))
    )
    theirs = torch_rates(
        lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            0.5,
            total_steps=steps,
            pct_start=rise,
            div_factor=start,
            final_div_factor=final,
            cycle_momentum=False,
        ),
        steps - 1,
    )
    ours = mc.schedule.one_cycle(0.5, steps, **options)
    np.testing.assert_allclose([ours(k) for k in range(steps - 1)], theirs, rtol=1e-9)
    assert ours(steps - 1) == pytest.approx(0.5 / start / final, rel=1e-9)


@pytest.mark.parametrize("final", [0.0, 0.01])
def test_cosine_matches_torch(final):
    theirs = torch_rates(
        lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40, final), 41
    )
    ours = mc.schedule.cosine(0.5, 40, final=final)
    np.testing.assert_allclose([ours(k) for k in range(41)], theirs, rtol=1e-9, atol=1e-15)


class Twin(torch.nn.Module):
    """The tutorial network in PyTorch's words."""

    def __init__(self, params):
        super().__init__()
        nn = torch.nn
        self.layers = nn.Sequential(
            nn.Conv2d(3, 32, 3),
            nn.Conv2d(32, 64, 3),
            nn.Conv2d(64, 64, 3),
            nn.Linear(1024, 64),
            nn.Linear(64, 10),
        ).double()
        self.names = ["conv2d_1", "conv2d_2", "conv2d_3", "dense_1", "dense_2"]
        with torch.no_grad():
            for name, layer in zip(self.names, self.layers, strict=True):
                w = torch.tensor(params[f"{name}/w"])
                layer.weight.copy_(oihw(w) if w.ndim == 4 else w.T)
                layer.bias.copy_(torch.tensor(params[f"{name}/b"]))

    def forward(self, x):
        conv1, conv2, conv3, dense1, dense2 = self.layers
        mean, std = torch.tensor([CIFAR10_MEAN, CIFAR10_STD], dtype=torch.float64)
        x = (torch.tensor(x).double() / 255 - mean) / std
        x = F.max_pool2d(F.relu(conv1(nchw(x))), 2)
        x = F.max_pool2d(F.relu(conv2(x)), 2)
        x = nhwc(F.relu(conv3(x))).flatten(1)  # ours lays pictures out channels innermost
        return dense2(F.relu(dense1(x)))

    def arrays(self, gradients=False):
        """Name and array in our order, of the parameters or of their gradients."""
        for name, layer in zip(self.names, self.layers, strict=True):
            w, b = (p.grad if gradients else p for p in (layer.weight, layer.bias))
            yield f"{name}/w", w.permute(2, 3, 1, 0) if w.ndim == 4 else w.T
            yield f"{name}/b", b


def test_tutorial_cnn_matches_torch(rng):
    """Logits, loss, all ten gradients, and five steps of Adam."""
    model = mc.models.tutorial_cnn().build((32, 32, 3), seed=3, dtype="float64")
    twin = Twin(model.params)
    optimizer, adam = mc.Adam(1e-3), torch.optim.Adam(twin.parameters(), 1e-3)
    assert sum(p.numel() for p in twin.parameters()) == model.params.count == 122_570
    for _ in range(5):
        x = rng.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
        labels = rng.integers(0, 10, 4)
        logits = twin(x)
        compare(model.infer(x), logits, rtol=1e-8)
        theirs = F.cross_entropy(logits, torch.tensor(labels))
        adam.zero_grad()
        theirs.backward()
        compare(mc.train_step(model, optimizer, x, labels), theirs, rtol=1e-8)
        for name, grad in twin.arrays(gradients=True):
            compare(model.grads[name], grad, rtol=1e-7, atol=1e-9)
        adam.step()
        for name, w in twin.arrays():
            compare(model.params[name], w, rtol=1e-7, atol=1e-9)
    assert {name for name, _ in twin.arrays()} == set(model.params)
