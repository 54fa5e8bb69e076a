"""The twin test of a network: does it read left, right, in front and behind?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from featurewise.study.results import Proportion
from featurewise.systems.reasoning.film.settings import Reasoning
from featurewise.worlds.clevr import (
    ANSWERS,
    ClevrFolder,
    FormatError,
    PoolSource,
    Recipe,
    Scene,
    collate,
    encode,
    iter_scenes,
    load_image,
)
from featurewise.worlds.clevr.cache import cached_pool
from featurewise.worlds.clevr.twins import OPPOSITES, TwinPair, twin_pairs

SCENES = 250
"""Scenes of the built-in world that the test is made on; about 400 pairs a direction."""

_TEST = "twin test: two objects of one shape and different colors stand {} of a third; {}"
_SIDES = {"left_right": "left and right", "front_behind": "in front and behind"}
_WHERE = {"left": "on the left", "right": "on the right", "front": "in front", "behind": "behind"}
TWINS = {
    **{
        f"twin_{relation}": _TEST.format(
            _SIDES["_".join(pair)],
            f"questions for the color of the one {_WHERE[relation]} that are answered right",
        )
        for pair in OPPOSITES
        for relation in pair
    },
    **{
        f"twin_{what}_{sides}": f"twin test, {said}: {sentence}"
        for what, sentence in {
            "pair": "pairs of questions with both answers right",
            "mirrored": "questions answered with the color of the twin on the other side",
            "changed": "pairs whose two answers differ",
        }.items()
        for sides, said in _SIDES.items()
    },
}
"""Name -> what the twin test measures, all proportions; see `featurewise.worlds.clevr.twins`."""

Seen = tuple[UInt8[Tensor, "I 3 H W"], Sequence[Scene]]
"""Images and the scenes that they show."""


def rendered(settings: Reasoning, limit: int | None = None) -> Iterator[Seen]:
    """Images of the built-in world that no run is trained or measured on otherwise."""
    recipe = settings.lessons[-1].recipe
    recipe = replace(recipe, seed=recipe.seed + 10_000, questions_per_image=1, families=None)
    count = min(SCENES, limit or SCENES)
    pool = PoolSource(cached_pool(recipe, count), images_per_batch=1).pool
    yield torch.from_numpy(pool.images.copy()), _scenes(recipe, count)


@lru_cache(maxsize=2)
def _scenes(recipe: Recipe, count: int) -> Sequence[Scene]:
    return recipe.scenes(0, count)


def of_folder(
    settings: Reasoning, folder: Path, split: str, limit: int | None = None
) -> Iterator[Seen]:
    """Images of a data set in the layout of CLEVR v1.0, whose scenes file tells what they show.

    Raises:
        FormatError: a file is missing or not what the format promises.
    """
    place, recipe = ClevrFolder(folder, split), settings.lessons[-1].recipe
    if not place.scenes.is_file():
        raise FormatError.at(place.scenes, "not found; the twin test needs it")
    for number, record in enumerate(iter_scenes(place.scenes)):
        if number == limit:
            return
        path = place.image(record.image_filename)
        yield load_image(path, recipe.width, recipe.height).unsqueeze(0), [record.scene]


def measure_twins(network: nn.Module, seen: Iterable[Seen]) -> dict[str, Proportion]:
    """The proportions of `TWINS`; without those that no scene has a pair for.

    Args:
        network: of any arm, in eval mode.
        seen: images and their scenes.
    """
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for images, scenes in seen:
        pairs = [(row, pair) for row, scene in enumerate(scenes) for pair in twin_pairs(scene)]
        said = iter(_answers(network, images, pairs))
        for (_, pair), answers in zip(pairs, zip(said, said, strict=True), strict=True):
            for name, hit in _hits(pair, answers):
                right[name] += hit
                total[name] += 1
    return {name: Proportion(right[name], total[name]) for name in TWINS if total[name]}


def _hits(pair: TwinPair, said: tuple[str, str]) -> Iterator[tuple[str, bool]]:
    """What counts for each proportion."""
    both = "_".join(pair.relations)
    hits = [answer == truth for answer, truth in zip(said, pair.answers, strict=True)]
    for relation, hit in zip(pair.relations, hits, strict=True):
        yield f"twin_{relation}", hit
    for answer, mirrored in zip(said, reversed(pair.answers), strict=True):
        yield f"twin_mirrored_{both}", answer == mirrored
    yield f"twin_pair_{both}", all(hits)
    yield f"twin_changed_{both}", said[0] != said[1]


def _answers(
    network: nn.Module, images: UInt8[Tensor, "I 3 H W"], pairs: Sequence[tuple[int, TwinPair]]
) -> Iterator[str]:
    """The answers to both questions of every pair, one after the other."""
    device = next(network.parameters(), torch.empty(0)).device
    for start in range(0, len(pairs), 250):
        some = pairs[start : start + 250]
        rows = sorted({row for row, _ in some})
        index = [rows.index(row) for row, pair in some for _ in pair.questions]
        tokens = [encode(question) for _, pair in some for question in pair.questions]
        nothing = [-1] * len(index)
        batch = collate(images[rows], index, tokens, nothing, nothing).to(device)
        with torch.no_grad():
            yield from (ANSWERS[i] for i in network(batch).logits.argmax(1).tolist())
