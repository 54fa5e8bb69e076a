"""What trained networks measure: accuracy by question type, and the twin test."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from featurewise.study.results import Measurement, Proportion
from featurewise.systems.reasoning.film.counting import CountsByNumber
from featurewise.systems.reasoning.film.settings import Reasoning
from featurewise.systems.reasoning.film.study import measure, shuffled
from featurewise.systems.reasoning.film.twins import measure_twins, of_folder, rendered
from featurewise.worlds.clevr import Batch
from featurewise.worlds.clevr.metrics import GROUPS


def measured(
    network: nn.Module,
    settings: Reasoning,
    batches: Iterable[Batch],
    *,
    control: bool = False,
    on_answers: Callable[[Batch, Tensor], None] | None = None,
) -> Measurement:
    """Accuracy by question type.

    Args:
        network: of any arm, in eval mode.
        settings: it was trained with.
        batches: of `held_out` or `from_folder`.
        control: whether each question is that of another picture.
        on_answers: called with every batch and the positions in ``ANSWERS`` of its answers.
    """
    numbers = CountsByNumber()

    def add(batch: Batch, predicted: Tensor) -> None:
        numbers.add(batch, predicted)
        if on_answers is not None:
            on_answers(batch, predicted)

    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=settings.bfloat16):
        found = measure(network, batches, shuffled if control else None, add)
    return replace(found, by_type={**found.by_type, **numbers.by_type()})


def twins(
    network: nn.Module,
    settings: Reasoning,
    folder: Path | None = None,
    split: str = "val",
    limit: int | None = None,
) -> dict[str, Proportion]:
    """The proportions of `TWINS`, on the built-in world or on a data set with scenes.

    Args:
        network: of any arm, in eval mode.
        settings: it was trained with.
        folder: of the data set; None for the built-in world.
        split: of the data set.
        limit: only the first so many images.
    """
    seen = (
        rendered(settings, limit) if folder is None else of_folder(settings, folder, split, limit)
    )
    with torch.autocast("cpu", torch.bfloat16, enabled=settings.bfloat16):
        return measure_twins(network, seen)


def groups(found: Measurement) -> dict[str, tuple[Proportion, tuple[str, ...]]]:
    """The five rows of papers: accuracy, and the types that each sums up; counts by number."""
    sums: dict[str, tuple[Proportion, tuple[str, ...]]] = {}
    for group, names in GROUPS.items():
        parts = {name: found.by_type[name] for name in names if name in found.by_type}
        if parts:
            right = sum(part.correct for part in parts.values())
            sums[group] = (
                Proportion(right, sum(part.total for part in parts.values())),
                tuple(parts),
            )
    numbers = tuple(name for name in found.by_type if name.startswith("count_"))
    if "count" in sums and numbers:
        sums["count"] = (sums["count"][0], numbers)
    return sums
