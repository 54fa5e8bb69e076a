"""Where a network looked, laid over the picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from featurewise.explorer.tables import ReportError

#: Dark violet to pale yellow, evenly brighter: it reads without colour vision and in print.
_STOPS = np.array([(20, 11, 53), (132, 32, 107), (229, 92, 48), (252, 255, 164)], dtype=np.float64)
_STRENGTH = 0.75


def heat(picture: Image.Image, places: ArrayLike) -> Image.Image:
    """A picture in grey, with colour where the network looked, brightest where it looked most.

    Args:
        picture: any RGB picture.
        places: ``(h, w)``, not negative; stretched over the whole picture.

    Raises:
        ReportError: `places` is not a map of finite numbers, none of them negative.
    """
    shares = np.asarray(places, dtype=np.float64)
    if shares.ndim != 2 or not shares.size or not np.isfinite(shares).all() or shares.min() < 0:
        raise ReportError(f"places must be (h, w) and not negative, got shape {shares.shape}")
    # A square root lets places show that got one feature in a hundred.
    share = np.sqrt(shares / max(shares.max(), np.finfo(np.float64).tiny))
    field = Image.fromarray(share.astype(np.float32))
    field = field.resize(picture.size, Image.Resampling.BICUBIC)
    strength = np.asarray(field, dtype=np.float64).clip(0, 1)
    grey = np.asarray(picture.convert("L").convert("RGB"), dtype=np.float64)
    weight = _STRENGTH * strength[..., None]
    mixed = (1 - weight) * grey + weight * _coloured(strength)
    return Image.fromarray(np.rint(mixed).astype(np.uint8))


def _coloured(strength: NDArray[np.float64]) -> NDArray[np.float64]:
    at = np.linspace(0, 1, len(_STOPS))
    return np.stack([np.interp(strength, at, channel) for channel in _STOPS.T], axis=-1)
