"""Reads cloze questions in official formats: the Children's Book Test, CNN and Daily Mail."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from featurewise.worlds.text.cloze import BLANK, Cloze
from featurewise.worlds.text.errors import TextError, TextFileError
from featurewise.worlds.text.formats import read_text

CBT_BLANK: Final = "XXXXX"
"""The missing word in the files of the Children's Book Test."""

CBT_SENTENCES: Final = 20
"""Sentences of a document there; the query is the next one."""

CBT_CANDIDATES: Final = 10
"""Candidates of a question there."""

_ENTITY = re.compile(r"@entity\d+")


def read_cbt(path: Path | str) -> tuple[Cloze, ...]:
    """The questions of a file of the Children's Book Test (Hill et al. 2016).

    A question is 21 lines that begin with their numbers; a blank line follows. The last has four
    columns, of which tabs divide: the query, its answer, nothing, and ten candidates, divided by
    ``|``. In the published files a candidate may occur twice; it is read once.

    Args:
        path: such as ``cbtest_NE_test_2500ex.txt``.

    Raises:
        TextFileError: the file cannot be read, or a question is malformed; the message has the
            line.
    """
    lines: list[tuple[int, str]] = []
    found = []
    for number, line in enumerate((*read_text(path).splitlines(), ""), start=1):
        if line.strip():
            lines.append((number, line))
        elif lines:
            found.append(_cbt_question(lines, path))
            lines = []
    if not found:
        raise TextFileError(f"{path}: the file has no questions")
    return tuple(found)


def _cbt_question(lines: list[tuple[int, str]], path: Path | str) -> Cloze:
    document: list[str] = []
    first, last = lines[0][0], lines[-1][0]
    if len(lines) != CBT_SENTENCES + 1:
        raise TextFileError(
            f"{path}:{first}: a question of {len(lines)} lines; expected {CBT_SENTENCES + 1}, "
            "then a blank line"
        )
    for count, (number, line) in enumerate(lines, start=1):
        begin, _, text = line.partition(" ")
        if begin != str(count):
            raise TextFileError(f"{path}:{number}: begins with {begin!r}; expected {count}")
        if count <= CBT_SENTENCES:
            document += text.split()
    columns = text.split("\t")
    if len(columns) != 4:
        raise TextFileError(
            f"{path}:{last}: {len(columns)} columns; expected 4, divided by tabs: query, answer, "
            "nothing, candidates"
        )
    query = tuple(BLANK if each == CBT_BLANK else each for each in columns[0].split())
    named = [each.strip() for each in columns[3].split("|")]
    if len(named) != CBT_CANDIDATES or not all(named):
        raise TextFileError(
            f"{path}:{last}: {len([each for each in named if each])} candidates; expected "
            f"{CBT_CANDIDATES}, divided by |"
        )
    return _cloze(document, query, named, columns[1].strip(), f"{path}:{last}")


def read_question_file(path: Path | str) -> Cloze:
    """The question of a file of CNN or Daily Mail (Hermann et al. 2015).

    Its parts are divided by blank lines: an address, the document, the query, the answer, and the
    names of the entities, one ``@entity3:Name`` a line. All of these entities are candidates.

    Args:
        path: such as ``0a3b….question``.

    Raises:
        TextFileError: the file cannot be read or is malformed; the message has the line.
    """
    lines = [each.strip() for each in read_text(path).splitlines()]
    for number in (2, 4, 6, 8):
        if len(lines) < 9 or lines[number - 1]:
            raise TextFileError(
                f"{path}:{min(number, len(lines))}: expected address, document, query, answer and "
                f"entities with a blank line between two of them, so that line {number} is blank"
            )
    entities = []
    for number, line in enumerate(lines[8:], start=9):
        token, mark, _ = line.partition(":")
        if line and not (mark and _ENTITY.fullmatch(token)):
            raise TextFileError(f"{path}:{number}: {line!r}; expected such as '@entity3:Name'")
        entities += [token] if line else []
    return _cloze(lines[2].split(), tuple(lines[4].split()), entities, lines[6], str(path))


def read_question_files(folder: Path | str) -> Iterator[Cloze]:
    """The questions of a folder of CNN or Daily Mail, in the order of their files' names.

    Args:
        folder: such as ``cnn/questions/test``.

    Raises:
        TextFileError: it has no files that end with ``.question``, or see `read_question_file`.
    """
    paths = sorted(Path(folder).glob("*.question"))
    if not paths:
        raise TextFileError(f"{folder}: has no files that end with .question")
    return map(read_question_file, paths)


def _cloze(
    document: list[str], query: tuple[str, ...], named: list[str], answer: str, where: str
) -> Cloze:
    try:
        return Cloze(tuple(document), query, tuple(dict.fromkeys(named)), answer)
    except TextError as error:
        raise TextFileError(f"{where}: {error}") from error
