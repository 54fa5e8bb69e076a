"""Experiment with WaveNet: bits of held-out sentences; what generated clips sound like."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

import torch
from torch import nn

from featurewise.common.rng import seeded_rng
from featurewise.study.metric import PERCENT, Metric
from featurewise.study.results import Measurement, Proportion
from featurewise.systems.sound.wavenet.generate import generate
from featurewise.systems.sound.wavenet.listening import Listener
from featurewise.systems.sound.wavenet.method import Config, objective
from featurewise.training.shuffled import ShuffledCondition, previous_sample
from featurewise.training.source import Source
from featurewise.training.steppers import Supervised
from featurewise.worlds.sound.speech import SpeechSource
from featurewise.worlds.sound.voices import Part
from featurewise.worlds.sound.waves import (
    BLOCK,
    WaveBatch,
    Waves,
    digit_waves,
    made_waves,
    synthetic_waves,
)

AT_ONCE: Final = 8
"""Test clips that a network reads at a time."""


def waves(config: Config, part: Part, per_voice: int) -> Waves:
    """Utterances of a part; of people all there are."""
    if config.data == "made":
        return made_waves(part, per_voice)
    return digit_waves(part) if config.people else synthetic_waves(part, per_voice)


def data(config: Config, seed: int) -> Source[WaveBatch]:
    """Random training clips; in the control each with the codes of another speaker's."""
    found = waves(config, "train", config.per_voice)
    count = min(config.batch_size, len(found.names))
    source = SpeechSource(found, count, config.blocks, seed)
    if config.shuffled:
        return ShuffledCondition(source, ("speakers", "phones"), previous_sample)
    return source


def evaluated(config: Config, part: Part = "test") -> WaveBatch:
    """Clips of held-out sentences, the speakers in turn.

    Of voices the beginnings of their lines; of people, who have one take, parts of it.
    """
    found = waves(config, part, config.tested)
    if not config.people or config.data == "made":
        return found.beginnings(config.tested_blocks, config.tested)
    shortest = int(found.firsts.diff().min())
    places = [
        (utterance, start)
        for start in range(0, shortest - config.tested_blocks + 1, config.tested_blocks)
        for utterance in range(len(found))
    ]
    utterances, starts = zip(*places[: config.tested * len(found)], strict=True)
    return found.crops(utterances, config.tested_blocks, starts)


def rolled(batch: WaveBatch, *fields: str) -> WaveBatch:
    """Test clips with codes of the clip before, which is of another speaker."""
    return replace(batch, **{name: getattr(batch, name).roll(1, 0) for name in fields})


