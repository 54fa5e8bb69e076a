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


def completed(
    work: Callable[[JobT], ResultT], jobs: Sequence[JobT], workers: int, folder: Path
) -> Iterator[ResultT]:
    """The results of ``work`` on each job, in the order of completion.

    Args:
        work: a picklable function.
        jobs: its arguments, one for each call.
        workers: most processes, each with one thread; 0 works in this process. So does a single
            job, and a program that other processes cannot import (one that comes from a pipe).
        folder: folder to name in the error message.

    Raises:
        WorldError: a worker process died.
    """
    exit_if_unguarded()
    workers = min(workers, len(jobs)) if can_spawn() else 0
    if workers == 0 or len(jobs) < 2:
        yield from map(work, jobs)
        return
    # spawn: forking a process in which torch has started its threads can hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_begin) as executor:
        futures = [executor.submit(work, job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise WorldError(
                f"{folder}: a worker process died (killed, out of memory, or while it imported "
                "the script that called this); run the same call again to resume. "
                f"{HINT}"
            ) from error
        finally:
            executor.shutdown(wait=True, cancel_futures=True)


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
