"""The world of text: real prose by document, vocabularies, windows, and official formats.

:func:`corpus` gives three texts as numbers of tokens, :class:`TextSource` batches to train on,
:func:`evaluation_windows` a whole text to test on, and :func:`perplexity` and
:func:`bits_per_character` its measures.
"""

from __future__ import annotations

from featurewise.worlds.text.cloze import (
    ABSENT,
    BLANK,
    Cloze,
    ClozeBatch,
    encode_questions,
    last_mention,
    majority,
    most_mentions,
    share_right,
)
from featurewise.worlds.text.cloze_data import (
    ClozeName,
    ClozeSource,
    HeldOutQuestions,
    cloze_source,
    cloze_vocabulary,
    held_out_questions,
    question_vocabulary,
    renamed,
)
from featurewise.worlds.text.cloze_formats import read_cbt, read_question_file, read_question_files
from featurewise.worlds.text.corpus import Corpus, CorpusName, Unit, corpus, digest
from featurewise.worlds.text.errors import MissingTextError, TextError, TextFileError
from featurewise.worlds.text.facts import AUSTEN, CLOZE
from featurewise.worlds.text.formats import (
    byte_tokens,
    read_enwik8,
    read_token_file,
    read_token_files,
)
from featurewise.worlds.text.library import docstrings, sources
from featurewise.worlds.text.made import sums
from featurewise.worlds.text.metrics import bits_per_character, perplexity
from featurewise.worlds.text.novel_cloze import (
    chapter_questions,
    names_of,
    novel_questions,
    sentences,
)
from featurewise.worlds.text.novels import Document, Part, novels, of_part, part_of
from featurewise.worlds.text.rdata import read_character_vectors
from featurewise.worlds.text.source import TextBatch, TextSource, evaluation_windows
from featurewise.worlds.text.stories import STORY_VOCABULARY, Stories, StorySource, stories
from featurewise.worlds.text.versions import (
    cloze_digests,
    cloze_versions,
    text_digests,
    text_versions,
)
from featurewise.worlds.text.vocabulary import END, UNKNOWN, Vocabulary, characters, words

__all__ = [
    "ABSENT",
    "AUSTEN",
    "BLANK",
    "CLOZE",
    "END",
    "STORY_VOCABULARY",
    "UNKNOWN",
    "Cloze",
    "ClozeBatch",
    "ClozeName",
    "ClozeSource",
    "Corpus",
    "CorpusName",
    "Document",
    "HeldOutQuestions",
    "MissingTextError",
    "Part",
    "Stories",
    "StorySource",
    "TextBatch",
    "TextError",
    "TextFileError",
    "TextSource",
    "Unit",
    "Vocabulary",
    "bits_per_character",
    "byte_tokens",
    "chapter_questions",
    "characters",
    "cloze_digests",
    "cloze_source",
    "cloze_versions",
    "cloze_vocabulary",
    "corpus",
    "digest",
    "docstrings",
    "encode_questions",
    "evaluation_windows",
    "held_out_questions",
    "last_mention",
    "majority",
    "most_mentions",
    "names_of",
    "novel_questions",
    "novels",
    "of_part",
    "part_of",
    "perplexity",
    "question_vocabulary",
    "read_cbt",
    "read_character_vectors",
    "read_enwik8",
    "read_question_file",
    "read_question_files",
    "read_token_file",
    "read_token_files",
    "renamed",
    "sentences",
    "share_right",
    "sources",
    "stories",
    "sums",
    "text_digests",
    "text_versions",
    "words",
]
