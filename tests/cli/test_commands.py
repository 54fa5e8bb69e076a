"""Every command, run on a tiny network."""

import importlib
import json
import shutil
import subprocess
import sys

import pytest
import typer
from PIL import Image

from featurewise.cli import app, discovery
from featurewise.study.model import export_model, load_network
from featurewise.study.run import read_run
from featurewise.systems.reasoning.film import SYSTEM
from featurewise.worlds.clevr.metrics import BY_TYPE, NUMBERS
from featurewise.worlds.clevr.splits import held_out_batches

answerer = discovery.answerer(SYSTEM)
demo = importlib.import_module("featurewise.cli.demo")  # the package's `demo` is the function


def test_systems_are_listed(run):
    text = run("systems").text
    assert set(discovery.names()) <= set(text.split())
    assert "FiLM: visual reasoning" in text
    assert "arxiv.org" not in text


def test_a_system_is_described_in_detail(run):
    text = run("systems", "film").text
    for word in ("Perez", "tiny", "small", "paper", "question", "shuffled", "arxiv.org"):
        assert word in text
    assert "film is at least 15 points above question in accuracy." in text
    assert "CAVIA" not in text
    assert "did you mean film" in run("systems", "flim", code=2).error


def test_systems_with_a_shipped_model_are_marked(run, monkeypatch):
    lines = {line.split()[0]: line for line in run("systems").output.splitlines() if line.strip()}
    for name in discovery.names():
        shipped = discovery.shipped_model(discovery.module(name)) / discovery.MODEL
        commands = "stylize" if name == "style_transfer" else "ask, evaluate"
        assert (commands in lines[name]) == shipped.is_file()
    text = run("systems", "film").text
    assert "trained model included: featurewise ask film IMAGE QUESTION, featurewise eval" in text
    assert "trained model" not in run("systems", "cavia").text


def test_arguments_of_ask_are_optional_in_the_help(run):
    """With ``--example`` there are none."""
    text = run("ask", "--help").text
    assert "[RUN] [IMAGE] [QUESTION]" in text and "[required]" not in text
    assert "Missing IMAGE;" in run("ask", "film", code=2).text


def test_help_names_every_command(run):
    text = run("--help").text
    assert all(name in text for name in ("systems", "train", "evaluate", "ask", "world", "demo"))
    for command in ("train", "evaluate", "ask", "demo"):
        assert "--help" in run(command, "--help").text


def test_training_prints_folder_and_accuracy(run, film):
    assert {"run.json", "checkpoints", "metrics.jsonl", "results.json"} <= {
        path.name for path in film.iterdir()
    }
    again = run("train", "film", "--preset", "tiny", "--steps", 4, "--out", film)
    assert "held-out accuracy" in again.text and str(film) in again.text
    assert read_run(film).settings["steps"] == 4


