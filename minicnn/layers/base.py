"""Layer: wiring between the pure functions of ``functional`` and a network.

A layer owns names and options, calls its pair of functions, and keeps the cache between forward
and backward.  An own layer needs no more than this:

    class Square(Layer):
        def forward(self, x, training=False):
            self.cache = x
            return x * x

        def backward(self, dy):
            return 2 * self.take_cache() * dy

With parameters, or where the output has another shape than the input, it also has a ``resolve``.
"""

from __future__ import annotations

import inspect
import traceback
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar

import numpy as np

from ..backend import Array, Device, Shape, array_module, memory_left, to_numpy
from ..params import Declaration, Parameters, Penalty
from ..streams import Stream
from .trainable import as_trainable, check_names, spread


class OutOfMemory(MemoryError):
    """An array didn't fit into memory; the text says in which layer, how large, and what to do."""


@contextmanager
def naming(layer: Layer, x: Array, whole: Layer | None = None) -> Iterator[None]:
    """Let an error for want of memory say which layer it came from.

    What forward kept, in that layer or in all of ``whole``, is given up: it is memory.  So is what
    CuPy keeps for arrays to come.
    """
    try:
        yield
    except OutOfMemory:
        (whole or layer).forget()  # a layer inside has said it
        free_memory(x)
        raise
    except MemoryError as error:  # NumPy's and CuPy's are of this kind
        left = memory_left(where(x))
        (whole or layer).forget()
        traceback.clear_frames(error.__traceback__)  # they hold arrays as long as the error lives
        free_memory(x)
        name = layer.path or "the model"
        raise OutOfMemory(
            f"{name} ({type(layer).__name__}): no memory for a batch of {x.shape}: {error}. "
            f"{left}Take a smaller batch_size; summary(batch_size) estimates what one needs"
        ) from error


def where(x: Array) -> Device:
    """Return the device that an array is on."""
    if array_module(x) is np:
        return Device("cpu")
    return Device("gpu", x.device.id)


def free_memory(x: Array) -> None:
    """Give back what CuPy keeps on the device of x, if that is a GPU."""
    where(x).free_memory()


class ShapeError(ValueError):
    """A layer can't take the shape that it is given; the text names the layer and the cause."""


PASSING = ("cache", "stream")
"""Attributes that change from step to step."""


class Built:
    """What `Sequential.build` gives a layer: nothing of this is an argument."""

    changes: ClassVar[int] = 0
    """How often an attribute of some layer was set or deleted, but for those that are `PASSING`."""

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if name not in PASSING:
            Built.changes += 1

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        Built.changes += 1

    path: str = ""
    """Its name within the model: "conv2d_1", "residual_2/body/conv2d_1"."""
    input_shape: Shape = ()
    output_shape: Shape = ()
    """Shapes of one picture, without N."""
    multiply_adds: int = 0
    """Multiplications with addition that forward does for one picture."""
    declared: dict[str, Declaration]
    """The parameters it asked for; each is an attribute, and ``d<name>`` is its gradient."""
    buffers: dict[str, Array]
    """Arrays that are kept with the model but not trained, such as running statistics."""
    stream: Stream | None = None
    """Its own source of random numbers, where it needs one."""
    cache: Any = None
    """What forward left for backward."""
    root: weakref.ref[Any] | None = None
    """The model that it is built into."""

    w: Array
    b: Array
    gamma: Array
    beta: Array
    dw: Array
    db: Array
    dgamma: Array
    dbeta: Array


