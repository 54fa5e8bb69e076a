"""Readers of published data sets in their own files; each takes the path of a real copy."""

from featurewise.worlds.glyphs.formats.cifar import Classes, cifar10, cifar100, fc100
from featurewise.worlds.glyphs.formats.errors import FormatError
from featurewise.worlds.glyphs.formats.folders import (
    PictureFiles,
    class_folders,
    mini_imagenet,
    omniglot,
)
from featurewise.worlds.glyphs.formats.idx import mnist, read_idx
from featurewise.worlds.glyphs.formats.pictures import Pictures

__all__ = [
    "Classes",
    "FormatError",
    "PictureFiles",
    "Pictures",
    "cifar10",
    "cifar100",
    "class_folders",
    "fc100",
    "mini_imagenet",
    "mnist",
    "omniglot",
    "read_idx",
]
