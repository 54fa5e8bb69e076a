"""The image and the question of ``featurewise ask --example``."""

from __future__ import annotations

from pathlib import Path

IMAGE = Path(__file__).with_name("example.png")
"""An image that the built-in world rendered; no training set contains it."""

QUESTION = "What color is the cube left of the large metal sphere?"
