"""Episodes: few-shot tasks of a few classes, each with a support set and queries.

The images come from a pool of classes: the letters of Unicode scripts (:func:`script_pool`), or
Omniglot, miniImageNet or FC100 in their own files (:mod:`featurewise.worlds.glyphs.formats`).
Source: Vinyals et al. 2016, *Matching Networks for One Shot Learning*.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float, Int64, UInt8
from PIL.Image import Image
from torch import Tensor

from featurewise.common.rng import seeded_rng
from featurewise.worlds.glyphs.errors import GlyphError
from featurewise.worlds.glyphs.render import glyphs, scripts
from featurewise.worlds.glyphs.sheets import sheet
from featurewise.worlds.glyphs.source import jittered


@runtime_checkable
class Pool(Protocol):
    """Images by class. Each class belongs to a group: a letter to its script."""

    @property
    def names(self) -> Sequence[str]:
        """Names of the classes."""

    @property
    def groups(self) -> Sequence[str]:
        """Group of each class; :func:`split_classes` keeps groups together."""

    def count(self, label: int) -> int:
        """Number of images of a class."""

    def image(self, label: int, index: int) -> UInt8[Tensor, "C S S"]:
        """One image of a class; all images have the same size."""


@dataclass(frozen=True)
class InMemoryPool:
    """A pool in memory.

    Attributes:
        names: names of the classes.
        groups: group of each class.
        images: for each class, its images (P, C, S, S).
    """

    names: tuple[str, ...]
    groups: tuple[str, ...]
    images: tuple[UInt8[Tensor, "_ C S S"], ...]

    def count(self, label: int) -> int:
        """Number of images of a class."""
        return len(self.images[label])

    def image(self, label: int, index: int) -> UInt8[Tensor, "C S S"]:
        """One image of a class."""
        return self.images[label][index]


def script_pool(
    where: str | Path = "bundled",
    size: int = 28,
    typefaces: int = 6,
    letters: int = 30,
    min_typefaces: int = 2,
) -> InMemoryPool:
    """The letters of Unicode scripts, each letter a class, each typeface of the script an image.

    Args:
        where: as in :func:`featurewise.worlds.glyphs.typefaces.find_typefaces`.
        size: height and width of an image, in pixels.
        typefaces: maximum for a script; of more, evenly spaced ones are taken.
        letters: maximum for a script; of more, evenly spaced ones are taken.
        min_typefaces: scripts with fewer typefaces are left out. Episodes need 2: one for the
            support set and one for the queries.

    Raises:
        TypefaceError: the location is missing.
        GlyphError: a number below 1, ``min_typefaces`` above ``typefaces``, or no script is left.
    """
    if typefaces < 1 or letters < 1:
        raise GlyphError(f"typefaces and letters must be 1 or more, got {typefaces} and {letters}")
    if not 1 <= min_typefaces <= typefaces:
        raise GlyphError(
            f"min_typefaces must be from 1 to typefaces={typefaces}, got {min_typefaces}"
        )
    return _script_pool(where, size, typefaces, letters, min_typefaces)


@lru_cache(maxsize=4)  # reading all fonts of a system takes seconds
def _script_pool(
    where: str | Path, size: int, typefaces: int, letters: int, min_typefaces: int
) -> InMemoryPool:
    names: list[str] = []
    groups: list[str] = []
    images: list[Tensor] = []
    for script in scripts(where).values():
        if len(script.typefaces) < min_typefaces:
            continue
        chosen = "".join(_evenly_spaced(script.letters, letters))
        rendered = glyphs(_evenly_spaced(script.typefaces, typefaces), chosen, size).images
        images += [rendered[:, i, None] for i in range(len(chosen))]
        names += [f"{script.name} {letter}" for letter in chosen]
        groups += [script.name] * len(chosen)
    if not names:
        raise GlyphError(f"{where}: no script has {min_typefaces} typefaces or more")
    return InMemoryPool(tuple(names), tuple(groups), tuple(images))


ItemT = TypeVar("ItemT")


def _evenly_spaced(items: Sequence[ItemT], most: int) -> list[ItemT]:
    step = max(1.0, len(items) / most)
    return [items[int(i * step)] for i in range(min(most, len(items)))]


class ClassSplit(NamedTuple):
    """Classes (positions in a pool) in three parts that share no group."""

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]


#: Scripts with letters of the same form as Latin ones: they stay in one part with Latin.
_RELATED: Final = dict.fromkeys(("GREEK", "CYRILLIC", "COPTIC", "OLD ITALIC"), "LATIN")
_TRAIN, _VALIDATION = 0.6, 0.15


def split_classes(pool: Pool, seed: int = 0) -> ClassSplit:
    """Splits classes by group: 60 % of the groups for training, 15 % for validation, 25 % for test.

    Groups are ordered by a hash of their name and the seed, the same on every machine. Scripts
    that share letters (Latin, Greek, Cyrillic, Coptic, Old Italic) stay together.

    Raises:
        GlyphError: fewer than three groups.
    """
    unit = [_RELATED.get(group, group) for group in pool.groups]
    order = sorted(set(unit), key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
    if len(order) < 3:
        raise GlyphError(f"three parts need three unrelated groups, got {order}")
    first = min(max(1, round(_TRAIN * len(order))), len(order) - 2)
    second = min(first + max(1, round(_VALIDATION * len(order))), len(order) - 1)
    part_of = {name: (i >= first) + (i >= second) for i, name in enumerate(order)}
    parts = [tuple(i for i, name in enumerate(unit) if part_of[name] == part) for part in range(3)]
    return ClassSplit(*parts)


@dataclass(frozen=True)
class Episodes:
    """E tasks of N classes.

    Attributes:
        support: K images of each class, values in [0, 1], ordered by class.
        support_labels: 0 to N - 1.
        query: Q images of each class, ordered by class.
        query_labels: 0 to N - 1.
        auxiliary_images: A images of all classes for each episode; None if A is 0.
        auxiliary_labels: their class, among all classes of the source.
    """

    support: Float[Tensor, "E NK C S S"]
    support_labels: Int64[Tensor, "E NK"]
    query: Float[Tensor, "E NQ C S S"]
    query_labels: Int64[Tensor, "E NQ"]
    auxiliary_images: Float[Tensor, "E A C S S"] | None = None
    auxiliary_labels: Int64[Tensor, "E A"] | None = None


@runtime_checkable
class EpisodeBatches(Protocol):
    """Batches of episodes by index."""

    def batch(self, index: int, /) -> Episodes:
        """The batch with this index, the same at every call."""


class EpisodeSource:
    """Batches of episodes by index.

    No query image of an episode is one of its support images. Within the support images of a class
    an image occurs again only if the class has fewer images than shots, and then with another
    jitter; the same holds within its queries.

    Args:
        pool: the images.
        classes: positions in the pool of the classes to sample from; None for all.
        way: classes of an episode, N.
        shot: support images of a class, K.
        queries: query images of a class, Q.
        episodes: episodes in a batch, E.
        seed: batch ``i`` depends on the seed and on ``i`` only.
        jitter: as in :class:`featurewise.worlds.glyphs.source.GlyphSource`.
        same_group: sample a group for each episode, and its classes from this group (the letters
            of one script); otherwise sample them from all classes.
        auxiliary: images of an auxiliary task for each episode, classification among all classes;
            A.

    Attributes:
        classes: as given; an auxiliary label is a position in it.

    Raises:
        GlyphError: a number that is too small, too few classes, or too few images of a class: 2,
            or shot + queries without jitter.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        classes: Sequence[int] | None = None,
        way: int = 5,
        shot: int = 1,
        queries: int = 5,
        episodes: int = 8,
        seed: int = 0,
        jitter: float = 1.0,
        same_group: bool = True,
        auxiliary: int = 0,
    ) -> None:
        self.pool = pool
        self.classes = tuple(range(len(pool.names)) if classes is None else classes)
        self.way, self.shot, self.queries, self.episodes = way, shot, queries, episodes
        self.seed, self.jitter, self.auxiliary = seed, jitter, auxiliary
        self._groups = self._grouped(same_group)
        self._check()

    def _grouped(self, same_group: bool) -> list[list[int]]:
        """Groups with enough classes, or all classes as one group."""
        groups: dict[str, list[int]] = {}
        for label in self.classes:
            groups.setdefault(self.pool.groups[label] if same_group else "", []).append(label)
        return [labels for labels in groups.values() if len(labels) >= self.way]

    def _check(self) -> None:
        numbers = (self.shot, self.queries, self.episodes)
        if self.way < 2 or min(numbers) < 1 or self.auxiliary < 0 or not 0 <= self.jitter < 4:
            raise GlyphError(
                "way must be 2 or more, shot, queries and episodes 1 or more, auxiliary 0 or more "
                f"and jitter from 0 to below 4; got way {self.way}, shot, queries and episodes "
                f"{numbers}, auxiliary {self.auxiliary}, jitter {self.jitter}"
            )
        if not self._groups:
            raise GlyphError(
                f"no group has {self.way} of the {len(self.classes)} classes, as way={self.way} "
                "needs"
            )
        needed = 2 if self.jitter else self.shot + self.queries
        for label in self.classes:
            if self.pool.count(label) < needed:
                name, count = self.pool.names[label], self.pool.count(label)
                raise GlyphError(f"{name}: {count} images; an episode needs {needed} of each class")

    def batch(self, index: int) -> Episodes:
        """The batch with this index, the same at every call."""
        rng = seeded_rng(self.seed, index)
        tasks = [image for _ in range(self.episodes) for image in self._sample_episode(rng)]
        shape = (self.episodes, self.auxiliary)
        labels = [self._sample_below(len(self.classes), rng) for _ in range(shape[0] * shape[1])]
        auxiliary = [self._sample_image(self.classes[label], rng) for label in labels]
        images = self._to_float(torch.stack([*tasks, *auxiliary]), rng)
        episodes = images[: len(tasks)].view(self.episodes, -1, *images.shape[1:])
        support_size = self.way * self.shot
        return Episodes(
            episodes[:, :support_size],
            self._labels(self.shot),
            episodes[:, support_size:],
            self._labels(self.queries),
            images[len(tasks) :].view(*shape, *images.shape[1:]) if auxiliary else None,
            torch.tensor(labels).view(shape) if auxiliary else None,
        )

    def _sample_episode(self, rng: torch.Generator) -> list[Tensor]:
        """The images of an episode: support of all classes, then queries of all classes."""
        group = self._groups[self._sample_below(len(self._groups), rng)]
        classes = torch.randperm(len(group), generator=rng)[: self.way].tolist()
        support: list[Tensor] = []
        query: list[Tensor] = []
        for label in (group[i] for i in classes):
            count = self.pool.count(label)
            order = torch.randperm(count, generator=rng).tolist()
            border = min(self.shot, count - 1)
            for images, rows, needed in (
                (support, order[:border], self.shot),
                (query, order[border:], self.queries),
            ):
                images += [self.pool.image(label, rows[i % len(rows)]) for i in range(needed)]
        return support + query

    def _sample_image(self, label: int, rng: torch.Generator) -> Tensor:
        return self.pool.image(label, self._sample_below(self.pool.count(label), rng))

    def _to_float(self, images: Tensor, rng: torch.Generator) -> Tensor:
        """Network input: values in [0, 1], each image with its own jitter."""
        images = images.float() / 255
        if not self.jitter:
            return images
        if images.shape[1] != 1:
            raise GlyphError(f"jitter is for images of one channel, got {images.shape[1]} channels")
        return jittered(images, self.jitter, rng)

    def _labels(self, repeats: int) -> Tensor:
        return torch.arange(self.way).repeat_interleave(repeats).repeat(self.episodes, 1)

    @staticmethod
    def _sample_below(limit: int, rng: torch.Generator) -> int:
        return int(torch.randint(limit, (), generator=rng))