def test_training_for_some_seconds_in_the_default_folder(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = run("train", "film", "--preset", "tiny", "--seconds", 1, "--steps", 4000, "--seed", 5)
    assert "run again to resume" in shown.text
    assert (tmp_path / "runs" / "film-film-tiny-s5" / "run.json").is_file()


def test_evaluation_by_type(run, film, question):
    shown = run("evaluate", film, "--compare", question, "--control", "--json")
    table = json.loads(shown.output)
    assert table["columns"] == ["film", "film, shuffled questions", "question"]
    assert "Held out" in table["data"]
    network, config = load_network(film, SYSTEM)
    expected = SYSTEM.evaluate(SYSTEM.stepper(network, config), config)
    first = table["rows"][0]["scores"][0]
    assert first["value"] == expected.accuracy.value
    assert first["count"] == expected.accuracy.total
    assert first["low"] == pytest.approx(expected.accuracy.interval.low)
    names = {row["name"] for row in table["rows"] if row["level"]}
    types = BY_TYPE.keys() - {"count", *NUMBERS}
    assert {name for name in expected.by_type if name in types} <= names
    for row in table["rows"]:
        for score in filter(None, row["scores"]):
            assert 0 <= score["low"] <= score["value"] <= score["high"] <= 1
    shown = run("evaluate", film, "--limit", 3).text
    assert "all questions" in shown and "first 3 images" in shown


def test_a_group_is_the_sum_of_its_types(film):
    network, config = load_network(film, SYSTEM)
    found = answerer.evaluate(network, config).measured
    groups = answerer.groups(found)
    assert sum(part.total for part, _ in groups.values()) == found.accuracy.total
    assert sum(part.correct for part, _ in groups.values()) == found.accuracy.correct
    part, types = groups["query attribute"]
    assert part.total == sum(found.by_type[name].total for name in types)


@pytest.mark.parametrize(("limit", "batches"), [(1, [1]), (7, [7]), (None, [16]), (99, [16])])
def test_the_number_of_images_is_limited(film, limit, batches):
    config = load_network(film, SYSTEM)[1]
    found = list(held_out_batches(config.curriculum[-1].recipe, config.test_images, limit=limit))
    assert [len(batch.images) for batch in found] == batches
    for batch in found:
        assert sorted(set(batch.image_index.tolist())) == list(range(len(batch.images)))


def test_the_last_batch_is_smaller(film, monkeypatch):
    monkeypatch.setattr("featurewise.worlds.clevr.splits.EVAL_BATCH", 5)
    config = load_network(film, SYSTEM)[1]
    found = list(held_out_batches(config.curriculum[-1].recipe, config.test_images, limit=12))
    assert [len(batch.images) for batch in found] == [5, 5, 2]
    assert found[-1].image_index.tolist() == sorted(found[-1].image_index.tolist())
    assert len(found[-1].questions) == len(found[-1].answers) == len(found[-1].lengths)


def test_evaluation_on_a_folder(run, film, data):
    table = json.loads(run("evaluate", film, "--data", data, "--json").output)
    count = len(json.loads((data / "questions/CLEVR_val_questions.json").read_text())["questions"])
    assert table["rows"][0]["scores"][0]["count"] == count
    assert str(data) in table["data"] and "split val" in table["data"]


def test_ask(run, film, image, tmp_path):
    out = tmp_path / "seen.png"
    shown = run("ask", film, image, "How many cubes are there?", "--out", out, "--top", 3)
    assert shown.text.count("%") == 3 and str(out) in shown.text
    assert Image.open(out).size == Image.open(image).size
    facts = json.loads(run("ask", film, image, "Is it a ball?", "--json", "--top", 28).output)
    assert sum(each["probability"] for each in facts["answers"]) == pytest.approx(1, abs=1e-4)
    values = [each["probability"] for each in facts["answers"]]
    assert values == sorted(values, reverse=True) and len(values) == 28
    assert facts["attention"] is None
    assert not list(image.parent.glob("*attention*"))


def test_a_question_with_unknown_words_is_answered(run, film, image, tmp_path):
    question = "How many zeppelins and [cubes] are there?"
    shown = run("ask", film, image, question, "--out", tmp_path / "a.png")
    assert "unknown words, encoded as <unk>: 'zeppelins', '[cubes]'" in shown.text
    assert "%" in shown.text


def test_a_network_without_a_feature_map_has_no_attention(run, question, image):
    facts = json.loads(run("ask", question, image, "How many cubes?", "--json").output)
    assert facts["attention"] is None and len(facts["answers"]) == 5


def test_an_answer_is_complete_and_leaves_no_hooks(film, image):
    network, config = load_network(film, SYSTEM)
    pixels = answerer.image(config, image).pixels
    one = answerer.answer(network, pixels, "How many cubes are there?")
    assert one.places.sum().item() == pytest.approx(1) or one.places.sum() == 0
    assert one == one and len(one.ranked) == 28
    assert not network.answer._forward_pre_hooks


def test_parameters_of_questions(film, question):
    network, config = load_network(film, SYSTEM)
    table = answerer.parameters(network, ["How many cubes are there?", "Is it red?"])
    assert len(table.gamma) == 2 * config.blocks * config.channels
    assert answerer.parameters(load_network(question, SYSTEM)[0], ["Is it red?"]) is None


def test_an_exported_model_answers_like_its_run(run, film, image, tmp_path):
    export_model(film, tmp_path / "model", system=SYSTEM)
    words = (image, "How many cubes are there?", "--json", "--out", tmp_path / "a.png")
    assert run("ask", tmp_path / "model", *words).output == run("ask", film, *words).output


def test_the_name_of_a_system_selects_its_shipped_model(run, film, image, tmp_path, monkeypatch):
    model = export_model(film, tmp_path / "model", system=SYSTEM)
    monkeypatch.setattr(discovery, "shipped_model", lambda of: model)
    assert discovery.find("film").shipped
    words = (image, "How many cubes are there?", "--json", "--out", tmp_path / "a.png")
    assert run("ask", "film", *words).output == run("ask", film, *words).output


def test_rendering_resumes(run, data):
    size = ("--width", 48, "--height", 32, "--samples-per-pixel", 1, "--questions-per-image", 4)
    shown = run("world", "clevr", "--count", 2, "--split", "val", "--out", data, *size)
    assert "2 images with their questions" in shown.text
    assert json.loads((data / "manifest_val.json").read_text())["settings"]["count"] == 2


def test_completion(monkeypatch, film, tmp_path):
    context = typer.Context(typer.main.get_command(app))
    context.params = {"system": "film"}
    assert discovery.complete_system("fi") == ["film", "film_efficientnet"]
    assert ("tiny", SYSTEM.cost["tiny"]) in discovery.complete_preset(context, "t")
    assert [name for name, _ in discovery.complete_arm(context, "s")] == ["shuffled"]
    context.params = {"system": "flim"}
    assert discovery.complete_preset(context, "") == discovery.complete_arm(context, "") == []
    (tmp_path / "runs").mkdir()
    shutil.copytree(film, tmp_path / "runs" / "mine")
    monkeypatch.chdir(tmp_path)
    assert discovery.complete_run("ru") == ["runs/mine"]
    assert discovery.complete_run("runs/m") == ["runs/mine"]


def test_the_demonstration(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(demo, "_seconds_per_step", lambda record, config: 0.1)
    page = demo.show(tmp_path / "demo", "tiny", 20.0)
    shown = capsys.readouterr().out
    learning_rates = {}
    for arm in ("film", "question"):  # the same steps, and the whole schedule
        records = [
            json.loads(record)
            for record in (tmp_path / "demo" / arm / "metrics.jsonl").read_text().splitlines()
        ]
        learning_rates[arm] = [
            (each["step"], each["lr"]) for each in records if each["kind"] == "train"
        ]
    film, question = learning_rates["film"], learning_rates["question"]
    assert film == question and film[-1][0] == 30
    assert film[-1][1] < 0.5 * film[0][1]
    # A resumed demonstration keeps its number of steps.
    assert demo._steps(page.parent, SYSTEM, "tiny", 0.1) == 30
    assert page == tmp_path / "demo" / "report.html" and str(page) in shown.replace("\n", "")
    assert (
        "film is at least 15 points above question in accuracy." in shown and "one seed: " in shown
    )
    html = page.read_text(encoding="utf-8")
    for word in (
        "film is at least 15 points above question in accuracy.",
        "Image 1: a ",
        "blocks.0.norm",
    ):
        assert word in html
    assert html.count("data:image/png") == 2 + 8


def test_a_finished_demonstration_is_kept(tmp_path):
    from featurewise.cli.demo import _unfinished

    out = tmp_path / "demo"
    assert _unfinished(out) == out
    out.mkdir()
    (out / "report.html").touch()
    assert _unfinished(out) == tmp_path / "demo-2"


def test_an_error_of_the_program():
    shown = subprocess.run(
        [sys.executable, "-m", "featurewise.cli", "train", "flim"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 2 and not shown.stdout
    assert shown.stderr == "error: no system is called 'flim'; did you mean film?\n"
