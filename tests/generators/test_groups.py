"""Weight-decay groups."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import nn

from featurewise.core import Affine, ArgumentTypeError, Gate, Layout, Site
from featurewise.generators import (
    MLP,
    Generator,
    GeneratorError,
    Learned,
    Linear,
    Lookup,
    Recurrent,
    SqueezeExcite,
    parameter_groups,
)

KIND = (ArgumentTypeError, TypeCheckError)
LAYOUT = Layout((Site("a", 3, Affine()), Site("b", 2, Gate())))


def _names(module: nn.Module, weight_decay: float = 0.1, head: float | None = 0.2) -> Any:
    known = {id(p): name for name, p in module.named_parameters()}
    groups = parameter_groups(module, weight_decay, head)
    return {g["name"]: (g["weight_decay"], {known[id(p)] for p in g["params"]}) for g in groups}


def _network() -> nn.Module:
    recurrent = Recurrent(9, 3, 4)
    recurrent.bind(LAYOUT)
    return nn.ModuleDict(
        {"trunk": nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), "generator": recurrent}
    )


def test_heads_norms_biases_and_embeddings() -> None:
    assert _names(_network()) == {
        "weights": (
            0.1,
            {
                "trunk.0.weight",
                "generator.encoder.recurrent.weight_ih_l0",
                "generator.encoder.recurrent.weight_hh_l0",
            },
        ),
        "heads": (0.2, {"generator.head.weight"}),
        "plain": (
            0.0,
            {
                "trunk.0.bias",
                "trunk.1.weight",
                "trunk.1.bias",
                "generator.encoder.embedding.weight",
                "generator.encoder.recurrent.bias_ih_l0",
                "generator.encoder.recurrent.bias_hh_l0",
                "generator.head.bias",
            },
        ),
    }


def test_every_trainable_parameter_is_in_one_group() -> None:
    network = _network()
    grouped = [p for g in parameter_groups(network, 0.1) for p in g["params"]]
    assert len(grouped) == len({id(p) for p in grouped}) == len(list(network.parameters()))


def test_heads_have_a_separate_group_even_at_the_same_decay() -> None:
    assert _names(_network(), 0.1, None)["heads"][0] == 0.1


@pytest.mark.parametrize(
    ("generator", "head"),
    [
        (Linear(2), {"head.weight"}),
        (MLP(2), {"head.weight"}),
        (Lookup(3), {"table"}),
        (Learned(), {"vector"}),
        (SqueezeExcite(1), {"excite.0.weight", "excite.1.weight"}),
        (Generator(nn.Linear(2, 4), 4), {"head.weight"}),
    ],
)
def test_what_counts_as_a_head(generator: Any, head: set[str]) -> None:
    generator.bind(LAYOUT)
    assert _names(generator)["heads"] == (0.2, head)


def test_frozen_and_shared_parameters() -> None:
    layer = nn.Linear(2, 2)
    tied = nn.Sequential(layer, nn.Linear(2, 2), layer)
    tied[1].weight.requires_grad_(False)
    groups = _names(tied)
    assert groups["weights"] == (0.1, {"0.weight"})
    assert "heads" not in groups


def test_an_optimiser_decays_heads_but_not_biases() -> None:
    generator = Linear(2)
    generator.bind(LAYOUT)
    assert generator.head is not None
    nn.init.ones_(generator.head.weight)
    nn.init.ones_(generator.head.bias)
    optimiser = torch.optim.AdamW(parameter_groups(generator, 0.0, 0.5), lr=0.1)
    generator(torch.zeros(1, 2)).mul(0.0).sum().backward()
    optimiser.step()
    torch.testing.assert_close(generator.head.weight, torch.full((8, 2), 0.95))
    assert torch.equal(generator.head.bias, torch.ones(8))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((None, 0.1), KIND, "module"),
        (([torch.zeros(2)], 0.1), KIND, "module"),
        ((nn.Linear, 0.1), KIND, "module"),
        (("net", 0.1), KIND, "module"),
        ((dict(nn.Linear(1, 1).named_parameters()), 0.1), KIND, "module"),
        ((nn.Linear(1, 1), -0.1), GeneratorError, "weight_decay"),
        ((nn.Linear(1, 1), math.nan), GeneratorError, "weight_decay"),
        ((nn.Linear(1, 1), math.inf), GeneratorError, "weight_decay"),
        ((nn.Linear(1, 1), None), KIND, "weight_decay"),
        ((nn.Linear(1, 1), "0.1"), KIND, "weight_decay"),
        ((nn.Linear(1, 1), True), KIND, "weight_decay"),
        ((nn.Linear(1, 1), torch.tensor(0.1)), KIND, "weight_decay"),
        ((nn.Linear(1, 1), 0.1, -1.0), GeneratorError, "head_weight_decay"),
        ((nn.Linear(1, 1), 0.1, math.nan), GeneratorError, "head_weight_decay"),
        ((nn.Linear(1, 1), 0.1, "1"), KIND, "head_weight_decay"),
        ((nn.ReLU(), 0.1), GeneratorError, "no trainable"),
        ((nn.Linear(1, 1).requires_grad_(False), 0.1), GeneratorError, "no trainable"),
    ],
)
def test_wrong_inputs(arguments: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        parameter_groups(*arguments)
