"""How the networks are trained, and on which questions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any, Unpack, cast

import torch
import torch.nn.functional as F
from jaxtyping import Int64
from torch import Tensor, nn

from featurewise.generators import parameter_groups
from featurewise.systems.reasoning.film.baselines import ImageOnly
from featurewise.systems.reasoning.film.config import Config
from featurewise.systems.reasoning.film.network import Answers, FilmNetwork
from featurewise.systems.reasoning.film.perception import Perception, attribute_loss
from featurewise.training.optim import Schedule, cosine, linear, rewarmed
from featurewise.training.shuffled import ShuffledCondition
from featurewise.training.source import Source
from featurewise.training.steppers import Metrics, Objective, Options, Supervised
from featurewise.worlds.clevr.batch import Batch
from featurewise.worlds.clevr.splits import (
    WithCounts,
    training_batches,
)


def objective(network: nn.Module, batch: Batch) -> tuple[Tensor, Metrics]:
    """Cross-entropy of the answers, and a tenth of `attribute_loss` if there is any."""
    answers: Answers = network(batch)
    logits = answers.logits.float()
    loss = F.cross_entropy(logits, batch.answers)
    metrics = {"accuracy": (logits.argmax(1) == batch.answers).float().mean()}
    if answers.attributes is not None and batch.objects is not None:
        height, width = batch.images.shape[2:]
        loss = loss + 0.1 * attribute_loss(
            answers.attributes, batch.objects, (width, height)
        )
    return loss, metrics


def fused_objective(network: nn.Module, batch: Batch) -> tuple[Tensor, Metrics]:
    """The same for FiLM over features that were trained beforehand."""
    from featurewise.systems.reasoning.film.fused import fused_logits

    logits = fused_logits(cast("FilmNetwork", network), batch).float()
    accuracy = (logits.argmax(1) == batch.answers).float().mean()
    return F.cross_entropy(logits, batch.answers), {"accuracy": accuracy}


class OnFeatures(Supervised):
    """A network whose stem, if it is fixed, gets its weights before the first step.

    A network that is loaded has them already, and needs none of the cache folder.

    Args:
        perception: how the stem is trained; None: with the rest.
        network: see `Supervised`.
        objective: see `Supervised`.
        optimizer: see `Supervised`.
        options: see `Supervised`.
    """

    def __init__(
        self,
        perception: Perception | None,
        network: nn.Module,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(network, objective, optimizer, **options)
        self.perception = perception

    def step(self, batch: Batch, /) -> Metrics:
        """One gradient step; see `Supervised`."""
        from featurewise.systems.reasoning.film.pretraining import pretrained

        if (
            self.perception is not None
            and self.steps == 0
            and isinstance(self.network, FilmNetwork | ImageOnly)
        ):
            trained = pretrained(self.perception)
            self.network.stem.load_state_dict(trained.stem.state_dict())
            self.network.naming.load_state_dict(trained.naming.state_dict())
        return super().step(batch)


def learning_rates(config: Config) -> Schedule:
    """The schedule; "linear" has a warmup at the start of each stage."""
    warmup = min(300, config.steps // 10)
    if config.schedule == "cosine":
        return cosine(config.steps, warmup=warmup, floor=0.02)
    starts = list(accumulate(stage.steps for stage in config.curriculum[:-1]))
    constant = linear(config.steps, warmup=warmup, start=0.5, floor=0.01)
    return rewarmed(constant, starts, warmup)


def stepper(network: nn.Module, config: Config) -> Supervised:
    """Adam; question encoder and generator head have learning rates of their own."""
    fused = (
        isinstance(network, FilmNetwork)
        and config.perception is not None
        and config.folder is None  # or batches contain images
        and next(network.parameters()).device.type == "cpu"
    )
    if config.perception is not None and isinstance(network, FilmNetwork | ImageOnly):
        network.naming.requires_grad_(False)
    named = network.named_parameters()
    encoder = {id(p) for name, p in named if "encoder" in name or "read" in name}
    groups = [
        part
        for group in parameter_groups(network, config.weight_decay)
        for part in _with_learning_rates(group, encoder, config)
    ]
    return OnFeatures(
        config.perception,
        network,
        fused_objective if fused else objective,
        torch.optim.Adam(
            groups,
            lr=config.learning_rate,
            betas=(0.9, config.adam_beta2),
            fused=True,
        ),
        schedule=learning_rates(config),
        clip=config.clip,
        average=0.999,
        # The fused trunk casts by itself; casts of its own parameters cost more than they save.
        bfloat16=config.bfloat16 and not fused,
    )


def _with_learning_rates(
    group: dict[str, Any], encoder: set[int], config: Config
) -> list[dict[str, Any]]:
    """A group of parameters, divided into the question encoder's and the others."""
    other = config.head_learning_rate if group["name"] == "heads" else 1.0
    parts = (
        ([p for p in group["params"] if id(p) in encoder], config.encoder_learning_rate),
        ([p for p in group["params"] if id(p) not in encoder], other),
    )
    return [
        {**group, "params": parameters, "lr": multiple * config.learning_rate}
        for parameters, multiple in parts
        if parameters
    ]


def data(config: Config, seed: int) -> Source[Batch]:
    """Batches to train on."""
    source: Source[Batch] = training_batches(
        config.curriculum,
        config.folder,
        images_per_batch=config.images_per_batch,
        questions_per_image=config.questions_per_image,
        seed=seed,
        features=None if config.perception is None else _features(config.perception),
    )
    # Of files, it is not known how many objects there are in every image.
    if config.counts_every is not None and config.folder is None:
        source = WithCounts(source, config.counts_every)
    if config.shuffled_questions:
        return ShuffledCondition(source, ("questions", "lengths"), half_a_batch_on)
    return source


def _features(config: Perception) -> Callable[[Path], Tensor]:
    from featurewise.systems.reasoning.film.pretraining import feature_maps, pretrained

    return lambda pool: feature_maps(pool, pretrained(config))


def half_a_batch_on(index: int, batch: Batch) -> Int64[Tensor, "Q"]:
    """The order in which every question belongs to another image."""
    count = len(batch.lengths)
    return torch.arange(count).roll(count // 2)


def shuffle_questions(batch: Batch) -> Batch:
    """The batch with each question replaced by that of another image; answers stay."""
    order = half_a_batch_on(0, batch)
    return replace(batch, questions=batch.questions[order], lengths=batch.lengths[order])