class ShuffledLabels:
    """Control: the same episodes, with support labels permuted at random within each episode.

    Such a support set carries no information: the expected accuracy is that of guessing, 1 / N.
    """

    def __init__(self, source: EpisodeSource) -> None:
        self.source = source

    def batch(self, index: int) -> Episodes:
        """The batch with this index, the same at every call."""
        episodes = self.source.batch(index)
        labels = episodes.support_labels
        rng = seeded_rng(self.source.seed, "condition", index)
        order = torch.rand(labels.shape, generator=rng).argsort(1)
        return replace(episodes, support_labels=labels.gather(1, order))


@dataclass(frozen=True)
class ConditionedEpisodes(Episodes):
    """Episodes, each with a condition.

    Attributes:
        condition: support images, of the episode itself or of another; None for no condition.
    """

    condition: Float[Tensor, "E NK C S S"] | None = None


class EpisodeConditioning:
    """Conditions each episode on its own support images.

    Args:
        source: of the episodes.
    """

    def __init__(self, source: EpisodeBatches) -> None:
        self.source = source

    def batch(self, index: int, /) -> ConditionedEpisodes:
        """The batch with this index, the same at every call."""
        episodes = self.source.batch(index)
        return ConditionedEpisodes(**vars(episodes), condition=episodes.support)


