"""The data model of a CLEVR scene: objects on the ground and their spatial relations.

Source: Johnson et al. 2017, *CLEVR: A Diagnostic Dataset for Compositional Language and Elementary
Visual Reasoning*, section 3. Lengths are in Blender units, Z points up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from featurewise.worlds.clevr.camera import Vector
from featurewise.worlds.clevr.errors import SceneError
from featurewise.worlds.clevr.lights import LAMPS
from featurewise.worlds.clevr.vocabulary import COLORS, MATERIALS, RADIUS, RELATIONS, SHAPES, SIZES

DIRECTIONS: Final[dict[str, Vector]] = {
    "left": (-0.6563112735748291, -0.7544902563095093, 0.0),
    "right": (0.6563112735748291, 0.7544902563095093, 0.0),
    "behind": (-0.754490315914154, 0.6563112735748291, 0.0),
    "front": (0.754490315914154, -0.6563112735748291, 0.0),
    "above": (0.0, 0.0, 1.0),
    "below": (0.0, 0.0, -1.0),
}
"""Unit vectors of the relations: those of the camera's base position, for all cameras."""

RELATION_MARGIN: Final = 0.2
"""Least distance between two objects, along the vector of a relation, for the relation to hold."""


@dataclass(frozen=True, slots=True)
class Object:
    """One object on the ground.

    Attributes:
        shape: one of ``SHAPES``.
        size: one of ``SIZES``.
        material: one of ``MATERIALS``.
        color: one of ``COLORS``.
        position: the centre ("3d_coords").
        rotation: rotation about the Z axis in radians ("rotation").
        pixel: column and row in the 480 x 320 image, and depth ("pixel_coords"), if known.
    """

    shape: str
    size: str
    material: str
    color: str
    position: Vector
    rotation: float
    pixel: tuple[int, int, float] | None = None

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("shape", self.shape, SHAPES),
            ("size", self.size, SIZES),
            ("material", self.material, MATERIALS),
            ("color", self.color, COLORS),
        ):
            if value not in allowed:
                raise SceneError(f"{name} {value!r} is none of {', '.join(allowed)}")
        if len(self.position) != 3 or not np.isfinite((*self.position, self.rotation)).all():
            raise SceneError(
                "an object needs three finite coordinates and a finite rotation, "
                f"got {self.position!r} and {self.rotation!r}"
            )

    @property
    def radius(self) -> float:
        """Half the object's extent."""
        return RADIUS[self.size]


@dataclass(frozen=True, slots=True)
class Scene:
    """Objects on the ground, a camera and three lamps.

    Attributes:
        objects: the objects, in the order in which relations index them.
        camera: position of the camera; None for the base position.
        lamps: positions of the key, fill and back lamp; None for the base positions.
    """

    objects: tuple[Object, ...]
    camera: Vector | None = None
    lamps: tuple[Vector, ...] | None = None

    def __post_init__(self) -> None:
        if self.lamps is not None and len(self.lamps) != len(LAMPS):
            raise SceneError(f"a scene has {len(LAMPS)} lamps, got {len(self.lamps)}")

    def related(self, relation: str) -> list[list[int]]:
        """For every object i, the indices j of the objects that are in ``relation`` to it.

        Raises:
            SceneError: if ``relation`` is none of ``RELATIONS``.
        """
        if relation not in RELATIONS:
            raise SceneError(f"relation {relation!r} is none of {', '.join(RELATIONS)}")
        centers = np.array([o.position for o in self.objects]).reshape(-1, 3)
        along = centers @ np.array(DIRECTIONS[relation])
        beyond = along[None, :] - along[:, None] > RELATION_MARGIN
        return [np.flatnonzero(row).tolist() for row in beyond]

    @property
    def relationships(self) -> dict[str, list[list[int]]]:
        """``related`` for every relation, as the scene files store it."""
        return {relation: self.related(relation) for relation in RELATIONS}
