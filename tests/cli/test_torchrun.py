"""``train`` under torchrun: two processes train one network."""

import json
import os
import subprocess
import sys
from pathlib import Path

from featurewise.study.model import load_network
from featurewise.systems.reasoning.film import SYSTEM


def test_two_processes_share_a_run_and_an_empty_cache(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "FEATUREWISE_CACHE": str(
            tmp_path / "cache"
        ),  # empty: both processes render the same images
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "featurewise.cli", "train", "film", "--preset", "tiny", "--steps", "6"]
    command += ["--out", str(tmp_path / "run")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("held-out accuracy") == 1  # only one process prints
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["trials"][0]["steps"] == 6
    load_network(tmp_path / "run", SYSTEM)
