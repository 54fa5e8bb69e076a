"""Crops of photographs and paintings, to train on and to test on, as the encoder sees them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from featurewise.common.rng import seeded_rng
from featurewise.models.mirrored import EncoderName, encoder, moments
from featurewise.systems.style.adain.method import Config, TransferBatch
from featurewise.training.shuffled import ShuffledCondition, previous_sample
from featurewise.training.source import Source
from featurewise.worlds.pictures import (
    Collection,
    PictureError,
    central_crop,
    contents_of,
    crops,
    paintings_called,
    with_shorter_side,
)

UNSEEN = (
    "bruegel_the_harvesters",
    "cassatt_summertime",
    "kandinsky_composition_viii",
    "van_gogh_village_street_in_auvers",
)
"""No other work of these painters is in the package."""

TRAINED = (
    "arcimboldo_spring",
    "arcimboldo_the_librarian",
    "bazille_the_ramparts_at_aigues_mortes",
    "bellini_la_pala_di_pesaro",
    "durer_lion",
    "hiroshige_horse_mackerel_and_prawn",
    "hiroshige_the_benzaiten_shrine_at_inokashira_in_snow",
    "hokusai_ejiri_in_suruga_province",
    "hokusai_kazusa_sea_route",
    "hokusai_oiran_and_kamuro",
    "hokusai_poppies",
    "hokusai_the_great_wave_off_kanagawa",
    "hokusai_viewing_sunset_over_the_ryogoku_bridge_from_the_ommaya_embankment",
    "hokusai_woman_holding_a_fan",
    "leonardo_mona_lisa",
    "renoir_bal_du_moulin_de_la_galette",
    "renoir_girls_at_the_piano",
)


def seen(config: Config, images: UInt8[Tensor, "N 3 S S"]) -> list[Float[Tensor, "..."]]:
    """Features of images, by layer of the encoder."""
    see = encoder(config.encoder, config.blocks)
    with torch.no_grad():
        parts = [see(some / 255) for some in torch.split(images, 16)]
    return [torch.cat(each) for each in zip(*parts, strict=True)]


@dataclass(frozen=True)
class Pool:
    """Crops as the encoder sees them, for all batches.

    Attributes:
        photographs: crops of photographs.
        content: features of them, at the last layer.
        style: those of crops of paintings.
        wanted: moments of the latter, by layer.
    """

    photographs: UInt8[Tensor, "P 3 H H"]
    content: Float[Tensor, "P C h w"]
    style: Float[Tensor, "S K C h w"]
    wanted: tuple[Float[Tensor, "S K 2 _"], ...]


@lru_cache(maxsize=2)
def _photographs(
    images: Collection, name: EncoderName, blocks: int, size: int, count: int
) -> tuple[UInt8[Tensor, "P 3 H H"], Float[Tensor, "P C h w"]]:
    """Crops of all training photographs, and what the encoder sees of them."""
    see = encoder(name, blocks)
    made = [
        crops(each.image, size, count, seed=number)
        for number, each in enumerate(contents_of(images, "train"))
    ]
    with torch.no_grad():
        found = [see(some / 255)[-1] for some in made]
    return torch.cat(made), torch.cat(found)


@lru_cache(maxsize=3)
def pool(config: Config) -> Pool:
    """The crops of a config; the same for every seed."""
    photographs, content = _photographs(
        config.images,
        config.encoder,
        config.blocks,
        config.size,
        config.photograph_crops,
    )
    style, wanted = [], []
    for number, work in enumerate(paintings_called(config.images, *config.trained)):
        image = with_shorter_side(work.image, config.painting_size)
        layers = seen(
            config, crops(image, config.size, config.painting_crops, seed=number)
        )
        style.append(layers[-1])
        wanted.append([moments(each) for each in layers])
    by_layer = [torch.stack(each) for each in zip(*wanted, strict=True)]
    return Pool(photographs, content, torch.stack(style), tuple(by_layer))


@dataclass(frozen=True)
class TransferSource:
    """Random photographs, each with a crop of another painting than the others of its batch.

    Attributes:
        pool: what is sampled from.
        batch_size: photographs in a batch.
        reconstruct: in so many batches, the first ones, photographs are to be given back.
        seed: of all randomness; a batch depends on it and on its index only.

    Raises:
        PictureError: a batch needs more paintings than there are.
    """

    pool: Pool
    batch_size: int
    reconstruct: int
    seed: int

    def __post_init__(self) -> None:
        if self.batch_size > len(self.pool.style):
            raise PictureError(
                f"a batch of {self.batch_size} needs as many paintings, there are "
                f"{len(self.pool.style)}"
            )

    def batch(self, index: int, /) -> TransferBatch:
        """The batch of this index."""
        rng = seeded_rng(self.seed, "adain", index)
        works, copies = self.pool.style.shape[:2]
        rows = torch.randint(len(self.pool.content), (self.batch_size,), generator=rng)
        # No painting twice: another sample's style, as in the control, is always another one.
        which = torch.randperm(works, generator=rng)[: self.batch_size]
        crop = torch.randint(copies, (self.batch_size,), generator=rng)
        style = self.pool.style[which, crop]
        wanted = tuple(each[which, crop] for each in self.pool.wanted)
        return TransferBatch(
            self.pool.content[rows],
            style,
            style,
            wanted,
            self.pool.photographs[rows],
            index < self.reconstruct,
        )


def data(config: Config, seed: int) -> Source[TransferBatch]:
    """Training batches."""
    source = TransferSource(
        pool(config), config.batch_size, config.reconstruction_steps, seed
    )
    if config.shuffled_styles:
        return ShuffledCondition(source, ("style",), previous_sample)
    return source


def unseen_paintings(config: Config) -> UInt8[Tensor, "S 3 H H"]:
    """The middle of each unseen painting."""
    works = paintings_called(config.images, *config.unseen)
    return torch.stack([central_crop(each.image, config.size) for each in works])
