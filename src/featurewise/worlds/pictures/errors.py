"""Errors of the world of pictures."""

from __future__ import annotations


class PictureError(ValueError):
    """An argument of the world of pictures is not valid, or an image cannot be read."""


class ResourceError(PictureError):
    """A file of Qt resources is malformed or too large; the message begins with its path."""


class MissingPicturesError(PictureError):
    """Packages that contain the images are not installed; the message says how to do it."""
