"""The array: a NumPy array, wrapped and not inherited, on a device."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from .memory import Memory, allocate
from .stream import capturing, do, refuse

IMPLICIT = "Implicit conversion to a NumPy array is not allowed. Please use `.get()`"


@dataclass
class Counts:
    """What has happened so far; `reset` sets it back."""

    synchronizations: int = 0  # the CPU waited for the GPU
    transfers: int = 0  # something was copied from the CPU to the GPU

    def reset(self) -> None:
        self.synchronizations = self.transfers = 0


counts = Counts()
current_device = [0]  # changed by cuda.Device alone


def wrap(value: Any, device_id: int | None = None, source: ndarray | None = None) -> Any:
    """Put what NumPy returned on the current device; a NumPy scalar becomes a 0-d array.

    source: the array that it may be a view of.
    """
    if not isinstance(value, np.ndarray | np.generic):
        return value
    array = object.__new__(ndarray)
    host = np.asarray(value)
    array.device_id = current_device[0] if device_id is None else device_id
    array.base = array.memory = None
    if source is not None and np.may_share_memory(host, source._host):
        array.base = source if source.base is None else source.base
        array.memory = source.memory
    elif host.flags.owndata and host.flags.c_contiguous:  # into memory with guards around it
        array.memory, own = allocate(host.shape, host.dtype)
        own[...] = host
        host = own
    array._host = host
    return array


def launch(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Return what a function of unwrapped arguments makes, or an array that a graph will fill."""
    capture = capturing()
    if capture is None:
        return wrap(function(*args, **options))
    with np.errstate(all="ignore"):
        found = function(*args, **options)  # for its shape and dtype
    if not isinstance(found, np.ndarray | np.generic):
        return found
    if any(np.may_share_memory(found, a) for a in args if isinstance(a, np.ndarray)):
        return wrap(found)  # a view
    memory, host = allocate(np.shape(found), found.dtype)
    capture.add(lambda: np.copyto(host, function(*args, **options)), memory)
    return made(memory, host)


def made(memory: Memory, host: np.ndarray) -> ndarray:
    """Return an array for memory of the current device."""
    array = object.__new__(ndarray)
    array._host, array.memory, array.base = host, memory, None
    array.device_id = current_device[0]
    return array


def unwrap(value: Any) -> Any:
    """Return an argument as NumPy takes it, or refuse it as CuPy would."""
    if isinstance(value, ndarray):
        if value.device_id != current_device[0]:
            raise ValueError(
                f"The device where the array resides ({value.device_id}) is different from the "
                f"current device ({current_device[0]})."
            )
        return value._host
    if isinstance(value, np.ndarray | np.generic):
        raise TypeError(f"Unsupported type {type(value)}")
    if isinstance(value, tuple):
        return tuple(map(unwrap, value))
    if isinstance(value, list):
        raise TypeError(f"Unsupported type {type(value)}")
    return value


