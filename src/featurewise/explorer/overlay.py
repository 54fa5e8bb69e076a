"""A heat map of the positions that a network used, laid over the image."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from featurewise.explorer.tables import ReportError

#: Dark violet to pale yellow, with steadily rising lightness: readable without colour vision and
#: in print.
_STOPS = np.array([(20, 11, 53), (132, 32, 107), (229, 92, 48), (252, 255, 164)], dtype=np.float64)
_STRENGTH = 0.75


def heat(
    image: Image.Image, places: ArrayLike, rows: tuple[float, float] | None = None
) -> Image.Image:
    """An image in its own colours with a heat map over it, brightest at the largest share.

    Args:
        image: an image of any mode.
        places: share of each position, ``(h, w)``, not negative; resized to the whole image, or
            to `rows` of it.
        rows: first row of the image that the map covers, and the row after the last, in pixels;
            they may lie outside of the image.

    Raises:
        ReportError: `places` is not a map of finite numbers that are not negative.
    """
    shares = np.asarray(places, dtype=np.float64)
    if shares.ndim != 2 or not shares.size or not np.isfinite(shares).all() or shares.min() < 0:
        raise ReportError(f"places must be (h, w) and not negative, got shape {shares.shape}")
    # The square root makes positions visible that have only 1 % of the features.
    share = np.sqrt(shares / max(shares.max(), np.finfo(np.float64).tiny))
    field = Image.fromarray(share.astype(np.float32))
    top, bottom = (0, image.height) if rows is None else (round(rows[0]), round(rows[1]))
    field = field.resize((image.width, max(1, bottom - top)), Image.Resampling.BICUBIC)
    full = Image.new("F", image.size)
    full.paste(field, (0, top))
    strength = np.asarray(full, dtype=np.float64).clip(0, 1)
    colours = np.asarray(image.convert("RGB"), dtype=np.float64)
    weight = _STRENGTH * strength[..., None]
    mixed = (1 - weight) * colours + weight * _coloured(strength)
    return Image.fromarray(np.rint(mixed).astype(np.uint8))


def _coloured(strength: NDArray[np.float64]) -> NDArray[np.float64]:
    at = np.linspace(0, 1, len(_STOPS))
    return np.stack([np.interp(strength, at, channel) for channel in _STOPS.T], axis=-1)
