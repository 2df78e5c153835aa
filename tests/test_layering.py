"""The rules of the house, read from its source."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

import pytest

import minicnn

HOUSE = Path(minicnn.__file__).parent
FILES = sorted(HOUSE.rglob("*.py"))

# From the ground up.  A file imports from lower floors, or from its own folder; a file or folder
# that isn't named here stands on the floor of the extras.
FLOORS = [
    {"backend", "streams", "files", "signals", "options", "pages", "parallel"},
    {"functional", "initializers", "schedule", "workers"},
    {"params", "groups", "lookahead"},
    {"layers", "losses", "optim", "metrics", "data", "kernels"},
    {"models", "gradcheck", "plan", "progress", "evaluation"},
    {"diagnosis", "doctor", "views"},
    {"train", "checkpoint"},
    {"early_stopping"},
    {"run"},
    {"fitting", "recipes"},
    {"plots", "interop", "explain", "prediction", "distributed"},  # the extras
    {"lr_finder", "report", "tuning", "web"},
    {"cli"},
    {"__main__"},
]
EXTRAS = 10

# What a folder may import, where the floors alone would allow more.
ONLY = {"functional": {"backend", "options", "functional"}}

each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOUSE)))


def room(path: Path) -> str:
    """The file or folder of the package that a path lies in: "train", "layers"."""
    return path.relative_to(HOUSE).parts[0].removesuffix(".py")


def floor(name: str) -> int:
    return next((i for i, names in enumerate(FLOORS) if name in names), EXTRAS)


def imports(path: Path) -> set[str]:
    """Every module that a file imports, by its full name, wherever in the file it does so."""
    package = ["minicnn", *path.relative_to(HOUSE).parts[:-1]]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            found.add(start)
            found |= {f"{start}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            found |= {a.value for a in node.args if isinstance(a, ast.Constant)}
    return found


def rooms(path: Path) -> set[str]:
    """The files and folders of the package that a file imports."""
    parts = [name.split(".") for name in imports(path)]
    names = {name[1] for name in parts if name[0] == "minicnn" and len(name) > 1}
    return {name for name in names if (HOUSE / name).is_dir() or (HOUSE / f"{name}.py").is_file()}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from . import conv", {"conv"}),
        ("from .conv import x", {"conv"}),
        ("from ..backend import Array", {"minicnn.backend"}),
        ("from .. import backend", {"minicnn.backend"}),
        ("import minicnn.train", {"minicnn.train"}),
        ("def f():\n    import cupy", {"cupy"}),
        ("importlib.import_module('cupy')", {"cupy"}),
    ],
)
def test_imports_are_read(monkeypatch, tmp_path, source, expected):
    monkeypatch.setitem(globals(), "HOUSE", tmp_path)
    (tmp_path / "layers").mkdir()
    path = tmp_path / "layers" / "new.py"
    path.write_text(source)
    found = {name.removeprefix("minicnn.layers.") for name in imports(path)}
    assert expected <= found


@each_file
def test_file_imports_from_lower_floors(path):
    if path == HOUSE / "__init__.py":
        return
    own = room(path)
    for other in rooms(path) - {own}:
        assert floor(other) < floor(own), f"{own} (floor {floor(own)}) imports {other}"
        assert own not in ONLY or other in ONLY[own], f"{own} imports {other}"


def test_floors_name_each_file_once():
    names = [name for names in FLOORS for name in names]
    assert len(names) == len(set(names))


@each_file
def test_file_imports_cupy_only_at_the_bottom(path):
    allowed = path == HOUSE / "backend.py" or HOUSE / "kernels" / "cuda" in path.parents
    assert allowed or not any(name.split(".")[0] in ("cupy", "cupyx") for name in imports(path))


@each_file
def test_file_is_small_and_named(path):
    assert path.stem not in ("utils", "util", "helpers", "misc", "common")
    assert len(path.read_text(encoding="utf-8").splitlines()) < 320


@each_file
def test_file_has_no_assert(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lines = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    assert lines == [], "python -O drops them: raise an error"


@each_file
def test_file_is_documented(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    missing = [] if ast.get_docstring(tree) else ["the file"]
    name = ".".join(["minicnn", *path.relative_to(HOUSE).with_suffix("").parts])
    name = name.removesuffix(".__init__")
    module = None if path.stem == "__main__" else importlib.import_module(name)
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        if ast.get_docstring(node) is None:
            missing.append(node.name)
        for part in node.body if isinstance(node, ast.ClassDef) else []:
            if isinstance(part, ast.FunctionDef) and not part.name.startswith("_"):
                method = getattr(getattr(module, node.name), part.name)
                if not inspect.getdoc(method):  # its own, or what it overrides
                    missing.append(f"{node.name}.{part.name}")
    assert missing == []
