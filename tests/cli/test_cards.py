"""``featurewise cards``."""

import json
import shutil
import sys
from pathlib import Path

import pytest

import featurewise.systems
from featurewise.cli import discovery
from featurewise.lab import catalogue
from featurewise.lab.results import Measurement, Proportion, Results, Trial

SYSTEM_FILE = Path(__file__).parents[1] / "lab" / "sums.py"


@pytest.fixture
def sums(tmp_path, monkeypatch):
    """A library whose only system is the small one of the lab's tests."""
    root = tmp_path / "systems"
    (root / "arithmetic").mkdir(parents=True)
    (root / "arithmetic" / "__init__.py").touch()
    shutil.copyfile(SYSTEM_FILE, root / "arithmetic" / "sums.py")
    monkeypatch.setattr(featurewise.systems, "__path__", [str(root)])
    yield
    for name in [name for name in sys.modules if name.startswith("featurewise.systems.arithmetic")]:
        del sys.modules[name]


@pytest.fixture
def finished(tmp_path):
    """The folder of a run, as it is left."""
    from PIL import Image

    folder = tmp_path / "run"
    trials = [
        Trial(arm, seed, 24, 30.0, 58, Measurement(Proportion(90 - 40 * (arm == "blind"), 100)))
        for arm in ("seeing", "blind")
        for seed in (0, 1)
    ]
    for each in trials:
        (folder / f"{each.arm}-s{each.seed}").mkdir(parents=True)
    Results("sums", "small", tuple(trials)).save(folder / "results.json")
    Image.new("RGB", (50, 40), "red").save(folder / "seeing-s1" / "sheet.png")
    return folder


def test_a_run_is_published(run, sums, finished, tmp_path):
    results, docs = tmp_path / "results", tmp_path / "docs"
    where = ("--results", results, "--out", docs)
    shown = run("cards", "--add", finished, *where).text
    assert "sums, preset small: 4 trials published; partial: 2 of 3 arms, 2 of 3 seeds" in shown
    assert sorted(str(path.relative_to(results)) for path in results.rglob("*.*")) == [
        "sums/small.json",
        "sums/small/seeing.png",
    ]
    assert sorted(str(path.relative_to(docs)) for path in docs.rglob("*.*")) == [
        "cards/sums.json",
        "cards/sums.md",
        "cards/sums.png",
        "cards/sums.small.seeing.png",
        "catalogue.md",
    ]
    assert (
        "![Figure of what arm seeing does](sums.small.seeing.png)"
        in (docs / "cards" / "sums.md").read_text()
    )
    assert "All together 2 minutes for 4 trials." in (docs / "cards" / "sums.md").read_text()
    assert json.loads((docs / "cards" / "sums.json").read_text())["results"][0]["seconds"] == 120
    assert "## Arithmetic" in (docs / "catalogue.md").read_text()
    assert catalogue.stale(discovery.published(results), docs) == []
    run("cards", *where)
    assert catalogue.stale(discovery.published(results), docs) == []


def test_a_new_run_replaces_what_was_published(run, sums, finished, tmp_path):
    where = ("--results", tmp_path / "results", "--out", tmp_path / "docs")
    run("cards", "--add", finished, *where)
    (finished / "seeing-s1" / "sheet.png").unlink()
    run("cards", "--add", finished, *where)
    assert not list((tmp_path / "docs").rglob("*seeing.png"))


def test_what_is_no_run_is_refused(fails, sums, finished, tmp_path):
    where = ("--results", tmp_path / "results", "--out", tmp_path / "docs")
    assert "holds no results.json" in fails("cards", "--add", tmp_path, *where)
    Results("sums", "small", ()).save(finished / "results.json")
    assert "nothing is measured yet" in fails("cards", "--add", finished, *where)
    Results("sms", "small", ()).save(finished / "results.json")
    assert "no system is called 'sms'" in fails("cards", "--add", finished, *where)


def test_published_results_of_a_system(sums, finished, tmp_path, run):
    run("cards", "--add", finished, "--results", tmp_path / "results", "--out", tmp_path / "docs")
    found = discovery.published_results("sums", tmp_path / "results")
    assert list(found) == ["small"] and len(found["small"].trials) == 4
    assert discovery.published_results("sums", tmp_path / "nowhere") == {}
