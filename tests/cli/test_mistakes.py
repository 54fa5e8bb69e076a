"""Mistakes of the user are reported in one clear line with exit code 2."""

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
        (("train", "zzz"), "no system is called 'zzz'; there is ablations, "),
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
    assert "film has no shipped model; train one with" in fails("evaluate", "film")


def test_folders_that_hold_no_run(fails, tmp_path, film):
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


def test_a_damaged_model(fails, film, image, tmp_path):
    from featurewise.study.model import export_model
    from featurewise.systems.reasoning.film import SYSTEM

    model = export_model(film, tmp_path / "model", system=SYSTEM)
    content = bytearray((model / "weights.safetensors").read_bytes())
    content[len(content) // 2] ^= 4
    (model / "weights.safetensors").write_bytes(content)
    assert "weights.safetensors: is damaged" in fails("ask", model, image, QUESTION)


def test_files_that_are_no_images(fails, film, tmp_path):
    text = tmp_path / "words.png"
    text.write_text("not an image")
    assert "words.png: not a readable" in fails("ask", film, text, QUESTION)
    empty = tmp_path / "empty.jpg"
    empty.touch()
    assert "empty.jpg: the file is empty" in fails("ask", film, empty, QUESTION)
    assert "no such file" in fails("ask", film, tmp_path / "missing.png", QUESTION)
    assert "suffix '.txt' is none of" in fails("ask", film, tmp_path / "a.txt", QUESTION)


@pytest.mark.parametrize("question", ["", "   ", "?", " ?! "])
def test_questions_without_words(fails, film, image, question):
    assert "the question" in fails("ask", film, image, question)


def test_folders_that_cannot_be_written(fails, film, image, tmp_path):
    (tmp_path / "file").touch()
    inside = tmp_path / "file" / "inside"
    assert str(inside) in fails("train", "film", "--preset", "tiny", "--out", inside)
    assert str(inside) in fails("ask", film, image, QUESTION, "--out", inside)
    assert "inside" in fails("world", "clevr", "--count", 1, "--out", inside)
    assert "inside" in fails("demo", "--out", inside)


@pytest.mark.parametrize("where", ["file", "file/inside"])
def test_a_cache_that_cannot_be_written(fails, tmp_path, monkeypatch, where):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path / where))
    error = fails("train", "film", "--preset", "tiny", "--out", tmp_path / "run")
    assert f"The cache is in {tmp_path / where}; set FEATUREWISE_CACHE to a folder" in error


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_missing_devices(fails, tmp_path, monkeypatch, device):
    monkeypatch.setenv("FEATUREWISE_DEVICE", "auto")
    for words in (("train", "film"), ("run", "film"), ("demo",)):
        assert device in fails(*words, "--device", device, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_with_another_run(fails, film):
    words = ("train", "film", "--preset", "tiny", "--out", film)
    assert "holds a run with steps 4, not 30; choose another folder" in fails(*words)
    assert "seed 0, not 1" in fails(*words, "--steps", 4, "--seed", 1)
    assert "contains a run already" in fails(*words, "--steps", 4, "--no-resume")


def test_missing_data(fails, film, data, tmp_path):
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
        ("ask",),
        ("ask", "film"),
        ("ask", "film", "--example"),
        ("world", "clevr", "--count", "1"),
        ("world", "clevr", "--count", "1", "--out", "x", "--cogent", "C"),
        ("nothing",),
    ],
)
def test_wrong_arguments_show_the_usage(run, words):
    assert "Usage:" in run(*words, code=2).text


def test_errors_of_every_room_are_one_line(fails, monkeypatch):
    from featurewise.core.errors import ArgumentTypeError
    from featurewise.worlds.glyphs.formats import FormatError

    for error in (FormatError("a.png: is not an image"), ArgumentTypeError("not a tensor")):
        monkeypatch.setattr("featurewise.cli.discovery.names", lambda error=error: throw(error))
        assert fails("systems") == f"error: {error}"


def throw(error):
    raise error


def test_bugs_keep_their_traceback(run, monkeypatch):
    def broken():
        raise ValueError("a bug")

    monkeypatch.setattr("featurewise.cli.discovery.names", broken)
    with pytest.raises(ValueError, match="a bug") as caught:
        run("systems")
    assert not isinstance(caught.value, UserError)
    assert app.pretty_exceptions_show_locals is False


def test_control_characters_in_file_names_are_escaped(run, fails, tmp_path):
    """In messages of the library and in those of the parser of the command line."""
    odd = tmp_path / "\x1b[2J\u202e"
    odd.mkdir()
    (odd / "run.json").write_text("{")
    for words in (("evaluate", odd), ("cards", "--add", odd)):
        shown = fails(*words)
        assert "\x1b" not in shown and "\u202e" not in shown
    for words in (("train", "film", f"--\x1b[2J={odd}"), ("evaluate", "film", odd), (odd,)):
        assert "\x1b" not in run(*words, code=2).error
    assert "\\x1b[2J\\u202e" in fails("evaluate", odd)
