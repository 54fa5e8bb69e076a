"""``featurewise run``: all arms and seeds of a system, interrupted and resumed."""

import dataclasses
import importlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

import featurewise.systems
from featurewise.cli import discovery
from featurewise.study.results import Results
from featurewise.study.study import Key, Study
from featurewise.study.system import Arm

pytest.importorskip("optuna", reason="Optuna is not installed (extra: study)")

command = importlib.import_module("featurewise.cli.run")  # the package's `run` is the function

SYSTEM_FILE = Path(__file__).parents[1] / "study" / "sums.py"
STARTED = Path(__file__).with_name("started.py")


def children(pid):
    """File of the kernel with the ids of the child processes."""
    return Path(f"/proc/{pid}/task/{pid}/children")


@pytest.fixture
def sums(tmp_path, monkeypatch):
    """The small system of the tests of `study`, in a folder where workers find it too."""
    root = tmp_path / "systems"
    (root / "arithmetic").mkdir(parents=True)
    (root / "arithmetic" / "__init__.py").touch()
    shutil.copyfile(SYSTEM_FILE, root / "arithmetic" / "sums.py")
    monkeypatch.setattr(featurewise.systems, "__path__", [*featurewise.systems.__path__, str(root)])
    monkeypatch.setattr(command, "COMMAND", (sys.executable, str(STARTED), str(root)))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield command.COMMAND
    for name in [name for name in sys.modules if name.startswith("featurewise.systems.arithmetic")]:
        del sys.modules[name]


def line(folder, *more, arms="seeing,blind", seeds="2"):
    words = ("run", "sums", "--arms", arms, "--seeds", seeds, "--preset", "tiny", "--out", folder)
    return [str(word) for word in (*words, *more)]


def measured(folder):
    results = Results.load(folder / "results.json")
    return {(t.arm, t.seed): (t.measured, t.steps) for t in results.trials}


def test_one_trial_after_another(run, sums, tmp_path):
    out = tmp_path / "out"
    shown = run(*line(out)).text
    assert "preset tiny, 2 arms, 2 seeds: 4 trials" in shown
    assert "[4/4] blind, seed 1: accuracy" in shown
    assert "inconclusive (" in shown or "supported (" in shown
    assert re.search(r"no interval \(\S+\) It never errs\. 100 % right\.", shown)
    assert (
        "not tested Measuring helps. seeing is at least 1 points above broken in accuracy." in shown
    )
    lacks = "2 of 3 arms, 2 of 3 seeds; missing: seeing, blind with seed 2; broken"
    assert f"partial: {lacks}" in shown
    assert set(measured(out)) == {(a, s) for a in ("seeing", "blind") for s in (0, 1)}
    card = (out / "sums.md").read_text()
    assert f"**Partial**: {lacks}." in card
    assert "A sheet of one colour; red for the sum of the weights.\n\n**seeing**" in card
    assert "![Figure of what arm seeing does](sums.tiny.seeing.png)" in card
    with Image.open(out / "sums.tiny.seeing.png") as sheet:
        assert sheet.size == (60, 40)
    assert json.loads((out / "sums.json").read_text())["results"][0]["partial"] == lacks
    again = run(*line(out)).text
    assert "4 trials, 4 finished before" in again and "begins" not in again


def test_a_partial_run_has_a_card_after_each_trial(sums, tmp_path, monkeypatch):
    """The card lists the missing trials."""
    record = discovery.load("sums")
    study = Study(record, preset="tiny", arms=["seeing", "blind"], seeds=[0], folder=tmp_path)
    study.begin()
    command._publish(study)
    assert not (tmp_path / "sums.md").exists()
    cards = []

    def on_progress(message):
        command._publish(study)
        card = tmp_path / "sums.md"
        cards.append(card.read_text() if card.exists() else "")

    study.work(on_progress)
    assert "**Partial**: 1 of 3 arms, 1 of 3 seeds" in cards[1]
    assert "**Partial**: 2 of 3 arms, 1 of 3 seeds" in cards[3]


