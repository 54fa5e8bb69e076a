"""``DeltaWeight``: a full predicted matrix, the most general linear operation on features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from featurewise.core.kernels import compute_dtype
from featurewise.core.operation import Operation, Parameter


@dataclass(frozen=True)
class DeltaWeight(Operation):
    """A full matrix for each condition: ``x + D x`` over the features, at every position.

    After a linear map (or a convolution) with weight W it amounts to the weight ``(1 + D) W``. If W
    is square and invertible, this can be any weight, as a hypernetwork predicts (Ha et al. 2017).
    `LowRank` is the same with a D of low rank, the scale of FiLM with a diagonal D. D has C²
    elements.
    """

    def parameters(self, width: int, extent: tuple[int, ...] | None = None) -> dict[str, Parameter]:
        """``delta`` (D) of shape (C, C)."""
        return {"delta": Parameter((width, width), positional=False)}

    def apply(
        self, x: Tensor, values: Mapping[str, Tensor], axis: int, batch_axis: int | None
    ) -> Tensor:
        """``x + D x``."""
        features = x.to(compute_dtype(x))
        delta = values["delta"].to(features.dtype)
        rows = torch.movedim(features, axis, -1)
        if delta.ndim == 2 or batch_axis is None:
            product = rows @ delta.mT
        else:
            # To (B, positions, C), with all position axes in one.
            front = torch.movedim(rows, batch_axis - (batch_axis > axis), 0)
            flat = front.reshape(front.shape[0], -1, front.shape[-1])
            product = torch.bmm(flat, delta.mT.expand(len(flat), -1, -1)).view(front.shape)
            product = torch.movedim(product, 0, batch_axis - (batch_axis > axis))
        return (features + torch.movedim(product, -1, axis)).to(x.dtype)
