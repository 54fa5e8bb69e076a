"""``evaluate`` on data sets without answers, with symbolic links, and with other questions."""

import json
import shutil

import pytest
from PIL import Image

from featurewise.worlds.clevr import ANSWERS


@pytest.fixture
def folder(data, tmp_path):
    """A copy of the data set of two images, to change."""
    return shutil.copytree(data, tmp_path / "data")


@pytest.fixture
def questions(folder):
    return folder / "questions" / "CLEVR_val_questions.json"


def change(path, edit):
    content = json.loads(path.read_text())
    content["questions"] = [edit(dict(entry)) for entry in content["questions"]]
    path.write_text(json.dumps(content))
    return content["questions"]


def only(*names):
    return lambda entry: {name: entry[name] for name in names if name in entry}


def overall(shown):
    return json.loads(shown.output)["rows"][0]["scores"][0]


def test_predictions_need_no_answers(run, fails, film, folder, questions, tmp_path):
    out = tmp_path / "answers.json"
    run("evaluate", film, "--data", folder, "--predictions", out)
    expected = json.loads(out.read_text())
    entries = change(questions, only("image_filename", "question", "question_index"))
    assert [each["question_index"] for each in expected] == list(range(len(entries)))
    assert all(list(each) == ["question_index", "answer"] for each in expected)
    assert all(each["answer"] in ANSWERS for each in expected)
    (folder / "images" / "val").rename(folder / "images" / "test")
    questions.rename(questions.with_name("CLEVR_test_questions.json"))
    words = ("evaluate", film, "--data", folder, "--split", "test")
    again = tmp_path / "test.json"
    shown = run(*words, "--predictions", again)
    assert (
        f"{len(entries)} answers are in {again}" in shown.text and "all questions" not in shown.text
    )
    assert json.loads(again.read_text()) == expected


def test_missing_answers_are_reported_before_images_are_read(
    fails, film, folder, questions, monkeypatch
):
    change(questions, only("image_filename", "question"))
    monkeypatch.setattr("featurewise.worlds.clevr.disk.load_image", None)
    line = fails("evaluate", film, "--data", folder)
    assert f"{questions}: has no answers" in line and "--predictions" in line


def test_predictions_overwrite_nothing(fails, film, folder, questions, tmp_path):
    words = ("evaluate", film, "--data", folder, "--predictions")
    before = questions.read_bytes()
    assert "exists; give the name of a new file" in fails(*words, questions)
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    assert "exists; give the name of a new file" in fails(*words, tmp_path / "dangling")
    assert "there is no folder" in fails(*words, tmp_path / "missing" / "a.json")
    assert "need --data" in fails("evaluate", film, "--predictions", tmp_path / "a.json")
    assert questions.read_bytes() == before


def test_predictions_keep_the_order_and_the_numbers_of_the_file(
    run, fails, film, folder, questions
):
    content = json.loads(questions.read_text())
    for number, entry in enumerate(content["questions"]):
        entry["question_index"] = 100 - number
    content["questions"] = content["questions"][::-1]
    questions.write_text(json.dumps(content))
    out = folder / "answers.json"
    run("evaluate", film, "--data", folder, "--predictions", out)
    numbers = [each["question_index"] for each in json.loads(out.read_text())]
    assert numbers == sorted(entry["question_index"] for entry in content["questions"])
    change(questions, lambda entry: {**entry, "question_index": 7})
    words = ("evaluate", film, "--data", folder)
    assert "question_index 7" in fails(*words, "--predictions", folder / "b.json")
    run(*words)


def test_unknown_words_of_other_questions_are_counted(run, film, folder, questions, tmp_path):
    humans = tmp_path / "CLEVR-Humans-val.json"
    entries = [
        {"image_filename": "CLEVR_val_000001.png", "question": "Is the orb grey?", "answer": "yes"},
        {"image_filename": "CLEVR_val_000000.png", "question": "What’s the colour of it?",
         "answer": "blue"},
    ]  # fmt: skip
    humans.write_text(json.dumps({"questions": entries}))
    words = ("evaluate", film, "--data", folder, "--questions", humans)
    facts = json.loads(run(*words, "--json").output)
    assert facts["unknown_words"] == {
        "words": 1, "of_words": 10, "questions": 1, "of_questions": 2
    }  # fmt: skip
    assert facts["rows"][0]["scores"][0]["count"] == 2 and str(humans) in facts["data"]
    assert "10.0% of the words are unknown to the network, in 50.0%" in run(*words).text


