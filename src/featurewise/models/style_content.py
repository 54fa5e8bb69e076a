"""Style and content apart, in closed form: bilinear models of Tenenbaum & Freeman 2000.

Observations are ``(S, L, P)``: S styles, L contents, P numbers each. A model is fitted to all
contents of some styles; then it draws all contents of a new style of which it is shown a few, or
tells which content is which when nobody has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

Draws: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(means (F, L, P) of what is shown, how much of each (F, L)) -> all contents (F, L, P)."""


class Asymmetric(nn.Module):
    """``y = A^s b^c``: a matrix for each style, a vector for each content (eq. 3).

    Fitted by singular values of the observations, styles stacked (section 3.2). A new style has
    the least-squares matrix that is drawn, by a ridge, to the best blend of the known ones.

    Args:
        styles: S, how many it is fitted to.
        contents: L.
        values: P.
        rank: J, length of the content vectors, at most L.
        ridge: how strongly a new style is drawn to the blend.
        blend: how strongly the blend is drawn to the mean of all, as a share.
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
        """Takes the content vectors, orthonormal columns, and the styles from observations."""
        self.basis.copy_(leading(torch.einsum("slp,smp->lm", observed, observed), self.basis))
        self.matrices.copy_(self.basis.mT @ observed)

    def forward(
        self, shown: Float[Tensor, "F L P"], counts: Float[Tensor, "F L"]
    ) -> Float[Tensor, "F L P"]:
        """All contents of new styles, from the mean of what is shown of each, and how much."""
        shares = blended(self.basis @ self.matrices, shown, counts, self.blend)
        prior = torch.einsum("fs,sjp->fjp", shares, self.matrices)
        weighted = counts[..., None] * self.basis
        eye = torch.eye(self.basis.shape[1], dtype=shown.dtype, device=shown.device)
        left = weighted.mT @ self.basis + self.ridge * eye
        change = torch.linalg.solve(left, weighted.mT @ (shown - self.basis @ prior))
        drawn: Tensor = self.basis @ (prior + change)
        return drawn


class Symmetric(nn.Module):
    """``y_k = aᵀ W_k b``: a vector for each style and for each content (eq. 1).

    Fitted by alternating singular values (section 3.2). A new style has the vector of least
    squares, drawn to the mean of the known ones.

    Args:
        styles: S, how many it is fitted to.
        contents: L.
        values: P.
        style_rank: I, length of the style vectors, at most S.
        rank: J, length of the content vectors, at most L.
        ridge: how strongly a new style is drawn to the mean of all, as a share.
        rounds: of the alternation.
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
        """Takes both sets of vectors, orthonormal columns, and W from observations."""
        self.basis.copy_(leading(torch.einsum("slp,smp->lm", observed, observed), self.basis))
        for _ in range(self.rounds):
            by_style = (self.basis.mT @ observed).flatten(1)
            self.style.copy_(leading(by_style @ by_style.mT, self.style))
            reduced = torch.einsum("si,slp->ilp", self.style, observed)
            self.basis.copy_(leading(torch.einsum("ilp,imp->lm", reduced, reduced), self.basis))
        self.core.copy_(self.basis.mT @ torch.einsum("si,slp->ilp", self.style, observed))

    def forward(
        self, shown: Float[Tensor, "F L P"], counts: Float[Tensor, "F L"]
    ) -> Float[Tensor, "F L P"]:
        """All contents of new styles, from the mean of what is shown of each, and how much."""
        parts = self.basis @ self.core
        vectors = blended(parts, shown, counts, self.ridge, self.style.mean(0))
        return torch.einsum("fi,ilp->flp", vectors, parts)


