"""Made frames of made speakers, where no synthesiser is needed: for tests and small trials.

A phone is a spectrum with two formants. A speaker moves all of them by the same number of mel
filters and tilts the spectrum, so that one frame does not separate phone and speaker.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import torch

from featurewise.common.rng import seeded_rng
from featurewise.worlds.sound.errors import SoundError
from featurewise.worlds.sound.features import MELS
from featurewise.worlds.sound.speech import Speech
from featurewise.worlds.sound.voices import Part

SPEAKERS: Final = {"train": 12, "validation": 4, "test": 6}
"""Speakers of each part."""

_PHONES: Final = 8
_PHONE_FRAMES: Final = (3, 6)
_NOISE: Final = 0.5


@lru_cache(maxsize=4)
def made_speech(part: Part, per_speaker: int, frames: int = 48, said: str = "") -> Speech:
    """Made speech; its phones are the first eight classes.

    Args:
        part: whose speakers; those of other parts differ.
        per_speaker: utterances of each speaker.
        frames: of each utterance.
        said: name of what is said; by default that of the part.

    Raises:
        SoundError: there is no such part, or nothing in it.
    """
    if part not in SPEAKERS or per_speaker < 1 or frames < 1:
        raise SoundError(
            f"part is one of {', '.join(SPEAKERS)}, per_speaker and frames are 1 or more; got "
            f"{part!r}, {per_speaker} and {frames}"
        )
    count = SPEAKERS[part]
    mels = torch.arange(MELS).float()
    formants = 6 + 28 * torch.rand(_PHONES, 2, generator=seeded_rng(0, "formants"))
    rng = seeded_rng(0, "speakers", part)
    moved, tilt = 8 * torch.rand(count, generator=rng) - 4, torch.randn(count, generator=rng)
    features, phones = [], []
    for speaker in range(count):
        for utterance in range(per_speaker):
            rng = seeded_rng(0, "frames", part, said or part, speaker, utterance)
            low, high = _PHONE_FRAMES
            durations = torch.randint(low, high + 1, (frames,), generator=rng)
            classes = torch.randint(_PHONES, (frames,), generator=rng)
            spoken = classes.repeat_interleave(durations)[:frames]
            peaks = formants[spoken] + moved[speaker]
            bumps = torch.exp(-(((mels[:, None] - peaks[:, None]) / 2.5) ** 2)).sum(2)
            noise = _NOISE * torch.randn(frames, MELS, generator=rng)
            features.append(4 * bumps + tilt[speaker] * (mels - MELS / 2) / MELS + noise)
            phones.append(spoken)
    return Speech(
        torch.cat(features),
        torch.cat(phones),
        torch.arange(count * per_speaker + 1) * frames,
        torch.arange(count).repeat_interleave(per_speaker),
        tuple(f"{part} {number}" for number in range(count)),
    )
