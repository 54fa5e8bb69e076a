"""A worker that runs the script of its parent exits; dead workers are detected."""

from __future__ import annotations

import multiprocessing

import pytest

from featurewise.common.processes import (
    UnguardedScriptError,
    exit_if_unguarded,
    is_dead_loader,
)


def test_only_a_worker_that_imports_the_script_exits(monkeypatch: pytest.MonkeyPatch) -> None:
    exit_if_unguarded()
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(UnguardedScriptError, match=r'if __name__ == "__main__":'):
        exit_if_unguarded()


@pytest.mark.parametrize(
    ("error", "dead"),
    [
        (RuntimeError("DataLoader worker (pid 3) is killed by signal: Killed."), True),
        (RuntimeError("DataLoader worker (pid(s) 3) exited unexpectedly"), True),
        (RuntimeError("size mismatch"), False),
        (EOFError(), True),
        (ConnectionResetError(104, "Connection reset by peer"), True),
        (OSError("Caught OSError in DataLoader worker process 0.\n..."), False),
        (ValueError("DataLoader worker (pid 3) is killed by signal"), False),
    ],
)
def test_dead_workers_are_distinguished_from_other_errors(error: Exception, dead: bool) -> None:
    assert is_dead_loader(error) is dead
