"""Words of questions: tokens and their indices.

Tokens follow the published baselines: lower case, split on spaces, "?" and "." dropped, ";" and ","
kept as tokens. Typographic quotes and apostrophes are read as plain ones, and known variants of a
word ("colour", "grey", "what's") are replaced with words of the vocabulary.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Final

from featurewise.worlds.clevr.vocabulary import UNKNOWN, VOCABULARY

#: Variant of a word, as people write it -> the tokens that replace it. No variant occurs in
#: generated or official questions.
VARIANTS: Final[dict[str, tuple[str, ...]]] = {
    "colour": ("color",),
    "colours": ("color",),
    "colors": ("color",),
    "grey": ("gray",),
    "sizes": ("size",),
    "shapes": ("shape",),
    "materials": ("material",),
    **{f"{word}'s": (word, "is") for word in ("what", "there", "that", "it", "how")},
}

UNKNOWN_INDEX: Final = VOCABULARY.index(UNKNOWN)
_FIRST_WORD: Final = 4  # after padding, the unknown word, ";" and ","
_INDEX: Final = {word: index for index, word in enumerate(VOCABULARY) if index > UNKNOWN_INDEX}
_TOKEN: Final = re.compile(r"[;,]|[^\s;,?.!:\"()]+")
_QUOTES: Final = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u02bc\u00b4`", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb\u00bf\u00a1", '"'),
    }
)


def tokenize(text: str) -> list[str]:
    """Tokens of a text; punctuation may follow a word directly ("thing;" gives "thing", ";")."""
    plain = unicodedata.normalize("NFKC", text.translate(_QUOTES)).lower()
    return [word for token in _TOKEN.findall(plain) if (word := token.strip("'"))]


def _known_spelling(text: str) -> list[str]:
    """Tokens with known variants replaced."""
    return [word for token in tokenize(text) for word in VARIANTS.get(token, (token,))]


def encode(text: str) -> list[int]:
    """Indices in `VOCABULARY` of a text's tokens; words outside it have the index of "<unk>"."""
    return [_INDEX.get(token, UNKNOWN_INDEX) for token in _known_spelling(text)]


def encode_with(text: str, new_words: Sequence[str]) -> list[int]:
    """The same with a vocabulary that new words follow, in their order.

    Args:
        text: the text.
        new_words: words outside `VOCABULARY`.
    """
    more = {word: len(VOCABULARY) + index for index, word in enumerate(new_words)}
    return [_INDEX.get(token, more.get(token, UNKNOWN_INDEX)) for token in _known_spelling(text)]


def frequent_unknown_words(texts: Iterable[str], at_least: int = 10) -> list[str]:
    """Words outside the vocabulary that occur often, the most frequent first.

    A network can learn a vector for each of these; all others stay "<unk>".

    Args:
        texts: such as the training questions of CLEVR-Humans.
        at_least: how often a word occurs.
    """
    counts = Counter(word for text in texts for word in unknown_words(text))
    chosen = [word for word, count in counts.items() if count >= at_least]
    return sorted(chosen, key=lambda word: (-counts[word], word))


def unknown_words(text: str) -> list[str]:
    """Tokens of a text that are outside the vocabulary, in order of appearance."""
    return [token for token in _known_spelling(text) if token not in _INDEX]


def near_words(word: str) -> list[str]:
    """Words of the vocabulary with a spelling similar to ``word``, the closest first; at most 3."""
    known = [each for each in VOCABULARY[_FIRST_WORD:] if len(each) > 2]  # not "a"
    return get_close_matches(word.lower(), known, n=3, cutoff=0.75)


def has_known_word(text: str) -> bool:
    """Whether a text has any word of the vocabulary; ";" and "," do not count as words."""
    return any(index >= _FIRST_WORD for index in encode(text))
