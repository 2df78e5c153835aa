"""Runs that are stopped and taken up again: exactly where they were, or not at all."""

from __future__ import annotations

import signal
from functools import partial

import numpy as np
import pytest
from run_helpers import (
    COUNT,
    KINDS,
    Plan,
    Result,
    assert_same,
    figures,
    net,
    pictures,
    saved,
    states,
)
from standin import installed

import minicnn as mc

VARIED = (mc.augment.RandomFlip(), mc.augment.RandomCrop(1), mc.augment.RandomRotation())
MIXED = (
    mc.augment.AlternatingFlip(),
    *VARIED[1:],
    mc.augment.CutMix(classes=4),
    mc.augment.MixUp(classes=4),
)

OPTIMIZERS = {
    "sgd": partial(mc.SGD, 0.02),
    "momentum": partial(mc.SGD, 0.02, momentum=0.9),
    "nesterov": partial(mc.SGD, 0.02, momentum=0.9, nesterov=True, weight_decay=0.01),
    "rmsprop": partial(mc.RMSprop, 0.01, global_clipnorm=0.5),
    "adam": partial(mc.Adam, 0.01),
    "adam_averaged": partial(mc.Adam, 0.01, ema_decay=0.8, weight_decay=0.01, decay_all=True),
    "adamw_clipped": partial(mc.AdamW, 0.01, weight_decay=0.1, global_clipnorm=0.5, ema_decay=0.9),
}

SCHEDULES = {
    "constant": lambda: mc.schedule.constant(0.01),
    "step_decay": lambda: mc.schedule.step_decay(0.02, every=4),
    "exponential": lambda: mc.schedule.exponential(0.02, every=5, factor=0.5),
    "cosine": lambda: mc.schedule.cosine(0.02, steps=24, warmup=4),
    "one_cycle": lambda: mc.schedule.one_cycle(0.02, steps=24),
    "plateau": lambda: mc.schedule.ReduceOnPlateau(0.02, 0.5, patience=0, threshold=0.5),
    "plateau_patient": lambda: mc.schedule.ReduceOnPlateau(0.02, 0.5, patience=2, threshold=0.5),
}

PLANS = {
    **{name: Plan(optimizer) for name, optimizer in OPTIMIZERS.items()},
    **{
        name: Plan(lambda make=make: mc.SGD(make(), momentum=0.9), options={"validation": 0.25})
        for name, make in SCHEDULES.items()
    },
    "plateau_of_training": Plan(lambda: mc.Adam(SCHEDULES["plateau"]())),
    "augmented": Plan(augment=VARIED),
    "alternating": Plan(augment=(mc.augment.AlternatingFlip(),)),
    "mixed": Plan(augment=MIXED, options={"validation": 0.25}),
    "validation_pair": Plan(options={"validation": pictures(9, seed=5)}),
    "drop_last": Plan(options={"drop_last": True}),
    "batches_of_5": Plan(options={"batch_size": 5}),
    "batches_of_1": Plan(options={"batch_size": 1}),
    "one_batch": Plan(options={"batch_size": 100}),
    "float64": Plan(dtype="float64"),
    "smoothed": Plan(options={"loss": mc.CrossEntropy(0.1)}),
}


# N epochs, a stop, and M more are N + M at once.


@pytest.mark.parametrize("done", [1, 3])
@pytest.mark.parametrize("name", PLANS)
def test_resume_is_exact(tmp_path, name, done):
    plan = PLANS[name]
    whole, first = plan.train(4), plan.train(done, tmp_path)
    assert first.digest() != whole.digest()
    rest = plan.train(4, tmp_path)
    assert_same(rest, whole)
    assert figures(first.records + rest.records) == figures(whole.records)
    assert figures(saved(tmp_path / "last.safetensors")["records"]) == figures(whole.records)


@pytest.mark.parametrize("name", ["plateau", "plateau_of_training", "cosine"])
def test_schedule_of_these_tests_moves(name):
    rates = [record.lr for record in PLANS[name].train(4).records]
    assert len(set(rates)) >= 3


FULL = Plan(
    partial(mc.AdamW, mc.schedule.cosine(0.02, steps=12), ema_decay=0.9, global_clipnorm=0.5),
    augment=MIXED,
    options={"validation": 0.25},
)  # everything at once: 16 pictures to train with in 4 batches
UNEVEN = Plan(
    lambda: mc.SGD(SCHEDULES["plateau"](), momentum=0.9), options={"batch_size": 6}
)  # 22 pictures in 4 batches, the last of 4


