"""Real paintings and photographs: styles and contents for style transfer.

:func:`paintings` and :func:`photographs` read them from packages of the system,
:class:`StyleSource` gives batches to train on, :func:`crops` parts of one image, and
:func:`load_picture` an image of the user's own.
"""

from __future__ import annotations

from featurewise.worlds.pictures.errors import (
    MissingPicturesError,
    PictureError,
    ResourceError,
)
from featurewise.worlds.pictures.facts import PAINTINGS
from featurewise.worlds.pictures.images import load_picture
from featurewise.worlds.pictures.named import (
    Collection,
    contents_of,
    held_out_photographs,
    paintings_called,
    require_distinct_names,
    shown_photographs,
)
from featurewise.worlds.pictures.patterns import patterns
from featurewise.worlds.pictures.photos import Photograph, photographs
from featurewise.worlds.pictures.puzzles import Painting, paintings
from featurewise.worlds.pictures.sheets import style_sheet
from featurewise.worlds.pictures.sizes import central_crop, with_shorter_side
from featurewise.worlds.pictures.source import StyleBatch, StyleSource, crops
from featurewise.worlds.pictures.versions import picture_versions

__all__ = [
    "PAINTINGS",
    "Collection",
    "MissingPicturesError",
    "Painting",
    "Photograph",
    "PictureError",
    "ResourceError",
    "StyleBatch",
    "StyleSource",
    "central_crop",
    "contents_of",
    "crops",
    "held_out_photographs",
    "load_picture",
    "paintings",
    "paintings_called",
    "patterns",
    "photographs",
    "picture_versions",
    "require_distinct_names",
    "shown_photographs",
    "style_sheet",
    "with_shorter_side",
]
