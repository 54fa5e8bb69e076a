"""What the explorer shows of FiLM: γ and β of questions about images of no run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from featurewise.core import TaskRepresentation
from featurewise.study.exploration import Exploration
from featurewise.systems.reasoning.film.config import Config
from featurewise.systems.reasoning.film.network import FilmNetwork, image_features
from featurewise.systems.reasoning.film.sums import ImageQuestion, sums
from featurewise.training.errors import ExperimentError
from featurewise.worlds.clevr import (
    ANSWERS,
    Recipe,
    Scene,
    WorldError,
    collate,
    encode,
    render,
)
from featurewise.worlds.clevr.programs import question_type
from featurewise.worlds.clevr.vocabulary import RELATIONS
from featurewise.worlds.clevr.words import has_known_word, tokenize

IMAGES = 24
QUESTIONS_PER_IMAGE = 21
SEED = 78_000
"""Of scenes that no run is trained or tested on."""

CONTRASTS = (
    ("left", "right"),
    ("front", "behind"),
    ("rubber|matte", "metal|metallic|shiny"),
)
PAIRS = 6
TRIPLES = 6


def exploration(network: nn.Module, config: Config) -> Exploration:
    """Questions of all kinds that the network was trained on, and what it answers.

    Args:
        network: of an arm with FiLM, in eval mode.
        config: of its run.

    Raises:
        ExperimentError: the network has no FiLM.
    """
    if not isinstance(network, FilmNetwork):
        raise ExperimentError(
            f"{type(network).__name__} is not conditioned by FiLM; explore a run of arm film"
        )
    recipe = replace(
        config.curriculum[-1].recipe,
        seed=SEED,
        questions_per_image=QUESTIONS_PER_IMAGE,
    )
    scenes = recipe.scenes(0, IMAGES)
    questions = _questions(recipe, scenes)
    count = len(questions)
    triples = []
    for each in sums(scenes)[:TRIPLES]:
        first = len(questions)
        questions += each.questions
        expected = f"{each.result.text} {each.result.answer}"
        triples.append((first, first + 1, first + 2, expected))
    device = next(network.parameters()).device
    rows, none = [each.image for each in questions], [-1] * len(questions)
    shown = render(
        scenes,
        width=recipe.width,
        height=recipe.height,
        samples=recipe.samples,
        renderer="torch",
    ).images
    tokens = [encode(each.text) for each in questions]
    batch = collate(shown, rows, tokens, none, none).to(device)
    with torch.no_grad():
        features = image_features(network.stem, batch.images)
        task = network.trunk.represent((batch.questions, batch.lengths))

    def respond(task: TaskRepresentation, condition: int) -> Float[Tensor, "S 28"]:
        images = features[[rows[condition]] * len(task)]
        logits: Tensor = network.answer(network.trunk(images, task=task))
        return logits.float().softmax(1)

    def represent(question: str) -> TaskRepresentation:
        if not has_known_word(question):
            raise WorldError(f"no word of the question is known: {question!r}")
        one = collate(shown[:1], [0], [encode(question)], [-1], [-1]).to(device)
        with torch.no_grad():
            return network.trunk.represent((one.questions, one.lengths))

    sizes = f"{recipe.min_objects} to {recipe.max_objects} objects"
    shown_images = [Image.fromarray(each.permute(1, 2, 0).numpy()) for each in shown]
    return Exploration(
        task=task,
        title="FiLM on CLEVR-like images",
        data=f"{count:,} questions about {IMAGES} images of {sizes}, and {len(questions) - count} "
        "questions whose γ and β are added; neither images nor questions are of any run.",
        labels={
            "type of question": [each.kind.replace("_", " ") for each in questions],
            "question": [each.text for each in questions],
            "relations": [_relations(each.text) for each in questions],
            "true answer": [each.answer for each in questions],
        },
        images=[shown_images[row] for row in rows],
        contrasts=_contrasts(questions),
        respond=respond,
        outputs=ANSWERS,
        pairs=_pairs(questions[:count]),
        triples=triples,
        represent=represent,
    )


def _questions(recipe: Recipe, scenes: Sequence[Scene]) -> list[ImageQuestion]:
    return [
        ImageQuestion(each.text, image, question_type(each.program), each.answer)
        for image, some in enumerate(recipe.questions(0, scenes))
        for each in some
    ]


def _relations(text: str) -> int:
    return sum(word in RELATIONS for word in tokenize(text))


def _pairs(questions: Sequence[ImageQuestion]) -> list[tuple[int, int]]:
    """Counting questions about one image with different answers, the smaller first.

    One pair of an image, that with the greatest difference, of the images where it is largest.
    """
    counts: dict[int, list[int]] = {}
    for row, each in enumerate(questions):
        if each.kind == "count":
            counts.setdefault(each.image, []).append(row)

    def number(row: int) -> int:
        return int(questions[row].answer)

    found = [(min(rows, key=number), max(rows, key=number)) for rows in counts.values()]
    found.sort(key=lambda pair: number(pair[0]) - number(pair[1]))
    return [pair for pair in found if number(pair[0]) < number(pair[1])][:PAIRS]


def _contrasts(questions: Sequence[ImageQuestion]) -> list[tuple[str, str]]:
    """Those whose words occur: a network of an easy stage knows no relations."""
    known = {word for each in questions for word in tokenize(each.text)}
    return [
        pair for pair in CONTRASTS if all(known & {*group.split("|")} for group in pair)
    ]
