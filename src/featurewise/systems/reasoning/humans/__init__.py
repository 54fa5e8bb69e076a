"""FiLM learns a made language for the same questions. Perez et al. 2018, section 4.4.

A network that answers generated questions is given questions in words and sentences that
it has never seen. Only the FiLM generator is trained on them: the encoder of the question
and its linear map::

    γ, β = W h(q) + b        h and W change
    FiLM(F_c | γ_c, β_c) = γ_c F_c + β_c        F is as before, bit for bit

The new questions come from a made grammar of synonyms, other frames and fillers, not from
people. Words that the network does not know get vectors of their own, which begin as that
of the unknown word.
"""

from __future__ import annotations

from dataclasses import fields

from featurewise.study.claims import Claim, Statement, above, metric_above
from featurewise.study.system import Arm, Paper, System
from featurewise.systems.reasoning.ablations import method as ablations
from featurewise.systems.reasoning.cogent.presets import PRESETS as COGENT
from featurewise.systems.reasoning.humans.experiment import (
    ACCURACY,
    AFTER,
    BEFORE,
    METRICS,
    data,
    evaluate,
)
from featurewise.systems.reasoning.humans.method import Config, build, stepper
from featurewise.worlds.clevr.splits import CLEVR

__all__ = ["SYSTEM", "Config"]

# --- experiment --------------------------------------------------------------------


def _preset(name: str, new_scenes: int, scenes_per_step: int = 16) -> Config:
    """Scenes and sizes of `cogent`, with all combinations of color and shape."""
    like = COGENT[name]
    shared = {f.name: getattr(like, f.name) for f in fields(ablations.Config)}
    return Config(**shared, new_scenes=new_scenes, scenes_per_step=scenes_per_step)


PRESETS = {
    "tiny": _preset("tiny", 32, 2),
    "small": _preset("small", 2_048),
    "paper": _preset("paper", 17_808),
}
_NOT_COMPARABLE = (
    "direction only: a made grammar in place of people, maps in place of images, questions "
    "without relations"
)
SYSTEM = System(
    name="humans",
    doc=__doc__,
    paper=Paper(
        "Perez, Strub, de Vries, Dumoulin, Courville 2018: FiLM: Visual Reasoning "
        "with a General Conditioning Layer. AAAI",
        "https://arxiv.org/abs/1709.07871",
        "section 4.4, table 4",
        "CLEVR-Humans, test (table 4): an LSTM without images 27.5 % before and 36.5 % after "
        "fine-tuning",
    ),
    world=CLEVR,
    presets=PRESETS,
    arms=(
        Arm(
            "film", "the system: trained, then fine-tuned on new words", fine_tuned=True
        ),
        Arm(
            "question",
            "question-only baseline: gets no map",
            network="question only",
        ),
        Arm(
            "shuffled",
            "control: each question is replaced by that of another scene, answers stay",
            shuffled_questions=True,
        ),
    ),
    build=build,
    stepper=stepper,
    data=data,
    evaluate=evaluate,
    metrics=METRICS,
    finding="A network that answers 92.0 % of generated questions answers 20.3 % of the same "
    "questions in other words, by a made grammar. When its FiLM generator alone is trained "
    "on 2,048 scenes in that language, it answers 72.6 %; with all weights 72.5 %, which "
    "three seeds do not tell apart within the bar of 3 points. Of the first language it keeps "
    "90.5 %, against 81.4 % with all weights. Everything outside the generator is the same, "
    "bit for bit. A generator that begins with random weights comes to 64.9 %, one that reads "
    "every new word as one unknown word to 56.5 %.",
    claims=(
        Claim(
            "New words and sentences cost accuracy.",
            metric_above("film", ACCURACY, BEFORE, 20),
            Statement(
                "accuracy on questions of people is far below that on generated ones",
                "tables 1 and 4",
                "56.6 against 97.7 %",
                _NOT_COMPARABLE,
            ),
        ),
        Claim(
            "The generator alone learns them.",
            metric_above("film", AFTER["made", "generator", "all"], BEFORE, 15),
            Statement(
                "fine-tuning the generator raises the accuracy",
                "table 4",
                "from 56.6 to 75.9 %",
                _NOT_COMPARABLE,
            ),
        ),
        Claim(
            "It is as good as fine-tuning all weights: at most 3 points less.",
            metric_above(
                "film",
                AFTER["made", "generator", "all"],
                AFTER["made", "all", "all"],
                -3,
            ),
            why="The means are level; with three seeds the interval is wider than the bar.",
        ),
        Claim(
            "It forgets no more of the first language than fine-tuning all weights does.",
            metric_above(
                "film",
                AFTER["first", "generator", "all"],
                AFTER["first", "all", "all"],
                0,
            ),
        ),
        Claim(
            "What it had learnt helps: a generator that begins with random weights is "
            "worse after a quarter of the scenes.",
            metric_above(
                "film",
                AFTER["made", "generator", "1/4"],
                AFTER["made", "new generator", "1/4"],
                5,
            ),
        ),
        Claim(
            "Vectors for new words help: with one unknown word for all it is worse.",
            metric_above(
                "film",
                AFTER["made", "generator", "all"],
                AFTER["made", "no new words", "all"],
                5,
            ),
        ),
        Claim(
            "FiLM uses the question that it is conditioned on.",
            above(ACCURACY, "film", "shuffled", 15),
        ),
        Claim("FiLM uses the map.", above(ACCURACY, "film", "question", 15)),
    ),
    departures=(
        "The new questions are those of a made grammar, with the meaning of generated ones; "
        "people also have new concepts, such as reflections and what stands in front of "
        "what. The official files of CLEVR-Humans are read, but were not used here.",
        "Maps of what stands where in place of features of images, scenes of 1 to 3 objects, "
        "questions without relations, and the sizes of `cogent`.",
        "Each word that the first language has not gets a vector; it begins as that of the "
        "unknown word, so that the network's answers do not change with it. In official "
        "files, words that occur ten times or more can get one; all others are unknown.",
        "Fine-tuning reads 2,048 scenes once, with up to four questions each; CLEVR-Humans "
        "has 18,000 questions for training. Which scenes does not depend on the seed.",
        "Preset paper has the widths of the ablations' preset of that name.",
    ),
    limits=(
        "The grammar is regular: a word has one meaning, and a frame one type of question. "
        "What people write is harder.",
        "How much is forgotten depends on the learning rate of fine-tuning, which is one, set "
        "beforehand, for all weights and for the generator alone.",
        "The baselines, question-only and shuffled, are not fine-tuned: how much of the made "
        "language can be answered without a map is not measured.",
        "The generator with random weights begins with the same ones for all seeds.",
    ),
    tuned_on="nothing: sizes are those of `cogent`, and the learning rate of fine-tuning was "
    "set before the first run",
    tested_on="1,000 scenes that no trial is trained on, with up to 6 questions each in both "
    "languages; scenes are the independent units",
    expected="near 92 % in the first language, 20 % in the made one before fine-tuning and "
    "72 % after it",
    cost={
        "tiny": "seconds",
        "paper": "one GPU; never run",
    },
)
