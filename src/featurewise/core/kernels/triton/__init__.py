"""Kernels for a GPU, in Triton, which torch brings along there; only `use("triton")` imports them.

Written and tested in Triton's interpreter; never timed.
"""

from featurewise.core.kernels.triton.routes import DEVICE, Norm, film, norm_film

__all__ = ["DEVICE", "Norm", "film", "norm_film"]
