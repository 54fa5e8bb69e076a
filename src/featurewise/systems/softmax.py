"""Softmax regression, for evaluation classifiers on features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor


def fit_softmax(
    features: Float[Tensor, "N F"], labels: Int64[Tensor, " N"], decay: float = 1e-2
) -> tuple[Float[Tensor, "F S"], Float[Tensor, " S"]]:
    """Weights and biases of multinomial regression, with L2 penalty on the weights.

    Args:
        features: of about mean 0 and variance 1.
        labels: classes from 0; there are as many as the largest says.
        decay: factor of the penalty.
    """
    classes = int(labels.max()) + 1
    weight = torch.zeros(features.shape[1], classes, requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=100, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(features @ weight + bias, labels)
        loss = loss + decay * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()
