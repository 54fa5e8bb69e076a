"""What a user can get wrong is one clear line and exit code 2."""

import json
import shutil

import pytest

from featurewise.cli import app
from featurewise.cli.errors import UserError
from featurewise.common.seal import sealed

QUESTION = "How many cubes are there?"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "flim"), "no system is called 'flim'; did you mean film?"),
        (("train", "zzz"), "no system is called 'zzz'; there is attention, bilinear"),
        (("train", "film", "--preset", "smal"), "no preset of film is called 'smal'; did you mean"),
        (
            ("train", "film", "--arm", "atention"),
            "no arm of film is called 'atention'; did you mean attention",
        ),
        (("evaluate", "flim"), "flim: no such run folder, and no system of that name; did you"),
        (("ask", "nowhere", "a.png", QUESTION), "nowhere: no such run folder"),
    ],
)
def test_wrong_names(fails, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    assert message in fails(*words)
    assert not list(tmp_path.iterdir())


def test_a_system_without_a_model(fails, monkeypatch, tmp_path):
    monkeypatch.setattr("featurewise.cli.discovery.shipped_model", lambda of: tmp_path)
    assert "film ships no trained model; train one with" in fails("evaluate", "film")


def test_what_is_no_run(fails, tmp_path, film):
    assert "is neither a run (run.json) nor a model" in fails("evaluate", tmp_path)
    folder = tmp_path / "run"
    shutil.copytree(film, folder)
    facts = json.loads((folder / "run.json").read_text())
    del facts["seal"]
    (folder / "run.json").write_bytes(sealed({**facts, "system": "old"}))
    assert "is of system 'old', which this version does not have" in fails("evaluate", folder)
    (folder / "run.json").write_text("{")
    assert "run.json: is damaged" in fails("evaluate", folder)
    shutil.copy(film / "run.json", folder)
    shutil.rmtree(folder / "checkpoints")
    assert "holds no checkpoint yet" in fails("evaluate", folder)


def test_a_damaged_model(fails, film, picture, tmp_path):
    from featurewise.study.model import export_model
    from featurewise.systems.reasoning.film import SYSTEM

    model = export_model(film, tmp_path / "model", system=SYSTEM)
    content = bytearray((model / "weights.safetensors").read_bytes())
    content[len(content) // 2] ^= 4
    (model / "weights.safetensors").write_bytes(content)
    assert "weights.safetensors: is damaged" in fails("ask", model, picture, QUESTION)


def test_pictures_that_are_none(fails, film, tmp_path):
    text = tmp_path / "words.png"
    text.write_text("not a picture")
    assert "words.png: not a readable image" in fails("ask", film, text, QUESTION)
    empty = tmp_path / "empty.jpg"
    empty.touch()
    assert "empty.jpg: the file is empty" in fails("ask", film, empty, QUESTION)
    assert "no such file" in fails("ask", film, tmp_path / "missing.png", QUESTION)
    assert "suffix '.txt' is none of" in fails("ask", film, tmp_path / "a.txt", QUESTION)


@pytest.mark.parametrize("question", ["", "   ", "?", " ?! "])
def test_questions_without_words(fails, film, picture, question):
    assert "the question" in fails("ask", film, picture, question)


def test_folders_that_cannot_be_written(fails, film, picture, tmp_path):
    (tmp_path / "file").touch()
    inside = tmp_path / "file" / "inside"
    assert str(inside) in fails("train", "film", "--preset", "tiny", "--out", inside)
    assert str(inside) in fails("ask", film, picture, QUESTION, "--out", inside)
    assert "inside" in fails("world", "clevr", "--count", 1, "--out", inside)
    assert "inside" in fails("demo", "--out", inside)


@pytest.mark.parametrize("where", ["file", "file/inside"])
def test_a_cache_that_cannot_be_written(fails, tmp_path, monkeypatch, where):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path / where))
    error = fails("train", "film", "--preset", "tiny", "--out", tmp_path / "run")
    assert f"The cache is in {tmp_path / where}; set FEATUREWISE_CACHE to a folder" in error


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_devices_that_there_are_not(fails, tmp_path, monkeypatch, device):
    monkeypatch.setenv("FEATUREWISE_DEVICE", "auto")
    for words in (("train", "film"), ("run", "film"), ("demo",)):
        assert device in fails(*words, "--device", device, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_with_another_run(fails, film):
    words = ("train", "film", "--preset", "tiny", "--out", film)
    assert "holds a run with steps 4, not 30; choose another folder" in fails(*words)
    assert "seed 0, not 1" in fails(*words, "--steps", 4, "--seed", 1)
    assert "contains a run already" in fails(*words, "--steps", 4, "--no-resume")


def test_data_that_is_none(fails, film, data, tmp_path):
    assert "not found" in fails("evaluate", film, "--data", tmp_path)
    assert "not found" in fails("evaluate", film, "--data", data, "--split", "train")


def test_a_data_set_with_other_settings(fails, data):
    words = ("world", "clevr", "--count", 3, "--out", data, "--split", "val")
    assert "begun with other settings" in fails(*words)
    assert "'a b' is not a valid name of a split" in fails(
        "world", "clevr", "--count", 1, "--out", data, "--split", "a b"
    )


@pytest.mark.parametrize(
    "words",
    [
        ("train",),
        ("train", "film", "--steps", "0"),
        ("train", "film", "--steps", "many"),
        ("ask", "film"),
        ("world", "clevr", "--count", "1"),
        ("world", "clevr", "--count", "1", "--out", "x", "--cogent", "C"),
        ("nothing",),
    ],
)
def test_wrong_lines_show_the_usage(run, words):
    assert "Usage:" in run(*words, code=2).text


def test_errors_of_every_room_are_one_line(fails, monkeypatch):
    from featurewise.core.errors import ArgumentTypeError
    from featurewise.worlds.glyphs.formats import FormatError

    for error in (FormatError("a.png: is no picture"), ArgumentTypeError("not a tensor")):
        monkeypatch.setattr("featurewise.cli.discovery.names", lambda error=error: throw(error))
        assert fails("systems") == f"error: {error}"


def throw(error):
    raise error


def test_mistakes_of_ours_are_not_hidden(run, monkeypatch):
    def broken():
        raise ValueError("a bug")

    monkeypatch.setattr("featurewise.cli.discovery.names", broken)
    with pytest.raises(ValueError, match="a bug") as caught:
        run("systems")
    assert not isinstance(caught.value, UserError)
    assert app.pretty_exceptions_show_locals is False


def test_no_file_name_steers_the_terminal(run, fails, tmp_path):
    """Neither one that we name, nor one that the reader of the command line names."""
    odd = tmp_path / "\x1b[2J\u202e"
    odd.mkdir()
    (odd / "run.json").write_text("{")
    for words in (("evaluate", odd), ("cards", "--add", odd)):
        shown = fails(*words)
        assert "\x1b" not in shown and "\u202e" not in shown
    for words in (("train", "film", f"--\x1b[2J={odd}"), ("evaluate", "film", odd), (odd,)):
        assert "\x1b" not in run(*words, code=2).error
    assert "\\x1b[2J\\u202e" in fails("evaluate", odd)
