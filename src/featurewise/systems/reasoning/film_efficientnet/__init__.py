"""FiLM in a pretrained EfficientNet. Chebotar et al. 2023 (Q-Transformer), the encoder.

A sentence z modulates the features x after every MBConv of a network that was trained on
ImageNet, as in RT-1. Both maps start at zero, so that the network begins as it was::

    FiLM(x) = (1 + W z) x + V z    W = V = 0 at first

With Glorot's weights in their place, the features are changed at random before the first
step. The robot's part of the paper, a transformer that predicts Q values, is not here:
the encoder answers sentences about photographs into which a shape was pasted.
"""

from __future__ import annotations

from featurewise.study.claims import Claim, Statement, above, at_least, at_most
from featurewise.study.system import Arm, Intervals, Paper, System
from featurewise.systems.reasoning.film_efficientnet.experiment import (
    ACCURACY,
    COLOUR,
    KEPT,
    LOGITS,
    SHAPE,
    SIDE,
    draw,
    evaluate,
    versions,
)
from featurewise.systems.reasoning.film_efficientnet.method import (
    Config,
    FilmEfficientNet,
    stepper,
)
from featurewise.systems.reasoning.film_efficientnet.sources import data
from featurewise.worlds.vqa import COMPOSED

__all__ = ["SYSTEM", "Config", "FilmEfficientNet"]

# --- experiment --------------------------------------------------------------------

PRESETS = {
    "tiny": Config(
        steps=30,
        intervals=Intervals(log=10, save=10),
        backbone="random",
        images="patterns",
        sentences="random",
        width=16,
        size=32,
        hidden=32,
        batch_size=16,
        learning_rate=1e-2,
        test_batches=3,
    ),
    "small": Config(
        steps=120,
        intervals=Intervals(log=10, evaluate=120, save=60),
        size=48,
        test_batches=16,
    ),
    "paper": Config(
        steps=100_000,
        intervals=Intervals(log=100, evaluate=10_000, save=1_000, save_seconds=600.0),
        size=224,
        batch_size=64,
        learning_rate=1e-4,
        test_batches=64,
    ),
}

SYSTEM = System(
    name="film_efficientnet",
    doc=__doc__,
    paper=Paper(
        "Chebotar et al. 2023: Q-Transformer: Scalable Offline Reinforcement Learning via "
        "Autoregressive Q-Functions. CoRL; encoder of Brohan et al. 2022: RT-1",
        "https://arxiv.org/abs/2309.10150",
        "FiLM-EfficientNet, the encoder",
    ),
    world=COMPOSED,
    presets=PRESETS,
    arms=(
        Arm("zero", "the system: both maps start at zero"),
        Arm("glorot", "both maps start with Glorot's weights", film="glorot"),
        Arm(
            "late",
            "no FiLM: the sentence is joined to the features, before the head",
            film="none",
            reads="both",
        ),
        Arm("image", "image-only baseline: no sentence", film="none"),
        Arm(
            "sentence", "sentence-only baseline: no image", film="none", reads="sentence"
        ),
        Arm(
            "shuffled",
            "control: each image gets the sentence of another one",
            shuffled=True,
        ),
    ),
    build=FilmEfficientNet,
    stepper=stepper,
    data=data,
    evaluate=evaluate,
    draw=draw,
    finding="With both maps at zero the pretrained network gives bit for bit the logits that it "
    "gave, and all test photographs keep their class of ImageNet; with Glorot's weights 49.1 % "
    "do. After 120 equal steps (preset small, 3 seeds) zero maps answer 49.0 % of the sentences "
    "about a pasted shape and Glorot's 45.0 %: better in each seed, but three do not decide by "
    "how much. FiLM is not better than to join the sentence to the features (50.1 %), where "
    "the seeds differ far less. The image alone has 20.3 %, the sentence alone 28.3 %, and "
    "with the sentences of other images the accuracy is 17.3 %. No arm has learned on which side "
    "the shape is.",
    metrics=(ACCURACY, COLOUR, SHAPE, SIDE, KEPT, LOGITS),
    claims=(
        Claim(
            "Before the first step, zero maps leave the logits as they were.",
            at_most(LOGITS, "zero", 0.01),
            Statement(
                "identity-initialised FiLM preserves the function of the pretrained weights",
                "section on the architecture (RT-1)",
                "no number",
                "yes: it does not depend on the data",
            ),
        ),
        Claim(
            "All photographs keep their class.",
            at_least(KEPT, "zero", 100),
        ),
        Claim(
            "With Glorot's weights photographs lose their class.",
            at_most(KEPT, "glorot", 75),
            added=("small",),
        ),
        Claim(
            "After equal training, zero maps are still better than Glorot's.",
            above(ACCURACY, "zero", "glorot", 5),
            why="Zero maps are better in all three seeds, by 2.7, 1.8 and 7.6 points, on the mean "
            "by less than the bar.",
        ),
        Claim(
            "FiLM is better than to join the sentence to the features.",
            above(ACCURACY, "zero", "late", 2),
            why="The seeds of FiLM differ by up to 11 points, those of arm late by 1. FiLM's "
            "training losses are lower (0.87, 0.91, 1.09 against 1.05, 1.06, 1.10): what it "
            "learned carries over less to wordings and photographs that were not trained on. "
            "Which of the two it is was not tested.",
        ),
        Claim(
            "The sentence is used.",
            above(ACCURACY, "zero", "shuffled", 10),
        ),
        Claim(
            "The image is used.",
            above(ACCURACY, "zero", "sentence", 10),
            why="It is better by 17 points or more in each seed, by 20.8 on the mean; the "
            "interval is wide because of three seeds.",
        ),
        Claim(
            "It is better than the image alone.",
            above(ACCURACY, "zero", "image", 10),
        ),
    ),
    departures=(
        "EfficientNet-Lite0 in place of B3, on small images in place of 300 by 300 pixels and "
        "more. Its weights are frozen; RT-1 trains them, too.",
        "Sentences are embedded by MiniLM in place of the Universal Sentence Encoder. The "
        "classifier's features are read by a head of two layers; there is no transformer, no "
        "action and no Q value.",
        "One linear map generates W z and V z of all blocks. Features are normalised before "
        "the head.",
        "Preset paper has EfficientNet-Lite0's image size of 224, but the data of small.",
    ),
    limits=(
        "Shapes are computed, of one colour each, and do not look like objects of ImageNet.",
        "Features are averaged over positions before the head, which leaves little of the side "
        "that a shape is on.",
        "All arms have equal steps, not equal time or trained parameters; the rates of learning "
        "were chosen for zero and late, not for glorot.",
        "What happens before training is computed of the same three initialisations in every "
        "trial: the intervals of these two measures have no width, and three seeds are one.",
    ),
    versions=versions,
    tuned_on="rates of learning: training losses of arms zero and late in their first 60 "
    "steps, another seed (100). Test images, in one respect: a first run was stopped after "
    "one network, whose accuracy was that of the sentence alone; features are normalised "
    "since, and all learn three times as fast. How many photographs keep their class with "
    "Glorot's weights was known of one initialisation when that bar was set",
    tested_on="512 images of crops of 26 test photographs, each with a shape of its own; "
    "kept classes: 26 photographs, each with three sentences",
    caption="Test images with the answer that is given; where it is wrong, in colour, with the "
    "right one in brackets.",
    cost={"tiny": "seconds", "paper": "one GPU; never run"},
)
