"""A run that is killed at any time and resumed is bit-identical to an uninterrupted run."""

import random
import signal

import pytest


@pytest.fixture(scope="module")
def uninterrupted(processes, tmp_path_factory):
    run = tmp_path_factory.mktemp("uninterrupted")
    assert processes.train(run) == 0
    return processes.outcome(run)


def killed_while_saving(run):
    return any((run / "checkpoints").glob(".*"))


def test_killed_at_a_random_file_operation(processes, uninterrupted, tmp_path):
    rng = random.Random(0)
    kills = inside = runs = 0
    while kills < 60:
        run = tmp_path / str(runs)
        runs += 1
        while processes.train(run, die_at=rng.randint(1, 90)):
            kills += 1
            inside += killed_while_saving(run)
        assert processes.outcome(run) == uninterrupted, f"run {runs} after {kills} kills"
    assert inside >= 20


def test_killed_at_a_random_time(processes, uninterrupted, tmp_path):
    rng = random.Random(1)
    kills = runs = 0
    while kills < 20:
        run = tmp_path / str(runs)
        runs += 1
        while status := processes.train(run, slow=True, kill_after=rng.uniform(0.05, 0.5)):
            assert status == signal.SIGKILL
            kills += 1
        assert processes.outcome(run) == uninterrupted, f"run {runs} after {kills} kills"


def test_without_restored_generators_the_outcome_differs(processes, uninterrupted, tmp_path):
    assert processes.train(tmp_path, die_at=60) == signal.SIGKILL
    assert processes.train(tmp_path, forget_random=True) == 0
    assert processes.outcome(tmp_path) != uninterrupted
