"""Reads ``vowel-context.data``: vowels of several speakers (Deterding 1989, UCI repository).

One line a frame, fields parted by white space: 0 for the speakers to learn from and 1 for those to
test on, speaker, sex (0 male, 1 female), ten log area ratios from linear prediction, vowel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from featurewise.common.opening import read_bytes
from featurewise.worlds.small.errors import SmallWorldError

VOWELS = ("hid", "hId", "hEd", "hAd", "hYd", "had", "hOd", "hod", "hUd", "hud", "hed")
"""The words spoken, by class number."""

FEATURES = 10
_FIELDS = 3 + FEATURES + 1
_LONGEST = 1 << 24  # bytes of a file; the published one has 0.1 MB


class VowelError(SmallWorldError):
    """A file is not what the format promises. The message begins with path and line."""


@dataclass(frozen=True)
class Vowels:
    """Frames of vowels.

    Attributes:
        features: log area ratios, as in the file.
        vowels: index into `VOWELS`.
        speakers: number of the speaker.
        female: sex of the speaker.
        test: whether the speaker is one to test on.
    """

    features: Float[Tensor, "N 10"]
    vowels: Int64[Tensor, " N"]
    speakers: Int64[Tensor, " N"]
    female: Bool[Tensor, " N"]
    test: Bool[Tensor, " N"]


def read_vowels(path: Path | str) -> Vowels:
    """Reads a file in the format of ``vowel-context.data``.

    Args:
        path: of the file; it is not part of the library.

    Raises:
        VowelError: a line of another form, or none at all.
        OSError: the file cannot be read.
    """
    text = read_bytes(path, limit=_LONGEST).decode("ascii", errors="replace")
    lines = [(n, line.split()) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise VowelError(f"{path}: there are no lines")
    rows = [_row(fields, f"{path}:{number}") for number, fields in lines]
    flags, features, vowels = zip(*rows, strict=True)
    test, speakers, female = torch.tensor(flags).unbind(1)
    return Vowels(
        torch.tensor(features), torch.tensor(vowels), speakers, female.bool(), test.bool()
    )


def _row(fields: list[str], where: str) -> tuple[list[int], list[float], int]:
    """Test, speaker and sex; features; vowel."""
    if len(fields) != _FIELDS:
        raise VowelError(f"{where}: expected {_FIELDS} fields, there are {len(fields)}")
    try:
        flags, vowel = [int(field) for field in fields[:3]], int(fields[-1])
        features = [float(field) for field in fields[3:-1]]
    except ValueError as error:
        raise VowelError(f"{where}: {error}") from error
    if flags[0] not in (0, 1) or flags[2] not in (0, 1) or flags[1] < 0:
        raise VowelError(f"{where}: test and sex are 0 or 1, a speaker at least 0: {flags}")
    if not 0 <= vowel < len(VOWELS):
        raise VowelError(f"{where}: vowels are 0 to {len(VOWELS) - 1}, not {vowel}")
    if not all(map(math.isfinite, features)):
        raise VowelError(f"{where}: a feature is not finite")
    return flags, features, vowel
