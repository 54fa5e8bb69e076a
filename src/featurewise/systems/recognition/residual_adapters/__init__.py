"""Residual adapters. Rebuffi, Bilen & Vedaldi 2017, eq. 3, and 2018, figure 2.

One network serves several domains. Its 3×3 convolutions are trained on a base domain and
then frozen; each further domain adds 1×1 convolutions A, norms, and a classifier of its
own::

    parallel:  norm(convolve(x) + A x)
    series:    norm(y + A norm'(y)),    y = convolve(x)

The condition is the index of the domain, and what it selects is stored, not predicted: a
``Lookup`` of whole modules. Since nothing that the base domain uses is trained again, it
forgets nothing, to the bit.

The base domain is Fashion-MNIST; the new ones are handwritten digits, capital letters of
typefaces, and the characters of Omniglot's first small set.
"""

from __future__ import annotations

from featurewise.study.claims import Claim, Statement, above, at_least, at_most
from featurewise.study.system import Arm, Paper, System
from featurewise.systems.recognition.residual_adapters.experiment import (
    BASE,
    KEPT,
    MEAN,
    NEW,
    SHARE,
    data,
    draw,
    evaluate,
    versions,
)
from featurewise.systems.recognition.residual_adapters.method import (
    AdapterNetwork,
    Config,
    stepper,
)
from featurewise.worlds.glyphs.facts import IMAGE_DOMAINS

__all__ = ["SYSTEM", "Config"]

# --- experiment --------------------------------------------------------------------

_README = "results in the repository of both papers"
_OTHER = "direction only: small images, and a small network whose base is Fashion-MNIST"


