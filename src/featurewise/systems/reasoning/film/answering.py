"""The trained system in use: a picture and a question in, answers with probabilities out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from featurewise.analysis import ParameterTable, parameter_table
from featurewise.retrofit import Conditioned
from featurewise.systems.reasoning.film.attention import attention
from featurewise.systems.reasoning.film.measuring import groups, measured, twins
from featurewise.systems.reasoning.film.queries import (
    FolderQueries,
    Predictions,
    from_folder,
    splits,
)
from featurewise.systems.reasoning.film.settings import Folder, Reasoning
from featurewise.systems.reasoning.film.study import held_out
from featurewise.systems.reasoning.film.twins import TWINS
from featurewise.worlds.clevr import (
    ANSWERS,
    Question,
    Recipe,
    Scene,
    WorldError,
    collate,
    encode,
    load_image,
    unknown_words,
)
from featurewise.worlds.clevr.images import framing_note, image_size, visible_rows
from featurewise.worlds.clevr.words import has_known_word, near_words

__all__ = [
    "TWINS",
    "Answer",
    "Folder",
    "FolderQueries",
    "Predictions",
    "answer",
    "attended_rows",
    "attention",
    "examples",
    "framing",
    "from_folder",
    "groups",
    "held_out",
    "measured",
    "parameters",
    "picture",
    "splits",
    "twins",
]


@dataclass(frozen=True)
class Answer:
    """What the network says to one question about one picture.

    Attributes:
        question: as it was asked.
        ranked: every answer with its probability, the most probable first.
        unknown: words of the question that the network never learnt -> known words that are
            spelled like them.
        places: share of the answer that each place of the map accounts for, see `attention`; None
            for a network that pools no map.
    """

    question: str
    ranked: tuple[tuple[str, float], ...]
    unknown: Mapping[str, tuple[str, ...]]
    places: Float[Tensor, "h w"] | None


def answer(network: nn.Module, image: UInt8[Tensor, "3 H W"], question: str) -> Answer:
    """Answers one question about one picture.

    Args:
        network: of any arm, in eval mode.
        image: at the size it was trained on; see `picture`.
        question: in English; unknown words are read as the unknown word.

    Raises:
        WorldError: the question has no words, or none that the network knows.
    """
    unknown = {word: tuple(near_words(word)) for word in unknown_words(question)}
    if not has_known_word(question):
        what = f"no word of the question is known: {question!r}" if unknown else ""
        raise WorldError(what or f"the question has no words: {question!r}")
    tokens = encode(question)
    batch = collate(image.unsqueeze(0), [0], [tokens], [-1], [-1])
    with torch.no_grad():
        values, order = (
            network(batch).logits[0].float().softmax(0).sort(descending=True, stable=True)
        )
    ranked = zip((ANSWERS[i] for i in order.tolist()), values.tolist(), strict=True)
    return Answer(question, tuple(ranked), unknown, attention(network, batch))


def picture(settings: Reasoning, path: Path | str) -> UInt8[Tensor, "3 H W"]:
    """A picture file at the size the network was trained on.

    Raises:
        FormatError: it is missing, damaged, or no picture.
    """
    recipe = _recipe(settings)
    return load_image(path, recipe.width, recipe.height)


def examples(settings: Reasoning, seed: int, count: int) -> list[tuple[Scene, list[Question]]]:
    """New scenes with ten questions each, of the kind the network was trained on."""
    recipe = replace(_recipe(settings), seed=seed, questions_per_image=10)
    scenes = recipe.scenes(0, count)
    return list(zip(scenes, recipe.questions(0, scenes), strict=True))


def framing(settings: Reasoning, path: Path | str) -> str | None:
    """What is done to a picture file of another shape than the network's; None where it fits.

    Raises:
        FormatError: it is missing, damaged, or no picture.
    """
    recipe = _recipe(settings)
    return framing_note(image_size(path), (recipe.width, recipe.height))


def attended_rows(settings: Reasoning, size: tuple[int, int]) -> tuple[float, float]:
    """First and last row of a picture of this width and height that the network sees."""
    recipe = _recipe(settings)
    return visible_rows(size, (recipe.width, recipe.height))


def parameters(network: nn.Module, questions: Sequence[str]) -> ParameterTable | None:
    """γ and β that the questions give; None for a network that is not conditioned."""
    trunk = getattr(network, "trunk", None)
    if not isinstance(trunk, Conditioned):
        return None
    images = torch.zeros(1, 3, 1, 1, dtype=torch.uint8)
    nothing = [-1] * len(questions)
    batch = collate(images, [0] * len(questions), [encode(q) for q in questions], nothing, nothing)
    with torch.no_grad():
        return parameter_table(trunk.represent((batch.questions, batch.lengths)))


def _recipe(settings: Reasoning) -> Recipe:
    """Of the last lesson, the one that counts."""
    return settings.lessons[-1].recipe
