"""Layers: FiLM, conditional norms and concatenation, for networks written by hand."""

from featurewise.layers.concat import ConcatConv, ConcatLinear
from featurewise.layers.film import FiLM
from featurewise.layers.norm import (
    ConditionalBatchNorm,
    ConditionalGroupNorm,
    ConditionalInstanceNorm,
    ConditionalLayerNorm,
    ConditionalRMSNorm,
)

__all__ = [
    "ConcatConv",
    "ConcatLinear",
    "ConditionalBatchNorm",
    "ConditionalGroupNorm",
    "ConditionalInstanceNorm",
    "ConditionalLayerNorm",
    "ConditionalRMSNorm",
    "FiLM",
]
