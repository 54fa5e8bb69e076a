"""Episodes: small tasks of a few classes, each a support set to learn from and queries.

Any pool of pictures by class will do: the letters of the world's scripts (:func:`script_pool`),
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

from featurewise.worlds.glyphs.errors import GlyphError
from featurewise.worlds.glyphs.render import glyphs, scripts
from featurewise.worlds.glyphs.sheets import sheet
from featurewise.worlds.glyphs.source import generator, jittered


@runtime_checkable
class Pool(Protocol):
    """Pictures by class. A class belongs to a group: a letter to its script."""

    @property
    def names(self) -> Sequence[str]:
        """Of the classes."""

    @property
    def groups(self) -> Sequence[str]:
        """What each class belongs to; by these, classes are parted."""

    def count(self, label: int) -> int:
        """How many pictures a class has."""

    def picture(self, label: int, index: int) -> UInt8[Tensor, "C S S"]:
        """One of them, all of one size."""


@dataclass(frozen=True)
class Stacked:
    """A pool in memory.

    Attributes:
        names: of the classes.
        groups: of the classes.
        pictures: (P, C, S, S) for each class.
    """

    names: tuple[str, ...]
    groups: tuple[str, ...]
    pictures: tuple[UInt8[Tensor, "_ C S S"], ...]

    def count(self, label: int) -> int:
        """How many pictures a class has."""
        return len(self.pictures[label])

    def picture(self, label: int, index: int) -> UInt8[Tensor, "C S S"]:
        """One of them."""
        return self.pictures[label][index]


def script_pool(
    where: str | Path = "bundled",
    size: int = 28,
    faces: int = 6,
    letters: int = 30,
    fewest: int = 2,
) -> Stacked:
    """The letters of the scripts that a place's typefaces draw, each in all of its faces.

    Args:
        where: as in :func:`featurewise.worlds.glyphs.typefaces.find_typefaces`.
        size: height and width of a picture.
        faces: most of a script; more are thinned out evenly, as are letters.
        letters: most of a script.
        fewest: faces of a script; those with fewer are left out. Episodes take 2, one to show and
            one to ask about.

    Raises:
        TypefaceError: the place is missing.
        GlyphError: a number below 1, more faces at least than at most, or no script.
    """
    if faces < 1 or letters < 1:
        raise GlyphError(f"a script has 1 face and 1 letter at least, got {faces} and {letters}")
    if not 1 <= fewest <= faces:
        raise GlyphError(f"scripts have from 1 to {faces} faces at least, got fewest={fewest}")
    return _script_pool(where, size, faces, letters, fewest)


@lru_cache(maxsize=4)  # to look through all fonts of a system takes seconds
def _script_pool(where: str | Path, size: int, faces: int, letters: int, fewest: int) -> Stacked:
    names: list[str] = []
    groups: list[str] = []
    pictures: list[Tensor] = []
    for script in scripts(where).values():
        if len(script.typefaces) < fewest:
            continue
        chosen = "".join(_thinned(script.letters, letters))
        drawn = glyphs(_thinned(script.typefaces, faces), chosen, size).images
        pictures += [drawn[:, i, None] for i in range(len(chosen))]
        names += [f"{script.name} {letter}" for letter in chosen]
        groups += [script.name] * len(chosen)
    if not names:
        raise GlyphError(f"{where}: its typefaces draw no script")
    return Stacked(tuple(names), tuple(groups), tuple(pictures))


ItemT = TypeVar("ItemT")


def _thinned(items: Sequence[ItemT], most: int) -> list[ItemT]:
    step = max(1.0, len(items) / most)
    return [items[int(i * step)] for i in range(min(most, len(items)))]


class Parts(NamedTuple):
    """Classes (positions in a pool) in three parts that share no group."""

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]


#: These have letters of one form; who has learned one script knows some of another.
_KIN: Final = dict.fromkeys(("GREEK", "CYRILLIC", "COPTIC", "OLD ITALIC"), "LATIN")
_TRAIN, _VALIDATION = 0.6, 0.15


def parts(pool: Pool, seed: int = 0) -> Parts:
    """Classes parted by group: 60 % of the groups to train, 15 % to validate, the rest to test.

    Groups are put in the order of a hash of their name and the seed, the same on every machine.
    Scripts that share letters (Latin, Greek, Cyrillic, Coptic, Old Italic) stay together.

    Raises:
        GlyphError: fewer than three groups.
    """
    kin = [_KIN.get(group, group) for group in pool.groups]
    order = sorted(set(kin), key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
    if len(order) < 3:
        raise GlyphError(f"three parts need three unrelated groups, got {order}")
    first = min(max(1, round(_TRAIN * len(order))), len(order) - 2)
    second = min(first + max(1, round(_VALIDATION * len(order))), len(order) - 1)
    part_of = {name: (i >= first) + (i >= second) for i, name in enumerate(order)}
    of = [tuple(i for i, name in enumerate(kin) if part_of[name] == part) for part in range(3)]
    return Parts(*of)


@dataclass(frozen=True)
class Episodes:
    """E tasks of N classes.

    Attributes:
        support: K pictures of each class, values in [0, 1], class after class.
        support_labels: 0 to N - 1.
        query: Q pictures of each class.
        query_labels: 0 to N - 1.
        auxiliary_images: pictures of all classes, A for each episode; None when not asked for.
        auxiliary_labels: which of all classes of the source.
    """

    support: Float[Tensor, "E NK C S S"]
    support_labels: Int64[Tensor, "E NK"]
    query: Float[Tensor, "E NQ C S S"]
    query_labels: Int64[Tensor, "E NQ"]
    auxiliary_images: Float[Tensor, "E A C S S"] | None = None
    auxiliary_labels: Int64[Tensor, "E A"] | None = None


class EpisodeSource:
    """Batches of episodes, by number.

    No query picture of an episode is one of its support pictures. Otherwise a class's pictures
    differ from one another as long as it has enough of them; with fewer, they come again, jittered
    anew, those of the support and those of the queries each among themselves.

    Args:
        pool: the pictures.
        classes: those to draw from, as positions in the pool; None for all.
        way: classes of an episode, N.
        shot: support pictures of a class, K.
        queries: query pictures of a class, Q.
        episodes: in a batch, E.
        seed: batch ``i`` depends on it and on ``i`` alone.
        jitter: as in :class:`featurewise.worlds.glyphs.source.GlyphSource`.
        together: the classes of an episode come from one group (letters of one script), which is
            drawn first; otherwise from all.
        auxiliary: pictures a batch holds besides, for each episode, to tell all classes apart; A.

    Attributes:
        classes: as given; an auxiliary label is a position in it.

    Raises:
        GlyphError: a number that is too small, too few classes, or too few pictures of a class:
            two, or without jitter all that an episode takes.
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
        together: bool = True,
        auxiliary: int = 0,
    ) -> None:
        self.pool = pool
        self.classes = tuple(range(len(pool.names)) if classes is None else classes)
        self.way, self.shot, self.queries, self.episodes = way, shot, queries, episodes
        self.seed, self.jitter, self.auxiliary = seed, jitter, auxiliary
        self._groups = self._grouped(together)
        self._check()

    def _grouped(self, together: bool) -> list[list[int]]:
        """Groups that have enough classes, or all classes as one."""
        groups: dict[str, list[int]] = {}
        for label in self.classes:
            groups.setdefault(self.pool.groups[label] if together else "", []).append(label)
        return [labels for labels in groups.values() if len(labels) >= self.way]

    def _check(self) -> None:
        numbers = (self.shot, self.queries, self.episodes)
        if self.way < 2 or min(numbers) < 1 or self.auxiliary < 0 or not 0 <= self.jitter < 4:
            raise GlyphError(
                "an episode has 2 classes, a shot and a query at least, a batch an episode, and "
                f"jitter is from 0 to below 4; got way {self.way}, shot, queries and episodes "
                f"{numbers}, auxiliary {self.auxiliary}, jitter {self.jitter}"
            )
        if not self._groups:
            raise GlyphError(f"no group of the {len(self.classes)} classes has {self.way} of them")
        wanted = 2 if self.jitter else self.shot + self.queries
        for label in self.classes:
            if self.pool.count(label) < wanted:
                name, count = self.pool.names[label], self.pool.count(label)
                raise GlyphError(f"{name}: {count} pictures; an episode takes {wanted} of a class")

    def batch(self, index: int) -> Episodes:
        """The batch of a number: the same at every call."""
        chance = generator(self.seed, index)
        drawn = [self._draw(chance) for _ in range(self.episodes)]
        each = self.way * self.shot
        pictures = [picture for one in drawn for picture in one]
        extra = (self.episodes, self.auxiliary)
        labels = [self._lot(len(self.classes), chance) for _ in range(extra[0] * extra[1])]
        others = [self._picture(self.classes[label], chance) for label in labels]
        images = self._seen(torch.stack([*pictures, *others]), chance)
        tasks = images[: len(pictures)].view(self.episodes, -1, *images.shape[1:])
        return Episodes(
            tasks[:, :each],
            self._labels(self.shot),
            tasks[:, each:],
            self._labels(self.queries),
            images[len(pictures) :].view(*extra, *images.shape[1:]) if others else None,
            torch.tensor(labels).view(extra) if others else None,
        )

    def _draw(self, chance: torch.Generator) -> list[Tensor]:
        """The pictures of an episode: support of all classes, then queries of all."""
        group = self._groups[self._lot(len(self._groups), chance)]
        order = torch.randperm(len(group), generator=chance)[: self.way].tolist()
        support: list[Tensor] = []
        query: list[Tensor] = []
        for label in (group[i] for i in order):
            count = self.pool.count(label)
            lots = torch.randperm(count, generator=chance).tolist()
            shown, asked = lots[: min(self.shot, count - 1)], lots[min(self.shot, count - 1) :]
            for taken, rows, times in ((support, shown, self.shot), (query, asked, self.queries)):
                taken += [self.pool.picture(label, rows[i % len(rows)]) for i in range(times)]
        return support + query

    def _picture(self, label: int, chance: torch.Generator) -> Tensor:
        return self.pool.picture(label, self._lot(self.pool.count(label), chance))

    def _seen(self, pictures: Tensor, chance: torch.Generator) -> Tensor:
        """As a network sees them: floats, each jittered by its own lots."""
        images = pictures.float() / 255
        if not self.jitter:
            return images
        if images.shape[1] != 1:
            raise GlyphError(f"jitter is for pictures of ink alone, got {images.shape[1]} channels")
        return jittered(images, self.jitter, chance)

    def _labels(self, times: int) -> Tensor:
        return torch.arange(self.way).repeat_interleave(times).repeat(self.episodes, 1)

    @staticmethod
    def _lot(below: int, chance: torch.Generator) -> int:
        return int(torch.randint(below, (), generator=chance))


