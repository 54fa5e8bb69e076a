"""``advice``: its numbers are those of the network, and its code runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import nn

from featurewise.core import Affine, ArgumentTypeError, LayoutError, Scale, Shift
from featurewise.generators import (
    MLP,
    GatedGenerator,
    Generator,
    Learned,
    Linear,
    Lookup,
    ParameterDropout,
    SqueezeExcite,
)
from featurewise.retrofit import Conditioned, advice, condition

KIND = (ArgumentTypeError, TypeCheckError)


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, bias=False),  # 432
        nn.BatchNorm2d(16),  # 32
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, bias=False),  # 4608
        nn.BatchNorm2d(32),  # 64
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),  # 330
    )


def film(generator: nn.Module, **kwargs: Any) -> Conditioned:
    return condition(network(), **{"at": nn.BatchNorm2d, "generator": generator, **kwargs})


def steps(found: Any) -> dict[str, Any]:
    return {step.topic: step for step in found.steps}


def test_the_numbers_are_those_of_the_network() -> None:
    found = advice(film(MLP(4, (5, 6))), examples=1000)
    mlp = (4 * 5 + 5) + (5 * 6 + 6) + (6 * 96 + 96)
    assert found.generator == "MLP"
    assert found.generator_parameters == mlp
    assert found.backbone_parameters == found.backbone_trained == 5466
    assert (found.sites, found.per_condition, found.depth) == (2, 96, 3)
    assert (found.conditions, found.examples) == (None, 1000)
    assert (found.layers_after, found.pools_after) == ((2, 1), 1)
    assert found.batch_norms == (2, 2)
    assert found.neutral
    assert found.groups == {
        "weights": 20 + 30 + 432 + 4608 + 320,
        "heads": 576,
        "plain": 5 + 6 + 96 + 32 + 64 + 10,
    }
    assert found.share == mlp / 5466
    assert found.large is (mlp >= 546.6)
    text = str(found)
    for words in (f"{mlp:,} trainable", "5,466", "96 parameters per condition", "1,000 examples"):
        assert words in text
    assert max(map(len, text.splitlines())) <= 96


@pytest.mark.parametrize(
    ("at", "when", "expected"),
    [
        ("0", "output", (2, 2)),
        ("0", "input", (3, 3)),
        ("5", "output", (1, 1)),
        (["0", "8"], "output", (2, 0)),
    ],
)
def test_layers_after_the_sites(at: Any, when: str, expected: tuple[int, int]) -> None:
    found = advice(film(Learned(), at=at, when=when))
    assert found.layers_after == expected
    only_scales = "only scales and shifts the output" in steps(found)["Where the sites are"].text
    assert only_scales is (expected[1] == 0)


def test_a_site_that_is_a_block() -> None:
    nested = nn.Sequential(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4)), nn.Linear(4, 2))
    net = condition(nested, at="0", generator=Learned(), example=torch.zeros(1, 2))
    assert advice(net).layers_after == (1, 1)


def test_only_what_is_trained_counts() -> None:
    encoder = nn.Linear(4, 5).requires_grad_(False)
    net = film(Generator(encoder, 5))
    net.backbone.requires_grad_(False)
    net.backbone[4].requires_grad_(True)  # type: ignore[index]
    found = advice(net)
    assert found.generator_parameters == 5 * 96 + 96
    assert (found.backbone_parameters, found.backbone_trained) == (5466, 4608)
    shared = network()
    net = condition(shared, at="8", generator=Generator(shared[0], 16))
    assert advice(net).generator_parameters == 16 * 20 + 20


def test_a_frozen_backbone_and_its_statistics() -> None:
    net = film(Linear(4))
    net.backbone.requires_grad_(False)
    found = steps(advice(net))
    assert found["Batch normalisation"].urgent
    assert "all 5,466 parameters are frozen" in found["The backbone"].text
    net.backbone.eval()
    assert not steps(advice(net))["Batch normalisation"].urgent
    net.generator.requires_grad_(False)
    found = advice(net)
    assert found.groups == {} and "nothing is trained" in found.code
    plain = condition(nn.Linear(2, 3), at="", generator=Learned())
    assert "Batch normalisation" not in steps(advice(plain))


@pytest.mark.parametrize(
    ("generator", "depth", "urgent"),
    [
        (Linear(100), 1, False),
        (MLP(100, (8,)), 2, True),
        (GatedGenerator(MLP(100, (8,))), 2, True),
        (Lookup(50), 1, False),
        (Learned(), 0, False),
        (SqueezeExcite(1), 2, True),
    ],
)
def test_deep_generators(generator: nn.Module, depth: int, urgent: bool) -> None:
    found = advice(film(generator, operation=Scale()))
    assert found.depth == depth
    assert steps(found)["Simplify the generator"].urgent is urgent
    large = steps(found)["Regularise the generator first"].urgent
    assert large is found.large is (found.generator_parameters >= 0.1 * 5466)


def test_conditions_and_examples() -> None:
    found = advice(film(ParameterDropout(Lookup(50))), examples=200)
    assert found.conditions == 50
    gap = steps(found)["Watch the gap between training and validation"]
    assert gap.urgent  # 4800 numbers for 200 examples
    for words in (
        "4,800 trainable parameters",
        "24 for each of 200",
        "96 for each of 50",
        "seen 4 times each",
    ):
        assert words in gap.text
    assert not steps(advice(film(Lookup(2)), 193))[gap.topic].urgent
    assert "examples" not in steps(advice(film(Lookup(2))))[gap.topic].text


def test_an_operation_without_identity() -> None:
    found = advice(film(Linear(4), operation=Affine("tanh"), identity=False))
    assert not found.neutral
    assert steps(found)["Start with FiLM"].urgent
    assert not steps(advice(film(Linear(4), operation=Shift())))["Start with FiLM"].urgent


@pytest.mark.parametrize("generator", [Linear(4), GatedGenerator(Linear(4)), SqueezeExcite()])
def test_the_code_runs(generator: nn.Module) -> None:
    net = film(generator)
    found = advice(net)
    space: dict[str, Any] = {"net": net}
    exec(found.code, space)
    groups = {g["name"]: sum(p.numel() for p in g["params"]) for g in space["groups"]}
    assert groups == found.groups
    trained = sum(p.numel() for p in net.parameters() if p.requires_grad)
    assert sum(groups.values()) == trained
    assert isinstance(space["optimizer"], torch.optim.Optimizer)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((network(),), KIND, "net"),
        ((None,), KIND, "net"),
        ((film(Linear(4)), "10"), KIND, "examples"),
        ((film(Linear(4)), True), KIND, "examples"),
        ((film(Linear(4)), 0), LayoutError, "examples"),
    ],
)
def test_wrong_inputs(arguments: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        advice(*arguments)
