"""Experiment with prototypical networks: episodes of scripts that are not trained on."""

from __future__ import annotations

from PIL.Image import Image

from featurewise.study.results import Measurement
from featurewise.systems.episodes import (
    FIGURE_SEED,
    TEST_SEED,
    draw_episodes,
    measure,
    sampled_episodes,
)
from featurewise.systems.few_shot.prototypical.method import Config
from featurewise.training.source import Source
from featurewise.training.steppers import Episodic
from featurewise.worlds.glyphs.episodes import Episodes, EpisodeSource, ShuffledLabels


def data(config: Config, seed: int) -> Source[Episodes]:
    """Episodes of the training scripts."""
    return labelled(sampled_episodes(config, "train", seed), config)


def labelled(source: EpisodeSource, config: Config) -> Source[Episodes]:
    """The episodes with their support labels, permuted where the config has it so."""
    return ShuffledLabels(source) if config.shuffled_labels else source


def evaluate(trained: Episodic, config: Config) -> Measurement:
    """Accuracy on episodes of scripts that are not trained on."""
    return measure(
        trained,
        config,
        lambda shot: labelled(sampled_episodes(config, "test", TEST_SEED, shot), config),
    )


def draw(trained: Episodic, config: Config) -> Image:
    """Test episodes, and which of their queries are classified correctly."""
    return draw_episodes(trained, sampled_episodes(config, "test", FIGURE_SEED).batch(0))