@dataclass(eq=False, repr=False)
class Layer(Built):
    """The base of all layers.  Their fields are their arguments: repr and JSON come from them."""

    name: str | None = field(default=None, kw_only=True)
    trainable: bool | tuple[str, ...] = field(default=True, kw_only=True)
    """Whether its parameters are trained: all, none, or those named, such as ("b",).

    It may be set at any time; setting it sets it in all layers inside.  What isn't trained keeps
    its values, has gradients of zero, and backward stops above what has nothing to train.  A
    BatchNorm of which it is False goes by its running statistics in training, and leaves them."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "trainable":
            value = as_trainable(value)
            if name in vars(self) or self.root is not None:  # it isn't the constructor's
                spread(self, value)
        super().__setattr__(name, value)

    # What a layer defines.

    def resolve(self, input_shape: Shape) -> Shape:
        """Check the input shape, `declare` parameters, `keep` state; return the output shape.

        Shapes here are those of one picture, without N.
        """
        return input_shape

    def forward(self, x: Array, training: bool = False) -> Array:
        """Return y for a batch x, (N,) + input_shape, and keep what backward needs."""
        raise NotImplementedError

    def backward(self, dy: Array) -> Array:
        """Return dx for dy, the gradient at the last forward's y; write parameter gradients."""
        raise NotImplementedError

    def backward_params(self, dy: Array) -> None:
        """Do `backward` for a layer below which nobody asks for a gradient."""
        self.backward(dy)

    def children(self) -> list[tuple[str, Layer]]:
        """Return the layers inside this one, with their names; none for most."""
        return []

    def infer(self, x: Array) -> Array:
        """Do `forward` for prediction: nothing is kept."""
        y = self.forward(x)
        self.forget()
        return y

    # What a layer uses.

    def declare(self, name: str, shape: Shape, initializer: str = "zeros", **options: Any) -> None:
        """Ask for a parameter ``name`` and its gradient ``d<name>``; see `Declaration`."""
        if hasattr(type(self), name) or name in (f.name for f in fields(self)):
            raise ValueError(
                f"{self.path}: a parameter can't be called {name!r}: the layer has one"
            )
        self.declared[name] = Declaration(shape, initializer, **options)

    def keep(self, name: str, value: np.ndarray) -> None:
        """Keep an untrained array in ``buffers``, on the model's device and in its dtype."""
        self.buffers[name] = value  # moved by bind, which makes the array the layer's own

    def take_cache(self) -> Any:
        """Give up what forward kept: backward goes once through each forward."""
        cache, self.cache = self.cache, None
        if cache is None:
            raise RuntimeError(
                f"{self.path or type(self).__name__}.backward: no forward to go back through. "
                "Each forward can be gone back through once; infer() and predict() keep nothing."
            )
        return cache

    def refuse(self, got: Shape, expected: str) -> ShapeError:
        """Return the error for an input shape, to be raised."""
        return ShapeError(
            f"{self.path} ({type(self).__name__}): got pictures of shape {got}, expected {expected}"
        )

    def forget(self) -> None:
        """Drop what forward kept, here and in the layers inside."""
        self.cache = None
        for _, child in self.children():
            child.forget()

    # What Sequential.build uses.

    def connect(self, input_shape: Shape, path: str) -> Shape:
        """Fix name and shapes, and collect what the layer asks for; return the output shape."""
        self.path, self.input_shape = path, tuple(input_shape)
        self.declared, self.buffers = {}, {}
        self.cache = None
        self.output_shape = self.resolve(self.input_shape)
        if isinstance(self.trainable, tuple):
            check_names(self, self.trainable)
        return self.output_shape

    def bind(self, params: Parameters, device: Device, dtype: str, seed: int) -> None:
        """Take views of the parameters, and move the state to where they live.

        A layer with random numbers also makes its ``stream`` here.
        """
        self.attach(params)
        for name, value in self.buffers.items():
            self.buffers[name] = device.asarray(np.array(to_numpy(value), dtype))

    def attach(self, params: Parameters) -> None:
        """Make each declared parameter, and its gradient, an attribute: views of the buffers."""
        for name in self.declared:
            setattr(self, name, params[f"{self.path}/{name}"])
            setattr(self, f"d{name}", params.grads[f"{self.path}/{name}"])

    @property
    def trained(self) -> tuple[str, ...]:
        """The names of its own parameters that are trained."""
        wanted = self.declared if self.trainable is True else self.trainable or ()
        return tuple(name for name in self.declared if name in wanted)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out of copies and pickles what belongs to one model or to one forward."""
        return self.__dict__ | {"root": None, "cache": None}

    def walk(self) -> Iterator[Layer]:
        """Yield this layer and all inside it, in order of declaration."""
        yield self
        for _, child in self.children():
            yield from child.walk()

    def __repr__(self) -> str:
        """Write the layer as its constructor would be called, defaults left out."""
        values = [(f, getattr(self, f.name)) for f in fields(self) if f.init]
        shown = [f"{f.name}={value!r}" for f, value in values if value != f.default]
        return f"{type(self).__name__}({', '.join(shown)})"

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, as JSON can hold them, with the layer's type.

        Raises TypeError for a class whose arguments aren't fields: they would be lost.
        """
        options = {f.name: getattr(self, f.name) for f in fields(self) if f.init}
        lost = [name for name in inspect.signature(type(self)).parameters if name not in options]
        if lost:
            raise TypeError(
                f"{type(self).__name__} can't be saved: its arguments ({', '.join(lost)}) aren't "
                "fields. Make it a @dataclass(eq=False, repr=False), or give it its own config()"
            )
        if self.trainable is True or self.children():  # those inside say it themselves
            del options["trainable"]
        given = {name: plain(value) for name, value in options.items() if value is not None}
        return {"type": type(self).__name__, **given}


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: NumPy's numbers become Python's."""
    if isinstance(value, Penalty):
        return asdict(value)
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def join(path: str, name: str) -> str:
    """Return the path of ``name`` inside ``path``."""
    return f"{path}/{name}" if path else name
