"""Reads ``vowel-context.data``: vowels of several speakers (Deterding 1989, UCI repository).

One line for each frame, with fields separated by white space: split (0 for training speakers, 1 for
test speakers), speaker, sex (0 male, 1 female), ten log area ratios from linear prediction, vowel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from featurewise.common.cache import cache_folder
from featurewise.common.files import file_sha256
from featurewise.common.opening import read_bytes
from featurewise.worlds.small.errors import SmallWorldError

VOWELS = ("hid", "hId", "hEd", "hAd", "hYd", "had", "hOd", "hod", "hUd", "hud", "hed")
"""The spoken words, by class index."""

FEATURES = 10
VOWEL_FRAMES: Final = 6
"""Frames of each vowel by each speaker in the published file."""

FILE: Final = "vowel-context.data"
"""Name of the published file."""

_FIELDS = 3 + FEATURES + 1
_LONGEST = 1 << 24  # maximum size of a file in bytes; the published one has 0.1 MB


class VowelError(SmallWorldError):
    """A file does not follow the format. The message begins with path and line."""


@dataclass(frozen=True)
class Vowels:
    """Frames of vowels.

    Attributes:
        features: log area ratios, as in the file.
        vowels: index into `VOWELS`.
        speakers: index of the speaker.
        female: whether the speaker is female.
        test: whether the speaker belongs to the test split.
    """

    features: Float[Tensor, "N 10"]
    vowels: Int64[Tensor, " N"]
    speakers: Int64[Tensor, " N"]
    female: Bool[Tensor, " N"]
    test: Bool[Tensor, " N"]


def vowel_samples(
    split: Literal["train", "test"], path: Path | str = ""
) -> Float[Tensor, "S 11 N 10"]:
    """The frames of the speakers of a split, by speaker, vowel and order in the file.

    Args:
        split: the official one: speakers 0 to 7, or 8 to 14.
        path: of the file; empty for `FILE` in the folder ``vowels`` of the cache folder.

    Raises:
        VowelError: the file is missing (the message says where to get it) or malformed, or its
            speakers have different numbers of frames.
    """
    found = _vowels(_located(path))
    chosen = found.test == (split == "test")
    speakers = sorted(set(found.speakers[chosen].tolist()))
    frames = [
        [found.features[(found.speakers == s) & (found.vowels == v)] for v in range(len(VOWELS))]
        for s in speakers
    ]
    counts = {len(each) for of_speaker in frames for each in of_speaker}
    if len(counts) != 1:
        raise VowelError(
            f"each speaker must have as many frames of each vowel, found {sorted(counts)}"
        )
    return torch.stack([torch.stack(of_speaker) for of_speaker in frames])


def vowel_versions(path: Path | str = "") -> dict[str, str]:
    """Name of the file and its SHA-256; empty where it is missing. See `vowel_samples`."""
    file = _located(path)
    return {file.name: f"SHA-256 {file_sha256(file)}"} if file.is_file() else {}


def _located(path: Path | str) -> Path:
    return Path(path) if path else cache_folder() / "vowels" / FILE


@lru_cache(maxsize=2)
def _vowels(path: Path) -> Vowels:
    if not path.is_file():
        raise VowelError(
            f"{path} is missing: get {FILE} of the data set Connectionist Bench (Vowel "
            "Recognition - Deterding Data) from the UCI repository, "
            "https://archive.ics.uci.edu/dataset/152, and put it there"
        )
    return read_vowels(path)


def read_vowels(path: Path | str) -> Vowels:
    """Reads a file in the format of ``vowel-context.data``.

    Args:
        path: of the file, which is not part of the library.

    Raises:
        VowelError: a malformed line, or no lines.
        OSError: the file cannot be read.
    """
    text = read_bytes(path, limit=_LONGEST).decode("ascii", errors="replace")
    lines = [(n, line.split()) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise VowelError(f"{path}: the file has no lines")
    rows = [_row(fields, f"{path}:{number}") for number, fields in lines]
    flags, features, vowels = zip(*rows, strict=True)
    test, speakers, female = torch.tensor(flags).unbind(1)
    return Vowels(
        torch.tensor(features), torch.tensor(vowels), speakers, female.bool(), test.bool()
    )


def _row(fields: list[str], where: str) -> tuple[list[int], list[float], int]:
    """[split, speaker, sex], features and vowel of a line."""
    if len(fields) != _FIELDS:
        raise VowelError(f"{where}: a line must have {_FIELDS} fields, got {len(fields)}")
    try:
        flags, vowel = [int(field) for field in fields[:3]], int(fields[-1])
        features = [float(field) for field in fields[3:-1]]
    except ValueError as error:
        raise VowelError(f"{where}: {error}") from error
    if flags[0] not in (0, 1) or flags[2] not in (0, 1) or flags[1] < 0:
        raise VowelError(
            f"{where}: split and sex must be 0 or 1, the speaker 0 or more, got {flags}"
        )
    if not 0 <= vowel < len(VOWELS):
        raise VowelError(f"{where}: vowel must be from 0 to {len(VOWELS) - 1}, got {vowel}")
    if not all(map(math.isfinite, features)):
        raise VowelError(f"{where}: a feature is not finite")
    return flags, features, vowel
