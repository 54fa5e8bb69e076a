"""Facts of the built-in CLEVR world."""

from __future__ import annotations

from typing import Final

from featurewise.common.dataset import DatasetFacts

CLEVR: Final = DatasetFacts(
    "Scenes, images and questions of the built-in CLEVR world, rendered by this library.",
    "made by this library, Apache-2.0",
)
