"""Method of residual adapters: a network of shared and own parts, trained domain by domain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from featurewise.common.ranges import Length, Natural
from featurewise.common.rng import seeded_rng
from featurewise.common.text import short
from featurewise.study import system
from featurewise.systems.recognition.residual_adapters.adapters import (
    AdaptedTrunk,
    Parts,
)
from featurewise.training.errors import ExperimentError
from featurewise.training.optim import cosine
from featurewise.training.steppers import Metrics, Supervised
from featurewise.worlds.glyphs.image_domains import CLASSES

PROBES = 64
"""Images of noise on which the base domain's logits are compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(system.Config):
    """One network, its training on a base domain, and then on new domains.

    Attributes:
        domains: names of the base domain and of the new ones; see
            `featurewise.worlds.glyphs.image_domains`.
        base_steps: training steps on the base domain, of all ``steps``; the others go to the
            new domains in turn.
        adapters: of each domain: "parallel" to a convolution, in "series" with it, or "none".
        base_adapters: whether the base domain has adapters, too.
        own_norms: whether each new domain has norms of its own, which are trained.
        weights: what becomes of the convolutions for new domains: they are "frozen";
            "trained" further, one set for all domains; "copied" and trained, a set for each
            domain; or "new", a set for each domain from random values.
        other_domain: whether adapters and norms are those of another new domain, as a control.
        widths: channels of each residual block.
        image_size: height and width of the images.
        learning_rate: of SGD with Nesterov momentum 0.9, on the base domain and again on the
            new ones; it falls along a cosine each time.
        weight_decay: of all weights that are trained.
        batch_size: images per batch.
    """

    domains: Annotated[tuple[str, ...], Length(4, 4)] = (
        "fashion",
        "digits",
        "letters",
        "omniglot",
    )
    base_steps: Natural = 400
    adapters: Literal["parallel", "series", "none"] = "parallel"
    base_adapters: bool = False
    own_norms: bool = True
    weights: Literal["frozen", "trained", "copied", "new"] = "frozen"
    other_domain: bool = False
    widths: tuple[int, ...] = (8, 16, 32)
    image_size: int = 16
    learning_rate: float = 0.1
    weight_decay: float = 5e-4
    batch_size: int = 64

    def __post_init__(self) -> None:
        system.Config.__post_init__(self)
        if unknown := [name for name in self.domains if name not in CLASSES]:
            raise ExperimentError(
                f"domains: {short(unknown[0])} is unknown; there is {', '.join(CLASSES)}"
            )
        if self.base_steps > self.steps:
            raise ExperimentError(
                f"base_steps must be at most steps, {self.steps}, got {self.base_steps}"
            )


@dataclass(frozen=True)
class DomainBatch:
    """Images of one domain.

    Attributes:
        images: ink 1 on paper 0.
        labels: index of the class.
        domain: index of the domain, whose classifier is used; 0 is the base domain.
        adapted_to: index of the domain whose adapters and norms are used.
    """

    images: Float[Tensor, "B 1 S S"]
    labels: Int64[Tensor, " B"]
    domain: int
    adapted_to: int


class AdapterNetwork(nn.Module):
    """A trunk for all domains, or one for each, and a classifier for each."""

    probed: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.own_trunks = config.weights in ("copied", "new")
        domains = len(config.domains)
        parts = Parts(
            1 if self.own_trunks else domains,
            config.adapters,
            config.base_adapters,
            config.own_norms,
        )
        self.trunks = nn.ModuleList(
            AdaptedTrunk(config.widths, parts)
            for _ in range(domains if self.own_trunks else 1)
        )
        self.classifiers = nn.ModuleList(
            nn.Linear(config.widths[-1], CLASSES[name]) for name in config.domains
        )
        self.weights, self.side = config.weights, config.image_size
        self.register_buffer("probed", torch.zeros(PROBES, CLASSES[config.domains[0]]))

    def forward(self, batch: DomainBatch) -> Float[Tensor, "B K"]:
        """Logits of the classes of the batch's domain."""
        trunk = self.trunks[batch.adapted_to if self.own_trunks else 0]
        vectors = trunk(batch.images, 0 if self.own_trunks else batch.adapted_to)
        return self.classifiers[batch.domain](vectors)  # type: ignore[no-any-return]

    @torch.no_grad()
    def probe(self) -> Float[Tensor, "P K"]:
        """Logits of the base domain for fixed images of noise; leaves the network in eval mode."""
        images = torch.rand(
            PROBES, 1, self.side, self.side, generator=seeded_rng(0, "probe")
        )
        images = images.to(self.probed)
        self.eval()
        return self(DomainBatch(images, torch.zeros(PROBES).long(), 0, 0))  # type: ignore[no-any-return]

    def start_new_domains(self) -> None:
        """What the new domains start from; the base domain's logits are recorded."""
        self.probed.copy_(self.probe())
        for trunk in self.trunks[1:] if self.weights == "copied" else ():
            trunk.load_state_dict(self.trunks[0].state_dict())
        for trunk in self.trunks:
            for each in trunk.convolutions:  # type: ignore[union-attr]
                each.start_new_domains()

    def train_new_domains(self) -> None:
        """Train mode; what new domains share is frozen, unless it is to be trained."""
        self.train()
        if self.own_trunks:
            self.trunks[0].eval().requires_grad_(False)
        for trunk in () if self.own_trunks else self.trunks:
            for each in trunk.convolutions:  # type: ignore[union-attr]
                each.convolve.requires_grad_(self.weights == "trained")
                each.norms[0].requires_grad_(False).eval()
        self.classifiers[0].requires_grad_(False)


class BaseThenNew(Supervised):
    """Trains on the base domain first, then on the new domains with the base domain's frozen.

    Weights that are frozen get no gradient, so that the optimizer leaves them as they are: no
    weight decay and no momentum moves them.
    """

    def __init__(self, network: nn.Module, config: Config, **arguments: Any) -> None:
        super().__init__(network, **arguments)
        self.base_steps = config.base_steps

    def step(self, batch: Any, /) -> Metrics:
        """One gradient step; see `Supervised.step`."""
        network: Any = self.network
        if self.steps == self.base_steps:
            network.start_new_domains()
        if self.steps >= self.base_steps:
            network.train_new_domains()
        else:
            network.train().requires_grad_(True)
        return super().step(batch)


def objective(network: nn.Module, batch: DomainBatch) -> tuple[Tensor, Metrics]:
    """Cross-entropy of the labels."""
    return F.cross_entropy(network(batch).float(), batch.labels), {}


def stepper(network: nn.Module, config: Config) -> BaseThenNew:
    """SGD with momentum and a cosine schedule, once for the base and once for the new domains."""
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=config.learning_rate,
        momentum=0.9,
        nesterov=True,
        weight_decay=config.weight_decay,
    )
    steps = config.base_steps, config.steps - config.base_steps
    base, new = (cosine(max(1, each)) for each in steps)

    def schedule(step: int) -> float:
        return base(step) if step < config.base_steps else new(step - config.base_steps)

    return BaseThenNew(
        network, config, objective=objective, optimizer=optimizer, schedule=schedule
    )
