"""The cards in the documentation say what the records and the measured results say."""

from pathlib import Path

import pytest

from featurewise.cli import discovery
from featurewise.lab import card

CARDS = Path(__file__).parents[2] / "docs" / "cards"


@pytest.mark.parametrize("name", list(discovery.names()))
def test_the_card_has_not_drifted(name: str) -> None:
    results = list(discovery.shipped_results(discovery.module(name)).values())
    assert results, f"{name} comes without measured results"
    stale = card.stale(discovery.load(name), results, CARDS)
    assert not stale, f"run `make docs`, which writes the cards anew: {stale}"
