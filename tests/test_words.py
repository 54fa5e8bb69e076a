"""The project uses the terms of the field, not the words that `benchmarks.words` lists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from benchmarks import words

#: Folders and files with one test each, so that a failure shows the part of the project.
SPLIT = (words.ROOT / "src/featurewise", words.ROOT / "tests")
PARTS = [
    *(path for folder in SPLIT for path in sorted(folder.iterdir()) if any(words.files([path]))),
    *(path for path in words.project() if path.name not in ("src", "tests")),
]


def name_of(path: Path) -> str:
    return str(path.relative_to(words.ROOT))


@pytest.mark.parametrize("part", PARTS, ids=name_of)
def test_terms_of_the_field(part: Path) -> None:
    found = [str(use) for use in words.uses([part])]
    assert not found, "\n".join([f"{len(found)} uses in {name_of(part)}:", *found])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("the picture", ["picture"]),
        ("Pictures", ["pictures"]),
        ("told_of = 1", ["told"]),
        ("class ToldEpisodes", ["told"]),
        ("_ASKED_PER_CLASS", ["asked"]),
        ("HTMLPicture", ["picture"]),
        ("pictures2", ["pictures"]),
        ("it costs nothing", ["costs nothing"]),
        ("Taken for dead", ["taken for dead"]),
        ("asked about a picture", ["asked", "picture"]),
        ("image, bolder, surface, interface, slot", []),
    ],
)
def test_words_are_found_in_names_and_prose(text: str, found: list[str]) -> None:
    assert [word for _, word, _ in words.found_in(text)] == found


def test_lines_are_numbered_from_one() -> None:
    assert [line for line, _, _ in words.found_in("told\n\ntold told")] == [1, 3, 3]


def test_an_allowed_phrase_hides_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(words.ALLOWED_PHRASES, r"chance level", "accuracy of random guessing")
    assert not list(words.found_in("above chance level"))
    assert [word for _, word, _ in words.found_in("by chance, at chance level")] == ["chance"]


def test_few_uses_are_allowed() -> None:
    assert len(words.ALLOWED) + len(words.ALLOWED_PHRASES) < 30


@pytest.mark.parametrize("entry", words.ALLOWED, ids=str)
def test_every_allowed_word_is_used(entry: tuple[str, tuple[str, ...]]) -> None:
    glob, allowed = entry
    found: set[str] = set()
    for path in words.files(words.project()):
        if path.relative_to(words.ROOT).match(glob):
            found |= {word for _, word, _ in words.found_in(path.read_text(encoding="utf-8"))}
    assert found if allowed == ("*",) else found & {*allowed}, "it allows nothing: remove it"


@pytest.mark.parametrize("phrase", words.ALLOWED_PHRASES)
def test_every_allowed_phrase_is_used(phrase: str) -> None:
    own = (Path(words.__file__), Path(__file__))
    texts = (
        path.read_text(encoding="utf-8") for path in words.files(words.project()) if path not in own
    )
    assert any(re.search(phrase, text, re.IGNORECASE) for text in texts), (
        "it allows nothing: remove it"
    )
