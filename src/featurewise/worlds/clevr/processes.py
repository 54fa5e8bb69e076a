"""Processes that share the work of rendering, and end with the one that started them."""

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
    """What each job comes to, in the order in which they are completed.

    Args:
        work: a function of a module, or a partial of one.
        jobs: what it is called with.
        workers: processes, each with one thread, at most; 0 works in this one. So does a single
            job, and a program that other processes cannot import (one that comes from a pipe).
        folder: named when a process dies.

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
                "the script that called this); run the same call again to go on with what is "
                f"missing. {HINT}"
            ) from error
        finally:
            executor.shutdown(wait=True, cancel_futures=True)


def _begin() -> None:
    """One thread; Ctrl-C is for the parent, with which this process ends, however that ends."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow, daemon=True).start()


def _follow() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
