"""Facts of the corpora."""

from __future__ import annotations

from typing import Final

from featurewise.common.dataset import DatasetFacts
from featurewise.worlds.text.novels import NOVELS_FOLDER, NOVELS_PACKAGE

AUSTEN: Final = DatasetFacts(
    "The six novels of Jane Austen, split by chapter: of each ten chapters one validates and one "
    "tests. Preset tiny: made sentences, sums in words.",
    "public domain by their age (1811 to 1818; texts of Project Gutenberg); the package under the "
    "MIT licence; nothing of them is shipped",
    f"`apt-get install {NOVELS_PACKAGE}`, or its two files in the folder `{NOVELS_FOLDER}` of the "
    "cache folder; not for preset tiny",
)

CLOZE: Final = DatasetFacts(
    "Made stories of five people who take a thing and enter a place, and a question on where a "
    "person or a thing is. Presets novels and paper: twenty sentences of a novel of Jane Austen, "
    "and the next one without a name; four novels train, one validates and one tests.",
    AUSTEN.licence,
    f"`apt-get install {NOVELS_PACKAGE}`, or its two files in the folder `{NOVELS_FOLDER}` of the "
    "cache folder, for presets novels and paper",
)
