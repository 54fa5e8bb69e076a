"""CAVIA on pictures: its steps against gradients by hand, its arms, its controls, its sheet."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from featurewise.systems.few_shot.cavia_image import (
    SYSTEM,
    Pictures,
    build,
    data,
    draw,
    evaluate,
    held_out,
)
from featurewise.training.inner import Context, Weights
from featurewise.training.steppers import Episodic

S = replace(SYSTEM.preset("tiny"), tasks=3, held_out=12)


def made(arm: str) -> nn.Module:
    torch.manual_seed(0)
    return build(S, SYSTEM.arm(arm))


def trainer(name: str, s: Pictures) -> Episodic:
    torch.manual_seed(0)
    return SYSTEM.stepper(build(s, SYSTEM.arm(name)), s, SYSTEM.arm(name))


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
    network, tasks = made("cavia"), data(S, SYSTEM.arm("cavia"), 0).batch(0)
    assert isinstance(network, Context)
    for row in range(S.tasks):
        phi = torch.zeros(S.context)
        for _ in range(S.inner):
            phi = phi.detach().requires_grad_()
            answers = filmed(network, tasks.support_x[row], phi)
            (answers - tasks.support_y[row]).square().mean().backward()
            phi = phi - S.rate * phi.grad
        torch.testing.assert_close(
            network(tasks)[row], filmed(network, tasks.query_x[row], phi), rtol=1e-4, atol=1e-5
        )


def test_what_each_arm_fits() -> None:
    tasks = data(S, SYSTEM.arm("cavia"), 0).batch(0)
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
    batches = {n: data(S, SYSTEM.arm(n), 1).batch(0) for n in ("cavia", "ordered", "shuffled")}
    plain = batches["cavia"]
    assert all(torch.equal(each.query_y, plain.query_y) for each in batches.values())
    assert torch.equal(batches["ordered"].support_x, plain.query_x[:, : S.shots])
    assert torch.equal(batches["shuffled"].support_y, plain.support_y.roll(1, 0))


@pytest.mark.parametrize("preset", ["small", "paper"])
def test_held_out_pieces_are_cut_at_every_size(preset: str) -> None:
    """They come after the training: a size that no photograph has must not be found only then."""
    s = replace(SYSTEM.preset(preset), held_out=2)
    tasks = held_out(s, SYSTEM.arm("cavia"))
    assert tasks.support_x.shape == (2, s.shots, 2)
    assert tasks.query_y.shape == (2, s.size**2, 3)


def test_it_learns_and_the_control_does_not() -> None:
    s, found = replace(S, steps=120, tasks=8, held_out=60), {}
    for name in ("cavia", "shuffled"):
        arm = SYSTEM.arm(name)
        trained = trainer(name, s)
        source = data(s, arm, 0)
        for index in range(s.steps):
            trained.step(source.batch(index))
        found[name] = evaluate(trained, s, arm).values
    assert found["cavia"]["left"] < 0.2
    assert found["cavia"]["swapped"] > found["cavia"]["before"]
    assert found["shuffled"]["error"] > 3 * found["cavia"]["error"]
    tasks = held_out(s, SYSTEM.arm("cavia"))
    for name, guess in (("of_mean", tasks.mean()), ("of_nearest", tasks.nearest())):
        floor = ((guess - tasks.query_y) ** 2).mean().item()
        for values in found.values():  # of a piece's own pixels, whatever the network is given
            assert values["error"] == pytest.approx(values[name] * floor)


def test_the_sheet_ends_in_the_truth() -> None:
    arm = SYSTEM.arm("cavia")
    picture = draw(trainer("cavia", S), S, arm)
    assert picture.size == (12 * 18 * 4, 4 * 18 * 4)
    pixels = torch.from_numpy(np.array(picture))[::4, ::4]
    first = held_out(S, arm).query_y[0].view(16, 16, 3)
    found = pixels[3 * 18 + 1 : 4 * 18 - 1, 1:17].float() / 255
    torch.testing.assert_close(found, first, rtol=0, atol=0.003)
    given = (pixels[1:17, 1:17].sum(2) > 0).sum()
    assert given <= S.shots
