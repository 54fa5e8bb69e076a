"""Any style by its statistics. Huang & Belongie 2017, eq. 8 and figure 2.

An encoder that is not trained sees a photograph and a painting. Each feature map x of the
photograph gets the mean and the standard deviation that the painting's map y has, and a
decoder makes an image of that::

    AdaIN(x, y) = σ(y) (x - μ(x)) / σ(x) + μ(y)

μ and σ are over the positions of one map of one image. Nothing is learned of a style, so
that a painting need not have been trained on. Only the decoder is trained.
"""

from __future__ import annotations

from featurewise.study.claims import (
    Claim,
    Statement,
    above,
    at_least,
    at_most,
    at_most_ratio,
    metric_above,
    metric_at_most_ratio,
)
from featurewise.study.system import Arm, Paper, System
from featurewise.systems.style.adain.experiment import draw, evaluate, versions
from featurewise.systems.style.adain.measures import (
    AT_LAYER,
    COLOURS_MATCHED,
    COLOURS_RECOGNISED,
    COLOURS_STYLE,
    CONTENT,
    MONOTONE,
    RECOGNISED,
    STYLE,
)
from featurewise.systems.style.adain.method import (
    ArbitraryTransfer,
    Config,
    stepper,
)
from featurewise.systems.style.adain.presets import PRESETS
from featurewise.systems.style.adain.sources import data
from featurewise.systems.style_measures import ACCURACY, MATCHED, REAL
from featurewise.worlds.pictures import PAINTINGS

__all__ = ["SYSTEM", "ArbitraryTransfer", "Config"]

# --- experiment --------------------------------------------------------------------

