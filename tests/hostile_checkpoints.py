"""Model files and training states that are broken or made to do harm; every one made by code.

A file of safetensors is a length (8 bytes), a header (JSON) and the numbers.  What minicnn says of
a model is one more JSON text inside that header, with a checksum.  An attacker can compute that
checksum too, so most of these have the right one: ``sealed``.
"""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import minicnn as mc
from minicnn.checkpoint.file import checksum
from minicnn.checkpoint.model import describe, numpy_arrays

NAMES = {"float16": "F16", "float32": "F32", "float64": "F64", "int8": "I8", "int32": "I32"}
NAMES |= {"uint8": "U8", "bool": "BOOL", "int64": "I64", "complex64": "C64"}
SHAPE = (6, 5, 3)


def net() -> mc.Sequential:
    return mc.Sequential(
        mc.Normalize((0.4, 0.5, 0.6), (0.2, 0.3, 0.4)),
        mc.Conv2D(4, 3, kernel_regularizer=mc.L2(1e-3)),
        mc.BatchNorm(0.5),
        mc.Residual([mc.Conv2D(4, 1), mc.LeakyReLU()]),
        mc.Concat([mc.MaxPool2D(2), [mc.AveragePool2D(2), mc.Conv2D(2, 1)]]),
        mc.Flatten(),
        mc.Dropout(0.5),
        mc.Dense(3, name="head"),
    )


@cache
def model() -> mc.Sequential:
    return net().build(SHAPE, seed=4)


def whole() -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return arrays and description of a good file, to be changed at will."""
    arrays = numpy_arrays(model())
    description = json.loads(json.dumps({"version": 1, **describe(model())}))
    return {name: array.copy() for name, array in arrays.items()}, copy.deepcopy(description)


# From arrays and description to bytes, without asking whether it makes sense.


def entries(arrays: dict[str, np.ndarray]) -> tuple[dict[str, Any], bytes]:
    header, numbers = {}, b""
    for name, array in arrays.items():
        raw = np.ascontiguousarray(array).tobytes()
        ends = [len(numbers), len(numbers) + len(raw)]
        kind = NAMES[array.dtype.name]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": ends}
        numbers += raw
    return header, numbers


def assemble(header: str | bytes, numbers: bytes, length: int | None = None) -> bytes:
    raw = header.encode() if isinstance(header, str) else header
    raw += b" " * (-len(raw) % 8) if length is None else b""
    return struct.pack("<Q", len(raw) if length is None else length) + raw + numbers


def with_text(text: str, arrays: dict[str, np.ndarray] | None = None) -> bytes:
    """Return a file whose description is ``text``, right or wrong."""
    header, numbers = entries(whole()[0] if arrays is None else arrays)
    return assemble(json.dumps({"__metadata__": {"minicnn": text}, **header}), numbers)


def sealed(arrays: dict[str, np.ndarray], description: dict[str, Any]) -> bytes:
    """Return a file with the right checksum."""
    description.pop("sha256", None)
    description["sha256"] = checksum(description, arrays)
    return with_text(json.dumps(description), arrays)


def good() -> bytes:
    return sealed(*whole())


def changed(change: Callable[[dict[str, np.ndarray], dict[str, Any]], Any]) -> Callable[[], bytes]:
    def make() -> bytes:
        arrays, description = whole()
        change(arrays, description)
        return sealed(arrays, description)

    return make


def described(**values: Any) -> Callable[[], bytes]:
    return changed(lambda arrays, description: description.update(values))


def layer(index: int, **options: Any) -> Callable[[], bytes]:
    return changed(lambda a, d: d["architecture"]["layers"][index].update(options))


def instead(*layers: dict[str, Any], shape: tuple[int, ...] = SHAPE) -> Callable[[], bytes]:
    """Return a file of other layers, with the arrays of the good one."""
    architecture = {"type": "Sequential", "layers": list(layers)}
    return described(architecture=architecture, input_shape=list(shape))


def stored(name: str, value: Any) -> Callable[[], bytes]:
    return changed(lambda arrays, description: arrays.update({name: np.asarray(value)}))


def as_dtype(dtype: str) -> Callable[[], bytes]:
    return changed(lambda a, d: a.update({k: v.astype(dtype) for k, v in a.items()}))


def damaged(where: str, mask: int = 1) -> Callable[[], bytes]:
    """Return the good file with some bits of one byte changed."""

    def make() -> bytes:
        data = bytearray(good())
        end = 8 + struct.unpack("<Q", data[:8])[0]
        place = {
            "length": 0,
            "length_high": 7,
            "header": 8,
            "description": data.index(b"architecture"),
            "checksum": data.index(b"sha256") + 15,
            "name": data.index(b'"head/w'),
            "shape": data.index(b'"shape": [') + 10,
            "offset": data.index(b'"data_offsets": [') + 17,
            "dtype": data.index(b'"F32"') + 2,
            "numbers": end,
            "last": len(data) - 1,
        }[where]
        data[place] ^= mask
        return bytes(data)

    return make


def cut(where: str) -> Callable[[], bytes]:
    def make() -> bytes:
        data = good()
        end = 8 + struct.unpack("<Q", data[:8])[0]
        places = {"length": 5, "header": 8, "description": 8 + 300, "arrays": end - 40}
        places |= {"numbers": end, "middle": (end + len(data)) // 2, "last": len(data) - 1}
        return data[: places[where]]

    return make


def header(change: Callable[[dict[str, Any]], Any], more: bytes = b"") -> Callable[[], bytes]:
    """Return the good file with its safetensors header changed."""

    def make() -> bytes:
        arrays, description = whole()
        description["sha256"] = checksum(description, arrays)
        top, numbers = entries(arrays)
        top = {"__metadata__": {"minicnn": json.dumps(description)}, **top}
        change(top)
        return assemble(json.dumps(top), numbers + more)

    return make


def twice() -> bytes:
    """Return a file whose header has one array's name twice."""
    data = good()
    end = 8 + struct.unpack("<Q", data[:8])[0]
    text = data[8:end].decode().rstrip()
    entry = text[text.index('"head/b"') :].rstrip("}") + "}"
    return assemble(text[:-1] + ", " + entry + "}", data[end:])


