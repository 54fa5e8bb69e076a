"""Utterances of several speakers as log-mel frames, each with its phone."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, Final, Generic, TypeVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from featurewise.common.rng import seeded_rng
from featurewise.worlds.sound.errors import SoundError
from featurewise.worlds.sound.espeak import Line, espeak_versions, speak
from featurewise.worlds.sound.features import HOP, MELS, WINDOW, log_mel, resample
from featurewise.worlds.sound.phones import frame_phones
from featurewise.worlds.sound.voices import Part, lines, voices
from featurewise.worlds.tensors import tensor_cache

RATE: Final = 8000
"""Samples a second, as in the recordings of spoken digits."""

_VERSION: Final = 1  # of what is computed from the samples


BatchT = TypeVar("BatchT")


class Utterances(ABC, Generic[BatchT]):
    """Utterances of several speakers one behind the other, in frames; crops of them are batches.

    Attributes:
        firsts: index of the first frame of each utterance, and the number of all frames.
        speakers: number of the speaker of each utterance.
        names: of the speakers, by number.
    """

    firsts: Int64[Tensor, " U1"]
    speakers: Int64[Tensor, " U"]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.speakers)

    @abstractmethod
    def crops(
        self, utterances: Sequence[int], frames: int, starts: Sequence[int] | None = None
    ) -> BatchT:
        """So many frames of each of these utterances.

        Args:
            utterances: their numbers.
            frames: of each.
            starts: first frame within each; by default, the first of the utterance.

        Raises:
            SoundError: there is no such utterance, or it is shorter.
        """

    def rows(
        self, utterances: Sequence[int], frames: int, starts: Sequence[int] | None = None
    ) -> Int64[Tensor, "B T"]:
        """Indices of the frames of crops; arguments and errors as of `crops`."""
        begin = [0] * len(utterances) if starts is None else starts
        if not utterances or len(begin) != len(utterances):
            raise SoundError(
                "crops are of one utterance or more, each with a start; got "
                f"{len(utterances)} utterances and {len(begin)} starts"
            )
        if frames < 1:
            raise SoundError(f"frames must be 1 or more, got {frames}")
        rows = []
        for utterance, start in zip(utterances, begin, strict=True):
            if not 0 <= utterance < len(self):
                raise SoundError(
                    f"there are utterances 0 to {len(self) - 1}, and no utterance {utterance}"
                )
            first, end = self.firsts[utterance : utterance + 2].tolist()
            if start < 0 or first + start + frames > end:
                raise SoundError(
                    f"utterance {utterance} has {end - first} frames; {frames} from {start} are "
                    "wanted"
                )
            rows.append(first + start)
        return torch.tensor(rows)[:, None] + torch.arange(frames)

    def beginnings(self, frames: int, per_speaker: int) -> BatchT:
        """The beginnings of the first utterances of each speaker, the speakers in turn.

        Args:
            frames: of each.
            per_speaker: utterances of each speaker, or all where all have fewer.

        Raises:
            SoundError: an utterance is shorter, or speakers have fewer than others.
        """
        if per_speaker < 1:
            raise SoundError(f"per_speaker must be 1 or more, got {per_speaker}")
        by_speaker = [
            (self.speakers == s).nonzero()[:per_speaker, 0].tolist() for s in range(len(self.names))
        ]
        counts = sorted({len(each) for each in by_speaker})
        if len(counts) > 1:
            raise SoundError(
                f"per_speaker={per_speaker}: one speaker has {counts[0]} utterances, another "
                f"{counts[-1]} or more"
            )
        return self.crops([u for each in zip(*by_speaker, strict=True) for u in each], frames)


@dataclass(frozen=True)
class Speech(Utterances["SpeechBatch"]):
    """Log-mel frames of utterances one behind the other.

    Attributes:
        features: log-mel frames of all utterances.
        phones: class of each frame, an index into ``PHONES``.
        firsts: index of the first frame of each utterance, and the number of all frames.
        speakers: number of the speaker of each utterance.
        names: of the speakers, by number.
    """

    features: Float[Tensor, "N 40"]
    phones: Int64[Tensor, " N"]
    firsts: Int64[Tensor, " U1"]
    speakers: Int64[Tensor, " U"]
    names: tuple[str, ...]

    def normalised(self, mean: Float[Tensor, " 40"], std: Float[Tensor, " 40"]) -> Speech:
        """Features less a mean and divided by a standard deviation, each of the 40 by its own."""
        return replace(self, features=(self.features - mean) / std)

    def crops(
        self, utterances: Sequence[int], frames: int, starts: Sequence[int] | None = None
    ) -> SpeechBatch:
        """So many frames of each of these utterances; see `Utterances.crops`."""
        rows = self.rows(utterances, frames, starts)
        speakers = self.speakers[torch.tensor(utterances)]
        return SpeechBatch(self.features[rows], self.phones[rows], speakers)


@dataclass(frozen=True)
class SpeechBatch:
    """Utterances of one length.

    Attributes:
        features: log-mel frames.
        phones: class of each frame.
        speakers: number of the speaker.
    """

    features: Float[Tensor, "B T 40"]
    phones: Int64[Tensor, "B T"]
    speakers: Int64[Tensor, " B"]


class SpeechSource(Generic[BatchT]):
    """Random batches, in which each utterance has another speaker.

    Args:
        speech: to choose from.
        batch_size: utterances per batch, not more than there are speakers.
        frames: of each utterance, from a random place in it.
        seed: of all randomness; batch ``i`` depends on it and on ``i`` alone.

    Raises:
        SoundError: there are fewer speakers, or an utterance is shorter.
    """

    def __init__(self, speech: Utterances[BatchT], batch_size: int, frames: int, seed: int) -> None:
        speakers, lengths = len(speech.names), speech.firsts.diff()
        if not 1 <= batch_size <= speakers:
            raise SoundError(f"batch_size must be from 1 to {speakers} speakers, got {batch_size}")
        if not 1 <= frames <= int(lengths.min()):
            raise SoundError(f"frames must be from 1 to {int(lengths.min())}, got {frames}")
        self.speech, self.batch_size, self.frames, self.seed = speech, batch_size, frames, seed
        self._of = [(speech.speakers == s).nonzero()[:, 0].tolist() for s in range(speakers)]
        self._lengths = lengths.tolist()

    def batch(self, index: int, /) -> BatchT:
        """The batch of this index."""
        rng = seeded_rng(self.seed, "speech", index)
        speakers = torch.randperm(len(self._of), generator=rng)[: self.batch_size].tolist()
        which, where = torch.rand(2, self.batch_size, generator=rng, dtype=torch.float64).tolist()
        chosen = [
            self._of[s][int(share * len(self._of[s]))]
            for s, share in zip(speakers, which, strict=True)
        ]
        starts = [
            int(share * (self._lengths[u] - self.frames + 1))
            for u, share in zip(chosen, where, strict=True)
        ]
        return self.speech.crops(chosen, self.frames, starts)


@lru_cache(maxsize=4)
def synthetic_speech(part: Part, per_voice: int, said: str = "") -> Speech:
    """Speech of the voices of a part, from espeak-ng; rendered once and cached.

    Args:
        part: whose voices.
        per_voice: utterances of each voice.
        said: name of the lines; by default that of the part. Other names give other lines.

    Raises:
        MissingSynthesiserError: espeak-ng is not installed.
        SynthesiserError: it failed.
    """
    speakers = voices(part)
    job = [lines(voice, per_voice, said or part) for voice in speakers]
    flat = [line for each in job for line in each]
    identity = {
        "lines": lines_digest(flat),
        "espeak": espeak_versions(),
        "version": _VERSION,
        "rate": RATE,
        "frames": [WINDOW, HOP, MELS],
    }
    found = tensor_cache("sound", identity, lambda: _rendered(flat))
    return Speech(
        **found,
        speakers=torch.arange(len(speakers)).repeat_interleave(per_voice),
        names=tuple(voice.name for voice in speakers),
    )


def lines_digest(said: Sequence[Line]) -> str:
    """SHA-256 of what is said and how, for the identity of a cache."""
    return hashlib.sha256(json.dumps([asdict(line) for line in said]).encode()).hexdigest()


def _rendered(said: Sequence[Line]) -> dict[str, Any]:
    features, phones = [], []
    for spoken in speak(said):
        frames = log_mel(resample(spoken.samples, spoken.rate, RATE), RATE)
        centres = ((torch.arange(len(frames)) * HOP + WINDOW / 2) * spoken.rate / RATE).tolist()
        features.append(frames)
        phones.append(frame_phones(spoken.phones, spoken.starts, centres))
    lengths = torch.tensor([0, *map(len, features)])
    return {
        "features": torch.cat(features),
        "phones": torch.cat(phones),
        "firsts": lengths.cumsum(0),
    }
