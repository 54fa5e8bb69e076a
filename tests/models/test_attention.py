"""Stacked attention and cross-attention against their formulas, position by position."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from featurewise.models.attention import CrossAttention, StackedAttention


@torch.no_grad()
def looped(attention: StackedAttention, x: Tensor, query: Tensor) -> Tensor:
    """Yang et al. 2016, eq. 15 to 19, one image and one position at a time."""
    answers = []
    for image, start in zip(x, query, strict=True):
        u = start
        features = [image[:, row, column] for row, column in positions(image)]
        for value, project, score in zip(
            attention.value, attention.query, attention.score, strict=True
        ):
            logits = [
                float(
                    score.weight.flatten()
                    @ torch.tanh(value.weight[:, :, 0, 0] @ v + value.bias + project.weight @ u)
                    + score.bias
                )
                for v in features
            ]
            exponents = [math.exp(logit - max(logits)) for logit in logits]
            shares = [each / sum(exponents) for each in exponents]
            u = u + torch.stack([p * v for p, v in zip(shares, features, strict=True)]).sum(0)
        answers.append(u)
    return torch.stack(answers)


def positions(image: Tensor) -> list[tuple[int, int]]:
    return [(row, column) for row in range(image.shape[1]) for column in range(image.shape[2])]


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_attention_equals_a_loop_over_positions(rounds: int) -> None:
    attention = StackedAttention(4, 6, rounds).double()
    x = torch.randn(3, 4, 2, 5, dtype=torch.float64)
    query = torch.randn(3, 4, dtype=torch.float64)
    torch.testing.assert_close(attention(x, query), looped(attention, x, query), rtol=0, atol=1e-12)


def test_without_rounds_the_query_is_unchanged() -> None:
    query = torch.randn(2, 4)
    assert torch.equal(StackedAttention(4, 6, 0)(torch.randn(2, 4, 3, 3), query), query)


def test_permuting_positions_does_not_matter() -> None:
    attention = StackedAttention(4, 6).double()
    x = torch.randn(2, 4, 3, 5, dtype=torch.float64)
    query = torch.randn(2, 4, dtype=torch.float64)
    moved = x.flatten(2)[:, :, torch.randperm(15)].view_as(x)
    torch.testing.assert_close(attention(moved, query), attention(x, query))


def test_every_parameter_has_a_gradient() -> None:
    attention = StackedAttention(4, 6).double()
    x = torch.randn(2, 4, 3, 5, dtype=torch.float64)
    attention(x, torch.randn(2, 4, dtype=torch.float64)).square().sum().backward()
    for name, parameter in attention.named_parameters():
        assert parameter.grad is not None, name
        # A bias that is the same at all positions cancels in the softmax.
        assert (name.startswith("score") and name.endswith("bias")) or parameter.grad.any(), name


@torch.no_grad()
def test_cross_attention_equals_a_loop() -> None:
    attend = CrossAttention(3, 4).double()
    queries = torch.randn(2, 5, 3, dtype=torch.float64)
    features = torch.randn(2, 6, 4, dtype=torch.float64)
    for n in range(2):
        for q in range(5):
            projected = attend.query(queries[n, q])
            scores = [float(projected @ attend.key(feature)) / 4**0.5 for feature in features[n]]
            shares = [math.exp(score) for score in scores]
            attended = sum(
                share / sum(shares) * attend.value(feature)
                for share, feature in zip(shares, features[n], strict=True)
            )
            torch.testing.assert_close(attend(queries, features)[n, q], attended)
            weights = attend.weights(queries, features)[n, q].tolist()
            assert weights == pytest.approx([share / sum(shares) for share in shares])
