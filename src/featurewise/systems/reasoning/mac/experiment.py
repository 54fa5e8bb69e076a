"""Experiment of MAC: that of the ablations, on a share of the scenes."""

from __future__ import annotations

from dataclasses import replace

from featurewise.systems.reasoning.ablations import experiment as ablations
from featurewise.systems.reasoning.mac.method import Config
from featurewise.training.source import Source
from featurewise.worlds.clevr import Batch


def data(config: Config, seed: int) -> Source[Batch]:
    """Maps of scenes and questions, of each stage the first scenes only, a batch at least.

    A share of the scenes is trained on for as many steps as all of them.
    """
    stages = tuple(
        replace(
            stage,
            images=max(config.scenes_per_batch, round(config.share * stage.images)),
        )
        for stage in config.curriculum
    )
    return ablations.data(replace(config, curriculum=stages), seed)
