"""Where batches come from: a pure function of their index, prepared ahead by worker processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch.utils.data import DataLoader, Dataset

from featurewise.common.processes import HINT, exit_if_unguarded, is_dead_loader
from featurewise.training.errors import WorkerError

BatchT_co = TypeVar("BatchT_co", covariant=True)


@runtime_checkable
class Source(Protocol[BatchT_co]):
    """Batches by index.

    `batch(i)` depends on `i` and on what the source was built with (its seed), on nothing
    else: no counters, no global random generators. Then the order is the same for any
    number of workers, and a resumed run needs to remember nothing but its step. Step s of
    a run of n processes trains on batches ``s * n`` to ``s * n + n - 1``, one a process.

    Where worker processes are spawned instead of forked (Windows, macOS) a source must be
    picklable.
    """

    def batch(self, index: int, /) -> BatchT_co:
        """The batch of this index: tensors, or dicts, tuples or dataclasses of tensors."""


class _Indexed(Dataset[Any]):
    def __init__(self, source: Source[Any]) -> None:
        self._source = source

    def __getitem__(self, index: int) -> Any:
        return self._source.batch(index)


@contextmanager
def prefetched(source: Source[BatchT_co], indices: range, workers: int) -> Iterator[Iterator[Any]]:
    """Yields an iterator over ``source.batch(i) for i in indices``, in this order.

    Args:
        source: asked in the worker processes, or here when there are none.
        indices: which batches.
        workers: number of processes that prepare two batches each ahead; 0 for none.

    Raises:
        WorkerError: a worker died; noticed within seconds.
    """
    loader: DataLoader[Any] = DataLoader(
        _Indexed(source),
        batch_size=None,
        sampler=indices,
        num_workers=workers,
        collate_fn=_unchanged,
        worker_init_fn=_ignore_signals,
        # A generator of its own: the default draws from the global one, and a resumed run,
        # which starts its loader once more, would then see other random numbers.
        generator=torch.Generator(),
        pin_memory=torch.cuda.is_available(),
    )
    if workers:
        exit_if_unguarded()
    with _worker_errors():
        batches = iter(loader)
        try:
            yield _received(batches) if workers else batches
        finally:
            # Its destructor does the same, but an error's traceback may keep it alive, and
            # a dead worker would then be reported again, anywhere.
            getattr(batches, "_shutdown_workers", lambda: None)()


def _unchanged(batch: Any) -> Any:
    return batch


def _ignore_signals(worker: int) -> None:
    # Ctrl-C and SIGTERM reach the whole process group; the parent still wants to finish its
    # step and tells its workers itself when to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@contextmanager
def _worker_errors() -> Iterator[None]:
    """Torch notices most dead workers by a signal, that is, anywhere in the loop's body."""
    try:
        yield
    except RuntimeError as error:
        if not is_dead_loader(error):
            raise
        raise _dead(error) from error


def _received(batches: Iterator[BatchT_co]) -> Iterator[BatchT_co]:
    """Notices a worker that dies in the middle of handing over a batch."""
    try:
        yield from batches
    except (OSError, EOFError) as error:
        if not is_dead_loader(error):
            raise
        raise _dead(error) from error


def _dead(error: Exception) -> WorkerError:
    return WorkerError(
        f"a process that prepares batches died ({error}). Most often it ran out of memory: "
        "use fewer workers or smaller batches, then resume; with workers=0 an error in the "
        f"source itself shows its traceback. {HINT}"
    )
