"""Separation of style and content in closed form: bilinear models of Tenenbaum & Freeman 2000.

Observations are ``(S, L, P)``: S styles, L contents, P values each. A model is fitted to all
contents of some styles. For a new style it then predicts all contents from a few observed ones, or
it classifies the contents of unlabelled observations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

ContentModel: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(means of the observed contents (F, L, P), counts (F, L)) -> all contents (F, L, P)."""


class Asymmetric(nn.Module):
    """``y = A^s b^c``: a matrix for each style, a vector for each content (eq. 3).

    Fitted by a singular value decomposition of the stacked styles (section 3.2). The matrix of a
    new style is a ridge regression whose prior is the best linear combination of the known styles.

    Args:
        styles: number of styles S that it is fitted to.
        contents: number of contents L.
        values: number of values P of an observation.
        rank: J, length of the content vectors, at most L.
        ridge: strength of the penalty on the distance of a new style from its prior.
        blend: strength of the penalty on the distance of the prior from the mean of all styles,
            relative to the mean square of the contents.
    """

    basis: Tensor
    matrices: Tensor

    def __init__(
        self, styles: int, contents: int, values: int, rank: int, ridge: float, blend: float
    ) -> None:
        super().__init__()
        self.ridge, self.blend = ridge, blend
        self.register_buffer("basis", torch.zeros(contents, rank))
        self.register_buffer("matrices", torch.zeros(styles, rank, values))

    def fit(self, observed: Float[Tensor, "S L P"]) -> None:
        """Fit the content vectors, as orthonormal columns, and the style matrices."""
        self.basis.copy_(
            leading_eigenvectors(torch.einsum("slp,smp->lm", observed, observed), self.basis)
        )
        self.matrices.copy_(self.basis.mT @ observed)

    def forward(
        self, means: Float[Tensor, "F L P"], counts: Float[Tensor, "F L"]
    ) -> Float[Tensor, "F L P"]:
        """All contents of new styles, from the means and the counts of their observed contents."""
        weights = blend_weights(self.basis @ self.matrices, means, counts, self.blend)
        prior = torch.einsum("fs,sjp->fjp", weights, self.matrices)
        weighted = counts[..., None] * self.basis
        eye = torch.eye(self.basis.shape[1], dtype=means.dtype, device=means.device)
        gram = weighted.mT @ self.basis + self.ridge * eye
        change = torch.linalg.solve(gram, weighted.mT @ (means - self.basis @ prior))
        predicted: Tensor = self.basis @ (prior + change)
        return predicted


class Symmetric(nn.Module):
    """``y_k = aᵀ W_k b``: a vector for each style and for each content (eq. 1).

    Fitted by alternating singular value decompositions (section 3.2). The vector of a new style is
    a ridge regression whose prior is the mean of the known vectors.

    Args:
        styles: number of styles S that it is fitted to.
        contents: number of contents L.
        values: number of values P of an observation.
        style_rank: I, length of the style vectors, at most S.
        rank: J, length of the content vectors, at most L.
        ridge: strength of the penalty on the distance of a new style from the mean style, relative
            to the mean square of the contents.
        rounds: number of alternations.
    """

    style: Tensor
    basis: Tensor
    core: Tensor

    def __init__(
        self,
        styles: int,
        contents: int,
        values: int,
        style_rank: int,
        rank: int,
        ridge: float,
        rounds: int = 5,
    ) -> None:
        super().__init__()
        self.ridge, self.rounds = ridge, rounds
        self.register_buffer("style", torch.zeros(styles, style_rank))
        self.register_buffer("basis", torch.zeros(contents, rank))
        self.register_buffer("core", torch.zeros(style_rank, rank, values))

    def fit(self, observed: Float[Tensor, "S L P"]) -> None:
        """Fit both sets of vectors, as orthonormal columns, and W."""
        self.basis.copy_(
            leading_eigenvectors(torch.einsum("slp,smp->lm", observed, observed), self.basis)
        )
        for _ in range(self.rounds):
            by_style = (self.basis.mT @ observed).flatten(1)
            self.style.copy_(leading_eigenvectors(by_style @ by_style.mT, self.style))
            reduced = torch.einsum("si,slp->ilp", self.style, observed)
            self.basis.copy_(
                leading_eigenvectors(torch.einsum("ilp,imp->lm", reduced, reduced), self.basis)
            )
        self.core.copy_(self.basis.mT @ torch.einsum("si,slp->ilp", self.style, observed))

    def forward(
        self, means: Float[Tensor, "F L P"], counts: Float[Tensor, "F L"]
    ) -> Float[Tensor, "F L P"]:
        """All contents of new styles, from the means and the counts of their observed contents."""
        parts = self.basis @ self.core
        vectors = blend_weights(parts, means, counts, self.ridge, self.style.mean(0))
        return torch.einsum("fi,ilp->flp", vectors, parts)


