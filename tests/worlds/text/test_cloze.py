"""Cloze questions: records, batches, baselines, official files, questions of novels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from jaxtyping import TypeCheckError

from featurewise.common.rng import seeded_rng
from featurewise.worlds.text import (
    ABSENT,
    BLANK,
    UNKNOWN,
    Cloze,
    ClozeSource,
    Document,
    TextError,
    TextFileError,
    Vocabulary,
    chapter_questions,
    cloze_data,
    cloze_digests,
    cloze_source,
    cloze_versions,
    cloze_vocabulary,
    encode_questions,
    held_out_questions,
    last_mention,
    majority,
    most_mentions,
    names_of,
    novel_cloze,
    novel_questions,
    question_vocabulary,
    read_cbt,
    read_question_file,
    read_question_files,
    renamed,
    sentences,
    share_right,
)
from featurewise.worlds.text.corpus import DOCUMENTS
from featurewise.worlds.text.novel_cloze import BOOKS
from featurewise.worlds.text.novels import NOVELS, PARTS
from featurewise.worlds.text.vocabulary import WORD

REFUSED = (TextError, TypeCheckError)
"""The second where types are checked."""

WORDS = Vocabulary((UNKNOWN, BLANK, "n0", "n1", "n2", "n3", "saw", "left", "."))
FIRST = Cloze(("n0", "saw", "n1", ".", "n1", "left", "."), (BLANK, "left", "."), ("n0", "n1"), "n1")
SECOND = Cloze(
    ("n2", "left", ".", "n3", "saw", "n2", ".", "n0", "left"),
    ("n3", "saw", BLANK, "and", "left"),
    ("n0", "n2", "n3"),
    "n2",
)


def test_a_question_has_one_blank_and_its_answer_is_a_candidate() -> None:
    for change, message in [
        ({"document": ()}, "document of a question is empty"),
        ({"query": ("n0", "left")}, "a query has one @placeholder, got 0 in 'n0 left'"),
        ({"query": (BLANK, BLANK)}, "got 2"),
        ({"candidates": ("n1",)}, "two or more candidates, each once"),
        ({"candidates": ("n1", "n0", "n1")}, "two or more candidates, each once"),
        ({"answer": "n2"}, "the answer 'n2' is none of"),
    ]:
        with pytest.raises(TextError, match=message):
            replace(FIRST, **change)


def test_questions_are_encoded_and_padded() -> None:
    batch = encode_questions([FIRST, SECOND], WORDS)
    assert WORDS.decode(batch.document[0, :7].tolist()) == list(FIRST.document)
    assert batch.document[0, 7:].tolist() == [0, 0] and batch.document_lengths.tolist() == [7, 9]
    assert batch.query.tolist() == [[1, 7, 8, 0, 0], [5, 6, 1, 0, 7]]  # "and" is <unk>
    assert batch.query_lengths.tolist() == [3, 5] and batch.blank.tolist() == [0, 2]
    assert batch.candidates.tolist() == [[2, 3, ABSENT], [2, 4, 5]]
    assert batch.labels.tolist() == [1, 1] and len(batch) == 2
    alone = batch.select(slice(0, 1))
    assert alone.document.shape == (1, 7) and alone.query.shape == (1, 3)
    with pytest.raises(TextError, match="the vocabulary lacks 'n3'"):
        encode_questions([SECOND], Vocabulary((UNKNOWN, BLANK, "n0", "n2")))
    with pytest.raises(TextError, match="lacks '@placeholder'"):
        encode_questions([FIRST], Vocabulary((UNKNOWN, "n0", "n1")))
    with pytest.raises(TextError, match="no questions"):
        encode_questions([], WORDS)


def test_baselines_are_those_of_a_direct_count() -> None:
    batch = encode_questions([FIRST, SECOND, replace(SECOND, answer="n0")], WORDS)
    assert last_mention(batch).tolist() == [[0, 4, -1], [7, 5, 3], [7, 5, 3]]
    assert most_mentions(batch).argmax(1).tolist() == [1, 1, 1]
    assert most_mentions(batch).floor().tolist() == [[1, 2, -1], [1, 2, 1], [1, 2, 1]]
    assert share_right(last_mention(batch), batch) == pytest.approx(2 / 3)
    assert share_right(most_mentions(batch), batch) == pytest.approx(2 / 3)
    assert majority(batch) == pytest.approx(1 / 3)
    tie = encode_questions([replace(FIRST, document=("n1", "n0", ".", "n0", "n1"))], WORDS)
    assert most_mentions(tie).argmax(1).item() == 1, "of equals the one that is mentioned last"


def test_names_are_permuted_in_each_question_on_its_own() -> None:
    batch = encode_questions([FIRST, SECOND] * 50, WORDS)
    found = renamed(batch, (2, 6), seeded_rng(0, "test"))
    seen = set()
    for i in range(100):
        before = [batch.document[i], batch.query[i], batch.candidates[i]]
        after = [found.document[i], found.query[i], found.candidates[i]]
        mapping = dict(zip(torch.cat(before).tolist(), torch.cat(after).tolist(), strict=True))
        assert len(set(mapping.values())) == len(mapping), "no two names become one"
        assert all(new == old for old, new in mapping.items() if not 2 <= old < 6)
        assert all(2 <= new < 6 for old, new in mapping.items() if 2 <= old < 6)
        seen.add(mapping[2])
    assert seen == {2, 3, 4, 5} and torch.equal(found.labels, batch.labels)


def test_batches_are_of_the_questions_and_depend_on_seed_and_index() -> None:
    questions = encode_questions([FIRST, SECOND], WORDS)
    source = ClozeSource(questions, 3, 20, (2, 6))
    batch = source.batch(4)
    again = ClozeSource(questions, 3, 20, (2, 6)).batch(4)
    assert torch.equal(batch.document, again.document)
    assert set(batch.document_lengths.tolist()) == {7, 9}
    for other in (source.batch(5), ClozeSource(questions, 4, 20, (2, 6)).batch(4)):
        assert not torch.equal(batch.candidates, other.candidates)


# Official files


def cbt(count: int = 2, **wrong: str) -> str:
    """Questions as in the files of the test, made up."""
    one = [f"{i} Tom saw the dog of Ann ." for i in range(1, 21)]
    names = "Ann|Tom|Bob|Eve|Kit|Lou|Max|Ned|Sue|Zoe"
    query = "21 `` Where is XXXXX ? ''\tAnn\t\t" + names
    text = "\n".join([*one, query])
    return "\n\n".join([text] * count) + "\n"


def test_a_file_of_the_childrens_book_test_is_read(tmp_path: Path) -> None:
    path = tmp_path / "cbtest_NE_test_2500ex.txt"
    path.write_text(cbt() + "\n\n")
    one, two = read_cbt(path)
    assert one == two and len(one.document) == 20 * 7
    assert one.document[:8] == ("Tom", "saw", "the", "dog", "of", "Ann", ".", "Tom")
    assert one.query == ("``", "Where", "is", BLANK, "?", "''")
    assert one.answer == "Ann" and len(one.candidates) == 10 and one.candidates[9] == "Zoe"
    path.write_text(cbt(1).replace("|Bob", "|Ann"))
    assert len(read_cbt(path)[0].candidates) == 9


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("20 Tom saw the dog of Ann .\n", "", "x:1: a question of 20 lines; expected 21"),
        ("7 Tom", "9 Tom", "x:7: begins with '9'; expected 7"),
        ("7 Tom", "\n7 Tom", "x:1: a question of 6 lines"),
        ("\tAnn\t\t", "\tAnn\t", "x:21: 3 columns; expected 4, divided by tabs"),
        ("|Zoe", "", "x:21: 9 candidates; expected 10"),
        ("|Zoe", "|", "x:21: 9 candidates; expected 10"),
        ("XXXXX", "she", "x:21: a query has one @placeholder, got 0"),
        ("\tAnn\t", "\tIda\t", "x:21: the answer 'Ida' is none of"),
    ],
)
def test_a_broken_file_of_it_is_refused(
    tmp_path: Path, before: str, after: str, message: str
) -> None:
    path = tmp_path / "x"
    assert before in cbt(1)
    path.write_text(cbt(1).replace(before, after))
    with pytest.raises(TextFileError, match=message):
        read_cbt(path)


def test_files_that_are_none_of_it_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("\n\n")
    with pytest.raises(TextFileError, match="x: the file has no questions"):
        read_cbt(path)
    path.write_bytes(b"1 a\n2 \xff\n")
    with pytest.raises(TextFileError, match="x:2: not UTF-8"):
        read_cbt(path)
    with pytest.raises(TextFileError, match="y: cannot be read"):
        read_cbt(tmp_path / "y")


QUESTION = """http://example.org/a

