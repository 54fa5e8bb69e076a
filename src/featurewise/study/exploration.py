"""What a system shows of a trained network in the explorer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL.Image import Image
from torch import Tensor

from featurewise.core import TaskRepresentation


@dataclass(frozen=True, kw_only=True)
class Exploration:
    """Task representations of labelled conditions; see the arguments of `featurewise.explore`.

    Attributes:
        task: of B conditions.
        title: name of the network.
        data: a sentence about the conditions.
        labels: name -> one value for each condition.
        images: one for each condition; None where conditions have none.
        contrasts: pairs of words that features are to tell apart.
        respond: (task representations, index of a condition) -> what the network answers to each.
        outputs: names of the values that ``respond`` returns.
        pairs: conditions to interpolate between.
        triples: conditions A, B and C whose A + B - C is shown, and what it should stand for.
        represent: text of a new condition, such as a question -> its task representation (1, N);
            None where conditions are no texts.
    """

    task: TaskRepresentation
    title: str
    data: str
    labels: Mapping[str, Sequence[Any]]
    images: Sequence[Image] | None = None
    contrasts: Sequence[tuple[str, str]] = ()
    respond: Callable[[TaskRepresentation, int], Tensor | Sequence[Image]] | None = None
    outputs: Sequence[str] | None = None
    pairs: Sequence[tuple[int, int]] = ()
    triples: Sequence[tuple[int, int, int, str]] = ()
    represent: Callable[[str], TaskRepresentation] | None = None
