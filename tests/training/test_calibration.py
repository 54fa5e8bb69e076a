"""Averaged weights have batch-norm statistics of their own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featurewise.training.loop import CALIBRATION, Intervals, fit
from featurewise.training.steppers import Adversarial, CanCalibrate, Supervised
from featurewise.training.steppers.base import Metrics


@dataclass(frozen=True)
class Numbers:
    """Inputs whose scale the network has to follow."""

    def batch(self, index: int, /) -> tuple[Tensor, Tensor]:
        rng = torch.Generator().manual_seed(index)
        x = 3 + 2 * torch.randn(16, 4, generator=rng)
        return x, x.sum(1, keepdim=True)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1)
    )


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Metrics]:
    return F.mse_loss(model(batch[0]), batch[1]), {}


def stepper(average: float | None = 0.95, rate: float = 0.1) -> Supervised:
    model = network()
    return Supervised(model, loss, torch.optim.SGD(model.parameters(), rate), average=average)


def norm_of(model: nn.Module) -> nn.BatchNorm1d:
    return next(each for each in model.modules() if isinstance(each, nn.BatchNorm1d))


def expected(trained: Supervised, steps: range) -> tuple[Tensor, Tensor]:
    """The plain twin: moments of the first layer under the averaged weights, batch by batch."""
    with trained.evaluating() as model:
        layer = model[0]  # type: ignore[index]
        found = [layer(Numbers().batch(step)[0]) for step in steps]
    means = torch.stack([each.mean(0) for each in found]).mean(0)
    return means, torch.stack([each.var(0) for each in found]).mean(0)


def test_evaluation_uses_statistics_of_the_averaged_weights(tmp_path: Path) -> None:
    trained = stepper()
    fit(tmp_path, trained, Numbers(), steps=40)
    mean, variance = expected(trained, range(40 - CALIBRATION, 40))
    own = norm_of(trained.network).running_mean
    assert own is not None
    with trained.evaluating() as model:
        norm = norm_of(model)
        torch.testing.assert_close(norm.running_mean, mean)
        torch.testing.assert_close(norm.running_var, variance)
        assert norm.momentum == 0.1
    assert not torch.allclose(own, mean, rtol=1e-3)  # or the test would say nothing


def test_training_does_not_notice(tmp_path: Path) -> None:
    often, never = stepper(), stepper()
    fit(tmp_path / "often", often, Numbers(), steps=30, intervals=Intervals(save=1))
    for index in range(30):
        if index == 0:
            torch.manual_seed(0)
        never.step(Numbers().batch(index))
    for name, value in never.network.state_dict().items():
        torch.testing.assert_close(often.network.state_dict()[name], value, rtol=0, atol=0)


def test_final_weights_have_them_and_a_resumed_run_the_same(tmp_path: Path) -> None:
    whole, parts = stepper(), stepper()
    fit(tmp_path / "whole", whole, Numbers(), steps=30)
    fit(tmp_path / "parts", parts, Numbers(), steps=13)
    again = stepper()
    fit(tmp_path / "parts", again, Numbers(), steps=30, resume=True)
    for each in (whole, again):
        each.learner.apply_ema()
    states = [each.network.state_dict() for each in (whole, again)]
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=0, atol=0)
    mean = norm_of(whole.network).running_mean
    found = [whole.network[0](Numbers().batch(i)[0]) for i in range(20, 30)]  # type: ignore[index]
    torch.testing.assert_close(mean, torch.stack([f.mean(0) for f in found]).mean(0).detach())


def test_a_state_of_version_0_1_loads_and_keeps_the_own_statistics() -> None:
    old = stepper()
    for index in range(5):
        old.step(Numbers().batch(index))
    state = dict(old.state())
    del state["average"]["statistics"]
    new = stepper()
    new.load_state(state)
    own = norm_of(new.network).running_mean
    assert own is not None
    with new.evaluating() as model:
        torch.testing.assert_close(norm_of(model).running_mean, own.clone())


def test_frozen_norms_and_networks_without_average_take_no_batches() -> None:
    def refuse() -> object:
        raise AssertionError("a batch was taken")

    plain = stepper(average=None)
    plain.calibrate(refuse() for _ in range(1))
    frozen = stepper()
    norm_of(frozen.network).eval()
    frozen.calibrate(refuse() for _ in range(1))


def test_a_failing_batch_leaves_the_network_as_it_was() -> None:
    trained = stepper()
    trained.step(Numbers().batch(0))
    before = {name: value.clone() for name, value in trained.network.state_dict().items()}
    with pytest.raises(RuntimeError):
        trained.calibrate([(torch.ones(2, 3), torch.ones(2, 1))])
    for name, value in trained.network.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    assert norm_of(trained.network).momentum == 0.1


def test_the_discriminator_of_a_gan_keeps_its_statistics() -> None:
    def generate(model: nn.Module, critic: nn.Module, batch: Tensor) -> tuple[Tensor, Metrics]:
        return critic(model(batch)).mean(), {}

    def discriminate(model: nn.Module, critic: nn.Module, batch: Tensor) -> tuple[Tensor, Metrics]:
        return critic(batch).mean() - critic(model(batch).detach()).mean(), {}

    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    critic = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    gan = Adversarial(
        generator,
        critic,
        generator_loss=generate,
        discriminator_loss=discriminate,
        optimizers=tuple(torch.optim.SGD(n.parameters(), 0.01) for n in (generator, critic)),
        sampler=lambda model, condition, rng: model(condition),
        average=0.9,
    )
    assert isinstance(gan, CanCalibrate)
    for index in range(3):
        gan.step(Numbers().batch(index)[0])
    before = {name: value.clone() for name, value in critic.state_dict().items()}
    own = norm_of(generator).running_mean
    assert own is not None
    own = own.clone()
    gan.calibrate([Numbers().batch(index)[0] for index in range(3)])
    for name, value in critic.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    torch.testing.assert_close(norm_of(generator).running_mean, own, rtol=0, atol=0)
    with gan.evaluating() as model:
        assert not torch.allclose(norm_of(model).running_mean, own)
