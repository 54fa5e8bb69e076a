"""Settings that systems share which generate letters, for an evaluation classifier to recognise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from featurewise.common.ranges import Decay
from featurewise.study import system


@dataclass(frozen=True, slots=True, kw_only=True)
class GlyphConfig(system.Config):
    """A generator of letters, its training and its evaluation.

    Attributes:
        typefaces: which ones, as `featurewise.worlds.glyphs.find_typefaces` takes it.
        image_size: height and width of an image, in pixels.
        batch_size: images per batch.
        learning_rate: of Adam.
        ema_decay: decay of the exponential moving average of the weights, which
            generates.
        samples_per_class: samples of each class that are evaluated.
        classifier_steps: training steps of the evaluation classifier.
    """

    FORMER_NAMES: ClassVar = {
        "where": "typefaces",
        "size": "image_size",
        "rate": "learning_rate",
        "average": "ema_decay",
        "asked": "samples_per_class",
        "judging": "classifier_steps",
    }

    typefaces: str = "debian"
    image_size: int = 16
    batch_size: int = 32
    learning_rate: float = 2e-3
    ema_decay: Decay = 0.99
    samples_per_class: int = 20
    classifier_steps: int = 900
