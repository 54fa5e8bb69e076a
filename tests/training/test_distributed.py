"""Two processes with the gloo backend, started with the environment of torchrun."""

import torch

from featurewise.training.checkpoint import CheckpointStore
from featurewise.training.distributed import Group, _pack, _unpack


def final_weights(run):
    return CheckpointStore(run / "checkpoints").latest()[1]["stepper"]["network"]


def test_two_processes_equal_one_with_twice_the_batch(processes, tmp_path):
    assert processes.train(tmp_path / "two", plain="halves", together=True) == 0
    assert processes.train(tmp_path / "one", plain="pairs") == 0
    two, one = final_weights(tmp_path / "two"), final_weights(tmp_path / "one")
    for name in one:
        torch.testing.assert_close(two[name], one[name], atol=1e-6, rtol=1e-5)
    logs = [(tmp_path / run / "metrics.jsonl").read_text() for run in ("two", "one")]
    assert logs[0].count("\n") == logs[1].count("\n") == 5


def test_two_killed_processes_resume_exactly(processes, tmp_path):
    assert processes.train(tmp_path / "uninterrupted", together=True) == 0
    killed = 0
    for die_at in (30, 45, 45):
        killed += (
            processes.train(tmp_path / "killed", together=True, die_at=die_at, quiet=True) != 0
        )
    assert killed == 3
    assert processes.train(tmp_path / "killed", together=True) == 0
    assert processes.outcome(tmp_path / "killed") == processes.outcome(tmp_path / "uninterrupted")


def test_another_number_of_processes_is_refused(processes, tmp_path):
    assert processes.train(tmp_path, together=True) == 0
    assert processes.train(tmp_path, quiet=True) == 1 << 8


def test_a_group_of_one_process():
    group = Group()
    assert group.writes
    assert group.any(True, False) == [True, False]
    assert group.mean({"loss": 1.5}) == {"loss": 1.5}
    assert group.from_first(7) == 7
    assert group.gather({"a": 1}) == [{"a": 1}]


def test_states_are_packed_and_unpacked():
    state = {"a": torch.arange(3), "b": [1.5, "text"]}
    back = _unpack(_pack(state))
    assert torch.equal(back["a"], state["a"])
    assert back["b"] == state["b"]
