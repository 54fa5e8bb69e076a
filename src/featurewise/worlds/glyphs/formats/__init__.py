"""Readers of published data sets in their own file formats; each takes the path of a copy."""

from featurewise.worlds.glyphs.formats.cifar import ImagesByClass, cifar10, cifar100, fc100
from featurewise.worlds.glyphs.formats.errors import FormatError
from featurewise.worlds.glyphs.formats.folders import (
    ImageFiles,
    class_folders,
    mini_imagenet,
    omniglot,
)
from featurewise.worlds.glyphs.formats.idx import mnist, read_idx
from featurewise.worlds.glyphs.formats.images import LabelledImages

__all__ = [
    "FormatError",
    "ImageFiles",
    "ImagesByClass",
    "LabelledImages",
    "cifar10",
    "cifar100",
    "class_folders",
    "fc100",
    "mini_imagenet",
    "mnist",
    "omniglot",
    "read_idx",
]
