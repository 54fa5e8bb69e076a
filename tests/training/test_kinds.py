"""Steppers other than `Supervised`, each against a plain implementation of its equations."""

from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featurewise.training import (
    Adversarial,
    ClosedForm,
    Episodic,
    ExperimentError,
    Generative,
    Rollout,
    fit,
)
from featurewise.training.steppers import (
    Auxiliary,
    CanSample,
    Decision,
    Stepper,
    Trajectories,
    play,
    policy_gradient,
)

# --- episodic ----------------------------------------------------------------------------------


def episodes(count=5):
    g = torch.Generator().manual_seed(0)
    return {"x": torch.randn(count, 4, 3, generator=g), "y": torch.randn(count, 4, generator=g)}


def squared(network, batch):
    loss = (network(batch["x"])[..., 0] - batch["y"]).square().mean()
    return loss, {"error": loss.detach().sqrt()}


def absolute(network, batch):
    loss = (network(batch["x"])[..., 0] - batch["y"]).abs().mean()
    return loss, {"error": loss.detach()}


def learner(kind=Episodic, objective=squared, **options):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    return kind(network, objective, torch.optim.SGD(network.parameters(), 0.1), **options)


def weights(stepper):
    return [p.detach().clone() for n in stepper.networks.values() for p in n.parameters()]


@pytest.mark.parametrize("chunk_size", [1, 2, 4, 5, 9])
def test_accumulated_gradients_equal_the_gradient_of_the_whole_batch(chunk_size):
    chunked, whole = learner(chunk_size=chunk_size), learner()
    metrics = [stepper.step(episodes()) for stepper in (chunked, whole)]
    for one, other in zip(weights(chunked), weights(whole), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)
    assert float(metrics[0]["loss"]) == pytest.approx(float(metrics[1]["loss"]))
    assert metrics[0].keys() == metrics[1].keys()


def test_auxiliary_steps_have_their_probability_and_depend_on_the_step_only():
    stepper = learner(auxiliary=Auxiliary(absolute, lambda step: 0.9 if step < 500 else 0.1))
    chosen = [stepper.auxiliary.applies(step) for step in range(1000)]
    assert 430 <= sum(chosen[:500]) <= 470
    assert 30 <= sum(chosen[500:]) <= 70
    assert chosen == [stepper.auxiliary.applies(step) for step in range(1000)]


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_an_auxiliary_step_equals_a_step_on_its_objective(probability):
    stepper = learner(auxiliary=Auxiliary(absolute, lambda step: probability))
    twin = learner(objective=absolute if probability else squared)
    stepper.step(episodes())
    twin.step(episodes())
    assert all(map(torch.equal, weights(stepper), weights(twin)))


def test_a_chunk_size_of_0_is_refused():
    with pytest.raises(ExperimentError, match="chunk_size must be at least 1"):
        learner(chunk_size=0)


# --- generative --------------------------------------------------------------------------------


def noisy(network, condition, rng):
    return network(condition["x"]) + torch.randn(1, generator=rng)


