"""The lamps and the sun of the CLEVR world.

Three square lamps emit uniformly from one side, toward the origin; the sun is a small disc of the
sky. There are no other lights. Radiances are linear RGB.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from featurewise.worlds.clevr.camera import Vector

LAMP_JITTER: Final = 1.0


@dataclass(frozen=True, slots=True)
class Lamp:
    """A square lamp that is aimed at the origin.

    Attributes:
        position: of its centre, in world coordinates.
        side: length of a side, in Blender units.
        radiance: emitted radiance of red, green and blue.
    """

    position: Vector
    side: float
    radiance: Vector


LAMPS: Final = (
    Lamp((6.44671, -2.90517, 4.25840), 0.5, (100.0, 93.2, 81.7)),
    Lamp((-4.67112, -4.01360, 3.01122), 0.5, (22.86, 24.54, 30.0)),
    Lamp((-1.16850, 2.64602, 5.81574), 1.0, (12.5, 12.5, 12.5)),
)
"""The key, the fill and the back lamp at their base positions."""

SUN_DIRECTION: Final[Vector] = (0.4145, -0.1946, 0.8890)
SUN_IRRADIANCE: Final = 0.45
SUN_RADIUS: Final = 0.09965
"""Angular radius of the sun's disc."""
