"""Styles as fixed networks see them, and photographs that are to have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from featurewise.common.rng import seeded_rng
from featurewise.models.perceptual import gram
from featurewise.models.style_features import style_features
from featurewise.systems.style.style_prediction.method import (
    Config,
    PredictionBatch,
    loss_network,
)
from featurewise.training.shuffled import ShuffledCondition, previous_sample
from featurewise.training.source import Source
from featurewise.worlds.pictures import (
    Painting,
    StyleSource,
    contents_of,
    crops,
    paintings_called,
    with_shorter_side,
)


@dataclass(frozen=True)
class SeenStyles:
    """Images of styles as the encoder and the loss network see them.

    Attributes:
        features: for the predictor.
        grams: Gram matrices, by layer.
    """

    features: Float[Tensor, "... F"]
    grams: tuple[Float[Tensor, "..."], ...]


def seen(config: Config, images: UInt8[Tensor, "N 3 H W"]) -> SeenStyles:
    """What the two networks of a config see of images of styles."""
    network = loss_network(config)
    with torch.no_grad():
        parts = [network(some / 255) for some in torch.split(images, 16)]
        grams = tuple(
            torch.cat([gram(each[layer]) for each in parts]) for layer in network.style
        )
    return SeenStyles(style_features(config.encoder, images), grams)


@lru_cache(maxsize=64)
def _style(config: Config, name: str, made: bool) -> SeenStyles:
    """Crops of one style."""
    (work,) = works(config, (name,), made=made)
    image = with_shorter_side(work.image, config.painting_size)
    seed = int.from_bytes(name.encode()[:7], "big")
    return seen(config, crops(image, config.size, config.painting_crops, seed=seed))


def works(config: Config, names: Sequence[str], *, made: bool) -> tuple[Painting, ...]:
    """Paintings of these names, or patterns made by us.

    Raises:
        PictureError: there is none of such a name, or the packages are not installed.
    """
    return paintings_called("patterns" if made else config.images, *names)


def chosen(config: Config, seed: int) -> tuple[str, ...]:
    """Names of the paintings that are trained on: ``share`` of them, at random by the seed."""
    count = max(1, round(config.share * len(config.trained)))
    order = torch.randperm(
        len(config.trained), generator=seeded_rng(seed, "style_prediction", "chosen")
    )
    return tuple(config.trained[i] for i in sorted(order[:count].tolist()))


@dataclass(frozen=True)
class PredictionSource:
    """Random crops of photographs, each with a crop of a style.

    No style is twice in a batch, unless there are fewer than photographs in it.

    Attributes:
        photographs: crops of them; its ids are not used.
        styles: what is seen of the crops of each style.
        reconstruct: in so many batches, the first ones, photographs are to stay as they are.
        seed: of the styles; a batch depends on it and on its index only.
    """

    photographs: StyleSource
    styles: tuple[SeenStyles, ...]
    reconstruct: int
    seed: int

    def batch(self, index: int, /) -> PredictionBatch:
        """The batch of this index."""
        rng = seeded_rng(self.seed, "style_prediction", index)
        content = self.photographs.batch(index).content
        count = len(content)
        orders = [
            torch.randperm(len(self.styles), generator=rng)
            for _ in range(-(-count // len(self.styles)))
        ]
        which = torch.cat(orders)[:count].tolist()
        copies = len(self.styles[0].features)
        crop = torch.randint(copies, (count,), generator=rng).tolist()
        pairs = list(zip((self.styles[i] for i in which), crop, strict=True))
        return PredictionBatch(
            content,
            torch.stack([style.features[i] for style, i in pairs]),
            tuple(
                torch.stack([style.grams[layer][i] for style, i in pairs])
                for layer in range(len(self.styles[0].grams))
            ),
            index < self.reconstruct,
        )


def data(config: Config, seed: int) -> Source[PredictionBatch]:
    """Training batches."""
    names = chosen(config, seed)
    photographs = StyleSource(
        contents_of(config.images, "train"), 1, config.size, config.batch_size, seed
    )
    plain = same(config)
    styles = [_style(plain, name, False) for name in names]
    styles += [_style(plain, name, True) for name in config.made]
    source = PredictionSource(
        photographs, tuple(styles), config.reconstruction_steps, seed
    )
    if config.shuffled_styles:
        return ShuffledCondition(source, ("style",), previous_sample)
    return source


def same(config: Config) -> Config:
    """The config without what an arm changes: fixed networks see the same in every arm."""
    return replace(
        config, share=1.0, made=(), shuffled_styles=False, train_on_unseen=False
    )