def next_episode(index: int, batch: Episodes) -> Int64[Tensor, " E"]:
    """For each episode of a batch the position of the next one; for the last one, of the first."""
    return torch.arange(len(batch.support)).roll(-1)


def episode_sheet(
    batch: Episodes, predictions: Int64[Tensor, "E NQ"], count: int = 2, zoom: int = 2
) -> Image:
    """The first episodes, a class a row: its support images, a gap, its queries.

    Wrongly classified queries are white on black; the label of a row is the fraction of its
    queries that are classified correctly.

    Args:
        batch: images of one channel, ordered by class as `EpisodeSource` gives them.
        predictions: the predicted class of each query.
        count: number of episodes.
        zoom: as in :func:`featurewise.worlds.glyphs.sheets.sheet`.
    """
    rows: list[Tensor] = []
    labels: list[str] = []
    way = int(batch.query_labels.max()) + 1
    for episode in range(min(count, len(predictions))):
        right = predictions[episode] == batch.query_labels[episode]
        inverted = (~right).to(batch.query.dtype)[:, None, None, None]
        query = (batch.query[episode] - inverted).abs()
        support = batch.support[episode].view(way, -1, *query.shape[1:])
        query = query.view(way, -1, *query.shape[1:])
        rows.append(torch.cat((support, torch.zeros_like(support[:, :1]), query), dim=1))
        labels += [f"{int(n)}/{query.shape[1]}" for n in right.view(way, -1).sum(1)]
    return sheet(torch.cat(rows), labels, zoom)
