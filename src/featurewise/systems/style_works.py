"""Paintings by what they serve for, where styles are tested that were never trained on."""

from __future__ import annotations

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