SYSTEM = System(
    name="residual_adapters",
    doc=__doc__,
    paper=Paper(
        "Rebuffi, Bilen, Vedaldi 2017: Learning multiple visual domains with residual "
        "adapters. NeurIPS; and 2018: Efficient parametrization of multi-domain deep neural "
        "networks. CVPR",
        "https://arxiv.org/abs/1803.10082",
        "2017: eq. 3 and figure 2 (series); 2018: figure 2 (parallel)",
    ),
    world=IMAGE_DOMAINS,
    presets={
        "tiny": Config(
            steps=150,
            base_steps=6,
            domains=(
                "digits",
                "bundled digits",
                "bundled letters",
                "bundled small letters",
            ),
            widths=(8, 16),
            image_size=8,
            batch_size=32,
        ),
        "small": Config(steps=1000),
        "paper": Config(
            steps=160_000,
            base_steps=40_000,
            widths=(64, 64, 64, 64, 128, 128, 128, 128, 256, 256, 256, 256),
            image_size=32,
            batch_size=128,
        ),
    },
    arms=(
        Arm("parallel", "the system, with parallel adapters for new domains only"),
        Arm(
            "series",
            "adapters in series, of the base domain, too, which new domains start from",
            adapters="series",
            base_adapters=True,
        ),
        Arm(
            "series_added",
            "adapters in series that the base domain was trained without",
            adapters="series",
        ),
        Arm("norms", "norms of each domain, no adapters", adapters="none"),
        Arm(
            "fixed",
            "a classifier on the fixed features of the base domain",
            adapters="none",
            own_norms=False,
        ),
        Arm(
            "fine_tune",
            "a copy of the whole network for each new domain, trained further",
            adapters="none",
            weights="copied",
        ),
        Arm(
            "scratch",
            "a network of its own for each domain, from random weights",
            adapters="none",
            weights="new",
        ),
        Arm(
            "shared",
            "one set of convolutions that is trained further on the new domains; norms of "
            "each domain",
            adapters="none",
            weights="trained",
        ),
        Arm(
            "shuffled",
            "control: adapters and norms of another new domain, one at random for each "
            "batch",
            other_domain=True,
        ),
    ),
    build=AdapterNetwork,
    stepper=stepper,
    data=data,
    evaluate=evaluate,
    draw=draw,
    score=MEAN,
    metrics=(MEAN, BASE, *NEW, KEPT, SHARE),
    claims=(
        Claim(
            "Parallel adapters are at least as good as fine-tuning the whole network.",
            above(MEAN, "parallel", "fine_tune", 0),
            Statement(
                "parallel adapters are better than fine-tuning",
                _README,
                "80.62 % to 78.62 %, CIFAR-100 after ImageNet",
                _OTHER,
            ),
            why="After 200 steps on each new domain adapters do not even fit what they are trained "
            "on (loss 1.6, fine-tuning 0.6), and most of the difference is Omniglot (10 % of 680 "
            "images, 57 % by fine-tuning). Neither longer training nor a base of photographs in "
            "more channels was tested",
        ),
        Claim(
            "So are adapters in series.",
            above(MEAN, "series", "fine_tune", 0),
            Statement(
                "series adapters are better than fine-tuning",
                _README,
                "80.17 % to 78.62 %, CIFAR-100 after ImageNet",
                _OTHER,
            ),
            why="as for parallel adapters: 98 % and 92 % on digits and letters, 24 % on Omniglot",
        ),
        Claim(
            "Adapters are better than a network from random weights.",
            above(MEAN, "parallel", "scratch", 0),
            Statement(
                "parallel adapters are better than training from scratch",
                _README,
                "80.62 % to 75.23 %, CIFAR-100 after ImageNet",
                _OTHER,
            ),
            why="here the base domain helps little: fine-tuning is 4 points above a network from "
            "random weights, in an interval that includes none",
        ),
        Claim(
            "Adapters are better than norms alone.",
            above(MEAN, "parallel", "norms", 0),
        ),
        Claim(
            "Adapters are better than fixed features.",
            above(MEAN, "parallel", "fixed", 5),
        ),
        Claim(
            "Adapters in series have to be there when the base domain is trained.",
            above(MEAN, "series", "series_added", 0),
            Statement(
                "series adapters that are added to a trained network are worse",
                _README,
                "80.17 % to 70.97 %, CIFAR-100 after ImageNet",
                _OTHER,
            ),
        ),
        Claim(
            "A domain takes little: at most 15 % of the weights of the base.",
            at_most(SHARE, "parallel", 15),
            Statement(
                "about a tenth of the weights are specific to a domain",
                "2017, introduction",
                "about 10 %",
                "yes: a 1×1 convolution has a ninth of the weights of a 3×3 convolution",
            ),
        ),
        Claim(
            "With parallel adapters the base domain forgets nothing: not a bit changes.",
            at_least(KEPT, "parallel", 100),
            Statement(
                "a new domain does not change the others",
                "2017, section on sequential learning",
                comparable="yes",
            ),
        ),
        Claim(
            "With adapters in series neither.",
            at_least(KEPT, "series", 100),
        ),
        Claim(
            "Training shared convolutions further forgets the base domain.",
            above(BASE, "parallel", "shared", 5),
        ),
        Claim(
            "Adapters and norms are specific to their domain.",
            above(MEAN, "parallel", "shuffled", 5),
        ),
    ),
    finding="With a small network whose base is Fashion-MNIST, adapters of 12 to 17 % of its "
    "weights reach 64 % (parallel) and 71 % (series) on three new domains, above norms "
    "alone (60 %) and fixed features (42 %), but far below fine-tuning a copy of the "
    "network (85 %) and training one from random weights (81 %): the papers' order is "
    "refuted at this size. That the base domain forgets nothing is exact: not a bit of "
    "its logits changes, where training shared weights further leaves 15 % of 84 % "
    "accuracy.",
    departures=(
        "Three residual blocks of 8 to 32 channels and 16 x 16 pixels, not ResNet-26; "
        "the base domain is Fashion-MNIST, not ImageNet.",
        "400 steps on the base domain and 200 on each new one, in turn, with one learning "
        "rate for all arms.",
        "Adapters have the same weight decay as all weights; the authors set it by the size "
        "of the domain. There is no dropout.",
        "New domains start from the norms of the base domain.",
        "Preset paper has the widths of ResNet-26 and as many blocks, for these domains in "
        "32 x 32 pixels.",
    ),
    cost={"tiny": "seconds", "paper": "one GPU; never run"},
    limits=(
        "The new domains are ink on paper, like each other and unlike photographs; which "
        "arm is best on domains as different as those of the Visual Decathlon is not "
        "tested.",
        "All arms take as many steps; networks from random weights would gain by more.",
    ),
    versions=versions,
    tuned_on="nothing: learning rate, weight decay and schedule are usual ones for residual "
    "networks, and no setting was chosen by results",
    tested_on="fashion: 10,000 images; digits: 277; letters: the typefaces of families that "
    "are not trained on, 1,534 images; omniglot: 680 images by 5 writers who are not trained "
    "on",
    caption="Above: test images of each domain, the base domain first. Below: accuracy "
    "there (up).",
)
