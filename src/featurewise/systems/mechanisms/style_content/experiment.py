"""Experiment of style and content: letters and vowels, hidden contents, no labels."""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int64
from PIL import Image
from torch import Tensor

from featurewise.models.style_content import classify_contents
from featurewise.study.figures import bars
from featurewise.study.metric import Metric
from featurewise.study.results import Measurement, Proportion
from featurewise.systems.mechanisms.style_content.method import Config
from featurewise.training.source import Source
from featurewise.training.steppers import ClosedForm
from featurewise.worlds.glyphs.sheets import sheet
from featurewise.worlds.glyphs.styles import Styles, StyleSource, alphabets, styles
from featurewise.worlds.glyphs.versions import render_versions
from featurewise.worlds.small.vowels import vowel_samples, vowel_versions


def data(config: Config, seed: int) -> Source[Styles]:
    """Training styles, all contents shown."""
    return StyleSource(samples(config, "train"), config.training_styles, seed)


def samples(config: Config, split: Literal["train", "test"]) -> Float[Tensor, "S L N P"]:
    """The observations of a split."""
    if config.data == "vowels":
        return vowel_samples(split, config.vowel_file)
    return alphabets(config.splits.train if split == "train" else config.splits.test)


def versions(config: Config) -> dict[str, str]:
    """Name and version of what the data come from."""
    if config.data == "vowels":
        return vowel_versions(config.vowel_file)
    return render_versions(config.typefaces)


ERROR = Metric(
    "error",
    "root mean squared difference of a hidden content from its true mean, averaged over "
    "contents; of ink from 0 to 1, or of log area ratios",
    better="lower",
)
UNLABELLED = Metric(
    "unlabelled accuracy",
    "share of the observations of test styles (letters, frames) whose content is "
    "classified correctly, none of the style being labelled",
    "%",
    "higher",
)
LEGIBILITY = Metric(
    "legibility",
    "share of predicted hidden letters that the evaluation classifier classifies "
    "correctly; the mean letter is the most legible, whatever the typeface",
    "%",
    "higher",
)


def test_styles(config: Config) -> tuple[Styles, Int64[Tensor, " H"]]:
    """Test styles, and the indices of the contents that are hidden."""
    batch = styles(samples(config, "test"), shuffled=config.shuffled_condition)
    return batch, (batch.shown[0] == 0).nonzero().flatten()


def groups(config: Config, count: int) -> Int64[Tensor, " F"]:
    """Independent groups of the test styles: related families of typefaces, or speakers."""
    if config.data == "vowels":
        return torch.arange(count)
    families = [typeface.superfamily for typeface in config.splits.test.typefaces]
    return torch.tensor([sorted(set(families)).index(family) for family in families])


def classify(model: Any, batch: Styles, config: Config) -> Bool[Tensor, "F M"]:
    """Classifies all M observations of each style, without labels; whether each is right.

    By EM; with the baseline "nearest", as the content of the nearest training
    observation.
    """
    contents, count = batch.samples.shape[1:3]
    observations = batch.samples.flatten(1, 2)
    truth = torch.arange(contents).repeat_interleave(count)
    if config.model == "nearest":
        return (
            torch.cdist(observations, model.known.flatten(0, 1)).argmin(2) % contents
            == truth
        )
    probabilities = classify_contents(
        model, observations, contents, config.deviation, config.rounds
    )
    return probabilities.argmax(2) == truth


def evaluate(trained: ClosedForm, config: Config) -> Measurement:
    """Errors of hidden contents; classification without labels; of letters, legibility."""
    batch, hidden = test_styles(config)
    with trained.evaluating() as network:
        predicted = network(batch)[:, hidden]
        right = classify(network.get_submodule("model"), batch, config)
    error = (predicted - batch.means[:, hidden]).square().mean(2).sqrt().mean()
    group = groups(config, len(right))[:, None]
    numbers: dict[Metric, Proportion | float] = {
        UNLABELLED: Proportion.of(right, group.expand_as(right)),
        ERROR: float(error),
    }
    if config.data == "letters":
        classifier = config.splits.classifier(config.classifier_steps)
        images = predicted.reshape(-1, 1, config.image_size, config.image_size)
        with torch.no_grad():
            letters = classifier.letters(images).argmax(1).view(len(right), -1)
        legible = letters == hidden
        numbers[LEGIBILITY] = Proportion.of(legible, group.expand_as(legible))
    return Measurement.of(None, numbers)


def draw(trained: ClosedForm, config: Config) -> Image.Image:
    """Hidden letters of four typefaces: the true ones, and below them the predictions.

    Of vowels, a bar for each test speaker: frames that are classified correctly without
    labels.
    """
    batch, hidden = test_styles(config)
    with trained.evaluating() as network:
        predicted = network(batch)
        if config.data == "vowels":
            right = classify(network.get_submodule("model"), batch, config)
            return bars(
                (100 * right.double().mean(1)).tolist(), "speaker", "% correct", first=8
            )
    some = slice(None, None, max(1, len(predicted) // 4))
    pairs = torch.stack((batch.means[some], predicted[some]), dim=1)[:4, :, hidden]
    size = config.image_size
    images = pairs.flatten(0, 1).view(2 * len(pairs), -1, 1, size, size)
    return sheet(images, rows=["true", "predicted"] * len(pairs))
