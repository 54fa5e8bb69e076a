"""Experiment of TADAM: episodes in domains, their accuracy, and the learned multipliers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from PIL.Image import Image

import featurewise as fw
from featurewise.study.metric import Metric
from featurewise.study.results import Measurement
from featurewise.systems.episodes import (
    FIGURE_SEED,
    TEST_SEED,
    draw_episodes,
    measure,
    sampled_episodes,
)
from featurewise.systems.few_shot.tadam.method import Config
from featurewise.training.shuffled import ShuffledCondition
from featurewise.training.source import Source
from featurewise.training.steppers import Episodic
from featurewise.worlds.glyphs.domains import EpisodesInDomains
from featurewise.worlds.glyphs.episodes import (
    ConditionedEpisodes,
    EpisodeConditioning,
    EpisodeSource,
    next_episode,
)


def data(config: Config, seed: int) -> Source[ConditionedEpisodes]:
    """Episodes of the training scripts, with images of the auxiliary task where there is one."""
    auxiliary_images = config.auxiliary_images if config.auxiliary_task else 0
    episodes = sampled_episodes(config, "train", seed, auxiliary_images=auxiliary_images)
    return conditioned(episodes, config)


def conditioned(episodes: EpisodeSource, config: Config) -> Source[ConditionedEpisodes]:
    """Episodes in their domains, conditioned on their own support, or that of the next one."""
    source = EpisodeConditioning(EpisodesInDomains(episodes, config.domains))
    if config.shuffled_condition:
        return ShuffledCondition(source, ("condition",), next_episode)
    return source


BLOCKS = 4
MULTIPLIERS = {
    (name, block): Metric(
        f"size of {symbol}0, block {block}",
        f"absolute value of the learned multiplier {symbol}0 of block {block}",
    )
    for name, symbol in (("gamma", "γ"), ("beta", "β"))
    for block in range(1, BLOCKS + 1)
}
SCALE = Metric("metric scale", "α, the learned factor of the squared distances")
LAST_TO_FIRST = Metric(
    "multipliers, last block to first",
    "sizes of γ0 and β0 of block 4, added up, over those of block 1",
)


def evaluate(trained: Episodic, config: Config) -> Measurement:
    """Accuracy on episodes of scripts that are not trained on, and the learned multipliers."""
    found = measure(
        trained,
        config,
        lambda shot: conditioned(
            sampled_episodes(config, "test", TEST_SEED, shot), config
        ),
    )
    numbers = learned_numbers(trained.network)
    return replace(
        found, values={metric.name: value for metric, value in numbers.items()}
    )


def learned_numbers(network: Any) -> dict[Metric, float]:
    """The metric's scale, and the multipliers of each block where there are any."""
    found = {SCALE: float(network.scale.detach())}
    if isinstance(network.embed, fw.Conditioned):
        generator: Any = network.embed.generator
        by_block = list(generator.by_site().values())
        for block, multipliers in enumerate(by_block, start=1):
            for name, value in multipliers.items():
                found[MULTIPLIERS[name, block]] = abs(value)
        first, *_, last = (
            sum(map(abs, multipliers.values())) for multipliers in by_block
        )
        found[LAST_TO_FIRST] = last / first if first else 0.0
    return found


def draw(trained: Episodic, config: Config) -> Image:
    """Test episodes, and which of their queries are classified correctly."""
    episodes = conditioned(sampled_episodes(config, "test", FIGURE_SEED), config)
    return draw_episodes(trained, episodes.batch(0))
