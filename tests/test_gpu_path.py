"""The whole GPU path's Python, on a stand-in for CuPy that refuses what CuPy refuses."""

from __future__ import annotations

import importlib
import inspect
import sys

import numpy as np
import pytest
from philox import PhiloxStream
from standin import installed

import minicnn as mc
from minicnn.backend import to_numpy
from minicnn.streams import Stream


@pytest.fixture
def cupy():
    with installed() as module:
        yield module


class DeviceStream(Stream):
    """Give the CPU the numbers that the GPU draws, which are others for the same seed."""

    def next(self, xp=np):
        return super().next(sys.modules["cupy"]).rng


def same_dropout(model):
    """Let a CPU model's dropout draw what a GPU would."""
    for layer in model.walk():
        if layer.stream is not None:
            layer.stream = PhiloxStream(layer.stream.seed, layer.stream.name)
            layer.forward = layer.forward  # a plan draws by itself, but not for such a layer
    return model


def both(make, shape, **options):
    """Build the same model on the CPU and on the GPU."""
    return (
        same_dropout(make().build(shape, **options)),
        make().build(shape, device="gpu", **options),
    )


def assert_same(device_array, host_array, rtol=1e-6):
    assert type(device_array).__module__.startswith("cupy")
    assert device_array.dtype == host_array.dtype
    np.testing.assert_allclose(to_numpy(device_array), host_array, rtol=rtol, atol=rtol / 100)


def assert_same_tensors(gpu, cpu, rtol=1e-6):
    for name, host in {**cpu.params, **cpu.state}.items():
        assert_same({**gpu.params, **gpu.state}[name], host, rtol)


# The stand-in itself.


def test_standin_refuses_numpy(cupy):
    on_device, host = cupy.ones((3,)), np.ones(3)
    for mix in (
        lambda: np.exp(on_device),
        lambda: np.concatenate([on_device, on_device]),
        lambda: np.asarray(on_device),
        lambda: host + on_device,
        lambda: np.float32(2) * on_device,
    ):
        with pytest.raises(TypeError, match="Implicit conversion"):
            mix()
    for mix in (
        lambda: on_device + host,
        lambda: on_device * np.float64(2),
        lambda: on_device[np.array([0, 1])],
        lambda: cupy.maximum(on_device, host),
        lambda: cupy.where(on_device > 0, host, 0),
        lambda: cupy.matmul(on_device, on_device, out=host),
        lambda: on_device.__setitem__(..., host),
    ):
        with pytest.raises(TypeError, match="Unsupported type"):
            mix()
    with pytest.raises(TypeError, match="expected a device array"):
        cupy.sqrt(2.0)
    with pytest.raises(AttributeError, match="check that CuPy 14 has it"):
        _ = cupy.add_reduce_everything


def test_standin_counts_synchronizations(cupy):
    x = cupy.asarray(np.arange(3.0))
    assert cupy.counts.transfers == 1 and cupy.counts.synchronizations == 0
    total = x.sum()
    assert isinstance(total, cupy.ndarray) and total.shape == ()
    for wait in (
        lambda: float(total),
        lambda: int(total),
        lambda: bool(total > 1),
        lambda: total.item(),
        lambda: x.get(),
        lambda: list(x),
        lambda: x[x > 0],
        lambda: f"{total:.3f}",
        lambda: cupy.cuda.get_current_stream().synchronize(),
    ):
        before = cupy.counts.synchronizations
        wait()
        assert cupy.counts.synchronizations == before + 1
    x[x > 1] = 0  # a scalar into a mask: no wait
    assert cupy.counts.synchronizations == before + 1


def test_standin_is_gone_afterwards():
    before = sys.modules.get("cupy")
    with installed() as cupy:
        assert sys.modules["cupy"] is cupy is not before
    assert sys.modules.get("cupy") is before


