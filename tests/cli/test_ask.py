"""``ask``: the answer is always printed, and no file of the user is overwritten."""

import json
import shutil
from importlib import import_module

import pytest
from PIL import Image

QUESTION = "How many cubes are there?"


@pytest.fixture
def copy(image, tmp_path):
    """Copy of an image, in a folder of the test."""
    return shutil.copy(image, tmp_path / "x.png")


def test_the_image_of_the_question_is_never_overwritten(fails, film, copy, tmp_path):
    before = copy.read_bytes()
    link = tmp_path / "link.png"
    link.symlink_to(copy)
    for out in (copy, link, tmp_path / "." / "x.png"):
        assert "is the image of the question" in fails("ask", film, copy, QUESTION, "--out", out)
        assert "is the image of the question" in fails("ask", film, link, QUESTION, "--out", out)
    assert copy.read_bytes() == before


def test_only_files_of_the_command_are_overwritten(run, fails, film, copy, tmp_path):
    other = tmp_path / "mine.png"
    Image.new("RGB", (3, 2), "red").save(other)
    note = tmp_path / "note.png"
    note.write_text("mine")
    for path in (other, note):
        before = path.read_bytes()
        line = fails("ask", film, copy, QUESTION, "--out", path)
        assert f"{path}: exists and was not made by this command" in line
        assert path.read_bytes() == before
    for _ in range(2):
        run("ask", film, copy, QUESTION, "--out", tmp_path / "seen.png")
    assert "ends in .png" in fails("ask", film, copy, QUESTION, "--out", tmp_path / "seen.jpg")


def test_two_images_of_one_stem_have_two_overlays(run, film, copy, tmp_path):
    Image.open(copy).convert("RGB").save(tmp_path / "x.jpg")
    (tmp_path / "out").mkdir()
    for name in ("x.png", "x.jpg"):
        run("ask", film, tmp_path / name, QUESTION, "--out", tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["x.jpg.attention.png", "x.png.attention.png"]


def test_the_answer_is_printed_when_the_heat_map_cannot_be_written(run, film, copy, tmp_path):
    out = tmp_path / "missing" / "seen.png"
    shown = run("ask", film, copy, QUESTION, "--out", out, code=2)
    assert shown.output.count("%") == 5 and f"error: {out}: " in shown.error
    facts = run("ask", film, copy, QUESTION, "--out", out, "--json", code=2)
    assert json.loads(facts.output)["attention"] is None
    assert run("ask", film, copy, QUESTION).output.count("%") == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.png"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("what colour is the grey cylinder?", "What color is the gray cylinder?"),
        ("WHAT COLOUR IS THE GREY CYLINDER", "What color is the gray cylinder?"),
        ("What’s the shape of the ‘big’ thing…", "What is the shape of the big thing?"),
        ("“What color is it?”", "What color is it?"),
        ("How many colors\u00a0are there?!", "How many color are there?"),
    ],
)
def test_other_spellings_give_the_same_answers(run, film, copy, one, other):
    found = [json.loads(run("ask", film, copy, text, "--json").output) for text in (one, other)]
    assert found[0]["answers"] == found[1]["answers"]
    assert found[0]["unknown_words"] == []


def test_near_words_are_suggested(run, film, copy):
    question = "what colr is the metl cilinder on zirconium?"
    shown = run("ask", film, copy, question).text
    for hint in ("'colr': did you mean 'color'", "'metl': did you mean 'metal'", "'cylinder'"):
        assert hint in shown
    assert "'zirconium': did" not in shown
    facts = json.loads(run("ask", film, copy, question, "--json").output)
    assert facts["unknown_words"] == ["colr", "metl", "cilinder", "zirconium"]
    assert facts["near_words"]["colr"] == ["color"]


def test_a_question_of_unknown_words_is_refused(fails, film, copy):
    for question in ("Wie viele Kugeln?", "colr; metl,"):
        assert "no word of the question is known" in fails("ask", film, copy, question)


def test_a_network_without_a_feature_map_writes_no_heat_map(run, question, copy, tmp_path):
    out = tmp_path / "seen.png"
    shown = run("ask", question, copy, QUESTION, "--out", out)
    assert (
        f"{out} is not written: this network has no max-pooled feature map" in shown.text
        and not out.exists()
    )
    facts = json.loads(run("ask", question, copy, QUESTION, "--out", out, "--json").output)
    assert facts["attention"] is None and len(facts["notes"]) == 1


def test_another_aspect_ratio_is_noted(run, film, copy, tmp_path):
    square = tmp_path / "square.png"
    Image.new("RGB", (300, 300), "gray").save(square)
    note = "300 x 300, not of the shape 30 x 20: only its middle 300 x 200 pixels are used"
    assert note in run("ask", film, square, QUESTION).text
    assert json.loads(run("ask", film, square, QUESTION, "--json").output)["notes"]
    assert json.loads(run("ask", film, copy, QUESTION, "--json").output)["notes"] == []


def test_an_image_of_another_format_is_refused_by_name(fails, film, tmp_path):
    gif = tmp_path / "a.png"
    Image.new("RGB", (3, 2)).save(gif, format="GIF")
    line = fails("ask", film, gif, QUESTION)
    assert f"{gif}: " in line and "holds a GIF image" in line and "object at" not in line
    (tmp_path / "dir.png").mkdir()
    assert "dir.png: is a folder" in fails("ask", film, tmp_path / "dir.png", QUESTION)


def test_without_a_question_lines_are_read_and_each_is_answered(run, film, copy):
    lines = f"{QUESTION}\n\nxyzzy?\nWhat color is the large sphere?\n"
    shown = run("ask", film, copy, "--top", 2, stdin=lines)
    assert shown.output.count("%") == 4  # two answers to each of two questions
    assert "no word of the question is known" in shown.error
    facts = run("ask", film, copy, "--json", "--top", 1, stdin=lines).output
    decoder, found, rest = json.JSONDecoder(), [], facts.strip()
    while rest:
        value, end = decoder.raw_decode(rest)
        found.append(value["question"])
        rest = rest[end:].strip()
    assert found == [QUESTION, "What color is the large sphere?"]
    assert run("ask", film, copy, stdin="").output == ""


def test_an_empty_line_ends_the_prompt(run, film, copy, monkeypatch):
    lines = iter([QUESTION, "", QUESTION])
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines))
    # The package's attribute of that name is the command.
    monkeypatch.setattr(import_module("featurewise.cli.ask"), "_is_typed", lambda: True)
    assert run("ask", film, copy, "--top", 1).output.count("%") == 1
