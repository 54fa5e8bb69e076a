"""Stacked attention and cross-attention against their formulas, place by place."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from featurewise.models.attention import CrossAttention, StackedAttention


@torch.no_grad()
def looped(attention: StackedAttention, x: Tensor, query: Tensor) -> Tensor:
    """Yang et al. 2016, eq. 15 to 19, one picture and one place at a time."""
    answers = []
    for picture, start in zip(x, query, strict=True):
        u = start
        places = [picture[:, row, column] for row, column in positions(picture)]
        for value, ask, score in zip(
            attention.value, attention.query, attention.score, strict=True
        ):
            logits = [
                float(
                    score.weight.flatten()
                    @ torch.tanh(value.weight[:, :, 0, 0] @ v + value.bias + ask.weight @ u)
                    + score.bias
                )
                for v in places
            ]
            exponents = [math.exp(logit - max(logits)) for logit in logits]
            shares = [each / sum(exponents) for each in exponents]
            u = u + torch.stack([p * v for p, v in zip(shares, places, strict=True)]).sum(0)
        answers.append(u)
    return torch.stack(answers)


def positions(picture: Tensor) -> list[tuple[int, int]]:
    return [(row, column) for row in range(picture.shape[1]) for column in range(picture.shape[2])]


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_attention_is_a_loop_over_places(rounds: int) -> None:
    attention = StackedAttention(4, 6, rounds).double()
    x = torch.randn(3, 4, 2, 5, dtype=torch.float64)
    query = torch.randn(3, 4, dtype=torch.float64)
    torch.testing.assert_close(attention(x, query), looped(attention, x, query), rtol=0, atol=1e-12)


def test_without_rounds_the_query_is_the_answer() -> None:
    query = torch.randn(2, 4)
    assert torch.equal(StackedAttention(4, 6, 0)(torch.randn(2, 4, 3, 3), query), query)


def test_where_things_lie_does_not_matter() -> None:
    attention = StackedAttention(4, 6).double()
    x = torch.randn(2, 4, 3, 5, dtype=torch.float64)
    query = torch.randn(2, 4, dtype=torch.float64)
    moved = x.flatten(2)[:, :, torch.randperm(15)].view_as(x)
    torch.testing.assert_close(attention(moved, query), attention(x, query))


def test_every_parameter_learns() -> None:
    attention = StackedAttention(4, 6).double()
    x = torch.randn(2, 4, 3, 5, dtype=torch.float64)
    attention(x, torch.randn(2, 4, dtype=torch.float64)).square().sum().backward()
    for name, parameter in attention.named_parameters():
        assert parameter.grad is not None, name
        # A bias that all places share cancels in the softmax.
        assert (name.startswith("score") and name.endswith("bias")) or parameter.grad.any(), name


@torch.no_grad()
def test_cross_attention_place_by_place() -> None:
    attend = CrossAttention(3, 4).double()
    queries = torch.randn(2, 5, 3, dtype=torch.float64)
    places = torch.randn(2, 6, 4, dtype=torch.float64)
    for n in range(2):
        for q in range(5):
            asked = attend.query(queries[n, q])
            scores = [float(asked @ attend.key(place)) / 4**0.5 for place in places[n]]
            shares = [math.exp(score) for score in scores]
            seen = sum(
                share / sum(shares) * attend.value(place)
                for share, place in zip(shares, places[n], strict=True)
            )
            torch.testing.assert_close(attend(queries, places)[n, q], seen)
            weights = attend.weights(queries, places)[n, q].tolist()
            assert weights == pytest.approx([share / sum(shares) for share in shares])
