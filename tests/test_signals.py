"""The first signal asks for an orderly end, the second ends at once, and then all is as before."""

from __future__ import annotations

import signal
import threading

import pytest
import run_helpers as runs
from run_helpers import Plan, assert_same, net, pictures, states

import minicnn as mc
from minicnn.signals import Interrupted, Interruption

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@pytest.fixture(autouse=True)
def handlers():
    """Check that every test leaves the handlers as they were; return them."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


# Interruption.


@BOTH
def test_interruption_takes_note_of_the_first_signal(number, capsys):
    """And hands it on at its end, if nobody has acted on it: see below."""
    with pytest.raises(Interrupted), Interruption() as interruption:
        assert interruption.received is None
        signal.raise_signal(number)
        assert interruption.received == number
        raise Interrupted(number, "acted upon")
    name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
    assert f"{name}: saving after this batch; once more to quit at once" in capsys.readouterr().err


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_interruption_puts_the_handlers_back(error, handlers):
    def own(number, frame):
        pass

    signal.signal(signal.SIGTERM, own)
    try:
        with Interruption():
            assert signal.getsignal(signal.SIGTERM) is not own
            if error:
                raise error
    except (ValueError, KeyboardInterrupt) as caught:
        assert type(caught) is error
    finally:
        assert signal.getsignal(signal.SIGTERM) is own
        signal.signal(signal.SIGTERM, handlers[1])


def test_interruption_inside_another_is_the_one_that_hears(capsys):
    with Interruption() as outer:
        with pytest.raises(Interrupted), Interruption() as inner:
            signal.raise_signal(signal.SIGTERM)
            assert inner.received == signal.SIGTERM and outer.received is None
            raise Interrupted(signal.SIGTERM, "")
        assert outer.received is None
    capsys.readouterr()


def test_interruption_in_a_thread_changes_nothing(handlers):
    found = []

    def work():
        with Interruption() as interruption:
            found.append([signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)])
            found.append(interruption.received)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [handlers, None]


def test_interruption_leaves_ignored_signals_ignored():
    """A program started in the background, or by nohup, isn't to die of a Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interruption() as interruption:
            signal.raise_signal(signal.SIGINT)
            assert interruption.received is None
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_interruption_that_nobody_acted_on_is_handed_on(capsys):
    """A Ctrl-C in the last moment of a run isn't lost."""
    with pytest.raises(KeyboardInterrupt), Interruption():
        signal.raise_signal(signal.SIGINT)


@BOTH
@pytest.mark.parametrize("other", [signal.SIGINT, signal.SIGTERM])
def test_second_signal_ends_the_process_at_once(number, other):
    code = (
        "import signal, sys\nfrom minicnn.signals import Interruption\n"
        "with Interruption():\n"
        "    signal.raise_signal(int(sys.argv[1]))\n"
        "    print('goes on', flush=True)\n"
        "    signal.raise_signal(int(sys.argv[2]))\n"
        "    print('never', flush=True)\n"
    )
    with runs.process("-c", code, int(number), int(other)) as started:
        printed, said = started.communicate(timeout=30)
    assert printed == "goes on\n" and started.returncode == -other
    assert said.count("once more to quit at once") == 1 and "Traceback" not in said


STUCK = """
import signal, sys
from minicnn.signals import Interruption
with Interruption() as interruption:
    print("ready", flush=True)
    while interruption.received is None:
        print("epoch 1 " * 100, file=sys.stderr)  # waits, once the pipe is full
print("over", flush=True)
"""


@pytest.mark.skipif("not os.path.exists('/proc/self/stat')", reason="needs Linux's /proc")
def test_interruption_may_come_while_something_is_being_written():
    """Python refuses to write to a stream that is at work already: that must not be raised."""
    with runs.process("-c", STUCK, buffered=True) as p:
        assert p.stdout.readline() == "ready\n"
        state = ""
        while state != "S":  # until it sleeps, since nobody reads what it writes
            with open(f"/proc/{p.pid}/stat") as file:
                state = file.read().rsplit(")", 1)[1].split()[0]
        p.send_signal(signal.SIGINT)
        _, said = p.communicate(timeout=30)
    assert "reentrant" not in said, said[-600:]