class ndarray:
    """See the package's docstring.  Views share memory, as CuPy's do."""

    __slots__ = ("__weakref__", "_host", "base", "device_id", "memory")
    __hash__ = None  # type: ignore[assignment]

    _host: np.ndarray
    base: ndarray | None  # whose memory a view shows: never a view itself
    device_id: int
    memory: Memory | None  # None: without guards

    def __init__(self, *args: Any, **options: Any) -> None:
        raise TypeError("the stand-in makes arrays by functions only: cupy.empty, ...")

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    strides = property(lambda self: self._host.strides)
    flags = property(lambda self: self._host.flags)
    data = property(lambda self: SimpleNamespace(ptr=self._host.ctypes.data))
    device = property(lambda self: SimpleNamespace(id=self.device_id))
    T = property(lambda self: self.transpose())

    # Refused: to become a NumPy array unasked, or to be an argument of NumPy's functions.

    def __array__(self, *args: Any, **options: Any) -> Any:
        raise TypeError(IMPLICIT)

    def __array_ufunc__(self, ufunc: Any, *args: Any, **options: Any) -> Any:
        raise TypeError(f"numpy.{ufunc.__name__} with a device array: {IMPLICIT}")

    def __array_function__(self, function: Any, *args: Any, **options: Any) -> Any:
        raise TypeError(f"numpy.{function.__name__} with a device array: {IMPLICIT}")

    # Allowed, and counted: to wait for a value.

    def get(self) -> np.ndarray:
        refuse("a copy to the CPU")
        counts.synchronizations += 1
        return self._host.copy()

    def set(self, arr: np.ndarray, stream: Any = None) -> None:
        refuse("a copy from the CPU")
        if not isinstance(arr, np.ndarray) or (arr.shape, arr.dtype) != (self.shape, self.dtype):
            raise TypeError(f"set: expected a NumPy array {self.shape} {self.dtype}, got {arr!r}")
        counts.transfers += 1
        self._host[...] = arr

    def item(self, *args: int) -> Any:
        return self.get().item(*args)

    def tolist(self) -> Any:
        return self.get().tolist()

    def __float__(self) -> float:
        return float(self.get())

    def __int__(self) -> int:
        return int(self.get())

    def __bool__(self) -> bool:
        return bool(self.get())

    def __iter__(self) -> Iterator[Any]:
        counts.synchronizations += 1
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return repr(self.get())

    def __format__(self, spec: str) -> str:
        return format(self.get().item() if self.ndim == 0 else self.get(), spec)

    # Free.

    def __len__(self) -> int:
        return len(self._host)

    def __getitem__(self, key: Any) -> Any:
        if not any(isinstance(part, ndarray) for part in parts(key)):
            return wrap(self._host[unwrap(key)], self.device_id, self)  # a view
        if has_mask(key):  # how many values are chosen decides the shape
            refuse("a mask as an index")
            counts.synchronizations += 1
        return launch(operator.getitem, unwrap(self), unwrap(key))

    def __setitem__(self, key: Any, value: Any) -> None:
        if has_mask(key) and isinstance(value, ndarray):
            refuse("a mask as an index")
            counts.synchronizations += 1
        host, key, value = unwrap(self), unwrap(key), unwrap(value)
        do(lambda: operator.setitem(host, key, value), self.memory)

    def __copy__(self) -> ndarray:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> ndarray:
        return self.copy()


def parts(key: Any) -> tuple[Any, ...]:
    return key if isinstance(key, tuple) else (key,)


def has_mask(key: Any) -> bool:
    return any(isinstance(part, ndarray) and part.dtype == bool for part in parts(key))


def view(name: str) -> Callable[..., Any]:
    """A method that launches nothing, and so works whichever device is current."""

    def call(self: ndarray, *args: Any, **options: Any) -> Any:
        shown = getattr(self._host, name)(*map(unwrap, args), **options)
        return wrap(shown, self.device_id, self)

    return call


def method(name: str) -> Callable[..., Any]:
    """A method that computes."""

    def call(self: ndarray, *args: Any, **options: Any) -> Any:
        named = {key: unwrap(value) for key, value in options.items()}
        host, args = unwrap(self), tuple(map(unwrap, args))
        if name == "fill":
            return do(lambda: host.fill(*args), self.memory)
        if name == "astype" and not named.get("copy", True) and host.dtype == np.dtype(args[0]):
            return self
        function = operator.methodcaller(name, *args, **named)
        out = options.get("out")
        if out is not None:
            do(lambda: function(host), self.memory, out.memory)
            return out
        return launch(function, host)

    return call


VIEWS = ("ravel", "reshape", "squeeze", "swapaxes", "transpose", "view")
METHODS = (
    "argmax", "argmin", "argsort", "all", "any", "astype", "clip", "copy", "dot", "fill", "max",
    "mean", "min", "prod", "repeat", "std", "sum", "take", "var",
)  # fmt: skip
OPERATORS = (
    "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor",
)  # fmt: skip
for name in VIEWS:
    setattr(ndarray, name, view(name))
for name in METHODS:
    setattr(ndarray, name, method(name))


def binary(function: Callable[[Any, Any], Any], swapped: bool) -> Callable[..., Any]:
    def call(self: ndarray, other: Any) -> Any:
        a, b = unwrap(self), unwrap(other)
        return launch(function, b, a) if swapped else launch(function, a, b)

    return call


def in_place(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def call(self: ndarray, other: Any) -> ndarray:
        a, b = unwrap(self), unwrap(other)
        do(lambda: function(a, b), self.memory)  # NumPy writes into the array itself
        return self

    return call


for name in OPERATORS:
    function = getattr(operator, f"__{name}__")
    setattr(ndarray, f"__{name}__", binary(function, swapped=False))
    setattr(ndarray, f"__r{name}__", binary(function, swapped=True))
    if name != "matmul":  # CuPy has no a @= b
        setattr(ndarray, f"__i{name}__", in_place(getattr(operator, f"__i{name}__")))
for name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(ndarray, f"__{name}__", binary(getattr(operator, name), swapped=False))
for name in ("neg", "pos", "abs", "invert"):
    setattr(ndarray, f"__{name}__", method(f"__{name}__"))
