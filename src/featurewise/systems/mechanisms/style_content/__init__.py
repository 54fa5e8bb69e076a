"""Style and content of letters and vowels. Tenenbaum & Freeman 2000, eq. 1 and 3, sections 3 to 5.

An observation has a style s and a content c. The asymmetric model is a matrix for each
style and a vector for each content, the symmetric model a vector for both::

    y = A_s b_c                    (eq. 3)
    y_k = a_s^T W_k b_c            (eq. 1)

Here a style is a typeface and a content a letter; at preset ``vowels``, a speaker and a
vowel. Both models are fitted in closed form, by singular value decomposition. Of a
typeface that is not in the training data two letters in three are given: its matrix
follows by least squares, and the model predicts the others. Without labels, its letters
are classified by expectation-maximisation (EM) over a mixture of contents.
"""

from __future__ import annotations

from featurewise.study.claims import Claim, Statement, above, at_least, at_most_ratio
from featurewise.study.system import Arm, Paper, System
from featurewise.systems.mechanisms.style_content.experiment import (
    ERROR,
    LEGIBILITY,
    UNLABELLED,
    data,
    draw,
    evaluate,
    versions,
)
from featurewise.systems.mechanisms.style_content.method import (
    Config,
    StyleModel,
    stepper,
)
from featurewise.worlds.glyphs.facts import STYLES

__all__ = ["SYSTEM", "Config"]

SYSTEM = System(
    name="style_content",
    doc=__doc__,
    paper=Paper(
        "Tenenbaum, Freeman 2000: Separating style and content with bilinear models",
        "https://doi.org/10.1162/089976600300015349",
        "sections 3.2 to 5, equations 1 and 3",
    ),
    world=STYLES,
    presets={
        "tiny": Config(
            steps=1,
            typefaces="bundled",
            letters="AHLOTE",
            image_size=16,
            training_styles=5,
            rank=3,
            style_rank=4,
            classifier_steps=40,
        ),
        "small": Config(steps=1),
        "vowels": Config(
            steps=1,
            data="vowels",
            training_styles=8,
            rank=11,
            style_rank=4,
            ridge=2.0,
            blend=0.1,
            deviation=0.2,
            rounds=30,
        ),
        "paper": Config(steps=1, image_size=38, rank=52),
    },
    arms=(
        Arm(
            "asymmetric",
            "the system: a matrix for each style, a vector for each content",
        ),
        Arm("symmetric", "a vector for each style and each content", model="symmetric"),
        Arm(
            "additive",
            "mean content plus an offset of the style: no product",
            model="additive",
        ),
        Arm(
            "nearest",
            "the contents of the nearest training style; without labels, the nearest "
            "observation",
            model="nearest",
        ),
        Arm("mean", "the mean content, whatever the style", model="mean"),
        Arm(
            "shuffled",
            "control: asymmetric, given contents of as many different styles",
            shuffled_condition=True,
        ),
    ),
    build=StyleModel,
    stepper=stepper,
    data=data,
    evaluate=evaluate,
    draw=draw,
    score=ERROR,
    metrics=(ERROR, UNLABELLED, LEGIBILITY),
    finding="Without labels, a bilinear model that adapts to the speaker classifies "
    "78.4 % of the frames of new speakers, as the paper reports (about 77 %); the "
    "nearest training frame has 56.3 %. It predicts hidden letters of a new typeface "
    "with two thirds of the error of a sum of style and content, but hidden vowels no "
    "better than the sum.",
    claims=(
        Claim(
            "A product of style and content predicts better than a sum.",
            at_most_ratio(ERROR, "asymmetric", "additive", 0.9),
            why="It does for letters. Hidden vowels of new speakers, fitted to eight "
            "speakers, it predicts with 1.04 times the error of the sum.",
        ),
        Claim(
            "It predicts better than the nearest training style.",
            at_most_ratio(ERROR, "asymmetric", "nearest", 0.9),
        ),
        Claim(
            "The given contents of the style are used.",
            at_most_ratio(ERROR, "asymmetric", "shuffled", 0.9),
        ),
        Claim(
            "The symmetric model predicts better than a sum.",
            at_most_ratio(ERROR, "symmetric", "additive", 1),
            why="It does for letters. For vowels it has 1.05 times the error of the "
            "sum.",
        ),
        Claim(
            "Three in four observations of new styles are classified without labels.",
            at_least(UNLABELLED, "asymmetric", 75),
            Statement(
                "a bilinear model that adapts classifies the vowels of new speakers",
                "section 4",
                "about 77 %",
                "yes at preset vowels, the same recordings and speakers; no otherwise: "
                "letters",
            ),
        ),
        Claim(
            "Adaptation to the style helps to classify its contents.",
            above(UNLABELLED, "asymmetric", "mean", 3),
        ),
        Claim(
            "Adaptation classifies better than the nearest neighbour.",
            above(UNLABELLED, "asymmetric", "nearest", 0),
            Statement(
                "a bilinear model that adapts classifies vowels better than methods "
                "that do not",
                "section 4",
                "about 77 % against 51 to 56 %",
                "yes at preset vowels, the same recordings and speakers; no otherwise: "
                "letters",
            ),
        ),
    ),
    departures=(
        "Letters are images of pixels where the paper moves particles; 120 typefaces "
        "where it has five.",
        "The prior of a new style is a blend of the known ones.",
        "In EM each value has the same standard deviation, which is chosen beforehand.",
        "Preset paper has the paper's image size, with 120 typefaces instead of five.",
    ),
    limits=(
        "At preset vowels the fit is in closed form on all 8 training speakers: seeds "
        "make no difference, and the interval of an accuracy is that of 7 test "
        "speakers.",
        "Settings were chosen for the asymmetric model; the symmetric one takes them "
        "over.",
    ),
    versions=versions,
    tuned_on="families left out of the training typefaces; vowels: each training "
    "speaker in turn left out, among about 500 combinations of rank, ridge, blend and "
    "deviation",
    tested_on="57 typefaces from 7 groups of related families, 17 hidden letters each; "
    "7 speakers with 66 frames each; groups and speakers are the independent units",
    caption="Hidden letters of four test typefaces: the true letters, and below them "
    "what the arm predicts from the letters that are shown. At preset vowels, a bar "
    "for each test speaker (across): the share of frames that are classified correctly "
    "without labels, in % (up).",
    expected="letters: an error of 0.10, where the nearest typeface has 0.134 and a "
    "sum 0.152, and 96.5 % classified without labels; vowels: 78.4 %",
)
