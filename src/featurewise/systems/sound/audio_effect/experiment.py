"""Experiment with the audio effect: errors on unseen speakers, with knobs that move."""

from __future__ import annotations

import math
from typing import Final

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from featurewise.study.figures import BAR, as_image, figure
from featurewise.study.metric import Metric
from featurewise.study.results import Measurement
from featurewise.systems.sound.audio_effect.method import Config, error_energy
from featurewise.training.shuffled import ShuffledCondition, previous_sample
from featurewise.training.source import Source
from featurewise.training.steppers import Supervised
from featurewise.worlds.sound.effects import (
    BLOCK,
    EffectBatch,
    EffectSource,
    digit_tracks,
    made_tracks,
    rendered,
)
from featurewise.worlds.sound.recordings import RATE
from featurewise.worlds.sound.voices import Part

SHOWN: Final = 8
"""Segments in the figure, one behind the other."""

TEST_SEED: Final = 10**6
"""Of the movements of the knobs in the test, which no run has."""

SIZES: Final = (64, 256, 1024)
"""Samples of the windows of the spectral distance."""

_MADE: Final = {"train": (6, 4096), "validation": (2, 4096), "test": (3, 4096)}


def tracks(config: Config, part: Part) -> Float[Tensor, "N T"]:
    """Sound before the effect, of the speakers of a part."""
    if config.data == "made":
        return made_tracks(part, *_MADE[part])
    return digit_tracks(part)


def data(config: Config, seed: int) -> Source[EffectBatch]:
    """Random training segments; in the control each with the knobs of another."""
    found = rendered(tracks(config, "train"), seed, config.copies)
    length = config.warmup + config.length
    source = EffectSource(found, config.batch_size, length, seed)
    if config.shuffled:
        return ShuffledCondition(source, ("knobs",), previous_sample)
    return source


def evaluated(
    config: Config, part: Part = "test", *, moving: bool = True
) -> EffectBatch:
    """All whole segments of the tracks of a part, each with the sound before it.

    They are as long as in training, so that a mean position of the knobs is that of as many
    samples. In the control each has the knobs of the one before it.
    """
    found = rendered(tracks(config, part), TEST_SEED, 1, moving=moving)
    room = found.dry.shape[1] - config.warmup
    count, counted = room // config.length, config.length
    starts = [
        (track, segment * counted // BLOCK)
        for segment in range(count)
        for track in range(len(found.dry))
    ]
    batch = found.segments(config.warmup + counted, starts)
    if config.shuffled:
        return EffectBatch(batch.dry, batch.knobs.roll(1, 0), batch.wet)
    return batch


ERROR = Metric(
    "error",
    "energy of the error over that of the signal, over all test segments of unseen speakers, "
    "with knobs that move",
    "dB",
    "lower",
)
STANDING = Metric(
    "error, standing knobs", "the same with knobs that do not move", "dB", "lower"
)
SPECTRAL = Metric(
    "spectral distance",
    "mean absolute difference of log magnitudes of short-time spectra, with windows of "
    f"{', '.join(map(str, SIZES))} samples, on the test segments of the error one behind the other",
    "nats",
    "lower",
)
DRY = Metric(
    "error, dry",
    "error of the sound before the effect, scaled as a whole so that this is least",
    "dB",
)


def decibels(error: Tensor, signal: Tensor) -> float:
    """Ratio of two energies, in dB."""
    return 10 * math.log10(float(error) / float(signal))


def spectral_distance(output: Float[Tensor, "B T"], wet: Float[Tensor, "B T"]) -> float:
    """Mean over sizes of the mean absolute difference of log magnitudes.

    Hann windows overlap by three quarters; magnitudes are at least 1e-3 of a full-scale sine's.
    """
    found = []
    for size in SIZES:
        window = torch.hann_window(size)
        logs = [
            torch.stft(
                each, size, size // 4, window=window, center=False, return_complex=True
            )
            .abs()
            .clamp_min(1e-3 * size / 4)
            .log()
            for each in (output, wet)
        ]
        found.append((logs[0] - logs[1]).abs().mean().item())
    return math.fsum(found) / len(found)


def joined(segments: Float[Tensor, "N _"], config: Config) -> Float[Tensor, "M _"]:
    """Counted samples of all test segments, one behind the other, for each track."""
    count = len(tracks(config, "test"))
    by_track = segments.reshape(-1, count, segments.shape[1]).movedim(1, 0)
    return by_track.reshape(count, -1)


@torch.no_grad()
def outputs(network: nn.Module, batch: EffectBatch) -> Float[Tensor, "B T"]:
    """What a network makes of all segments, one after the other."""
    parts = [
        network(
            EffectBatch(
                batch.dry[n : n + 1], batch.knobs[n : n + 1], batch.wet[n : n + 1]
            )
        )
        for n in range(len(batch.dry))
    ]
    return torch.cat(parts)


def evaluate(trained: Supervised, config: Config) -> Measurement:
    """Errors with knobs that move and that do not."""
    moving, standing = evaluated(config), evaluated(config, moving=False)
    with trained.evaluating() as network:
        made = outputs(network, moving)
        held = outputs(network, standing)
    wet, dry = moving.wet[:, config.warmup :], moving.dry[:, config.warmup :]
    scale = (wet * dry).sum() / dry.square().sum()
    return Measurement.of(
        None,
        {
            ERROR: decibels(*error_energy(made, moving.wet, config.warmup)),
            STANDING: decibels(*error_energy(held, standing.wet, config.warmup)),
            SPECTRAL: spectral_distance(
                *(joined(each, config) for each in (made[:, config.warmup :], wet))
            ),
            DRY: decibels((scale * dry - wet).square().sum(), wet.square().sum()),
        },
    )


def draw(trained: Supervised, config: Config) -> Image.Image:
    """Test segments: knobs, sound after the effect, and the error of the network."""
    batch, count = evaluated(config), len(tracks(config, "test"))
    shown = slice(0, SHOWN * count, count)
    some = EffectBatch(batch.dry[shown], batch.knobs[shown], batch.wet[shown])
    with trained.evaluating() as network:
        made = outputs(network, some)[:, config.warmup :].flatten()
    wet = some.wet[:, config.warmup :].flatten()
    times = (torch.arange(len(wet)) / RATE).tolist()
    plot = figure(8.0, 3.6)
    above, below = plot.subplots(
        2, 1, sharex=True, gridspec_kw={"height_ratios": (1, 2)}
    )
    knobs = some.knobs[:, :, config.warmup // BLOCK :].movedim(1, 0).flatten(1)
    knobs = knobs.repeat_interleave(BLOCK, 1)
    for name, values, style in zip(
        ("threshold", "drive"), knobs.tolist(), ("-", "--"), strict=True
    ):
        above.plot(times, values, style, color="black", label=name)
    above.set(ylabel="knob", ylim=(-0.05, 1.6))
    above.legend(frameon=False, ncols=2, fontsize="small", loc="upper right")
    below.plot(times, wet.tolist(), color="0.7", linewidth=0.7, label="effect")
    below.plot(times, (made - wet).tolist(), color=BAR, linewidth=0.7, label="error")
    below.set(xlabel="time (s)", ylabel="sound", ylim=(-1.05, 1.05))
    below.legend(frameon=False, ncols=2, fontsize="small", loc="upper right")
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    return as_image(plot)
