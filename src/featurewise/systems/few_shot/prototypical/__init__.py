"""Prototypical networks. Snell, Swersky & Zemel 2017, equations 1 and 2, figure 1.

Four blocks of convolutions f embed images. The prototype of a class is the mean vector
of its support images, and a query is classified by its squared distances to the
prototypes::

    c_k = mean of f(x) over the support images x of class k
    p(k | x) = softmax over k of -|f(x) - c_k|²

Nothing is conditioned: this is the base that TADAM conditions.
"""

from __future__ import annotations

from featurewise.study.claims import Claim, Statement, above, at_least, at_most
from featurewise.study.system import Arm, Paper, System
from featurewise.systems.episodes import (
    ACCURACY,
    CAPTION,
    accuracy_with,
    data_versions,
)
from featurewise.systems.few_shot.prototypical.experiment import data, draw, evaluate
from featurewise.systems.few_shot.prototypical.method import (
    Config,
    Prototypical,
    stepper,
)
from featurewise.worlds.glyphs.facts import SCRIPTS, or_omniglot

__all__ = ["SYSTEM", "Config"]

SYSTEM = System(
    name="prototypical",
    doc=__doc__,
    paper=Paper(
        "Snell, Swersky, Zemel 2017: Prototypical Networks for Few-shot Learning. "
        "NeurIPS",
        "https://arxiv.org/abs/1703.05175",
        "equations 1 and 2, figure 1",
        "Omniglot, 5 classes (table 1): 98.8 % from 1 shot, 99.7 % from 5",
    ),
    world=or_omniglot(SCRIPTS),
    presets={
        "tiny": Config(
            steps=30,
            typefaces="bundled",
            image_size=16,
            typefaces_per_script=2,
            letters_per_script=8,
            channels=8,
            test_episodes=8,
        ),
        "small": Config(steps=1000),
        "paper": Config(
            steps=100_000,
            image_size=28,
            letters_per_script=100,
            channels=64,
            batch_size=1,
        ),
        "omniglot": Config(steps=1000, data="omniglot", image_size=28, channels=32),
    },
    arms=(
        Arm("prototypical", "the system"),
        Arm("cosine", "cosines in place of distances", similarity="cosine"),
        Arm(
            "cosine_scaled",
            "cosines times a learned number",
            similarity="cosine",
            learned_scale=True,
        ),
        Arm(
            "pixels",
            "nearest class mean of the raw pixels; one learned number scales the "
            "distances",
            embedding="pixels",
            learned_scale=True,
        ),
        Arm(
            "shuffled",
            "control: support labels are permuted, in the test too, which leaves "
            "guessing",
            shuffled_labels=True,
        ),
    ),
    build=Prototypical,
    stepper=stepper,
    data=data,
    evaluate=evaluate,
    draw=draw,
    metrics=(ACCURACY, accuracy_with(1), accuracy_with(5)),
    finding="A learned embedding classifies letters of unseen scripts from one example "
    "far better than raw pixels do: 84 % of letters of typefaces, 85 % of the "
    "handwritten characters of Omniglot's small sets. Distances are better than plain "
    "cosines, and on handwriting than cosines with a learned scale, too, by 4.7 points; "
    "on typefaces three seeds do not decide that.",
    claims=(
        Claim(
            "One example of each of five classes is enough for four of five queries.",
            at_least(ACCURACY, "prototypical", 80),
            Statement(
                "5 classes, 1 shot, Omniglot",
                "table 1",
                "98.8 %",
                "no: preset omniglot has the small sets, half the width, and no test "
                "alphabet in training; small has letters of typefaces",
            ),
            added=("small",),
        ),
        Claim(
            "A learned embedding is better than raw pixels.",
            above(ACCURACY, "prototypical", "pixels", 20),
        ),
        Claim(
            "The accuracy is due to the labels of the support.",
            above(ACCURACY, "prototypical", "shuffled", 50),
            added=("small",),
        ),
        Claim(
            "Squared distances are better than cosines.",
            above(ACCURACY, "prototypical", "cosine", 0),
            Statement(
                "Euclidean distance is better than cosine distance",
                "figure 2",
                comparable="direction only: letters, not photographs",
            ),
        ),
        Claim(
            "Squared distances are better than cosines with a learned scale.",
            above(ACCURACY, "prototypical", "cosine_scaled", 0),
            Statement(
                "Euclidean distance is better than cosine distance",
                "figure 2",
                comparable="no: the paper's cosines have no learned scale",
            ),
            why="The scale makes up for most of what cosines lose; three seeds are too "
            "few for the rest (small).",
        ),
        Claim(
            "Permuted labels leave no less than guessing, 20 %.",
            at_least(ACCURACY, "shuffled", 17),
        ),
        Claim(
            "Permuted labels leave no more than guessing, 20 %.",
            at_most(ACCURACY, "shuffled", 23),
        ),
    ),
    departures=(
        "Trained on five classes, not 60. No query is in a typeface, or by a writer, "
        "that its class is shown in.",
        "20 x 20 pixels, 16 channels, not 28 x 28, 64; of letters with fewer images "
        "than shots, images occur again with another jitter.",
        "Letters of Unicode scripts in typefaces, not Omniglot's 1,623 characters "
        "drawn by hand; none is rotated to make new classes.",
        "Preset omniglot trains on the 136 characters of one small set of Omniglot; it "
        "is tested on the 106 of the other whose alphabets are not in the first. The "
        "classes of an episode are of any alphabet, as in the paper; 32 channels, 28 x "
        "28 pixels.",
        "Preset paper has the paper's trunk and image size; its episodes are of 5 "
        "classes, not 60.",
    ),
    versions=data_versions,
    tuned_on="small: not recorded. omniglot: as small; nothing was chosen on Omniglot",
    tested_on="504 episodes of 25 queries. small: from 14 scripts (420 letters, 1,380 "
    "images) that share no letter with the 38 training scripts. omniglot: from "
    "Sanskrit, Tagalog and Katakana (106 characters, each by 20 writers). Scripts are "
    "the independent units",
    caption=CAPTION,
    expected="84 % from one shot, 90 % from five; 20 % by guessing",
)