def described_twice() -> bytes:
    """Return a file whose description has one key twice, with two meanings."""
    arrays, description = whole()
    description["sha256"] = checksum(description, arrays)
    text = json.dumps(description)
    return with_text('{"architecture": {"type": "ReLU"}, ' + text[1:], arrays)


def text_with(**raw: str) -> Callable[[], bytes]:
    """Return a file whose description holds raw JSON, such as NaN."""

    def make() -> bytes:
        arrays, description = whole()
        description |= {key: f"@{key}@" for key in raw}
        text = json.dumps(description)
        for key, value in raw.items():
            text = text.replace(f'"@{key}@"', value)
        try:
            parsed = json.loads(text)
            text = text[:-1] + f', "sha256": "{checksum(parsed, arrays)}"}}'
        except (ValueError, RecursionError):
            text = text[:-1] + ', "sha256": ""}'
        return with_text(text, arrays)

    return make


def deep(levels: int, kind: str) -> str:
    """Return the JSON of layers inside layers."""
    before, after = {
        "Sequential": ('{"type": "Sequential", "layers": [', "]}"),
        "Concat": ('{"type": "Concat", "branches": [', "]}"),
        "Residual": ('{"type": "Residual", "body": ', "}"),
    }[kind]
    inner = before * levels + '{"type": "ReLU"}' + after * levels
    return '{"type": "Sequential", "layers": [' + inner + "]}"


def nested(levels: int, kind: str) -> Callable[[], bytes]:
    return lambda: text_with(architecture=deep(levels, kind))()


def kernel(**options: Any) -> dict[str, Any]:
    return {"type": "Conv2D", "filters": 4, "kernel_size": 3, **options}


