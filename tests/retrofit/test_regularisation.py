"""Overfitting of a generator, and regularisers against it, measured on held-out tasks.

The table of the page on regularisation is printed by
``pytest -s -m slow tests/retrofit/test_regularisation.py``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from statistics import mean
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from featurewise.generators import (
    MLP,
    Bounded,
    GatedGenerator,
    Linear,
    ParameterDropout,
    deviation,
    parameter_groups,
    spectral,
)
from featurewise.retrofit import condition

SEEDS = (0, 1, 2)


class Examples(NamedTuple):
    x: Tensor  # (M, 1)
    z: Tensor  # (M, 32), a noisy view of three numbers that decide the task
    y: Tensor  # (M, 1)


class World(NamedTuple):
    backbone: nn.Module  # trained on many tasks without a condition, frozen
    train: Examples  # 40 tasks, 8 noisy examples each
    test: Examples  # 200 other tasks, without noise


def draw(random: torch.Generator, mixing: Tensor, tasks: int, shots: int, noise: float) -> Examples:
    """Sines of random amplitudes, phases and offsets."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random)

    latent = normal(tasks, 3)
    z = latent @ mixing + 0.3 * normal(tasks, mixing.shape[1])
    x = 2 * normal(tasks, shots, 1)
    height, phase, offset = (latent[:, None, i : i + 1] for i in range(3))
    y = (1 + 0.5 * height) * torch.sin(x + phase) + 0.5 * offset + noise * normal(tasks, shots, 1)
    return Examples(x.reshape(-1, 1), z.repeat_interleave(shots, 0), y.reshape(-1, 1))


def fit(loss: Callable[[], Tensor], parameters: object, steps: int, rate: float) -> None:
    optimiser = torch.optim.AdamW(parameters, lr=rate)  # type: ignore[arg-type]
    for _ in range(steps):
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()


@cache
def world(seed: int) -> World:
    random = torch.Generator().manual_seed(seed)
    mixing = torch.randn(3, 32, generator=random) / 3**0.5
    torch.manual_seed(seed)
    backbone = nn.Sequential(
        nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1)
    )
    x, _, y = draw(random, mixing, 500, 4, 0.0)
    groups = [{"params": list(backbone.parameters()), "weight_decay": 0.0}]
    fit(lambda: (backbone(x) - y).square().mean(), groups, 400, 1e-2)
    backbone.requires_grad_(False)
    return World(backbone, draw(random, mixing, 40, 8, 0.5), draw(random, mixing, 200, 20, 0.0))


class Arm(NamedTuple):
    generator: Callable[[], nn.Module]
    penalty: float = 0.0
    decay: float = 0.0


def linear() -> nn.Module:
    return Linear(32)


def mlp() -> nn.Module:
    return MLP(32, (64, 64))


ARMS = {
    "MLP": Arm(mlp),
    "MLP, head weight decay 1": Arm(mlp, decay=1.0),
    "MLP, deviation penalty 0.1": Arm(mlp, penalty=0.1),
    "MLP, deviation penalty 1": Arm(mlp, penalty=1.0),
    "MLP, ParameterDropout 0.3": Arm(lambda: ParameterDropout(mlp(), 0.3)),
    "Linear": Arm(linear),
    "Linear, head weight decay 1": Arm(linear, decay=1.0),
    "Linear, deviation penalty 0.1": Arm(linear, penalty=0.1),
    "Linear, deviation penalty 1": Arm(linear, penalty=1.0),
    "Linear, ParameterDropout 0.3": Arm(lambda: ParameterDropout(linear(), 0.3)),
    "Linear, spectral 0.5": Arm(lambda: spectral(linear(), 0.5)),
    "Linear, Bounded (0, 2), (-1, 1)": Arm(
        lambda: Bounded(linear(), gamma=(0.0, 2.0), beta=(-1.0, 1.0))
    ),
    "Linear, GatedGenerator": Arm(lambda: GatedGenerator(linear())),
}


def run(seed: int, arm: Arm, steps: int = 500) -> tuple[float, float]:
    """Squared errors on the noisy training examples and on the tasks held out."""
    backbone, train, test = world(seed)
    torch.manual_seed(seed)
    net = condition(
        copy.deepcopy(backbone),
        at=lambda name, module: name in ("0", "2"),
        generator=arm.generator(),
    )

    def loss() -> Tensor:
        task = net.represent(train.z)
        error = (net(train.x, task=task) - train.y).square().mean()
        away = deviation(task)
        assert isinstance(away, Tensor)
        return error + arm.penalty * away

    fit(loss, parameter_groups(net, 0.0, arm.decay), steps, 3e-3)
    net.eval()
    with torch.no_grad():
        errors = [float((net(x, condition=z) - y).square().mean()) for x, z, y in (train, test)]
    return errors[0], errors[1]


def test_statements_of_the_page() -> None:
    """On each of three seeds, the penalty and the simpler generator both reduce the test error."""
    found = {
        name: [run(seed, ARMS[name]) for seed in SEEDS]
        for name in ("MLP", "MLP, deviation penalty 1", "Linear", "Linear, spectral 0.5")
    }
    for i, seed in enumerate(SEEDS):
        backbone, _, (x, _, y) = world(seed)
        plain = float((backbone(x) - y).square().mean())
        overfitted = found["MLP"][i][1]
        assert found["MLP"][i][0] < 0.05  # the noise has a variance of 0.25
        assert overfitted < plain
        assert found["MLP, deviation penalty 1"][i][1] < 0.8 * overfitted
        assert found["Linear"][i][1] < 0.8 * overfitted
        assert found["Linear, spectral 0.5"][i][1] < 0.9 * found["Linear"][i][1]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_table() -> None:
    print("\n| generator | train | held out, seeds 0, 1, 2 | mean |\n|---|---|---|---|")
    plain = [
        float((world(s).backbone(world(s).test.x) - world(s).test.y).square().mean()) for s in SEEDS
    ]
    print(f"| none | | {', '.join(f'{e:.3f}' for e in plain)} | {mean(plain):.3f} |")
    for name, arm in ARMS.items():
        errors = [run(seed, arm) for seed in SEEDS]
        train, test = ([e[i] for e in errors] for i in (0, 1))
        each = ", ".join(f"{e:.3f}" for e in test)
        print(f"| {name} | {mean(train):.3f} | {each} | {mean(test):.3f} |", flush=True)
        assert mean(test) < mean(plain)
