"""Facts of the data sets of sound."""

from __future__ import annotations

from typing import Final

from featurewise.common.dataset import DatasetFacts
from featurewise.worlds.sound.espeak import INSTALL

VOICES: Final = DatasetFacts(
    "Synthetic speech: random English words, said by variants of espeak-ng's voice of American "
    "English as 8 kHz sound, in 40 log-mel features; the phone of each frame is from the "
    "synthesiser's own timing. Each variant stands for a speaker; the parts share no kind of "
    "variant. No human speech. Preset tiny, which the tests use: frames with two made formants.",
    "rendered by espeak-ng, GPL-3, from words of this library; nothing of it is shipped",
    f"`{INSTALL}`",
)
EFFECT: Final = DatasetFacts(
    "Spoken digits by six people (Free Spoken Digit Dataset, takes 0, 1 and 5 of each digit), 8 "
    "kHz, through a compressor and an overdrive that are computed here, with two knobs that move; "
    "three speakers to train on, one for validation, two for the test. The formulas give what "
    "Compressor and Distortion of pedalboard 0.9 give within rounding. Preset tiny, which the "
    "tests use: computed chords.",
    "recordings: CC BY-SA 4.0 (Zohar Jackson and contributors); nothing of them is shipped",
    "the folder `recordings` of github.com/Jakobovski/free-spoken-digit-dataset, in the folder "
    "`spoken-digits` of the cache folder",
)
WAVES: Final = DatasetFacts(
    "Synthetic speech: random English words, said by eight voices of espeak-ng as 4 kHz sound of "
    "64 levels (μ-law), with the phone of every 10 ms from the synthesiser's own timing; test "
    "sentences are other random orders of the same 430 words. Arms `people` and `people_none`: "
    "digits spoken by six people (Free Spoken Digit Dataset), takes 0 and 1 to train on and take 5 "
    "for the test, without phones. Preset tiny, which the tests use: computed harmonics.",
    "rendered by espeak-ng, GPL-3, from words of this library; recordings: CC BY-SA 4.0 (Zohar "
    "Jackson and contributors); neither is shipped",
    f"`{INSTALL}`; the folder `recordings` of github.com/Jakobovski/free-spoken-digit-dataset, in "
    "the folder `spoken-digits` of the cache folder",
)
