"""Small training runs for tests: in this process, in another one, stopped where a test says.

As a program, ``run_helpers.py FOLDER EPOCHS [DIE_AT]``, it trains in a folder from where the run
there stands, and prints "ready" and, at the end, "done" with a digest of everything that counts.
DIE_AT: kill itself before its so many-th operation on a file in the folder.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import minicnn as mc

SHAPE = (5, 4, 3)
CLASSES = 4
COUNT = 22  # pictures
KINDS = [mc.SGD, mc.RMSprop, mc.Adam, mc.AdamW]


def pictures(n: int = COUNT, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (n, *SHAPE)).astype("uint8")
    return x, rng.permutation(np.arange(n) % CLASSES)


def net(filters: int = 3) -> mc.Sequential:
    return mc.Sequential(
        mc.Normalize(0.5, 0.25),
        mc.Conv2D(filters, 3, kernel_regularizer=mc.L2(1e-3)),
        mc.BatchNorm(0.5),
        mc.ReLU(),
        mc.Dropout(0.3),
        mc.Flatten(),
        mc.Dense(CLASSES),
    )


class Bell:
    """An augmentation that varies nothing, and sends this process a signal at its n-th batch."""

    def __init__(self, at: int = 0, number: int = signal.SIGINT) -> None:
        self.left, self.number = at, number

    def __call__(self, x: Any, labels: Any, rng: Any) -> tuple[Any, Any]:
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(self.number)
        return x, labels


@dataclass
class Plan:
    """A run to be made again and again, each time from nothing but its folder."""

    optimizer: Callable[[], mc.optim.Optimizer] = lambda: mc.Adam(0.01)
    model: Callable[[], mc.Sequential] = net
    shape: tuple[int, ...] = SHAPE
    data: tuple[np.ndarray, np.ndarray] = field(default_factory=pictures)
    dtype: str = "float32"
    augment: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    def train(
        self, epochs: int, folder: Any = None, stop: int = 0, number: int = signal.SIGINT, **more
    ) -> Result:
        """Train until ``epochs`` are done, or until a signal at this call's batch ``stop``."""
        model = self.model().build(self.shape, seed=1, dtype=self.dtype)
        result = Result(model, self.optimizer())
        options = {"batch_size": 4, "seed": 3, "progress": False, **self.options, **more}
        augment = [*self.augment, Bell(stop, number)]
        fitted = mc.fit(
            model, *self.data, optimizer=result.optimizer, epochs=epochs, augment=augment,
            checkpoint=folder, **options,
        )  # fmt: skip
        try:
            result.records.extend(fitted)
        except mc.Interrupted as error:
            result.interrupted = error
        return result


@dataclass
class Result:
    """What a run has come to."""

    model: mc.Sequential
    optimizer: mc.optim.Optimizer
    records: list[mc.Epoch] = field(default_factory=list)
    interrupted: mc.Interrupted | None = None

    def everything(self) -> dict[str, Any]:
        """Return all that the next batch depends on, by name."""
        model, optimizer = self.model, self.optimizer
        memory = {f"memory {name}": array for name, array in optimizer.memory.items()}
        streams = {f"stream {name}": s.position for name, s in model.streams.items()}
        plateau = vars(optimizer.lr) if hasattr(optimizer.lr, "waited") else {}
        return {
            "weights": model.params.data, **model.state, **memory, **streams, **plateau,
            "steps": optimizer.steps, "lr now": optimizer.current_lr,
        }  # fmt: skip

    def digest(self) -> str:
        """Return a hash of `everything`."""
        digest = hashlib.sha256()
        for name, value in sorted(self.everything().items()):
            digest.update(name.encode() + np.asarray(value).tobytes())
        return digest.hexdigest()


def figures(records: list[Any]) -> list[dict[str, Any]]:
    """Return records without what depends on the clock."""
    dicts = [r if isinstance(r, dict) else r.as_dict() for r in records]
    clock = ("seconds", "images_per_second")
    return [{k: v for k, v in r.items() if k not in clock} for r in dicts]


def assert_same(one: Result, other: Result) -> None:
    """Check that two runs have come to the same, bit for bit."""
    a, b = one.everything(), other.everything()
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name, strict=True)


def saved(path: Path) -> dict[str, Any]:
    """Return what a checkpoint says of its run."""
    with mc.checkpoint.file.opened(path) as contents:
        contents.arrays()
        return contents.description["run"]


def states(folder: Path) -> list[str]:
    """Return the names of the states in a folder, without their ending."""
    return sorted(p.name.removesuffix(".safetensors") for p in folder.glob("*.safetensors"))


def leftovers(folder: Path) -> list[str]:
    """Return the names of files in a run's folder that are neither states nor the lock."""
    return [p.name for p in folder.iterdir() if p.suffix != ".safetensors" and p.name != "lock"]


# In another process.


def environment() -> dict[str, str]:
    """Return the variables of a process that finds this minicnn, on one thread."""
    here = [str(Path(mc.__file__).parent.parent), str(Path(__file__).parent)]
    own = {name: text for name, text in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return {**own, "PYTHONPATH": os.pathsep.join(here), "OPENBLAS_NUM_THREADS": "1"}


@contextmanager
def process(*arguments: Any, buffered: bool = False, **options: Any) -> Iterator[subprocess.Popen]:
    """Start Python with arguments; afterwards it is dead, whatever happened."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment(), **options}
    flags = [] if buffered else ["-u"]
    command = [sys.executable, *flags, *map(str, arguments)]
    with subprocess.Popen(command, text=True, **pipes) as started:
        try:
            yield started
        finally:
            started.kill()


EXAMPLE = """
import runpy, sys
import minicnn as mc
draw = mc.datasets.synthetic
mc.datasets.synthetic = lambda n, seed=0: draw(min(n, 120), seed=seed)
sys.modules["matplotlib"] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def example(*flags: Any, **options: Any) -> Any:
    """Start the example as a person does, on 120 pictures and without plots."""
    path = Path(__file__).parent.parent / "examples" / "train_cifar.py"
    return process(
        "-c", EXAMPLE, path, "--device", "cpu", "--dataset", "synthetic", *flags, **options
    )


def main() -> None:
    folder, epochs, die_at = Path(sys.argv[1]).resolve(), int(sys.argv[2]), int([*sys.argv, 0][3])
    plan = Plan(lambda: mc.Adam(0.01, ema_decay=0.9), options={"validation": 0.25})
    print("ready", flush=True)
    if die_at:
        count = 0

        def note(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal count
            if event in ("open", "os.rename", "os.link", "os.remove", "os.chmod"):
                if not str(arguments[0]).startswith(str(folder)):
                    return
                count += 1
                if count == die_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(note)
    result = plan.train(epochs, folder, **OPTIONS)
    if result.interrupted is not None:
        raise result.interrupted
    print("done", result.digest(), flush=True)


OPTIONS: dict[str, Any] = {"batch_size": 8}  # of the program's run

if __name__ == "__main__":
    main()