def test_two_jobs_are_killed_and_resumed(run, sums, tmp_path, monkeypatch):
    """The command is killed while both jobs train; they exit, and the same command resumes."""
    run(*line(tmp_path / "undisturbed", arms="seeing,blind", seeds="1"))
    words, out = line(tmp_path / "out", "--jobs", 2, seeds="1"), tmp_path / "out"
    slow = {**os.environ, "FEATUREWISE_TEST_PAUSE": "0.3"}
    killed = subprocess.Popen([*sums, *words], env=slow, stdout=subprocess.DEVNULL)
    try:
        logs = [out / key / "metrics.jsonl" for key in ("seeing-s0", "blind-s0")]
        until(lambda: all(log.is_file() and log.stat().st_size for log in logs))
        killed.send_signal(signal.SIGKILL)
    finally:
        killed.kill()
        killed.wait()
    study = Study(
        discovery.load("sums"), preset="tiny", arms=["seeing", "blind"], seeds=[0], folder=out
    )
    until(lambda: len(study.status().waiting) == 2)  # both jobs saved a checkpoint and exited
    assert not study.status().results.trials
    shown = run(*words).text
    assert "[2/2]" in shown
    assert measured(out) == measured(tmp_path / "undisturbed")
    for key in ("seeing-s0", "blind-s0"):
        logs = [folder / key / "metrics.jsonl" for folder in (out, tmp_path / "undisturbed")]
        assert logs[0].read_bytes() == logs[1].read_bytes()


@pytest.mark.skipif(
    not children(os.getpid()).is_file(), reason="needs /proc for the ids of the workers"
)
def test_the_trial_of_a_killed_job_is_finished_by_the_other(run, sums, tmp_path):
    run(*line(tmp_path / "undisturbed", arms="seeing,blind", seeds="1"))
    words, out = line(tmp_path / "out", "--jobs", 2, seeds="1"), tmp_path / "out"
    slow = {**os.environ, "FEATUREWISE_TEST_PAUSE": "0.2"}
    whole = subprocess.Popen([*sums, *words], env=slow, stderr=subprocess.PIPE, text=True)
    try:
        logs = [out / key / "metrics.jsonl" for key in ("seeing-s0", "blind-s0")]
        until(lambda: all(log.is_file() and log.stat().st_size for log in logs))
        os.kill(int(children(whole.pid).read_text().split()[0]), signal.SIGKILL)
        _, said = whole.communicate(timeout=200)
    finally:
        whole.kill()
    assert whole.returncode == 0
    assert "ended (signal 9); see" in said
    assert measured(out) == measured(tmp_path / "undisturbed")
    for key in ("seeing-s0", "blind-s0"):
        logs = [folder / key / "metrics.jsonl" for folder in (out, tmp_path / "undisturbed")]
        assert logs[0].read_bytes() == logs[1].read_bytes()


