"""Whose trial it is, and whether they are alive."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from minicnn.tuning import owners


def test_this_process_is_at_work():
    assert owners.at_work(owners.me(), None)
    assert owners.born(owners.me()["process"]) == owners.born(owners.me()["process"])


def test_a_process_that_ended_is_not():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        its = owners.me() | {"process": other.pid, "born": owners.born(other.pid)}
        assert owners.at_work(its, None)
    assert not owners.at_work(its, None)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_process_that_was_killed_is_not_though_its_parent_has_not_asked():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        its = owners.me() | {"process": other.pid, "born": owners.born(other.pid)}
        other.kill()
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        assert owners.exists(other.pid) and not owners.at_work(its, None)


def test_another_process_of_the_same_number_is_not():
    assert not owners.at_work(owners.me() | {"born": "before"}, None)


def test_a_process_elsewhere_is_known_by_its_signs_of_life():
    its = owners.me() | {"machine": "elsewhere", "process": 1}
    assert owners.at_work(its, None)
    assert owners.at_work(its | {"seen": its["seen"] - owners.GRACE / 2}, None)
    assert not owners.at_work(its | {"seen": its["seen"] - owners.GRACE - 1}, None)


def test_nobodys_trial_is_given_up_after_a_while():
    now = datetime.now()
    assert owners.at_work(None, now)
    assert not owners.at_work(None, now - timedelta(seconds=owners.NAMELESS + 1))
