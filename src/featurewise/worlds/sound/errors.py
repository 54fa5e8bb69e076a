"""Errors of the world of sound."""

from __future__ import annotations


class SoundError(ValueError):
    """An argument of the world of sound is not valid, or data cannot be made of it."""


class RecordingError(SoundError):
    """A recording or a folder of them is missing or malformed; the message begins with its path."""


class SynthesiserError(SoundError):
    """The speech synthesiser failed."""


class MissingSynthesiserError(SynthesiserError):
    """The speech synthesiser is not installed; the message says how to do it."""
