"""Presets of AdaIN: sizes, paintings and steps."""

from __future__ import annotations

from featurewise.study.system import Intervals
from featurewise.systems.style.adain.method import Config
from featurewise.systems.style.adain.sources import TRAINED, UNSEEN

PRESETS = {
    "tiny": Config(
        steps=10,
        intervals=Intervals(log=5, save=5),
        images="patterns",
        styles=("squares", "rings", "waves", "discs"),
        unseen=("diagonal_stripes", "horizontal_stripes"),
        encoder="random",
        blocks=2,
        size=32,
        painting_size=64,
        photograph_crops=4,
        painting_crops=4,
        test_images=2,
        classifier_crops=8,
    ),
    "small": Config(
        steps=500,
        intervals=Intervals(log=25, evaluate=500, save=250),
        styles=TRAINED,
        unseen=UNSEEN,
        reconstruction_steps=100,
    ),
    "paper": Config(
        steps=160_000,
        intervals=Intervals(log=100, evaluate=160_000, save=2_000, save_seconds=600.0),
        styles=TRAINED,
        unseen=UNSEEN,
        blocks=4,
        narrow=1,
        size=256,
        painting_size=256,
        batch_size=8,
        learning_rate=1e-4,
    ),
}