class Plain(nn.Module):
    """What the others are compared with: no factors, the observations as they are.

    Args:
        kind: ``additive`` for content plus style, ``nearest`` for the contents of the known style
            that is nearest in what is shown, ``mean`` for the mean contents.
        styles: S, how many it is fitted to.
        contents: L.
        values: P.
    """

    known: Tensor

    def __init__(self, kind: str, styles: int, contents: int, values: int) -> None:
        super().__init__()
        self.kind = kind
        self.register_buffer("known", torch.zeros(styles, contents, values))

    def fit(self, observed: Float[Tensor, "S L P"]) -> None:
        """Keeps them."""
        self.known.copy_(observed)

    def forward(
        self, shown: Float[Tensor, "F L P"], counts: Float[Tensor, "F L"]
    ) -> Float[Tensor, "F L P"]:
        """All contents of new styles, from the mean of what is shown of each, and how much."""
        weight, mean = counts[..., None], self.known.mean(0)
        if self.kind == "additive":
            total = weight.sum(1, keepdim=True).clamp(min=1e-6)
            return mean + (weight * (shown - mean)).sum(1, keepdim=True) / total
        if self.kind == "nearest":
            far = [(weight * (shown - each).square()).sum((1, 2)) for each in self.known]
            return self.known[torch.stack(far).argmin(0)]
        return mean.expand_as(shown)


def tell(
    draws: Draws, seen: Float[Tensor, "F N P"], contents: int, deviation: float, rounds: int
) -> Float[Tensor, "F N L"]:
    """Which content each observation of a new style is, when nobody says (section 4).

    Expectation and maximisation over a mixture of the contents, each a normal distribution of one
    deviation about what ``draws`` draws of it. The first round draws from nothing: the mean style.

    Args:
        draws: a fitted model.
        seen: N observations of each of F styles, of contents unknown.
        contents: L.
        deviation: root mean square over the P numbers, of an observation about its mean.
        rounds: of drawing and telling; 1 does not adapt.

    Returns:
        Probabilities of the contents, for each observation.
    """
    styles, _, values = seen.shape
    means, counts = seen.new_zeros(styles, contents, values), seen.new_zeros(styles, contents)
    chances = seen.new_zeros(styles, seen.shape[1], contents)
    for _ in range(rounds):
        drawn = draws(means, counts)
        far = torch.cdist(seen, drawn).square()
        chances = (-far / (2 * values * deviation**2)).softmax(-1)
        counts = chances.sum(1)
        means = (chances.mT @ seen) / counts[..., None].clamp(min=1e-6)
    return chances


def blended(
    parts: Float[Tensor, "S L P"],
    shown: Float[Tensor, "F L P"],
    counts: Float[Tensor, "F L"],
    ridge: float,
    towards: Float[Tensor, " S"] | None = None,
) -> Float[Tensor, "F S"]:
    """How much of each part makes up what is shown: least squares, weighted by the counts.

    Args:
        parts: what is blended.
        shown: what the blend should be like.
        counts: weight of each content.
        ridge: pull towards `towards`, as a share of the mean square of the parts.
        towards: 1 / S of each when None.
    """
    size = len(parts)
    products = (parts.transpose(0, 1) @ parts.permute(1, 2, 0)).flatten(1)
    left = (counts @ products).view(-1, size, size)
    # Of all contents, so that with nothing shown the answer is what it is drawn to.
    pull = ridge * products.sum(0).view(size, size).diagonal().mean() + 1e-12
    right = (counts[..., None] * shown).flatten(1) @ parts.flatten(1).mT
    if towards is None:
        towards = parts.new_full((size,), 1 / size)
    eye = torch.eye(size, dtype=parts.dtype, device=parts.device)
    blend: Tensor = torch.linalg.solve(left + pull * eye, right + pull * towards)
    return blend


def leading(gram: Float[Tensor, "N N"], like: Float[Tensor, "N K"]) -> Float[Tensor, "N K"]:
    """The eigenvectors of the K largest eigenvalues, each with a positive sum."""
    vectors = torch.linalg.eigh(gram.double())[1].flip(1)[:, : like.shape[1]]
    signs = torch.where(vectors.sum(0) < 0, -1.0, 1.0)
    found: Tensor = (vectors * signs).to(like.dtype)
    return found
