"""Omniglot's two official small sets as one pool: train on one, test on the other.

Each has characters of five alphabets, written by 20 people: 136 and 156 characters. Two alphabets,
Greek and Latin, are in both, and are no part of the test. Source: Lake et al. 2015, *Human-level
concept learning through probabilistic program induction*; MIT licence.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Final

import torch

from featurewise.common.cache import cache_folder
from featurewise.common.files import file_sha256
from featurewise.worlds.glyphs.episodes import ClassSplit, InMemoryPool
from featurewise.worlds.glyphs.errors import GlyphError
from featurewise.worlds.glyphs.formats.folders import OmniglotPart, omniglot

TRAIN: Final[OmniglotPart] = "images_background_small1"
TEST: Final[OmniglotPart] = "images_background_small2"


def omniglot_folder() -> Path:
    """Where both sets are looked for: ``omniglot`` in the cache folder."""
    return cache_folder() / "omniglot"


def omniglot_pool(folder: Path | str, size: int = 28) -> tuple[InMemoryPool, ClassSplit]:
    """The characters of both small sets, each character a class, and their split.

    Args:
        folder: with the unpacked sets, ``images_background_small1`` and ``..._small2``.
        size: height and width to scale the 105 x 105 pixels to.

    Returns:
        All images, and the split: the first set to train on; nothing for validation; the
        alphabets of the second set that are not in the first to test on.

    Raises:
        GlyphError: a set is missing.
        FormatError: a file is missing or damaged.
    """
    return _omniglot_pool(Path(folder), size)


@lru_cache(maxsize=2)  # decoding 5840 files takes seconds
def _omniglot_pool(folder: Path, size: int) -> tuple[InMemoryPool, ClassSplit]:
    if missing := [part for part in (TRAIN, TEST) if not (folder / part).is_dir()]:
        raise GlyphError(
            f"{folder} lacks {' and '.join(missing)}: unpack {TRAIN}.zip and {TEST}.zip of "
            "github.com/brendenlake/omniglot there"
        )
    sets = [omniglot(folder, part, size) for part in (TRAIN, TEST)]
    pool = InMemoryPool(
        tuple(name for each in sets for name in each.names),
        tuple(group for each in sets for group in each.groups),
        tuple(
            torch.stack([each.image(label, i) for i in range(each.count(label))])
            for each in sets
            for label in range(len(each.names))
        ),
    )
    border, shared = len(sets[0].names), set(sets[0].groups)
    test = [i for i in range(border, len(pool.names)) if pool.groups[i] not in shared]
    return pool, ClassSplit(tuple(range(border)), (), tuple(test))


def omniglot_versions(folder: Path | str) -> dict[str, str]:
    """How many files of each set there are, and one SHA-256 of all of them."""
    found = {}
    for part in (TRAIN, TEST):
        files = sorted((Path(folder) / part).rglob("*.png"))
        digest = hashlib.sha256("".join(map(file_sha256, files)).encode()).hexdigest()
        found[f"Omniglot {part}"] = f"{len(files)} files, SHA-256 {digest}"
    return found