@pytest.mark.parametrize("stop", range(1, 13))
@pytest.mark.parametrize("plan", [FULL, UNEVEN], ids=["full", "uneven"])
def test_resume_after_any_batch_is_exact(tmp_path, plan, stop):
    whole = plan.train(3)
    first = plan.train(3, tmp_path, stop)
    assert first.interrupted is not None and first.interrupted.code == 130
    assert first.optimizer.steps == stop and len(first.records) == (stop - 1) // 4
    done = saved(tmp_path / "last.safetensors")
    full, size = (16, 4) if plan is FULL else (COUNT, 6)
    assert (done["epoch"], done["position"]) == (
        (stop - 1) // 4,
        min((stop - 1) % 4 * size + size, full),
    )
    rest = plan.train(3, tmp_path)
    assert_same(rest, whole)
    assert figures(first.records + rest.records) == figures(whole.records)


@pytest.mark.parametrize("stops", [(1, 1), (2, 3), (4, 4), (5, 1), (3, 9), (4, 1, 3), (1,) * 11])
def test_resume_after_several_stops_is_exact(tmp_path, stops):
    whole, records = FULL.train(3), []
    for stop in stops:
        part = FULL.train(3, tmp_path, stop, signal.SIGTERM)
        assert part.interrupted is not None and part.interrupted.code == 143
        records += part.records
    rest = FULL.train(3, tmp_path)
    assert_same(rest, whole)
    assert figures(records + rest.records) == figures(whole.records)


def test_resume_in_a_loop_of_ones_own_is_exact(tmp_path):
    """As in the example: a Run, batches without an order of their own, and no validation."""

    def train(folder, stops=()):
        model, optimizer = net().build((5, 4, 3)), mc.SGD(0.05, momentum=0.9)
        batches = mc.Batches(*pictures(), 4)
        run, count = mc.Run(model, optimizer, batches, folder=folder, progress=False), 0
        try:
            with run:
                while run.epoch < 2:
                    for x, labels in run.rest_of_epoch():
                        mc.train_step(model, optimizer, x, labels, meter=run.meter)
                        count += 1
                        if count in stops:
                            run.interruption.received = signal.SIGINT
                    run.end_epoch()
        except mc.Interrupted:
            pass
        return Result(model, optimizer, run.records)

    whole = train(None)
    train(tmp_path, [8])
    rest = train(tmp_path)
    assert_same(rest, whole)
    assert figures(rest.records) == figures(whole.records)  # of all epochs, the ones before too


def test_resume_on_the_gpu_is_exact(tmp_path):
    def train(epochs, folder=None, stop=0):
        plan = Plan(partial(mc.Adam, 0.01, ema_decay=0.9), options={"validation": 0.25})
        plan.model = lambda: OnDevice(net().layers)
        result = plan.train(epochs, folder, stop)
        arrays = {"weights": result.model.params.data, **result.model.state}
        return {name: mc.to_numpy(array) for name, array in arrays.items()}

    with installed():
        whole = train(3)
        train(3, tmp_path, 6)
        rest = train(3, tmp_path)
    for name, array in whole.items():
        np.testing.assert_array_equal(rest[name], array)


class OnDevice(mc.Sequential):
    """A model that is built on the GPU."""

    def build(self, *arguments, **options):
        return super().build(*arguments, **options, device="gpu")

    def config(self):
        return super().config() | {"type": "Sequential"}


# What is over, and what isn't.


