import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from featurewise.training import (
    CheckpointError,
    CheckpointStore,
    ExperimentError,
    Fit,
    Interrupted,
    Intervals,
    Supervised,
    fit,
    seed_everything,
)
from featurewise.training.errors import CheckpointWarning, DivergedError, StorageError, WorkerError
from featurewise.training.metrics import read_metrics

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")


class Numbers:
    def batch(self, index):
        generator = torch.Generator().manual_seed(index)
        x = torch.randn(8, 3, generator=generator)
        return x, x.sum(1, keepdim=True)


def objective(network, batch):
    x, y = batch
    loss = (network(x) - y).square().mean()
    return loss, {"error": loss.detach().sqrt()}


def build(seed=0):
    seed_everything(seed)
    network = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.2), nn.Linear(4, 1))
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    return Supervised(network, objective, optimizer, average=0.9)


class Breaking:
    """A stepper that calls a function at the beginning of a given step."""

    def __init__(self, at, action):
        self.inner, self.at, self.action = build(), at, action
        self.networks = self.inner.networks
        self.state, self.load_state = self.inner.state, self.inner.load_state
        self.evaluating = self.inner.evaluating

    def step(self, batch):
        if self.inner.steps + 1 == self.at:
            self.action()
        return self.inner.step(batch)


def weights(stepper):
    return [p.detach().clone() for p in stepper.networks["network"].parameters()]


def train(run, stepper=None, steps=20, **options):
    stepper = stepper or build()
    options.setdefault("intervals", Intervals(log=4, save=6))
    return fit(run, stepper, Numbers(), steps=steps, **options), stepper


def same(run, other, one, two):
    logs = [(folder / "metrics.jsonl").read_bytes() for folder in (run, other)]
    return all(map(torch.equal, weights(one), weights(two))) and logs[0] == logs[1]


def evaluate(stepper):
    with stepper.evaluating() as network:
        return {"mean": network(torch.ones(1, 3)).mean().item() + torch.rand(1).item()}


def test_trains_and_logs(tmp_path, capsys):
    result, stepper = train(tmp_path, evaluate=evaluate, intervals=Intervals(log=8, evaluate=10))
    assert isinstance(result, Fit)
    assert (result.step, stepper.steps) == (20, 20)
    assert result.seconds > 0
    records = read_metrics(tmp_path / "metrics.jsonl")
    assert [(r["step"], r["kind"]) for r in records] == [
        (8, "train"),
        (10, "evaluate"),
        (16, "train"),
        (20, "train"),
        (20, "evaluate"),
    ]
    assert set(records[0]) == {"step", "kind", "loss", "error", "lr"}
    assert result.metrics == {"mean": records[-1]["mean"]}
    assert "step 20/20" in capsys.readouterr().err
    assert CheckpointStore(tmp_path / "checkpoints").steps() == [20]


def test_what_is_observed_is_logged_at_powers_of_two_and_at_the_end(tmp_path, capsys):
    """It does not change training, whatever random numbers it takes, and is not shown."""

    def observe(stepper):
        torch.rand(3)
        return {"weight": float(sum(each.sum() for each in weights(stepper)))}

    _, plain = train(tmp_path / "plain")
    _, observed = train(tmp_path / "observed", observe=observe)
    assert all(map(torch.equal, weights(plain), weights(observed)))
    records = read_metrics(tmp_path / "observed" / "metrics.jsonl")
    steps = [record["step"] for record in records if record["kind"] == "parameters"]
    assert steps == [8, 10, 11, 13, 16, 19, 20]
    assert "weight" not in capsys.readouterr().err
    train(tmp_path / "nothing", observe=lambda stepper: {})
    assert not any(
        record["kind"] == "parameters"
        for record in read_metrics(tmp_path / "nothing" / "metrics.jsonl")
    )


def test_logged_loss_is_the_mean_over_the_interval(tmp_path):
    train(tmp_path / "each", intervals=Intervals(log=1))
    train(tmp_path / "four", intervals=Intervals(log=4))
    each = [r["loss"] for r in read_metrics(tmp_path / "each" / "metrics.jsonl")]
    four = [r["loss"] for r in read_metrics(tmp_path / "four" / "metrics.jsonl")]
    assert four == pytest.approx([sum(each[i : i + 4]) / 4 for i in range(0, 20, 4)])


@pytest.mark.parametrize("first", [1, 6, 9])
def test_resumed_equals_uninterrupted(tmp_path, first):
    _, one = train(tmp_path / "a", evaluate=evaluate)
    stopping = Breaking(first, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted):
        train(tmp_path / "b", stopping, evaluate=evaluate)
    result, two = train(tmp_path / "b", build(seed=9), evaluate=evaluate, resume=True)
    assert result.step == 20
    assert same(tmp_path / "a", tmp_path / "b", one, two)


