"""What launches cost the CPU, how long a step takes it, and how long the first one takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

EMPTY = 'extern "C" __global__ void nothing(float* x) {}'
BLOCK = 200  # launches between two waits: fewer than a GPU takes into its queue
NODES = 200


def launches(device: str, blocks: int = 20) -> dict[str, Any]:
    """Return microseconds of the CPU per call: an empty kernel, an addition, a graph.

    Also what a node of a graph takes on the GPU, where each waits for the one before.
    """
    if device == "cpu":
        return {}
    import cupy

    x = cupy.zeros(1, "float32")
    found: dict[str, Any] = {}

    def note(name: str, measured: Callable[[], float]) -> None:
        try:
            found[name] = measured()
        except Exception as error:  # one that fails doesn't spoil the others
            found[name] = f"{type(error).__name__}: {error}"[:200]

    wait = cupy.cuda.Device().synchronize
    nothing = cupy.RawModule(code=EMPTY).get_function("nothing")
    arguments = (x,)

    def launch() -> None:
        nothing((1,), (1,), arguments)

    note("empty kernel", lambda: per_call(launch, wait, blocks))
    note("cupy.add", lambda: per_call(lambda: cupy.add(x, x, out=x), wait, blocks))
    a = cupy.zeros((256, 256), "float32")
    b = cupy.zeros((256, 256), "float32")
    note("cupy.matmul", lambda: per_call(lambda: cupy.matmul(a, a, out=b), wait, blocks))

    def graph_of(nodes: int) -> Any:
        stream = cupy.cuda.Stream(non_blocking=True)
        with stream:
            launch()
            stream.synchronize()
            stream.begin_capture()
            for _ in range(nodes):
                launch()
            graph = stream.end_capture()
        return lambda: graph.launch(stream)

    note("graph of 20 kernels", lambda: per_call(graph_of(20), wait, blocks, 20))

    def node() -> float:
        play = graph_of(NODES)
        play()
        wait()
        start = time.perf_counter()
        for _ in range(20):
            play()
        wait()
        return (time.perf_counter() - start) / 20 / NODES * 1e6

    note("a graph's node on the GPU", node)
    return found


def per_call(
    call: Callable[[], Any], wait: Callable[[], Any], blocks: int, each: int = BLOCK
) -> float:
    """Return the median over the blocks of the microseconds that a call takes the CPU.

    Waiting for the GPU isn't timed, and no block is longer than the GPU's queue.
    """
    times = []
    for _ in range(blocks + 1):
        wait()
        start = time.perf_counter()
        for _ in range(each):
            call()
        times.append((time.perf_counter() - start) / each * 1e6)
    wait()
    return median(times[1:])


def step_cost(
    device: str, net: str = "tutorial_cnn", batch: int = 128, dtype: str = "float32",
    blocks: int = 20, each: int = 20,
) -> dict[str, Any]:  # fmt: skip
    """Return what `mc.train_step` takes the CPU when nobody waits, and with the GPU's work.

    Also the memory that CuPy's pool holds, and what is free on the device.
    """
    import minicnn as mc
    from benchmarks import nets
    from benchmarks.peers.gpu_own_worker import wait

    x, y = mc.datasets.synthetic(batch, seed=0)
    model = nets.get(net).build(x.shape[1:], seed=0, device=device, dtype=dtype)
    x, y = model.device.asarray(x), model.device.asarray(y)
    optimizer = mc.Adam(1e-3)

    def done() -> None:
        wait(model.device)

    def step() -> None:
        mc.train_step(model, optimizer, x, y)

    for _ in range(3):
        step()
    calls = per_call(step, done, blocks, each)
    whole = []
    for _ in range(blocks):
        start = time.perf_counter()
        for _ in range(each):
            step()
        done()
        whole.append((time.perf_counter() - start) / each * 1e6)
    found = {"host us": calls, "step us": median(whole)}
    if model.device.kind == "gpu":
        xp = model.device.xp
        pool = xp.get_default_memory_pool()
        free, total = xp.cuda.runtime.memGetInfo()
        found |= {"pool used MB": pool.used_bytes() / 1e6, "pool MB": pool.total_bytes() / 1e6}
        found |= {"device MB": (total - free) / 1e6}
    return found


def first_step(device: str, began: float, dtype: str = "float32") -> dict[str, Any]:
    """Return the seconds from the process' start to its first loss, stage by stage.

    began: `time.time()` when the process was started.
    """
    clock = [time.time()]  # what came before is the start of Python
    import minicnn as mc

    clock.append(time.time())
    x, y = mc.datasets.synthetic(128, seed=0)
    clock.append(time.time())
    model = mc.models.tutorial_cnn().build(x.shape[1:], seed=0, device=device, dtype=dtype)
    x, y = model.device.asarray(x), model.device.asarray(y)
    clock.append(time.time())
    optimizer = mc.Adam(1e-3)
    for _ in range(3):
        float(mc.train_step(model, optimizer, x, y))
        clock.append(time.time())
    names = ["import", "pictures", "build", "first step", "second step", "third step"]
    stages = {name: b - a for name, a, b in zip(names, clock[:-1], clock[1:], strict=True)}
    drawing = stages.pop("pictures")
    return {"to the first loss": clock[4] - began - drawing, **stages}