SYSTEM = System(
    name="adain",
    doc=__doc__,
    paper=Paper(
        "Huang & Belongie 2017: Arbitrary Style Transfer in Real-time with Adaptive Instance "
        "Normalization. ICCV",
        "https://arxiv.org/abs/1703.06868",
        "eq. 8, figure 2",
        "figure 3 compares content and style loss with those of other methods, on images of "
        "its test set",
    ),
    world=PAINTINGS,
    presets=PRESETS,
    arms=(
        Arm("adain", "the system: mean and standard deviation of the style"),
        Arm("mean", "the mean alone: a shift", given="mean"),
        Arm("deviation", "the standard deviation alone: a scale", given="deviation"),
        Arm(
            "none",
            "control: nothing of the style, which images cannot depend on",
            given="nothing",
        ),
        Arm("seen", "the tested paintings are trained on, too", train_on_unseen=True),
        Arm(
            "shuffled",
            "control: each photograph gets the style of another one of its batch",
            shuffled_styles=True,
        ),
    ),
    build=ArbitraryTransfer,
    stepper=stepper,
    data=data,
    evaluate=evaluate,
    draw=draw,
    score=STYLE,
    finding="The features that the decoder is given have the means and standard "
    "deviations of the painting to one part in 10,000, where the photograph varies. Of "
    "a test photograph in each of four paintings that were never trained on (preset "
    "small, 3 seeds) a classifier of paintings finds which is which in 88 % (25 % at "
    "random; 57 % where the photograph gets nothing but the painting's colours). The "
    "style loss is 35 % lower than with the mean alone and 29 % lower than with the "
    "standard deviation alone. It is 13 % higher than that of a decoder that was "
    "trained on these paintings, too, and 61 % lower than that of one that is given "
    "nothing of the style. The control with permuted styles was too weak: its decoder "
    "still passes on a part of what it is given, and matches 71 %.",
    metrics=(
        ACCURACY,
        MATCHED,
        REAL,
        STYLE,
        CONTENT,
        RECOGNISED,
        AT_LAYER,
        MONOTONE,
        COLOURS_STYLE,
        COLOURS_MATCHED,
        COLOURS_RECOGNISED,
    ),
    claims=(
        Claim(
            "The decoder is given features with the painting's own statistics.",
            at_most(AT_LAYER, "adain", 0.01),
            Statement(
                "the features get the mean and the standard deviation of the style's",
                "eq. 8",
                "equal",
                "yes: it does not depend on the data, but for the eps of the division",
            ),
        ),
        Claim(
            "Paintings that were never trained on are nearly as good as trained ones.",
            at_most_ratio(STYLE, "adain", "seen", 1.1),
            Statement(
                "styles that were not observed in training are transferred",
                "section 7.1, figure 4",
                "no number taken over",
                "direction only: other paintings, encoder and size",
            ),
            why="The loss is 13 % higher, and the bar was 10 %. Matched styles are equal. "
            "Whether more than 17 paintings would narrow it was not tried.",
        ),
        Claim(
            "Of a photograph in four unseen styles, a classifier of paintings knows which is "
            "which.",
            at_least(MATCHED, "adain", 75),
        ),
        Claim(
            "Images have the style that the network is given.",
            above(MATCHED, "adain", "shuffled", 30),
            why="The control matches 71 %. Its decoder is three convolutions without norms, which "
            "began by giving back what they get, and does not take the style away: its images "
            "differ by 17 of 255 between two styles, those of the system by 25. The measure "
            "compares versions of one photograph with each other, however alike they are.",
        ),
        Claim(
            "The style loss, too, needs the right style.",
            at_most_ratio(STYLE, "adain", "shuffled", 0.6),
            why="The control's images keep a part of the style that it is given; see above.",
        ),
        Claim(
            "A decoder that is given nothing of the style is farther from it.",
            at_most_ratio(STYLE, "adain", "none", 0.6),
            added=("small",),
        ),
        Claim(
            "Mean and standard deviation are better than the mean alone.",
            at_most_ratio(STYLE, "adain", "mean", 0.9),
        ),
        Claim(
            "Mean and standard deviation are better than the standard deviation alone.",
            at_most_ratio(STYLE, "adain", "deviation", 0.9),
        ),
        Claim(
            "The more style is mixed in, the smaller the style loss.",
            at_least(MONOTONE, "adain", 90),
            Statement(
                "α goes from the photograph to the style",
                "eq. 14, figure 7",
                "no number",
                "direction only",
            ),
        ),
        Claim(
            "Photographs can be recognised in an unseen style.",
            at_least(RECOGNISED, "adain", 75),
        ),
        Claim(
            "The given style takes away little of that.",
            above(RECOGNISED, "adain", "shuffled", -10),
        ),
        Claim(
            "The style is more than the painting's colours.",
            metric_at_most_ratio("adain", STYLE, COLOURS_STYLE, 0.75),
        ),
        Claim(
            "The classifier, too, sees more than colours.",
            metric_above("adain", MATCHED, COLOURS_MATCHED, 5),
        ),
    ),
    departures=(
        "The encoder is no plain VGG19, but a VGG16 that was fine-tuned to find edges (HED). "
        "At small it ends with conv2_1, in preset paper with conv4_1 as the paper's: deeper "
        "features need far more steps until a decoder gives photographs back.",
        "Each layer of it is divided by the root mean square that its features have "
        "for photographs, so that layers weigh alike. λ is 10; the authors' code has "
        "0.01 for its own scale of the losses.",
        "Small: 17 paintings instead of 80,000 and 132 photographs instead of COCO, 48 "
        "by 48 pixels instead of 256, half of the decoder's channels, 4 images in a "
        "batch instead of 8, 500 steps instead of the 160,000 of the authors' code, in "
        "the first 100 of which the decoder learns to give back photographs. Preset "
        "paper has the paper's crops and batches, but fewer images, and crops them "
        "from a shorter side of 256 pixels instead of 512.",
        "Crops are taken once (4 of each photograph, 16 of each painting), so that the "
        "encoder sees them once. No painting is twice in a batch.",
        "The decoder ends in a sigmoid. The learning rate falls as a cosine from 2e-3, and "
        "the average of the weights is tested (decay 0.98).",
        "Arms that are given one statistic have the loss of both: they differ in what the "
        "decoder gets, not in what it is trained for.",
    ),
    limits=(
        "Maps that are constant over the photograph cannot get the painting's standard "
        "deviation: AdaIN multiplies what varies. They are left out of the error at the layer.",
        "A style is one painting, and four are tested. Whether an image has the manner of a "
        "painter is not measured.",
        "Matched styles are to a good part colours; the same is measured of photographs that "
        "have nothing but the painting's colours.",
        "The style loss is of the same layers that the decoder is trained for.",
        "Every photograph is recognised in every arm, so that this measure does not tell arms "
        "apart. It says that images show what the photograph shows, not how well.",
        "With an encoder that ends with conv2_1, images take colours, contrast and fine "
        "texture of a painting, not its larger strokes.",
    ),
    versions=versions,
    tuned_on="the learning rate, the size and the encoder's last layer: losses and images of "
    "training photographs in trained paintings, in another seed (100)",
    tested_on="26 photographs in 4 paintings, neither trained on, nor any other work of these "
    "painters; photographs are the independent units",
    caption="First row: the middle of each unseen painting. Below: photographs that were not "
    "trained on, and each of them in the style of every painting.",
    cost={"tiny": "seconds", "paper": "one GPU; never run"},
)
