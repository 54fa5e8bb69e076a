"""Settings of systems: numbers out of their range are refused, with the name of the field."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from featurewise.cli import discovery
from featurewise.cli.options import changed
from featurewise.training.errors import ExperimentError
from featurewise.worlds.pictures import PictureError


def settings(name: str) -> Any:
    return discovery.load(name).preset("tiny")


@pytest.mark.parametrize(
    ("system", "field", "value", "message"),
    [
        ("style_transfer", "size", 0, "size must be 1 or more, got 0"),
        ("style_transfer", "test_images", -1, "test_images must be 1 or more, got -1"),
        ("style_transfer", "learning_rate", 0.0, "learning_rate must be above 0, got 0.0"),
        ("style_transfer", "style_weight", -1.0, "style_weight must be 0 or more, got -1.0"),
        ("style_transfer", "style_weight", float("nan"), "style_weight must be a finite number"),
        ("style_transfer", "only", -1, "only must be 0 or more"),
        ("style_transfer", "only", 3, "only=3 of 3 styles"),
        ("style_transfer", "reconstruction_steps", -1, "reconstruction_steps must be 0 or more"),
        ("adain", "painting_crops", 0, "painting_crops must be 1 or more"),
        ("modern", "train_images", 0, "train_images must be 1 or more"),
        ("modern", "generator_rate", 0.0, "generator_rate must be above 0"),
        ("film_efficientnet", "test_batches", -4, "test_batches must be 1 or more"),
        ("cogent", "map_size", (0, 4), "map_size must be 1 or more"),
        ("cogent", "conditioned", -1, "conditioned must be 0 or more"),
        ("cogent", "scenes_of_b", 31, "scenes_of_b must be at least 16 times .*, 32, .* got 31"),
        ("humans", "new_scenes", 31, "new_scenes must be at least 16 times .*, 32, .* got 31"),
        ("film", "counts_every", 0, "counts_every must be 1 or more"),
        ("gated_conv", "width", 0, "width must be 1 or more"),
        ("adabn", "widths", (8, 0), "widths must be 1 or more"),
    ],
)
def test_numbers_out_of_range_are_refused(
    system: str, field: str, value: Any, message: str
) -> None:
    with pytest.raises(ExperimentError, match=f"^{message}"):
        replace(settings(system), **{field: value})


def test_zero_and_negative_numbers_are_kept_where_they_mean_something() -> None:
    assert replace(settings("highway"), gate_bias=-2.0).gate_bias == -2
    assert replace(settings("cavia"), inner_steps=0).inner_steps == 0
    assert replace(settings("style_transfer"), only=0, reconstruction_steps=0).only == 0
    assert replace(settings("film"), counts_every=None, head_std=0.0).head_std == 0


@pytest.mark.parametrize(
    ("system", "change", "message"),
    [
        ("style_transfer", {"styles": ()}, "styles must have the name of at least one painting"),
        ("style_transfer", {"styles": ("rings", "rings")}, "styles: 'rings' is there 2 times"),
        ("style_transfer", {"new_styles": ("rings",)}, "styles_and_new_styles: 'rings' is there"),
        ("adain", {"unseen": ()}, "unseen must have the name of at least one painting"),
        ("adain", {"unseen": ("rings",)}, "styles_and_unseen: 'rings' is there 2 times"),
    ],
)
def test_paintings_that_are_named_twice_or_not_at_all_are_refused(
    system: str, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(PictureError, match=f"^{message}"):
        replace(settings(system), **change)


def test_a_painting_that_is_unknown_is_named() -> None:
    config = replace(settings("style_transfer"), styles=("rings", "mona_lisa"))
    with pytest.raises(PictureError, match="is called 'mona_lisa'; there is horizontal"):
        config.paintings(*config.styles)


def test_the_command_line_names_the_setting() -> None:
    for system, assignment, message in (
        ("style_transfer", "size=-1", "settings: size must be 1 or more, got -1"),
        ("style_transfer", 'styles=["a","a"]', "settings: styles: 'a' is there 2 times"),
        ("cogent", "scenes_of_b=16", "settings: scenes_of_b must be at least 16 times"),
    ):
        with pytest.raises(ExperimentError, match=re.escape(message)):
            changed(discovery.load(system), "tiny", [assignment])
