"""Settings of systems: numbers out of their range are refused, with the name of the field."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from featurewise.cli import discovery
from featurewise.cli.options import changed
from featurewise.training.errors import ExperimentError
from featurewise.worlds.clevr import WorldError
from featurewise.worlds.pictures import PictureError

# Without shape checks, which would refuse values of another type before the check under test.
pytestmark = pytest.mark.traced


def settings(name: str) -> Any:
    return discovery.load(name).preset("tiny")


@pytest.mark.parametrize(
    ("system", "field", "value", "message"),
    [
        ("film", "stem", (8,) * 6, "stem must have 1 to 5 values, got 6"),
        ("style_transfer", "size", 0, "size must be 8 or more, a multiple of 4, got 0"),
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
        ("cogent", "map_size", (0, 4), r"map_size\[0\] must be 1 or more"),
        ("cogent", "conditioned", -1, "conditioned must be 0 or more"),
        ("cogent", "scenes_of_b", 31, "scenes_of_b must be at least 16 times .*, 32, .* got 31"),
        ("humans", "new_scenes", 31, "new_scenes must be at least 16 times .*, 32, .* got 31"),
        ("film", "counts_every", 0, "counts_every must be 1 or more"),
        ("gated_conv", "width", 0, "width must be 1 or more"),
        ("diffusion", "condition_dropout", 1.5, "condition_dropout must be 0 to 1, got 1.5"),
        ("pixelcnn", "ema_decay", 1.0, "ema_decay must be 0 or more and below 1"),
        ("dcgan", "ema_decay", 1.5, "ema_decay must be 0 or more and below 1"),
        ("film", "adam_beta2", 1.0, "adam_beta2 must be 0 or more and below 1"),
        ("mac", "share", 1.5, "share must be above 0 and at most 1"),
        ("film", "dilations", (), "dilations must have 1 or more values, got 0"),
        ("adabn", "widths", (), "widths must have 1 or more values"),
        ("audio_effect", "dilations", (), "dilations must have 1 or more values"),
        ("film", "curriculum", (), "curriculum must have 1 or more values"),
        ("zero_shot", "text", "glov", "text must be 'glove', .* or 'classes', got 'glov'"),
        ("zero_shot", "method", "devis", "method must be 'devise', 'socher', 'conse' or 'parts'"),
        ("text_classifier", "predicts", "bias", "predicts must be 'weights', .*, got 'bias'"),
        ("text_classifier", "features", "pixels", "features must be 'convolutions' here"),
        ("wavenet", "condition", "all", "condition must be 'both', 'local', 'global' or 'none'"),
        ("wavenet", "operation", "scale", "operation must be 'shift' or 'affine', got 'scale'"),
        ("wavenet", "dilations", 33, "dilations must be 1 to 16, got 33"),
        ("ablations", "conditioned", 9, "conditioned=9 exceeds blocks="),
        ("ablations", "channels", 2.5, r"channels must be an integer, got 2\.5"),
        ("diffusion", "image_size", 17, "image_size must be a multiple of 2"),
        ("diffusion", "widths", (8, 12), r"widths\[1\] must be 8 or more, a multiple of 8, got 12"),
        ("dynamic_layer_norm", "frames", 7, "frames must be 2 or more, a multiple of 2, got 7"),
        ("residual_adapters", "domains", ("a", "b", "c", "d"), "domains: 'a' is unknown; there is"),
        ("residual_adapters", "domains", ("digits",), "domains must have 4 values, got 1"),
        ("residual_adapters", "base_steps", 10**6, "base_steps must be at most steps"),
        ("style_content", "rank", 33, "rank must be at most the number of contents, 6, got 33"),
        ("style_transfer", "size", 33, "size must be 8 or more, a multiple of 4, got 33"),
        ("adain", "narrow", 99, "narrow must be at most the channels of a layer, .*, got 99"),
        ("mac", "width", 1, "width must be 2 or more, a multiple of 2, got 1"),
        ("adabn", "widths", (8, 0), r"widths\[1\] must be 1 or more"),
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
    assert replace(settings("cavia_image"), inner_steps=0).inner_steps == 0
    assert replace(settings("residual_adapters"), base_steps=0).base_steps == 0
    assert replace(settings("regularization"), layers=0).layers == 0
    assert replace(settings("style_transfer"), blocks=0, new_style_steps=0).blocks == 0
    assert replace(settings("diffusion"), condition_dropout=1.0).condition_dropout == 1
    assert replace(settings("film"), counts_every=None, head_std=0.0).head_std == 0


@pytest.mark.parametrize(
    ("system", "change", "message"),
    [
        ("style_transfer", {"styles": ("rings", "rings")}, "styles: 'rings' is there 2 times"),
        ("style_transfer", {"new_styles": ("rings",)}, "styles_and_new_styles: 'rings' is there"),
        ("adain", {"unseen": ("rings",)}, "styles_and_unseen: 'rings' is there 2 times"),
    ],
)
def test_paintings_that_are_named_twice_are_refused(
    system: str, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(PictureError, match=f"^{message}"):
        replace(settings(system), **change)


@pytest.mark.parametrize(
    ("system", "change"),
    [
        ("cavia_image", {"inner_steps": 0}),
        ("residual_adapters", {"base_steps": 0}),
        ("residual_adapters", {"base_steps": 9, "steps": 9}),
        ("style_transfer", {"blocks": 0}),
        ("pixelcnn", {"ema_decay": 0.0}),
        ("diffusion", {"condition_dropout": 1.0}),
    ],
)
def test_zero_is_trained_where_it_is_allowed(system: str, change: dict[str, Any]) -> None:
    record = discovery.load(system)
    config = replace(record.config("tiny", record.arms[0].name), **change)
    stepper = record.stepper(record.build(config), config)
    for index in range(2):
        stepper.step(record.data(config, 0).batch(index))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": 0}, "images must be 1 or more, got 0"),
        ({"steps": -3}, "steps must be 1 or more, got -3"),
        ({"questions_per_image": 0}, r"questions_per_image must be 1 or more \(or None\), got 0"),
        ({"recipe": 3}, "recipe must be Recipe, got 3"),
    ],
)
def test_numbers_in_a_stage_of_a_curriculum(change: dict[str, Any], message: str) -> None:
    (*_, stage) = settings("film").curriculum
    with pytest.raises(WorldError, match=f"^{message}"):
        replace(stage, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": -1}, "seed must be 0 or more"),
        ({"width": 0}, "width must be 1 or more"),
        ({"max_objects": 11}, "max_objects must be 1 to 10"),
        ({"min_objects": 9, "max_objects": 3}, "min_objects must be at most max_objects, 3, got 9"),
        ({"width": 100_000, "height": 100_000}, "an image has at most 16777216 pixels"),
        ({"families": (90,)}, r"families\[0\] must be 0 to 89 \(or None\), got 90"),
        ({"families": ()}, "families must have 1 or more values"),
        ({"cogent": "C"}, "cogent must be 'A' or 'B'"),
        ({"renderer": "blender"}, "renderer must be 'numba' or 'torch'"),
    ],
)
def test_values_of_a_recipe(change: dict[str, Any], message: str) -> None:
    (*_, stage) = settings("film").curriculum
    with pytest.raises(WorldError, match=f"^{message}"):
        replace(stage.recipe, **change)


def test_numbers_of_a_perception() -> None:
    features = discovery.load("film").preset("full").perception
    with pytest.raises(ExperimentError, match=r"^perception\.widths\[1\] must be 1 or more"):
        replace(settings("film"), perception=replace(features, widths=(8, 0, 8)))


def test_a_painting_that_is_unknown_is_named() -> None:
    config = replace(settings("style_transfer"), styles=("rings", "mona_lisa"))
    with pytest.raises(PictureError, match="is called 'mona_lisa'; there is horizontal"):
        config.paintings(*config.styles)


def test_the_command_line_names_the_setting() -> None:
    for system, assignment, message in (
        ("style_transfer", "size=-1", "settings: size must be 8 or more, a multiple of 4, got -1"),
        ("style_transfer", 'styles=["a","a"]', "settings: styles: 'a' is there 2 times"),
        ("cogent", "scenes_of_b=16", "settings: scenes_of_b must be at least 16 times"),
        ("diffusion", "condition_dropout=1.5", "settings: condition_dropout must be 0 to 1"),
        ("wavenet", "condition=all", "settings: condition must be 'both', 'local', 'global' or"),
        ("audio_effect", "dilations=[]", "settings: dilations must have 1 or more values, got 0"),
        ("film", "curriculum=[]", "settings: curriculum must have 1 or more values, got 0"),
        ("film", "curriculum=[{}]", "settings.curriculum[0]: recipe is missing"),
        ("film", 'folder={"path": 3, "split": "a"}', "settings.folder: path must be a text"),
        ("film", "perception=3", "settings: perception must be Perception (or None), got 3"),
        ("wavenet", "clip=-1", "settings: clip must be 0 or more, got -1.0"),
        ("wavenet", "clip=1e999", "settings: clip must be a finite number, got inf"),
    ):
        with pytest.raises(ExperimentError, match=re.escape(message)):
            changed(discovery.load(system), "tiny", [assignment])


def test_a_large_number_is_taken_where_it_means_something() -> None:
    """No gradient is clipped then."""
    config = changed(discovery.load("wavenet"), "tiny", ["clip=1e30"])
    assert config is not None and config.clip == 1e30  # type: ignore[attr-defined]
