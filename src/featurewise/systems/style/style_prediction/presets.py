"""Presets of style prediction: sizes, styles and steps."""

from __future__ import annotations

from featurewise.study.system import Intervals
from featurewise.systems.style.style_prediction.method import Config
from featurewise.systems.style_works import TRAINED, UNSEEN

PRESETS = {
    "tiny": Config(
        steps=10,
        intervals=Intervals(log=5, save=5),
        images="patterns",
        styles=("rings", "gradient"),
        unseen=("waves", "diagonal_stripes"),
        encoder="random",
        loss_network="random",
        embedding=8,
        size=32,
        painting_size=64,
        painting_crops=4,
        width=4,
        blocks=1,
        test_images=2,
        classifier_crops=8,
    ),
    "small": Config(
        steps=400,
        intervals=Intervals(log=25, evaluate=400, save=200),
        styles=TRAINED,
        unseen=UNSEEN,
        reconstruction_steps=80,
        size=48,
        painting_size=96,
    ),
    "paper": Config(
        steps=3_000_000,
        intervals=Intervals(log=100, evaluate=3_000_000, save=2_000, save_seconds=600.0),
        styles=TRAINED,
        unseen=UNSEEN,
        size=256,
        painting_size=256,
        width=32,
        blocks=5,
        batch_size=8,
        learning_rate=1e-5,
    ),
}
