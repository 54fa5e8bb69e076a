"""The demonstration: both networks get the same number of steps; missing packages fail first."""

import importlib
import sys

import pytest
from rich.console import Console

from featurewise.cli import discovery
from featurewise.study.results import Measurement, Proportion, Results, Trial

demo = importlib.import_module("featurewise.cli.demo")  # the package's `demo` is the function


@pytest.mark.parametrize("missing", ["matplotlib", "jinja2"])
def test_a_missing_package_is_reported_before_training(fails, monkeypatch, tmp_path, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setattr(discovery, "load", lambda name: pytest.fail("began"))
    error = fails("demo", "--out", tmp_path / "demo")
    assert error == f"error: {missing} is not installed: pip install '{missing}'"
    assert not (tmp_path / "demo").exists()


def test_files_of_the_user_are_kept(fails, tmp_path):
    (tmp_path / "mine-1.png").write_bytes(b"mine")
    assert "holds files of another kind" in fails("demo", "--out", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine-1.png"]


@pytest.mark.parametrize(
    ("seconds", "steps"), [(60.0, 30), (12.0, 12), (0.01, 1)], ids=["fast", "slow", "slowest"]
)
def test_the_number_of_steps_fits_the_time(tmp_path, monkeypatch, seconds, steps):
    monkeypatch.setattr(demo, "_seconds_per_step", lambda record, config: 0.5)
    assert demo._steps(tmp_path, discovery.load("film"), "tiny", seconds) == steps


def test_claims_are_not_tested_after_fewer_steps(capsys):
    record = discovery.load("film")
    measured = Measurement(Proportion(1, 2), values={"swap accuracy": 0.5})
    trials = tuple(Trial(arm, 0, 20, 1.0, 1, measured) for arm in ("film", "question"))
    results = Results("film", "tiny", trials, changed={"steps": 20})
    claims = demo._claims(Console(), record, results)
    assert len(claims) == len(record.claims)
    for shown, claim in zip(claims, record.claims, strict=True):
        assert shown.sentence.startswith(claim.sentence)
    assert all(claim.value is None for claim in claims)
    assert "at least" not in capsys.readouterr().out
