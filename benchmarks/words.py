"""Finds words that this project used where the field has a term of its own.

``python -m benchmarks.words [path ...]`` lists each use with file and line; without paths it
searches the whole project. Names count like prose: ``told_of`` and ``ToldOf`` contain "told".
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
FOLDERS = ("src", "docs", "tests", "benchmarks", "examples")
SUFFIXES = {".py", ".md", ".j2", ".js", ".css", ".ipynb"}

#: Words of the project -> terms of the field.
TERMS: dict[tuple[str, ...], str] = {
    ("told", "untold", "telling"): "conditioned on, label, unconditional, given, on_progress",
    ("asked",): "evaluated on, queries, prompt, samples per class, requested",
    ("picture", "pictures"): "image; figure for a plot",
    ("drawn", "draws", "drawing", "drawings"): "sampled, generated, rendered, plotted",
    ("lot", "lots", "chance", "dealt"): "at random, permuted, rng, probability",
    ("anew",): "again, from scratch, re-…",
    ("face", "faces"): "typeface, typefaces",
    ("judge", "judged", "judges", "judging"): "evaluation classifier",
    ("material", "materials"): "letter_splits, LetterData",
    ("spread",): "diversity, or standard deviation",
    ("covered",): "mode coverage",
    ("pupil", "pupils"): "student",
    ("heart",): "core; overfitting, memorising",
    ("band", "bands"): "expected",
    ("noised", "noising"): "diffusion",
    ("lesson", "lessons"): "curriculum stage",
    ("crew",): "worker pool",
    ("imprint",): "tensor hash",
    ("unfit",): "cannot fold",
    ("remembered",): "cached",
    ("lengthened",): "append_one",
    ("stranger",): "distractor",
    ("tabulate", "tabulated", "tabulation"): "precompute",
}
#: Phrases of the project, as regular expressions -> terms of the field.
PHRASES: dict[str, str] = {
    r"unless told": "default: …",
    r"had for nothing|costs? nothing": "follows; free, with the figure",
    r"by heart": "overfitting, memorising",
    r"taken for dead": "whose lease expired",
    r"left alone\b(?= ends| would)": "uninterrupted",
    r"(?:the )?same bits": "bit-identical",
}

#: (glob of paths relative to the root, words; ``*`` is all words) -> why they are right there.
ALLOWED: dict[tuple[str, tuple[str, ...]], str] = {
    ("benchmarks/words.py", ("*",)): "the list itself",
    ("tests/test_words.py", ("*",)): "tests of the list",
    ("*worlds/clevr/*", ("material", "materials")): "attribute of a CLEVR object",
    ("*clevr/families/*", ("material", "materials")): "attribute of a CLEVR object",
    ("*clevr/packets/*", ("material", "materials")): "attribute of a CLEVR object",
    ("*/film/config.py", ("lessons", "pictures")): "settings of 0.1",
    ("tests/systems/test_film.py", ("material",)): "attribute of a CLEVR object",
    ("docs/cards/film.md", ("material",)): "attribute of a CLEVR object",
    ("*/09_explore_your_network.ipynb", ("*",)): "holds a page; its text is that of the script",
    ("tests/explorer/page/conftest.py", ("material",)): "attribute of a CLEVR object",
    ("docs/clevr.md", ("material", "materials")): "attribute of a CLEVR object",
    ("*worlds/clevr/pool.py", ("pictures",)): "keys of files that version 0.1 wrote",
    ("*worlds/sound/words.py", ("*",)): "English words that synthetic voices say",
}
#: Phrases in which a word is a term of the field, as regular expressions -> why.
ALLOWED_PHRASES: dict[str, str] = {
    r"hugging face": "a company",
    r"\bo\.material\b": "attribute of a CLEVR object",
    r"faces of \d+ by \d+ \(CelebA\)": "photographs of people",
    r"drawn by hand": "as the characters of Omniglot are",
    r"worlds[./]pictures|world (?:of )?`?pictures|pictures\.md|(?:Missing)?Pictures?Error"
    r"|load_picture|picture_versions": "a world of images that people made, and its names",
    r'"(?:asked|faces|judging)"[:,]': "names of fields in files of version 0.1",
}


class Use(NamedTuple):
    """One use of a word or phrase.

    Attributes:
        path: the file.
        line: number of the line, from 1.
        word: the word or phrase, in lower case.
        better: terms of the field.
    """

    path: Path
    line: int
    word: str
    better: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}: {self.word!r}; better: {self.better}"


_BETTER = {word: better for words, better in TERMS.items() for word in words}
_TOKEN = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def found_in(text: str) -> Iterator[tuple[int, str, str]]:
    """Line, word and better terms of each use in a text; allowed phrases are skipped."""
    for number, line in enumerate(text.splitlines(), 1):
        allowed = [match.span() for phrase in ALLOWED_PHRASES for match in _matches(phrase, line)]
        uses = [(token, _BETTER.get(token[0].lower())) for token in _TOKEN.finditer(line)]
        uses += [
            (match, better)
            for phrase, better in PHRASES.items()
            for match in _matches(phrase, line)
        ]
        for use, better in uses:
            inside = any(low <= use.start() and use.end() <= high for low, high in allowed)
            if better is not None and not inside:
                yield number, use[0].lower(), better


def _matches(phrase: str, line: str) -> Iterator[re.Match[str]]:
    return re.finditer(phrase, line, re.IGNORECASE)


def files(paths: Iterable[Path]) -> Iterator[Path]:
    """All text files below the paths."""
    for path in paths:
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (each for each in inside if each.suffix in SUFFIXES and each.is_file())


def uses(paths: Iterable[Path]) -> Iterator[Use]:
    """All uses of the words below the paths, except the allowed ones."""
    for path in files(paths):
        relative = path.relative_to(ROOT)
        allowed = {word for (glob, words) in ALLOWED if relative.match(glob) for word in words}
        if "*" in allowed:
            continue
        for line, word, better in found_in(path.read_text(encoding="utf-8")):
            if word not in allowed:
                yield Use(path, line, word, better)


def project() -> list[Path]:
    """Folders and files that are searched by default."""
    return [*(ROOT / folder for folder in FOLDERS), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


def main(paths: list[str]) -> int:
    """Prints all uses, or their number per folder without paths; returns 1 if there are any."""
    found = list(uses([Path(path).resolve() for path in paths] or project()))
    if paths:
        print(*found, sep="\n")
    folders = Counter("/".join(use.path.relative_to(ROOT).parts[:3]) for use in found)
    for folder, count in sorted(folders.items()):
        print(f"{count:>6}  {folder}")
    print(f"{len(found):>6}  in all")
    return int(bool(found))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
