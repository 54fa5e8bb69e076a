"""Squeeze-and-excitation networks. Hu, Shen & Sun 2018, eq. 2 to 4, figure 3.

At the end of each residual branch the channels of an image are scaled by gates s that
read the same features, averaged over all positions::

    z = mean of x over positions
    s = sigmoid(W2 relu(W1 z))
    y = shortcut + s * x

In the terms of this library the branch is conditioned on itself: the operation ``Gate``
with the generator ``SqueezeExcite``. It is compared with a network without gates, with
one that has about as many further weights in its convolutions, with gates that read
nothing, and with gates that read another image.
"""

from __future__ import annotations

from featurewise.study.claims import Claim, Statement, above, metric_above
from featurewise.study.metric import ACCURACY
from featurewise.study.system import Arm, Paper, System
from featurewise.systems.recognition.squeeze_excite.experiment import (
    FIRST,
    LAST,
    MEAN,
    OTHER,
    OVER_INPUTS,
    data,
    draw,
    evaluate,
)
from featurewise.systems.recognition.squeeze_excite.method import (
    Config,
    SqueezeExciteNetwork,
    stepper,
)
from featurewise.worlds.glyphs.facts import FASHION
from featurewise.worlds.glyphs.labelled import fashion_versions

__all__ = ["SYSTEM", "Config"]

SYSTEM = System(
    name="squeeze_excite",
    doc=__doc__,
    paper=Paper(
        "Hu, Shen, Sun 2018: Squeeze-and-Excitation Networks. CVPR",
        "https://arxiv.org/abs/1709.01507",
        "eq. 2 to 4; figure 3, the SE-ResNet module",
        "ImageNet, SE-ResNet-50: top-1 error 23.29 % in the paper, 22.37 % in the authors' "
        "repository after longer training",
    ),
    world=FASHION,
    presets={
        "tiny": Config(steps=30, widths=(8, 16), batch_size=32, data="digits"),
        "small": Config(steps=600),
        "paper": Config(steps=60_000, widths=(16, 16, 16, 32, 32, 32, 64, 64, 64)),
    },
    arms=(
        Arm("squeeze_excite", "the system"),
        Arm("plain", "no gates", excitation="none"),
        Arm(
            "widened",
            "no gates; each block is one channel wider inside, which takes about as many "
            "weights as the gates do (798 and 742 at small)",
            excitation="none",
            extra=1,
        ),
        Arm(
            "constant",
            "gates that are learned and read nothing, so that they are the same for all "
            "images",
            excitation="constant",
        ),
        Arm(
            "shuffled",
            "control: the gates of an image read the features of another one, in "
            "training and in the test",
            excitation="other",
        ),
    ),
    build=SqueezeExciteNetwork,
    stepper=stepper,
    data=data,
    evaluate=evaluate,
    draw=draw,
    metrics=(OTHER, MEAN, OVER_INPUTS, FIRST, LAST),
    finding="On small images of clothes, with a small network and one epoch, gates "
    "gain nothing that five seeds show: 86.0 % with them, 86.2 % without, 86.0 % with "
    "about as many further weights in the convolutions, 86.0 % where gates read "
    "another image from the beginning. Yet the trained network uses them: with the "
    "gates of another image it loses 1.5 points, with those of the mean image 0.7. "
    "Gates are specific to classes in the last block (85 % of their variance between "
    "images) and less so in the first (33 %), as in the paper from early to later "
    "stages, but not as in its last one, where gates are alike for all classes.",
    claims=(
        Claim(
            "Gates that read their own features raise the accuracy.",
            above(ACCURACY, "squeeze_excite", "plain", 0),
            Statement(
                "SE blocks lower the error of ResNet-50",
                "table 2",
                "24.80 % to 23.29 %, ImageNet, top 1",
                "direction only: small images of clothes, a small network",
            ),
            why="The mean difference is below half a point and varies as much between seeds; the "
            "network is small, trained for one epoch, and far from the sizes of the paper.",
        ),
        Claim(
            "They raise it more than about as many further weights in the convolutions.",
            above(ACCURACY, "squeeze_excite", "widened", 0),
            why="The mean difference is below half a point and varies as much between seeds; the "
            "network is small, trained for one epoch, and far from the sizes of the paper.",
        ),
        Claim(
            "They raise it more than gates that read nothing.",
            above(ACCURACY, "squeeze_excite", "constant", 0),
            why="The mean difference is below half a point and varies as much between seeds; the "
            "network is small, trained for one epoch, and far from the sizes of the paper.",
        ),
        Claim(
            "They raise it more than gates that read another image.",
            above(ACCURACY, "squeeze_excite", "shuffled", 0),
            why="The mean difference is below half a point and varies as much between seeds; the "
            "network is small, trained for one epoch, and far from the sizes of the paper.",
        ),
        Claim(
            "The trained network uses its self-path: with gates of another image it is "
            "worse.",
            metric_above("squeeze_excite", ACCURACY, OTHER, 2),
            why="It loses accuracy with every seed, but not clearly as much as was claimed.",
        ),
        Claim(
            "It is also worse with gates of the mean image.",
            metric_above("squeeze_excite", ACCURACY, MEAN, 1),
            why="It loses accuracy with every seed, but not clearly as much as was claimed.",
        ),
        Claim(
            "Gates of the last block depend more on the class than those of the first.",
            metric_above("squeeze_excite", LAST, FIRST, 10),
            Statement(
                "excitations of early layers are alike for all classes, those of later "
                "layers are specific to classes, but for the last stage",
                "section on the role of excitation",
                comparable="direction only: ten classes of clothes, three blocks",
            ),
        ),
    ),
    departures=(
        "Three residual blocks of 8, 16 and 32 channels on 16 x 16 pixels, not ResNet-50 on "
        "photographs; 600 steps, one epoch.",
        "The reduction r is 4, not 16, which would leave one or two hidden units at these "
        "widths.",
        "Arm widened has no counterpart in the paper, which compares networks of unequal "
        "size.",
        "Preset paper has the blocks and nearly the steps of a ResNet-20 for CIFAR-10 at this "
        "image size; arm widened matches its parameters only roughly there.",
    ),
    cost={"tiny": "seconds", "paper": "one GPU; never run"},
    limits=(
        "One small data set: whether gates help larger networks, where the paper measures "
        "them, is not tested.",
        "Equal steps, not equal time: see the floating-point operations and seconds of "
        "the arms.",
    ),
    versions=lambda config: fashion_versions() if config.data == "fashion" else {},
    tuned_on="test images, in one respect: a first run, of six networks with W2 at zero, was "
    "stopped, because its gates stayed near 0.5 in all blocks but the last; W2 has the "
    "initialisation of the paper since, and the network is smaller, so that five seeds "
    "could be run. Learning rate, weight decay and schedule are usual "
    "ones, and no other setting was chosen by results",
    expected="86 % in all arms",
    tested_on="10,000 images, the official test set; each is independent of the others",
    caption="Mean gate (up) of each channel (across, in the order of the mean over all "
    "test images) of each block, for three classes.",
    captions=dict.fromkeys(
        ("plain", "widened"), "Accuracy of each class: the network has no gates."
    ),
)
