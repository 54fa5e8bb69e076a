"""Presets of style transfer: paintings, steps, sizes."""

from __future__ import annotations

from featurewise.study.system import Intervals
from featurewise.systems.style.style_transfer.method import Config
from featurewise.systems.style.style_transfer.sources import EIGHT, FOUR, NEW, TWENTY

PRESETS = {
    "tiny": Config(
        steps=10,
        intervals=Intervals(log=5, save=5),
        images="patterns",
        loss_network="random",
        styles=("squares", "rings", "waves"),
        new_styles=("discs",),
        new_style_steps=2,
        size=32,
        painting_size=64,
        width=4,
        blocks=1,
        test_images=2,
        classifier_crops=8,
    ),
    "small": Config(
        steps=1_200,
        intervals=Intervals(log=50, evaluate=1_200, save=200),
        reconstruction_steps=500,
        styles=FOUR,
        new_styles=NEW[:1],
        new_style_steps=100,
        classifier_crops=64,
    ),
    "full": Config(
        steps=6_000,
        intervals=Intervals(log=50, evaluate=6_000, save=250, save_seconds=300.0),
        reconstruction_steps=1_000,
        styles=EIGHT,
        new_styles=NEW,
        size=96,
        painting_size=192,
        width=24,
    ),
    "paper": Config(
        steps=40_000,
        intervals=Intervals(log=50, evaluate=40_000, save=1_000, save_seconds=600.0),
        styles=TWENTY,
        new_styles=NEW,
        size=256,
        painting_size=512,
        width=32,
        batch_size=16,
    ),
}
