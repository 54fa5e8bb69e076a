"""``featurewise cards``."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import featurewise.systems
from featurewise.cli import discovery
from featurewise.common.seal import sealed
from featurewise.study import catalogue
from featurewise.study.made import MARK
from featurewise.study.results import Measurement, Proportion, Results, Trial

SYSTEM_FILE = Path(__file__).parents[1] / "study" / "sums.py"


@pytest.fixture
def sums(tmp_path, monkeypatch):
    """A library whose only system is the small one of the tests of `study`."""
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
    """Folder of a finished run."""
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
        "catalogue.md",
        "catalogue.png",
    ]
    card = (docs / "cards" / "sums.md").read_text()
    address = "../../results/sums/small/seeing.png"
    assert f"![Figure of what arm seeing does]({address})" in card
    assert (docs / "cards" / address).is_file()
    assert "All trials: 2 minutes for 4 trials." in card
    assert json.loads((docs / "cards" / "sums.json").read_text())["results"][0]["seconds"] == 120
    assert "## Arithmetic" in (docs / "catalogue.md").read_text()
    assert catalogue.stale(discovery.published(results), docs) == []
    run("cards", *where)
    assert catalogue.stale(discovery.published(results), docs) == []


def test_a_new_run_replaces_published_results(run, sums, finished, tmp_path):
    where = ("--results", tmp_path / "results", "--out", tmp_path / "docs")
    run("cards", "--add", finished, *where)
    (finished / "seeing-s1" / "sheet.png").unlink()
    run("cards", "--add", finished, *where)
    assert not list((tmp_path / "docs").rglob("*seeing.png"))


def test_published_trials_are_not_lost_unasked(run, fails, sums, finished, tmp_path):
    where = ("--results", tmp_path / "results", "--out", tmp_path / "docs")
    run("cards", "--add", finished, *where)
    one = Trial("broken", 0, 24, 30.0, 58, Measurement(Proportion(40, 100)))
    Results("sums", "small", (one,)).save(finished / "results.json")
    assert "--others keep" in fails("cards", "--add", finished, *where)
    shown = run("cards", "--add", finished, "--others", "keep", *where).text
    assert "1 trials published, 4 kept" in shown
    assert len(discovery.published_results("sums", tmp_path / "results")["small"].trials) == 5


def test_only_runs_are_published(fails, sums, finished, tmp_path):
    where = ("--results", tmp_path / "results", "--out", tmp_path / "docs")
    assert "holds no results.json" in fails("cards", "--add", tmp_path, *where)
    Results("sums", "small", ()).save(finished / "results.json")
    assert "no trial has finished yet" in fails("cards", "--add", finished, *where)
    Results("sms", "small", ()).save(finished / "results.json")
    assert "no system is called 'sms'" in fails("cards", "--add", finished, *where)


def test_published_results_of_a_system(sums, finished, tmp_path, run):
    run("cards", "--add", finished, "--results", tmp_path / "results", "--out", tmp_path / "docs")
    found = discovery.published_results("sums", tmp_path / "results")
    assert list(found) == ["small"] and len(found["small"].trials) == 4
    assert discovery.published_results("sums", tmp_path / "nowhere") == {}


NAMES = (
    *("../../outside", "..", "/outside", "a/b", "a\\b", "a\0b", "\x1b[2J", ".hidden", ""),
    *("small\n", "x" * 200, "<script>", "con|aux", "sm\u202eall", "absent"),
)


def written_in(folder):
    """Everything but the bytecode of the system, which Python keeps when it imports it."""
    return sorted(path for path in folder.rglob("*") if "__pycache__" not in path.parts)


@pytest.mark.parametrize("place", ["system", "preset", "arm"])
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_no_name_in_results_becomes_another_path(fails, sums, finished, tmp_path, place, name):
    """The file has a valid seal, as a forged one would; no file is written."""
    content = json.loads((finished / "results.json").read_text())
    del content["seal"]
    if place == "arm":
        content["trials"][0]["arm"] = name
    else:
        content[place] = name
    (finished / "results.json").write_bytes(sealed(content))
    before = written_in(tmp_path)
    shown = fails("cards", "--add", finished, "--results", tmp_path / "r", "--out", tmp_path / "d")
    assert "\x1b" not in shown and "\u202e" not in shown
    assert written_in(tmp_path) == before


ODD = {
    "seed": [-3, 0.5, True, None, 2**63, "0"],
    "steps": [-5, 1.5, None, 10**90],
    "seconds": [-1, None, "1"],
    "parameters": [-1, 0.5],
    "accuracy": [[5, 4], [0, 0], [-1, 4], [1], [1.0, 2], 0.5],
    "by_type": [{"\x1b": [1, 2]}, {"a": [3, 2]}, []],
    "values": [{"a": None}, {"": 1}, {"a": "1"}, {"a\nb": 1}],
    "note": [1],
}


@pytest.mark.parametrize(("part", "value"), [(p, v) for p, vs in ODD.items() for v in vs], ids=str)
def test_results_out_of_range_are_refused(fails, sums, finished, tmp_path, part, value):
    content = json.loads((finished / "results.json").read_text())
    del content["seal"]
    content["trials"][1][part] = value
    (finished / "results.json").write_bytes(sealed(content))
    shown = fails("cards", "--add", finished, "--results", tmp_path / "r", "--out", tmp_path / "d")
    assert "results.json: " in shown and not (tmp_path / "r").exists()


def test_no_trial_is_published_twice(fails, sums, finished, tmp_path):
    content = json.loads((finished / "results.json").read_text())
    del content["seal"]
    content["trials"].append(content["trials"][0])
    (finished / "results.json").write_bytes(sealed(content))
    assert "two trials of seeing with seed 0" in fails("cards", "--add", finished)


def test_markup_in_results_stays_text(run, sums, finished, tmp_path):
    found = Results.load(finished / "results.json")
    script = "<script>alert(1)</script>"
    trials = [
        Trial(
            t.arm,
            t.seed,
            t.steps,
            t.seconds,
            t.parameters,
            Measurement(t.measured.accuracy, {script: Proportion(1, 2)}, {f"a|b`{script}": 1.0}),
        )
        for t in found.trials
    ]
    hardware = {"processor": script, script: "x"}
    Results("sums", "small", tuple(trials), hardware).save(finished / "results.json")
    run("cards", "--add", finished, "--results", tmp_path / "r", "--out", tmp_path / "d")
    for path in (tmp_path / "d").rglob("*.md"):
        assert "<script" not in path.read_text() and "a|b" not in path.read_text()
    assert "&#60;script&#62;" in (tmp_path / "d" / "cards" / "sums.md").read_text()


def test_without_results_nothing_is_written(fails, sums, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "catalogue.md").write_text("# My shop")
    assert "results: holds no results of any system" in fails("cards")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "mine.json").write_text("{}")
    assert "results: holds no results of any system" in fails("cards")
    assert [path.name for path in (tmp_path / "docs").iterdir()] == ["catalogue.md"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("catalogue.md", b"# My shop"),
        ("cards/sums.md", b"# Greeting cards"),
        ("cards/sums.json", b'{"name": "sums"}'),
        ("cards/sums.png", b"my image"),
        ("catalogue.png", b""),
    ],
)
def test_files_of_the_user_are_never_overwritten(fails, sums, finished, tmp_path, name, content):
    where = ("--results", tmp_path / "results", "--out", tmp_path / "docs")
    theirs = tmp_path / "docs" / name
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(content)
    assert f"{theirs}: not made by featurewise" in fails("cards", "--add", finished, *where)
    kept = [path for path in (tmp_path / "docs").rglob("*.*") if path.is_file()]
    assert kept == [theirs] and theirs.read_bytes() == content


def test_other_files_in_the_folder_are_kept(run, sums, finished, tmp_path):
    where = ("--results", tmp_path / "results", "--out", tmp_path / "docs")
    theirs = tmp_path / "docs" / "cards" / "birthday.md"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("# Greeting cards")
    ours = tmp_path / "docs" / "cards" / "gone.md"
    ours.write_text(f"{MARK}# A system that is gone")
    run("cards", "--add", finished, *where)
    assert theirs.read_text() == "# Greeting cards" and not ours.exists()
    assert catalogue.stale(discovery.published(tmp_path / "results"), tmp_path / "docs") == []


def test_cards_of_version_0_1_are_recognised(run, sums, finished, tmp_path):
    where = ("--results", tmp_path / "results", "--out", tmp_path / "docs")
    run("cards", "--add", finished, *where)
    docs = tmp_path / "docs"
    (docs / "cards/sums.md").write_text("# Sums\n")  # its facts are beside it
    (docs / "catalogue.md").write_text("# Catalogue\n\nEvery system, what it claims and what")
    run("cards", *where)
    assert catalogue.stale(discovery.published(tmp_path / "results"), tmp_path / "docs") == []


def test_results_of_the_user_are_never_overwritten(fails, sums, finished, tmp_path):
    where = ("--results", tmp_path / "results", "--out", tmp_path / "docs")
    theirs = tmp_path / "results" / "sums" / "small.json"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("[1, 2]")
    assert f"{theirs}: not made by featurewise" in fails("cards", "--add", finished, *where)
    assert theirs.read_text() == "[1, 2]"


def test_changed_settings_are_not_published(fails, sums, finished, tmp_path):
    where = ("--results", tmp_path / "results", "--out", tmp_path / "docs")
    found = Results.load(finished / "results.json")
    replace(found, changed={"learning_rate": 0.5}).save(finished / "results.json")
    assert Results.load(finished / "results.json").changed == {"learning_rate": 0.5}
    error = fails("cards", "--add", finished, *where)
    assert "results with learning_rate = 0.5, not of preset small as it is" in error
    assert not (tmp_path / "results").exists()