class Gadget:
    """A pickle that would make a folder where it is read."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("gadget",)


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("data.pkl", pickle.dumps(Gadget()))
        file.writestr("weights.npy", bytes(1 << 20))
    return buffer.getvalue()


def many_arrays(count: int) -> bytes:
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    return assemble(json.dumps({f"{i}": entry for i in range(count)}), b"")


def not_numbers(value: float) -> Callable[[], bytes]:
    def change(arrays: dict[str, np.ndarray], description: dict[str, Any]) -> None:
        arrays["head/w"][1, 2] = value

    return changed(change)


def reshaped(arrays: dict[str, np.ndarray], description: dict[str, Any]) -> None:
    arrays["head/w"] = np.ascontiguousarray(arrays["head/w"].T)


def renamed(arrays: dict[str, np.ndarray], description: dict[str, Any]) -> None:
    arrays["tail/w"] = arrays.pop("head/w")


def swapped(arrays: dict[str, np.ndarray], description: dict[str, Any]) -> None:
    a, b = "conv2d_1/b", "head/b"
    arrays[a], arrays[b] = arrays[b], arrays[a]


ANY = "."
WHOLE, UNKNOWN, BUILT = "isn't a whole", "unknown layer type", "can't be built"
FIT, DAMAGED, BROKEN = "don't fit", "is damaged", "description of the model is broken"

FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    # Cut, in each section.
    "empty": (lambda: b"", WHOLE),
    **{f"cut_{where}": (cut(where), WHOLE) for where in (
        "length", "header", "description", "arrays", "numbers", "middle", "last"
    )},
    "more": (lambda: good() + b"more", WHOLE),
    # Bits changed, in each section.
    "flip_length": (damaged("length"), WHOLE),
    "flip_length_high": (damaged("length_high", 0x80), WHOLE),
    "flip_header": (damaged("header"), WHOLE),
    "flip_description": (damaged("description"), BUILT),
    "flip_checksum": (damaged("checksum"), DAMAGED),
    "flip_name": (damaged("name", 2), WHOLE),
    "flip_array_name": (damaged("name", 0x20), ANY),
    "flip_shape": (damaged("shape"), WHOLE),
    "flip_offset": (damaged("offset"), WHOLE),
    "flip_dtype": (damaged("dtype", 4), WHOLE),
    "flip_numbers": (damaged("numbers"), DAMAGED),
    "flip_last": (damaged("last", 0x80), DAMAGED),
    # Arrays that aren't those of the model.
    "reshaped": (changed(reshaped), FIT),
    "renamed": (changed(renamed), FIT),
    "swapped": (changed(swapped), FIT),
    "missing": (changed(lambda a, d: a.pop("head/b")), FIT),
    "missing_all": (changed(lambda a, d: a.clear()), FIT),
    "extra": (stored("extra/w", np.ones(3, "float32")), FIT),
    "escaping_name": (stored("../../escape", np.ones(3, "float32")), FIT),
    "twice": (twice, ANY),
    **{dtype: (as_dtype(dtype), dtype) for dtype in (
        "int8", "float16", "uint8", "bool", "complex64", "int64", "float64"
    )},
    "nan": (not_numbers(np.nan), "head/w has values that aren't finite"),
    "inf": (not_numbers(np.inf), "head/w has values that aren't finite"),
    "minus_inf": (not_numbers(-np.inf), "head/w has values that aren't finite"),
    # The safetensors header.
    "bfloat16": (header(lambda h: h["head/b"].update(dtype="BF16", shape=[6])), ANY),
    "float8": (header(lambda h: h["head/b"].update(dtype="F8_E4M3", shape=[12])), ANY),
    "unknown_dtype": (header(lambda h: h["head/b"].update(dtype="Q5")), WHOLE),
    "huge_shape": (header(lambda h: h["head/b"].update(shape=[10**18])), WHOLE),
    "huge_product": (header(lambda h: h["head/b"].update(shape=[2**32, 2**32, 2])), WHOLE),
    "huge_integer": (header(lambda h: h["head/b"].update(shape=[10**30])), WHOLE),
    "negative_shape": (header(lambda h: h["head/b"].update(shape=[-3])), WHOLE),
    "many_dimensions": (header(lambda h: h["head/b"].update(shape=[3] + [1] * 100)), ANY),
    "huge_offset": (header(lambda h: h["head/b"].update(data_offsets=[0, 2**62])), WHOLE),
    "overlap": (header(lambda h: h["head/b"].update(data_offsets=[0, 12])), WHOLE),
    "hole": (header(lambda h: None, more=bytes(8)), WHOLE),
    "metadata_list": (header(lambda h: h.update(__metadata__=[1])), WHOLE),
    "metadata_number": (header(lambda h: h.update(__metadata__={"minicnn": 3})), WHOLE),
    "no_metadata": (header(lambda h: h.pop("__metadata__")), "no minicnn model"),
    "length_of_everything": (lambda: assemble(b"{}", b"", 2**64 - 1), WHOLE),
    "length_99_MB": (lambda: assemble(b"{}", b"", 99_999_999), WHOLE),
    "header_deep": (lambda: assemble("[" * 100_000, b""), WHOLE),
    "header_not_utf8": (lambda: assemble(b'{"\xff\xfe": 1}', b""), WHOLE),
    "many_arrays": (lambda: many_arrays(200_000), ANY),
    # The version.
    "version_2": (described(version=2), "version 2, this minicnn reads up to 1"),
    "version_huge": (described(version=10**300), "update minicnn"),
    "version_0": (described(version=0), "version 0"),
    "version_negative": (described(version=-1), "version -1"),
    "version_true": (described(version=True), "version True"),
    "version_float": (described(version=1.0), "version 1.0"),
    "version_text": (described(version="1"), "version '1'"),
    "version_null": (described(version=None), "version None"),
    "version_list": (described(version=[1]), r"version \[1\]"),
    "version_gone": (changed(lambda a, d: d.pop("version")), BROKEN),
    "checksum_gone": (lambda: with_text(json.dumps(whole()[1])), BROKEN),
    "checksum_number": (lambda: with_text(json.dumps(whole()[1] | {"sha256": 3})), DAMAGED),
    # JSON.
    "json_deep": (lambda: with_text("[" * 100_000 + "]" * 100_000), BROKEN),
    "json_deep_dicts": (lambda: with_text('{"a":' * 100_000 + "1" + "}" * 100_000), BROKEN),
    "json_deep_value": (text_with(input_shape="[" * 100_000 + "]" * 100_000), BROKEN),
    **{f"json_deep_extra_{n}": (text_with(extra="[" * n + "]" * n), ANY) for n in (980, 985, 990)},
    "json_nan": (text_with(input_shape="[NaN, 5, 3]"), BUILT),
    "json_infinity": (text_with(input_shape="[Infinity, 5, 3]"), BUILT),
    "json_huge_float": (text_with(input_shape="[1e999, 5, 3]"), BUILT),
    "json_huge_integer": (text_with(input_shape=f"[{'9' * 4000}, 5, 3]"), ANY),
    "json_more_digits": (text_with(input_shape=f"[{'9' * 100_000}, 5, 3]"), BROKEN),
    "json_twice": (described_twice, ANY),
    "json_text": (lambda: with_text('"architecture"'), BROKEN),
    "json_surrogate": (text_with(architecture='{"type": "\\ud800"}'), UNKNOWN),
    "json_nul": (lambda: with_text("\0"), BROKEN),
    "long_type": (lambda: described(architecture={"type": "A" * 10_000_000})(), ANY),
    "long_key": (lambda: described(architecture={"A" * 10_000_000: 1})(), ANY),
    "long_dtype": (lambda: described(dtype="A" * 10_000_000)(), ANY),
    "long_shape": (lambda: described(input_shape=[1] * 3_000_000)(), ANY),
    "long_text": (lambda: with_text("A" * 10_000_000), ANY),
    "wide_text": (lambda: with_text('"\U0001f600' + "A" * 10_000_000 + '"'), ANY),
    "many_lists": (lambda: with_text("[" + "[]," * 5_000_000 + "0]"), ANY),
    "many_dicts": (text_with(extra="[" + "{}," * 3_000_000 + "0]"), ANY),
    "many_layers": (lambda: instead(*[{"type": "ReLU"}] * 300_000)(), ANY),
    "many_layers_less": (lambda: instead(*[{"type": "ReLU"}] * 60_000)(), ANY),
    "long_name": (
        lambda: instead(
            {"type": "Sequential", "name": "A" * 300_000, "layers": [{"type": "ReLU"}] * 15_000}
        )(), ANY),
    # The model's fields.
    **{f"{key}_{name}": (described(**{key: value}), BUILT)
       for key in ("architecture", "input_shape", "dtype", "classes")
       for name, value in {
           "null": None, "number": 3, "true": True, "text": "float16", "dict": {"a": 1},
           "numbers": [1.5, 2.5, 3.5], "nested": [[6], [5], [3]],
       }.items()
       if (key, name) != ("architecture", "nested")},
    **{f"{key}_gone": (changed(lambda a, d, key=key: d.pop(key)), BUILT)
       for key in ("architecture", "input_shape", "dtype", "classes")},
    "classes_too_many": (described(classes=["a", "b", "c", "d"]), ANY),
    "input_shape_true": (described(input_shape=[True, 5, 3]), BUILT),
    "input_shape_zero": (described(input_shape=[6, 0, 3]), BUILT),
    "input_shape_huge": (described(input_shape=[10**12, 10**12, 3]), FIT),
    "other_shape": (described(input_shape=[6, 5, 1]), ANY),
    # Layers that aren't, and names that would be imported.
    **{f"type_{name}": (instead({"type": value}), ANY) for name, value in {
        "dotted": "os.system", "module": "minicnn.layers.Dense", "dunder": "__class__",
        "base": "Layer", "pool": "Pool2D", "builtin": "eval", "empty": "", "null": None,
        "list": ["ReLU"], "dict": {"a": 1}, "number": 1, "true": True, "lambda": "lambda: 0",
    }.items()},
    **{f"key_{key}": (instead({"type": "ReLU", key: "os.system"}), ANY) for key in (
        "__class__", "__init__", "__dict__", "cache", "path", "forward", "way", "self", "own"
    )},
    "type_gone": (instead({}), UNKNOWN),
    "layers_gone": (described(architecture={"type": "Sequential"}), BUILT),
    "layers_empty": (instead(), BUILT),
    "layers_dict": (described(architecture={"type": "Sequential", "layers": {"a": 1}}), BUILT),
    "layers_text": (described(architecture={"type": "Sequential", "layers": "abc"}), BUILT),
    **{f"nested_{levels}_{kind}": (nested(levels, kind), ANY)
       for kind in ("Sequential", "Residual", "Concat") for levels in (5_000, 320, 240, 160)},
    # Dimensions that no memory holds.
    "huge_filters": (instead(kernel(filters=10**12), {"type": "BatchNorm"}), FIT),
    "huge_kernel": (instead(kernel(kernel_size=10**9, padding="same")), FIT),
    "huge_units": (
        instead({"type": "Flatten"}, {"type": "Dense", "units": 10**15}, {"type": "BatchNorm"}),
        FIT,
    ),
    "huge_beyond_64_bits": (instead(kernel(filters=10**30), {"type": "BatchNorm"}), BUILT),
    "huge_channels": (instead({"type": "PadChannels", "channels": 10**12}, {"type": "BatchNorm"}),
                      FIT),
    "huge_channels_beyond_64_bits": (
        instead({"type": "PadChannels", "channels": 10**30}, {"type": "BatchNorm"}), BUILT),
    "huge_doubled": (
        instead(*[{"type": "Concat", "branches": [None, {"type": "ReLU"}]}] * 2000,
                {"type": "BatchNorm"}), BUILT),
    "branches_all_gone": (instead({"type": "Concat", "branches": []}), BUILT),
    "layer_gone": (instead(None), UNKNOWN),
    "huge_digits": (instead(kernel(filters=10**4000)), ANY),
    "huge_strides": (instead(kernel(strides=10**400, padding="same")), ANY),
    "huge_padding": (instead(kernel(padding=10**12), {"type": "Flatten"},
                             {"type": "Dense", "units": 10**12}), FIT),
    "huge_dilation": (instead(kernel(dilation_rate=10**400, padding="same")), ANY),
    "huge_pool": (instead({"type": "MaxPool2D", "pool_size": 10**9, "padding": "same"}), BUILT),
    # Arguments.
    **{f"argument_{index}_{key}_{name}": (layer(index, **{key: value}), ANY)
       for index, keys in {
           0: ("mean", "std", "scale"),
           1: ("filters", "kernel_size", "strides", "padding", "dilation_rate", "groups",
               "kernel_initializer", "bias_initializer", "kernel_regularizer"),
           2: ("momentum", "eps"),
           6: ("rate",),
           7: ("units", "name"),
       }.items()
       for key in keys
       for name, value in {
           "text": "abc", "dict": {"a": 1}, "nan": float("nan"), "minus": -1,
           "list": [["a"], 2], "lists": [[[[1]]]],
       }.items()
       if (index, key, name) not in (
           (0, "mean", "minus"),  # a mean may be negative
           (7, "name", "text"),
       )},
    "regularizer_text": (layer(1, kernel_regularizer={"l1": "1", "l2": "2"}), BUILT),
    "regularizer_nan": (layer(1, kernel_regularizer={"l2": float("nan")}), BUILT),
    "regularizer_unknown": (layer(1, kernel_regularizer={"l3": 1.0}), BUILT),
    "slope_text": (
        changed(lambda a, d: d["architecture"]["layers"][3]["body"]["layers"][1].update(
            negative_slope="abc")), BUILT),
    "slope_nan": (
        changed(lambda a, d: d["architecture"]["layers"][3]["body"]["layers"][1].update(
            negative_slope=float("nan"))), BUILT),
    # Other files.
    "pickle": (lambda: pickle.dumps(Gadget()), WHOLE),
    "zip": (zipped, WHOLE),
    "npy": (lambda: b"\x93NUMPY\x01\x00" + bytes(500), WHOLE),
    "text": (lambda: b"This is not a model.\n" * 100, WHOLE),
    "zeros": (lambda: bytes(100_000), WHOLE),
    "html": (lambda: b"<!DOCTYPE html><title>404</title>" * 10, WHOLE),
}  # fmt: skip


def make_directory(path: Path) -> None:
    path.mkdir()


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_link_loop(path: Path) -> None:
    path.symlink_to(path)


def make_dangling_link(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def make_link_to_endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def make_sparse(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(1 << 36)  # 64 GiB of zeros that take no place


PLACES = {
    "directory": make_directory,
    "fifo": make_fifo,
    "link_loop": make_link_loop,
    "dangling_link": make_dangling_link,
    "endless": make_link_to_endless,
    "sparse": make_sparse,
}


def put(*path: str | int, value: Any) -> Callable[[dict[str, np.ndarray], dict[str, Any]], None]:
    """Return a change: a value at a place in the description."""

    def change(arrays: dict[str, np.ndarray], description: dict[str, Any]) -> None:
        inside: Any = description
        for key in path[:-1]:
            inside = inside[key]
        inside[path[-1]] = value

    return change


def without(*path: str | int) -> Callable[[dict[str, np.ndarray], dict[str, Any]], None]:
    def change(arrays: dict[str, np.ndarray], description: dict[str, Any]) -> None:
        inside: Any = description
        for key in path[:-1]:
            inside = inside[key]
        del inside[path[-1]]

    return change


def memory(name: str, make: Callable[[np.ndarray], Any]) -> Any:
    """Return a change: one array of the optimizer's memory made anew, or left out."""

    def change(arrays: dict[str, np.ndarray], description: dict[str, Any]) -> None:
        new = make(arrays.pop(f"optimizer/{name}"))
        if new is not None:
            arrays[f"optimizer/{name}"] = new

    return change