def test_a_limit_reads_no_other_image(run, film, folder, questions):
    words = ("evaluate", film, "--data", folder, "--json")
    whole = overall(run(*words))
    (folder / "images" / "val" / "CLEVR_val_000001.png").unlink()
    some = overall(run(*words, "--limit", 1))
    first = [
        entry for entry in json.loads(questions.read_text())["questions"]
        if entry["image_index"] == 0
    ]  # fmt: skip
    assert some["count"] == len(first) < whole["count"]
    assert "no such image" in run(*words, code=2).error


def test_a_limit_renders_no_other_image(run, film, monkeypatch):
    from featurewise.worlds.clevr import splits

    counts = []
    made = splits.cached_pool
    monkeypatch.setattr(
        splits, "cached_pool", lambda recipe, images: counts.append(images) or made(recipe, images)
    )
    some = overall(run("evaluate", film, "--limit", 2, "--json"))
    whole = overall(run("evaluate", film, "--json"))
    assert counts[0] == 2 and some["count"] < whole["count"]
    assert overall(run("evaluate", film, "--limit", 10**6, "--json")) == whole


TOLERATED = {
    "no program": lambda entry: {**entry, "program": None},
    "a program of another language": lambda entry: {**entry, "program": [{"function": "dance"}]},
    "a program of another type": lambda entry: {**entry, "program": "count"},
    "a family above 89": lambda entry: {**entry, "question_family_index": 1234},
    "another template": lambda entry: {**entry, "template_filename": "four_hop.json"},
    "required entries only": only("image_filename", "question", "answer"),
    "nulls": lambda entry: {**entry, "question_index": None, "question_family_index": None},
    "further entries": lambda entry: {**entry, "comment": {"deep": [1, 2]}},
}


@pytest.mark.parametrize("name", TOLERATED)
def test_unused_entries_may_be_missing_or_wrong(run, film, folder, questions, name):
    words = ("evaluate", film, "--data", folder, "--json")
    expected = overall(run(*words))
    change(questions, TOLERATED[name])
    assert overall(run(*words)) == expected


def test_a_byte_order_mark_does_not_matter(run, film, folder, questions):
    words = ("evaluate", film, "--data", folder, "--json")
    expected = overall(run(*words))
    questions.write_bytes(b"\xef\xbb\xbf" + questions.read_bytes())
    assert overall(run(*words)) == expected


def test_images_may_be_links(run, film, folder, tmp_path):
    words = ("evaluate", film, "--data", folder, "--json")
    expected = overall(run(*words))
    store = tmp_path / "store"
    store.mkdir()
    for path in sorted((folder / "images" / "val").iterdir()):
        path.rename(store / path.name)
        path.symlink_to(store / path.name)
    assert overall(run(*words)) == expected
    (store / "CLEVR_val_000000.png").unlink()
    assert "link to a file that does not exist" in run(*words, code=2).error


@pytest.mark.parametrize("name", ["../x.png", "/etc/x.png", "val/../../x.png", "..", ".x.png"])
def test_file_names_with_folders_are_refused(fails, film, folder, questions, name):
    change(questions, lambda entry: {**entry, "image_filename": name})
    assert "not a plain file name" in fails("evaluate", film, "--data", folder)


def test_another_aspect_ratio_is_noted(run, film, folder):
    for path in (folder / "images" / "val").iterdir():
        Image.open(path).resize((48, 48)).save(path)
    shown = run("evaluate", film, "--data", folder)
    assert "CLEVR_val_000000.png: the image is 48 x 48" in shown.text
    assert json.loads(run("evaluate", film, "--data", folder, "--json").output)["notes"]


def test_twins_on_the_built_in_world_and_on_a_data_set(run, fails, film, data, folder):
    facts = json.loads(run("evaluate", film, "--twins", "--limit", 20, "--json").output)
    names = [row["name"] for row in facts["rows"]]
    assert facts["title"] == "Twin test" and facts["columns"] == ["film"]
    for name in ("left", "right", "front", "behind", "pair left right", "changed front behind"):
        assert name in names
    pairs = {row["name"]: row["scores"][0]["count"] for row in facts["rows"]}
    assert sum(pairs.values()) > 0
    shown = run("evaluate", film, "--twins", "--data", data)
    assert "Twin test" in shown.text and str(data) in shown.text.replace(" ", "")
    assert "generates its own questions" in fails("evaluate", film, "--twins", "--control")
    shutil.rmtree(folder / "scenes")
    assert "the twin test needs it" in fails("evaluate", film, "--twins", "--data", folder)
