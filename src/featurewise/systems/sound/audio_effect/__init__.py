"""Audio effect with moving knobs. Comunità, Steinmetz, Phan & Reiss 2023, section 2.

A causal network over time (micro-TCN; Steinmetz & Reiss 2022) imitates a compressor followed
by an overdrive, of which only sound before and after is given, and the positions of two
knobs. In each of its blocks, FiLM follows the convolution, with γ and β of each block of 32
samples::

    y = PReLU(gamma(knobs at t) * (W *_d x) + beta(knobs at t)) + s * x

It is compared with FiLM by the mean position of the knobs, with a shift alone, with knobs
as further channels of the input of a wider network, with no knobs, and with the knobs of
another segment. The network runs live: parts of a sound give what the whole gives.
"""

from __future__ import annotations

from featurewise.study.claims import Claim, Statement, above
from featurewise.study.system import Arm, Paper, System
from featurewise.systems.sound.audio_effect.experiment import (
    DRY,
    ERROR,
    SPECTRAL,
    STANDING,
    data,
    draw,
    evaluate,
)
from featurewise.systems.sound.audio_effect.method import (
    Config,
    EffectNetwork,
    stepper,
)
from featurewise.worlds.sound.effects import digit_versions
from featurewise.worlds.sound.facts import EFFECT

__all__ = ["SYSTEM", "Config"]

SYSTEM = System(
    name="audio_effect",
    doc=__doc__,
    paper=Paper(
        "Comunità, Steinmetz, Phan, Reiss 2023: Modelling black-box audio effects with "
        "time-varying feature modulation. ICASSP; network: Steinmetz, Reiss 2022: Efficient "
        "neural networks for real-time modeling of analog dynamic range compression. AES 152",
        "https://arxiv.org/abs/2211.00497",
        "section 2; of the network, https://arxiv.org/abs/2102.06200",
    ),
    world=EFFECT,
    presets={
        "tiny": Config(
            steps=30,
            channels=6,
            wide_channels=9,
            kernel=3,
            dilations=(1, 3, 9),
            hidden=(8,),
            length=256,
            batch_size=6,
            copies=2,
            data="made",
        ),
        "small": Config(steps=250),
        "paper": Config(
            steps=200_000,
            channels=32,
            wide_channels=35,
            kernel=13,
            dilations=(1, 10, 100, 1000),
            length=16384,
            batch_size=32,
            copies=64,
            learning_rate=3e-4,
        ),
    },
    arms=(
        Arm("frames", "the system: γ and β of each block of 32 samples"),
        Arm("mean", "γ and β of the mean position over the segment", knobs="mean"),
        Arm("shift", "β of each block of samples, without γ", knobs="shift"),
        Arm(
            "input",
            "knobs as two further channels of the input of a wider network, which has about "
            "as many parameters as the system",
            knobs="input",
            wide=True,
        ),
        Arm("none", "no knobs", knobs="none"),
        Arm(
            "shuffled",
            "control: the knobs of another segment, in training and test",
            shuffled=True,
        ),
    ),
    build=EffectNetwork,
    stepper=stepper,
    data=data,
    evaluate=evaluate,
    draw=draw,
    score=ERROR,
    metrics=(ERROR, STANDING, SPECTRAL, DRY),
    expected="error near -15 dB with FiLM of each block of samples, -13 dB with knobs at the "
    "input, -6 dB with FiLM of their mean, -4 dB without knobs",
    finding="An effect whose knobs move is imitated with an error of -14.8 dB by FiLM of each "
    "block of samples, and of -6.3 dB by FiLM of the mean position over 0.25 s; without "
    "knobs, or with those of another segment, it is -3.7 dB. A shift alone is 1 dB worse "
    "(-13.8 dB). Knobs as further channels of the input of a wider network, which has as "
    "many parameters and twice the operations, are 1.9 dB worse (-12.9 dB). With knobs that "
    "stand still, FiLM of each block is 2.2 dB better than FiLM of the mean, which learned "
    "from knobs that moved.",
    claims=(
        Claim(
            "With knobs that move, FiLM of each block of samples is better than FiLM of their "
            "mean position.",
            above(ERROR, "mean", "frames", 3),
            Statement(
                "feature modulation that varies in time models effects better than networks "
                "without it",
                "abstract",
                comparable="no: there the modulation follows the sound, here the knobs",
            ),
        ),
        Claim(
            "It is better than knobs as further channels of the input, with as many "
            "parameters.",
            above(ERROR, "input", "frames", 0),
        ),
        Claim(
            "The scale matters: it is better than a shift alone.",
            above(ERROR, "shift", "frames", 0),
        ),
        Claim(
            "It is better than a network without knobs.",
            above(ERROR, "none", "frames", 3),
        ),
        Claim(
            "The gain is due to the knobs of the segment itself.",
            above(ERROR, "shuffled", "frames", 3),
        ),
        Claim(
            "It is closer to the effect in short-time spectra, too, than FiLM of the mean.",
            above(SPECTRAL, "mean", "frames", 0),
        ),
        Claim(
            "With knobs that stand still it is at least as good as FiLM of their mean.",
            above(STANDING, "mean", "frames", 0),
        ),
    ),
    departures=(
        "γ and β come from the knobs. In Comunità et al. they come from the sound itself, by an "
        "LSTM over pooled features of each block, and knobs do not move.",
        "The effect is computed by formulas (see Data), not recorded from a device; sound is "
        "speech at 8 kHz, not music at 44.1 kHz.",
        "Blocks have no batch norm: FiLM follows the convolution directly.",
        "The loss is the error-to-signal ratio, without a spectral term.",
        "Preset small has 16 channels and sees 117 ms; preset paper has the channels, kernel "
        "and dilations of the causal uTCN-300 of Steinmetz & Reiss, at 8 kHz.",
    ),
    cost={"tiny": "seconds", "paper": "one GPU; never run"},
    limits=(
        "One effect of known formula, with two knobs that move in straight lines of 128 ms; "
        "a device has noise, hum and more memory.",
        "Knobs that stand still do so at one position for each of the two test tracks.",
        "Two test speakers: differences between speakers are not measured.",
    ),
    versions=lambda config: digit_versions() if config.data == "digits" else {},
    tuned_on="one validation speaker with seed 9, which no run has: the learning rate, the "
    "same for all arms, with the arm input",
    tested_on="2 unseen speakers with 30 recordings each, 20 s in segments of 128 ms. When "
    "results were first seen, segments were of 1 s, longer than in training; as that is a "
    "disadvantage to arm mean, the same networks were measured again",
    caption="A second of the test. Above: the two knobs. Below: sound after the effect, and "
    "the error of the network.",
)