def test_standin_has_only_what_cupy_has():
    real = pytest.importorskip("cupy", exc_type=ImportError)
    with installed():
        functions = importlib.import_module("cupy.functions").FUNCTIONS
        array = importlib.import_module("cupy.array")
        generator = importlib.import_module("cupy.random").Generator
    assert [name for name in functions if not hasattr(real, name)] == []
    methods = [*array.METHODS, *array.VIEWS]
    assert [name for name in methods if not hasattr(real.ndarray, name)] == []
    for name, ours in inspect.getmembers(generator, inspect.isfunction):
        if not name.startswith("_"):
            assert hasattr(real.random.Generator, name), name
            documented = getattr(real.random.Generator, name).__doc__ or ""
            for argument in list(inspect.signature(ours).parameters)[1:]:
                assert argument in documented.splitlines()[0] or argument in documented, argument


# Layers: forward and backward on the GPU equal those on the CPU.

BLOCKS = {
    "conv": lambda: [mc.Conv2D(4, 3)],
    "conv_same_strided": lambda: [mc.Conv2D(4, (3, 2), strides=(2, 1), padding="same")],
    "conv_groups_dilated": lambda: [mc.Conv2D(4, 3, dilation_rate=2, groups=2, use_bias=False)],
    "maxpool": lambda: [mc.MaxPool2D(3, strides=2, padding="same")],
    "averagepool": lambda: [mc.AveragePool2D(3, strides=2, padding="same")],
    "globalaveragepool": lambda: [mc.GlobalAveragePool2D()],
    "flatten_dense": lambda: [mc.Flatten(), mc.Dense(5)],
    "batchnorm": lambda: [mc.BatchNorm()],
    "batchnorm_fixed": lambda: [mc.BatchNorm(center=False, scale=False)],
    "dropout": lambda: [mc.Dropout(0.4)],
    "relu": lambda: [mc.ReLU()],
    "leakyrelu": lambda: [mc.LeakyReLU(0.1)],
    "gelu": lambda: [mc.GELU()],
    "silu": lambda: [mc.SiLU()],
    "tanh": lambda: [mc.Tanh()],
    "sigmoid": lambda: [mc.Sigmoid()],
    "softmax": lambda: [mc.Softmax()],
    "scale": lambda: [mc.Scale(-0.3)],
    "padchannels": lambda: [mc.PadChannels(5)],
    "concat_with_x": lambda: [mc.Concat([mc.Conv2D(3, 1), None])],
    "residual": lambda: [
        mc.Residual([mc.Conv2D(4, 3, padding="same"), mc.BatchNorm()], mc.Conv2D(4, 1))
    ],
    "residual_identity": lambda: [mc.Residual([mc.Conv2D(2, 3, padding="same"), mc.ReLU()])],
    "concat": lambda: [mc.Concat([mc.Conv2D(3, 1), [mc.Conv2D(2, 3, padding="same"), mc.ReLU()]])],
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", BLOCKS)
def test_layer_is_the_same_on_the_gpu(cupy, name, training):
    cpu, gpu = both(lambda: mc.Sequential(BLOCKS[name]()), (7, 6, 2), dtype="float64")
    rng = np.random.default_rng(3)
    x = rng.standard_normal((3, 7, 6, 2))
    y, y_gpu = cpu.forward(x, training), gpu.forward(cupy.asarray(x), training)
    assert_same(y_gpu, y)
    dy = rng.standard_normal(y.shape)
    assert_same(gpu.backward(cupy.asarray(dy)), cpu.backward(dy))
    for key, grad in cpu.grads.items():
        assert_same(gpu.grads[key], grad)
    assert_same_tensors(gpu, cpu)
    assert_same(gpu.infer(cupy.asarray(x)), cpu.infer(x))


@pytest.mark.parametrize("name", BLOCKS)
def test_layer_keeps_float32_on_the_gpu(cupy, name):
    gpu = mc.Sequential(BLOCKS[name]()).build((7, 6, 2), device="gpu")
    x = cupy.asarray(np.random.default_rng(3).standard_normal((3, 7, 6, 2)), dtype="float32")
    y = gpu.forward(x, training=True)
    assert y.dtype == np.float32
    assert gpu.backward(cupy.ones_like(y)).dtype == np.float32


def test_normalize_is_the_same_on_the_gpu(cupy):
    x = np.random.default_rng(1).integers(0, 256, (2, 4, 4, 3)).astype("uint8")
    cpu, gpu = both(lambda: mc.Sequential(mc.Normalize((0.4, 0.5, 0.6), 0.2)), (4, 4, 3))
    assert_same(gpu.forward(cupy.asarray(x)), cpu.forward(x))
    dy = np.ones((2, 4, 4, 3), "float32")
    assert_same(gpu.backward(cupy.asarray(dy)), cpu.backward(dy))


# Training.


def test_tutorial_cnn_starts_from_equal_weights(cupy):
    cpu, gpu = both(mc.models.tutorial_cnn, (32, 32, 3), seed=4)
    assert isinstance(gpu.params.data, cupy.ndarray) and isinstance(gpu.params.grad, cupy.ndarray)
    np.testing.assert_array_equal(gpu.params.data.get(), cpu.params.data)


def mixed_net():
    return mc.Sequential(
        mc.Normalize(0.5, 0.25),
        mc.Conv2D(6, 3, padding="same", kernel_regularizer=mc.L2(1e-2)),
        mc.BatchNorm(),
        mc.ReLU(),
        mc.MaxPool2D(2),
        mc.Residual([mc.Conv2D(6, 3, padding="same"), mc.BatchNorm(), mc.GELU()]),
        mc.Concat([[mc.Conv2D(4, 1), mc.SiLU()], mc.AveragePool2D(3, 1, "same")]),
        mc.Dropout(0.2),
        mc.Flatten(),
        mc.Dense(8, kernel_regularizer=mc.L1(1e-3)),
        mc.Tanh(),
        mc.Dense(5),
    )


def pictures(n=12, shape=(8, 8, 3), classes=5):
    rng = np.random.default_rng(7)
    return rng.integers(0, 256, (n, *shape)).astype("uint8"), rng.integers(0, classes, n)


OPTIMIZERS = {
    "sgd": lambda: mc.SGD(0.05),
    "nesterov": lambda: mc.SGD(0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "rmsprop": lambda: mc.RMSprop(0.01),
    # A bias before BatchNorm gets a gradient of mere rounding; a small eps would make much of it.
    "adam": lambda: mc.Adam(0.01, weight_decay=0.01, decay_all=True, eps=1e-6),
    "adamw": lambda: mc.AdamW(0.01),
    "clipped": lambda: mc.SGD(0.05, global_clipnorm=0.1),
    "averaged": lambda: mc.Adam(0.01, ema_decay=0.9),
    "scheduled": lambda: mc.SGD(mc.schedule.cosine(0.1, steps=3, warmup=1), momentum=0.9),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_train_step_is_the_same_on_the_gpu(cupy, name):
    cpu, gpu = both(mixed_net, (8, 8, 3), dtype="float64")
    host, device = OPTIMIZERS[name](), OPTIMIZERS[name]()
    x, labels = pictures()
    for _ in range(3):
        loss = mc.train_step(cpu, host, x, labels)
        loss_gpu = mc.train_step(gpu, device, x, labels)
        assert_same(loss_gpu, np.asarray(loss))
    assert_same_tensors(gpu, cpu)
    for key, array in host.memory.items():
        assert_same(device.memory[key], array)
    if host.ema_decay:
        with host.averaged_weights(cpu.params), device.averaged_weights(gpu.params):
            assert_same_tensors(gpu, cpu)
        assert_same_tensors(gpu, cpu)


LOSSES = {
    "cross_entropy": mc.CrossEntropy(),
    "smoothing": mc.CrossEntropy(label_smoothing=0.1),
    "class_weight": mc.CrossEntropy(class_weight=(1, 2, 3, 4, 0.5)),
    "squares": mc.MeanSquaredError(),
}


@pytest.mark.parametrize("targets", ["ids", "distributions"])
@pytest.mark.parametrize("name", LOSSES)
def test_loss_is_the_same_on_the_gpu(cupy, name, targets):
    rng = np.random.default_rng(5)
    logits, labels = rng.standard_normal((6, 5)), rng.integers(0, 5, 6)
    if targets == "distributions":
        labels = rng.dirichlet(np.ones(5), 6)
    loss, dlogits = LOSSES[name](logits, labels)
    loss_gpu, dlogits_gpu = LOSSES[name](cupy.asarray(logits), cupy.asarray(labels))
    assert_same(loss_gpu, np.asarray(loss))
    assert_same(dlogits_gpu, dlogits)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("loss", ["cross_entropy", "smoothing", "class_weight", "squares"])
def test_train_step_never_waits_for_the_gpu(cupy, name, loss):
    gpu, optimizer, meter = (
        mixed_net().build((8, 8, 3), device="gpu"),
        OPTIMIZERS[name](),
        mc.Meter(),
    )
    x, labels = map(gpu.device.asarray, pictures())
    cupy.counts.reset()
    mc.train_step(gpu, optimizer, x, labels, LOSSES[loss], meter)  # which tells the device rates
    assert cupy.counts.synchronizations == 0
    cupy.counts.reset()
    for _ in range(5):  # kernel by kernel at first, then as a graph
        mc.train_step(gpu, optimizer, x, labels, LOSSES[loss], meter)
    assert cupy.counts.synchronizations == 0
    assert cupy.counts.transfers == 0


def test_epoch_waits_for_the_gpu_only_at_its_end(cupy):
    gpu = mixed_net().build((8, 8, 3), device="gpu")
    x, labels = map(gpu.device.asarray, pictures(40))
    augment = [mc.augment.RandomFlip(), mc.augment.RandomCrop(1)]
    counts = []
    for size in (4, 10):  # many batches or few
        batches = mc.Batches(
            x, labels, size, stream=Stream(0, "s"), augment=augment, augment_stream=Stream(0, "a")
        )
        optimizer = mc.Adam()
        mc.train_step(gpu, optimizer, x[:size], labels[:size])
        cupy.counts.reset()
        with mc.Run(gpu, optimizer, batches, progress=False) as run:
            for batch in run.rest_of_epoch():
                mc.train_step(gpu, optimizer, *batch, meter=run.meter)
            run.end_epoch()
        counts.append((cupy.counts.synchronizations, cupy.counts.transfers))
    assert counts[0] == counts[1]
    assert counts[0][0] <= 3 and counts[0][1] == 1  # loss, accuracy, the clock; the order


AUGMENTATIONS = [
    mc.augment.RandomFlip(),
    mc.augment.RandomCrop(2),
    mc.augment.RandomRotation(30),
    mc.augment.RandomZoom(0.2),
    mc.augment.Cutout(3),
    mc.augment.BrightnessContrast(),
    mc.augment.MixUp(0.4, classes=5),
    mc.augment.CutMix(1.0, classes=5),
]


@pytest.mark.parametrize("vary", AUGMENTATIONS, ids=lambda a: type(a).__name__)
def test_augmentation_is_the_same_on_the_gpu(cupy, vary):
    x, labels = pictures(20, (9, 7, 3))
    y, targets = vary(x, labels, np.random.default_rng(2))
    x_gpu, labels_gpu, rng = (
        cupy.asarray(x),
        cupy.asarray(labels),
        cupy.random.default_rng(2),
    )
    cupy.counts.reset()
    y_gpu, targets_gpu = vary(x_gpu, labels_gpu, rng)
    assert cupy.counts.synchronizations == 0 and cupy.counts.transfers == 0
    assert (y != x).any() and y_gpu.dtype == np.uint8
    np.testing.assert_array_equal(y_gpu.get(), y)
    assert_same(targets_gpu, targets)
    np.testing.assert_array_equal(x_gpu.get(), x)


def test_every_augmentation_is_compared():
    tested = {type(a) for a in AUGMENTATIONS} | {mc.augment.AlternatingFlip}  # with the kernels
    assert {getattr(mc.augment, name) for name in mc.augment.__all__} == tested


def test_every_layer_is_compared():
    used = {
        type(layer).__name__
        for make in [*BLOCKS.values(), lambda: [mixed_net()]]
        for part in make()
        for layer in part.walk()
    }
    assert used == set(mc.layers.LAYERS)


def test_fit_is_the_same_on_the_gpu(cupy):
    cpu, gpu = both(mixed_net, (8, 8, 3), dtype="float64", seed=1)
    x, y = pictures(60)
    options = {"epochs": 2, "batch_size": 16, "validation": 0.2, "seed": 3, "progress": False}
    host = list(mc.fit(cpu, x, y, optimizer=mc.SGD(0.02), **options))
    device = list(mc.fit(gpu, x, y, optimizer=mc.SGD(0.02), **options))
    for a, b in zip(host, device, strict=True):
        assert b.loss == pytest.approx(a.loss, rel=1e-6) and b.accuracy == a.accuracy
        assert b.val_loss == pytest.approx(a.val_loss, rel=1e-6)
        assert b.val_accuracy == a.val_accuracy
    assert_same_tensors(gpu, cpu)


@pytest.mark.parametrize("vary", AUGMENTATIONS, ids=lambda a: type(a).__name__)
def test_fit_with_augmentation_runs_on_the_gpu(cupy, vary):
    gpu = mixed_net().build((8, 8, 3), device="gpu")
    x, y = pictures(40)
    fitted = mc.fit(gpu, x, y, optimizer=mc.Adam(), epochs=1, augment=[vary], validation=(x, y))
    assert np.isfinite([epoch.val_loss for epoch in fitted]).all()


@pytest.mark.parametrize("tta", [None, "flip", "flip+shift"])
def test_predict_and_evaluate_are_the_same_on_the_gpu(cupy, tta):
    cpu, gpu = both(mixed_net, (8, 8, 3), dtype="float64")
    x, y = pictures(30)
    scores, scores_gpu = (mc.evaluate(model, x, y, 7, tta=tta) for model in (cpu, gpu))
    assert scores_gpu == pytest.approx(scores, rel=1e-6)
    on_device = mc.evaluate(gpu, cupy.asarray(x), cupy.asarray(y), 7, tta=tta)
    assert on_device == pytest.approx(scores, rel=1e-6)
    probabilities = mc.predict(gpu, x, 7, tta)
    assert type(probabilities) is np.ndarray
    np.testing.assert_allclose(probabilities, mc.predict(cpu, x, tta=tta), rtol=1e-6)
    np.testing.assert_array_equal(mc.predict(gpu, cupy.asarray(x), 7, tta), probabilities)


@pytest.mark.parametrize(("there", "back"), [("gpu", "gpu"), ("gpu", "cpu"), ("cpu", "gpu")])
def test_checkpoint_crosses_devices(cupy, tmp_path, there, back):
    model = mixed_net().build((8, 8, 3), device=there)
    mc.train_step(model, mc.Adam(0.01), *pictures())
    path = mc.save(model, tmp_path / "model.safetensors")
    loaded = mc.load(path, device=back)
    assert loaded.device.kind == back
    for name, array in {**model.params, **model.state}.items():
        twin = {**loaded.params, **loaded.state}[name]
        assert isinstance(twin, cupy.ndarray) == (back == "gpu")
        np.testing.assert_array_equal(to_numpy(twin), to_numpy(array))


def test_metrics_take_device_arrays(cupy):
    labels, scores = np.array([0, 1, 2, 1]), np.eye(3)[[0, 2, 2, 1]]
    on_device = cupy.asarray(labels), cupy.asarray(scores)
    assert mc.metrics.accuracy(*on_device) == mc.metrics.accuracy(labels, scores) == 0.75
    assert mc.metrics.top_k_accuracy(*on_device, k=1) == 0.75
    matrix = mc.metrics.confusion_matrix(on_device[0], cupy.asarray(scores.argmax(1)), 3)
    np.testing.assert_array_equal(matrix, [[1, 0, 0], [0, 1, 1], [0, 0, 1]])


def test_gradients_of_a_gpu_model_can_be_checked(cupy):
    model = mc.Sequential(mc.Flatten(), mc.Dense(3)).build((2, 2, 1), device="gpu")
    assert mc.gradcheck.check_model(model).passed


def test_forward_refuses_an_array_of_the_other_device(cupy):
    cpu, gpu = both(mixed_net, (8, 8, 3))
    x, _ = pictures()
    with pytest.raises(TypeError, match=r"the model is on gpu:0.*move it"):
        gpu.forward(x)
    with pytest.raises(TypeError, match=r"the model is on cpu.*move it"):
        cpu.forward(cupy.asarray(x))


def test_train_step_takes_host_arrays_on_the_gpu(cupy):
    gpu = mixed_net().build((8, 8, 3), device="gpu")
    assert isinstance(mc.train_step(gpu, mc.Adam(), *pictures()), cupy.ndarray)


def test_second_gpu_is_used(cupy):
    cpu, gpu = both(mixed_net, (8, 8, 3), dtype="float64")
    gpu = mixed_net().build((8, 8, 3), device="gpu:1", dtype="float64")
    x, labels = pictures()
    mc.train_step(cpu, mc.Adam(), x, labels)
    loss = mc.train_step(gpu, mc.Adam(), x, labels)
    assert loss.device_id == gpu.params.data.device_id == 1
    np.testing.assert_allclose(gpu.params.data.get(), cpu.params.data, rtol=1e-6, atol=1e-9)
    assert mc.predict(gpu, x).shape == (12, 5)


def test_two_models_on_two_gpus_take_turns(cupy):
    x, labels = pictures()
    models = [mixed_net().build((8, 8, 3), device=spec) for spec in ("gpu:0", "gpu:1")]
    for _ in range(2):
        for index, model in enumerate(models):
            assert mc.train_step(model, mc.SGD(0.01), x, labels).device_id == index


def test_averaged_weights_of_a_model_on_another_gpu(cupy):
    model = mixed_net().build((8, 8, 3), device="gpu:0")
    optimizer = mc.SGD(0.01, ema_decay=0.5)
    mc.train_step(model, optimizer, *pictures())
    own = model.params.data.get()
    mixed_net().build((8, 8, 3), device="gpu:1")  # which is CuPy's current one from now on
    with optimizer.averaged_weights(model.params):
        average = optimizer.memory["average"].get()
        np.testing.assert_array_equal(model.params.data.get(), average)
    np.testing.assert_array_equal(model.params.data.get(), own)
    assert cupy.cuda.Device().id == 1


def test_batches_of_a_gpu_that_is_not_the_current_one(cupy):
    x, labels = pictures()
    first, second = mc.device("gpu:0"), mc.device("gpu:1")
    found = []
    for place in (second, first):  # the second GPU is CuPy's current one, then the first
        batches = mc.Batches(
            first.asarray(x), first.asarray(labels), 5, stream=Stream(0, "order"),
            augment=[mc.augment.RandomFlip()], augment_stream=Stream(0, "augment"),
        )  # fmt: skip
        place.use()
        for batch, ids in batches:
            assert batch.device_id == ids.device_id == 0
            assert cupy.cuda.Device().id == place.index
            found.append(batch.get())
    half = len(found) // 2
    for one, other in zip(found[:half], found[half:], strict=True):
        np.testing.assert_array_equal(one, other)


def test_slices_that_count_from_the_end_or_go_beyond_it(cupy):
    x, labels = np.arange(40, dtype="uint8").reshape(10, 2, 2, 1), np.arange(10)
    for part in (slice(-3, -1), slice(8, 12), slice(5, 3)):
        batch, ids = mc.functional.gather.gather(cupy.asarray(x), cupy.asarray(labels), part)
        np.testing.assert_array_equal(batch.get(), x[part])
        np.testing.assert_array_equal(ids.get(), labels[part])
