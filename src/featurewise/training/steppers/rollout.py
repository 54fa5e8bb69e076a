"""Learning by acting: environments, trajectories, policy gradients.

An environment is many episodes side by side, each drawn from a seed of its own, so that a batch
is a tensor of seeds and the randomness of the world is in it, as everywhere else. A game that runs
as a process of its own (Doom, Atari) is put behind the same three lines. Learning from recorded
play (behaviour cloning) needs none of this but `play`, for its evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, Unpack, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from featurewise.training.batch import to_device
from featurewise.training.errors import ExperimentError
from featurewise.training.steppers.base import Learner, Metrics, Options, SingleNetworkStepper


@runtime_checkable
class Environment(Protocol):
    """B episodes side by side."""

    def reset(self, seeds: Int64[Tensor, " B"], /) -> Any:
        """Begins an episode for each seed; what is seen at first: a batch of B rows."""

    def step(
        self, actions: Int64[Tensor, " B"], /
    ) -> tuple[Any, Float[Tensor, " B"], Bool[Tensor, " B"]]:
        """What is seen next, the rewards, and which episodes end with this step.

        Rows whose episode has ended are ignored until the next `reset`.
        """


@dataclass(frozen=True, slots=True)
class Decision:
    """What a policy makes of what it sees.

    Attributes:
        logits: of the actions.
        value: the return that it expects; None where the policy does not say.
        memory: handed to it at the next step; None for a policy without memory.
    """

    logits: Float[Tensor, "B A"]
    value: Float[Tensor, " B"] | None = None
    memory: Any = None


@dataclass(frozen=True, slots=True)
class Trajectories:
    """Episodes that were played, T steps at most.

    Attributes:
        observations: what was seen before each action, T batches of B rows.
        actions: what was done.
        rewards: what it brought; 0 after the end.
        alive: whether the episode was still going on.
        log_probabilities: of the actions, with gradients when the policy was learning.
        entropies: of the policy, in nats.
        values: the returns it expected; None where the policy does not say.
    """

    observations: list[Any]
    actions: Int64[Tensor, "B T"]
    rewards: Float[Tensor, "B T"]
    alive: Bool[Tensor, "B T"]
    log_probabilities: Float[Tensor, "B T"]
    entropies: Float[Tensor, "B T"]
    values: Float[Tensor, "B T"] | None

    def returns(self, discount: float = 1.0) -> Float[Tensor, "B T"]:
        """The discounted sum of the rewards from each step on."""
        total = torch.zeros_like(self.rewards[:, 0])
        found = []
        for reward in reversed(self.rewards.unbind(1)):
            total = reward + discount * total
            found.append(total)
        return torch.stack(found[::-1], 1)


Learn: TypeAlias = Callable[[Trajectories], tuple[Tensor, Metrics]]
"""Trajectories -> loss to minimise, and metrics besides the loss."""


def play(
    policy: nn.Module,
    environment: Environment,
    seeds: Int64[Tensor, " B"],
    horizon: int,
    *,
    greedy: bool = False,
) -> Trajectories:
    """Plays an episode for each seed, until all have ended or `horizon` steps were taken.

    Args:
        policy: (what is seen, memory or None) -> `Decision`.
        environment: where.
        seeds: of the episodes.
        horizon: largest number of steps, at least 1.
        greedy: takes the likeliest action; else draws one, from torch's global generator.

    Raises:
        ExperimentError: `horizon` is below 1.
    """
    if horizon < 1:
        raise ExperimentError(f"an episode takes at least 1 step, not {horizon}")
    seen, memory = environment.reset(seeds), None
    alive = torch.ones(len(seeds), dtype=torch.bool, device=seeds.device)
    observations: list[Any] = []
    steps: list[tuple[Tensor, ...]] = []
    values: list[Tensor] = []
    for _ in range(horizon):
        observations.append(seen)
        decision = policy(seen, memory)
        chances = torch.distributions.Categorical(logits=decision.logits)
        action = decision.logits.argmax(1) if greedy else chances.sample()  # type: ignore[no-untyped-call]
        seen, reward, ends = environment.step(action)
        memory = decision.memory
        log_probability = chances.log_prob(action)  # type: ignore[no-untyped-call]
        entropy = chances.entropy()  # type: ignore[no-untyped-call]
        steps.append((action, reward * alive, alive, log_probability, entropy))
        if decision.value is not None:
            values.append(decision.value)
        alive = alive & ~ends
        if not alive.any():
            break
    actions, rewards, alives, log_probabilities, entropies = (
        torch.stack(each, 1) for each in zip(*steps, strict=True)
    )
    value = torch.stack(values, 1) if values else None
    return Trajectories(observations, actions, rewards, alives, log_probabilities, entropies, value)


def policy_gradient(*, discount: float = 1.0, entropy: float = 0.0, value: float = 0.5) -> Learn:
    """REINFORCE with a baseline (Williams 1992): the policy's own value, else the batch's mean.

    Args:
        discount: of later rewards, in [0, 1].
        entropy: weight of the policy's entropy, which is kept up.
        value: weight of the squared error of the policy's value.
    """

    def learn(played: Trajectories) -> tuple[Tensor, Metrics]:
        weight = played.alive.float()
        count = weight.sum()
        returns = played.returns(discount)
        if played.values is None:
            mean = (returns * weight).sum(0) / weight.sum(0).clamp(min=1)
            advantage, error = returns - mean, returns.new_zeros(())
        else:
            advantage = returns - played.values.detach()
            error = ((returns - played.values).square() * weight).sum() / count
        gain = (advantage * played.log_probabilities * weight).sum() / count
        spread = (played.entropies * weight).sum() / count
        loss = value * error - gain - entropy * spread
        return loss, {"return": played.rewards.sum(1).mean(), "entropy": spread.detach()}

    return learn


class Rollout(SingleNetworkStepper):
    """A policy that learns from what it does; a batch is the seeds of its episodes.

    Args:
        policy: (what is seen, memory or None) -> `Decision`.
        environment: where it plays.
        optimizer: over the policy's parameters.
        horizon: largest number of steps of an episode.
        learn: see `Learn`; `policy_gradient` unless told.
        options: see `Options`.
    """

    def __init__(
        self,
        policy: nn.Module,
        environment: Environment,
        optimizer: torch.optim.Optimizer,
        *,
        horizon: int,
        learn: Learn | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(Learner(policy, optimizer, **options))
        self.environment = environment
        self.horizon = horizon
        self.learn = learn or policy_gradient()

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The one network, called ``policy``."""
        return {"policy": self.learner.network}

    def step(self, seeds: Int64[Tensor, " B"], /) -> Metrics:
        """Plays an episode for each seed and learns from all of them."""
        self.learner.zero_grad()
        seeds = to_device(seeds, self.learner.device)
        played = play(self.learner.module(), self.environment, seeds, self.horizon)
        loss, metrics = self.learn(played)
        loss.backward()  # type: ignore[no-untyped-call]
        self.learner.step()
        return {"loss": loss.detach(), **metrics, "lr": self.learner.learning_rate}
