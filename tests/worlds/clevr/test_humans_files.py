"""Files of CLEVR-Humans: their words, and what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from featurewise.worlds.clevr import (
    VOCABULARY,
    ClevrFolder,
    DiskSource,
    FormatError,
    read_questions,
    unknown_words,
)
from featurewise.worlds.clevr.disk import read_queries
from featurewise.worlds.clevr.words import encode_with, frequent_unknown_words

SMALL = Path(__file__).parent / "fixtures" / "small"
HUMANS = SMALL / "CLEVR-Humans-val.json"


def test_frequent_words_of_a_file_get_a_place_and_others_none() -> None:
    texts = [record.text for record in read_questions(HUMANS)]
    assert [unknown_words(text) for text in texts] == [["box", "bigger", "marble"], ["hue", "orb"]]
    chosen = frequent_unknown_words([*texts, "A box, an orb?"], at_least=2)
    assert chosen == ["box", "orb"]
    ids = encode_with(texts[0], chosen)  # Is the box bigger than a marble?
    assert ids[2] == len(VOCABULARY)
    assert [ids[3], ids[6]] == [1, 1]
    assert encode_with(texts[0], ())[2] == 1


WRONG: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "an answer that is none of the 28": (lambda q: q.update(answer="several"), "answer"),
    "no answer to one of them": (lambda q: q.pop("answer"), "some have none"),
    "no question": (lambda q: q.pop("question"), "question"),
    "a question without words": (lambda q: q.update(question="?!"), "question"),
    "a question that is no text": (lambda q: q.update(question=7), "question"),
    "a question of 300 words": (lambda q: q.update(question="why " * 300), "300 words"),
    "another split": (lambda q: q.update(split="train"), "'train', not 'val'"),
    "an image of another number": (lambda q: q.update(image_index=5), "contradicts"),
    "an image in another folder": (
        lambda q: q.update(image_filename="../CLEVR_val_000001.png"),
        "not a plain file name",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named(tmp_path: Path, name: str) -> None:
    change, says = WRONG[name]
    content = json.loads(HUMANS.read_text())
    change(content["questions"][0])
    path = tmp_path / "CLEVR-Humans-val.json"
    path.write_text(json.dumps(content))
    with pytest.raises(FormatError) as caught:
        read_queries(ClevrFolder(SMALL, "val"), path)
    assert str(caught.value).startswith(str(path))
    assert says in str(caught.value)


def test_an_image_that_is_not_there(tmp_path: Path) -> None:
    content = json.loads(HUMANS.read_text())
    content["questions"][0].update(image_index=9, image_filename="CLEVR_val_000009.png")
    path = tmp_path / "humans.json"
    path.write_text(json.dumps(content))
    with pytest.raises(FormatError, match=r"CLEVR_val_000009\.png: no such image"):
        DiskSource(SMALL, "val", width=6, height=4, questions=path, cache=tmp_path)
    with pytest.raises(FormatError, match="not found"):
        DiskSource(SMALL, "val", questions=tmp_path / "none.json", cache=tmp_path)
