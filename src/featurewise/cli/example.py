"""The image and the question of ``featurewise ask --example``."""

from __future__ import annotations

from pathlib import Path

IMAGE = Path(__file__).with_name("example.png")
"""Rendered by the built-in world; in none of the data sets that a system is trained on."""

QUESTION = "What color is the large metal sphere?"
