"""Ctrl-C and SIGTERM keep finished files, print how to resume, and set the usual exit code."""

import os
import signal
import subprocess
import sys
import time

import pytest


@pytest.mark.parametrize(
    ("signum", "how", "code"),
    [(signal.SIGINT, "Ctrl-C", 130), (signal.SIGTERM, "SIGTERM", 143)],
    ids=["INT", "TERM"],
)
def test_a_stopped_rendering(tmp_path, signum, how, code):
    words = ["world", "clevr", "--count", "5000", "--out", str(tmp_path / "a b")]
    words += ["--width", "24", "--height", "16", "--samples-per-pixel", "1", "--workers", "0"]
    stopped = subprocess.Popen(
        [sys.executable, "-m", "featurewise", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    images = tmp_path / "a b" / "images" / "train"
    try:
        end = time.monotonic() + 100
        while not (images.is_dir() and any(images.glob("*.png"))):
            assert time.monotonic() < end and stopped.poll() is None
            time.sleep(0.05)
        stopped.send_signal(signum)
        output, said = stopped.communicate(timeout=100)
    finally:
        stopped.kill()
    assert stopped.returncode == code
    assert not output and "Traceback" not in said
    assert f"stopped by {how}; finished work is kept. To resume" in said
    assert f"featurewise world clevr --count 5000 --out '{tmp_path / 'a b'}'" in said
    assert "5000 images of 24 x 16: about" in said