WRONG = {
    "null": None, "text": "abc", "list": ["a", 1], "dict": {"a": 1}, "minus": -3,
    "nan": float("nan"), "true": True, "huge": 10**30,
}  # fmt: skip
RUN = ("epoch", "position", "seconds", "meter", "best", "records", "streams", "batch_size", "data")
OPTIMIZER = ("type", "steps", "lr", "options", "plateau")

STATES: dict[str, Callable[[dict[str, np.ndarray], dict[str, Any]], Any]] = {
    **{f"run_{name}": put("run", value=value) for name, value in WRONG.items()},
    **{f"optimizer_{name}": put("optimizer", value=value) for name, value in WRONG.items()},
    **{f"run_{key}_gone": without("run", key) for key in RUN},
    **{f"optimizer_{key}_gone": without("optimizer", key) for key in OPTIMIZER},
    "run_gone": without("run"),
    "optimizer_gone": without("optimizer"),
    **{f"run_{key}_{name}": put("run", key, value=value)
       for key in RUN for name, value in WRONG.items()
       if (key, name) not in {
           ("best", "null"), ("best", "minus"), ("best", "huge"), ("seconds", "huge"),
       }},
    **{f"optimizer_{key}_{name}": put("optimizer", key, value=value)
       for key in OPTIMIZER for name, value in WRONG.items()
       if key != "plateau" and (key, name) != ("steps", "huge")},
    **{f"stream_{name}": put("run", "streams", "shuffle", value=value) for name, value in {
        **WRONG, "position_text": [0, "1"], "position_minus": [0, -1], "position_float": [0, 1.5],
        "position_huge": [0, 10**30], "position_true": [0, True], "three": [0, 1, 2],
        "position_null": [0, None],
    }.items()},
    "stream_gone": without("run", "streams", "shuffle"),
    "stream_more": put("run", "streams", "more", value=[0, 0]),
    **{f"meter_{name}": put("run", "meter", value=value) for name, value in {
        "two": [0, 0.0], "texts": ["0", "0", "0"], "minus": [-1, 0.0, 0], "float": [0.5, 0.0, 0],
        "more_right_than_seen": [4, 1.0, 5],
    }.items()},
    **{f"record_{name}": put("run", "records", 0, value=value) for name, value in WRONG.items()},
    "record_more": put("run", "records", 0, "more", value=1),
    "record_less": without("run", "records", 0, "loss"),
    "record_text": put("run", "records", 0, "loss", value="abc"),
    "records_missing": put("run", "records", value=[]),
    "position_beyond": put("run", "position", value=1000),
    "memory_reshaped": memory("m/head/b", lambda a: a.reshape(3, 1)),
    "memory_of_one": memory("m/head/b", lambda a: a[:1]),
    "memory_longer": memory("m/head/b", lambda a: np.zeros(4, "float32")),
    "memory_gone": memory("v/head/w", lambda a: None),
    "memory_int8": memory("m/head/b", lambda a: a.astype("int8")),
    "memory_complex": memory("m/head/b", lambda a: a.astype("complex64")),
    "memory_nan": memory("m/head/b", lambda a: a * np.nan),
}  # fmt: skip

MAY_BE_SAID = {
    f"{key}_{name}" for key in ("run_batch_size", "optimizer_lr", "optimizer_options")
    for name in ("minus", "huge", "nan", "dict")
}  # fmt: skip
"""What may be a difference that is said in a warning, rather than an error."""


def restore(path: Path, change: Callable[[dict[str, np.ndarray], dict[str, Any]], Any]) -> None:
    """Write a state again, changed, with the right checksum."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        description = json.loads(file.metadata()["minicnn"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(arrays, description)
    path.write_bytes(sealed(arrays, description))
