"""Worker processes for rendering, which exit when their parent process exits."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TypeVar

import torch

from featurewise.common.processes import HINT, can_spawn, exit_if_unguarded
from featurewise.worlds.clevr.errors import WorldError

JobT = TypeVar("JobT")
ResultT = TypeVar("ResultT")


class Workers:
    """Processes that work on several batches of jobs; they start with the first one.

    Leaving the context ends them.

    Args:
        count: most processes, each with one thread; 0 works in this process. So does a single job,
            and a program that other processes cannot import (one that comes from a pipe).
        folder: folder to name in the error message.
    """

    def __init__(self, count: int, folder: Path) -> None:
        exit_if_unguarded()
        self.count = count if can_spawn() else 0
        self.folder = folder
        self._executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)

    def completed(self, work: Callable[[JobT], ResultT], jobs: Sequence[JobT]) -> Iterator[ResultT]:
        """The results of ``work`` on each job, in the order of completion.

        Args:
            work: a picklable function.
            jobs: its arguments, one for each call.

        Raises:
            WorldError: a worker process died.
        """
        if self.count == 0 or len(jobs) < 2:
            yield from map(work, jobs)
            return
        if self._executor is None:
            # spawn: forking a process in which torch has started its threads can hang.
            context = multiprocessing.get_context("spawn")
            # Processes are started one by one, as long as none is free.
            self._executor = ProcessPoolExecutor(self.count, context, initializer=_begin)
        futures = [self._executor.submit(work, job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise WorldError(
                f"{self.folder}: a worker process died (killed, out of memory, or while it "
                "imported the script that called this); run the same call again to resume. "
                f"{HINT}"
            ) from error
        finally:
            for future in futures:
                future.cancel()


def completed(
    work: Callable[[JobT], ResultT], jobs: Sequence[JobT], workers: int, folder: Path
) -> Iterator[ResultT]:
    """The results of ``work`` on each job, in the order of completion; see `Workers`."""
    with Workers(min(workers, len(jobs)), folder) as processes:
        yield from processes.completed(work, jobs)


def _begin() -> None:
    """Use one thread, leave Ctrl-C to the parent process, and exit when the parent exits."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
