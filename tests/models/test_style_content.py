"""Bilinear models of style and content: recovery of exact data, least squares against loops."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from featurewise.models.style_content import (
    Asymmetric,
    Baseline,
    Symmetric,
    blend_weights,
    classify_contents,
    leading_eigenvectors,
)

S, L, P, J = 6, 5, 12, 2


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def bilinear(styles: int, rank: int = J) -> tuple[Tensor, Tensor]:
    """Observations ``A^s b^c``, and the vectors b of all contents."""
    contents = torch.randn(L, rank)
    return contents @ torch.randn(styles, rank, P), contents


def test_asymmetric_recovers_the_unseen_contents_of_a_new_style() -> None:
    observed, contents = bilinear(S)
    model = Asymmetric(S, L, P, J, ridge=1e-5, blend=0.1)
    model.fit(observed)
    torch.testing.assert_close(model.basis @ model.matrices, observed, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.basis.mT @ model.basis, torch.eye(J))
    new = contents @ torch.randn(3, J, P)
    counts = torch.tensor([1.0, 1, 1, 0, 0]).repeat(3, 1)
    predicted = model(new * counts[..., None], counts)
    torch.testing.assert_close(predicted, new, rtol=1e-2, atol=1e-2)


def test_asymmetric_solves_the_ridge_regression() -> None:
    model = Asymmetric(S, L, P, 3, ridge=0.7, blend=0.2)
    model.fit(torch.rand(S, L, P))
    shown, counts = torch.rand(1, L, P), torch.tensor([[1.0, 0.5, 0, 2, 0]])
    shares = blend_weights(model.basis @ model.matrices, shown, counts, 0.2)[0]
    prior = sum(share * each for share, each in zip(shares, model.matrices, strict=True))

    def slope(change: Tensor) -> float:
        """Largest gradient of the sum of squares plus the ridge; zero at its minimum."""
        change = change.clone().requires_grad_()
        loss = 0.7 * change.square().sum()
        for letter in range(L):
            rest = shown[0, letter] - model.basis[letter] @ (prior + change)
            loss = loss + counts[0, letter] * rest.square().sum()
        return float(torch.autograd.grad(loss, change)[0].abs().max())

    assert slope(torch.zeros(3, P)) > 1e-2
    assert slope(model.basis.mT @ model(shown, counts)[0] - prior) < 1e-4


def test_symmetric_recovers_contents_of_few_styles() -> None:
    contents, ways, styles = torch.randn(L, J), torch.randn(3, J, P), torch.randn(S, 3)
    observed = torch.einsum("si,lj,ijp->slp", styles, contents, ways)
    model = Symmetric(S, L, P, 3, J, ridge=1e-7)
    model.fit(observed)
    predicted = torch.einsum("si,lj,ijp->slp", model.style, model.basis, model.core)
    torch.testing.assert_close(predicted, observed, rtol=1e-3, atol=1e-3)
    new = torch.einsum("fi,lj,ijp->flp", torch.randn(2, 3), contents, ways)
    counts = torch.tensor([1.0, 1, 0, 0, 0]).repeat(2, 1)
    hidden = model(new * counts[..., None], counts)
    torch.testing.assert_close(hidden, new, rtol=1e-2, atol=1e-2)


def test_more_alternations_reduce_the_error() -> None:
    observed = torch.rand(S, L, P)
    errors = []
    for rounds in (1, 8):
        model = Symmetric(S, L, P, 2, J, ridge=0.1, rounds=rounds)
        model.fit(observed)
        predicted = torch.einsum("si,lj,ijp->slp", model.style, model.basis, model.core)
        errors.append(float((predicted - observed).square().sum()))
    assert errors[1] < errors[0]


def test_baselines_against_loops() -> None:
    observed, shown = torch.rand(S, L, P), torch.rand(1, L, P)
    counts = torch.tensor([[0.1, 0.2, 0, 0, 0.1]])
    mean = sum(observed) / S
    offset = sum(counts[0, i] * (shown[0, i] - mean[i]) for i in range(L)) / 0.4
    far = [
        sum(float(counts[0, i] * (shown[0, i] - style[i]).square().sum()) for i in range(L))
        for style in observed
    ]
    wanted = {"mean": mean, "additive": mean + offset, "nearest": observed[far.index(min(far))]}
    for kind, expected in wanted.items():
        model = Baseline(kind, S, L, P)
        model.fit(observed)
        torch.testing.assert_close(model(shown, counts)[0], expected)


def test_blend_weights_against_loops() -> None:
    parts, shown = torch.rand(3, L, P).double(), torch.rand(1, L, P).double()
    counts, prior = torch.rand(1, L).double(), torch.tensor([0.2, 0.5, 0.1]).double()
    left, right, size = torch.zeros(3, 3).double(), torch.zeros(3).double(), 0.0
    for i in range(3):
        for letter in range(L):
            size += float(parts[i, letter] @ parts[i, letter]) / 3
            right[i] += counts[0, letter] * (parts[i, letter] @ shown[0, letter])
            for j in range(3):
                left[i, j] += counts[0, letter] * (parts[i, letter] @ parts[j, letter])
    pull = 0.3 * size
    expected = torch.linalg.solve(left + pull * torch.eye(3).double(), right + pull * prior)
    torch.testing.assert_close(blend_weights(parts, shown, counts, 0.3, prior)[0], expected)


def test_blend_weights_without_observations_are_the_prior() -> None:
    prior = torch.tensor([0.2, 0.5, 0.1])
    nothing = torch.zeros(2, L, P), torch.zeros(2, L)
    found = blend_weights(torch.rand(3, L, P), *nothing, 0.0, prior)
    torch.testing.assert_close(found, prior.expand(2, 3))


@pytest.mark.parametrize("kind", ["asymmetric", "symmetric", "additive", "nearest", "mean"])
def test_without_observations_models_predict_the_mean_and_rows_are_independent(kind: str) -> None:
    model: Asymmetric | Symmetric | Baseline = Baseline(kind, S, L, P)
    if kind == "asymmetric":
        model = Asymmetric(S, L, P, L, ridge=0.5, blend=0.1)
    elif kind == "symmetric":
        model = Symmetric(S, L, P, S, L, ridge=0.1)
    observed = torch.rand(S, L, P)
    model.fit(observed)
    if kind != "nearest":
        nothing = model(torch.zeros(1, L, P), torch.zeros(1, L))[0]
        torch.testing.assert_close(nothing, observed.mean(0), rtol=1e-3, atol=1e-3)
    shown, counts = torch.rand(3, L, P), torch.tensor([1.0, 1, 1, 0, 0]).repeat(3, 1)
    hidden = shown.clone()
    hidden[:, 3:] = 7.0
    torch.testing.assert_close(model(hidden, counts)[1:2], model(shown[1:2], counts[1:2]))


def test_one_round_classifies_by_the_nearest_prediction() -> None:
    predicted, seen = torch.rand(1, L, P), torch.rand(1, 4, P)
    probabilities = classify_contents(lambda means, counts: predicted, seen, L, 0.3, 1)
    for n in range(4):
        weights = torch.tensor(
            [
                torch.exp(-(seen[0, n] - predicted[0, i]).square().mean() / (2 * 0.3**2))
                for i in range(L)
            ]
        )
        torch.testing.assert_close(probabilities[0, n], weights / weights.sum())


def test_the_second_round_uses_the_probabilities_of_the_first() -> None:
    """The second round uses the means and counts of the first, computed in loops."""
    seen, given = torch.rand(1, 4, P), []

    def model(means: Tensor, counts: Tensor) -> Tensor:
        given.append((means, counts))
        return torch.rand(1, L, P, generator=torch.Generator().manual_seed(1))

    probabilities = classify_contents(model, seen, L, 0.3, 2)[0]
    assert not given[0][0].any()
    assert not given[0][1].any()
    for i in range(L):
        count = sum(probabilities[n, i] for n in range(4))
        torch.testing.assert_close(given[1][1][0, i], count)
        mean = sum(probabilities[n, i] * seen[0, n] for n in range(4)) / count
        torch.testing.assert_close(given[1][0][0, i], mean)


def test_more_rounds_classify_better() -> None:
    """For a style far from the mean, contents are nearer to the means of other contents."""
    contents = torch.eye(L)[:, :J] + 0.3 * torch.randn(L, J)
    matrices = torch.randn(1, J, P) + 0.6 * torch.randn(40, J, P)
    model = Asymmetric(40, L, P, J, ridge=1e-3, blend=0.01)
    model.fit(contents @ matrices)
    seen = contents @ (torch.randn(20, J, P) * 0.8 + matrices.mean(0))
    right = [
        (classify_contents(model, seen, L, 0.3, rounds).argmax(2) == torch.arange(L)).float().mean()
        for rounds in (1, 20)
    ]
    assert right[1] > right[0] + 0.02


def test_leading_eigenvectors_belong_to_the_largest_eigenvalues() -> None:
    gram = torch.diag(torch.tensor([1.0, 5.0, 3.0]))
    expected = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert torch.equal(leading_eigenvectors(gram, torch.zeros(3, 2)), expected)


def test_leading_eigenvectors_have_positive_sums() -> None:
    """The sign of an eigenvector does not depend on the solver."""
    root = torch.randn(20, 20)
    found = leading_eigenvectors(root @ root.T, torch.zeros(20, 12))
    assert (found.sum(0) > 0).all()


def test_leading_eigenvectors_of_close_eigenvalues() -> None:
    """As exact as double precision; in single precision only three digits would be right."""
    turned = torch.linalg.qr(torch.randn(6, 6).double()).Q
    gram = (turned * torch.tensor([1.0, 0.9999, 0.5, 0.4, 0.3, 0.2])) @ turned.mT
    exact = torch.linalg.eigh(gram.float().double()).eigenvectors[:, -1]
    found = leading_eigenvectors(gram.float(), torch.zeros(6, 1))[:, 0].double()
    torch.testing.assert_close(found, exact * (exact @ found).sign(), rtol=0, atol=1e-6)
