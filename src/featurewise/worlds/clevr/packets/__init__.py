"""The renderer in numba: one processor core, packets of 64 rays, the same images.

It follows the formulas of the torch renderer (:mod:`featurewise.worlds.clevr.render`), which is its
twin: the two differ by at most one grey level, except where a ray passes so close to an edge that
rounding decides what it hits.

This package imports numba, so it is imported only when something is rendered with it.
"""

from __future__ import annotations

from featurewise.worlds.clevr.packets.scenes import find_objects, render_images

__all__ = ["find_objects", "render_images"]
