"""The world of text: real prose by document, vocabularies, windows, and official formats.

:func:`corpus` gives three texts as numbers of tokens, :class:`TextSource` batches to train on,
:func:`evaluation_windows` a whole text to test on, and :func:`perplexity` and
:func:`bits_per_character` its measures.
"""

from __future__ import annotations

from featurewise.worlds.text.corpus import Corpus, CorpusName, Unit, corpus, digest
from featurewise.worlds.text.errors import MissingTextError, TextError, TextFileError
from featurewise.worlds.text.facts import AUSTEN
from featurewise.worlds.text.formats import (
    byte_tokens,
    read_enwik8,
    read_token_file,
    read_token_files,
)
from featurewise.worlds.text.library import docstrings, sources
from featurewise.worlds.text.made import sums
from featurewise.worlds.text.metrics import bits_per_character, perplexity
from featurewise.worlds.text.novels import Document, Part, novels, of_part, part_of
from featurewise.worlds.text.rdata import read_character_vectors
from featurewise.worlds.text.source import TextBatch, TextSource, evaluation_windows
from featurewise.worlds.text.versions import text_digests, text_versions
from featurewise.worlds.text.vocabulary import END, UNKNOWN, Vocabulary, characters, words

__all__ = [
    "AUSTEN",
    "END",
    "UNKNOWN",
    "Corpus",
    "CorpusName",
    "Document",
    "MissingTextError",
    "Part",
    "TextBatch",
    "TextError",
    "TextFileError",
    "TextSource",
    "Unit",
    "Vocabulary",
    "bits_per_character",
    "byte_tokens",
    "characters",
    "corpus",
    "digest",
    "docstrings",
    "evaluation_windows",
    "novels",
    "of_part",
    "part_of",
    "perplexity",
    "read_character_vectors",
    "read_enwik8",
    "read_token_file",
    "read_token_files",
    "sources",
    "sums",
    "text_digests",
    "text_versions",
    "words",
]
