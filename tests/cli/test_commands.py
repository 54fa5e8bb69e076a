"""Every command as a user gives it, on a tiny network."""

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
from featurewise.systems.reasoning.film import SYSTEM, answering
from featurewise.worlds.clevr import QUESTION_TYPES

demo = importlib.import_module("featurewise.cli.demo")  # the package's `demo` is the function


def test_systems_are_listed(run):
    text = run("systems").text
    assert set(discovery.names()) <= set(text.split())
    assert "FiLM: visual reasoning" in text
    assert "arxiv.org" not in text


def test_all_of_a_system_is_told(run):
    text = run("systems", "film").text
    for word in ("Perez", "tiny", "small", "paper", "question", "shuffled", "arxiv.org"):
        assert word in text
    assert "film is at least 15 points above question." in text
    assert "CAVIA" not in text
    assert "did you mean film" in run("systems", "flim", code=2).error


def test_help_names_every_command(run):
    text = run("--help").text
    assert all(name in text for name in ("systems", "train", "evaluate", "ask", "world", "demo"))
    for command in ("train", "evaluate", "ask", "demo"):
        assert "--help" in run(command, "--help").text


def test_training_tells_where_it_is_and_how_good(run, film):
    assert {"run.json", "checkpoints", "metrics.jsonl", "results.json"} <= {
        path.name for path in film.iterdir()
    }
    again = run("train", "film", "--preset", "tiny", "--steps", 4, "--out", film)
    assert "held-out accuracy" in again.text and str(film) in again.text
    assert read_run(film).settings["steps"] == 4


