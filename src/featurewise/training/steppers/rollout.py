"""Reinforcement learning: environments, trajectories, policy gradients.

An environment runs B episodes in parallel, each generated from a seed, so that a batch is a tensor
of seeds. A simulator in another process (Doom, Atari) can be wrapped by the same two methods. For
behaviour cloning use `Supervised` to train and `play` to evaluate.
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
    """A vectorised environment: B episodes in parallel."""

    def reset(self, seeds: Int64[Tensor, " B"], /) -> Any:
        """Starts an episode for each seed and returns the first observations, a batch of size B."""

    def step(
        self, actions: Int64[Tensor, " B"], /
    ) -> tuple[Any, Float[Tensor, " B"], Bool[Tensor, " B"]]:
        """Returns the next observations, the rewards, and which episodes end with this step.

        The results of episodes that have ended are ignored until the next `reset`.
        """


@dataclass(frozen=True, slots=True)
class Decision:
    """Output of a policy for one step.

    Attributes:
        logits: of the A actions.
        value: estimate of the return; None for a policy without a value head.
        memory: recurrent state, passed to the policy in the next step; None if there is none.
    """

    logits: Float[Tensor, "B A"]
    value: Float[Tensor, " B"] | None = None
    memory: Any = None


@dataclass(frozen=True, slots=True)
class Trajectories:
    """B episodes of at most T steps.

    Attributes:
        observations: before each action: T batches of size B.
        actions: indices of the actions.
        rewards: after each action; 0 after the end of an episode.
        alive: whether the episode had not ended before the step.
        log_probabilities: of the actions; differentiable if the policy ran with gradients.
        entropies: of the action distribution, in nats.
        values: estimates of the return; None for a policy without a value head.
    """

    observations: list[Any]
    actions: Int64[Tensor, "B T"]
    rewards: Float[Tensor, "B T"]
    alive: Bool[Tensor, "B T"]
    log_probabilities: Float[Tensor, "B T"]
    entropies: Float[Tensor, "B T"]
    values: Float[Tensor, "B T"] | None

    def returns(self, discount: float = 1.0) -> Float[Tensor, "B T"]:
        """The discounted return from each step on."""
        total = torch.zeros_like(self.rewards[:, 0])
        found = []
        for reward in reversed(self.rewards.unbind(1)):
            total = reward + discount * total
            found.append(total)
        return torch.stack(found[::-1], 1)


PolicyLoss: TypeAlias = Callable[[Trajectories], tuple[Tensor, Metrics]]
"""Trajectories -> loss to minimise, and metrics besides the loss."""


def play(
    policy: nn.Module,
    environment: Environment,
    seeds: Int64[Tensor, " B"],
    horizon: int,
    *,
    greedy: bool = False,
) -> Trajectories:
    """Runs an episode for each seed, until all have ended or after `horizon` steps.

    Args:
        policy: (observations, memory or None) -> `Decision`.
        environment: of the episodes.
        seeds: of the episodes.
        horizon: maximum number of steps, at least 1.
        greedy: choose the most likely action; default: sample it, with torch's global generator.

    Raises:
        ExperimentError: `horizon` is below 1.
    """
    if horizon < 1:
        raise ExperimentError(f"horizon must be at least 1, not {horizon}")
    observation, memory = environment.reset(seeds), None
    alive = torch.ones(len(seeds), dtype=torch.bool, device=seeds.device)
    observations: list[Any] = []
    steps: list[tuple[Tensor, ...]] = []
    values: list[Tensor] = []
    for _ in range(horizon):
        observations.append(observation)
        decision = policy(observation, memory)
        logits = decision.logits
        distribution = torch.distributions.Categorical(logits=logits)
        action = logits.argmax(1) if greedy else distribution.sample()  # type: ignore[no-untyped-call]
        observation, reward, ends = environment.step(action)
        memory = decision.memory
        log_probability = distribution.log_prob(action)  # type: ignore[no-untyped-call]
        entropy = distribution.entropy()  # type: ignore[no-untyped-call]
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


def policy_gradient(
    *, discount: float = 1.0, entropy: float = 0.0, value: float = 0.5
) -> PolicyLoss:
    """REINFORCE with a baseline (Williams 1992): the value head, or else the mean over the batch.

    Args:
        discount: factor on later rewards, in [0, 1].
        entropy: weight of the entropy bonus.
        value: weight of the squared error of the value head.
    """

    def loss_of(trajectories: Trajectories) -> tuple[Tensor, Metrics]:
        weight = trajectories.alive.float()
        count = weight.sum()
        returns = trajectories.returns(discount)
        if trajectories.values is None:
            mean = (returns * weight).sum(0) / weight.sum(0).clamp(min=1)
            advantage, error = returns - mean, returns.new_zeros(())
        else:
            advantage = returns - trajectories.values.detach()
            error = ((returns - trajectories.values).square() * weight).sum() / count
        gain = (advantage * trajectories.log_probabilities * weight).sum() / count
        mean_entropy = (trajectories.entropies * weight).sum() / count
        loss = value * error - gain - entropy * mean_entropy
        return loss, {
            "return": trajectories.rewards.sum(1).mean(),
            "entropy": mean_entropy.detach(),
        }

    return loss_of


class Rollout(SingleNetworkStepper):
    """On-policy reinforcement learning; a batch is the seeds of its episodes.

    Args:
        policy: (observations, memory or None) -> `Decision`.
        environment: of the episodes.
        optimizer: of the parameters of the policy.
        horizon: maximum number of steps of an episode.
        objective: loss of the trajectories; default: ``policy_gradient()``.
        options: see `Options`.
    """

    def __init__(
        self,
        policy: nn.Module,
        environment: Environment,
        optimizer: torch.optim.Optimizer,
        *,
        horizon: int,
        objective: PolicyLoss | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(Learner(policy, optimizer, **options))
        self.environment = environment
        self.horizon = horizon
        self.objective = objective or policy_gradient()

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The only network, ``policy``."""
        return {"policy": self.learner.network}

    def step(self, seeds: Int64[Tensor, " B"], /) -> Metrics:
        """One gradient step on an episode for each seed."""
        self.learner.zero_grad()
        seeds = to_device(seeds, self.learner.device)
        trajectories = play(self.learner.module(), self.environment, seeds, self.horizon)
        loss, metrics = self.objective(trajectories)
        loss.backward()  # type: ignore[no-untyped-call]
        self.learner.step()
        return {"loss": loss.detach(), **metrics, "lr": self.learner.learning_rate}