def test_evaluation_does_not_affect_training(tmp_path):
    _, one = train(tmp_path / "a")
    _, two = train(tmp_path / "b", evaluate=evaluate, intervals=Intervals(log=4, evaluate=3))
    assert all(map(torch.equal, weights(one), weights(two)))


@pytest.mark.parametrize("workers", [1, 4])
def test_the_number_of_workers_does_not_affect_training(tmp_path, workers):
    _, one = train(tmp_path / "a")
    _, two = train(tmp_path / "b", workers=workers)
    assert same(tmp_path / "a", tmp_path / "b", one, two)


def test_resuming_a_completed_run_returns_its_outcome(tmp_path):
    first, one = train(tmp_path, evaluate=evaluate)
    again, two = train(tmp_path, build(seed=4), evaluate=evaluate, resume=True)
    assert (again.step, again.metrics) == (first.step, first.metrics)
    assert all(map(torch.equal, weights(one), weights(two)))


def test_a_completed_run_can_be_continued_with_more_steps(tmp_path):
    train(tmp_path / "a", steps=12)
    _, two = train(tmp_path / "a", build(seed=9), steps=20, resume=True)
    _, one = train(tmp_path / "b", steps=20)
    assert same(tmp_path / "b", tmp_path / "a", one, two)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", [0, 1])
def test_signals_finish_the_step_and_save(tmp_path, capsys, signum, workers):
    before = signal.getsignal(signum)
    stepper = Breaking(5, lambda: os.kill(os.getpid(), signum))
    with pytest.raises(Interrupted) as caught:
        train(tmp_path, stepper, workers=workers)
    assert (caught.value.code, caught.value.step) == (128 + signum, 5)
    assert caught.value.signal is signal.Signals(signum)
    assert CheckpointStore(tmp_path / "checkpoints").steps() == [5]
    assert f"Stopped at step 5, saved in {tmp_path}" in capsys.readouterr().err
    assert signal.getsignal(signum) is before


def test_a_second_interrupt_stops_immediately(tmp_path):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, Breaking(5, twice))
    assert CheckpointStore(tmp_path / "checkpoints").steps() == []


def test_runs_outside_the_main_thread(tmp_path):
    results = []
    thread = threading.Thread(target=lambda: results.append(train(tmp_path)[0]))
    thread.start()
    thread.join()
    assert results[0].step == 20


def test_time_limit(tmp_path, capsys):
    result, _ = train(tmp_path, Breaking(7, lambda: time.sleep(0.5)), steps=1000, seconds=0.5)
    assert 1 <= result.step <= 7
    assert "Time limit reached" in capsys.readouterr().err
    again, _ = train(tmp_path, steps=1000, seconds=0.5, resume=True)
    assert (
        again.step == result.step + 1
    )  # the limit includes earlier sessions, and each session makes a step
    assert again.seconds > 0.5


def test_checkpoints_by_time(tmp_path):
    stepper = Breaking(7, lambda: time.sleep(1.0))
    train(tmp_path, stepper, intervals=Intervals(save=None, save_seconds=0.9), steps=9)
    assert CheckpointStore(tmp_path / "checkpoints").steps() == [7, 9]


def test_a_run_is_not_overwritten(tmp_path):
    train(tmp_path)
    with pytest.raises(
        ExperimentError, match="contains a run already; resume it or choose another"
    ):
        train(tmp_path)


def test_a_damaged_checkpoint_is_skipped(tmp_path):
    _, one = train(tmp_path / "a")
    _, _ = train(tmp_path / "b", steps=15)
    store = CheckpointStore(tmp_path / "b" / "checkpoints")
    assert store.steps() == [6, 12, 15]
    (store.path(15) / "tensors.safetensors").write_bytes(b"")
    with pytest.warns(CheckpointWarning, match="step-00000015: tensors.safetensors is damaged"):
        _, two = train(tmp_path / "b", build(seed=9), resume=True)
    assert same(tmp_path / "a", tmp_path / "b", one, two)
    assert store.steps() == [12, 18, 20]


def test_damaged_checkpoints_are_kept_if_all_are_damaged(tmp_path):
    train(tmp_path)
    store = CheckpointStore(tmp_path / "checkpoints")
    for step in store.steps():
        (store.path(step) / "state.json").unlink()
    with (
        pytest.warns(CheckpointWarning),
        pytest.raises(CheckpointError, match="all checkpoints are damaged"),
    ):
        train(tmp_path, resume=True)
    assert store.steps() == [12, 18, 20]