class Relabelled:
    """Control: the same episodes, their support labels dealt among the support pictures by lot.

    Nothing can be learned from such a support set: queries are named at chance.
    """

    def __init__(self, source: EpisodeSource) -> None:
        self.source = source

    def batch(self, index: int) -> Episodes:
        """The batch of a number: the same at every call."""
        episodes = self.source.batch(index)
        labels = episodes.support_labels
        chance = generator(self.source.seed, -1 - index)
        order = torch.rand(labels.shape, generator=chance).argsort(1)
        return replace(episodes, support_labels=labels.gather(1, order))


@dataclass(frozen=True)
class ToldEpisodes(Episodes):
    """Episodes, and by what a network may be told of each.

    Attributes:
        told: support pictures of the episode, or of another.
    """

    told: Float[Tensor, "E NK C S S"] | None = None


class Telling:
    """Tells each episode's own support or, as a control, that of the next in the batch."""

    def __init__(self, source: EpisodeSource, others: bool = False) -> None:
        self.source, self.others = source, others

    def batch(self, index: int) -> ToldEpisodes:
        """The batch of a number: the same at every call."""
        episodes = self.source.batch(index)
        told = episodes.support.roll(-1, 0) if self.others else episodes.support
        return ToldEpisodes(**vars(episodes), told=told)


def episode_sheet(
    batch: Episodes, named: Int64[Tensor, "E NQ"], count: int = 2, zoom: int = 2
) -> Image:
    """The first episodes, a class a row: its support, a gap, its queries.

    Queries that were named wrongly are white on black; at the left, how many were named rightly.

    Args:
        batch: of ink pictures, class after class as `EpisodeSource` gives them.
        named: the class that each query was taken for.
        count: how many episodes.
        zoom: as in :func:`featurewise.worlds.glyphs.sheets.sheet`.
    """
    rows: list[Tensor] = []
    labels: list[str] = []
    way = int(batch.query_labels.max()) + 1
    for episode in range(min(count, len(named))):
        right = named[episode] == batch.query_labels[episode]
        inverted = (~right).to(batch.query.dtype)[:, None, None, None]
        query = (batch.query[episode] - inverted).abs()
        support = batch.support[episode].view(way, -1, *query.shape[1:])
        query = query.view(way, -1, *query.shape[1:])
        rows.append(torch.cat((support, torch.zeros_like(support[:, :1]), query), dim=1))
        labels += [f"{int(n)}/{query.shape[1]}" for n in right.view(way, -1).sum(1)]
    return sheet(torch.cat(rows), labels, zoom)
