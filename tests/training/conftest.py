import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from featurewise.training.checkpoint import CheckpointStore
from featurewise.training.state import flatten


class TrainingProcesses:
    """Runs trainings, some of them killed, in forks of a process that has imported torch."""

    def __init__(self):
        script = Path(__file__).with_name("training_process.py")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        self.server = subprocess.Popen(
            [sys.executable, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def train(self, run, *, kill_after=None, **command):
        """Trains in a child process and returns its wait status.

        Args:
            run: folder of the run.
            kill_after: seconds until the child is killed; default: it is not.
            command: further options, see ``training_process.py``.
        """
        self.server.stdin.write(json.dumps({"run": str(run), **command}) + "\n")
        self.server.stdin.flush()
        pid = int(self.server.stdout.readline())
        if kill_after is not None:
            time.sleep(kill_after)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return int(self.server.stdout.readline())

    def close(self):
        self.server.stdin.close()
        self.server.wait(timeout=120)
        self.server.stdout.close()

    @staticmethod
    def outcome(run):
        """The last checkpoint and the log of a run, bit by bit, except for the duration."""
        step, state = CheckpointStore(run / "checkpoints").latest()
        del state["seconds"]
        text, tensors = flatten(state)
        raw = {
            name: (str(t.dtype), tuple(t.shape), t.numpy().tobytes()) for name, t in tensors.items()
        }
        return step, text, raw, (run / "metrics.jsonl").read_bytes()


@pytest.fixture(scope="session")
def processes():
    processes = TrainingProcesses()
    yield processes
    processes.close()
