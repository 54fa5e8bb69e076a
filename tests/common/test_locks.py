"""Locks exclude processes and threads, end with their holder, and touch no other file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from featurewise.common.locks import LockedError, file_lock
from featurewise.common.opening import NotRegularError

HOLDS = """
import pathlib, sys, time
from featurewise.common.locks import file_lock
with file_lock(pathlib.Path(sys.argv[1])):
    print("holds", flush=True)
    time.sleep(float(sys.argv[2]))
    pathlib.Path(sys.argv[3]).touch()
"""


def other(*words: object) -> subprocess.Popen[str]:
    """A separate process that holds a lock."""
    started = subprocess.Popen(
        [sys.executable, "-c", HOLDS, *map(str, words)], stdout=subprocess.PIPE, text=True
    )
    assert started.stdout is not None and started.stdout.readline() == "holds\n"
    return started


def test_another_process_is_excluded_and_can_be_waited_for(tmp_path: Path) -> None:
    lock, left = tmp_path / "lock", tmp_path / "left"
    with other(lock, 0.5, left):
        with (
            pytest.raises(LockedError, match="another process or thread"),
            file_lock(lock, wait=False),
        ):
            pass
        assert not left.exists()
        with file_lock(lock):
            assert left.exists()


def test_a_killed_process_releases_its_lock(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with other(lock, 60, tmp_path / "left") as holder:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with file_lock(lock, wait=False):
            pass


def test_another_thread_is_excluded_and_waits(tmp_path: Path) -> None:
    lock, said = tmp_path / "lock", []

    def work(name: str) -> None:
        with file_lock(lock):
            said.append(f"{name} in")
            time.sleep(0.1)
            said.append(f"{name} out")

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    with file_lock(lock):
        for thread in threads:
            thread.start()
        time.sleep(0.1)
        assert said == []
    for thread in threads:
        thread.join()
    assert [line.split()[1] for line in said] == ["in", "out"] * 3
    assert all(said[i][0] == said[i + 1][0] for i in (0, 2, 4))


def test_opening_and_closing_the_file_does_not_release_it(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with file_lock(lock):
        for mode in ("r", "a"):
            with lock.open(mode):
                pass
        found = subprocess.run(
            [sys.executable, "-c", HOLDS.replace("(sys.argv[1])", "(sys.argv[1]), wait=False"),
             str(lock), "0", str(tmp_path / "left")],
            capture_output=True, text=True,
        )  # fmt: skip
        assert "LockedError" in found.stderr and found.stdout == ""
        with pytest.raises(LockedError), file_lock(lock, wait=False):
            pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_process_does_not_inherit_it(tmp_path: Path) -> None:
    """Workers of a data loader may outlive a killed training process by seconds."""
    lock = tmp_path / "lock"
    with file_lock(lock):
        child = os.fork()
        if not child:
            time.sleep(60)
            os._exit(0)
    try:
        with file_lock(lock, wait=False):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.parametrize("kind", ["symbolic", "hard"])
def test_the_target_of_a_link_keeps_its_content(tmp_path: Path, kind: str) -> None:
    (tmp_path / "mine").write_bytes(b"precious")
    lock = tmp_path / "lock"
    if kind == "symbolic":
        lock.symlink_to("mine")
        with pytest.raises(NotRegularError, match="a symbolic link"), file_lock(lock):
            pass
    else:
        lock.hardlink_to(tmp_path / "mine")
        with file_lock(lock):
            pass
    assert (tmp_path / "mine").read_bytes() == b"precious"


def test_a_dangling_link_and_a_pipe_raise(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nothing")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises(NotRegularError), file_lock(tmp_path / name):
            pass
    assert not (tmp_path / "nothing").exists()


def test_it_is_released_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), file_lock(tmp_path / "lock"):
        raise KeyError
    with file_lock(tmp_path / "lock", wait=False):
        pass