def test_ctrl_c_prints_how_to_resume(sums, tmp_path):
    out, storage = tmp_path / "my $out", f"sqlite:///{tmp_path}/s.db?timeout=60"
    words = line(out, "--storage", storage, seeds="1,", arms="seeing")
    slow = {**os.environ, "FEATUREWISE_TEST_PAUSE": "0.3"}
    stopped = subprocess.Popen(
        [*sums, *words], env=slow, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    log = out / "seeing-s1" / "metrics.jsonl"
    try:
        until(lambda: log.is_file() and log.stat().st_size)
        stopped.send_signal(signal.SIGINT)
        _, said = stopped.communicate(timeout=100)
    finally:
        stopped.kill()
    assert stopped.returncode == 130
    assert "Stopped; 1 trials are left. To resume, run the same command again:" in said
    again = shlex.split(
        next(each for each in said.splitlines() if each.startswith("  featurewise"))
    )
    assert again[:3] == ["featurewise", "run", "sums"]
    options = dict(zip(again[3::2], again[4::2], strict=True))
    assert {
        "--seeds": "1,",
        "--out": str(out),
        "--arms": "seeing",
        "--jobs": "1",
    }.items() <= options.items()
    assert options["--storage"] == storage.replace("timeout=60", "***")
    assert "Traceback" not in said


def test_failed_trials_are_reported(run, sums, tmp_path):
    shown = run(*line(tmp_path, arms="broken,blind", seeds="1"), code=2)
    assert "[2/2] blind" in shown.text
    assert "1 trials failed (broken-s0: the ruler is broken)" in shown.error


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_study_in_which_all_trials_failed_has_no_card(run, sums, tmp_path, jobs):
    shown = run(*line(tmp_path, "--jobs", jobs, arms="broken", seeds="2"), code=2)
    assert "all 2 trials failed, so that there are no results; broken-s0: the ruler" in shown.error
    assert f"see {tmp_path / 'broken-s0' / 'error.txt'}" in shown.error
    assert "ExperimentError: the ruler is broken" in (tmp_path / "broken-s0/error.txt").read_text()
    assert not [each for each in tmp_path.iterdir() if each.suffix in (".md", ".json")]
    assert "card:" not in shown.text


def test_settings_that_do_not_fit_an_arm_are_refused_before_training(run, sums, fails, tmp_path):
    record = discovery.load("sums")
    arm = Arm("narrow", "a network of no width", width=0)
    changed = dataclasses.replace(record, arms=(*record.arms, arm))
    sys.modules["featurewise.systems.arithmetic.sums"].SYSTEM = changed
    error = fails(*line(tmp_path / "out", arms="seeing,narrow"))
    assert error == "error: arm narrow: width must be 1 or more, got 0"
    assert not (tmp_path / "out").exists()


def test_the_error_of_a_worker_is_reported(run, sums, tmp_path, monkeypatch):
    nothing = (sys.executable, "-c", "raise SystemExit('no machine')")
    monkeypatch.setattr(command, "COMMAND", nothing)
    error = run(*line(tmp_path, "--jobs", 2), code=2).error
    assert "all workers exited, but 4 trials are left: no machine" in error


def test_changed_settings_are_recorded(run, fails, sums, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("run", "sums", "--preset", "tiny", "--arms", "seeing,blind", "--seeds", "1")
    changes = ("--set", "width=6", "--set", "intervals.log=8", "--steps", 12)
    shown = run(*words, *changes).text
    assert "preset tiny, width=6, intervals.log=8, steps=12, 2 arms" in shown
    assert "cannot be published: not the steps, intervals, width of preset tiny" in shown
    assert "--add" not in shown
    out = Path("runs/sums-tiny-width=6-intervals.log=8-steps=12")
    found = Results.load(out / "results.json")
    intervals = {"log": 8, "evaluate": None, "save": 4, "save_seconds": None}
    assert found.changed == {"steps": 12, "intervals": intervals, "width": 6}
    assert [trial.steps for trial in found.trials] == [12, 12]
    assert "**Changed from the preset**: `steps` = 12, `intervals`" in (out / "sums.md").read_text()
    assert "results with steps = 12" in fails("cards", "--add", out, "--out", tmp_path / "docs")
    alone = run("train", "sums", "--preset", "tiny", "--steps", 8, "--out", tmp_path / "alone")
    assert "saved in" in alone.text
    assert Results.load(tmp_path / "alone" / "results.json").changed == {"steps": 8}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("widht=6", "no setting of sums is called 'widht'; did you mean width?"),
        ("intervals.lgo=6", "no setting of sums is called 'lgo'; did you mean log?"),
        ("width.log=6", "no setting of sums is called 'log'"),
        ("width", "--set width: write NAME=VALUE"),
        ("width=wide", "settings: width must be an integer, got 'wide'"),
        ("steps=0", "settings: steps must be 1 or more, got 0"),
    ],
)
def test_wrong_settings(fails, sums, tmp_path, change, message):
    assert message in fails(*line(tmp_path / "out", "--set", change))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ("100000000000", "at most 10000 seeds, not '100000000000'"),
        ("10001", "at most 10000 seeds"),
        ("9" * 5000, "at most 10000 seeds, not '999"),
        ("99999999999999999999,", "a seed has at most 19 digits, not '99999999999999999999'"),
        ("9999999999999999999,", "a seed lies in 0..9223372036854775807, got 9999999999999999999"),
    ],
)
def test_seeds_out_of_range(fails, sums, tmp_path, seeds, message):
    assert message in fails(*line(tmp_path / "out", seeds=seeds))
    assert not (tmp_path / "out").exists()


