"""Speech as samples of few levels, with its speaker and the phone of every ten milliseconds.

4,000 samples a second, each one of 64 levels by the μ-law, as in van den Oord et al. 2016,
section 2.2, which has 16,000 and 256.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import torch
from jaxtyping import Float, Int64, Integer, UInt8
from torch import Tensor

from featurewise.common.rng import seeded_rng
from featurewise.worlds.sound.errors import RecordingError, SoundError
from featurewise.worlds.sound.espeak import Line, espeak_versions, speak
from featurewise.worlds.sound.features import resample
from featurewise.worlds.sound.phones import frame_phones
from featurewise.worlds.sound.recordings import RATE as RECORDED_RATE
from featurewise.worlds.sound.recordings import spoken_digits
from featurewise.worlds.sound.speech import Utterances, lines_digest
from featurewise.worlds.sound.voices import Part, lines, voices
from featurewise.worlds.tensors import tensor_cache

RATE: Final = 4000
LEVELS: Final = 64
BLOCK: Final = 40
"""Samples that have one phone, 10 ms."""

SPEAKERS: Final = ("paul", "Mike", "m1", "john", "gustave", "steph2", "aunty", "anika")
"""Voices of espeak-ng whose pitch goes from 77 to 235 Hz; all parts have these, other lines."""

TAKES: Final[dict[Part, tuple[int, ...]]] = {"train": (0, 1), "test": (5,)}
"""Takes of the digits that people say; there are too few for a validation part."""

_PEAK: Final = 0.9
_VERSION: Final = 1  # of what is computed from the samples
_MADE_SPEAKERS: Final = 4
_MADE_PHONES: Final = 6
_MADE_BLOCKS: Final = 60


def in_range(classes: Integer[Tensor, "*shape"], count: int) -> bool:
    """Whether all are from 0 to ``count - 1``."""
    return not classes.numel() or bool((classes >= 0).all() and (classes < count).all())


def to_levels(samples: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """The nearest of 64 levels: ``sign(x) log(1 + 63 |x|) / log 64``, from 0 for -1 to 63 for 1.

    Raises:
        SoundError: a sample is infinite or NaN.
    """
    if not bool(samples.isfinite().all()):
        raise SoundError("samples must be finite")
    x, mu = samples.double().clamp(-1, 1), LEVELS - 1
    curved = x.sign() * (mu * x.abs()).log1p() / math.log1p(mu)
    return ((curved + 1) / 2 * mu).round().to(torch.uint8)


def to_samples(levels: Integer[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """What each level stands for, from -1 to 1: the inverse of `to_levels`.

    Raises:
        SoundError: a level is not one of 0 to 63.
    """
    if not in_range(levels, LEVELS):
        raise SoundError(f"levels are 0 to {LEVELS - 1}")
    mu = LEVELS - 1
    curved = 2 * levels.double() / mu - 1
    return (curved.sign() * ((curved.abs() * math.log1p(mu)).expm1() / mu)).float()


@dataclass(frozen=True)
class WaveBatch:
    """Parts of utterances, of one length.

    Attributes:
        levels: of the samples.
        speakers: number of the speaker.
        phones: class of each block of samples.
    """

    levels: Int64[Tensor, "B T"]
    speakers: Int64[Tensor, " B"]
    phones: Int64[Tensor, "B F"]


@dataclass(frozen=True)
class Waves(Utterances[WaveBatch]):
    """Samples of utterances one behind the other; a frame is a block of `BLOCK` samples.

    Attributes:
        blocks: levels of the samples.
        phones: class of each block, an index into ``PHONES``; that of silence where no phones are
            known.
        firsts: index of the first block of each utterance, and the number of all blocks.
        speakers: number of the speaker of each utterance.
        names: of the speakers, by number.
    """

    blocks: UInt8[Tensor, "N 40"]
    phones: Int64[Tensor, " N"]
    firsts: Int64[Tensor, " U1"]
    speakers: Int64[Tensor, " U"]
    names: tuple[str, ...]

    def crops(
        self, utterances: Sequence[int], frames: int, starts: Sequence[int] | None = None
    ) -> WaveBatch:
        """So many blocks of each of these utterances; see `Utterances.crops`."""
        rows = self.rows(utterances, frames, starts)
        return WaveBatch(
            self.blocks[rows].flatten(1).long(),
            self.speakers[torch.tensor(utterances)],
            self.phones[rows],
        )


@lru_cache(maxsize=4)
def synthetic_waves(part: Part, per_voice: int) -> Waves:
    """Lines of a part said by the voices `SPEAKERS`, from espeak-ng; rendered once and cached.

    Args:
        part: whose lines; the voices are the same in all parts.
        per_voice: lines of each voice.

    Raises:
        SoundError: there is no such part, or no line.
        MissingSynthesiserError: espeak-ng is not installed.
        SynthesiserError: it failed.
    """
    by_name = {voice.name: voice for voice in voices("train")}
    job = [line for name in SPEAKERS for line in lines(by_name[name], per_voice, part)]
    identity = {
        "lines": lines_digest(job),
        "espeak": espeak_versions(),
        "version": _VERSION,
        "form": [RATE, LEVELS, BLOCK],
    }
    found = tensor_cache("sound", identity, lambda: _rendered(job))
    return Waves(**found, speakers=_in_turn(len(SPEAKERS), per_voice), names=SPEAKERS)


def _rendered(job: Sequence[Line]) -> dict[str, Any]:
    utterances = []
    for spoken in speak(job):
        samples = resample(spoken.samples, spoken.rate, RATE)
        count = len(samples) // BLOCK
        middles = ((torch.arange(count) + 0.5) * BLOCK * spoken.rate / RATE).tolist()
        utterances.append((samples, frame_phones(spoken.phones, spoken.starts, middles)))
    return _joined(utterances)


@lru_cache(maxsize=4)
def digit_waves(part: Part) -> Waves:
    """Spoken digits of six people; an utterance is a take of all ten digits, 0 first.

    Raises:
        RecordingError: recordings are missing.
        SoundError: the part has no takes.
    """
    if part not in TAKES:
        raise SoundError(f"spoken digits have the parts {', '.join(TAKES)}, not {part}")
    by_take: dict[tuple[str, int], list[Tensor]] = {}
    for each in spoken_digits():
        if each.take in TAKES[part]:
            samples = resample(each.samples, RECORDED_RATE, RATE)
            scaled = samples / samples.abs().max().clamp_min(1e-6)
            by_take.setdefault((each.speaker, each.take), []).append(scaled)
    names = tuple(sorted({speaker for speaker, _ in by_take}))
    wanted = [(speaker, take) for speaker in names for take in TAKES[part]]
    if short := [key for key in wanted if len(by_take.get(key, ())) != 10]:
        raise RecordingError(
            f"ten digits are needed of each speaker and take; take {short[0][1]} of {short[0][0]} "
            f"has {len(by_take.get(short[0], ()))}"
        )
    utterances = []
    for key in wanted:
        samples = torch.cat(by_take[key])
        silence = torch.zeros(len(samples) // BLOCK, dtype=torch.int64)
        utterances.append((samples, silence))
    found = _joined(utterances)
    return Waves(**found, speakers=_in_turn(len(names), len(TAKES[part])), names=names)


def wave_versions() -> dict[str, str]:
    """SHA-256 of the levels of the spoken digits; empty where recordings are missing."""
    digest = hashlib.sha256()
    try:
        for part in TAKES:
            digest.update(digit_waves(part).blocks.numpy().tobytes())
    except RecordingError:
        return {}
    return {"spoken digits": f"levels of six speakers, SHA-256 {digest.hexdigest()}"}


@lru_cache(maxsize=4)
def made_waves(part: Part, per_speaker: int) -> Waves:
    """Made sound, where no synthesiser is needed: a pitch for each speaker, a formant for a phone.

    Args:
        part: utterances of other parts differ.
        per_speaker: utterances of each speaker.

    Raises:
        SoundError: there are no utterances.
    """
    if per_speaker < 1:
        raise SoundError(f"per_speaker must be 1 or more, got {per_speaker}")
    utterances = []
    for speaker in range(_MADE_SPEAKERS):
        for number in range(per_speaker):
            rng = seeded_rng(0, "waves", part, speaker, number)
            classes = torch.randint(_MADE_PHONES, (_MADE_BLOCKS // 4,), generator=rng)
            phones = classes.repeat_interleave(4)
            formants = (250.0 + 250 * phones).repeat_interleave(BLOCK)
            harmonics = 80.0 * 1.4**speaker * torch.arange(1, 8)[:, None]
            phases = 2 * math.pi * harmonics * torch.arange(len(formants)) / RATE
            loud = torch.exp(-(((harmonics - formants) / 200) ** 2)) + 0.1
            noise = 0.01 * torch.randn(len(formants), generator=rng)
            utterances.append(((loud * phases.cos()).sum(0) + noise, phones))
    names = tuple(f"made {n}" for n in range(_MADE_SPEAKERS))
    return Waves(**_joined(utterances), speakers=_in_turn(len(names), per_speaker), names=names)


def _joined(utterances: Sequence[tuple[Tensor, Tensor]]) -> dict[str, Any]:
    """Whole blocks of utterances, each with its phones; the loudest sample of each is 0.9."""
    blocks, lengths = [], [0]
    for samples, phones in utterances:
        scaled = samples * (_PEAK / samples.abs().max().clamp_min(1e-6))
        blocks.append(to_levels(scaled[: len(phones) * BLOCK]).reshape(-1, BLOCK))
        lengths.append(len(phones))
    return {
        "blocks": torch.cat(blocks),
        "phones": torch.cat([phones for _, phones in utterances]),
        "firsts": torch.tensor(lengths).cumsum(0),
    }


def _in_turn(speakers: int, each: int) -> Int64[Tensor, " U"]:
    return torch.arange(speakers).repeat_interleave(each)
