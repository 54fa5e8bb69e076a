"""A pool of worker processes that exit when their parent process ends for any reason."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from featurewise.common.opening import open_emptied
from featurewise.training.files import storage_errors


class WorkerPool:
    """Several processes of one command; on exit they get SIGTERM and are waited for.

    The standard input of each worker is a pipe from this process. The system closes it when this
    process ends, even if it is killed; `exit_with_parent` reacts to that in the worker.

    Args:
        command: program and arguments.
        size: number of workers.
        folder: of the logs ``worker-<i>.log``, i from 1; created if missing.
        environment: variables in addition to those of this process.

    Raises:
        StorageError: the folder or a log cannot be written.
    """

    def __init__(
        self,
        command: Sequence[str],
        size: int,
        folder: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._workers: dict[int, subprocess.Popen[bytes]] = {}
        self._folder = folder
        with storage_errors(folder, "Choose a folder that can be written."):
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(1, size + 1):
                with open_emptied(self.log(number)) as log:
                    self._workers[number] = subprocess.Popen(
                        command,
                        stdin=subprocess.PIPE,
                        stdout=log,
                        stderr=log,
                        env={**os.environ, **(environment or {})},
                        start_new_session=True,  # this process handles Ctrl-C
                    )

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        try:
            self._each(lambda worker: worker.terminate())
            self._each(lambda worker: worker.wait())
        finally:  # also after a second Ctrl-C during the wait
            self._each(lambda worker: worker.kill())
            self._each(lambda worker: worker.wait())
            for worker in self._workers.values():
                if worker.stdin is not None:
                    worker.stdin.close()

    def _each(self, action: Any) -> None:
        for worker in self._workers.values():
            with suppress(ProcessLookupError):
                action(worker)

    def log(self, number: int) -> Path:
        """The log file of a worker."""
        return self._folder / f"worker-{number}.log"

    def pids(self) -> dict[int, int]:
        """Number -> process id of each running worker."""
        return {n: worker.pid for n, worker in self._workers.items() if worker.poll() is None}

    def exited(self) -> dict[int, str]:
        """Number -> exit code or signal of each worker that ended with an error."""
        codes = {number: worker.poll() for number, worker in self._workers.items()}
        return {
            number: f"signal {-code}" if code < 0 else f"exit code {code}"
            for number, code in codes.items()
            if code
        }


def exit_with_parent() -> None:
    """Sends SIGTERM to this process when the process at the other end of its stdin has ended."""
    descriptor = sys.stdin.fileno()

    def wait() -> None:
        while os.read(descriptor, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()