def test_one_process_at_a_time(tmp_path):
    script = (
        "import pathlib, sys\n"
        "from featurewise.training.files import locked\n"
        "with locked(pathlib.Path(sys.argv[1])): print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(ExperimentError, match="another process is training here"):
            train(tmp_path)
        other.kill()
    train(tmp_path)


def test_one_thread_at_a_time(tmp_path):
    """The training thread also keeps its lock if another one opens and closes the lock file."""
    refused = []

    def other():
        with pytest.raises(ExperimentError, match="or another thread of this one") as caught:
            train(tmp_path)
        refused.append(caught.value)

    def interfere():
        with (tmp_path / ".lock").open("a"):
            pass
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()

    train(tmp_path, Breaking(8, interfere))
    assert len(refused) == 1
    assert [record["step"] for record in read_metrics(tmp_path / "metrics.jsonl")] == [
        4,
        8,
        12,
        16,
        20,
    ]


@pytest.mark.parametrize("name", [".lock", "metrics.jsonl"])
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_lock_or_log_that_is_a_link_or_pipe_is_refused(tmp_path, name, kind):
    (tmp_path / "target").write_text("unchanged")
    run = tmp_path / "run"
    run.mkdir()
    if kind == "link":
        (run / name).symlink_to("../target")
    else:
        os.mkfifo(run / name)
    with pytest.raises(ExperimentError, match=f"{name}: c.*is no regular file but a") as caught:
        train(run, resume=True)
    assert str(caught.value).startswith(str(run))
    assert (tmp_path / "target").read_text() == "unchanged"


def test_another_network_is_refused(tmp_path):
    train(tmp_path)
    other = nn.Linear(3, 1)
    stepper = Supervised(other, objective, torch.optim.SGD(other.parameters(), 0.1), average=0.9)
    with pytest.raises(ExperimentError, match="another network"):
        fit(tmp_path, stepper, Numbers(), steps=30, resume=True)


def test_divergence_is_not_saved(tmp_path):
    stepper = build()

    def break_weights():
        nn.init.constant_(stepper.network[0].weight, float("nan"))

    breaking = Breaking(8, break_weights)
    breaking.inner = stepper
    with pytest.raises(DivergedError, match=r"loss is nan by step (8|12): training diverged"):
        train(tmp_path, breaking)
    assert CheckpointStore(tmp_path / "checkpoints").steps() == [6]


def test_full_disk(tmp_path, monkeypatch):
    original = os.write
    full = [False]

    def write(descriptor, content):
        if full[0] and tmp_path in Path(f"/proc/self/fd/{descriptor}").readlink().parents:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(descriptor, content)

    monkeypatch.setattr(os, "write", write)
    _, one = train(tmp_path / "a")
    for at, file in [(8, "metrics.jsonl"), (9, "step-00000012")]:
        run = tmp_path / str(at)
        intervals = Intervals(log=4 if file == "metrics.jsonl" else 100, save=6)
        full[0] = False
        with pytest.raises(StorageError, match=f"{file}: could not be written: the disk is full"):
            train(run, Breaking(at, lambda: full.__setitem__(0, True)), intervals=intervals)
        full[0] = False
        assert CheckpointStore(run / "checkpoints").steps() == [6]
        _, two = train(run, build(seed=9), resume=True)
        assert all(map(torch.equal, weights(one), weights(two)))


def test_a_killed_worker_is_reported(tmp_path):
    class Killing(Numbers):
        def batch(self, index):
            if index == 9:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().batch(index)

    start = time.monotonic()
    with pytest.raises(WorkerError, match="a data-loading process died"):
        fit(tmp_path, build(), Killing(), steps=20, workers=1, intervals=Intervals(save=3))
    assert time.monotonic() - start < 60  # not forever; a starved machine takes ten seconds
    assert CheckpointStore(tmp_path / "checkpoints").steps()


def test_a_checkpoint_of_another_kind_is_refused(tmp_path):
    CheckpointStore(tmp_path / "checkpoints").save(3, {"weights": torch.ones(1)})
    with pytest.raises(CheckpointError, match="step-00000003: is not the checkpoint of a run"):
        train(tmp_path, resume=True)


@pytest.mark.parametrize("options", [{"log": 0}, {"save": -1}, {"evaluate": 0},
                                     {"save_seconds": 0.0}])  # fmt: skip
def test_intervals_must_be_above_0(options):
    with pytest.raises(ExperimentError, match="must be (1 or more|above 0)"):
        Intervals(**options)


def test_the_log_is_strict_json(tmp_path):
    train(tmp_path)
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)
