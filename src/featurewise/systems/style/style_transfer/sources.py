"""Photographs that are to have a style, to train on and to test on."""

from __future__ import annotations

from dataclasses import dataclass

from featurewise.systems.style.style_transfer.method import Config, TransferBatch
from featurewise.training.shuffled import ShuffledCondition, previous_sample
from featurewise.training.source import Source
from featurewise.worlds.pictures import (
    StyleSource,
    contents_of,
)

FOUR = (
    "hokusai_the_great_wave_off_kanagawa",
    "van_gogh_village_street_in_auvers",
    "kandinsky_composition_viii",
    "cassatt_summertime",
)
EIGHT = (
    *FOUR,
    "hiroshige_horse_mackerel_and_prawn",
    "durer_lion",
    "renoir_bal_du_moulin_de_la_galette",
    "arcimboldo_spring",
)
TWENTY = (
    *EIGHT,
    "arcimboldo_the_librarian",
    "bazille_the_ramparts_at_aigues_mortes",
    "bellini_la_pala_di_pesaro",
    "hiroshige_the_benzaiten_shrine_at_inokashira_in_snow",
    "hokusai_ejiri_in_suruga_province",
    "hokusai_kazusa_sea_route",
    "hokusai_oiran_and_kamuro",
    "hokusai_viewing_sunset_over_the_ryogoku_bridge_from_the_ommaya_embankment",
    "hokusai_woman_holding_a_fan",
    "leonardo_mona_lisa",
    "michelangelo_pieta",
    "renoir_girls_at_the_piano",
)
NEW = ("hokusai_poppies", "bruegel_the_harvesters")


@dataclass(frozen=True)
class TransferSource:
    """Crops of photographs, each of which is to have a style at random.

    Attributes:
        source: crops with ids.
        reconstruct: so many batches, the first ones, are to stay as they are.
    """

    source: StyleSource
    reconstruct: int

    def batch(self, index: int, /) -> TransferBatch:
        """The batch of this index."""
        found = self.source.batch(index)
        reconstruct = index < self.reconstruct
        return TransferBatch(found.content, found.styles, found.styles, reconstruct)


def data(config: Config, seed: int) -> Source[TransferBatch]:
    """Training batches."""
    crops = StyleSource(
        contents_of(config.images, "train"),
        len(config.trained),
        config.size,
        config.batch_size,
        seed,
    )
    source = TransferSource(crops, config.reconstruction_steps)
    if config.shuffled_styles:
        # Each image has another one's id. A random order of four would leave one in its
        # place: 44 % of the ids would be right, not the 25 % of independent ones.
        return ShuffledCondition(source, ("styles",), previous_sample)
    return source
