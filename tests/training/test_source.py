import os
import signal
import time
from dataclasses import dataclass

import pytest
import torch

from featurewise.training.errors import WorkerError
from featurewise.training.source import prefetched

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")


@dataclass(frozen=True)
class Batch:
    values: torch.Tensor
    index: int


class Numbers:
    def batch(self, index):
        generator = torch.Generator().manual_seed(index)
        if index % 7 == 3:
            time.sleep(0.01)  # the order must not depend on the speed
        return Batch(torch.randn(5, generator=generator), index)


class Killed(Numbers):
    def batch(self, index):
        if index == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().batch(index)


class Failing(Numbers):
    def __init__(self, error):
        self.error = error

    def batch(self, index):
        raise self.error


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_same_order_for_any_number_of_workers(workers):
    indices = range(3, 60, 2)
    with prefetched(Numbers(), indices, workers) as batches:
        found = list(batches)
    assert [batch.index for batch in found] == list(indices)
    for batch in found:
        assert torch.equal(batch.values, Numbers().batch(batch.index).values)


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_global_generators_are_not_used(workers):
    before = torch.get_rng_state()
    with prefetched(Numbers(), range(4), workers) as batches:
        list(batches)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [1, 1, 1, 1, 4, 4])  # it may die at different times
def test_a_killed_worker_raises(workers):
    start = time.monotonic()
    with (
        pytest.raises(WorkerError, match="a data-loading process died"),
        prefetched(Killed(), range(100), workers) as batches,
    ):
        list(batches)
    assert time.monotonic() - start < 60  # not forever; a starved machine takes ten seconds


@pytest.mark.parametrize("error", [KeyError, OSError, EOFError, RuntimeError])
@pytest.mark.parametrize("workers", [0, 2])
def test_errors_of_the_source_are_raised(workers, error):
    with (
        pytest.raises(error, match="question 17"),
        prefetched(Failing(error("question 17")), range(3), workers) as batches,
    ):
        list(batches)


def test_workers_end_with_the_context():
    before = set(torch.multiprocessing.active_children())
    with prefetched(Numbers(), range(1000), 2) as batches:
        next(batches)
        processes = set(torch.multiprocessing.active_children()) - before
        assert len(processes) == 2
    assert not any(process.is_alive() for process in processes)
