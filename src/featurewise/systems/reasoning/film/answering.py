"""The trained system in use: a picture and a question in, answers with probabilities out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from featurewise.analysis import ParameterTable, parameter_table, pooled_places
from featurewise.common.cache import cache_folder
from featurewise.lab.results import Measurement, Proportion
from featurewise.layers.trunks import PooledClassifier
from featurewise.retrofit import Conditioned
from featurewise.systems.reasoning.film.settings import Reasoning
from featurewise.systems.reasoning.film.study import AT_ONCE, held_out, measure, shuffled
from featurewise.worlds.clevr import (
    ANSWERS,
    Batch,
    DiskSource,
    Question,
    Recipe,
    Scene,
    WorldError,
    collate,
    encode,
    load_image,
    unknown_words,
)
from featurewise.worlds.clevr.metrics import GROUPS
from featurewise.worlds.clevr.pool import Progress

__all__ = [
    "Answer",
    "answer",
    "examples",
    "from_folder",
    "groups",
    "held_out",
    "measured",
    "parameters",
    "picture",
]


@dataclass(frozen=True)
class Answer:
    """What the network says to one question about one picture.

    Attributes:
        question: as it was asked.
        ranked: every answer with its probability, the most probable first.
        unknown: words of the question that the network never learnt.
        places: share of the max-pooled features that come from each place of the map, or None
            for a network that pools none.
    """

    question: str
    ranked: tuple[tuple[str, float], ...]
    unknown: tuple[str, ...]
    places: Float[Tensor, "h w"] | None


def answer(network: nn.Module, image: UInt8[Tensor, "3 H W"], question: str) -> Answer:
    """Answers one question about one picture.

    Args:
        network: of any arm, in eval mode.
        image: at the size it was trained on; see `picture`.
        question: in English; unknown words are read as the unknown word.

    Raises:
        WorldError: the question has no words.
    """
    tokens = encode(question)
    if not tokens:
        raise WorldError(f"the question has no words: {question!r}")
    with torch.no_grad():
        logits, pooled = _watched(network, collate(image.unsqueeze(0), [0], [tokens], [-1], [-1]))
    values, order = logits[0].softmax(0).sort(descending=True, stable=True)
    ranked = zip((ANSWERS[i] for i in order.tolist()), values.tolist(), strict=True)
    places = None if pooled is None else pooled_places(pooled)[0]
    return Answer(question, tuple(ranked), tuple(unknown_words(question)), places)


def _watched(network: nn.Module, batch: Batch) -> tuple[Tensor, Tensor | None]:
    """Logits, and the map that was max-pooled on the way there, if one was."""
    classifier = getattr(network, "answer", None)
    if not isinstance(classifier, PooledClassifier):
        return network(batch).logits.float(), None
    seen: list[Tensor] = []
    handle = classifier.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    try:
        logits = network(batch).logits.float()
    finally:
        handle.remove()
    return logits, classifier.map(seen[-1])


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


def from_folder(
    settings: Reasoning,
    folder: Path | str,
    split: str,
    pictures: int | None = None,
    progress: Progress | None = None,
) -> Iterator[Batch]:
    """Pictures and questions from files in the format of CLEVR v1.0.

    Raises:
        FormatError: a file is missing or not what the format promises.
    """
    recipe = _recipe(settings)
    source = DiskSource(
        folder,
        split,
        width=recipe.width,
        height=recipe.height,
        cache=cache_folder() / "clevr",
        progress=progress,
        images_per_batch=1,
    )
    return source.in_order(AT_ONCE, pictures=pictures)


def measured(
    network: nn.Module, settings: Reasoning, batches: Iterable[Batch], *, control: bool = False
) -> Measurement:
    """Accuracy by question type; with ``control``, each question is that of another picture."""
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=settings.bfloat16):
        return measure(network, batches, shuffled if control else None)


def groups(found: Measurement) -> dict[str, tuple[Proportion, tuple[str, ...]]]:
    """The five rows of papers: accuracy, and the question types that each sums up."""
    sums: dict[str, tuple[Proportion, tuple[str, ...]]] = {}
    for group, names in GROUPS.items():
        parts = {name: found.by_type[name] for name in names if name in found.by_type}
        if parts:
            right = sum(part.correct for part in parts.values())
            sums[group] = (
                Proportion(right, sum(part.total for part in parts.values())),
                tuple(parts),
            )
    return sums


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
