"""WaveNet. van den Oord et al. 2016, section 2.5 and figure 4.

A causal stack of dilated convolutions gives the probabilities of the next sample of sound.
The speaker and the phone that is being said enter as a bias in each filter and each gate::

    z = tanh(W_f * x + V_f h) * σ(W_g * x + V_g h)

The stack is a network without a condition; `featurewise.condition` adds the bias after its
convolutions. h has a speaker for the whole clip (global conditioning), a phone for each 10
ms (local conditioning), or both. It is compared with a stack without a condition, and with
the codes of other clips. Queues generate sound one sample at a time.
"""

from __future__ import annotations

from featurewise.study.claims import (
    Claim,
    Statement,
    above,
    at_most_ratio,
    metric_above,
)
from featurewise.study.system import Arm, Paper, System
from featurewise.systems.sound.wavenet.experiment import (
    BITS,
    METRICS,
    NEAREST,
    OTHER_PHONES,
    OTHER_SPEAKER,
    PHONE,
    PITCH,
    SPEAKER,
    data,
    evaluate,
)
from featurewise.systems.sound.wavenet.method import Config, WaveNet, stepper
from featurewise.systems.sound.wavenet.spectrograms import draw
from featurewise.worlds.sound.espeak import espeak_versions
from featurewise.worlds.sound.facts import WAVES
from featurewise.worlds.sound.waves import wave_versions

__all__ = ["SYSTEM", "Config"]


_SPEAKERS = Statement(
    "one network has the voices of 109 speakers, by their one-hot vector",
    "section 3.1",
    comparable="no: heard by people there; bits and a classifier here",
)


def _versions(config: Config) -> dict[str, str]:
    if config.data == "made":
        return {}
    return wave_versions() if config.people else espeak_versions()