# Interrupted.


@BOTH
def test_interrupted_is_an_exit_with_a_shells_code(number):
    error = Interrupted(number, "stopped")
    assert isinstance(error, SystemExit) and error.code == 128 + number and str(error) == "stopped"
    assert not isinstance(error, Exception)  # what catches errors doesn't swallow it


# In a run.


@BOTH
@pytest.mark.parametrize("stop", [1, 6, 7])
def test_run_is_interrupted_after_the_batch(tmp_path, number, stop, capsys, handlers):
    result = Plan().train(2, tmp_path, stop, number)  # six batches an epoch
    assert result.interrupted.code == 128 + number
    assert result.optimizer.steps == stop
    epoch, pictures_done = (stop - 1) // 6 + 1, min(((stop - 1) % 6 + 1) * 4, 22)
    text = (
        f"stopped in epoch {epoch} after {pictures_done} pictures, saved in "
        f"{tmp_path / 'last.safetensors'}; go on with the same command and --resume, or resume=True"
    )
    assert str(result.interrupted) == text
    assert capsys.readouterr().err.endswith(f"\n{text}\n")
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_run_without_a_folder_leaves_ctrl_c_to_python():
    with pytest.raises(KeyboardInterrupt):
        Plan().train(1, None, 3)


def test_run_puts_the_handlers_back_after_an_error(tmp_path):
    def fail(x, labels, rng):
        raise RuntimeError("in an augmentation")

    with pytest.raises(RuntimeError, match="in an augmentation"):
        Plan(augment=(fail,)).train(1, tmp_path)


def test_run_puts_the_handlers_back_when_the_loop_is_left(tmp_path, handlers):
    model = net().build(runs.SHAPE)
    for _ in mc.fit(model, *pictures(), optimizer=mc.SGD(0.1), checkpoint=tmp_path, progress=False):
        assert signal.getsignal(signal.SIGINT) != handlers[0]
        break
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_run_in_a_thread_trains_and_saves(tmp_path):
    results = []
    thread = threading.Thread(target=lambda: results.append(Plan().train(2, tmp_path)))
    thread.start()
    thread.join()
    assert len(results[0].records) == 2 and "last" in states(tmp_path)
    assert_same(Plan().train(3, tmp_path), Plan().train(3))  # taken up in the main thread


@pytest.mark.parametrize("epochs", [1, 2])
def test_run_interrupted_between_two_epochs_isnt_forgotten(tmp_path, epochs, capsys):
    """While the caller's own lines run, between two epochs or after the last one."""
    model = net().build(runs.SHAPE)
    done = []
    with pytest.raises((mc.Interrupted, KeyboardInterrupt)):
        for epoch in mc.fit(
            model, *pictures(), optimizer=mc.SGD(0.1), epochs=epochs, checkpoint=tmp_path,
            progress=False,
        ):  # fmt: skip
            done.append(epoch.epoch)
            signal.raise_signal(signal.SIGINT)
    assert done == [1]


def test_run_interrupted_while_validating_saves_the_epoch(tmp_path, monkeypatch, capsys):
    evaluate, plan = mc.fitting.evaluate, Plan(options={"validation": 0.25})

    def interrupted(*args, **options):
        signal.raise_signal(signal.SIGTERM)
        return evaluate(*args, **options)

    monkeypatch.setattr(mc.fitting, "evaluate", interrupted)
    stopped = plan.train(3, tmp_path)
    assert stopped.interrupted.code == 143
    assert runs.saved(tmp_path / "last.safetensors")["epoch"] == 1
    monkeypatch.undo()
    rest = plan.train(3, tmp_path)
    assert [record.epoch for record in rest.records] == [2, 3]
    assert_same(rest, plan.train(3))
