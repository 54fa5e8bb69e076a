"""Novels by chapter, documentation, made sums, and their parts."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
from jaxtyping import TypeCheckError
from tests.worlds.text.test_rdata import strings, write

from featurewise.worlds.packages import installed_versions
from featurewise.worlds.text import (
    Document,
    MissingTextError,
    TextError,
    TextFileError,
    corpus,
    digest,
    docstrings,
    novels,
    of_part,
    part_of,
    sources,
    sums,
    text_versions,
)
from featurewise.worlds.text.library import _docstrings
from featurewise.worlds.text.made import NUMBERS
from featurewise.worlds.text.novels import NOVELS, NOVELS_PACKAGE

SUMS = "091f6b74b12eeb1140057b95cca50d4671f0a70d005faaf907d0e707dd2b205e"

LINES = (
    "EMMA", "", "By Jane Austen", "", "VOLUME I", "", "CHAPTER I", "", "",
    "Emma _Woodhouse_,", "  handsome, clever.", "", "She was", "VOLUME II", "", "Chapter 2.", "",
    "Mr. Weston said of a chapter I read", "FINIS",
)  # fmt: skip


@pytest.fixture
def austen() -> tuple[Document, ...]:
    try:
        return novels()
    except MissingTextError as error:
        pytest.skip(str(error))


def test_a_novel_is_divided_at_its_headings(tmp_path: Path) -> None:
    stem = write(tmp_path, {name: strings(LINES) for name in NOVELS})
    found = novels(stem)
    assert len(found) == 12
    assert found[6] == Document("Emma, chapter 1", ("Emma Woodhouse, handsome, clever.", "She was"))
    assert found[7].paragraphs == ("Mr. Weston said of a chapter I read",)
    assert [each.name for each in found[:2]] == [
        "Sense and Sensibility, chapter 1", "Sense and Sensibility, chapter 2",
    ]  # fmt: skip


def test_files_without_the_novels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingTextError, match="apt-get install r-cran-janeaustenr"):
        novels(tmp_path / "none")
    (tmp_path / "a").mkdir()
    stem = write(tmp_path / "a", {"emma": strings(LINES)})
    with pytest.raises(TextFileError, match="no novel called sensesensibility, only"):
        novels(stem)
    (tmp_path / "b").mkdir()
    stem = write(tmp_path / "b", {name: strings(("no", "chapters")) for name in NOVELS})
    with pytest.raises(TextFileError, match="Sense and Sensibility has no line such as"):
        novels(stem)


def test_the_novels_may_be_in_the_cache_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path))
    module = import_module("featurewise.worlds.text.novels")
    monkeypatch.setattr(module, "NOVELS_STEM", tmp_path / "debian" / "Rdata")
    with pytest.raises(MissingTextError, match=f"copy Rdata.rdb and .* to {tmp_path / 'novels'}"):
        novels()
    (tmp_path / "novels").mkdir()
    write(tmp_path / "novels", {name: strings(LINES) for name in NOVELS})
    for ending in ("rdb", "rdx"):
        (tmp_path / "novels" / f"x.{ending}").rename(tmp_path / "novels" / f"Rdata.{ending}")
    assert len(novels()) == 12
    assert text_versions("novels") == {"text of novels": f"SHA-256 {digest(novels())}"}


def test_the_installed_novels_are_whole(austen: tuple[Document, ...]) -> None:
    count = dict.fromkeys(NOVELS.values(), 0)
    for document in austen:
        count[document.name.partition(", ")[0]] += 1
        assert all(each == " ".join(each.split()) for each in document.paragraphs)
    assert list(count.values()) == [50, 61, 48, 55, 31, 24]  # as printed editions have
    assert austen[50].paragraphs[0].startswith("It is a truth universally acknowledged")
    assert installed_versions((NOVELS_PACKAGE,)).items() <= text_versions("novels").items()
    found = corpus("novels", "word", 2000)
    assert (len(found.vocabulary), len(found.test), found.documents) == (2000, 80_126, 26)


def test_parts_share_no_document() -> None:
    documents = sums()
    parts = {part: of_part(documents, part) for part in ("train", "validation", "test")}
    assert [len(each) for each in parts.values()] == [32, 4, 4]
    names = [each.name for part in parts.values() for each in part]
    assert sorted(names) == sorted(each.name for each in documents)
    assert (part_of(4), part_of(9), part_of(19)) == ("validation", "test", "test")
    with pytest.raises(
        (TextError, TypeCheckError),
        match="part must be one of train|Type-check error",
    ):
        of_part(documents, "valid")  # type: ignore[arg-type]


def test_sums_are_right() -> None:
    number = {name: value for value, name in enumerate(NUMBERS)}
    for document in sums():
        for line in document.paragraphs:
            one, _, other, _, result = line.removesuffix(".").split()
            assert number[one] + number[other] == number[result]
    assert digest(sums()) == SUMS, "the text must be the same on every machine"


def test_documentation_strings_are_read_in_order(tmp_path: Path) -> None:
    (tmp_path / "b.py").write_text(
        '"""A module.\n\nIt has\n    two paragraphs.\n"""\n\n'
        "class A:\n    '''A class.'''\n\n    def f(self):\n        '''A\n        method.'''\n\n"
        "async def g():\n    '''Last.'''\n"
    )
    (tmp_path / "a.py").write_text("x = 1\n\n")
    assert docstrings(tmp_path) == (
        Document("b.py", ("A module.", "It has two paragraphs.", "A class.", "A method.", "Last.")),
    )
    assert sources(tmp_path)[0] == Document("a.py", ("x = 1", ""))
    assert sources(tmp_path)[1].paragraphs[7] == "    '''A class.'''"


def test_modules_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingTextError, match="no modules"):
        docstrings(tmp_path)
    path = tmp_path / "a.py"
    path.write_bytes(b"\xef\xbb\xbf'''Marked.'''\n")
    assert docstrings(tmp_path) == (Document("a.py", ("Marked.",)),)
    _docstrings.cache_clear()
    path.write_text("def")
    with pytest.raises(TextFileError, match=r"a.py: not a module of this Python"):
        docstrings(tmp_path)
    path.write_bytes(b"# \xff")
    with pytest.raises(TextFileError, match=r"a.py: not UTF-8"):
        sources(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(TextFileError, match=r"a.py: cannot be read"):
        sources(tmp_path)


def test_the_standard_library_is_there() -> None:
    found = sources()
    assert len(found) > 100
    assert any(each.name == "argparse.py" for each in found)


def test_versions_hold_a_digest_of_the_text() -> None:
    found = text_versions("sums")
    assert found == {"text of sums": f"SHA-256 {digest(sums())}"}
    documents = list(sums())
    documents[3] = Document(documents[3].name, ("changed",))
    assert digest(documents) != digest(sums())


def test_a_corpus_has_the_vocabulary_of_its_training_text() -> None:
    found = corpus("sums", "word", 12)
    assert len(found.vocabulary) == 12
    train = [
        t for d in of_part(sums(), "train") for line in d.paragraphs for t in line[:-1].split()
    ]
    assert len(found.train) == len(train) + 2 * 32 * 40  # a full stop and an end each
    assert found.documents == 4
    for text in (found.train, found.validation, found.test):
        assert 0 < (text == 0).float().mean() < 0.5
    letters = corpus("sums", "character")
    assert set(letters.vocabulary.tokens[1:]) == set("\n ." + "".join(NUMBERS)) | set("ad")
    with pytest.raises((TextError, TypeCheckError), match="no corpus|Type-check error"):
        corpus("none", "word")  # type: ignore[arg-type]
