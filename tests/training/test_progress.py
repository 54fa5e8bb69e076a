import io
import sys

import pytest
from rich.console import Console

from featurewise.training.errors import ExperimentError
from featurewise.training.progress import Screen, TensorBoard, _duration


def test_lines_if_the_output_is_not_a_terminal():
    out = io.StringIO()
    with Screen(100, 40, Console(file=out, force_terminal=False, width=40)) as screen:
        screen.report(50, "train", {"loss": 0.25, "accuracy": 0.5})
        screen.report(50, "evaluate", {"[accuracy]": 0.75})
        screen.say("Stopped at step 50, saved in [here].")
    first, second, third = out.getvalue().splitlines()
    assert first.startswith("step 50/100  train: loss 0.25  accuracy 0.5  ")
    assert "steps/s" in first
    assert first.endswith("to go")
    assert "evaluate: [accuracy] 0.75" in second
    assert third == "Stopped at step 50, saved in [here]."


def test_a_bar_in_a_terminal():
    out = io.StringIO()
    with Screen(100, 0, Console(file=out, force_terminal=True, width=120)) as screen:
        screen.report(50, "train", {"loss": 0.25, "[b]": 1.0})
    assert "50/100" in out.getvalue()
    assert "loss 0.25" in out.getvalue()
    assert "[b] 1" in out.getvalue()


def test_durations():
    assert [_duration(s) for s in (0.0, 59.6, 3599.0, 3661.0)] == [
        "0:00",
        "1:00",
        "59:59",
        "1:01:01",
    ]


def test_missing_tensorboard_error_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ExperimentError, match=r"pip install 'featurewise\[tensorboard\]'"):
        TensorBoard(tmp_path, 0)
