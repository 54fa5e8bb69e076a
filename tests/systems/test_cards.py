"""The cards and the catalogue say what the records and the published results say."""

from pathlib import Path

import pytest

from featurewise.cli import discovery
from featurewise.study import card, catalogue

DOCS = Path(__file__).parents[2] / "docs"
PUBLISHED = discovery.published()


def test_cards_and_catalogue_have_not_drifted() -> None:
    stale = catalogue.stale(PUBLISHED, DOCS)
    assert not stale, f"run `featurewise cards`, which writes them again: {stale}"


@pytest.mark.parametrize("entry", PUBLISHED, ids=lambda entry: entry.system.name)
def test_what_did_not_come_out_says_why(entry: catalogue.Entry) -> None:
    """At whichever preset: refuted, or stated with a bar that nothing could meet."""
    silent = [
        claim.sentence
        for claim in entry.system.claims
        for results in entry.results
        if card.outcome(claim.check(results)) in ("refuted", "bar beyond the scale")
        and not claim.why
    ]
    assert not silent


@pytest.mark.parametrize("entry", PUBLISHED, ids=lambda entry: entry.system.name)
def test_a_system_that_uses_fonts_says_so(entry: catalogue.Entry) -> None:
    system = entry.system
    text = card.to_markdown(card.content(system, *entry.results))
    uses_fonts = "typeface" in system.world.what or "scripts" in system.world.what
    assert bool(system.world.needs) == bool(system.versions) >= uses_fonts
    if uses_fonts or not system.versions:
        rendered = "The data were rendered by: " in text
        assert rendered is (uses_fonts and bool(entry.results))


@pytest.mark.parametrize("entry", PUBLISHED, ids=lambda entry: entry.system.name)
def test_a_published_image_is_small(entry: catalogue.Entry) -> None:
    for path in (p for arms in entry.sheets.values() for p in arms.values()):
        assert path.stat().st_size <= catalogue.COLOUR_LIMIT
    assert catalogue.headline(entry) or "Never run." in catalogue.to_markdown([entry])
    assert "None yet." in card.to_markdown(card.content(entry.system))
