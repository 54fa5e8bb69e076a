"""Many styles in one network. Dumoulin, Shlens & Kudlur 2017, eq. 5 and table 1.

A network paints a photograph in the manner of a painting in one pass. All of its norms
have a scale and a shift of their own for each style s, from a table; nothing else differs
between styles::

    z = γ_s (x - μ(x)) / σ(x) + β_s

μ and σ are those of one map of one image. So a style is a row of numbers: rows can be
mixed, and a new one can be learned while the network stays as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from featurewise.study.claims import (
    Claim,
    Statement,
    above,
    at_least,
    at_most,
    at_most_ratio,
    metric_at_most_ratio,
)
from featurewise.study.system import Arm, Paper, System
from featurewise.systems.style.style_transfer.experiment import (
    ACCURACY,
    CONTENT,
    MATCHED,
    OF_STYLE,
    STYLE,
    draw,
    evaluate,
    versions,
)
from featurewise.systems.style.style_transfer.method import (
    Config,
    StyleTransfer,
    stepper,
)
from featurewise.systems.style.style_transfer.presets import PRESETS
from featurewise.systems.style.style_transfer.sources import data
from featurewise.systems.style.style_transfer.tables import (
    MIDDLE,
    MONOTONE,
    NEW_STYLE,
    NEW_STYLE_BEFORE,
)
from featurewise.systems.style_measures import REAL
from featurewise.worlds.pictures import PAINTINGS

if TYPE_CHECKING:
    from torch import nn

    from featurewise.study.exploration import Exploration
    from featurewise.systems.style.style_transfer.application import TransferStylist

__all__ = ["SYSTEM", "Config", "StyleTransfer"]

# --- experiment --------------------------------------------------------------------


def _stylist() -> TransferStylist:
    """What the command line paints with; training and evaluation do without it."""
    from featurewise.systems.style.style_transfer.application import TransferStylist

    return TransferStylist()


def _explore(network: nn.Module, config: Config) -> Exploration:
    from featurewise.systems.style.style_transfer.exploration import exploration

    return exploration(network, config)


SYSTEM = System(
    name="style_transfer",
    doc=__doc__,
    paper=Paper(
        "Dumoulin, Shlens, Kudlur 2017: A Learned Representation for Artistic Style. ICLR",
        "https://arxiv.org/abs/1610.07629",
        "eq. 5, table 1",
        "32 styles in one network; figures 4 and 5 compare it with networks of one style",
    ),
    world=PAINTINGS,
    presets=PRESETS,
    arms=(
        Arm("affine", "the system: scale and shift of each style at every norm"),
        Arm("shift", "shift alone: γ is 1", condition="shift"),
        Arm("none", "one unconditional network for all styles", condition="none"),
        Arm("own_1", "a network of its own for style 1", only=0),
        Arm("own_2", "a network of its own for style 2", only=1),
        Arm(
            "shuffled",
            "control: each photograph is given the id of another one's style",
            shuffled_styles=True,
        ),
    ),
    build=StyleTransfer,
    stepper=stepper,
    data=data,
    evaluate=evaluate,
    draw=draw,
    stylist=_stylist,
    explore=_explore,
    score=STYLE,
    finding="Of a test photograph in each of four styles (preset small, 3 seeds) a "
    "classifier of paintings finds which is which in 92 % (25 % at random), and in 22 % where "
    "ids are permuted. In the two styles that were trained apart, too, the loss is 3 and 10 % "
    "higher than that of a network of its own. Scale and shift have the same style loss as the "
    "shift alone. A new style, by its γ and β alone, comes within 8 % of the trained ones. "
    "Between two styles the odds of the second rise in 99 % of the steps. With eight paintings "
    "and more training (preset full, one seed; the shipped network) all versions are matched, "
    "and 67 % of the images are named outright (12.5 % at random).",
    metrics=(
        ACCURACY,
        MATCHED,
        REAL,
        CONTENT,
        STYLE,
        *OF_STYLE,
        NEW_STYLE,
        NEW_STYLE_BEFORE,
        MONOTONE,
        MIDDLE,
    ),
    claims=(
        Claim(
            "One network paints in all styles: of a photograph in each of them, a classifier "
            "of paintings knows which is which.",
            at_least(MATCHED, "affine", 75),
        ),
        Claim(
            "Images have the style that the network is given.",
            above(MATCHED, "affine", "shuffled", 30),
        ),
        Claim(
            "An unconditional network is farther from the styles.",
            at_most_ratio(STYLE, "affine", "none", 0.75),
            added=("small",),
        ),
        *(
            Claim(
                f"In style {number} the network of all styles is nearly as good as one of "
                "that style alone, after as many steps.",
                at_most_ratio(metric, "affine", f"own_{number}", 1.25),
                Statement(
                    "one network of N styles is comparable with N networks of one style",
                    "section 3.1, figure 4",
                    "no number taken over",
                    "direction only: other paintings, loss network and number of steps",
                ),
            )
            for number, metric in enumerate(OF_STYLE, 1)
        ),
        Claim(
            "Scale and shift are better than the shift alone.",
            at_most_ratio(STYLE, "affine", "shift", 0.95),
            why="The style losses are equal; the content loss is lower in two of three seeds.",
        ),
        Claim(
            "A new style is learned by γ and β alone.",
            metric_at_most_ratio("affine", NEW_STYLE, NEW_STYLE_BEFORE, 0.6),
            Statement(
                "a trained network learns another style by its parameters alone",
                "section 3.2, figure 6",
                "no number",
                "direction only",
            ),
        ),
        Claim(
            "New styles come close to trained ones.",
            metric_at_most_ratio("affine", NEW_STYLE, STYLE, 1.5),
        ),
        Claim(
            "From one style to another by γ and β, the odds of the second rise step by step.",
            at_least(MONOTONE, "affine", 90),
            Statement(
                "mixtures of γ and β lie between two styles",
                "section 3.3, figure 7",
                "no number",
                "direction only",
            ),
        ),
        Claim(
            "Halfway between two styles the photograph is kept as at the ends.",
            at_most(MIDDLE, "affine", 1.5),
        ),
    ),
    departures=(
        "The loss network is no plain VGG16, but one that was fine-tuned to find edges "
        "(HED); the content is that of conv3_3, styles those of conv1_2, conv2_2, conv3_3 "
        "and conv4_3.",
        "Losses are relative to the square of what they compare with, so that layers and "
        "styles weigh alike; the paper divides by the number of units.",
        "Small: 4 paintings instead of 32, 64 by 64 pixels instead of 256, half the "
        "channels, 4 images in a batch instead of 16, 1,200 steps instead of 40,000. Preset "
        "paper has the paper's sizes, but for the number of paintings.",
        "At first the network learns to keep photographs as they are (500 of 1,200 steps at "
        "small): without that, far more steps are needed until what they show is recognised again.",
        "Photographs of packages, not ImageNet's. A learning rate that falls as a cosine, "
        "and the average of the weights (decay 0.99).",
        "γ and β have ten times the learning rate of the rest, 2e-3 (the paper: 1e-3 for all); "
        "initial weights are torch's; the style weighs twice as much as the content.",
        "A network of its own has as many steps as the one for all styles, so that each "
        "style has four times as many images there (small).",
    ),
    limits=(
        "Matched styles are to a good part colours: a photograph that is given the mean and the "
        "standard deviation of a painting's colours is matched more often than at random. The "
        "style loss sees textures, too.",
        "That photographs can be recognised is measured by the content loss alone.",
        "The claim about the unconditional network was changed after the run: matched styles "
        "cannot be better than random there, as its images are the same in all styles.",
        "A style is one painting. Whether an image has the manner of a painter is not "
        "measured, only whether a classifier of crops takes it for a crop of that painting.",
        "The classifier's features are those of a network that was trained on photographs. "
        "It takes most painted images for the same painting, whatever their style, so that "
        "images of one photograph are compared with each other, too.",
    ),
    versions=versions,
    tuned_on="the weight of the style and the learning rates: looking at training "
    "photographs in another seed (100)",
    tested_on="16 photographs that are not trained on, each in all styles; photographs are "
    "the independent units",
    caption="First row: the middle of each painting. Below: photographs that were not "
    "trained on, and each of them in the style of every painting.",
    cost={
        "tiny": "seconds",
        "full": "about an hour of one CPU core",
        "paper": "one GPU; never run",
    },
)