@pytest.mark.parametrize("epochs", [1, 3])
def test_resume_of_a_finished_run_changes_nothing(tmp_path, epochs):
    first = FULL.train(3, tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    again = FULL.train(epochs, tmp_path)
    assert again.records == []
    assert_same(again, first)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("resume", ["auto", True])
def test_resume_takes_up_what_is_there(tmp_path, resume):
    FULL.train(1, tmp_path)
    records = FULL.train(2, tmp_path, resume=resume).records
    assert [record.epoch for record in records] == [2]


def test_resume_true_wants_a_run(tmp_path):
    with pytest.raises(mc.CheckpointError, match="there is no run to go on with"):
        FULL.train(1, tmp_path, resume=True)
    assert states(tmp_path) == []


def test_resume_false_wants_none(tmp_path):
    FULL.train(1, tmp_path, resume=False)
    before = (tmp_path / "last.safetensors").read_bytes()
    with pytest.raises(mc.CheckpointError, match=r"holds a run already.*folder of its own"):
        FULL.train(2, tmp_path, resume=False)
    assert (tmp_path / "last.safetensors").read_bytes() == before


@pytest.mark.parametrize("resume", ["yes", None, 2])
def test_resume_of_another_kind_is_refused(tmp_path, resume):
    with pytest.raises(ValueError, match=f"resume {resume!r}: expected 'auto', True or False"):
        FULL.train(1, tmp_path / "run", resume=resume)
    assert not (tmp_path / "run").exists()


def test_fit_without_a_folder_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    FULL.train(1)
    assert [*tmp_path.iterdir()] == []


def test_fit_does_nothing_before_the_first_epoch_is_asked_for(tmp_path):
    model = net().build((5, 4, 3))
    mc.fit(model, *pictures(), optimizer=mc.SGD(0.1), checkpoint=tmp_path / "run")
    assert not (tmp_path / "run").exists()


# Another run than the one in the folder.

X, Y = pictures()


def dropping():
    """Return the network with another rate of dropout."""
    layers = net().layers
    return mc.Sequential(*layers[:4], mc.Dropout(0.4), *layers[5:])


OTHERS = {
    "architecture": ("architecture", Plan(model=lambda: net(4))),
    "dropout": ("architecture", Plan(model=dropping)),
    "shape": ("picture shape", Plan(shape=(4, 5, 3), data=(X.reshape(-1, 4, 5, 3), Y))),
    "dtype": ("dtype", Plan(dtype="float64")),
    "optimizer": ("optimizer", Plan(lambda: mc.SGD(0.01))),
    "optimizer_kin": ("optimizer", Plan(lambda: mc.AdamW(0.01))),
    "seed": ("(seeds|data set)", Plan(options={"seed": 4})),
    "pictures": ("data set", Plan(data=pictures(seed=1))),
    "labels": ("data set", Plan(data=(X, Y[::-1].copy()))),
    "fewer": ("data set", Plan(data=pictures(20))),
    "validation_gone": ("data set", Plan(options={"validation": None})),
    "validation_share": ("data set", Plan(options={"validation": 0.5})),
}


@pytest.mark.parametrize("name", OTHERS)
def test_resume_refuses_another_run(tmp_path, name):
    what, other = OTHERS[name]
    other.options = {"validation": 0.25, **other.options}
    Plan(options={"validation": 0.25}).train(1, tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(mc.CheckpointError, match=f"of a run with another {what}: .* there, .*here"):
        other.train(2, tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_resume_refuses_another_seed_without_validation(tmp_path):
    Plan().train(1, tmp_path)
    with pytest.raises(mc.CheckpointError, match=r"another seeds: .*'shuffle': 3.*'shuffle': 4"):
        Plan().train(2, tmp_path, seed=4)


def test_resume_refuses_an_average_that_isnt_there(tmp_path):
    Plan().train(1, tmp_path)
    with pytest.raises(mc.CheckpointError, match="lacks the optimizer's average"):
        Plan(lambda: mc.Adam(0.01, ema_decay=0.9)).train(2, tmp_path)


def test_resume_refuses_a_model_without_a_run(tmp_path):
    mc.save(net().build((5, 4, 3)), tmp_path / "last.safetensors")
    with pytest.raises(mc.CheckpointError, match="holds a model, but no training run"):
        Plan().train(1, tmp_path)


def test_refused_run_leaves_the_model_as_it_was(tmp_path):
    Plan().train(1, tmp_path)
    model, optimizer = net().build((5, 4, 3), seed=1), mc.SGD(0.1)
    before = model.params.data.copy()
    batches = mc.Batches(*pictures(), 4, stream=mc.Stream(3, "shuffle"))
    with pytest.raises(mc.CheckpointError), mc.Run(model, optimizer, batches, folder=tmp_path):
        pass
    np.testing.assert_array_equal(model.params.data, before)
    assert optimizer.steps == 0 and optimizer.memory == {}


def test_refused_run_gives_the_folder_back(tmp_path):
    Plan().train(1, tmp_path)
    with pytest.raises(mc.CheckpointError):
        Plan(dtype="float64").train(2, tmp_path)
    assert len(Plan().train(2, tmp_path).records) == 1


# Other settings are said.

SETTINGS = {
    "batch_size": (Plan(options={"batch_size": 5}), "batch_size 5, it was 4"),
    "lr": (Plan(lambda: mc.Adam(0.02)), "lr 0.02, it was 0.01"),
    "schedule": (Plan(lambda: mc.Adam(mc.schedule.constant(0.5))), "lr 0.5, it was 0.01"),
    "weight_decay": (Plan(lambda: mc.Adam(0.01, weight_decay=0.1)), "weight_decay 0.1, it was 0.0"),
    "clipping": (Plan(lambda: mc.Adam(0.01, global_clipnorm=1)), "global_clipnorm 1, it was None"),
    "beta1": (Plan(lambda: mc.Adam(0.01, beta1=0.5)), "beta1 0.5, it was 0.9"),
    "decay_all": (Plan(lambda: mc.Adam(0.01, decay_all=True)), "decay_all True, it was False"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_resume_says_what_is_set_otherwise(tmp_path, name):
    other, text = SETTINGS[name]
    Plan().train(1, tmp_path)
    with pytest.warns(
        mc.CheckpointWarning, match=f"last.safetensors: going on with {text}"
    ) as said:
        assert len(other.train(2, tmp_path).records) == 1
    assert len(said) == 1


def test_resume_says_that_the_average_is_given_up(tmp_path):
    Plan(lambda: mc.Adam(0.01, ema_decay=0.9)).train(1, tmp_path)
    with pytest.warns(mc.CheckpointWarning, match="ema_decay None, it was 0.9"):
        Plan().train(2, tmp_path)


def test_resume_says_of_a_plateau_that_it_is_given_up(tmp_path):
    Plan(lambda: mc.Adam(SCHEDULES["plateau"]())).train(1, tmp_path)
    with pytest.warns(mc.CheckpointWarning, match="lr 0.5, it was 0.02"):
        Plan(lambda: mc.Adam(0.5)).train(2, tmp_path)


@pytest.mark.parametrize("stop", [2, 6])
def test_resume_with_another_batch_size_ends_the_epoch(tmp_path, stop):
    Plan(options={"batch_size": 4}).train(2, tmp_path, stop)
    with pytest.warns(mc.CheckpointWarning, match="batch_size"):
        rest = Plan(options={"batch_size": 7}).train(2, tmp_path)
    assert [record.epoch for record in rest.records] == [1, 2]
    assert rest.optimizer.steps == stop + -(-(COUNT - min(4 * stop, COUNT)) // 7) + 4


def test_resume_of_the_same_run_warns_of_nothing(tmp_path, recwarn):
    for epochs in (1, 2, 3):
        FULL.train(epochs, tmp_path)
    assert len(recwarn) == 0


# Records.


def test_records_count_the_time_before_the_stop_too(tmp_path):
    model, optimizer = net().build((5, 4, 3)), mc.SGD(0.1)
    for stop in (True, False):
        batches = mc.Batches(*pictures(), 11)
        run = mc.Run(model, optimizer, batches, folder=tmp_path, progress=False)
        if stop:
            with pytest.raises(mc.Interrupted), run:
                for x, labels in run.rest_of_epoch():
                    mc.train_step(model, optimizer, x, labels, meter=run.meter)
                    run.seconds = 0.0
                    run.interruption.received = signal.SIGINT
            before = saved(tmp_path / "last.safetensors")["seconds"]
            assert before > 0
        else:
            with run:
                for x, labels in run.rest_of_epoch():
                    mc.train_step(model, optimizer, x, labels, meter=run.meter)
                record = run.end_epoch()
    assert record.seconds > before
    assert record.images_per_second == pytest.approx(COUNT / record.seconds)


def test_record_of_a_resumed_run_is_an_epoch(tmp_path):
    first = FULL.train(2, tmp_path)
    run = mc.Run(
        net().build((5, 4, 3), seed=1), first.optimizer, mc.Batches(*pictures(), 4), folder=tmp_path
    )
    with pytest.raises(mc.CheckpointError), run:
        pass  # other rows than FULL's: this one only looks at what was written
    written = [mc.Epoch(**r) for r in saved(tmp_path / "last.safetensors")["records"]]
    assert written == first.records


# A run's files are models.


@pytest.mark.parametrize("name", ["last", "best", "epoch-0001", "epoch-0002"])
def test_load_takes_a_runs_files(tmp_path, name):
    records = Plan(options={"validation": 0.25})
    results = [records.train(n, tmp_path if n == 2 else tmp_path / "one") for n in (1, 2)]
    model = mc.load(tmp_path / f"{name}.safetensors")
    losses = [record.val_loss for record in results[1].records]
    of = {"last": 1, "best": int(np.argmin(losses)), "epoch-0001": 0, "epoch-0002": 1}[name]
    np.testing.assert_array_equal(model.params.data, results[of].model.params.data)
    for key, array in results[of].model.state.items():
        np.testing.assert_array_equal(model.state[key], array)
    x, _ = pictures()
    np.testing.assert_array_equal(mc.predict(model, x), mc.predict(results[of].model, x))


@pytest.mark.parametrize("name", ["last", "best", "epoch-0001"])
def test_load_keeps_the_class_names_of_a_run(tmp_path, name):
    model = net().build((5, 4, 3))
    model.classes = ("a", "b", "c", "ü")
    list(
        mc.fit(
            model, *pictures(), optimizer=mc.SGD(0.1), epochs=1, checkpoint=tmp_path, progress=False
        )
    )
    assert mc.load(tmp_path / f"{name}.safetensors").classes == ("a", "b", "c", "ü")


@pytest.mark.parametrize("kind", KINDS)
def test_load_leaves_the_optimizer_out(tmp_path, kind):
    Plan(partial(kind, 0.01)).train(1, tmp_path)
    assert not any("optimizer" in name for name in mc.load(tmp_path / "last.safetensors").params)
