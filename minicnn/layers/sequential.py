"""Sequential: layers one after the other, and the model around them."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from .. import backend
from ..backend import Array, Device, Shape
from ..options import is_whole, whole
from ..params import Declaration, Parameters, Views
from ..streams import Stream
from .base import Layer, ShapeError, join, naming
from .checks import check_input, check_layers, check_shape
from .dtypes import resolve_dtype
from .head import replace_head
from .summary import Summary


class Sequential(Layer):
    """Layers one after the other, and the model around them.

        model = Sequential(Conv2D(32, 3), ReLU(), Flatten(), Dense(10)).build((32, 32, 3))

    Its gradient is the chain rule: backward is the list in reverse.  ``model[0]``,
    ``model["conv2d_1"]``, ``len`` and iteration give the layers.  After `build`:
    ``params`` and ``grads`` (mappings from name to array view), ``state``, ``device``, ``dtype``.
    """

    params: Parameters
    device: Device
    dtype: str = ""
    compute: str = ""
    """What products are computed in, if on a GPU that is less than ``dtype``; else ``dtype``."""
    classes: tuple[str, ...] = ()
    """The names of the classes, if they are known; `save` keeps them with the model."""
    profiler: ClassVar[Callable[..., Any]]
    """Does `profile`; ``plan``, which stands on a higher floor, puts it here."""

    def __init__(
        self,
        *layers: Layer | Sequence[Layer],
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        if len(layers) == 1 and isinstance(layers[0], list | tuple):
            layers = tuple(layers[0])
        super().__init__(name=name)
        self.layers: list[Layer] = []
        for layer in layers:
            if not isinstance(layer, Layer):
                raise TypeError(f"{layer!r} isn't a layer: expected objects such as ReLU()")
            self.layers.append(layer)
        if not self.layers:
            raise ValueError("Sequential: expected at least one layer")
        if trainable is not True:
            self.trainable = trainable

    def build(
        self,
        input_shape: Shape,
        seed: int = 0,
        device: str | Device = "cpu",
        dtype: str = "float32",
    ) -> Sequential:
        """Resolve all shapes and make all parameters; return self.

        input_shape: of one picture, (H, W, C).  seed: of the weights and of dropout.  device:
        "cpu", "gpu", "gpu:1" or "auto".  dtype: "float32" or "float64"; on a GPU also "bfloat16"
        or "float16": then training and prediction store activations and multiply in it, while
        parameters, gradients, sums and the loss stay float32, and so does `forward`, layer by
        layer (Micikevicius et al. 2018).  Parameters are drawn on the CPU in order of declaration,
        so that every device starts from equal weights.  Raises `ShapeError` naming the layer, what
        it got, what it expects and the likely cause.  Building again starts again.
        """
        self.lay_out(input_shape)
        self.allocate(device, dtype, seed, start=True)
        return self

    def lay_out(self, input_shape: Shape) -> None:
        """Do the first half of `build`: resolve all names and shapes, and allocate nothing."""
        shape = tuple(input_shape) if isinstance(input_shape, tuple | list) else ()
        if not shape or not all(is_whole(size) and size >= 1 for size in shape):
            raise ShapeError(
                f"input_shape {input_shape!r}: expected that of one picture, (H, W, C)"
            )
        check_layers(self)
        self.connect(shape, "")

    def allocate(
        self, device: str | Device, dtype: str, seed: int = 0, start: bool = False
    ) -> None:
        """Do the second half: make the parameters, zero or (``start``) as the layers ask."""
        self.device = backend.device(device)
        self.dtype, self.compute = resolve_dtype(dtype, self.device)
        rng = Stream(seed, "weights").next() if start else None
        self.params = Parameters(self.declarations(), rng, self.device, self.dtype)
        for layer in self.walk():
            layer.bind(self.params, self.device, self.dtype, seed)
            layer.root = weakref.ref(self)
        self.note_frozen()

    def note_frozen(self) -> None:
        """Tell the parameters which of them are frozen; their gradients are zero from now on."""
        self.params.freeze(
            f"{layer.path}/{name}"
            for layer in self.walk()
            for name in layer.declared
            if name not in layer.trained
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        """After copying or unpickling: let the layers' parameters be views of the buffers again."""
        self.__dict__.update(state)
        if "params" in state:
            for layer in self.walk():
                layer.attach(self.params)
                layer.root = weakref.ref(self)

    def declarations(self) -> dict[str, Declaration]:
        """Return what all layers ask for, by full name, in order."""
        return {
            f"{layer.path}/{name}": wanted
            for layer in self.walk()
            for name, wanted in layer.declared.items()
        }

    @property
    def built(self) -> bool:
        """Whether `build` was called."""
        return bool(self.dtype)

    @property
    def grads(self) -> Views:
        """The gradients of ``params``, by the same names."""
        return self.params.grads

    @property
    def state(self) -> dict[str, Array]:
        """What is kept with the model but not trained: running statistics and the like."""
        return {f"{a.path}/{name}": v for a in self.walk() for name, v in a.buffers.items()}

    @property
    def streams(self) -> dict[str, Stream]:
        """The layers' own random streams, by path."""
        return {layer.path: layer.stream for layer in self.walk() if layer.stream is not None}

    def first_leaf(self) -> Layer:
        """Return the layer that gets the pictures, inside however many models."""
        layer = self.layers[0]
        return layer.first_leaf() if isinstance(layer, Sequential) else layer

    def last_leaf(self) -> Layer:
        """Return the layer that makes the output, inside however many models."""
        layer = self.layers[-1]
        return layer.last_leaf() if isinstance(layer, Sequential) else layer

    def children(self) -> list[tuple[str, Layer]]:
        return list(zip(self.names(), self.layers, strict=True))

    def names(self) -> list[str]:
        """Name the layers: as they say, or by type and number, "conv2d_1"."""
        kinds: Counter[str] = Counter()
        names = []
        for layer in self.layers:
            kind = type(layer).__name__.lower()
            kinds[kind] += 1
            if layer.name is not None and (not isinstance(layer.name, str) or not layer.name):
                raise ValueError(f"layer name {layer.name!r}: expected a text, or None")
            names.append(layer.name or f"{kind}_{kinds[kind]}")
        if len(set(names)) < len(names) or any("/" in name for name in names):
            raise ValueError(f"layer names must differ and hold no '/': {names}")
        return names

    def resolve(self, input_shape: Shape) -> Shape:
        shape = input_shape
        for name, layer in self.children():
            shape = layer.connect(shape, join(self.path, name))
        return shape

    def forward(self, x: Array, training: bool = False) -> Array:
        """Return the last layer's output for a batch x, (N,) + input_shape.

        training: whether Dropout drops and BatchNorm uses the batch's statistics.
        """
        x = self.check_input(x)
        for layer in self.layers:
            with naming(layer, x, self):
                x = layer.forward(x, training)
        return x

    def infer(self, x: Array) -> Array:
        """Return forward's output without training, keeping nothing for a backward."""
        x = self.check_input(x)
        for layer in self.layers:
            with naming(layer, x, self):
                x = layer.infer(x)
        return x

    def backward(self, dy: Array) -> Array:
        """Return dx for dy = dL/dy, and write every parameter's gradient into ``grads``."""
        for layer in reversed(self.layers):
            with naming(layer, dy, self):
                dy = layer.backward(dy)
        self.clear_frozen()
        return dy

    def backward_params(self, dy: Array) -> None:
        """Write the gradients only: stop at the first layer that has something to train."""
        trained = [any(part.trained for part in layer.walk()) for layer in self.layers]
        first = trained.index(True) if True in trained else len(trained)
        for layer in reversed(self.layers[first + 1 :]):
            with naming(layer, dy, self):
                dy = layer.backward(dy)
        for layer in self.layers[first : first + 1]:
            with naming(layer, dy, self):
                layer.backward_params(dy)
        for layer in self.layers[:first]:
            layer.forget()
        self.clear_frozen()

    def clear_frozen(self) -> None:
        """In the whole model, set to zero the gradients of what isn't trained."""
        if not self.path and self.built:
            self.params.clear(self.params.frozen)

    def summary(self, batch_size: int | None = None) -> Summary:
        """Return the table of layers, output shapes, parameters and multiply-adds; print it.

        batch_size: also estimate the memory that a step of training and a prediction take.
        """
        self.check_built()
        if batch_size is not None:
            batch_size = whole(batch_size, "batch_size")
        return Summary.of(self, batch_size, np.dtype(self.dtype).itemsize)

    def profile(self, x: Array, labels: Array | None = None) -> Any:
        """Return the table of what a training step on a batch x takes, layer by layer; print it.

        labels: as for `train_step`; which ones matters little.  The model stays what it was.  On a
        GPU it waits for each layer.
        """
        self.check_built()
        return self.profiler(x, labels)

    def replace_head(self, classes: int, seed: int = 0, names: Sequence[str] = ()) -> Sequential:
        """Give the last Dense ``classes`` outputs and weights drawn by ``seed``; return self.

        All else keeps its weights and its state.  Behind that Dense only layers may stand that
        have nothing of their own, such as activations.  names: of the classes; those of before go.
        The parameters are new arrays: optimizers of before refuse them.
        """
        replace_head(self, classes, seed, names)
        return self

    def config(self) -> dict[str, Any]:
        named = {"name": self.name} if self.name else {}
        return {"type": type(self).__name__, "layers": [a.config() for a in self.layers], **named}

    def check_built(self) -> None:
        """Raise RuntimeError if shapes and parameters aren't there yet."""
        if self.path and not self.built:
            raise RuntimeError(f"{self.path} is a part of a model: use the whole one")
        if not self.built:
            raise RuntimeError("the model isn't built: call model.build(input_shape) first")

    def check_input(self, x: Array) -> Array:
        """Return x in the model's dtype, or raise an error that says what is wrong with it."""
        return check_input(self, x)

    def check_shape(self, x: Array) -> None:
        """Raise an error that says why x isn't a batch for this model, if it isn't."""
        check_shape(self, x)

    def __getitem__(self, key: int | str) -> Layer:
        if isinstance(key, int):
            return self.layers[key]
        named = dict(self.children())
        if key not in named:
            raise KeyError(f"no layer {key!r}; there are: {', '.join(named)}")
        return named[key]

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def __repr__(self) -> str:
        return f"Sequential({', '.join(map(repr, self.layers))})"
