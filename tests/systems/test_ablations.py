"""Ablations of FiLM against a forward pass written by hand, and the maps that they read."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from featurewise.retrofit import Conditioned
from featurewise.systems.reasoning.ablations import SYSTEM
from featurewise.systems.reasoning.ablations.experiment import evaluate
from featurewise.systems.reasoning.ablations.method import (
    SITES,
    AblatedNetwork,
    Config,
    stepper,
)
from featurewise.systems.reasoning.ablations.presets import PRESETS
from featurewise.worlds.clevr import ANSWERS, Batch, collate, encode
from featurewise.worlds.clevr.maps import MAP_CHANNELS, object_maps
from featurewise.worlds.clevr.vocabulary import ATTRIBUTES

QUESTIONS = ("How many cubes are left of the ball?", "Is there a red thing?", "What size is it?")
GAMMA = {
    "affine": lambda g: 1 + g,
    "scale": lambda g: 1 + g,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "exp": torch.exp,
}


def config(**changes: object) -> Config:
    return replace(PRESETS["tiny"], map_size=(3, 4), **changes)  # type: ignore[arg-type]


def batch() -> Batch:
    rng = torch.Generator().manual_seed(0)
    maps = torch.randn(2, MAP_CHANNELS, 3, 4, generator=rng).bfloat16()
    return collate(maps, [0, 1, 1], [encode(q) for q in QUESTIONS], [0, 1, 2], [0, 0, 0])


def network(config: Config) -> AblatedNetwork:
    torch.manual_seed(1)
    found = AblatedNetwork(config)
    for part in found.modules():  # statistics that are not those of a new network
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_()  # type: ignore[union-attr]
            part.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return found.eval()


def by_hand(net: AblatedNetwork, config: Config, given: Batch) -> Tensor:
    """γ and β of the questions, then the blocks one operation after the other."""
    trunk = net.trunk.backbone if isinstance(net.trunk, Conditioned) else net.trunk
    parameters = {}
    if isinstance(net.trunk, Conditioned):
        parameters = net.trunk.represent((given.questions, given.lengths)).named
    count = config.blocks if config.conditioned is None else config.conditioned

    def film(x: Tensor, index: int, place: str) -> Tensor:
        if place != config.place or index >= count:
            return x
        values = parameters[SITES[place].format(index)]
        gamma = beta = None
        if "gamma" in values:
            gamma = GAMMA[config.operation](values["gamma"])[:, :, None, None]
        if "beta" in values:
            beta = values["beta"][:, :, None, None]
        x = x if gamma is None else gamma * x
        return x if beta is None else x + beta

    x = F.relu(trunk.stem(given.images.float()[given.image_index]))
    for index, block in enumerate(trunk.blocks):
        h = F.relu(block.project(film(x, index, "before the first convolution")))
        y = film(block.convolve(h), index, "after the convolution")
        if config.norm:
            norm = block.norm
            y = (y - norm.running_mean[:, None, None]) / torch.sqrt(
                norm.running_var[:, None, None] + norm.eps
            )
        y = film(y, index, "after the norm")
        y = film(F.relu(y), index, "after the ReLU")
        x = film(h + y if config.residual else y, index, "after the block")
    return net.answer(x)


@pytest.mark.parametrize("arm", [arm.name for arm in SYSTEM.arms])
def test_every_arm_is_what_it_says(arm: str) -> None:
    changed = {**SYSTEM.arm(arm).changes}
    settings = config(**changed)
    net, given = network(settings), batch()
    with torch.no_grad():
        torch.testing.assert_close(net(given), by_hand(net, settings, given), atol=1e-4, rtol=1e-4)


def test_no_arm_is_another_one() -> None:
    """The arms' answers differ, but for the control, whose questions do."""
    given, found = batch(), {}
    for arm in SYSTEM.arms:
        if not arm.is_control:
            settings = replace(PRESETS["tiny"], map_size=(3, 4), blocks=4)
            settings = replace(settings, **arm.changes)
            with torch.no_grad():
                found[arm.name] = network(settings)(given)
    names = list(found)
    for one in names:
        for other in names[names.index(one) + 1 :]:
            assert not torch.allclose(found[one], found[other]), (one, other)


def test_a_network_without_film_ignores_the_question() -> None:
    net, given = network(config(conditioned=0)), batch()
    other = collate(given.images, [0, 1, 1], [encode(QUESTIONS[0])] * 3, [0, 1, 2], [0, 0, 0])
    with torch.no_grad():
        assert torch.equal(net(given), net(other))


def test_maps_hold_the_attributes_where_the_objects_are() -> None:
    objects = torch.full((2, 10, 6), -1)
    objects[0, 0] = torch.tensor([1, 3, 0, 2, 10, 10])  # small green rubber cylinder, top left
    objects[1, 4] = torch.tensor([0, 0, 1, 0, 470, 310])  # large gray metal cube, bottom right
    maps = object_maps(objects, 4, 6)
    assert maps.shape == (2, MAP_CHANNELS, 4, 6)
    starts, start = {}, 1
    for name, values in ATTRIBUTES.items():
        starts[name], start = start, start + len(values)
    assert start == MAP_CHANNELS
    for row, cell, values in ((0, (0, 0), (1, 3, 0, 2)), (1, (3, 5), (0, 0, 1, 0))):
        expected = {0, *(starts[n] + v for n, v in zip(ATTRIBUTES, values, strict=True))}
        assert set(maps[row, :, cell[0], cell[1]].nonzero().flatten().tolist()) == expected
        assert maps[row].sum() == 5


def test_it_learns_one_batch_and_is_tested_on_other_scenes() -> None:
    settings = config()
    torch.manual_seed(0)
    net = AblatedNetwork(settings)
    trained = stepper(net, replace(settings, steps=150))
    given = batch()
    losses = [float(trained.step(given)["loss"]) for _ in range(150)]
    assert losses[-1] < 0.5 * losses[0]


def test_accuracy_is_that_of_the_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config(test_scenes=12)
    trained = stepper(AblatedNetwork(settings), settings)

    class Right(torch.nn.Module):
        def forward(self, given: Batch) -> Tensor:
            return F.one_hot(given.answers, len(ANSWERS)).float()

    class Evaluating:
        def __enter__(self) -> Right:
            return Right()

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(trained, "evaluating", Evaluating)
    found = evaluate(trained, settings)
    assert found.number() == 1.0
    shuffled = evaluate(trained, replace(settings, shuffled_questions=True))
    assert shuffled.number() == 1.0  # the labels stay, only the questions move