def test_training_in_the_usual_folder_for_a_while(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = run("train", "film", "--preset", "tiny", "--seconds", 1, "--steps", 4000, "--seed", 5)
    assert "with more --seconds it goes on" in shown.text
    assert (tmp_path / "runs" / "film-film-tiny-s5" / "run.json").is_file()


def test_evaluation_by_type(run, film, question):
    shown = run("evaluate", film, "--beside", question, "--control", "--json")
    table = json.loads(shown.output)
    assert table["columns"] == ["film", "film, other questions", "question"]
    assert "Held out" in table["data"]
    network, settings = load_network(film, SYSTEM)
    stepper = SYSTEM.stepper(network, settings, SYSTEM.arms[0])
    expected = SYSTEM.evaluate(stepper, settings, SYSTEM.arms[0])
    first = table["rows"][0]["scores"][0]
    assert first["value"] == expected.accuracy.value
    assert first["count"] == expected.accuracy.total
    assert first["low"] == pytest.approx(expected.accuracy.interval.low)
    names = [row["name"].replace(" ", "_") for row in table["rows"] if row["level"]]
    assert {kind for kind in expected.by_type if kind in QUESTION_TYPES} <= {*names}
    for row in table["rows"]:
        for score in filter(None, row["scores"]):
            assert 0 <= score["low"] <= score["value"] <= score["high"] <= 1
    drawn = run("evaluate", film, "--limit", 3).text
    assert "all questions" in drawn and "first 3 images" in drawn


def test_groups_sum_their_types(film):
    network, settings = load_network(film, SYSTEM)
    found = answering.measured(network, settings, answering.held_out(settings))
    groups = answering.groups(found)
    assert sum(part.total for part, _ in groups.values()) == found.accuracy.total
    assert sum(part.correct for part, _ in groups.values()) == found.accuracy.correct
    part, types = groups["query attribute"]
    assert part.total == sum(found.by_type[name].total for name in types)


@pytest.mark.parametrize(("pictures", "batches"), [(1, [1]), (7, [7]), (None, [16]), (99, [16])])
def test_so_many_pictures(film, pictures, batches):
    settings = load_network(film, SYSTEM)[1]
    found = list(answering.held_out(settings, pictures))
    assert [len(batch.images) for batch in found] == batches
    for batch in found:
        assert sorted(set(batch.image_index.tolist())) == list(range(len(batch.images)))


def test_the_last_batch_is_cut(film, monkeypatch):
    monkeypatch.setattr("featurewise.systems.reasoning.film.study.AT_ONCE", 5)
    settings = load_network(film, SYSTEM)[1]
    found = list(answering.held_out(settings, 12))
    assert [len(batch.images) for batch in found] == [5, 5, 2]
    assert found[-1].image_index.tolist() == sorted(found[-1].image_index.tolist())
    assert len(found[-1].questions) == len(found[-1].answers) == len(found[-1].lengths)


def test_evaluation_on_a_folder(run, film, data):
    table = json.loads(run("evaluate", film, "--data", data, "--json").output)
    asked = len(json.loads((data / "questions/CLEVR_val_questions.json").read_text())["questions"])
    assert table["rows"][0]["scores"][0]["count"] == asked
    assert str(data) in table["data"] and "split val" in table["data"]


def test_asking(run, film, picture, tmp_path):
    out = tmp_path / "seen.png"
    shown = run("ask", film, picture, "How many cubes are there?", "--out", out, "--top", 3)
    assert shown.text.count("%") == 3 and str(out) in shown.text
    assert Image.open(out).size == Image.open(picture).size
    facts = json.loads(run("ask", film, picture, "Is it a ball?", "--json", "--top", 28).output)
    assert sum(each["probability"] for each in facts["answers"]) == pytest.approx(1, abs=1e-4)
    values = [each["probability"] for each in facts["answers"]]
    assert values == sorted(values, reverse=True) and len(values) == 28
    assert facts["attention"] is None
    assert not list(picture.parent.glob("*attention*"))


def test_unknown_words_are_named_and_the_question_answered(run, film, picture, tmp_path):
    question = "How many zeppelins and [cubes] are there?"
    shown = run("ask", film, picture, question, "--out", tmp_path / "a.png")
    assert "unknown words, read as blanks: 'zeppelins', '[cubes]'" in shown.text
    assert "%" in shown.text


def test_a_network_without_a_pooled_map_has_no_picture(run, question, picture):
    facts = json.loads(run("ask", question, picture, "How many cubes?", "--json").output)
    assert facts["attention"] is None and len(facts["answers"]) == 5


def test_an_answer_repeats_the_networks_own(film, picture):
    network, settings = load_network(film, SYSTEM)
    image = answering.picture(settings, picture)
    one = answering.answer(network, image, "How many cubes are there?")
    assert one.places.sum().item() == pytest.approx(1) or one.places.sum() == 0
    assert one == one and len(one.ranked) == 28
    assert not network.answer._forward_pre_hooks


def test_parameters_of_questions(film, question):
    network, settings = load_network(film, SYSTEM)
    table = answering.parameters(network, ["How many cubes are there?", "Is it red?"])
    assert len(table.gamma) == 2 * settings.blocks * settings.channels
    assert answering.parameters(load_network(question, SYSTEM)[0], ["Is it red?"]) is None


def test_a_published_model_stands_where_a_run_stands(run, film, picture, tmp_path):
    export_model(film, tmp_path / "model", system=SYSTEM)
    words = (picture, "How many cubes are there?", "--json", "--out", tmp_path / "a.png")
    assert run("ask", tmp_path / "model", *words).output == run("ask", film, *words).output


def test_a_systems_name_is_its_shipped_model(run, film, picture, tmp_path, monkeypatch):
    model = export_model(film, tmp_path / "model", system=SYSTEM)
    monkeypatch.setattr(discovery, "shipped_model", lambda of: model)
    assert discovery.find("film").shipped
    words = (picture, "How many cubes are there?", "--json", "--out", tmp_path / "a.png")
    assert run("ask", "film", *words).output == run("ask", film, *words).output
    assert "ships a trained model" in run("systems", "film").text


def test_drawing_goes_on_and_repeats(run, data):
    size = ("--width", 48, "--height", 32, "--samples", 1, "--questions", 4, "--split", "val")
    shown = run("world", "clevr", "--count", 2, "--out", data, *size)
    assert "2 images with their questions" in shown.text
    assert json.loads((data / "manifest_val.json").read_text())["settings"]["count"] == 2


def test_completion(monkeypatch, film, tmp_path):
    context = typer.Context(typer.main.get_command(app))
    context.params = {"system": "film"}
    assert discovery.complete_system("fi") == ["film"]
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
    monkeypatch.setattr(demo, "_pace", lambda record, settings, arm: 0.1)
    page = demo.show(tmp_path / "demo", "tiny", 20.0)
    shown = capsys.readouterr().out
    rates = {}
    for arm in ("film", "question"):  # the same steps, and the same schedule to its end
        records = [
            json.loads(record)
            for record in (tmp_path / "demo" / arm / "metrics.jsonl").read_text().splitlines()
        ]
        rates[arm] = [(each["step"], each["lr"]) for each in records if each["kind"] == "train"]
    assert rates["film"] == rates["question"] and rates["film"][-1][0] == 30
    assert rates["film"][-1][1] < 0.5 * rates["film"][0][1]
    # Resumed, as many as were begun with, however much time there is.
    assert demo._steps(page.parent, SYSTEM, "tiny", 0.1) == 30
    assert page == tmp_path / "demo" / "report.html" and str(page) in shown.replace("\n", "")
    assert "one seed: film is at least 15 points above question." in shown
    html = page.read_text(encoding="utf-8")
    for word in ("film is at least 15 points above question.", "Picture 1: a ", "blocks.0.norm"):
        assert word in html
    assert html.count("data:image/png") == 2 + 8


def test_a_finished_demonstration_is_kept(tmp_path):
    from featurewise.cli.demo import _unfinished

    out = tmp_path / "demo"
    assert _unfinished(out) == out
    out.mkdir()
    (out / "report.html").touch()
    assert _unfinished(out) == tmp_path / "demo-2"


def test_as_a_program():
    shown = subprocess.run(
        [sys.executable, "-m", "featurewise.cli", "train", "flim"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 2 and not shown.stdout
    assert shown.stderr == "error: no system is called 'flim'; did you mean film?\n"