def test_samples_depend_on_the_seed_only_and_use_averaged_weights():
    stepper = learner(Generative, sampler=noisy, average=0.5)
    assert isinstance(stepper, CanSample)
    assert isinstance(stepper, Stepper)
    initial = weights(stepper)
    for _ in range(3):
        stepper.step(episodes())
    before = torch.get_rng_state()
    one, same, other = (stepper.sample(episodes(), seed=seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert not one.requires_grad
    with stepper.evaluating() as averaged:
        assert not any(map(torch.equal, weights(stepper), initial)), "the average did not change"
        noise = torch.randn(1, generator=torch.Generator().manual_seed(1))
        assert torch.equal(one, averaged(episodes()["x"]) + noise)
    assert not torch.equal(one, stepper.network(episodes()["x"]) + noise)


# --- adversarial -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Real:
    images: Tensor
    noise: Tensor


def gan(**options):
    torch.manual_seed(0)
    generator, discriminator = nn.Linear(2, 3), nn.Linear(3, 1)

    def generator_loss(g, d, batch):
        return F.softplus(-d(g(batch.noise))).mean(), {}

    def discriminator_loss(g, d, batch):
        real, fake = d(batch.images), d(g(batch.noise).detach())
        return (F.softplus(-real) + F.softplus(fake)).mean(), {"real": (real > 0).float().mean()}

    return Adversarial(
        generator,
        discriminator,
        generator_loss=generator_loss,
        discriminator_loss=discriminator_loss,
        optimizers=tuple(torch.optim.SGD(n.parameters(), 0.1) for n in (generator, discriminator)),
        sampler=lambda g, batch, _: g(batch.noise),
        **options,
    )


def reals():
    g = torch.Generator().manual_seed(1)
    return Real(torch.randn(6, 3, generator=g) + 2, torch.randn(6, 2, generator=g))


def test_both_updates_equal_gradient_descent_written_out():
    stepper, twin = gan(), gan()
    metrics = stepper.step(reals())
    g, d = twin.networks.values()
    batch = reals()
    loss = twin.discriminator_loss(g, d, batch)[0]
    with torch.no_grad():
        for p, gradient in zip(
            d.parameters(), torch.autograd.grad(loss, [*d.parameters()]), strict=True
        ):
            p -= 0.1 * gradient
    after = twin.generator_loss(g, d, batch)[0]  # with the updated discriminator
    with torch.no_grad():
        for p, gradient in zip(
            g.parameters(), torch.autograd.grad(after, [*g.parameters()]), strict=True
        ):
            p -= 0.1 * gradient
    for one, other in zip(weights(stepper), weights(twin), strict=True):
        torch.testing.assert_close(one, other)
    assert float(metrics["discriminator_loss"]) == pytest.approx(loss.item())
    assert float(metrics["generator_loss"]) == pytest.approx(after.item())
    assert "real" in metrics


def test_a_restored_gan_continues_bit_identically():
    one, other = gan(average=0.9), gan(average=0.9)
    for _ in range(2):
        one.step(reals())
    other.load_state(one.state())
    for stepper in (one, other):
        stepper.step(reals())
    assert all(map(torch.equal, weights(one), weights(other)))
    assert torch.equal(one.sample(reals()), other.sample(reals()))
    assert other.steps == 3
    assert one.discriminator.average is None


# --- closed form -------------------------------------------------------------------------------


def test_a_closed_form_solution_is_computed_and_restored():
    def solve(network, batch):
        x, y = batch
        network.weight.copy_(torch.linalg.lstsq(x, y).solution.T)
        return {"residual": (network(x) - y).square().mean()}

    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    truth = torch.tensor([[1.0, -2.0, 0.5]])
    stepper = ClosedForm(nn.Linear(3, 1, bias=False), solve)
    assert isinstance(stepper, Stepper)
    assert float(stepper.step((x, x @ truth.T))["residual"]) < 1e-10
    other = ClosedForm(nn.Linear(3, 1, bias=False), solve)
    other.load_state(stepper.state())
    torch.testing.assert_close(other.network.weight, truth)
    assert (other.steps, stepper.learners) == (1, ())
    with pytest.raises(ExperimentError, match="another network"):
        ClosedForm(nn.Linear(4, 1, bias=False), solve).load_state(stepper.state())


# --- rollout -----------------------------------------------------------------------------------


class Corridor:
    """The goal is three cells to the right or to the left; the observation says which."""

    def reset(self, seeds):
        self.place, self.goal = torch.zeros(len(seeds)), 3.0 * (2 * (seeds % 2) - 1)
        return self._observation()

    def step(self, actions):
        self.place = self.place + 2 * actions - 1
        there, lost = self.place == self.goal, self.place == -self.goal
        return self._observation(), there.float() - lost.float() - 0.01, there | lost

    def _observation(self):
        return torch.stack((self.place / 3, self.goal / 3), 1)


class Policy(nn.Module):
    def __init__(self, value=False):
        super().__init__()
        self.act = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))
        self.value = nn.Linear(2, 1) if value else None

    def forward(self, observation, memory):
        count = 0 if memory is None else memory
        value = None if self.value is None else self.value(observation)[:, 0]
        return Decision(self.act(observation), value, count + 1)


