"""Numbers for figures of γ and β: what a feature map, a label or a neighbour says of them.

The figures are those of Dumoulin et al. 2018, *Feature-wise transformations* (Distill), sections on
the properties of the learned task representation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from featurewise.analysis.parameters import ParameterMatrices, ParameterTable
from featurewise.core import LayoutError


@dataclass(frozen=True)
class Separation:
    """How well one parameter of one feature map tells two kinds of conditions apart.

    Attributes:
        site: name of the site.
        feature: index of the feature map.
        parameter: such as "gamma" or "beta".
        auc: area under the ROC curve, 0.5 to 1: the probability that a condition of one kind has
            the larger parameter, or that one of the other kind has, whichever is larger.
    """

    site: str
    feature: int
    parameter: str
    auc: float


@dataclass(frozen=True)
class BestSeparation:
    """The parameter that separates one of several kinds from the other conditions best.

    Attributes:
        separation: by that parameter.
        probability: of a best one as good if this kind meant nothing: it accounts for the number
            of parameters.
        corrected: of a best one as extreme for any of the kinds if none meant anything: it
            accounts for the number of kinds, too.
    """

    separation: Separation
    probability: float
    corrected: float


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
        found[site] = (explained_share(gamma), explained_share(beta))
    return found


def explained_share(values: Float[Tensor, "B F"]) -> float:
    """Share of the variance of a parameter that is explained by the feature it belongs to.

    Args:
        values: of B conditions and F features.

    Returns:
        0 to 1; 0 where the parameter does not vary.
    """
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
    return axis_angles(*_matrices(table, site))


def axis_angles(gamma: Float[Tensor, "B F"], beta: Float[Tensor, "B F"]) -> Float[Tensor, "F"]:
    """Direction of each feature's scatter of two parameters, in degrees, 0 to 180.

    Args:
        gamma: the parameter across.
        beta: the parameter up.
    """
    gamma, beta = (each.double() - each.double().mean(0) for each in (gamma, beta))
    # The first principal component of two variables, in closed form.
    twice = torch.atan2(2 * (gamma * beta).sum(0), (gamma.square() - beta.square()).sum(0))
    return (torch.rad2deg(twice) / 2).remainder(180).float()


def separations(
    table: ParameterTable | ParameterMatrices, kind: Bool[Tensor, "B"]
) -> list[Separation]:
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
    table: ParameterTable | ParameterMatrices,
    kind: Bool[Tensor, "B"],
    *,
    permutations: int = 999,
    seed: int = 0,
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
    return _probability(_permuted_areas(ranks, kind, permutations, seed))


def best_separations(
    matrices: ParameterMatrices,
    kinds: Bool[Tensor, "B K"],
    *,
    permutations: int = 199,
    seed: int = 0,
) -> list[BestSeparation]:
    """The best separation of each of K kinds from the other conditions, and its probabilities.

    The same as `separations` and `permutation_test` of each kind, with values ranked once. All
    kinds are permuted together, which keeps what they have in common. Kinds differ in size, and
    so does the best area of a kind that means nothing: areas are standardised by their mean and
    standard deviation over the permutations before the largest of all kinds is taken
    (Westfall & Young 1993, the single-step maximum).

    Args:
        matrices: of B conditions.
        kinds: one column for each kind.
        permutations: see `permutation_test`.
        seed: of the permutations.

    Raises:
        LayoutError: as `separations`.
    """
    for kind in kinds.unbind(1):
        _check_kind(kind)
    names, ranks = _ranks(matrices, kinds[:, 0])
    best, scores = [], []
    for kind in kinds.unbind(1):
        areas = _permuted_areas(ranks, kind, permutations, seed)
        index = int(areas[:, 0].argmax())
        best.append((Separation(*names[index], float(areas[index, 0])), _probability(areas)))
        largest = areas.amax(0)
        scores.append((largest - largest.mean()) / largest.std(correction=0).clamp(min=1e-9))
    most = torch.stack(scores).amax(0)
    return [
        BestSeparation(separation, probability, _share_of_at_least(most, float(score[0])))
        for (separation, probability), score in zip(best, scores, strict=True)
    ]


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
        values: such as the expected answer along an interpolation. Where both ends are equal,
            every step that changes the value leads away from its end.
        tolerance: a step back by no more than this is none.

    Raises:
        ValueError: fewer than two values.
    """
    if len(values) < 2:
        raise ValueError(f"{len(values)} values have no steps")
    steps, direction = values.double().diff(), torch.sign(values[-1] - values[0]).double()
    steps = -steps.abs() if direction == 0 else steps * direction
    return float((steps >= -tolerance).double().mean())


def _matrices(table: ParameterTable, site: str) -> tuple[Tensor, Tensor]:
    """γ and β of a site, (conditions, features)."""
    part = table.at(site)
    shape = (int(part.condition.max()) + 1, int(part.feature.max()) + 1)
    order = (part.condition * shape[1] + part.feature).argsort()
    return part.gamma[order].view(shape), part.beta[order].view(shape)


def _ranks(
    table: ParameterTable | ParameterMatrices, kind: Bool[Tensor, "B"]
) -> tuple[list[tuple[str, int, str]], Float[Tensor, "B P"]]:
    """Site, feature and parameter of each column, and the columns' ranks, from 1."""
    if isinstance(table, ParameterTable):
        table = {
            (site, parameter): values
            for site in table.sites
            for parameter, values in zip(("gamma", "beta"), _matrices(table, site), strict=True)
        }
    names = [
        (site, feature, parameter)
        for (site, parameter), values in table.items()
        for feature in range(values.shape[1])
    ]
    values = torch.cat(list(table.values()), 1)
    if len(values) != len(kind):
        raise LayoutError(f"{len(kind)} labels for {len(values)} conditions")
    _check_kind(kind)
    return names, _average_ranks(values.T).T


def _check_kind(kind: Bool[Tensor, "B"]) -> None:
    if kind.all() or not kind.any():
        raise LayoutError("all conditions are of one kind; there is nothing to tell apart")


def _permuted_areas(
    ranks: Float[Tensor, "B P"] | Tensor, kind: Bool[Tensor, "B"], permutations: int, seed: int
) -> Float[Tensor, "P K"]:
    """The areas of a kind, and those under permutations, one column each."""
    rng = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(kind), generator=rng) for _ in range(permutations)]
    return _areas(ranks, torch.stack([kind, *(kind[order] for order in orders)], 1))


def _probability(areas: Float[Tensor, "P K"]) -> float:
    """Share of the columns whose largest area is at least that of the first column."""
    largest = areas.amax(0)
    return _share_of_at_least(largest, float(largest[0]))


def _share_of_at_least(values: Float[Tensor, "N"], bound: float) -> float:
    """Share of the values that are not below a bound which is one of them."""
    # Rounding must not make an equal permutation smaller.
    return float((values >= bound - 1e-9).double().mean())


def _average_ranks(values: Float[Tensor, "P B"]) -> Float[Tensor, "P B"]:
    """Ranks within each row, from 1; equal values share the mean of their ranks."""
    values = values.contiguous()
    ordered = values.sort(1).values
    smaller = torch.searchsorted(ordered, values)
    not_larger = torch.searchsorted(ordered, values, right=True)
    return (smaller + not_larger + 1).double() / 2


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
