"""Which files this library made: it writes over those, and over no others."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from featurewise.common.images import read_image
from featurewise.common.opening import read_bytes
from featurewise.training.errors import ExperimentError

MARK: Final = (
    "---\ngenerated_by: featurewise cards (edits are overwritten)\nsearch:\n  boost: 0.5\n---\n\n"
)
"""How a generated page begins; a search of the pages ranks it below those written by hand."""

MAKER: Final = ("Software", "featurewise")
"""Text in an image file that says what made it; version 0.1 wrote only the next."""

SOURCE: Final = "Source"
"""Name of the text in an image file that says what it was made from."""

_CATALOGUE = "# Catalogue\n\nEvery system, what it claims"  # of version 0.1, without the mark
_KEYS = {"name", "claims", "results"}, {"system", "preset", "trials"}


def require_own(paths: Iterable[Path]) -> None:
    """Makes sure that none of the files exists, but those made by this library.

    Raises:
        ExperimentError: there are others; the message names the first.
    """
    foreign = [path for path in paths if path.exists() and not made_here(path)]
    if foreign:
        more = f", and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise ExperimentError(
            f"{foreign[0]}{more}: not made by featurewise, so it is not overwritten; choose "
            "another folder"
        )


def made_here(path: Path) -> bool:
    """Whether a file is a card, a catalogue, results or an image that this library wrote."""
    try:
        if path.suffix == ".json":
            content = json.loads(read_bytes(path))
            return isinstance(content, dict) and any(keys <= content.keys() for keys in _KEYS)
        if path.suffix == ".png":
            info = read_image(path, formats=("PNG",)).info
            return SOURCE in info or MAKER in info.items()
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError, SyntaxError):
        return False
    if text.startswith((MARK, _CATALOGUE)):
        return True
    # A card of version 0.1 has no mark, but its facts beside it.
    card = path.with_suffix(".json")
    return path.suffix == ".md" and card.is_file() and made_here(card)
