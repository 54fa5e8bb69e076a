"""The phones of American English as espeak-ng writes them, and phones of frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from jaxtyping import Int64
from torch import Tensor

from featurewise.worlds.sound.errors import SoundError

SILENCE: Final = "_"

PHONES: Final = (
    SILENCE,
    *("p", "b", "t", "d", "k", "g", "tS", "dZ", "t#"),
    *("f", "v", "T", "D", "s", "z", "S", "Z", "h"),
    *("m", "n", "N", "l", "r", "j", "w"),
    *("i", "I", "E", "a", "V", "0", "O", "U", "u", "@", "3", "@L"),
    *("eI", "aI", "OI", "aU", "oU"),
    *("A@", "e@", "i@", "O@", "U@", "aI@"),
)
"""Classes of frames: silence, stops, fricatives, sonorants, vowels, diphthongs, vowels with r."""

_SAME: Final = {
    "i:": "i",
    "I2": "I",
    "I#": "I",
    "aa": "a",
    "A:": "0",
    "O:": "O",
    "O2": "O",
    "u:": "u",
    "@2": "@",
    "@-": "@",
    "a#": "@",
    "3:": "3",
    "i@3": "i@",
    "o@": "O@",
    "aI3": "aI@",
    "t2": "t",
    "r-": "r",
    "@5": "@",
    "E2": "E",
    "x": "k",
    "i@2": "i@",
}
"""Mnemonics of variants that share a class -> that class."""

_MARKS: Final = frozenset(";")
"""Mnemonics that only change the phone before them."""


def frame_phones(
    phones: Sequence[str], starts: Sequence[float | int], centres: Sequence[float]
) -> Int64[Tensor, " T"]:
    """Class of each frame: the phone that sounds at its centre; silence before the first.

    Args:
        phones: mnemonics of espeak-ng.
        starts: time of the start of each, not falling.
        centres: of the frames, rising, in the same unit.

    Raises:
        SoundError: a mnemonic is not of American English.
    """
    kept = [
        (phone_class(p), start) for p, start in zip(phones, starts, strict=True) if p not in _MARKS
    ]
    classes = torch.tensor([PHONES.index(SILENCE), *(c for c, _ in kept)])
    times = torch.tensor([start for _, start in kept], dtype=torch.float64)
    return classes[torch.searchsorted(times, torch.tensor(centres).double(), right=True)]


def phone_class(phone: str) -> int:
    """Index into `PHONES` of a mnemonic of espeak-ng.

    Raises:
        SoundError: it is not of American English.
    """
    if phone.startswith(SILENCE):
        return PHONES.index(SILENCE)
    name = _SAME.get(phone, phone)
    if name not in PHONES:
        raise SoundError(f"phone {phone!r} is unknown; there is {', '.join((*PHONES, *_SAME))}")
    return PHONES.index(name)
