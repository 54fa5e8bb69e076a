"""Fast routes to ``gamma * x + beta`` and to a norm before it; see `film` for the table."""

from featurewise.core.kernels.film import cast, compute_dtype, fast, modulate, takes_kernels
from featurewise.core.kernels.norm import batch_norm_film, group_norm_film

__all__ = [
    "batch_norm_film",
    "cast",
    "compute_dtype",
    "fast",
    "group_norm_film",
    "modulate",
    "takes_kernels",
]
