"""Which plan is used when, and what a model keeps of them.

A plan keeps all its memory from step to step: a step allocates nothing.  A model keeps the plans
that it used last, `KEPT` at most.  One of them is at work at a time, so a new one takes the memory
of the others, and more only where that isn't enough: together they hold little more than the
largest alone.  All of it goes with the model, when there is no memory for a new plan, and by
`forget`; and what prediction in large batches took goes when that is over.
"""

from __future__ import annotations

import gc
import os
import traceback
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import RLock
from typing import Any

from ..backend import Array
from ..kernels import cuda
from ..kernels.cpu.choose import algorithm
from ..layers import Layer, Sequential
from ..layers.base import OutOfMemory, naming
from ..parallel import thread_count
from ..workers import processes_allowed
from .plan import make_plan

KEPT = 4  # plans of one model: training, its last batch, validation, its last batch
LARGE = 512 << 20  # bytes: a plan for prediction that took more isn't kept


def try_to_plan(model: Sequential, x: Array, training: bool, lenders: list[Any]) -> Any:
    """Return a new plan, or the error: a copy, so that what its frames hold of a plan is let go."""
    try:
        return planning(model)(model, len(x), x.dtype, training, lenders)
    except MemoryError as error:
        said = OutOfMemory(*error.args)
    gc.collect()
    return said


def planning(model: Sequential) -> Callable[..., Any]:
    """Return what makes a model's plans."""
    if model.device.kind == "cpu":
        return make_plan
    from .gpu import DevicePlan  # not before a GPU is asked for: it takes time

    return DevicePlan


class Plans:
    """The plans of one model, the one used last at the end, and who may use them now.

    lock: held by the thread that uses one.  at_work: whether it is in the middle of a step.
    """

    def __init__(self) -> None:
        self.kept: OrderedDict[Any, Any] = OrderedDict()
        self.lock, self.at_work = RLock(), False

    def get(self, model: Sequential, x: Array, training: bool) -> Any:
        """Return the plan for such batches, made now if there is none."""
        how: tuple[Any, ...] = thread_count(), processes_allowed(), algorithm()
        if model.device.kind == "gpu":
            how = model.compute, cuda.tf32_allowed()
        key = len(x), x.dtype, training, how
        if key in self.kept and not self.kept[key].fits(model):
            del self.kept[key]
        if key not in self.kept:
            self.kept[key] = self.make(model, x, training)
        self.kept.move_to_end(key)
        return self.kept[key]

    def make(self, model: Sequential, x: Array, training: bool) -> Any:
        """Return a new plan.  If there is no memory for it, give up the others and try again."""
        for key in [key for key, plan in self.kept.items() if plan.params is not model.params]:
            del self.kept[key]  # the model was built anew
        found = try_to_plan(model, x, training, list(self.kept.values()))
        if isinstance(found, OutOfMemory) and self.kept:
            self.kept.clear()
            found = try_to_plan(model, x, training, [])
        if isinstance(found, OutOfMemory):
            raise found
        while len(self.kept) >= KEPT:
            self.kept.popitem(last=False)
        return found

    @contextmanager
    def use(self, model: Sequential, x: Array, training: bool) -> Iterator[Any]:
        """Give the plan, and keep others off it meanwhile; None to who is in such a block already.

        Where there is no memory, all that can be given back is given back.
        """
        with self.lock:
            if self.at_work:
                yield None
                return
            self.at_work = True
            try:
                yield self.get(model, x, training)
            except MemoryError as error:
                self.kept.clear()
                model.forget()
                if isinstance(error, OutOfMemory) or model.device.kind == "cpu":
                    traceback.clear_frames(error.__traceback__)  # they hold arrays
                    model.device.free_memory()
                    raise
                with naming(model, x):
                    raise
            finally:
                self.at_work = False


plans: weakref.WeakKeyDictionary[Sequential, Plans] = weakref.WeakKeyDictionary()
if hasattr(os, "register_at_fork"):  # in a child process nobody would release the locks
    os.register_at_fork(after_in_child=plans.clear)


def plans_of(model: Sequential) -> Plans:
    """Return the plans of a model."""
    return plans.setdefault(model, Plans())


def alone(model: Sequential) -> AbstractContextManager[Any]:
    """Return what keeps other threads off a model in a ``with`` block: from steps and plans."""
    return plans_of(model).lock


def layers_of(model: Sequential) -> list[Layer]:
    """Return all layers inside a model.  Its plans know them: to name them again takes time."""
    for plan in list(plans_of(model).kept.values()):
        if plan.params is model.params:
            return plan.layers
    return [layer for layer in model.walk() if layer is not model]


def plan_for(model: Sequential, x: Array, training: bool) -> Any:
    """Return the plan for batches such as x."""
    return plans_of(model).get(model, x, training)


def forget(model: Sequential) -> None:
    """Give back the memory of all plans of a model; the next step makes a new one."""
    with plans_of(model).lock:
        plans_of(model).kept.clear()


def tidy(model: Sequential) -> None:
    """Give back what prediction in large batches took, now that it's over."""
    found = plans_of(model)
    with found.lock:
        for key in [k for k, p in found.kept.items() if p.own > LARGE and not p.training]:
            del found.kept[key]


def planned(model: Sequential) -> bool:
    """Whether the model runs by plans: unless its own methods were replaced."""
    own = {"forward", "backward", "backward_params", "infer"} & set(vars(model))
    able = model.device.kind == "cpu" or cuda.registered(model.device.xp)
    return able and type(model) is Sequential and not own


@contextmanager
def plan_or_none(model: Sequential, x: Array, training: bool) -> Iterator[Any]:
    """Give the plan, for the block alone; None where it is to go layer by layer."""
    if not planned(model):
        yield None
        return
    with plans_of(model).use(model, x, training) as plan:
        yield plan


@contextmanager
def step(model: Sequential, x: Array) -> Iterator[tuple[Array, Callable[[Array], Any]]]:
    """Run a batch forward in training; give y, and the function that goes back from dy.

    To be called within the block, where the model's plans are this step's alone.
    """
    x = model.check_input(x)
    with plan_or_none(model, x, training=True) as plan:
        if plan is None:
            yield model.forward(x, training=True), model.backward_params
        else:
            yield plan.forward(x).copy(), plan.backward


def infer(model: Sequential, x: Array) -> Array:
    """Do ``model.infer(x)`` by plan."""
    x = model.check_input(x)
    if not planned(model):
        return model.infer(x)
    with plans_of(model).use(model, x, training=False) as plan:
        return model.infer(x) if plan is None else plan.forward(x).copy()


def whole_step(
    model: Sequential, optimizer: Any, x: Array, labels: Array, loss: Any, meter: Any
) -> Array | None:
    """Do a step of training from x to the updated weights by one script; return the loss.

    On a GPU, if loss and optimizer are such as can be written down; None if nothing was done.
    """
    if model.device.kind == "cpu" or not planned(model):
        return None
    x = model.check_input(x)
    with plans_of(model).use(model, x, training=True) as plan:
        return None if plan is None else plan.step(optimizer, loss, x, labels, meter)
