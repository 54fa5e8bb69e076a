"""Highway networks. Srivastava, Greff & Schmidhuber 2015, eq. 3 and figure 1.

A highway layer adds to its input a change H(x) - x, under a gate T that reads the same
input::

    y = x + T(x) * (H(x) - x),    T(x) = sigmoid(W x + b)

In the terms of this library, the change is conditioned on x by one linear map, with the
operation ``Gate``. The bias b starts negative, so that an untrained layer passes its
input through.
"""

from __future__ import annotations

from featurewise.study.claims import Claim, Statement, at_least, at_most_ratio, within
from featurewise.study.metric import ACCURACY
from featurewise.study.system import Arm, Paper, System
from featurewise.systems.mechanisms.highway.experiment import (
    MEAN_GATE_COST,
    OVER_CLASSES,
    OVER_INPUTS,
    SPARED_LAYERS,
    TRAINING_LOSS,
    data,
    draw,
    evaluate,
)
from featurewise.systems.mechanisms.highway.method import Config, HighwayNetwork, stepper
from featurewise.worlds.glyphs.labelled import (
    fashion_versions,
)
from featurewise.worlds.small.facts import DIGITS_OR_FASHION

__all__ = ["SYSTEM", "Config"]

SYSTEM = System(
    name="highway",
    doc=__doc__,
    paper=Paper(
        "Srivastava, Greff, Schmidhuber 2015: Highway Networks. ICML deep learning "
        "workshop",
        "https://arxiv.org/abs/1505.00387",
        "eq. 3 and figure 1; lesions as in their Training Very Deep Networks, 2015",
        "convolutional highway networks (Training Very Deep Networks): MNIST 99.55 %, "
        "CIFAR-10 92.4 %",
    ),
    world=DIGITS_OR_FASHION,
    presets={
        "tiny": Config(steps=40, depth_divisor=5),
        "small": Config(steps=1200),
        "fashion": Config(steps=1200, data="fashion"),
        "paper": Config(steps=20_000),
    },
    arms=(
        Arm("highway_50", "the system: 50 highway layers"),
        Arm("highway_100", "100 highway layers", depth=100),
        Arm("highway_20", "20 highway layers", depth=20),
        Arm(
            "highway_10",
            "10 highway layers, whose gates start at -1",
            depth=10,
            gate_bias=-1.0,
        ),
        Arm(
            "plain_100",
            "100 plain layers",
            layer="plain",
            width=71,
            depth=100,
            learning_rate=0.0003,
        ),
        Arm("plain_50", "50 plain layers", layer="plain", width=71, learning_rate=0.003),
        Arm(
            "plain_20",
            "20 plain layers",
            layer="plain",
            width=71,
            depth=20,
            learning_rate=0.01,
        ),
        Arm(
            "plain_10",
            "10 plain layers",
            layer="plain",
            width=71,
            depth=10,
            learning_rate=0.03,
        ),
        Arm(
            "constant_50",
            "control: 50 layers, whose gates are learned but do not read x; half the "
            "parameters",
            layer="constant",
        ),
    ),
    build=HighwayNetwork,
    stepper=stepper,
    data=data,
    evaluate=evaluate,
    draw=draw,
    metrics=(TRAINING_LOSS, SPARED_LAYERS, MEAN_GATE_COST, OVER_INPUTS, OVER_CLASSES),
    finding="Plain networks of 100 layers train badly (training loss near 1, accuracy 70 %); "
    "highway networks of 100 layers reach a training loss below 0.001 and 98 %. At 50 "
    "layers the training loss still tells them apart. Whether depth hurts highway networks "
    "is not decided: those of 10 layers, with the one learning rate of all highway "
    "networks, do not train at all with two of five seeds. On Fashion-MNIST, whose "
    "training loss no network brings near 0 in as many steps, the order is the same and "
    "the distances are smaller: at 100 layers a loss of 0.49 against 1.26 and an accuracy "
    "of 81 against 57 %; there the networks do need gates that read their input.",
    claims=(
        Claim(
            "Depth does not hurt the training loss of highway networks.",
            at_most_ratio(TRAINING_LOSS, "highway_100", "highway_10", 2),
            Statement(
                "depth does not hinder the training of highway networks", "figure 1"
            ),
        ),
        Claim(
            "Depth does not hurt the accuracy of highway networks.",
            within(ACCURACY, "highway_100", "highway_10", 2),
            Statement(
                "depth does not hinder the training of highway networks", "figure 1"
            ),
        ),
        Claim(
            "Depth hurts the training loss of plain networks.",
            at_most_ratio(TRAINING_LOSS, "plain_10", "plain_100", 0.1),
            Statement("plain networks become hard to train with depth", "figure 1"),
            why="Bars by ratio are those of digits, which can be memorised; on "
            "Fashion-MNIST no loss is below 0.4 after these steps.",
        ),
        Claim(
            "At 50 layers highway networks train to a lower loss than plain ones.",
            at_most_ratio(TRAINING_LOSS, "highway_50", "plain_50", 0.1),
            Statement("plain networks become hard to train with depth", "figure 1"),
            why="Bars by ratio are those of digits, which can be memorised; on "
            "Fashion-MNIST no loss is below 0.4 after these steps.",
        ),
        Claim(
            "At 100 layers highway networks train to a lower loss than plain ones.",
            at_most_ratio(TRAINING_LOSS, "highway_100", "plain_100", 0.1),
            Statement("plain networks become hard to train with depth", "figure 1"),
            why="Bars by ratio are those of digits, which can be memorised; on "
            "Fashion-MNIST no loss is below 0.4 after these steps.",
        ),
        Claim(
            "Gates that read their input train to a lower loss than constant ones.",
            at_most_ratio(TRAINING_LOSS, "highway_50", "constant_50", 0.5),
            why="Bars by ratio are those of digits, which can be memorised; on "
            "Fashion-MNIST no loss is below 0.4 after these steps.",
        ),
        Claim(
            "Most layers can be left out alone.",
            at_least(SPARED_LAYERS, "highway_50", 50),
            Statement(
                "on MNIST most layers hardly matter",
                "Training Very Deep Networks, fig. 4",
            ),
        ),
        Claim("Gates depend on the input.", at_least(OVER_INPUTS, "highway_50", 10)),
        Claim(
            "The network needs gates that depend on the input.",
            at_least(MEAN_GATE_COST, "highway_50", 5),
            why="Gates differ between inputs, but on these digits accuracy hardly depends "
            "on it.",
        ),
    ),
    departures=(
        "1255 digits of 8 by 8 pixels, not 60,000 of 28 by 28; tanh, gain √2, the "
        "gates' W is 0.",
        "Learning rates come from a grid with a further seed: one for each depth of the "
        "plain networks, one for all highway networks.",
        "Preset paper trains longer and no more.",
    ),
    limits=(
        "These digits are easy: plain networks of 50 layers classify 96.8 % of them, so "
        "that accuracy hardly tells networks apart. The training loss does.",
    ),
    versions=lambda config: fashion_versions() if config.data == "fashion" else {},
    tuned_on="training loss with seed 100: learning rates (0.0001 to 0.003 at 100 plain "
    "layers, 0.01 and 0.03 at 20) and the bars of the claims",
    tested_on="277 digits; which of them were written by one writer is not known "
    "(fashion: 1,000 of the 10,000 test images)",
    caption="A bar for each layer (across): points of test accuracy lost when that "
    "layer alone is left out of the trained network (up).",
    expected="training losses of highway networks below 0.001 at all depths; of plain "
    "ones near 0.001 at 10 layers, 0.06 at 50 and 1 at 100",
)
