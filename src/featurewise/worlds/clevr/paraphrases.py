"""Another language for the same questions: synonyms, other frames, fillers, by a made grammar.

It stands in for questions that people wrote, as those of CLEVR-Humans (Johnson et al. 2017,
*Inferring and Executing Programs for Visual Reasoning*), and is not that data set: a small grammar
of this library's, with words that the generated questions never use. Meaning and answer stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final

import torch
from jaxtyping import Int64
from torch import Tensor

from featurewise.common.rng import derive_seed
from featurewise.worlds.clevr.batch import Batch
from featurewise.worlds.clevr.combinations import NOUNS
from featurewise.worlds.clevr.data import Source
from featurewise.worlds.clevr.errors import WorldError
from featurewise.worlds.clevr.vocabulary import (
    ATTRIBUTES,
    COLORS,
    QUESTION_TYPES,
    VOCABULARY,
)
from featurewise.worlds.clevr.words import UNKNOWN_INDEX, encode_with, tokenize

SYNONYMS: Final[dict[str, tuple[str, ...]]] = {
    "large": ("huge", "giant"),
    "small": ("little", "mini"),
    "gray": ("gray", "ashen"),
    "red": ("red", "crimson"),
    "blue": ("blue", "azure"),
    "green": ("green", "emerald"),
    "brown": ("brown", "chestnut"),
    "purple": ("purple", "violet"),
    "cyan": ("cyan", "turquoise"),
    "yellow": ("yellow", "golden"),
    "rubber": ("dull", "soft"),
    "metal": ("glossy", "steel"),
    "cube": ("box", "brick"),
    "sphere": ("orb", "marble"),
    "cylinder": ("tube", "can"),
    "thing": ("item", "piece"),
}
"""Value of an attribute -> its words in the made language; "thing" where no shape is named."""

_PLURALS: Final = {"box": "boxes"}
FRAMES: Final[dict[str, tuple[str, ...]]] = {
    "count": ("count the {ds}", "give the total of {ds}", "{ds} , what is their number"),
    "exist": ("could you find a {d}", "do you see any {ds}", "does the scene contain a {d}"),
    "query_size": ("which dimensions has the {d}", "state how big the {d} looks"),
    "query_color": ("which hue has the {d}", "name the paint of the {d}"),
    "query_material": ("which stuff forms the {d}", "the {d} consists of what"),
    "query_shape": ("which form has the {d}", "name the kind of body of the {d}"),
}
"""Question type -> its frames; d is a description, ds its plural."""

FILLERS: Final = ("please", "well", "so", "hey", "now")
"""One of them begins every third question."""

_ALIASES: Final = {
    "large": ("large", "big"),
    "small": ("small", "tiny"),
    "rubber": ("rubber", "matte"),
    "metal": ("metal", "metallic", "shiny"),
    **{color: (color,) for color in COLORS},
    **NOUNS,
}
_VALUE: Final = {word: value for value, words in _ALIASES.items() for word in words}
_NOUNS_OF_ALL: Final = frozenset(("thing", "things", "object", "objects"))
_OF: Final = {value: name for name, values in ATTRIBUTES.items() for value in values}


def _plural(noun: str) -> str:
    return _PLURALS.get(noun, f"{noun}s")


def _new_words() -> tuple[str, ...]:
    nouns = [noun for value in (*NOUNS, "thing") for noun in SYNONYMS[value]]
    frames = [frame.format(d="", ds="") for some in FRAMES.values() for frame in some]
    texts = [*frames, *FILLERS, *(word for some in SYNONYMS.values() for word in some)]
    words = {word for text in (*texts, *map(_plural, nouns)) for word in tokenize(text)}
    return tuple(sorted(words - set(VOCABULARY)))


NEW_WORDS: Final = _new_words()
"""Words of the made language that are not in ``VOCABULARY``, whose indices follow its own."""


def described(tokens: Sequence[int]) -> dict[str, str]:
    """Attribute -> value that a question without relations names.

    Raises:
        WorldError: it describes more than one object, or none.
    """
    words = [VOCABULARY[index] for index in tokens if index]
    if words[:2] == ["how", "big"]:  # names no size
        words = words[2:]
    nouns = [
        word for word in words if word in _NOUNS_OF_ALL or _OF.get(_VALUE.get(word, "")) == "shape"
    ]
    if len(nouns) != 1:
        raise WorldError(
            f"{' '.join(words)!r} describes {len(nouns)} kinds of objects; the made language has "
            "questions about one"
        )
    values = [_VALUE[word] for word in words if word in _VALUE]
    return {_OF[value]: value for value in values}


def paraphrase(kind: str, values: dict[str, str], rng: Random) -> str:
    """A question in the made language.

    Args:
        kind: type of the question, a key of `FRAMES`.
        values: attribute -> value of the described object.
        rng: chooses words and frame.

    Raises:
        WorldError: the type has no frame.
    """
    if kind not in FRAMES:
        raise WorldError(f"no frame for questions of type {kind!r}; there is {', '.join(FRAMES)}")
    words = [
        rng.choice(SYNONYMS[values[name]])
        for name in ("color", "size", "material")
        if name in values
    ]
    noun = rng.choice(SYNONYMS[values.get("shape", "thing")])
    text = rng.choice(FRAMES[kind]).format(
        d=" ".join((*words, noun)), ds=" ".join((*words, _plural(noun)))
    )
    return f"{rng.choice(FILLERS)} {text}" if rng.random() < 1 / 3 else text


@dataclass(frozen=True)
class Paraphrased:
    """Batches of any source, their questions in the made language.

    Attributes:
        source: of questions without relations.
        seed: of words and frames.
    """

    source: Source
    seed: int

    def batch(self, step: int, /) -> Batch:
        """The batch of a step: always the same one."""
        return paraphrased(self.source.batch(step), self.seed, step)


def paraphrased(batch: Batch, seed: int, index: int) -> Batch:
    """A batch with its questions in the made language; see `Paraphrased`."""
    rng = Random(derive_seed(seed, "paraphrase", index))
    rows = []
    for tokens, kind in zip(batch.questions.tolist(), batch.types.tolist(), strict=True):
        text = paraphrase(QUESTION_TYPES[kind], described(tokens), rng)
        rows.append(torch.tensor(encode_with(text, NEW_WORDS)))
    questions = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    lengths = torch.tensor([len(row) for row in rows])
    return replace(batch, questions=questions, lengths=lengths)


def known_words_only(questions: Int64[Tensor, "Q T"]) -> Int64[Tensor, "Q T"]:
    """Questions in which every word outside ``VOCABULARY`` is the unknown one."""
    return torch.where(questions < len(VOCABULARY), questions, UNKNOWN_INDEX)