def requested(config: Config, part: Part = "test") -> WaveBatch:
    """Codes for clips to sample: phones of test clips, each with another speaker than its own.

    The first clip of each speaker is requested from the next speaker, the second from the one
    after that, and so on, so that all are requested equally often.
    """
    batch, count = (
        evaluated(config, part),
        len(waves(config, "train", config.per_voice).names),
    )
    wanted = min(config.sampled * count, len(batch.levels))
    moved = 1 + (torch.arange(wanted) // count) % (count - 1)
    speakers = (batch.speakers[:wanted] + moved) % count
    return WaveBatch(batch.levels[:wanted], speakers, batch.phones[:wanted])


@lru_cache(maxsize=4)
def _listener(data: str, people: bool, per_voice: int, blocks: int) -> Listener:
    config = Config(steps=1, data=data, people=people, per_voice=per_voice)  # type: ignore[arg-type]
    return Listener.of(waves(config, "train", per_voice), blocks)


def listener(config: Config) -> Listener:
    """Classifiers that learned from real training clips of the length of the test clips."""
    return _listener(config.data, config.people, config.per_voice, config.tested_blocks)


BITS = Metric(
    "bits per sample",
    "cross-entropy of the samples of held-out sentences, 4,000 a second, each of 64 levels",
    "bits",
    "lower",
)
OTHER_SPEAKER = Metric(
    "bits, other speaker",
    "the same where the trained network gets the code of another speaker than the clip's",
    "bits",
)
OTHER_PHONES = Metric(
    "bits, other phones",
    "the same where the trained network gets the phones of another clip",
    "bits",
)
SPEAKER = Metric(
    "requested speaker",
    "share of generated clips in which a classifier hears the requested speaker; their phones "
    "are those of a test clip of another speaker. The classifier is softmax regression on "
    "means and deviations of log-mel features, and learned from real training clips alone, as "
    "they are and with white noise",
    PERCENT,
    "higher",
)
PHONE = Metric(
    "requested phone",
    "share of the frames of generated clips in which a classifier, which learned from real "
    "training clips alone, hears the requested phone: softmax regression on three log-mel frames",
    PERCENT,
    "higher",
)
NEAREST = Metric(
    "requested pitch",
    "share of generated clips whose pitch is nearer to the median pitch of the requested speaker "
    "in real training clips than to that of any other",
    PERCENT,
    "higher",
)
PITCH = Metric(
    "pitch error",
    "mean distance between the pitch of a generated clip and the median pitch of the requested "
    "speaker in real training clips",
    "semitones",
    "lower",
)
REAL_SPEAKER = Metric(
    "speaker, real clips",
    "share of test clips whose speaker the classifier names",
    PERCENT,
)
REAL_NEAREST = Metric(
    "pitch, real clips",
    "share of test clips whose pitch is nearest to their speaker's",
    PERCENT,
)
REAL_PHONE = Metric(
    "phone, real clips",
    "share of frames of test clips whose phone the classifier names",
    PERCENT,
)
REAL_PITCH = Metric(
    "pitch error, real clips",
    "pitch error of test clips, of their own speakers",
    "semitones",
)
REAL = {
    SPEAKER: REAL_SPEAKER,
    NEAREST: REAL_NEAREST,
    PHONE: REAL_PHONE,
    PITCH: REAL_PITCH,
}
MEASURED = (BITS, OTHER_SPEAKER, OTHER_PHONES, SPEAKER, NEAREST, PHONE, PITCH)
METRICS = (*MEASURED, *REAL.values())


@torch.no_grad()
def bits(network: nn.Module, batch: WaveBatch) -> float:
    """Mean over all samples of a batch, some clips at a time."""
    total, count = 0.0, len(batch.levels)
    for start in range(0, count, AT_ONCE):
        part = slice(start, start + AT_ONCE)
        some = WaveBatch(batch.levels[part], batch.speakers[part], batch.phones[part])
        total += objective(network, some)[0].item() * len(some.levels)
    return total / count / math.log(2)


def sampled(network: Any, batch: WaveBatch, name: str) -> WaveBatch:
    """Generated clips under the codes of a batch; the name determines the random numbers."""
    shape = len(batch.phones), batch.phones.shape[1] * BLOCK
    uniform = torch.rand(shape, generator=seeded_rng(0, "samples", name))
    return replace(batch, levels=generate(network, batch, uniform))


def heard(listening: Listener, made: WaveBatch) -> dict[Metric, Proportion | float]:
    """What is heard in generated clips."""
    numbers: dict[Metric, Proportion | float] = {
        SPEAKER: Proportion.of(listening.right_speaker(made), made.speakers),
        NEAREST: Proportion.of(listening.right_pitch(made), made.speakers),
        PITCH: float(listening.semitones(made).mean()),
    }
    if listening.phones is not None:
        right = listening.right_phones(made)
        clips = torch.arange(len(right))[:, None].expand_as(right)
        numbers[PHONE] = Proportion.of(right, clips)
    return numbers


def evaluate(trained: Supervised, config: Config) -> Measurement:
    """Bits; where codes are the clip's own, also with others', and what generated clips say."""
    test = evaluated(config)
    given = rolled(test, "speakers", "phones") if config.shuffled else test
    with trained.evaluating() as network:
        numbers: dict[Metric, Proportion | float] = {BITS: bits(network, given)}
        if not config.shuffled and config.condition != "none":
            if config.condition != "local":
                numbers[OTHER_SPEAKER] = bits(network, rolled(test, "speakers"))
            if config.condition != "global":
                numbers[OTHER_PHONES] = bits(network, rolled(test, "phones"))
            made = sampled(network, requested(config), "test")
            numbers |= heard(listener(config), made)
            real = heard(listener(config), test)
            numbers |= {REAL[metric]: number for metric, number in real.items()}
    return Measurement.of(None, numbers)
