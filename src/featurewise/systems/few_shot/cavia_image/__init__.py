"""CAVIA for image completion. Zintgraf et al. 2019, eq. 3 and the experiment on images.

An image is a function from pixel coordinates to ink, and a task: a tenth of its pixels
are given, all are predicted. The inner loop fits a context phi to the given pixels::

    phi = phi - alpha * grad_phi L(f(phi, theta), given pixels)                 (eq. 3)
    h_l = relu(gamma_l(phi) * (W_l h_(l-1) + b_l) + beta_l(phi))

One linear map turns phi into gamma and beta after every hidden layer of a perceptron
that all images share, as the paper conditions its convolutions (section 4). The arm
``concat`` is the paper's form for this task, phi beside the coordinates; ``film`` adapts
gamma and beta themselves. The baseline ``kriging`` interpolates the given pixels of each
image; of other images it knows three numbers: how smooth ink is, how noisy, and its
mean.
"""

from __future__ import annotations

from featurewise.study.claims import Claim, above, at_most, at_most_ratio
from featurewise.study.inner_loops import ERROR, INNER_METRICS
from featurewise.study.system import Arm, Paper, System
from featurewise.systems.few_shot.cavia_image.experiment import (
    ACCURACY,
    OVER_MEAN,
    OVER_NEAREST,
    REAL,
    data,
    draw,
    evaluate,
)
from featurewise.systems.few_shot.cavia_image.method import Config, build, stepper
from featurewise.worlds.glyphs.facts import LETTERS
from featurewise.worlds.glyphs.versions import render_versions

__all__ = ["SYSTEM", "Config"]

SYSTEM = System(
    name="cavia_image",
    doc=__doc__,
    paper=Paper(
        "Zintgraf, Shiarlis, Kurin, Hofmann, Whiteson 2019: Fast Context Adaptation via "
        "Meta-Learning. ICML",
        "https://arxiv.org/abs/1810.03642",
        "eq. 3 and the experiment on image completion",
    ),
    world=LETTERS,
    presets={
        "tiny": Config(
            steps=40,
            width=24,
            depth=2,
            context=16,
            typefaces="bundled",
            letters="AHLO",
            tasks=16,
            test_tasks=20,
            inner_learning_rate=1.0,
            classifier_steps=40,
        ),
        "small": Config(steps=2500),
        "paper": Config(
            steps=50_000,
            width=128,
            depth=5,
            context=128,
            image_size=32,
            shots=102,
            inner_steps=5,
        ),
    },
    arms=(
        Arm(
            "cavia",
            "the system: a context of 64 through one linear map to FiLM in 4 layers",
        ),
        Arm(
            "concat",
            "the context beside the coordinates, which is a shift after the first "
            "layer; wider layers for equal parameters",
            model="concat",
            width=112,
            inner_learning_rate=30.0,
        ),
        Arm(
            "film",
            "the inner steps are on gamma and beta of all layers, without a context; "
            "wider layers for equal parameters",
            model="film",
            width=122,
            inner_learning_rate=3.0,
        ),
        Arm(
            "kriging",
            "baseline: each image is interpolated from its given pixels alone",
            model="kriging",
            learning_rate=0.03,
        ),
        Arm(
            "ordered",
            "the system, given the first tenth of the pixels instead of random ones",
            ordered=True,
        ),
        Arm("unadapted", "no inner step: one image for all", model="unadapted"),
        Arm(
            "shuffled",
            "control: the inner steps are on the pixels of another image",
            shuffled_support=True,
        ),
    ),
    build=build,
    stepper=stepper,
    data=data,
    evaluate=evaluate,
    draw=draw,
    metrics=(ACCURACY, *INNER_METRICS, OVER_MEAN, OVER_NEAREST, REAL),
    score=ERROR,
    finding="Three gradient steps on a context complete a letter with 0.61 of the error of "
    "kriging, which learns almost nothing from other letters, and with 0.61 of that of one "
    "image for all. FiLM of the context completes no worse than its concatenation.",
    claims=(
        Claim(
            "Adaptation is needed.",
            at_most_ratio(ERROR, "cavia", "unadapted", 0.6),
            why="It helps, but leaves 0.61 of the error; the bar was 0.6.",
        ),
        Claim(
            "The given pixels are used.",
            at_most_ratio(ERROR, "cavia", "shuffled", 0.6),
            why="They help, but leave 0.61 of the error; the bar was 0.6.",
        ),
        Claim("It beats the mean ink.", at_most(OVER_MEAN, "cavia", 0.6)),
        Claim("It beats the nearest given pixel.", at_most(OVER_NEAREST, "cavia", 0.5)),
        Claim(
            "It has learned from other images: it beats kriging, which knows three "
            "numbers of them.",
            at_most_ratio(ERROR, "cavia", "kriging", 0.75),
        ),
        Claim(
            "Its letters are more legible than those of kriging.",
            above(ACCURACY, "cavia", "kriging", 10),
        ),
        Claim(
            "FiLM completes better than concatenation.",
            at_most_ratio(ERROR, "cavia", "concat", 1),
        ),
        Claim(
            "A context is at least as good as gamma and beta themselves.",
            at_most_ratio(ERROR, "cavia", "film", 1),
        ),
        Claim(
            "Random pixels tell more than the first ones.",
            at_most_ratio(ERROR, "cavia", "ordered", 0.7),
        ),
        Claim(
            "Pixels of other images carry no information.",
            at_most_ratio(ERROR, "unadapted", "shuffled", 1.1),
        ),
    ),
    departures=(
        "Letters of typefaces, 16 by 16, instead of faces of 32 by 32 (CelebA).",
        "4 hidden layers of 64 and a context of 64 instead of 5 of 128 and 128; 3 inner "
        "steps instead of 5.",
        "The paper gives FiLM to convolutions for images to be classified, and "
        "concatenates for images to be completed; here FiLM completes, and "
        "concatenation is an arm. Their gamma is W phi + b, here it is 1 + W phi.",
        "Arms have 45,500 parameters each, but kriging, which has 3, and unadapted.",
        "Preset paper has the paper's network, inner steps, size of images and share of "
        "given pixels.",
    ),
    limits=(
        "Letters of test typefaces are new, but not the alphabet: kriging has never "
        "seen a letter.",
    ),
    versions=lambda config: render_versions(config.typefaces),
    tuned_on="inner learning rates, among three for each of context, concat and film, "
    "on letters of 14 validation typefaces with another seed (100), after 700 steps; "
    "the bars against kriging on one such run of 2,500 steps",
    tested_on="500 letters of 59 typefaces from 7 groups of related families that share "
    "no family with the training typefaces; groups are the independent units",
    caption="Twelve test letters, one a column. From the top: the given pixels (grey: "
    "not given), every pixel as the nearest given one, the prediction, the truth.",
)