@dataclass(frozen=True)
class Seeds:
    def batch(self, index):
        return torch.arange(32 * index, 32 * (index + 1))


@pytest.mark.parametrize("value", [False, True], ids=["mean", "value"])
def test_a_policy_reaches_the_goal_and_its_run_resumes_bit_identically(tmp_path, value):
    def rollout():
        torch.manual_seed(0)
        policy = Policy(value)
        optimizer = torch.optim.Adam(policy.parameters(), 0.03)
        return Rollout(policy, Corridor(), optimizer, horizon=12, clip=1.0)

    def score(stepper):
        with stepper.evaluating() as policy:
            played = play(policy, Corridor(), torch.arange(1000, 1064), 12, greedy=True)
        return played.rewards.sum(1).mean().item()

    stepper = rollout()
    assert score(stepper) < 0.5
    fit(tmp_path / "whole", stepper, Seeds(), steps=60)
    assert score(stepper) > 0.9
    half, rest = rollout(), rollout()
    fit(tmp_path / "parts", half, Seeds(), steps=25)
    fit(tmp_path / "parts", rest, Seeds(), steps=60, resume=True)
    assert all(map(torch.equal, weights(stepper), weights(rest)))


def test_rewards_after_the_end_of_an_episode_are_zero():
    torch.manual_seed(0)
    played = play(Policy(), Corridor(), torch.arange(50), 40)
    assert played.actions.shape == played.rewards.shape == played.alive.shape
    assert len(played.observations) == played.actions.shape[1]
    for rewards, alive, actions, goal in zip(
        played.rewards,
        played.alive,
        played.actions,
        3 * (2 * (torch.arange(50) % 2) - 1),
        strict=True,
    ):
        place, steps = 0, 0
        for action in actions.tolist():  # plain simulation
            place, steps = place + 2 * action - 1, steps + 1
            if abs(place) == 3:
                break
        won = 1.0 if place == goal else -1.0 if abs(place) == 3 else 0.0
        assert rewards.sum().item() == pytest.approx(won - 0.01 * steps, abs=1e-5)
        assert int(alive.sum()) == steps


def test_a_policy_gets_its_memory_of_the_previous_step():
    memories = []

    class Counting(Policy):
        def forward(self, observation, memory):
            memories.append(memory)
            return super().forward(observation, memory)

    play(Counting(), Corridor(), torch.arange(4), 3)
    assert memories == [None, 1, 2]


def test_returns_are_discounted_sums():
    rewards = torch.tensor([[1.0, 0.0, 4.0], [0.0, 2.0, 0.0]])
    blank = torch.zeros_like(rewards)
    played = Trajectories([], blank.long(), rewards, blank == 0, blank, blank, None)
    assert played.returns(0.5).tolist() == [[2.0, 2.0, 4.0], [1.0, 2.0, 0.0]]


def test_the_policy_gradient_loss_equals_its_formula():
    g = torch.Generator().manual_seed(0)
    shape = (3, 4)
    logp, entropy, values = (torch.randn(shape, generator=g, dtype=torch.float64) for _ in range(3))
    rewards = torch.randn(shape, generator=g, dtype=torch.float64)
    alive = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]).bool()
    rewards = rewards * alive
    played = Trajectories([], torch.zeros(shape).long(), rewards, alive, logp, entropy, values)
    loss, _ = policy_gradient(discount=0.9, entropy=0.1, value=0.5)(played)
    total = 0.0
    for b in range(3):
        for t in range(4):
            if alive[b, t]:
                discounted = sum(0.9 ** (k - t) * rewards[b, k] for k in range(t, 4))
                advantage = discounted - values[b, t]
                total += 0.5 * advantage**2 - advantage * logp[b, t] - 0.1 * entropy[b, t]
    assert loss.item() == pytest.approx(float(total / 7), rel=1e-5)
    without_values, _ = policy_gradient()(replace(played, values=None))
    assert without_values.isfinite()


def test_a_horizon_of_0_is_refused():
    with pytest.raises(ExperimentError, match="horizon must be at least 1"):
        play(Policy(), Corridor(), torch.arange(2), 0)
