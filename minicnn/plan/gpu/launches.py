"""Launches: the script of a whole batch on a GPU, for planners."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from ...backend import Array
from ...kernels.cuda import blas, dropout, elementwise
from ...kernels.cuda.precision import tf32_allowed
from ...kernels.cuda.writer import Writer
from ...kernels.memory import Memory
from ...kernels.script import Call, play
from ...layers import Layer
from ...params import Parameters, Views
from ..slices import Arrival, Planners
from .clocks import MOST, Clocks


class Launches(Writer):
    """Launches in order, and the memory that they work on, as `Slice` is for the CPU.

    N: pictures.  kind: the storage type, see `Writer`.  params: the model's, in the type of sums
    ("masters"); if storage is shorter, `weights` are copies of them in it.

    training: whether there will be a backward.  planners: who may write in it.  whole: whether all
    that was written is launches on arrays that stay where they are, so that it can be captured.
    unwanted: see `Slice`.
    """

    planners: ClassVar[Planners] = {}

    def __init__(self, N: int, kind: str, params: Parameters, training: bool, room: Any) -> None:
        super().__init__(kind)
        self.N, self.training, self.part = N, training, slice(0, N)
        self.memory = Memory(room)
        self.lasts: list[Array] = []
        self.params = params
        self.weights: Views = params
        self.calls: list[Call] = []
        self.labels: list[str] = []
        self.label = ""
        self.arrival: tuple[Array, Arrival] | None = None
        self.again: None = None  # nothing is made again here: there is room to keep it
        self.whole = True
        self.unwanted: set[str] = set()
        self.tf32 = kind == "float32" and tf32_allowed()
        self.clocks = Clocks(self.lasting((MOST,), "int64"))
        self.streams: list[tuple[Layer, Any]] = []

    def take(self) -> list[Call]:
        """Return what was written so far, and begin anew."""
        calls, self.calls, self.labels = self.calls, [], []
        return calls

    def call(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Write down a call of something that launches."""
        self.calls.append((function, arguments))
        self.labels.append(self.label)

    __call__ = call

    def wide(self) -> Beside:
        """Return what writes here, too, but on arrays of the type of sums."""
        return Beside(self)

    def run(self) -> None:
        """Do all that was written down."""
        play(self.calls)

    def product(
        self, a: Array, b: Array, c: Array, transpose_a: bool = False, transpose_b: bool = False
    ) -> None:
        """Write c = a b, either of them perhaps transposed; see `blas.gemm`."""
        self.call(blas.gemm, a, b, c, transpose_a, transpose_b, 0.0, self.tf32)

    # Memory.

    def new(self, shape: Sequence[int], dtype: Any = None) -> Array:
        """Return an array for the calls to come, of undefined contents."""
        return self.memory.new(tuple(shape), dtype or self.dtype)

    def lasting(self, shape: Sequence[int], dtype: Any = None) -> Array:
        """Return an array that is never handed on."""
        self.lasts.append(self.memory.lasting(tuple(shape), dtype or self.dtype))
        return self.lasts[-1]

    def like(self, array: Array) -> Array:
        """Return a new array in the shape and dtype of another."""
        return self.memory.new(array.shape, array.dtype)

    def free(self, *arrays: Array | None) -> None:
        """Say that no call to come needs these arrays, as far as the caller is concerned."""
        self.memory.free(*arrays)

    def hold(self, array: Array) -> Array:
        """Say that one more needs the array; return it."""
        return self.memory.hold(array)

    def reuse(self, array: Array) -> Array:
        """Take over an array: return it if nobody else needs it, or else a new one like it."""
        if self.memory.alone(array):
            return array
        self.free(array)
        return self.like(array)

    # What planners ask for.

    def weight(self, layer: Layer, name: str) -> Array:
        """Return a parameter in the storage type, for products."""
        return self.weights[f"{layer.path}/{name}"]

    def grad(self, layer: Layer, name: str) -> Array:
        """Return where the gradient of a parameter goes."""
        return self.params.grads[f"{layer.path}/{name}"]

    def expect(self, x: Array, arrival: Arrival) -> None:
        """Ask the next run for a call with the gradient of x."""
        self.arrival = x, arrival

    def expected(self, x: Array) -> Arrival | None:
        """Return what was asked for of x, once: who gets it has to do it."""
        if self.arrival is None or self.arrival[0] is not x:
            return None
        arrival, self.arrival = self.arrival[1], None
        return arrival

    def draws(self, layer: Layer) -> tuple[Array, tuple[int, int]]:
        """Return the counter of a layer's random numbers, and (seed, layer id) to go with it."""
        stream: Any = layer.stream
        self.streams.append((layer, stream))
        return self.clocks.of(lambda: stream.position), dropout.key(stream.seed, stream.number)

    # What the walk writes.

    def insert(self, x: Array, y: Array, channels: slice) -> None:
        """Write y[..., channels] = x."""
        elementwise.copy_channels(self, x, y, channels.start)

    def extract(self, y: Array, channels: slice, x: Array) -> None:
        """Write x = y[..., channels]."""
        elementwise.copy_channels_back(self, y, x, channels.start)

    def fill(self, y: Array, value: float) -> None:
        """Write y = value."""
        elementwise.fill(self, y, value)

    def cast(self, x: Array, y: Array) -> None:
        """Write y = x, between the storage type and that of sums."""
        if x.dtype == y.dtype == self.dtype:
            elementwise.copy(self, x, y)
        elif y.dtype == self.dtype:
            elementwise.cast_to(self, x, y)
        else:
            elementwise.widen(self, x, y)

    def add(self, a: Array, b: Array, y: Array) -> None:
        """Write y = a + b."""
        elementwise.add(self, a, b, y)


class Beside(Writer):
    """Writes into another's script launches on arrays of the type of sums."""

    def __init__(self, s: Launches) -> None:
        super().__init__(s.acc_dtype.name)
        self.script = s

    def call(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Write down a call of something that launches."""
        self.script.call(function, *arguments)

    def new(self, shape: Sequence[int], dtype: Any = None) -> Array:
        """Return an array for the calls to come, of undefined contents."""
        return self.script.new(shape, dtype or self.dtype)

    def free(self, *arrays: Array | None) -> None:
        """Say that no call to come needs these arrays."""
        self.script.free(*arrays)


class Solo:
    """A team of one: the script of the whole batch, and nobody to meet."""

    def __init__(self, script: Launches) -> None:
        self.scripts = [script]
        self.parts = [script.part]
        self.N, self.dtype, self.memory = script.N, np.dtype(script.dtype), script.memory
