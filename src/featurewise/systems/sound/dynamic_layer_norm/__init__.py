"""Dynamic layer normalisation. Kim, Song & Bengio 2017, Interspeech.

An acoustic model gives the phone of each frame of speech. In each bidirectional LSTM, the
scales and shifts of layer norm are predicted from a summary of the layer's own input over
the whole utterance, so that the network adapts to a voice that it has never heard::

    a = mean over t of tanh(W h_t + b)
    gamma_in, gamma_hid, beta = linear maps of a
    gates = gamma_in * LN(W_x x_t) + gamma_hid * LN(W_h h_{t-1}) + beta

No speaker is named to the network, and nothing is fitted to a new one. It is compared with
layer norm whose scales and shifts are the same for all utterances, with a wider one of as
many parameters, with no norm, and with summaries of another voice.
"""

from __future__ import annotations

from featurewise.study.claims import Claim, Statement, above, at_least, metric_above
from featurewise.study.system import Arm, Paper, System
from featurewise.systems.sound.dynamic_layer_norm.experiment import (
    FRAME_ERROR,
    NEIGHBOURS,
    OTHER,
    PROBED_INPUT,
    PROBES,
    SEEN,
    data,
    draw,
    evaluate,
)
from featurewise.systems.sound.dynamic_layer_norm.method import (
    AcousticModel,
    Config,
    stepper,
)
from featurewise.worlds.sound.espeak import espeak_versions
from featurewise.worlds.sound.facts import VOICES

__all__ = ["SYSTEM", "Config"]

_PAPER = Statement(
    "dynamic layer norm lowers the word error rate of layer norm",
    "experiments on WSJ and TED-LIUM release 2",
    comparable="direction only: phones of frames of synthetic voices, not words of people",
)

SYSTEM = System(
    name="dynamic_layer_norm",
    doc=__doc__,
    paper=Paper(
        "Kim, Song, Bengio 2017: Dynamic Layer Normalization for Adaptive Neural Acoustic "
        "Modeling in Speech Recognition. Interspeech",
        "https://arxiv.org/abs/1707.06065",
        "equations of the utterance summary and of the normalised LSTM",
    ),
    world=VOICES,
    presets={
        "tiny": Config(
            steps=30,
            hidden=8,
            wide_hidden=11,
            width=12,
            factors=6,
            frames=16,
            per_voice=6,
            batch_size=8,
            data="made",
        ),
        "small": Config(steps=300),
        "paper": Config(
            steps=100_000,
            hidden=512,
            wide_hidden=585,
            width=256,
            layers=3,
            factors=64,
            learning_rate=1e-3,
            batch_size=16,
        ),
    },
    arms=(
        Arm("dynamic", "the system: γ and β from a summary of the utterance"),
        Arm("learned", "layer norm with learned γ and β", norm="learned"),
        Arm(
            "wide",
            "the same with wider layers, which have as many parameters as the system",
            norm="learned",
            wide=True,
        ),
        Arm("none", "no norm", norm="none"),
        Arm(
            "shuffled",
            "control: γ and β from the summary of another voice, in training and test",
            summarised="other",
        ),
    ),
    build=AcousticModel,
    stepper=stepper,
    data=data,
    evaluate=evaluate,
    draw=draw,
    score=FRAME_ERROR,
    metrics=(FRAME_ERROR, SEEN, OTHER, *PROBES, PROBED_INPUT, NEIGHBOURS),
    finding="On unseen synthetic voices, dynamic layer norm makes 30.7 % frame errors, as "
    "many as layer norm (30.7 %); five seeds show no gain over no norm (31.1 %) or over "
    "summaries of another voice (32.1 %). A wider layer norm with as many parameters is "
    "better (27.8 %). Yet the trained network relies on its summary: with that of another "
    "voice it makes 40.6 %. A linear probe finds 86.2 % of the voices in summaries of layer "
    "1, fewer than in the means of the features (91.7 %).",
    claims=(
        Claim(
            "On unseen voices, dynamic layer norm makes fewer errors than layer norm.",
            above(FRAME_ERROR, "learned", "dynamic", 0),
            _PAPER,
            why="The means are equal. Utterances are 1.3 seconds and training is 300 steps, "
            "both short beside those of the paper.",
        ),
        Claim(
            "It makes fewer errors than layer norm with as many parameters.",
            above(FRAME_ERROR, "wide", "dynamic", 0),
            why="At this size, parameters do more in wider layers than in the maps from "
            "summaries to γ and β.",
        ),
        Claim(
            "It makes fewer errors than a network without norms.",
            above(FRAME_ERROR, "none", "dynamic", 0),
            why="The difference is 0.4 points, and seeds vary by more.",
        ),
        Claim(
            "The gain is due to the summary of the utterance itself.",
            above(FRAME_ERROR, "shuffled", "dynamic", 0),
            why="The mean difference is 1.4 points; in two of five seeds there is none.",
        ),
        Claim(
            "The trained network uses its summary: with that of another voice it is worse.",
            metric_above("dynamic", OTHER, FRAME_ERROR, 2),
        ),
        Claim(
            "The summaries of layer 1 separate unseen voices linearly.",
            at_least(PROBES[0], "dynamic", 80),
            Statement(
                "summaries of one speaker lie together",
                "figure of summaries",
                comparable="direction only: synthetic voices",
            ),
        ),
        Claim(
            "They do it better than the means of the features.",
            metric_above("dynamic", PROBES[0], PROBED_INPUT, 0),
            why="Each synthetic voice has a long-term spectrum of its own, which the means of "
            "the features hold already; a summary has 32 numbers for their 80, and serves "
            "the phones.",
        ),
    ),
    departures=(
        "The phone of each frame is found, not the word: there is no language model, and the "
        "error is that of frames. Frames have 40 log-mel features, not 123 features.",
        "Speakers are 51 synthetic voices to train on and 20 others to test on, at 8 kHz.",
        "Preset small has two layers of 48 units a direction and summaries of 32 factors; "
        "the paper's are 512 units and 64 factors in three layers.",
        "Both directions of a layer read one summary.",
        "Utterances are cut to 80 frames, 1.3 seconds; the network reads two frames at a time.",
        "Preset paper has the network of the paper, on the same synthetic voices; steps are "
        "a guess.",
    ),
    cost={"tiny": "seconds", "paper": "one GPU; never run"},
    limits=(
        "Synthetic voices differ by formants, pitch, speed and timbre, and have neither "
        "accents nor rooms. Phones are known exactly from the synthesiser, whose timing "
        "leaves out how phones run into each other.",
        "All voices say the same 430 words, in other orders: the voices of the test are unseen, "
        "its words are not.",
        "Of the 20 test voices four get the summary of a voice of their own kind as that of "
        "another one, so that these measures are a little too mild.",
    ),
    versions=lambda config: espeak_versions() if config.data == "voices" else {},
    expected="28 to 33 % frame errors on unseen voices in all arms",
    tuned_on="seven validation voices with seed 9, which no run has: the learning rate, the "
    "same for all arms, with the arm learned",
    tested_on="20 unseen voices with 12 utterances each, 9,600 pairs of frames. Five seeds, two of "
    "which were run when the results of three were known; intervals count "
    "voices, of which some are variants of one kind",
    caption="Left: frame error of each unseen voice. Right, where norms are dynamic: "
    "summaries of layer 1, their two main directions; the colour is the voice.",
)
