"""Facts of the paintings and photographs."""

from __future__ import annotations

from typing import Final

from featurewise.common.dataset import DatasetFacts
from featurewise.worlds.pictures.packages import INSTALL

PAINTINGS: Final = DatasetFacts(
    "Styles: 22 works, put together from the jigsaw puzzles of Debian's gcompris-qt-data. "
    "Contents: photographs of buildings, animals and landscapes of four packages, whose short side "
    "has 256 pixels; no motif of the test is trained on.",
    "paintings GPL-3+ by their package (from the WebMuseum); photographs public domain, CC0, "
    "CC BY, CC BY-SA and, of the two packages of wallpapers, GPL-2+ and LGPL-3; nothing of them is "
    "shipped",
    f"packages of Debian 12, `{INSTALL}`; two photographs come with scikit-learn",
)