def test_no_more_jobs_than_trials(run, sums, tmp_path, monkeypatch):
    """Each would be a process that imports torch and has nothing to do."""
    monkeypatch.setattr(command, "COMMAND", (sys.executable, "-c", "raise SystemExit('none')"))
    run(*line(tmp_path, "--jobs", 900, seeds="1"), code=2)
    assert len(list((tmp_path / ".workers").glob("*.log"))) == 2
    assert run(*line(tmp_path, "--jobs", 1025), code=2)


@pytest.mark.parametrize("name", ["results.json", "sums.md", "sums.json"])
def test_files_of_the_user_are_kept(fails, sums, tmp_path, name):
    (tmp_path / name).write_text("{}")
    assert f"{name}: not made by featurewise" in fails(*line(tmp_path))
    assert (tmp_path / name).read_text() == "{}"


@pytest.mark.parametrize("name", ["results.json", "metrics.jsonl", "sheet.png"])
def test_a_training_keeps_files_of_the_user(fails, sums, tmp_path, name):
    (tmp_path / name).write_text("mine")
    assert f"holds {name}, but no run" in fails("train", "sums", "--out", tmp_path)
    assert (tmp_path / name).read_text() == "mine"


def test_a_missing_package_is_reported_before_training(fails, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.setattr(discovery, "load", lambda name: pytest.fail("began"))
    error = fails("run", "film", "--out", tmp_path / "out")
    assert error == "error: optuna is not installed: pip install 'featurewise[study]'"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "seeds"), [("3", [0, 1, 2]), ("1", [0]), ("0,4,7", [0, 4, 7]), ("5,", [5])]
)
def test_seeds(text, seeds):
    assert command._seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "0", "-1", "a", "1,b", ","])
def test_wrong_seeds(text):
    with pytest.raises(ValueError, match="is no list of seeds; give their number"):
        command._seeds(text)


def test_arms(sums):
    record = discovery.load("sums")
    assert command._arms(record, "all") == ["seeing", "blind", "broken"]
    assert command._arms(record, "blind, seeing") == ["blind", "seeing"]
    with pytest.raises(ValueError, match="did you mean blind"):
        command._arms(record, "blnd")
    with pytest.raises(ValueError, match="no arm is named"):
        command._arms(record, ",")


def test_the_display_shows_the_step_of_each_trial(sums, tmp_path):
    study = Study(
        discovery.load("sums"), preset="tiny", arms=["seeing"], seeds=[0], folder=tmp_path
    )
    from rich.console import Console

    board = command._Board(Console(), study)
    key = Key("seeing", 0)
    assert board._step(key) == "starting"
    folder = tmp_path / "seeing-s0"
    folder.mkdir()
    (folder / "metrics.jsonl").write_text('{"step": 4, "kind": "train"}\n{"step": 8}\n')
    assert board._step(key) == "step 8 of 24"
    (folder / "metrics.jsonl").write_text('{"step": 4}\n{"st')
    assert board._step(key) == "starting"


def until(condition, seconds=200):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timeout"
        time.sleep(0.05)
