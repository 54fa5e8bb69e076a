"""Cross-attention against its formula, position by position."""

from __future__ import annotations

import math

import pytest
import torch

from featurewise.models.attention import CrossAttention


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