SYSTEM = System(
    name="wavenet",
    doc=__doc__,
    paper=Paper(
        "van den Oord, Dieleman, Zen, Simonyan, Vinyals, Graves, Kalchbrenner, Senior, "
        "Kavukcuoglu 2016: WaveNet: A Generative Model for Raw Audio",
        "https://arxiv.org/abs/1609.03499",
        "equations of conditional WaveNets, section 2.5, and figure 4",
    ),
    world=WAVES,
    presets={
        "tiny": Config(
            steps=20,
            channels=8,
            dilations=3,
            width=8,
            blocks=6,
            batch_size=4,
            per_voice=3,
            tested=2,
            tested_blocks=10,
            sampled=1,
            data="made",
        ),
        "small": Config(steps=1000),
        "paper": Config(
            steps=200_000,
            channels=64,
            stacks=3,
            dilations=10,
            blocks=100,
            per_voice=400,
            learning_rate=1e-3,
        ),
    },
    arms=(
        Arm("both", "the system: V h of the speaker and of the phones"),
        Arm("local", "phones alone", condition="local"),
        Arm("global", "the speaker alone", condition="global"),
        Arm("none", "the stack without a condition", condition="none"),
        Arm(
            "shuffled",
            "control: speaker and phones of a clip of another speaker, in training and test",
            shuffled=True,
        ),
        Arm(
            "people",
            "the speaker alone, six people who say digits",
            people=True,
            condition="global",
        ),
        Arm(
            "people_none",
            "the stack without a condition, on the same recordings",
            people=True,
            condition="none",
        ),
    ),
    build=WaveNet,
    stepper=stepper,
    data=data,
    evaluate=evaluate,
    draw=draw,
    score=BITS,
    metrics=METRICS,
    finding="After 1,000 steps generated clips are noisy, but have the requested voice and "
    "phones in part. The network needs 3.07 bits per sample with both codes, 3.09 with phones, "
    "3.15 with the speaker, 3.17 without, 3.23 with codes of other clips (equally likely "
    "levels: 6; a table of the last two samples: 4.07). Another speaker's code costs "
    "0.65 bits, the phones of another clip 0.87. Of clips generated with both codes, "
    "a classifier that learned from real clips names the requested one of eight "
    "voices in 52.1 %, of those with the speaker alone in 65.6 %, with phones alone "
    "in 17.7 % (a guess: 12.5 %; real clips: 85.4 %); with both codes 25.7 % of the "
    "frames are heard as the requested phone, without phones 3.4 % (always the "
    "commonest: 9.2 %; real clips: 55.4 %).",
    claims=(
        Claim(
            "The phones lower the bits of held-out sentences.",
            above(BITS, "none", "local", 0.05),
            why="The mean is above the bar; with three seeds the interval begins just "
            "below it.",
        ),
        Claim(
            "The speaker lowers them.",
            above(BITS, "none", "global", 0.02),
            _SPEAKERS,
            why="The mean difference, 0.022 bits, is just above the bar, and the "
            "interval includes it.",
        ),
        Claim(
            "Phones lower them by more than the speaker does.",
            above(BITS, "global", "local", 0),
        ),
        Claim(
            "Both together lower them by more than phones alone.",
            above(BITS, "local", "both", 0.02),
            why="The mean difference is at the bar, and seeds vary by as much.",
        ),
        Claim(
            "Codes of another clip in training and test are worse than its own.",
            above(BITS, "shuffled", "both", 0.05),
        ),
        Claim(
            "Codes of another clip are no help.",
            above(BITS, "shuffled", "none", -0.03),
        ),
        Claim(
            "The trained network relies on the speaker: another one costs bits.",
            metric_above("both", OTHER_SPEAKER, BITS, 0.05),
        ),
        Claim(
            "It relies on the phones: those of another clip cost bits.",
            metric_above("both", OTHER_PHONES, BITS, 0.1),
        ),
        Claim(
            "Generated clips are heard as the requested speaker, more often than those of a "
            "network without its code.",
            above(SPEAKER, "both", "local", 12.5),
            _SPEAKERS,
            why="52.1 % of 32 clips of each seed, against 17.7 %: the mean is far above "
            "the bar, the interval of three seeds wide.",
        ),
        Claim(
            "So is their pitch nearest to that of the requested one of eight speakers.",
            above(NEAREST, "both", "local", 12.5),
            why="51.0 % against 11.5 %, and 52.1 % of real clips: the mean is far above "
            "the bar; the interval of three seeds begins just below it.",
        ),
        Claim(
            "Their pitch is nearer to that of the requested speaker than without the code.",
            at_most_ratio(PITCH, "both", "local", 0.8),
        ),
        Claim(
            "Generated clips say the requested phones more than those of a network without "
            "phones.",
            above(PHONE, "both", "global", 2),
            Statement(
                "a network that is conditioned on linguistic features says the text",
                "section 3.2",
                comparable="no: phones of 32 ms as heard by a linear classifier",
            ),
        ),
        Claim(
            "Of people, too, the speaker lowers the bits of recordings that were held out.",
            above(BITS, "people_none", "people", 0),
            _SPEAKERS,
            why="The mean, 0.010 bits, is above the bar; with three seeds the interval "
            "includes zero.",
        ),
    ),
    departures=(
        "Sound has 4,000 samples a second and 64 levels; the paper's has 16,000 and 256.",
        "h has phones as they are, not linguistic features and the fundamental frequency, "
        "and a learned convolution over three blocks of 10 ms, whose biases hold for all samples "
        "of a block, instead of transposed convolutions.",
        "Preset small has one stack of dilations 1 to 128, so that a sample depends on 256 "
        "samples before it, 64 ms, and 24 channels; training is 1,000 steps of 8 clips of 0.12 s.",
        "Levels are embedded, and both the embedding and the map to logits start as cosines of "
        "the level: otherwise the order of levels has to be learned first.",
        "Preset paper has three stacks of dilations 1 to 512 and 64 channels, on the same "
        "voices; the paper gives no sizes for them, and steps are a guess.",
    ),
    cost={"tiny": "seconds", "paper": "one GPU; never run"},
    limits=(
        "The network of preset small is too small, and trained too briefly, to be understood. "
        "There is no command that speaks.",
        "Synthetic voices differ by pitch, formants and timbre alone. All sentences are random "
        "orders of the same 430 words, so that test sentences have no new words.",
        "A classifier that learned from real clips alone may miss what it would recognise "
        "without the noise of generated clips; the share on real clips is its upper end.",
        "The other speaker is the next lower voice for seven of eight.",
        "People say ten digits, in one held-out take each, always from 0 to 9.",
    ),
    versions=_versions,
    tuned_on="other sentences of the same voices with seed 9, which no run has: the learning "
    "rate, the length of training clips, the number of layers and the first weights, all with "
    "the arm both and the same for all arms",
    tested_on="48 sentences, six of each of 8 voices, half a second of each; 32 generated "
    "clips, four of each; of people, one take of the ten digits by each of six. When training "
    "was of 110 steps, results of one seed were seen: 3.79 bits with both, 3.83 with phones, 3.80 "
    "with the speaker, 3.81 without, 3.89 shuffled. As all arms had learned too little, they "
    "were given more steps: 200 and then, after the results of three seeds (3.52 to 3.60 "
    "bits), 1,000. Nothing else changed. Of each sentence the first half second "
    "is tested, all samples, of which the first 256 have zeros before them",
    caption="Spectrograms of half a second: a test clip; clips generated under its phones, where "
    "the arm knows them, and two speakers.",
)