class Baseline(nn.Module):
    """Baselines without factors, computed from the known styles directly.

    Args:
        kind: ``additive`` for mean content plus an offset of the style, ``nearest`` for the known
            style whose contents are nearest to the observed ones, ``mean`` for the mean contents.
        styles: number of styles S that it is fitted to.
        contents: number of contents L.
        values: number of values P of an observation.
    """

    known: Tensor

    def __init__(self, kind: str, styles: int, contents: int, values: int) -> None:
        super().__init__()
        self.kind = kind
        self.register_buffer("known", torch.zeros(styles, contents, values))

    def fit(self, observed: Float[Tensor, "S L P"]) -> None:
        """Store the observations."""
        self.known.copy_(observed)

    def forward(
        self, means: Float[Tensor, "F L P"], counts: Float[Tensor, "F L"]
    ) -> Float[Tensor, "F L P"]:
        """All contents of new styles, from the means and the counts of their observed contents."""
        weight, mean_style = counts[..., None], self.known.mean(0)
        if self.kind == "additive":
            total = weight.sum(1, keepdim=True).clamp(min=1e-6)
            return mean_style + (weight * (means - mean_style)).sum(1, keepdim=True) / total
        if self.kind == "nearest":
            distances = [(weight * (means - style).square()).sum((1, 2)) for style in self.known]
            return self.known[torch.stack(distances).argmin(0)]
        return mean_style.expand_as(means)


def classify_contents(
    model: ContentModel,
    observations: Float[Tensor, "F N P"],
    contents: int,
    std: float,
    rounds: int,
) -> Float[Tensor, "F N L"]:
    """Classify the contents of unlabelled observations of new styles (section 4).

    Expectation-maximisation of a mixture over the contents: each is a normal distribution around
    the prediction of ``model``, all with the same standard deviation. The first round uses the
    prediction without any observation, which is the mean style.

    Args:
        model: a fitted model.
        observations: N observations of each of F styles, their contents unknown.
        contents: number of contents L.
        std: standard deviation of an observation around its mean, for each of the P values.
        rounds: number of rounds; with 1 the model does not adapt to the style.

    Returns:
        Probabilities of the contents, for each observation.
    """
    styles, size, values = observations.shape
    means = observations.new_zeros(styles, contents, values)
    counts = observations.new_zeros(styles, contents)
    probabilities = observations.new_zeros(styles, size, contents)
    for _ in range(rounds):
        squares = torch.cdist(observations, model(means, counts)).square()
        probabilities = (-squares / (2 * values * std**2)).softmax(-1)
        counts = probabilities.sum(1)
        means = (probabilities.mT @ observations) / counts[..., None].clamp(min=1e-6)
    return probabilities


def blend_weights(
    parts: Float[Tensor, "S L P"],
    target: Float[Tensor, "F L P"],
    counts: Float[Tensor, "F L"],
    ridge: float,
    prior: Float[Tensor, " S"] | None = None,
) -> Float[Tensor, "F S"]:
    """Weights of the linear combination of parts that is nearest to a target: ridge regression.

    Args:
        parts: what is combined.
        target: what the combination approximates.
        counts: weight of each content in the squared error.
        ridge: strength of the penalty on the distance from ``prior``, relative to the mean square
            of the parts.
        prior: weights without observations; default: 1 / S each.
    """
    size = len(parts)
    products = (parts.transpose(0, 1) @ parts.permute(1, 2, 0)).flatten(1)
    gram = (counts @ products).view(-1, size, size)
    # Scaled by all contents, so that the result without observations is the prior.
    penalty = ridge * products.sum(0).view(size, size).diagonal().mean() + 1e-12
    right = (counts[..., None] * target).flatten(1) @ parts.flatten(1).mT
    if prior is None:
        prior = parts.new_full((size,), 1 / size)
    eye = torch.eye(size, dtype=parts.dtype, device=parts.device)
    weights: Tensor = torch.linalg.solve(gram + penalty * eye, right + penalty * prior)
    return weights


def leading_eigenvectors(
    gram: Float[Tensor, "N N"], like: Float[Tensor, "N K"]
) -> Float[Tensor, "N K"]:
    """Eigenvectors of the K largest eigenvalues, signed so that each has a positive sum."""
    vectors = torch.linalg.eigh(gram.double())[1].flip(1)[:, : like.shape[1]]
    signs = torch.where(vectors.sum(0) < 0, -1.0, 1.0)
    found: Tensor = (vectors * signs).to(like.dtype)
    return found
