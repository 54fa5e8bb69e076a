"""What systems share that classify images in episodes: settings, data, objective, evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from PIL.Image import Image
from torch import Tensor, nn

from featurewise.study import system
from featurewise.study.metric import Metric
from featurewise.study.results import Measurement, Proportion
from featurewise.training.batch import to_device
from featurewise.training.source import Source
from featurewise.training.steppers import Episodic, Metrics
from featurewise.worlds.glyphs.episodes import (
    ClassSplit,
    Episodes,
    EpisodeSource,
    InMemoryPool,
    episode_sheet,
    script_pool,
    split_classes,
)
from featurewise.worlds.glyphs.handwriting import (
    omniglot_folder,
    omniglot_pool,
    omniglot_versions,
)
from featurewise.worlds.glyphs.versions import render_versions

Split: TypeAlias = Literal["train", "validation", "test"]

TEST_SEED: Final = 10_000
"""Of the test episodes: the same for all arms and for all seeds of training."""

FIGURE_SEED: Final = 20_000
"""Of the episodes that figures show."""

CAPTION: Final = (
    "Two test episodes, one class per row: its support image, a gap, its queries. "
    "Queries that are classified wrongly are white on black; the fraction at the left "
    "counts the right ones."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeConfig(system.Config):
    """Episodes of letters, and the embedding that classifies them.

    Attributes:
        data: "scripts", the letters of scripts, where the classes of an episode are of
            one script; or "omniglot", handwritten characters of its small sets, of any
            alphabets.
        typefaces: which ones, as `featurewise.worlds.glyphs.find_typefaces` takes it.
        image_size: height and width of an image, in pixels.
        typefaces_per_script: maximum for a script, each typeface an image of every
            letter.
        letters_per_script: maximum for a script, each letter a class.
        channels: width of every block of the embedding.
        way: classes of an episode.
        shot: support images of a class in training.
        queries_per_class: query images of a class.
        batch_size: episodes per batch.
        test_episodes: at least so many are evaluated, in whole batches.
        learning_rate: at the beginning; it falls along a cosine.
    """

    FORMER_NAMES: ClassVar = {
        "fonts": "typefaces",
        "size": "image_size",
        "faces": "typefaces_per_script",
        "letters": "letters_per_script",
        "queries": "queries_per_class",
        "episodes": "batch_size",
    }

    data: Literal["scripts", "omniglot"] = "scripts"
    typefaces: str = "debian"
    image_size: int = 20
    typefaces_per_script: int = 6
    letters_per_script: int = 30
    channels: int = 16
    way: int = 5
    shot: int = 1
    queries_per_class: int = 5
    batch_size: int = 8
    test_episodes: int = 500
    learning_rate: float = 5e-3


ACCURACY: Final = Metric(
    "accuracy",
    "share of the queries of unseen classes that are classified correctly, with as many "
    "support images of each of the five classes as in training",
    "%",
    "higher",
)


def accuracy_with(shot: int) -> Metric:
    """The accuracy with another number of support images than in training."""
    images = f"{shot} support image{'s' if shot > 1 else ''}"
    what = f"share of queries that are classified correctly, with {images} of each class"
    return Metric(f"{shot}-shot accuracy", what, "%", "higher")


def sampled_episodes(
    config: EpisodeConfig,
    split: Split,
    seed: int,
    shot: int | None = None,
    auxiliary_images: int = 0,
) -> EpisodeSource:
    """Episodes of the classes of one part of the data.

    Args:
        config: sizes.
        split: no two parts share a script or an alphabet.
        seed: of the episodes.
        shot: support images of a class; default: as in training.
        auxiliary_images: images for each episode of a second task, classification among
            all classes of this part.
    """
    pool, splits = _pool(config)
    return EpisodeSource(
        pool,
        classes=getattr(splits, split),
        way=config.way,
        shot=config.shot if shot is None else shot,
        queries=config.queries_per_class,
        episodes=config.batch_size,
        seed=seed,
        same_group=config.data == "scripts",
        auxiliary=auxiliary_images,
    )


def _pool(config: EpisodeConfig) -> tuple[InMemoryPool, ClassSplit]:
    if config.data == "omniglot":
        return omniglot_pool(omniglot_folder(), config.image_size)
    pool = script_pool(
        config.typefaces,
        config.image_size,
        config.typefaces_per_script,
        config.letters_per_script,
    )
    return pool, split_classes(pool)


def data_versions(config: EpisodeConfig) -> dict[str, str]:
    """Name and version of all that the images depend on."""
    if config.data == "omniglot":
        return omniglot_versions(omniglot_folder())
    return render_versions(config.typefaces)


def query_loss(network: nn.Module, batch: Episodes) -> tuple[Tensor, Metrics]:
    """Cross-entropy of the classes of the queries, and their accuracy."""
    logits, labels = network(batch).flatten(0, 1), batch.query_labels.flatten()
    accuracy = (logits.detach().argmax(1) == labels).float().mean()
    return F.cross_entropy(logits, labels), {"accuracy": accuracy}


def measure(
    trained: Episodic, config: EpisodeConfig, source: Callable[[int], Source[Any]]
) -> Measurement:
    """Accuracy on the queries, with as many shots as in training and with five.

    Args:
        trained: what is evaluated.
        config: sizes.
        source: number of shots -> test episodes.
    """
    found: dict[int, Proportion] = {}
    for shot in sorted({config.shot, 5}):
        correct: list[Tensor] = []
        episodes = source(shot)
        with trained.evaluating() as network:
            for index in range(-(-config.test_episodes // config.batch_size)):
                batch = to_device(episodes.batch(index), trained.learner.device)
                correct.append(network(batch).argmax(2) == batch.query_labels)
        found[shot] = _of_episodes(torch.cat(correct))
    by_shot = {accuracy_with(shot): each for shot, each in found.items()}
    return Measurement.of(found[config.shot], dict(by_shot))


def _of_episodes(correct: Bool[Tensor, "E Q"]) -> Proportion:
    """The proportion of all queries; those of one episode are not independent of each other."""
    episodes = torch.arange(len(correct), device=correct.device)
    return Proportion.of(correct, episodes[:, None].expand_as(correct))


def draw_episodes(trained: Episodic, batch: Episodes) -> Image:
    """A sheet of two episodes that shows which queries are classified correctly."""
    with trained.evaluating() as network:
        predictions = network(to_device(batch, trained.learner.device)).argmax(2).cpu()
    return episode_sheet(batch, predictions, count=2)
