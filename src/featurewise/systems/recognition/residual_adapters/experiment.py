"""Experiment with residual adapters: accuracy in each domain, forgetting, share of weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import torch
from PIL import Image
from torch import Tensor, nn

from featurewise.common.rng import seeded_rng
from featurewise.study.figures import BAR, as_image, figure
from featurewise.study.metric import PERCENT, Metric
from featurewise.study.results import Measurement, Proportion
from featurewise.systems.recognition.residual_adapters.method import (
    PROBES,
    AdapterNetwork,
    BaseThenNew,
    Config,
    DomainBatch,
)
from featurewise.training.source import Source
from featurewise.worlds.glyphs.image_domains import domain_versions, image_domain
from featurewise.worlds.glyphs.labelled import ImageSource

_EVALUATED: Final = 500


@dataclass(frozen=True)
class BaseThenNewSource:
    """Batches of the base domain, then of the new domains in turn.

    Attributes:
        config: says how many of which.
        seed: of the order of images.
    """

    config: Config
    seed: int

    @cached_property
    def _sources(self) -> list[ImageSource]:
        """One for each domain."""
        return [
            ImageSource(
                image_domain(name, self.config.image_size).train,
                self.config.batch_size,
                self.seed,
            )
            for name in self.config.domains
        ]

    def batch(self, index: int, /) -> DomainBatch:
        """The batch of this index."""
        domain, since = 0, index - self.config.base_steps
        if since >= 0:
            domain = 1 + since % (len(self.config.domains) - 1)
        found = self._sources[domain].batch(index)
        adapted_to = domain
        if self.config.other_domain and domain:
            others = [
                each for each in range(1, len(self.config.domains)) if each != domain
            ]
            rng = seeded_rng(self.seed, "other domain", index)
            adapted_to = others[int(torch.randint(len(others), (), generator=rng))]
        return DomainBatch(found.images, found.labels, domain, adapted_to)


def data(config: Config, seed: int) -> Source[DomainBatch]:
    """Training images of the base domain, then of the new ones."""
    return BaseThenNewSource(config, seed)


def versions(config: Config) -> dict[str, str]:
    """Name and version of what the domains come from."""
    return {
        key: version
        for name in config.domains
        for key, version in domain_versions(name).items()
    }


MEAN: Final = Metric(
    "accuracy, new domains",
    "mean of the test accuracies in the new domains, each of which has the same weight",
    PERCENT,
    "higher",
)
BASE: Final = Metric(
    "accuracy, base domain",
    "share of test images of the base domain that are classified correctly, after all "
    "training",
    PERCENT,
    "higher",
)
NEW: Final = tuple(
    Metric(
        f"accuracy, new domain {number}",
        f"the same of the {which} new domain: {small} in preset small",
        PERCENT,
        "higher",
    )
    for number, (which, small) in enumerate(
        (
            ("first", "digits"),
            ("second", "letters"),
            ("third", "characters of Omniglot"),
        ),
        start=1,
    )
)
KEPT: Final = Metric(
    "base kept",
    f"share of {PROBES} images of noise for which training on the new domains has not changed "
    "a bit of the base domain's logits",
    PERCENT,
    "higher",
)
SHARE: Final = Metric(
    "own weights",
    "weights that a new domain has of its own, without its classifier, over those that the "
    "base domain uses, without its classifier",
    PERCENT,
    "lower",
    (0.0, float("inf")),
)


@torch.no_grad()
def correct(network: nn.Module, config: Config, domain: int) -> Tensor:
    """Which test images of a domain are classified correctly."""
    test = image_domain(config.domains[domain], config.image_size).test
    adapted_to = domain
    if config.other_domain and domain:
        adapted_to = 1 + domain % (len(config.domains) - 1)
    right = []
    for start in range(0, len(test), _EVALUATED):
        rows = slice(start, start + _EVALUATED)
        batch = DomainBatch(test.ink[rows], test.labels[rows], domain, adapted_to)
        right.append(network(batch).argmax(1) == batch.labels)
    return torch.cat(right)


def used(network: AdapterNetwork, config: Config, domain: int) -> dict[str, int]:
    """Weights that a domain's logits depend on, without its classifier: name -> number."""
    side = config.image_size
    batch = DomainBatch(
        torch.rand(2, 1, side, side, generator=seeded_rng(0, "used")),
        torch.zeros(2, dtype=torch.long),
        domain,
        domain,
    )
    named = {
        name: each
        for name, each in network.named_parameters()
        if not name.startswith("classifiers")
    }
    kept = [each.requires_grad for each in named.values()]
    try:
        for each in named.values():
            each.requires_grad_(True)
        with torch.enable_grad():
            total = network(batch).sum()
            gradients = torch.autograd.grad(
                total, list(named.values()), allow_unused=True
            )
    finally:
        for each, wanted in zip(named.values(), kept, strict=True):
            each.requires_grad_(wanted)
    pairs = zip(named.items(), gradients, strict=True)
    return {name: each.numel() for (name, each), found in pairs if found is not None}


def own_share(network: AdapterNetwork, config: Config) -> float:
    """Weights of the first new domain that the base does not use, over those that it uses."""
    base, new = used(network, config, 0), used(network, config, 1)
    own = sum(count for name, count in new.items() if name not in base)
    return own / sum(base.values())


def evaluate(trained: BaseThenNew, config: Config) -> Measurement:
    """Accuracy in each domain, forgetting, and the share of weights."""
    network: Any
    with trained.evaluating() as network:
        right = [
            correct(network, config, domain) for domain in range(len(config.domains))
        ]
        new = [each.double().mean().item() for each in right[1:]]
        numbers: dict[Metric, Proportion | float] = {
            MEAN: sum(new) / len(new),
            KEPT: Proportion.of((network.probe() == network.probed).all(1)),
            SHARE: own_share(network, config),
            **{
                metric: Proportion.of(each)
                for metric, each in zip((BASE, *NEW), right, strict=True)
            },
        }
    return Measurement.of(None, numbers)


def draw(trained: BaseThenNew, config: Config) -> Image.Image:
    """Test images of each domain, and the accuracy there."""
    network: Any
    with trained.evaluating() as network:
        shares = [
            100 * correct(network, config, domain).double().mean().item()
            for domain in range(len(config.domains))
        ]
    plot = figure(7.0, 3.6)
    grid = plot.add_gridspec(2, len(config.domains))
    for column, name in enumerate(config.domains):
        images = image_domain(name, config.image_size).test.images
        axes = plot.add_subplot(grid[0, column])
        chosen = images[:: len(images) // 6][:6]
        rows = [torch.cat(list(row), 1) for row in (chosen[:3], chosen[3:])]
        axes.imshow(torch.cat(rows).numpy(), cmap="gray_r")
        axes.set_axis_off()
    axes = plot.add_subplot(grid[1, :])
    axes.bar(list(config.domains), shares, color=BAR)
    axes.set(ylabel="accuracy (%)", ylim=(0, 100))
    axes.spines[["top", "right"]].set_visible(False)
    return as_image(plot)
