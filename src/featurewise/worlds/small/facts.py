"""Facts of the data sets of small tasks."""

from __future__ import annotations

from typing import Final

from featurewise.common.dataset import DatasetFacts

MADE: Final = "made by this library, Apache-2.0"
"""Licence of data that are computed here."""

DIGITS: Final = DatasetFacts(
    "The 1797 handwritten digits of 8 by 8 pixels of scikit-learn, split by their pixels.",
    "CC BY 4.0 (Alpaydin and Kaynak 1998, UCI)",
)
DIGITS_OR_FASHION: Final = DatasetFacts(
    f"{DIGITS.what} Preset fashion: Fashion-MNIST (Xiao, Rasul & Vollgraf 2017) in its official "
    "files, in 8 by 8 pixels.",
    f"{DIGITS.licence}; Fashion-MNIST under the MIT licence",
    "for preset fashion, `apt-get install dataset-fashion-mnist`",
)
ROTATED_DIGITS: Final = DatasetFacts(
    "The 1797 handwritten digits of 8 by 8 pixels of scikit-learn, rotated by any angle.",
    "CC BY 4.0 (Alpaydin and Kaynak 1998, UCI)",
)
NOISY_DIGITS: Final = DatasetFacts(
    "The 1797 handwritten digits of 8 by 8 pixels of scikit-learn, with salt-and-pepper noise.",
    "CC BY 4.0 (Alpaydin and Kaynak 1998, UCI)",
)
SINES: Final = DatasetFacts("Sine waves of random amplitude and phase, generated here.", MADE)
SYMBOL_GRIDS: Final = DatasetFacts(
    "Generated grids of symbols, with two tasks: which symbol is at this place, and how many "
    "places show this symbol.",
    MADE,
)
BILINEAR_TEACHERS: Final = DatasetFacts(
    "Gaussian x and z, and outputs of two random functions of them: a FiLM, and a bilinear "
    "transform of known rank.",
    MADE,
)
SIGNS: Final = DatasetFacts("Generated questions about the signs of two vectors x and z.", MADE)