@entity1 met @entity0 in @entity2 .

@placeholder met @entity0

@entity1

@entity0:Ann Lee
@entity1:Bob
@entity2:York: the city
"""


def test_question_files_are_read(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / f"{name}.question").write_text(QUESTION.replace("example", name))
    (tmp_path / "c.txt").write_text("not read")
    found = list(read_question_files(tmp_path))
    assert found[0] == found[1] == read_question_file(tmp_path / "a.question")
    assert found[0].document == ("@entity1", "met", "@entity0", "in", "@entity2", ".")
    assert found[0].query == (BLANK, "met", "@entity0") and found[0].answer == "@entity1"
    assert found[0].candidates == ("@entity0", "@entity1", "@entity2")
    with pytest.raises(TextFileError, match="has no files that end with .question"):
        read_question_files(tmp_path / "none")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("\n\n@placeholder", "\n@placeholder", "x:4: .* line 4 is blank"),
        ("@entity1\n\n", "", "x:8: .* line 8 is blank"),
        ("@entity1:Bob", "entity1:Bob", "x:10: 'entity1:Bob'; expected such as '@entity3:Name'"),
        ("@entity1:Bob", "@entity1", "x:10: '@entity1'; expected such as"),
        ("@placeholder met", "he met", "x: a query has one @placeholder, got 0"),
        ("\n@entity1\n", "\n@entity7\n", "x: the answer '@entity7' is none of"),
    ],
)
def test_broken_question_files_are_refused(
    tmp_path: Path, before: str, after: str, message: str
) -> None:
    path = tmp_path / "x"
    assert before in QUESTION
    path.write_text(QUESTION.replace(before, after))
    with pytest.raises(TextFileError, match=message):
        read_question_file(path)
    path.write_text("one line\n")
    with pytest.raises(TextFileError, match="x:1: expected address, document, query"):
        read_question_file(path)


# Questions of novels


def chapter() -> Document:
    """Thirty sentences in which three people occur in turn."""
    people = ("Anne", "Mary", "Charles")
    return Document(
        "A book, chapter 1",
        tuple(f"Then {people[i % 3]} saw Mr. Clay at {i}. He said, good Anne!" for i in range(15)),
    )


def test_sentences_end_at_marks_before_capital_letters() -> None:
    text = Document("x", ('"Is Mr. Elton here?" "No!" said he. It is 3.5 miles off.', "Yes", "--"))
    assert sentences(text) == (
        '"Is Mr Elton here?"', '"No!" said he.', "It is 3.5 miles off.", "Yes",
    )  # fmt: skip


def test_names_have_capital_letters_within_sentences() -> None:
    assert names_of([chapter()]) == {"Anne", "Mary", "Charles", "Clay"}
    text = Document("x", ("then Anne and Rare and Sunday and Sir and the Bath, a bath " * 6,))
    lower = replace(text, paragraphs=(text.paragraphs[0], "a bath " * 9))
    assert names_of([lower]) == {"Anne", "Rare"}
    assert names_of([Document("x", ("then Rare went " * 4,))]) == frozenset()


def test_the_name_of_the_sentence_after_twenty_is_the_answer() -> None:
    names, text = names_of([chapter()]), sentences(chapter())
    found = list(chapter_questions(chapter(), names))
    assert len(text) == 30 and len(found) == 10, "each of the last ten names somebody"
    assert found == list(chapter_questions(chapter(), names)), "the same on every machine"
    numbers = set()
    for question, last in zip(found, range(20, 30), strict=True):
        original = [w for s in text[last - 20 : last] for w in _words(s)]
        assert len(original) == len(question.document)
        mapping = dict(zip(original, question.document, strict=True))
        assert {mapping[name] for name in names} == set(question.candidates)
        assert all(mapping[name].startswith("@entity") for name in names)
        assert all(mapping[word] == word.lower() for word in original if word not in names)
        filled = [question.answer if each == BLANK else each for each in question.query]
        assert filled == [mapping.get(word, word.lower()) for word in _words(text[last])]
        numbers.add(mapping["Mary"])
    assert len(numbers) > 1, "each question numbers its names on its own"


def _words(sentence: str) -> list[str]:
    return WORD.findall(sentence)


def test_sentences_without_a_known_name_give_no_question(monkeypatch: pytest.MonkeyPatch) -> None:
    names, count = (
        names_of([chapter()]),
        len(list(chapter_questions(chapter(), names_of([chapter()])))),
    )
    silent = replace(chapter(), paragraphs=tuple(
        each.replace("good Anne", "good man") for each in chapter().paragraphs
    ))  # fmt: skip
    assert len(list(chapter_questions(silent, names))) == count // 2
    assert not list(chapter_questions(chapter(), frozenset({"Anne"}))), "one candidate is none"
    assert not list(chapter_questions(chapter(), frozenset({"Ida", "Eve"})))
    monkeypatch.setattr(novel_cloze, "CANDIDATES", 3)
    for each in chapter_questions(chapter(), names):
        assert len(each.candidates) == 3 and each.answer in each.candidates
    monkeypatch.setattr(novel_cloze, "ENTITIES", 3)
    assert not list(chapter_questions(chapter(), names)), "there are four names"
    monkeypatch.setattr(novel_cloze, "ENTITIES", 4)
    monkeypatch.setattr(novel_cloze, "LONGEST", 20)
    assert not list(chapter_questions(chapter(), names))


@pytest.fixture
def made_novels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Six novels of one chapter each, whose texts differ in a word."""

    def made() -> tuple[Document, ...]:
        return tuple(
            Document(
                f"{title}, chapter 1",
                tuple(each.replace("saw", book) for each in chapter().paragraphs),
            )
            for book, title in NOVELS.items()
        )

    caches = (novel_cloze._novel_questions, cloze_data._novels)
    for each in caches:
        each.cache_clear()
    monkeypatch.setattr(novel_cloze, "novels", made)
    monkeypatch.setitem(cast(dict[str, Any], DOCUMENTS), "novels", made)
    yield
    for each in caches:
        each.cache_clear()


