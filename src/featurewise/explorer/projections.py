"""Task representations as points in the plane."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Final

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from featurewise.analysis import ParameterMatrices, neighbour_purity
from featurewise.core import TaskRepresentation
from featurewise.explorer import schema
from featurewise.explorer.labels import Label

_ALL: Final = "all sites"
_NEIGHBOURS: Final = 10
_FEWEST: Final = 20
"""Fewest conditions for t-SNE and UMAP, which place points by their neighbours."""

_PERPLEXITY: Final = 30
_COMPONENTS: Final = 50


def project(
    task: TaskRepresentation,
    matrices: ParameterMatrices,
    shown: Int64[Tensor, "n"],
    labels: Sequence[Label],
    seed: int,
    arrays: dict[str, Tensor],
) -> list[schema.Projection]:
    """The projections of a bundle: all sites by PCA, t-SNE and UMAP; first and last site by t-SNE.

    t-SNE needs scikit-learn, UMAP needs umap-learn; where a package is missing its projections are
    left out.

    Args:
        task: of the n conditions that are shown.
        matrices: effective parameters of all conditions.
        shown: which of them are shown.
        labels: of the conditions that are shown; purity is measured for categories.
        seed: of t-SNE and UMAP.
        arrays: gets the points.
    """
    if len(shown) < 3:
        return []
    categories = [each for each in labels if isinstance(each, schema.CategoryLabel)]
    every = torch.cat([values[shown] for values in matrices.values()], 1)
    found = [_pca(every, categories, arrays)]
    if len(shown) < _FEWEST or not _has_plane(every):
        return found
    names = task.layout.names
    if importlib.util.find_spec("sklearn") is not None:
        found.append(_tsne(every, _ALL, categories, seed, arrays))
        for site in dict.fromkeys((names[0], names[-1]) if len(names) > 1 else ()):
            parts = [values[shown] for (owner, _), values in matrices.items() if owner == site]
            if _has_plane(own := torch.cat(parts, 1)):
                found.append(_tsne(own, site, categories, seed, arrays))
    if importlib.util.find_spec("umap") is not None:
        found.append(_umap(every, categories, seed, arrays))
    return found


def _has_plane(values: Float[Tensor, "n P"]) -> bool:
    """Whether conditions differ in two numbers at least, as places by neighbours need."""
    return int((values != values[:1]).any(0).sum()) >= 2


def _pca(
    values: Float[Tensor, "n P"],
    categories: Sequence[schema.CategoryLabel],
    arrays: dict[str, Tensor],
) -> schema.Projection:
    found, shares = _components(values, 2)
    points = torch.zeros(len(values), 2)
    points[:, : found.shape[1]] = found
    # The sign of a component is arbitrary: the largest value is positive.
    largest = points.abs().argmax(0)
    points = points * torch.sign(points.gather(0, largest[None])).where(points.any(0), 1.0)
    return _projection("PCA", _ALL, "", None, shares, points, categories, arrays)


def _components(
    values: Float[Tensor, "n P"], most: int
) -> tuple[Float[Tensor, "n K"], list[float]]:
    """Points along the first principal components, and the share of the variance of each.

    By the n x n matrix of scalar products, as there are often more parameters than conditions.
    """
    centered = (values - values.mean(0)).double()
    variance, directions = torch.linalg.eigh(centered @ centered.T)
    variance, directions = variance.flip(0).clamp_min(0), directions.flip(1)
    count = min(most, *values.shape)
    points = directions[:, :count] * variance[:count].sqrt()
    total = variance.sum()
    shares = [] if total == 0 else (variance[:count] / total).tolist()
    return points.float(), shares


def _tsne(
    values: Float[Tensor, "n P"],
    of: str,
    categories: Sequence[schema.CategoryLabel],
    seed: int,
    arrays: dict[str, Tensor],
) -> schema.Projection:
    from sklearn.manifold import TSNE

    if values.shape[1] > _COMPONENTS:  # as van der Maaten and Hinton (2008) do
        values, _ = _components(values, _COMPONENTS)
    perplexity = min(_PERPLEXITY, (len(values) - 1) // 3)
    method = TSNE(perplexity=perplexity, init="pca", random_state=seed)
    points = torch.from_numpy(method.fit_transform(values.numpy()))
    settings = (
        f"of at most {_COMPONENTS} principal components, perplexity {perplexity}, started from "
        "PCA, by scikit-learn"
    )
    return _projection("t-SNE", of, settings, seed, [], points, categories, arrays)


def _umap(
    values: Float[Tensor, "n P"],
    categories: Sequence[schema.CategoryLabel],
    seed: int,
    arrays: dict[str, Tensor],
) -> schema.Projection:
    from umap import UMAP

    method = UMAP(random_state=seed, n_jobs=1)
    points = torch.from_numpy(method.fit_transform(values.numpy()))
    settings = "15 neighbours, least distance 0.1, by umap-learn"
    return _projection("UMAP", _ALL, settings, seed, [], points, categories, arrays)


def _projection(
    name: str,
    of: str,
    settings: str,
    seed: int | None,
    explained: list[float],
    points: Float[Tensor, "n 2"],
    categories: Sequence[schema.CategoryLabel],
    arrays: dict[str, Tensor],
) -> schema.Projection:
    key = f"projections/{name}/{of}"
    arrays[key] = points.float().contiguous()
    return schema.Projection(
        name=name,
        of=of,
        settings=settings,
        seed=seed,
        explained=explained,
        array=key,
        purity=[found for each in categories if (found := _purity(each, points)) is not None],
    )


def _purity(label: schema.CategoryLabel, points: Float[Tensor, "n 2"]) -> schema.Purity | None:
    """The purity of a label with at least two different values."""
    codes = torch.tensor(label.codes)
    rows = (codes >= 0).nonzero().squeeze(1)
    neighbours = min(_NEIGHBOURS, len(rows) - 1)
    if neighbours < 1 or len(set(codes[rows].tolist())) < 2:
        return None
    share, random = neighbour_purity(points[rows], codes[rows], neighbours)
    return schema.Purity(label=label.name, neighbours=neighbours, share=share, random=random)
