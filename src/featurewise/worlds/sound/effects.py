"""A compressor and an overdrive whose knobs move, and batches of sound before and after them.

They are computed by the formulas below, which give what `Compressor` and `Distortion` of pedalboard
give within rounding; a test compares them where that package is installed. It has the licence GPL-3
and is not needed here.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from featurewise.common.rng import seeded_rng
from featurewise.worlds.sound.errors import RecordingError, SoundError
from featurewise.worlds.sound.recordings import RATE, spoken_digits
from featurewise.worlds.sound.voices import Part

KNOBS: Final = ("threshold", "drive")

THRESHOLD_DB: Final = (-40.0, -10.0)
"""Threshold of the compressor where its knob is at 0 and at 1."""

DRIVE_DB: Final = (0.0, 30.0)
"""Gain before the overdrive where its knob is at 0 and at 1."""

RATIO: Final = 8.0
ATTACK_MS: Final = 10.0
RELEASE_MS: Final = 300.0

BLOCK: Final = 32
"""Samples for which a knob stands still, 4 ms."""

SPEAKERS: Final[dict[Part, tuple[str, ...]]] = {
    "train": ("george", "jackson", "nicolas"),
    "validation": ("theo",),
    "test": ("lucas", "yweweler"),
}
"""Speakers of the parts of the spoken digits."""

TAKES: Final = (0, 1, 5)
"""Takes of each digit that are used."""

_TURN: Final = 32  # blocks from one random position of a knob to the next
_PEAK: Final = 0.7


def effect(
    dry: Float[Tensor, "B T"], knobs: Float[Tensor, "B 2 F"], rate: int = RATE
) -> Float[Tensor, "B T"]:
    """Sound through the compressor, then through the overdrive.

    The envelope e follows the absolute value of x, with coefficient ``exp(-2000 pi / (ms * rate))``
    of the attack where it rises and of the release where it falls::

        e_t = |x_t| + coefficient * (e_{t-1} - |x_t|)
        gain = (e_t / threshold) ** (1 / ratio - 1)   where e_t is above the threshold, else 1
        y_t = tanh(drive * gain * x_t)

    Args:
        dry: T samples, a multiple of `BLOCK`.
        knobs: from 0 to 1 for each block of samples, in the order of `KNOBS`.
        rate: samples a second.

    Raises:
        SoundError: there is not one position of the knobs for each block.
    """
    if dry.shape[1] != knobs.shape[2] * BLOCK:
        raise SoundError(
            f"{dry.shape[1]} samples need {dry.shape[1] / BLOCK:g} positions of the knobs, one for "
            f"{BLOCK} samples, got {knobs.shape[2]}"
        )
    threshold, drive = (
        10 ** ((low + (high - low) * knob.double().repeat_interleave(BLOCK, 1)) / 20)
        for knob, (low, high) in zip(knobs.unbind(1), (THRESHOLD_DB, DRIVE_DB), strict=True)
    )
    x = dry.double()
    above = (_envelope(x, rate) / threshold).clamp_min(1)
    return (drive * above ** (1 / RATIO - 1) * x).tanh().to(dry.dtype)


def _envelope(x: Tensor, rate: int) -> Tensor:
    attack, release = (math.exp(-2000 * math.pi / (ms * rate)) for ms in (ATTACK_MS, RELEASE_MS))
    level = x.abs().T.contiguous().numpy()  # NumPy takes a fifth of torch's time for a step
    found, last = np.empty_like(level), np.zeros(level.shape[1])
    for t, now in enumerate(level):
        last = now + np.where(now > last, attack, release) * (last - now)
        found[t] = last
    return torch.from_numpy(found.T)


def moving_knobs(count: int, blocks: int, rng: torch.Generator) -> Float[Tensor, "B 2 F"]:
    """Knobs that move from one random position to the next in straight lines, 128 ms each."""
    turns = -(-blocks // _TURN)
    positions = torch.rand(count, 2, turns + 1, generator=rng)
    share = torch.arange(_TURN) / _TURN
    lines = positions[..., :-1, None] + share * positions.diff(dim=2)[..., None]
    return lines.flatten(2)[..., :blocks]


def standing_knobs(count: int, blocks: int, rng: torch.Generator) -> Float[Tensor, "B 2 F"]:
    """Knobs at random positions that do not move."""
    return torch.rand(count, 2, 1, generator=rng).expand(-1, -1, blocks).contiguous()


@dataclass(frozen=True)
class EffectBatch:
    """Sound before and after the effect.

    Attributes:
        dry: before.
        knobs: from 0 to 1, for each block of `BLOCK` samples.
        wet: after.
    """

    dry: Float[Tensor, "B T"]
    knobs: Float[Tensor, "B 2 F"]
    wet: Float[Tensor, "B T"]

    def segments(self, length: int, starts: Sequence[tuple[int, int]]) -> EffectBatch:
        """Parts of `length` samples from (track, first block) each."""
        blocks = length // BLOCK
        dry, knobs, wet = (
            torch.stack([each[track, ..., s * n : (s + m) * n] for track, s in starts])
            for each, n, m in (
                (self.dry, BLOCK, blocks),
                (self.knobs, 1, blocks),
                (self.wet, BLOCK, blocks),
            )
        )
        return EffectBatch(dry, knobs, wet)


def rendered(
    tracks: Float[Tensor, "N T"], seed: int, copies: int, *, moving: bool = True
) -> EffectBatch:
    """Tracks through the effect, several times each with other movements of the knobs.

    Args:
        tracks: of equal length; what exceeds a multiple of `BLOCK` samples is left out.
        seed: of the movements.
        copies: of each track.
        moving: whether the knobs move.
    """
    blocks = tracks.shape[1] // BLOCK
    dry = tracks[:, : blocks * BLOCK].repeat(copies, 1)
    positions = moving_knobs if moving else standing_knobs
    knobs = positions(len(dry), blocks, seeded_rng(seed, "knobs"))
    return EffectBatch(dry, knobs, effect(dry, knobs))


class EffectSource:
    """Random segments of rendered tracks.

    Args:
        tracks: rendered.
        batch_size: segments per batch.
        length: samples of each, a multiple of `BLOCK`.
        seed: of all randomness; batch ``i`` depends on it and on ``i`` alone.

    Raises:
        SoundError: the length is no multiple of `BLOCK`, or exceeds that of the tracks.
    """

    def __init__(self, tracks: EffectBatch, batch_size: int, length: int, seed: int) -> None:
        if length % BLOCK or not 0 < length <= tracks.dry.shape[1]:
            raise SoundError(
                f"length must be a multiple of {BLOCK} up to {tracks.dry.shape[1]}, got {length}"
            )
        self.tracks, self.batch_size, self.length, self.seed = tracks, batch_size, length, seed

    def batch(self, index: int, /) -> EffectBatch:
        """The batch of this index."""
        rng = seeded_rng(self.seed, "segments", index)
        count, last = len(self.tracks.dry), (self.tracks.dry.shape[1] - self.length) // BLOCK
        which = torch.randint(count, (self.batch_size,), generator=rng).tolist()
        starts = torch.randint(last + 1, (self.batch_size,), generator=rng).tolist()
        return self.tracks.segments(self.length, list(zip(which, starts, strict=True)))


def digit_tracks(part: Part) -> Float[Tensor, "N T"]:
    """One track for each speaker of a part: the digits one behind the other, each with peak 0.7.

    Raises:
        RecordingError: recordings are missing.
    """
    found = spoken_digits()
    tracks = []
    for speaker in SPEAKERS[part]:
        own = [each for each in found if each.speaker == speaker and each.take in TAKES]
        if len(own) != 10 * len(TAKES):
            raise RecordingError(
                f"takes {', '.join(map(str, TAKES))} of the ten digits by {speaker} are needed, "
                f"found {len(own)} of {10 * len(TAKES)} recordings"
            )
        silent = [each for each in own if not each.samples.any()]
        if silent:
            raise RecordingError(f"a recording of {speaker} is silent: digit {silent[0].digit}")
        tracks.append(
            torch.cat([each.samples * (_PEAK / each.samples.abs().max()) for each in own])
        )
    length = min(map(len, tracks))
    return torch.stack([track[:length] for track in tracks])


def digit_versions() -> dict[str, str]:
    """SHA-256 of the samples of all tracks; empty where recordings are missing."""
    digest = hashlib.sha256()
    try:
        for part in SPEAKERS:
            digest.update(digit_tracks(part).numpy().tobytes())
    except RecordingError:
        return {}
    return {"spoken digits": f"tracks of six speakers, SHA-256 {digest.hexdigest()}"}


def made_tracks(part: Part, count: int, length: int) -> Float[Tensor, "N T"]:
    """Chords of three sawtooth waves whose loudness changes, where no recordings are needed."""
    rng = seeded_rng(0, "chords", part)
    pitch, phase = (
        60 + 400 * torch.rand(count, 3, 1, generator=rng),
        torch.rand(count, 3, 1, generator=rng),
    )
    chords = ((pitch * torch.arange(length) / RATE + phase) % 1 - 0.5).mean(1)
    beat = 1 + 4 * torch.rand(count, 1, generator=rng)
    return chords * (0.55 - 0.45 * torch.cos(2 * math.pi * beat * torch.arange(length) / RATE))
