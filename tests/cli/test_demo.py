"""The demonstration compares two networks that were trained alike, and looks first at its needs."""

import importlib
import sys

import pytest
from rich.console import Console

from featurewise.cli import discovery
from featurewise.study.results import Measurement, Proportion, Results, Trial

demo = importlib.import_module("featurewise.cli.demo")  # the package's `demo` is the function


@pytest.mark.parametrize("missing", ["matplotlib", "jinja2"])
def test_what_is_not_installed_is_said_first(fails, monkeypatch, tmp_path, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setattr(discovery, "load", lambda name: pytest.fail("began"))
    error = fails("demo", "--out", tmp_path / "demo")
    assert error == f"error: {missing} is not installed: pip install '{missing}'"
    assert not (tmp_path / "demo").exists()


def test_files_of_somebody_else_are_left_alone(fails, tmp_path):
    (tmp_path / "picture-1.png").write_bytes(b"mine")
    assert "holds files of other things" in fails("demo", "--out", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["picture-1.png"]


@pytest.mark.parametrize(
    ("seconds", "steps"), [(60.0, 30), (12.0, 12), (0.01, 1)], ids=["fast", "slow", "slowest"]
)
def test_both_are_trained_for_as_many_steps_as_there_is_time(tmp_path, monkeypatch, seconds, steps):
    monkeypatch.setattr(demo, "_pace", lambda record, settings, arm: 0.5)
    assert demo._steps(tmp_path, discovery.load("film"), "tiny", seconds) == steps


def test_a_training_that_was_cut_short_decides_no_claims(capsys):
    record = discovery.load("film")
    measured = Measurement(Proportion(1, 2), values={"turned": 0.5})
    trials = tuple(Trial(arm, 0, 20, 1.0, 1, measured) for arm in ("film", "question"))
    results = Results("film", "tiny", trials, changed={"steps": 20})
    claims = demo._claims(Console(), record, results)
    assert [claim.sentence for claim in claims] == [claim.plain for claim in record.claims]
    assert all(claim.value is None for claim in claims)
    assert "at least" not in capsys.readouterr().out
