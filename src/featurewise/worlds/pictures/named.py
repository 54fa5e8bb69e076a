"""Paintings by name, and photographs by part: of packages, or patterns in place of both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import torch
from jaxtyping import UInt8
from torch import Tensor

from featurewise.worlds.pictures.errors import PictureError
from featurewise.worlds.pictures.patterns import patterns
from featurewise.worlds.pictures.photos import Photograph, photographs
from featurewise.worlds.pictures.puzzles import Painting, paintings
from featurewise.worlds.pictures.sizes import central_crop

Collection: TypeAlias = Literal["debian", "patterns"]
"""Paintings and photographs of packages; or patterns, which need none, for tests."""

_SHOWN: Final = (
    "explore_monuments/colosseum",
    "explore_monuments/golden_temple",
    "explore_monuments/great_wall_of_china",
    "explore_monuments/hawa_mahal",
)
"""Test photographs of figures: in the public domain or CC0, by the package."""


def paintings_called(collection: Collection, *names: str) -> tuple[Painting, ...]:
    """The paintings of these names.

    Raises:
        PictureError: the packages that they come from are not installed, or there is no painting
            of such a name.
    """
    found = paintings() if collection == "debian" else patterns()
    known = {each.name: each for each in found}
    if missing := [name for name in names if name not in known]:
        raise PictureError(f"no painting is called {missing[0]!r}; there is {', '.join(known)}")
    return tuple(known[name] for name in names)


def require_distinct_names(**lists: Sequence[str]) -> None:
    """Raise unless each list of names has at least one, and each once.

    Args:
        lists: names of paintings, by what the list is called in errors.

    Raises:
        PictureError: the message names the list and what is wrong.
    """
    for what, names in lists.items():
        if not names:
            raise PictureError(f"{what} must have the name of at least one painting, got none")
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise PictureError(f"{what}: {twice[0]!r} is there {names.count(twice[0])} times")


def contents_of(collection: Collection, part: Literal["train", "test"]) -> tuple[Photograph, ...]:
    """The photographs of a part; of patterns, the last two in either part.

    Raises:
        PictureError: the packages that they come from are not installed.
    """
    if collection == "patterns":
        return tuple(Photograph(each.name, each.image) for each in patterns()[-2:])
    return photographs(part)


def held_out_photographs(
    collection: Collection, size: int, count: int | None = None
) -> UInt8[Tensor, "N 3 S S"]:
    """The middle of each test photograph, or of the first so many.

    Raises:
        PictureError: the packages that they come from are not installed.
    """
    found = contents_of(collection, "test")[:count]
    return torch.stack([central_crop(each.image, size) for each in found])


def shown_photographs(collection: Collection, size: int) -> UInt8[Tensor, "N 3 S S"]:
    """The middle of each photograph of a figure.

    Raises:
        PictureError: the packages that they come from are not installed.
    """
    found = contents_of(collection, "test")
    some = [each for each in found if each.name in _SHOWN] or found[: len(_SHOWN)]
    return torch.stack([central_crop(each.image, size) for each in some])
