"""Worker processes that end with the one that started them, however that ends."""

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
    """So many processes of one command; on leaving, all are told to stop and waited for.

    Each has a pipe to us as its standard input. It ends when we do, killed or not, and
    `exit_with_parent` makes the worker notice.

    Args:
        command: and its arguments.
        size: how many.
        folder: made when missing; what worker i writes goes to its file ``worker-<i>.log``.
        environment: in addition to ours.
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
                        start_new_session=True,  # Ctrl-C is for us, who tell them
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
        finally:  # a second Ctrl-C while we waited
            self._each(lambda worker: worker.kill())
            self._each(lambda worker: worker.wait())
            for worker in self._workers.values():
                if worker.stdin is not None:
                    worker.stdin.close()

    def _each(self, act: Any) -> None:
        for worker in self._workers.values():
            with suppress(ProcessLookupError):
                act(worker)

    def log(self, number: int) -> Path:
        """Where a worker writes."""
        return self._folder / f"worker-{number}.log"

    def pids(self) -> dict[int, int]:
        """Number -> process, of those that are at work."""
        return {n: worker.pid for n, worker in self._workers.items() if worker.poll() is None}

    def exited(self) -> dict[int, str]:
        """Number -> how it ended, of those that ended otherwise than well."""
        codes = {number: worker.poll() for number, worker in self._workers.items()}
        return {
            number: f"signal {-code}" if code < 0 else f"exit code {code}"
            for number, code in codes.items()
            if code
        }


def exit_with_parent() -> None:
    """Ends this process, as SIGTERM does, as soon as the one at its standard input is gone."""
    descriptor = sys.stdin.fileno()

    def wait() -> None:
        while os.read(descriptor, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()
