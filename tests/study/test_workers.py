"""A pool of workers: termination, waiting, and exit codes."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from featurewise.study.workers import WorkerPool
from featurewise.training.errors import StorageError

WORKER = """
import os, signal, sys, time

def stop(*_):
    print("saved", flush=True)
    sys.exit(3)

signal.signal(signal.SIGTERM, stop)
print(os.environ["MESSAGE"], flush=True)
time.sleep(60)
"""


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "timeout"
        time.sleep(0.01)


def pool(folder: Path) -> WorkerPool:
    """Two started workers, which print "saved" on SIGTERM."""
    found = WorkerPool([sys.executable, "-c", WORKER], 2, folder / "logs", {"MESSAGE": "ready"})
    until(lambda: all(found.log(number).read_text() == "ready\n" for number in (1, 2)))
    return found


def test_on_exit_all_workers_are_terminated_and_waited_for(tmp_path: Path) -> None:
    with pool(tmp_path) as two:
        assert set(two.pids()) == {1, 2}
        assert two.exited() == {}
    assert [two.log(number).read_text() for number in (1, 2)] == ["ready\nsaved\n"] * 2
    assert two.pids() == {}
    assert two.exited() == {1: "exit code 3", 2: "exit code 3"}


def test_a_log_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("unchanged")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/worker-1.log").symlink_to("../target")
    with pytest.raises(StorageError, match=r"worker-1\.log.*a symbolic link|a symbolic link"):
        WorkerPool([sys.executable, "-c", "pass"], 1, tmp_path / "logs")
    assert (tmp_path / "target").read_text() == "unchanged"


def test_a_killed_worker_is_reported_and_the_other_continues(tmp_path: Path) -> None:
    with pool(tmp_path) as two:
        pids = two.pids()
        os.kill(pids[2], signal.SIGKILL)
        until(lambda: set(two.pids()) == {1})
        assert two.exited() == {2: "signal 9"}
        assert two.pids() == {1: pids[1]}
