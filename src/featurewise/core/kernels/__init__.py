"""Fast routes to ``gamma * x + beta`` and to a norm before it; see `film` for the table."""

from featurewise.core.kernels.choice import use
from featurewise.core.kernels.film import (
    ACTIVATIONS,
    SMALL,
    cast,
    compute_dtype,
    fast,
    gpu_kernels,
    modulate,
    takes_kernels,
)
from featurewise.core.kernels.norm import (
    batch_norm_film,
    group_norm_film,
    layer_norm,
    layer_norm_film,
    rms_norm,
    rms_norm_film,
)

__all__ = [
    "ACTIVATIONS",
    "SMALL",
    "batch_norm_film",
    "cast",
    "compute_dtype",
    "fast",
    "gpu_kernels",
    "group_norm_film",
    "layer_norm",
    "layer_norm_film",
    "modulate",
    "rms_norm",
    "rms_norm_film",
    "takes_kernels",
    "use",
]
