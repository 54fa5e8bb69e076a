"""Conditional DCGAN. Mirza & Osindero 2014, eq. 2; Radford, Metz & Chintala 2016, section 4.

A generator G makes an image of class y from noise z, and a discriminator D classifies
images as real or generated; both are conditioned on the class::

    min_G max_D  E log D(x | y) + E log(1 - D(G(z | y) | y))

The label is concatenated, one-hot, to the input of every layer. In a linear layer that
equals a bias that depends on the label (Dumoulin et al. 2018). In a convolution of k by
k taps the bias is the sum of the label's k² taps: it is another one where the kernel
meets zero padding, and under Adam, which moves every tap by as much, it moves k² times
as fast. Arms separate the two.
"""

from __future__ import annotations

from featurewise.study.claims import (
    Claim,
    above,
    at_least,
    at_most,
    at_most_ratio,
    within,
)
from featurewise.study.system import Arm, Paper, System
from featurewise.systems.generation.dcgan.experiment import (
    ACCURACY,
    DIVERSITY,
    FREQUENCY_ERROR,
    MODE_COVERAGE,
    PARAMETERS,
    RARE_ACCURACY,
    REAL,
    data,
    draw,
    evaluate,
)
from featurewise.systems.generation.dcgan.method import Config, build, stepper
from featurewise.worlds.glyphs.facts import LETTERS, or_fashion

__all__ = ["SYSTEM", "Config"]

SYSTEM = System(
    name="dcgan",
    doc=__doc__,
    paper=Paper(
        "Radford, Metz, Chintala 2016: Unsupervised Representation Learning [...]. ICLR",
        "https://arxiv.org/abs/1511.06434",
        "section 4; conditioned on the label as in Mirza and Osindero 2014, eq. 2",
        "MNIST, Parzen-window log-likelihood (Mirza and Osindero, table 1): conditional "
        "132 ± 1.8, unconditional 225 ± 2",
    ),
    world=or_fashion(LETTERS),
    presets={
        "tiny": Config(
            steps=30,
            typefaces="bundled",
            letters="AHLO",
            noise_size=8,
            hidden=16,
            channels=4,
            classifier_steps=40,
        ),
        "small": Config(steps=1000),
        "fashion": Config(steps=1000, data="fashion"),
        "paper": Config(
            steps=100_000,
            batch_size=128,
            image_size=28,
            noise_size=100,
            hidden=1024,
            channels=64,
            learning_rate=2e-4,
        ),
    },
    arms=(
        Arm(
            "concat",
            "the paper's: the label is concatenated to the input of every layer",
        ),
        Arm(
            "summed",
            "as concat, but a kernel's label taps are added up: no effect of the border",
            conditioning="summed",
        ),
        Arm(
            "summed_zero",
            "as summed, with label weights that start at zero",
            conditioning="summed",
            label_start="zero",
        ),
        Arm(
            "bias",
            "a bias from zero with one weight in place of k² taps, which Adam moves k² "
            "times slower",
            conditioning="bias",
        ),
        Arm(
            "film",
            "the label scales and shifts the generator's norms; the discriminator is "
            "that of bias",
            conditioning="film",
        ),
        Arm("unconditional", "control: a plain GAN without labels", conditioning="none"),
        Arm("shuffled", "control: concat with permuted labels", shuffled_condition=True),
    ),
    build=build,
    stepper=stepper,
    data=data,
    evaluate=evaluate,
    draw=draw,
    metrics=(
        ACCURACY,
        RARE_ACCURACY,
        MODE_COVERAGE,
        FREQUENCY_ERROR,
        DIVERSITY,
        REAL,
        PARAMETERS,
    ),
    finding="With the label concatenated to every layer, 92 % of the samples are of the "
    "requested class, and 4 % with permuted labels. A conditional bias does worse, by 10 "
    "points, because it moves more slowly: the same bias that moves as fast as the "
    "weights of the concatenated label is 10 points better. Whether label taps may be "
    "added up at the border five seeds do not decide. On Fashion-MNIST 84 % of the samples "
    "are of the requested class, 10 % with permuted labels; between the ways to condition "
    "three seeds do not decide.",
    claims=(
        Claim(
            "The generator makes the requested class.", at_least(ACCURACY, "concat", 85)
        ),
        Claim(
            "The accuracy is due to the image's own label.",
            above(ACCURACY, "concat", "shuffled", 50),
        ),
        Claim(
            "The border does not matter: label taps may be added up.",
            within(ACCURACY, "summed", "concat", 2),
        ),
        Claim(
            "Initial label weights do not matter.",
            within(ACCURACY, "summed_zero", "summed", 2),
        ),
        Claim(
            "A bias that moves k² times as fast is better: what concatenation gains is "
            "its speed.",
            above(ACCURACY, "summed_zero", "bias", 3),
        ),
        Claim(
            "A conditional bias is as good as concatenation.",
            within(ACCURACY, "bias", "concat", 3),
            why="A bias moves more slowly in training than the weights of a concatenated "
            "label: at the same speed the difference is gone.",
        ),
        Claim(
            "A conditional bias takes fewer parameters than concatenation.",
            at_most_ratio(PARAMETERS, "bias", "concat", 0.9),
            why="With 10 classes (fashion) 4 % fewer, with 26 (small) 11 %: the saving grows "
            "with the number of classes.",
        ),
        Claim("Rare classes are generated, too.", at_least(RARE_ACCURACY, "concat", 80)),
        Claim(
            "An unconditional GAN drops classes.",
            above(MODE_COVERAGE, "concat", "unconditional", 5),
        ),
        Claim("Permuted labels condition nothing.", at_most(ACCURACY, "shuffled", 15)),
        Claim("Samples of one class differ.", at_least(DIVERSITY, "concat", 0.6)),
    ),
    departures=(
        "Letters of typefaces, not MNIST; 1,000 steps of 64 images, channels 32 and 64, "
        "linear layers of 256 and z of 64 where the paper has 64 and 128, 1,024 and "
        "100.",
        "The frequencies of the classes are skewed: class k of K is sampled in "
        "proportion to 1 / k, so that the last is K times as rare as the first.",
        "Transposed convolutions are convolutions to four times the channels, shuffled "
        "(kernel 6).",
        "Adam at 5e-4 instead of 2e-4, without weight decay, and torch's own initial "
        "weights; samples come from the average of the generator's weights (decay "
        "0.99).",
        "Preset paper has the paper's widths, noise, batch and learning rate; letters, "
        "kernel and weight decay depart from it as above.",
    ),
    limits=(
        "Classes are ranked by the alphabet: which letters are rare is not varied.",
        "The classifier was trained on real images; an image that it assigns to the "
        "requested class may still look like none.",
    ),
    versions=lambda config: config.versions,
    tuned_on="the learning rate, on an earlier experiment with equally frequent "
    "letters; the bars of the claims, on one run of another seed (100)",
    tested_on="50 samples of each class, and 100 a class whose labels follow the "
    "training frequencies; the classifier is trained on 72 typefaces from 7 groups of "
    "related families, the system on 145 from 7 others (fashion: on 15,000 and 40,000 "
    "images)",
    caption="A row for each class, from the most frequent in training to the rarest: "
    "twelve samples of it, each from its own noise.",
    expected="about 90 % of samples are the requested letter with concatenated labels, "
    "80 % with a bias; 3.8 % at random",
)
