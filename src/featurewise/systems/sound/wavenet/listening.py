"""What is heard in a clip, by classifiers that learned from real clips alone; its pitch.

They learned from them with white noise, too: otherwise the noise of generated clips, which
no real clip has, decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Final

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from featurewise.common.rng import seeded_rng
from featurewise.systems.softmax import fit_softmax
from featurewise.worlds.sound.errors import SoundError
from featurewise.worlds.sound.features import HOP, WINDOW, log_mel, pitch
from featurewise.worlds.sound.waves import (
    BLOCK,
    RATE,
    WaveBatch,
    Waves,
    to_levels,
    to_samples,
)

HEARD: Final = 20
"""Utterances of each speaker that the classifiers learn from."""

LOWEST: Final = 60.0
"""Hz; the pitch that counts for a clip without any sound."""


def real_clips(waves: Waves, blocks: int) -> WaveBatch:
    """Clips of so many blocks of all utterances, each half a clip after the one before it.

    Of a speaker with many utterances, the first `HEARD` are taken.

    Raises:
        SoundError: all utterances are shorter.
    """
    if blocks < 1:
        raise SoundError(f"blocks must be 1 or more, got {blocks}")
    lengths = waves.firsts.diff().tolist()
    own = [
        (waves.speakers == s).nonzero()[:HEARD, 0].tolist()
        for s in range(len(waves.names))
    ]
    found = [
        (utterance, start)
        for utterance in chain.from_iterable(own)
        for start in range(0, lengths[utterance] - blocks + 1, max(1, blocks // 2))
    ]
    if not found:
        raise SoundError(
            f"no utterance has {blocks} blocks; the longest has {max(lengths, default=0)}"
        )
    utterances, starts = zip(*found, strict=True)
    return waves.crops(utterances, blocks, starts)


def noisy(levels: Int64[Tensor, "B T"]) -> Int64[Tensor, "B T"]:
    """The clips with white noise, from as loud as they are to 20 dB quieter."""
    samples, rng = to_samples(levels), seeded_rng(0, "noise")
    decibels = -20 * torch.rand(len(levels), 1, generator=rng)
    loud = samples.square().mean(1, keepdim=True).sqrt() * 10 ** (decibels / 20)
    return to_levels(samples + loud * torch.randn(samples.shape, generator=rng)).long()


def mel_frames(levels: Int64[Tensor, "B T"]) -> Float[Tensor, "B F 40"]:
    """Log-mel features of each clip; of 64 ms, every 32 ms."""
    return torch.stack([log_mel(each, RATE) for each in to_samples(levels)])


def frame_blocks(batch: WaveBatch) -> Int64[Tensor, "B F"]:
    """The phone in the middle of each log-mel frame."""
    samples = batch.phones.shape[1] * BLOCK
    middles = torch.arange((samples - WINDOW) // HOP + 1) * HOP + WINDOW // 2
    return batch.phones[:, middles // BLOCK]


def clip_features(levels: Int64[Tensor, "B T"]) -> Float[Tensor, "B 80"]:
    """Means and standard deviations over a clip."""
    frames = mel_frames(levels)
    return torch.cat((frames.mean(1), frames.std(1)), 1)


def context_features(levels: Int64[Tensor, "B T"]) -> Float[Tensor, "B F 120"]:
    """Each log-mel frame with the one before and the one after it."""
    frames = mel_frames(levels)
    before = torch.cat((frames[:, :1], frames[:, :-1]), 1)
    after = torch.cat((frames[:, 1:], frames[:, -1:]), 1)
    return torch.cat((before, frames, after), 2)


@dataclass(frozen=True)
class Regression:
    """Softmax regression on features that are brought to mean 0 and variance 1.

    Attributes:
        mean: of the features that it learned from.
        std: their standard deviation.
        weight: from features to logits.
        bias: of the logits.
    """

    mean: Float[Tensor, " F"]
    std: Float[Tensor, " F"]
    weight: Float[Tensor, "F S"]
    bias: Float[Tensor, " S"]

    @classmethod
    def of(
        cls, features: Float[Tensor, "N F"], labels: Int64[Tensor, " N"]
    ) -> Regression:
        """Fitted to these."""
        mean, std = features.mean(0), features.std(0) + 1e-3
        weight, bias = fit_softmax((features - mean) / std, labels, decay=1e-4)
        return cls(mean, std, weight, bias)

    def classes(self, features: Float[Tensor, "*N F"]) -> Int64[Tensor, "*N"]:
        """The likeliest class."""
        return (((features - self.mean) / self.std) @ self.weight + self.bias).argmax(-1)


@dataclass(frozen=True)
class Listener:
    """Names speakers and phones, and knows the pitch of each speaker.

    Attributes:
        speakers: from features of a whole clip.
        phones: from features of a frame and its neighbours; None where no phones are known.
        pitches: of each speaker in Hz, the median over clips.
    """

    speakers: Regression
    phones: Regression | None
    pitches: Float[Tensor, " S"]

    @classmethod
    def of(cls, waves: Waves, blocks: int) -> Listener:
        """One that has heard real clips of so many blocks, as they are and with white noise."""
        clean = real_clips(waves, blocks)
        clips = WaveBatch(
            torch.cat((clean.levels, noisy(clean.levels))),
            clean.speakers.repeat(2),
            clean.phones.repeat(2, 1),
        )
        speakers = Regression.of(clip_features(clips.levels), clips.speakers)
        phones = None
        if clips.phones.any():
            frames = context_features(clips.levels).flatten(0, 1)
            phones = Regression.of(frames, frame_blocks(clips).flatten())
        heard = pitches(clean.levels)
        medians = [heard[clean.speakers == s].median() for s in range(len(waves.names))]
        return cls(speakers, phones, torch.stack(medians))

    def right_speaker(self, batch: WaveBatch) -> Bool[Tensor, " B"]:
        """Whether each clip is heard as the speaker that the batch says."""
        return self.speakers.classes(clip_features(batch.levels)) == batch.speakers

    def right_phones(self, batch: WaveBatch) -> Bool[Tensor, "B F"]:
        """Whether each frame is heard as the phone that the batch says.

        Raises:
            SoundError: no phones are known.
        """
        if self.phones is None:
            raise SoundError("these clips have no phones")
        return self.phones.classes(context_features(batch.levels)) == frame_blocks(batch)

    def semitones(self, batch: WaveBatch) -> Float[Tensor, " B"]:
        """How far the pitch of each clip is from that of the speaker that the batch says."""
        found = self.distances(batch.levels)
        return found.gather(1, batch.speakers[:, None])[:, 0]

    def right_pitch(self, batch: WaveBatch) -> Bool[Tensor, " B"]:
        """Whether no speaker's pitch is nearer to that of each clip than the one's that it says."""
        return self.distances(batch.levels).argmin(1) == batch.speakers

    def distances(self, levels: Int64[Tensor, "B T"]) -> Float[Tensor, "B S"]:
        """Semitones from the pitch of each clip to that of each speaker."""
        return 12 * (pitches(levels)[:, None] / self.pitches).log2().abs()


def pitches(levels: Int64[Tensor, "B T"]) -> Float[Tensor, " B"]:
    """Of each clip, in Hz."""
    found = []
    for each in to_samples(levels):
        silent = bool((each == each[0]).all())
        found.append(LOWEST if silent else pitch(each, RATE, low=LOWEST))
    return torch.tensor(found)
