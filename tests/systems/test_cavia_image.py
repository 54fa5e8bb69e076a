"""CAVIA for image completion: inner steps against gradients by hand, arms, controls, figure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from featurewise.study.inner_loops import ERROR, ERROR_BEFORE, ERROR_SWAPPED, RELATIVE_ERROR
from featurewise.systems.few_shot.cavia_image import (
    OVER_MEAN,
    OVER_NEAREST,
    SYSTEM,
    Config,
    build,
    data,
    draw,
    evaluate,
)
from featurewise.systems.few_shot.cavia_image import test_crops as crops_of_test
from featurewise.training.inner import Context, Weights
from featurewise.training.steppers import Episodic

S = replace(SYSTEM.preset("tiny"), tasks=3, test_tasks=12)


def config_of(arm: str, base: Config = S) -> Config:
    return SYSTEM.config(base, arm)


def made(arm: str) -> nn.Module:
    torch.manual_seed(0)
    return build(config_of(arm))


def trainer(config: Config) -> Episodic:
    torch.manual_seed(0)
    return SYSTEM.stepper(build(config), config)


def filmed(network: Context, x: Tensor, phi: Tensor) -> Tensor:
    """Every hidden layer, then γ and β by one linear map of φ, then a ReLU."""
    *hidden, last = (layer for layer in network.net.backbone if isinstance(layer, nn.Linear))
    for layer, numbers in zip(
        hidden, (network.net.generator.weight @ phi).split(2 * S.width), strict=True
    ):
        gamma, beta = numbers.split(S.width)
        x = torch.relu((1 + gamma) * layer(x) + beta)
    return last(x)


def test_three_steps_on_the_context_alone() -> None:
    network, tasks = made("cavia"), data(config_of("cavia"), 0).batch(0)
    assert isinstance(network, Context)
    for row in range(S.tasks):
        phi = torch.zeros(S.context)
        for _ in range(S.inner_steps):
            phi = phi.detach().requires_grad_()
            answers = filmed(network, tasks.support_x[row], phi)
            (answers - tasks.support_y[row]).square().mean().backward()
            phi = phi - S.context_learning_rate * phi.grad
        torch.testing.assert_close(
            network(tasks)[row], filmed(network, tasks.query_x[row], phi), rtol=1e-4, atol=1e-5
        )


def test_what_each_arm_adapts() -> None:
    tasks = data(config_of("cavia"), 0).batch(0)
    sizes = {"cavia": S.context, "concat": S.context, "film": 2 * S.width * S.depth}
    for name, size in sizes.items():
        network = made(name)
        assert isinstance(network, Context)
        assert network.fit(tasks).shape == (3, size)
    plain = made("unadapted")
    assert isinstance(plain, Weights)
    assert torch.equal(plain.fit(tasks), plain.initial(tasks))
    sites = {name: list(made(name).net.layout.names) for name in sizes}
    assert sites == {"cavia": ["0", "2"], "concat": ["0"], "film": ["0", "2"]}


def test_arms_differ_in_what_is_given() -> None:
    batches = {n: data(config_of(n), 1).batch(0) for n in ("cavia", "ordered", "shuffled")}
    plain = batches["cavia"]
    assert all(torch.equal(each.query_y, plain.query_y) for each in batches.values())
    assert torch.equal(batches["ordered"].support_x, plain.query_x[:, : S.shots])
    assert torch.equal(batches["shuffled"].support_y, plain.support_y.roll(1, 0))


@pytest.mark.parametrize("preset", ["small", "paper"])
def test_test_crops_exist_at_every_size(preset: str) -> None:
    """They come after the training: a size that no photograph has must not be found only then."""
    s = replace(SYSTEM.preset(preset), test_tasks=2)
    tasks = crops_of_test(s)
    assert tasks.support_x.shape == (2, s.shots, 2)
    assert tasks.query_y.shape == (2, s.image_size**2, 3)


def test_it_learns_and_the_control_does_not() -> None:
    s, found = replace(S, steps=120, tasks=8, test_tasks=60), {}
    for name in ("cavia", "shuffled"):
        config = config_of(name, s)
        trained = trainer(config)
        source = data(config, 0)
        for index in range(s.steps):
            trained.step(source.batch(index))
        found[name] = evaluate(trained, config)
    assert found["cavia"].number(RELATIVE_ERROR) < 0.2
    assert found["cavia"].number(ERROR_SWAPPED) > found["cavia"].number(ERROR_BEFORE)
    assert found["shuffled"].number(ERROR) > 3 * found["cavia"].number(ERROR)
    tasks = crops_of_test(s)
    for metric, guess in ((OVER_MEAN, tasks.mean()), (OVER_NEAREST, tasks.nearest())):
        floor = ((guess - tasks.query_y) ** 2).mean().item()
        for each in found.values():  # of an image's own pixels, whatever the network is given
            assert each.number(ERROR) == pytest.approx(each.number(metric) * floor)


def test_the_sheet_ends_in_the_truth() -> None:
    sheet = draw(trainer(S), S)
    assert sheet.size == (12 * 18 * 4, 4 * 18 * 4)
    pixels = torch.from_numpy(np.array(sheet))[::4, ::4]
    first = crops_of_test(S).query_y[0].view(16, 16, 3)
    found = pixels[3 * 18 + 1 : 4 * 18 - 1, 1:17].float() / 255
    torch.testing.assert_close(found, first, rtol=0, atol=0.003)
    given = (pixels[1:17, 1:17].sum(2) > 0).sum()
    assert given <= S.shots
