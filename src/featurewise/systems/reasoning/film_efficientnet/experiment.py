"""Experiment with FiLM-EfficientNet: what is lost before the first step, and accuracy after."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int64
from PIL import Image
from torch import Tensor, nn

from featurewise.study.figures import BAR, as_image, figure
from featurewise.study.metric import PERCENT, Metric
from featurewise.study.results import Measurement, Proportion
from featurewise.systems import sentences
from featurewise.systems.reasoning.film_efficientnet.method import (
    Batch,
    Config,
    backbone_of,
    film,
    prepared,
)
from featurewise.systems.reasoning.film_efficientnet.sources import (
    SentenceSource,
    embeddings,
)
from featurewise.training.randomness import seed_everything
from featurewise.training.steppers import Supervised
from featurewise.worlds.pictures import held_out_photographs, picture_versions
from featurewise.worlds.vqa.composed import ANSWERS, COLOURS, SHAPES

ACCURACY = Metric(
    "accuracy",
    "share of test images whose sentence, in a wording that was not trained on, is "
    "answered correctly",
    PERCENT,
    "higher",
)
KEPT = Metric(
    "kept classes",
    "before the first step: share of test photographs, without a shape, that the modulated "
    "network puts into the same class of ImageNet as the network without FiLM; over all "
    "test sentences and three initialisations of FiLM, the same for all seeds",
    PERCENT,
    "higher",
)
LOGITS = Metric(
    "error of the logits",
    "before the first step: root mean square of the change of the logits of ImageNet, "
    "relative to their standard deviation, on the same",
    "",
    "lower",
)
COLOUR, SHAPE, SIDE = (
    Metric(
        f"accuracy, {kind}", f"the same of sentences for the {kind}", PERCENT, "higher"
    )
    for kind in ("colour", "shape", "side")
)

_PHOTOGRAPHS = 26
_STARTS = 3
_SEED = 10**6  # of test images


def kinds(answers: Int64[Tensor, " N"]) -> Int64[Tensor, " N"]:
    """0 of a colour, 1 of a shape, 2 of a side."""
    first = len(COLOURS)
    return (answers >= first).long() + (answers >= first + len(SHAPES)).long()


def test_batches(config: Config) -> list[Batch]:
    """Test images; in the control with the sentence of the image before."""
    source = SentenceSource(config, "test", _SEED)
    found = [source.batch(index) for index in range(config.test_batches)]
    if config.shuffled:
        return [replace(each, sentence=each.sentence.roll(1, 0)) for each in found]
    return found


@torch.no_grad()
def correct(
    network: nn.Module, config: Config
) -> tuple[Bool[Tensor, " N"], Int64[Tensor, " N"]]:
    """Which test images are answered correctly, and the answers."""
    batches = test_batches(config)
    right = [network(each).argmax(1) == each.answers for each in batches]
    return torch.cat(right), torch.cat([each.answers for each in batches])


@torch.no_grad()
def before_training(
    config: Config, seed: int
) -> tuple[Float[Tensor, "S N K"], Float[Tensor, "N K"]]:
    """Logits of ImageNet of test photographs before the first step: by sentence, and plain.

    Args:
        config: of an arm with FiLM.
        seed: of the initial weights of FiLM.
    """
    photographs = held_out_photographs(config.images, config.size, _PHOTOGRAPHS)
    x = prepared(photographs)
    plain = backbone_of(config.backbone)(x)
    seed_everything(seed)
    network = film(backbone_of(config.backbone), config).eval()
    table = embeddings(config.sentences, config.width, "test")
    changed = [network(x, condition=row.expand(len(x), -1)) for row in table]
    return torch.stack(changed), plain


def evaluate(trained: Supervised, config: Config) -> Measurement:
    """Accuracy by kind of sentence; with FiLM also what it did before training."""
    with trained.evaluating() as network:
        right, answers = correct(network, config)
    kind = kinds(answers)
    numbers: dict[Metric, Proportion | float] = {
        metric: Proportion.of(right[kind == i])
        for i, metric in enumerate((COLOUR, SHAPE, SIDE))
        if (kind == i).any()
    }
    if config.film != "none":
        begun = [before_training(config, seed) for seed in range(_STARTS)]
        changed, plain = torch.cat([each[0] for each in begun]), begun[0][1]
        same = changed.argmax(2) == plain.argmax(1)
        photographs = torch.arange(len(plain)).expand_as(same)
        numbers[KEPT] = Proportion.of(same, photographs)
        error = (changed - plain).square().mean().sqrt() / plain.std()
        numbers[LOGITS] = error.item()
    return Measurement.of(Proportion.of(right), numbers)


def draw(trained: Supervised, config: Config) -> Image.Image:
    """Test images with the answers that are given to them."""
    batch = test_batches(config)[0]
    with trained.evaluating() as network, torch.no_grad():
        found = network(batch).argmax(1)
    plot = figure(7.0, 3.4)
    shown = min(10, len(found))
    axes_of = plot.subplots(2, 5).flatten()
    for axes in axes_of:
        axes.axis("off")
    for axes, image, answer, truth in zip(
        axes_of,
        batch.images[:shown],
        found.tolist(),
        batch.answers.tolist(),
        strict=False,
    ):
        axes.imshow(image.permute(1, 2, 0).numpy())
        wrong = f" ({ANSWERS[truth]})" if answer != truth else ""
        colour = BAR if wrong else "black"
        axes.set_title(ANSWERS[answer] + wrong, fontsize="small", color=colour)
    return as_image(plot)


def versions(config: Config) -> dict[str, str]:
    """Names and versions of the packages of the photographs and of the sentence embeddings."""
    found = picture_versions() if config.images == "debian" else {}
    if config.sentences == "minilm":
        found = {**found, **sentences.versions()}
    return found
