"""The shipped network of styles paints as its model file says."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from featurewise.cli import discovery
from featurewise.models.pretrained import WeightsError
from featurewise.study.model import load_network, read_model
from featurewise.systems.style.style_transfer import SYSTEM, Config, StyleTransfer
from featurewise.systems.style.style_transfer.application import TransferStylist
from featurewise.systems.style.style_transfer.experiment import classifier, painted
from featurewise.worlds.pictures import MissingPicturesError, held_out_photographs

FOLDER = discovery.shipped_model(discovery.module("style_transfer"))


@pytest.fixture(scope="module")
def shipped() -> tuple[StyleTransfer, Config]:
    network, config = load_network(FOLDER, SYSTEM)
    assert isinstance(network, StyleTransfer)
    return network.eval(), config


def gradient(height: int = 60, width: int = 90) -> Tensor:
    """An image that no painter made: red to the right, green downwards, a blue square."""
    image = torch.zeros(3, height, width)
    image[0] = torch.linspace(0, 255, width)
    image[1] = torch.linspace(0, 255, height)[:, None]
    image[2, 20:40, 30:60] = 255
    return image.byte()


def test_it_is_small_and_says_what_it_was_trained_on() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 10e6
    model = read_model(FOLDER)
    assert model.steps == SYSTEM.preset("full").steps
    assert "22 works" in model.world
    assert model.licence


def test_its_settings_are_those_of_the_preset(shipped: tuple[StyleTransfer, Config]) -> None:
    assert shipped[1] == SYSTEM.config("full", "affine")


def test_styles_differ_and_keep_what_is_seen(shipped: tuple[StyleTransfer, Config]) -> None:
    network, config = shipped
    stylist, image = TransferStylist(), gradient()
    made = {
        name: stylist.paint(network, config, image, {name: 1.0}, {}).float()
        for name in stylist.styles(config)
    }
    assert len(made) == 8
    names = list(made)
    for one, other in pairwise(names):
        assert (made[one] - made[other]).abs().mean() > 5, (one, other)
    for name, result in made.items():
        inside = result[:, 24:36, 36:54].mean((1, 2))
        outside = result[:, 44:56, 36:54].mean((1, 2))
        assert (inside - outside).abs().max() > 5, name  # the square is still there


def test_a_photograph_is_matched_with_its_painting(
    shipped: tuple[StyleTransfer, Config],
) -> None:
    network, config = shipped
    try:
        classify = classifier(config)
        images = held_out_photographs(config.images, config.size, config.test_images)
    except (MissingPicturesError, WeightsError) as error:
        pytest.skip(str(error))
    with torch.no_grad():
        logits = [classify.logits(painted(network, images, n)) for n in range(8)]
    scores = torch.stack(logits).log_softmax(2)
    matched = (scores.argmax(0) == torch.arange(8)).float().mean()
    assert float(matched) == pytest.approx(
        next(iter(read_model(FOLDER).measured.values())).number("matched styles"), abs=0.02
    )