@pytest.mark.usefixtures("made_novels")
def test_books_share_no_part() -> None:
    books = {
        part: {token for each in novel_questions(part) for token in each.document} & set(NOVELS)
        for part in PARTS
    }
    assert books == {part: set(found) for part, found in BOOKS.items()}
    assert sum(map(len, books.values())) == len(NOVELS) == len(set.union(*books.values()))
    with pytest.raises(REFUSED, match="dev"):
        novel_questions(cast(Any, "dev"))


@pytest.mark.usefixtures("made_novels")
def test_the_vocabulary_is_that_of_the_training_novels() -> None:
    vocabulary = cloze_vocabulary("novels")
    assert vocabulary.tokens[:3] == (UNKNOWN, BLANK, "@entity0")
    assert vocabulary.tokens[41] == "@entity39" and "@entity40" not in vocabulary.tokens
    assert {"emma", "prideprejudice"} < set(vocabulary.tokens)
    assert not {"persuasion", "northangerabbey"} & set(vocabulary.tokens)
    test, batch = held_out_questions("novels", "test"), cloze_source("novels", 1, 5).batch(0)
    assert test.two_steps is None and len(test.questions) == 10 and len(batch) == 5
    for each in (test.questions, batch):
        named = each.candidates[each.candidates != ABSENT]
        assert ((named >= 2) & (named < 42)).all()
    small = question_vocabulary([FIRST], (UNKNOWN, "n0"), 4)
    assert small.tokens == (UNKNOWN, "n0", ".", "left")
    versions, digests = cloze_versions("novels"), cloze_digests("novels")
    assert "text of novels" in versions and digests["text of novels"].startswith("SHA-256 ")
    assert digests["vocabulary of novels"] == f"SHA-256 {vocabulary.digest}"


def test_unknown_names_are_refused() -> None:
    for call in (cloze_vocabulary, lambda name: cloze_source(name, 0, 1)):
        with pytest.raises(REFUSED, match="news"):
            call(cast(Any, "news"))
    with pytest.raises(REFUSED, match="train"):
        held_out_questions("stories", cast(Any, "train"))
