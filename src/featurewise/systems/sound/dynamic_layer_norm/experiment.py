"""Experiment with dynamic layer norm: frame error of unseen voices, and what summaries hold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from PIL import Image
from torch import Tensor, nn

from featurewise.study.figures import BAR, as_image, figure
from featurewise.study.metric import PERCENT, Metric
from featurewise.study.results import Measurement, Proportion
from featurewise.systems.sound.dynamic_layer_norm.method import (
    STACKED,
    AcousticModel,
    Batch,
    Config,
)
from featurewise.training.shuffled import ShuffledCondition, previous_sample
from featurewise.training.source import Source
from featurewise.training.steppers import Supervised
from featurewise.worlds.sound import (
    Speech,
    SpeechBatch,
    SpeechSource,
    made_speech,
    synthetic_speech,
)
from featurewise.worlds.sound.voices import Part

TESTED = 12
"""Utterances of each unseen voice that are tested."""

HEARD = 4
"""Utterances of each training voice that are tested; in an order that is not trained on."""

RIDGE = 1.0
"""Of the linear probe."""


@dataclass(frozen=True)
class OwnUtterances:
    """Batches of utterances, each summarised by itself.

    Attributes:
        source: utterances of different speakers.
    """

    source: Source[SpeechBatch]

    def batch(self, index: int, /) -> Batch:
        """The batch of this index."""
        return as_batch(self.source.batch(index))


def as_batch(found: SpeechBatch) -> Batch:
    """Utterances in pairs of frames, each summarised by itself."""
    count, frames, mels = found.features.shape
    pairs = found.features.reshape(count, frames // STACKED, STACKED * mels)
    return Batch(pairs, pairs, found.phones[:, ::STACKED])


def data(config: Config, seed: int) -> Source[Batch]:
    """Random training utterances; in the control each with that of another voice."""
    speech = normalised(config, "train", config.per_voice)
    own = OwnUtterances(SpeechSource(speech, config.batch_size, config.frames, seed))
    if config.summarised == "other":
        return ShuffledCondition(own, ("summarised",), previous_sample)
    return own


def speech_of(config: Config, part: Part, count: int, said: str = "") -> Speech:
    """So many utterances of each voice of a part, as they are."""
    if config.data == "made":
        return made_speech(part, count, said=said)
    return synthetic_speech(part, count, said)


@lru_cache(maxsize=8)
def _moments(data: str, per_voice: int) -> tuple[Tensor, Tensor]:
    config = Config(steps=1, data=data, per_voice=per_voice)  # type: ignore[arg-type]
    features = speech_of(config, "train", per_voice).features
    return features.mean(0), features.std(0)


def normalised(config: Config, part: Part, count: int, said: str = "") -> Speech:
    """Utterances of a part, with mean 0 and variance 1 in each feature over the training frames."""
    speech = speech_of(config, part, count, said)
    return speech.normalised(*_moments(config.data, config.per_voice))


def evaluated(config: Config, part: Part) -> tuple[Batch, Int64[Tensor, " B"]]:
    """Test utterances, the voices in turn, and their voices; "train": with other words."""
    said, count = ("unheard", HEARD) if part == "train" else ("", TESTED)
    found = normalised(config, part, count, said).beginnings(config.frames, count)
    batch = as_batch(found)
    return replace(batch, summarised=batch.features.roll(1, 0)), found.speakers


FRAME_ERROR = Metric(
    "frame error",
    "share of the frames of unseen voices whose phone is wrong, at one frame every 32 ms; "
    "frames of silence count, too",
    PERCENT,
    "lower",
)
SEEN = Metric(
    "frame error, seen voices",
    "the same of training voices that say words in another order",
    PERCENT,
    "lower",
)
OTHER = Metric(
    "frame error, other summary",
    "frame error of unseen voices where the trained network reads the summary of an "
    "utterance of another unseen voice",
    PERCENT,
    "lower",
)
PROBES = tuple(
    Metric(
        f"speaker, layer {number}",
        "share of utterances of unseen voices whose voice is found by a linear probe on the "
        f"summaries of layer {number}: ridge regression on half of the utterances of each "
        "voice, tested on the other half",
        PERCENT,
        "higher",
    )
    for number in (1, 2)
)
PROBED_INPUT = Metric(
    "speaker, features",
    "the same on the means of the log-mel features, without a network",
    PERCENT,
    "higher",
)
NEIGHBOURS = Metric(
    "nearest, layer 1",
    "share of utterances of unseen voices whose nearest neighbour among the summaries of "
    "layer 1 is of the same voice",
    PERCENT,
    "higher",
)


@torch.no_grad()
def wrong(network: nn.Module, batch: Batch) -> Bool[Tensor, "B T"]:
    """Which frames get another phone than theirs."""
    found: Tensor = network(batch).argmax(2) != batch.phones
    return found


@torch.no_grad()
def summaries(network: Any, batch: Batch) -> list[Float[Tensor, "B _"]]:
    """The summary of each utterance by itself, in each layer."""
    return [
        layer.summary(x)
        for layer, x in zip(network.layers, network.inputs(batch)[:-1], strict=True)
    ]


def probe(
    vectors: Float[Tensor, "N C"], labels: Int64[Tensor, " N"]
) -> Bool[Tensor, " M"]:
    """Which vectors of the second half are found by a linear probe fitted to the first.

    Ridge regression on one-hot labels, of vectors with mean 0 and variance 1.
    """
    half = len(vectors) // 2
    fitted = vectors[:half].double()
    mean, std = fitted.mean(0), fitted.std(0) + 1e-6
    x, y = (
        torch.cat(((each.double() - mean) / std, torch.ones(len(each), 1)), 1)
        for each in (vectors[:half], vectors[half:])
    )
    wanted = torch.nn.functional.one_hot(labels[:half]).double()
    weights = torch.linalg.solve(x.T @ x + RIDGE * torch.eye(x.shape[1]), x.T @ wanted)
    found: Tensor = (y @ weights).argmax(1) == labels[half:]
    return found


def nearest(
    vectors: Float[Tensor, "N C"], labels: Int64[Tensor, " N"]
) -> Bool[Tensor, " N"]:
    """Whether the nearest other vector has the same label."""
    distances = torch.cdist(vectors.double(), vectors.double())
    distances.fill_diagonal_(torch.inf)
    return labels[distances.argmin(1)] == labels


def with_other_summary(network: nn.Module, config: Config) -> nn.Module:
    """A copy of a trained network that reads summaries of other utterances, in eval mode."""
    other = AcousticModel(replace(config, summarised="other"))
    other.load_state_dict(network.state_dict())
    return other.eval()


def evaluate(trained: Supervised, config: Config) -> Measurement:
    """Frame errors; of the system also with other summaries, and the voices in summaries."""
    batch, voices = evaluated(config, "test")
    seen, seen_voices = evaluated(config, "train")
    groups = voices[:, None].expand_as(batch.phones)
    with trained.evaluating() as network:
        numbers: dict[Metric, Proportion | float] = {
            FRAME_ERROR: Proportion.of(wrong(network, batch), groups),
            SEEN: Proportion.of(
                wrong(network, seen), seen_voices[:, None].expand_as(seen.phones)
            ),
        }
        if config.norm == "dynamic" and config.summarised == "own":
            other = with_other_summary(network, config)
            numbers[OTHER] = Proportion.of(wrong(other, batch), groups)
            found = summaries(network, batch)
            half = voices[len(voices) // 2 :]
            for metric, vectors in zip(PROBES, found, strict=False):
                numbers[metric] = Proportion.of(probe(vectors, voices), half)
            means = batch.features.mean(1)
            numbers[PROBED_INPUT] = Proportion.of(probe(means, voices), half)
            numbers[NEIGHBOURS] = Proportion.of(nearest(found[0], voices), voices)
    return Measurement.of(None, numbers)


def draw(trained: Supervised, config: Config) -> Image.Image:
    """Frame error by voice; of dynamic norms also the summaries in two dimensions."""
    batch, voices = evaluated(config, "test")
    with trained.evaluating() as network:
        errors = wrong(network, batch).double().mean(1)
        found = summaries(network, batch)[0] if config.norm == "dynamic" else None
    shares = [
        100 * errors[voices == v].mean().item() for v in range(int(voices.max()) + 1)
    ]
    plot = figure(8.0, 3.2)
    left, right = plot.subplots(1, 2, gridspec_kw={"width_ratios": (3, 2)})
    left.bar([str(n + 1) for n in range(len(shares))], sorted(shares), color=BAR)
    left.set(xlabel="unseen voice, in order", ylabel="frame error (%)", ylim=(0, 100))
    left.spines[["top", "right"]].set_visible(False)
    right.set_axis_off()
    if found is not None:
        points = (found - found.mean(0)) @ torch.linalg.svd(found - found.mean(0))[2][
            :2
        ].T
        right.scatter(*points.T.tolist(), c=voices.tolist(), cmap="tab20", s=8)
        right.set_title("summaries, layer 1", fontsize="medium")
    return as_image(plot)
