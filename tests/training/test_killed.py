"""Killed at any moment and resumed, a run ends bit-identical to one left alone."""

import random
import signal

import pytest


@pytest.fixture(scope="module")
def untouched(victims, tmp_path_factory):
    run = tmp_path_factory.mktemp("untouched")
    assert victims.train(run) == 0
    return victims.outcome(run)


def inside_a_save(run):
    return any((run / "checkpoints").glob(".*"))


def test_kills_at_every_kind_of_file_operation(victims, untouched, tmp_path):
    draw = random.Random(0)
    kills = inside = runs = 0
    while kills < 60:
        run = tmp_path / str(runs)
        runs += 1
        while victims.train(run, die_at=draw.randint(1, 90)):
            kills += 1
            inside += inside_a_save(run)
        assert victims.outcome(run) == untouched, f"run {runs} after {kills} kills"
    assert inside >= 20


def test_kills_by_the_clock(victims, untouched, tmp_path):
    draw = random.Random(1)
    kills = runs = 0
    while kills < 20:
        run = tmp_path / str(runs)
        runs += 1
        while status := victims.train(run, slow=True, kill_after=draw.uniform(0.05, 0.5)):
            assert status == signal.SIGKILL
            kills += 1
        assert victims.outcome(run) == untouched, f"run {runs} after {kills} kills"


def test_forgotten_random_numbers_would_be_noticed(victims, untouched, tmp_path):
    assert victims.train(tmp_path, die_at=60) == signal.SIGKILL
    assert victims.train(tmp_path, forget_random=True) == 0
    assert victims.outcome(tmp_path) != untouched
