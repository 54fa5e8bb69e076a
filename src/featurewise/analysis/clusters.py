"""Numbers for figures of γ and β: what a feature map, a label or a neighbour says of them.

The figures are those of Dumoulin et al. 2018, *Feature-wise transformations* (Distill), sections on
the properties of the learned task representation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from featurewise.analysis.parameters import ParameterTable
from featurewise.core import LayoutError


@dataclass(frozen=True)
class Separation:
    """How well one parameter of one feature map tells two kinds of conditions apart.

    Attributes:
        site: name of the site.
        feature: index of the feature map.
        parameter: "gamma" or "beta".
        auc: area under the ROC curve, 0.5 to 1: the probability that a condition of one kind has
            the larger parameter, or that one of the other kind has, whichever is larger.
    """

    site: str
    feature: int
    parameter: str
    auc: float


def explained_by_feature(table: ParameterTable) -> dict[str, tuple[float, float]]:
    """Share of the variance of γ and of β that is explained by which feature map it belongs to.

    Distill shows it as one cluster for each feature map; the authors' CLEVR model has 0.67 and
    0.84, their style model 0.88 and 0.92 (computed from the article's figure data).

    Args:
        table: of at least two conditions.

    Returns:
        Site -> shares for γ and β, each 0 to 1; 0 where a parameter does not vary.

    Raises:
        LayoutError: the table is of fewer than two conditions.
    """
    _require(table, 2)
    found = {}
    for site in table.sites:
        gamma, beta = _matrices(table, site)
        found[site] = (_share(gamma), _share(beta))
    return found


def _share(values: Float[Tensor, "B F"]) -> float:
    values = values.double()
    total = (values - values.mean()).square().sum()
    within = (values - values.mean(0)).square().sum()
    return 0.0 if total == 0 else float(1 - within / total)


def main_axes(table: ParameterTable, site: str) -> Float[Tensor, "F"]:
    """Direction of each feature map's scatter of γ (across) and β (up), in degrees, 0 to 180.

    Args:
        table: of at least two conditions.
        site: name of the site.

    Raises:
        LayoutError: the table has no such site, or is of fewer than two conditions.
    """
    _require(table, 2)
    gamma, beta = (each.double() - each.double().mean(0) for each in _matrices(table, site))
    # The first principal component of two variables, in closed form.
    twice = torch.atan2(2 * (gamma * beta).sum(0), (gamma.square() - beta.square()).sum(0))
    return (torch.rad2deg(twice) / 2).remainder(180).float()


def separations(table: ParameterTable, kind: Bool[Tensor, "B"]) -> list[Separation]:
    """How well every parameter of every feature map tells two kinds of conditions apart.

    Args:
        table: of the B conditions.
        kind: whether a condition is of the one kind or of the other.

    Returns:
        The best first.

    Raises:
        LayoutError: ``kind`` does not fit the table, or all conditions are of one kind.
    """
    names, ranks = _ranks(table, kind)
    areas = _areas(ranks, kind[:, None])[:, 0]
    order = areas.argsort(descending=True, stable=True).tolist()
    found = []
    for index in order:
        site, feature, parameter = names[index]
        found.append(Separation(site, feature, parameter, float(areas[index])))
    return found


def permutation_test(
    table: ParameterTable, kind: Bool[Tensor, "B"], *, permutations: int = 999, seed: int = 0
) -> float:
    """The probability of a best separation as good as this one if the kinds meant nothing.

    The best of all parameters is compared with the best under permuted kinds, so that the number of
    feature maps is accounted for (Westfall & Young 1993).

    Args:
        table: of the B conditions.
        kind: whether a condition is of the one kind or of the other.
        permutations: number of permutations; the smallest result is 1 / (permutations + 1).
        seed: of the permutations.

    Raises:
        LayoutError: as `separations`.
    """
    _, ranks = _ranks(table, kind)
    rng = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(kind), generator=rng) for _ in range(permutations)]
    found = _areas(ranks, torch.stack([kind, *(kind[order] for order in orders)], 1)).amax(0)
    # Rounding must not make an equal permutation smaller.
    return float((found >= found[0] - 1e-9).double().mean())


def neighbour_purity(
    points: Float[Tensor, "N D"], labels: Int64[Tensor, "N"], neighbours: int = 10
) -> tuple[float, float]:
    """Share of each point's nearest neighbours that have its label, and that of random neighbours.

    Args:
        points: a projection such as that of t-SNE, or task representations.
        labels: of the points.
        neighbours: number of nearest neighbours, fewer than N.

    Returns:
        The mean share, and the share for random neighbours.

    Raises:
        ValueError: there are not more points than neighbours.
    """
    if not 1 <= neighbours < len(points):
        raise ValueError(f"{neighbours} neighbours of {len(points)} points")
    right = []
    for start in range(0, len(points), 1024):
        some = points[start : start + 1024].double()
        distance = torch.cdist(some, points.double())
        rows = torch.arange(len(some))
        distance[rows, start + rows] = torch.inf
        nearest = distance.topk(neighbours, largest=False).indices
        right.append((labels[nearest] == labels[start : start + 1024, None]).double())
    counts = labels.bincount()
    random = (counts * (counts - 1)).sum() / (len(labels) * (len(labels) - 1))
    return float(torch.cat(right).mean()), float(random)


def monotone_share(values: Float[Tensor, "S"], tolerance: float = 0.0) -> float:
    """Share of the steps of a sequence that do not lead back from its end: 1 if it is monotone.

    Args:
        values: such as the expected answer along an interpolation.
        tolerance: a step back by no more than this is none.

    Raises:
        ValueError: fewer than two values.
    """
    if len(values) < 2:
        raise ValueError(f"{len(values)} values have no steps")
    steps = values.double().diff() * torch.sign(values[-1] - values[0]).double()
    return float((steps >= -tolerance).double().mean())


def _matrices(table: ParameterTable, site: str) -> tuple[Tensor, Tensor]:
    """γ and β of a site, (conditions, features)."""
    part = table.at(site)
    shape = (int(part.condition.max()) + 1, int(part.feature.max()) + 1)
    order = (part.condition * shape[1] + part.feature).argsort()
    return part.gamma[order].view(shape), part.beta[order].view(shape)


def _ranks(
    table: ParameterTable, kind: Bool[Tensor, "B"]
) -> tuple[list[tuple[str, int, str]], Float[Tensor, "B P"]]:
    """Site, feature and parameter of each column, and the columns' ranks, from 1."""
    names: list[tuple[str, int, str]] = []
    columns = []
    for site in table.sites:
        for parameter, values in zip(("gamma", "beta"), _matrices(table, site), strict=True):
            names += [(site, feature, parameter) for feature in range(values.shape[1])]
            columns.append(values)
    values = torch.cat(columns, 1)
    if len(values) != len(kind):
        raise LayoutError(f"{len(kind)} labels for {len(values)} conditions")
    if kind.all() or not kind.any():
        raise LayoutError("all conditions are of one kind; there is nothing to tell apart")
    return names, torch.stack([_average_ranks(column) for column in values.T], 1)


def _average_ranks(values: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
    group, counts = torch.unique(values, return_inverse=True, return_counts=True)[1:]
    last = counts.cumsum(0).double()
    ranks: Tensor = (last - (counts - 1) / 2)[group]
    return ranks


def _areas(ranks: Float[Tensor, "B P"], kinds: Bool[Tensor, "B K"]) -> Float[Tensor, "P K"]:
    """The area of each column for each labelling (Mann & Whitney 1947)."""
    one = kinds.double()
    count = one.sum(0)
    area = (ranks.T @ one - count * (count + 1) / 2) / (count * (len(ranks) - count))
    return torch.maximum(area, 1 - area)


def _require(table: ParameterTable, conditions: int) -> None:
    found = len(set(table.condition.tolist()))
    if found < conditions:
        raise LayoutError(f"the table is of {found} conditions; at least {conditions} are needed")
