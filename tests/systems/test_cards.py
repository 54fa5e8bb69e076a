"""The cards and the catalogue say what the records and the published results say."""

from pathlib import Path

import pytest

from featurewise.cli import discovery
from featurewise.lab import card, catalogue

DOCS = Path(__file__).parents[2] / "docs"


def test_cards_and_catalogue_have_not_drifted() -> None:
    stale = catalogue.stale(discovery.published(), DOCS)
    assert not stale, f"run `featurewise cards`, which writes them anew: {stale}"


@pytest.mark.parametrize("entry", discovery.published(), ids=lambda entry: entry.system.name)
def test_a_published_picture_is_small(entry: catalogue.Entry) -> None:
    for path in (p for arms in entry.sheets.values() for p in arms.values()):
        assert path.stat().st_size <= catalogue.LIMIT
    assert catalogue.headline(entry) or "Never run." in catalogue.to_markdown([entry])
    assert "None yet." in card.to_markdown(entry.system) or entry.results
