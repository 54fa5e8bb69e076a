"""What FiLM learns: γ, β and the positions that answers depend on, measured on one network.

The measures are those of Perez et al. 2018, section 4, and of Dumoulin et al. 2018,
*Feature-wise transformations* (Distill), the section on properties of the learned task
representation. ``make learned`` writes them and their figures to a page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from featurewise.analysis import (
    monotone_share,
    neighbour_purity,
    parameter_table,
    permutation_test,
    pooled_places,
    separations,
    share_inside,
)
from featurewise.analysis.clusters import Separation
from featurewise.study.results import Proportion
from featurewise.systems.reasoning.film.probe import Probe
from featurewise.worlds.clevr import ANSWERS

CONTRASTS = {
    "left / right": (("left",), ("right",)),
    "front / behind": (("front",), ("behind",)),
    "rubber / metal": (("rubber", "matte"), ("metal", "metallic", "shiny")),
}
"""Two kinds of questions: those with a word of the first group, and of the second."""

# --- where it looks (Perez et al. 2018, figure 4) -----------------------------------


@dataclass(frozen=True)
class Localisation:
    """Where the maxima of the pooled features are.

    Attributes:
        share: mean share of the maxima on objects that the answer is about.
        area: mean share of the map's cells that show them.
        questions: number of questions that are about some, but not all objects.
    """

    share: float
    area: float
    questions: int

    @property
    def ratio(self) -> float:
        """How many times as many as if positions were random."""
        return self.share / self.area


def localisation(probe: Probe) -> Localisation:
    """Where the maxima are, of correctly answered questions about some of the objects."""
    sample = probe.sample
    right = probe.logits(probe.tasks).argmax(1) == sample.answers
    masks = sample.masks[sample.image_index]
    seen = masks.clamp_min(0).flatten(1)
    queried = sample.queried.gather(1, seen).view_as(masks) & (masks >= 0)
    objects = (masks >= 0).flatten(1).sum(1)
    some = queried.flatten(1).any(1) & (queried.flatten(1).sum(1) < objects)
    rows = (right & some).nonzero().squeeze(1)
    shares, areas = [], []
    start = 0
    for features in probe.maps(probe.tasks[rows], rows):
        mask = queried[rows[start : start + len(features)]]
        start += len(features)
        with torch.no_grad():
            pooled = probe.network.answer.map(features)
        places = pooled_places(pooled)
        shares.append(share_inside(places, mask))
        areas.append(share_inside(torch.full_like(places, 1 / places[0].numel()), mask))
    return Localisation(
        float(torch.cat(shares).mean()), float(torch.cat(areas).mean()), len(rows)
    )


# --- clusters of γ and β (Dumoulin et al. 2018) --------------------------------------


@dataclass(frozen=True)
class Contrast:
    """Whether some feature map tells two kinds of questions apart.

    Attributes:
        best: the parameter that does so best.
        probability: of one as good if the kinds meant nothing.
        questions: number of questions of either kind.
    """

    best: Separation
    probability: float
    questions: tuple[int, int]


def contrast(probe: Probe, one: Sequence[str], other: Sequence[str]) -> Contrast:
    """Questions with a word of one group, and none of the other, against the opposite.

    Args:
        probe: the network.
        one: words of the first kind.
        other: words of the second kind.

    Raises:
        LayoutError: there are no questions of one kind.
    """
    texts = [
        question.text.lower().rstrip("?").split() for question in probe.sample.questions
    ]
    first = torch.tensor([any(word in text for word in one) for text in texts])
    second = torch.tensor([any(word in text for word in other) for text in texts])
    rows = (first != second).nonzero().squeeze(1)
    table, kind = parameter_table(probe.tasks[rows]), first[rows]
    counts = int(kind.sum()), int((~kind).sum())
    best = separations(table, kind)[0]
    return Contrast(best, permutation_test(table, kind, permutations=199), counts)


def purities(probe: Probe, neighbours: int = 10) -> dict[str, tuple[float, float]]:
    """Share of neighbours in γ and β that are questions of the same type, site by site.

    Args:
        probe: the network.
        neighbours: number of nearest neighbours.

    Returns:
        Site -> share, and that of random neighbours; "all" is the whole representation.
    """
    found = {}
    for site, values in probe.tasks.named.items():
        points = torch.cat(list(values.values()), 1)
        found[site] = neighbour_purity(points, probe.sample.types, neighbours)
    found["all"] = neighbour_purity(probe.tasks.flat, probe.sample.types, neighbours)
    return found


# --- interpolation between questions (Dumoulin et al. 2018) --------------------------


@dataclass(frozen=True)
class Interpolation:
    """Expected number along the way from one counting question to another.

    Attributes:
        numbers: expected number of each pair at each step, with the smaller answer first.
        monotone: share of the steps that do not lead back.
    """

    numbers: Float[Tensor, "P S"]
    monotone: float


def interpolation(probe: Probe, steps: int = 11, pairs: int = 200) -> Interpolation:
    """γ and β of one question change linearly to those of another about the same image.

    The pairs are questions for numbers that the network answers correctly and differently.

    Args:
        probe: the network.
        steps: number of mixtures, the ends included.
        pairs: most pairs.

    Raises:
        ValueError: there is no such pair.
    """
    sample = probe.sample
    zero = ANSWERS.index("0")
    predicted = probe.logits(probe.tasks).argmax(1)
    number = sample.answers - zero
    counts = torch.tensor(
        [question.program[-1].function == "count" for question in sample.questions]
    )
    usable = (counts & (predicted == sample.answers)).nonzero().squeeze(1).tolist()
    found = []
    for one, other in pairwise(usable):
        same = sample.image_index[one] == sample.image_index[other]
        if same and number[one] != number[other]:
            found.append((one, other) if number[one] < number[other] else (other, one))
    if not found:
        raise ValueError("no image has two counting questions with other answers")
    first, last = torch.tensor(found[:pairs]).unbind(1)
    columns = []
    for weight in torch.linspace(0, 1, steps).tolist():
        mixed = probe.tasks[first].lerp(probe.tasks[last], weight)
        numbers = probe.logits(mixed, first)[:, zero : zero + 11].softmax(1)
        columns.append(numbers @ torch.arange(11.0))
    path = torch.stack(columns, 1)
    shares = [monotone_share(each) for each in path]
    return Interpolation(path, sum(shares) / len(shares))


# --- γ or β without the question (Perez et al. 2018, section 4.3 and table 2) ---------


def without_the_question(probe: Probe) -> dict[tuple[str, str], Proportion]:
    """Accuracy where γ or β of every question is replaced by the mean over questions.

    Returns:
        (parameter, site or "all") -> accuracy; ("none", "all") is that without a change.
    """
    mean = probe.tasks.mean()
    found = {("none", "all"): probe.accuracy(probe.tasks)}
    for parameter in ("gamma", "beta"):
        for site in (None, *probe.tasks.layout.names):
            changed = probe.tasks.edit(at=site, parameter=parameter).freeze(to=mean)
            found[parameter, site or "all"] = probe.accuracy(changed)
    return found


def with_noise(
    probe: Probe, levels: Sequence[float], seed: int = 0
) -> dict[str, list[Proportion]]:
    """Accuracy where normal noise is added to γ or to β.

    Args:
        probe: the network.
        levels: standard deviations of the noise, in units of the parameter's own standard
            deviation over questions and features.
        seed: of the noise.
    """
    found: dict[str, list[Proportion]] = {}
    for parameter in ("gamma", "beta"):
        edit = probe.tasks.edit(parameter=parameter)
        own = float(probe.tasks.flat[:, edit.mask].std())
        found[parameter] = [
            probe.accuracy(edit.noise(level * own, torch.Generator().manual_seed(seed)))
            for level in levels
        ]
    return found
