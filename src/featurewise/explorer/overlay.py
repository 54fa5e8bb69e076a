"""Where a network looked, laid over the image."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from featurewise.explorer.tables import ReportError

#: Dark violet to pale yellow, evenly brighter: it reads without colour vision and in print.
_STOPS = np.array([(20, 11, 53), (132, 32, 107), (229, 92, 48), (252, 255, 164)], dtype=np.float64)
_STRENGTH = 0.75


def heat(
    picture: Image.Image, places: ArrayLike, rows: tuple[float, float] | None = None
) -> Image.Image:
    """An image in its own colours, with heat where the network looked, brightest at its peak.

    Args:
        picture: any RGB image.
        places: ``(h, w)``, not negative; stretched over the whole image, or over `rows` of it.
        rows: first row of the image that the map covers and the row after the last; they may lie
            outside.

    Raises:
        ReportError: `places` is not a map of finite numbers, none of them negative.
    """
    shares = np.asarray(places, dtype=np.float64)
    if shares.ndim != 2 or not shares.size or not np.isfinite(shares).all() or shares.min() < 0:
        raise ReportError(f"places must be (h, w) and not negative, got shape {shares.shape}")
    # A square root lets places show that got one feature in a hundred.
    share = np.sqrt(shares / max(shares.max(), np.finfo(np.float64).tiny))
    field = Image.fromarray(share.astype(np.float32))
    top, bottom = (0, picture.height) if rows is None else (round(rows[0]), round(rows[1]))
    field = field.resize((picture.width, max(1, bottom - top)), Image.Resampling.BICUBIC)
    covered = Image.new("F", picture.size)
    covered.paste(field, (0, top))
    strength = np.asarray(covered, dtype=np.float64).clip(0, 1)
    colours = np.asarray(picture.convert("RGB"), dtype=np.float64)
    weight = _STRENGTH * strength[..., None]
    mixed = (1 - weight) * colours + weight * _coloured(strength)
    return Image.fromarray(np.rint(mixed).astype(np.uint8))


def _coloured(strength: NDArray[np.float64]) -> NDArray[np.float64]:
    at = np.linspace(0, 1, len(_STOPS))
    return np.stack([np.interp(strength, at, channel) for channel in _STOPS.T], axis=-1)
