"""MAC: compositional attention networks. Hudson & Manning 2018, section 3.

A cell reads a map for one step of reasoning. Its control c attends to the words of the
question, with it and the memory m it attends to places of the map, and what it read
becomes the new memory::

    c_i = Σ softmax(w · (W [c_{i-1}, q_i] ⊙ words)) words
    r_i = Σ softmax(w · elu(c_i ⊙ W [(W m_{i-1}) ⊙ (W places), places])) places
    m_i = W [r_i, m_{i-1}]

All cells share their weights but for the one that projects the question, q_i. FiLM is
trained on the same maps, with all scenes and with few of them.
"""

from __future__ import annotations

from dataclasses import fields, replace

from featurewise.study.claims import Claim, Statement, above, within
from featurewise.study.metric import ACCURACY
from featurewise.study.system import Arm, Paper, System
from featurewise.systems.reasoning.ablations.experiment import BY_GROUP, evaluate
from featurewise.systems.reasoning.ablations.presets import PRESETS as ABLATIONS
from featurewise.systems.reasoning.mac.experiment import data
from featurewise.systems.reasoning.mac.method import Config, MacNetwork, build, stepper
from featurewise.worlds.clevr.splits import CLEVR

__all__ = ["SYSTEM", "Config", "MacNetwork"]

# --- experiment --------------------------------------------------------------------


def _preset(name: str) -> Config:
    """Data, steps and FiLM network of the ablations; MAC's own sizes are added."""
    same = ABLATIONS[name]
    return Config(**{each.name: getattr(same, each.name) for each in fields(same)})


PRESETS = {
    "tiny": replace(_preset("tiny"), cells=2, width=16),
    "small": _preset("small"),
    "paper": replace(
        _preset("paper"), embedding=300, cells=12, width=512, mac_learning_rate=1e-4
    ),
}

SYSTEM = System(
    name="mac",
    doc=__doc__,
    paper=Paper(
        "Hudson, Manning 2018: Compositional Attention Networks for Machine Reasoning. "
        "ICLR",
        "https://arxiv.org/abs/1803.03067",
        "section 3, figures 2 to 6",
        "CLEVR, test: 98.9 %; trained on a tenth of it, validation: 86 %",
    ),
    world=CLEVR,
    presets=PRESETS,
    arms=(
        Arm("mac", "the system: four cells"),
        Arm("mac_25", "with a quarter of the scenes", share=0.25),
        Arm("mac_10", "with a tenth of the scenes", share=0.1),
        Arm("mac_5", "with a twentieth of the scenes", share=0.05),
        Arm("film", "FiLM on the same maps: that of the ablations", network="film"),
        Arm(
            "film_25",
            "FiLM with a quarter of the scenes",
            network="film",
            share=0.25,
        ),
        Arm("film_10", "FiLM with a tenth of the scenes", network="film", share=0.1),
        Arm("film_5", "FiLM with a twentieth of the scenes", network="film", share=0.05),
        Arm("one_cell", "one cell: one step of reasoning", cells=1),
        Arm(
            "question",
            "question-only baseline: MAC's words and classifier alone",
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
    metrics=tuple(BY_GROUP.values()),
    finding="On maps of scenes (preset small, one seed) MAC answers 84.1 % of the questions "
    "after 1,200 steps and FiLM 62.3 %; the question alone answers 43.2 %. With a tenth of "
    "the scenes MAC has 59.0 % and FiLM 48.7 %: it memorises its training questions "
    "(loss 0.001). With all scenes both are still learning, so that this compares how soon "
    "they learn. One cell is 1.7 points below four. One seed decides no "
    "claim; the arms with a quarter and a twentieth of the scenes were not run.",
    claims=(
        Claim(
            "MAC uses the question.",
            above(ACCURACY, "mac", "shuffled", 40),
        ),
        Claim(
            "MAC uses the map.",
            above(ACCURACY, "mac", "question", 20),
        ),
        Claim(
            "With all scenes FiLM is nearly as good as MAC.",
            within(ACCURACY, "film", "mac", 3),
            Statement(
                "MAC and FiLM on all of CLEVR",
                "table 1",
                "98.9 and 97.7 %",
                "direction only: maps in place of images, few objects, 1,200 steps",
            ),
        ),
        Claim(
            "With a tenth of the scenes MAC is better than FiLM.",
            above(ACCURACY, "mac_10", "film_10", 10),
            Statement(
                "MAC and others, FiLM among them, on a tenth of CLEVR",
                "section 4.2",
                "86 % against at most 51.6 %",
                "direction only: maps in place of images, few objects, 1,200 steps",
            ),
        ),
        Claim(
            "With a quarter of the scenes MAC is better than FiLM.",
            above(ACCURACY, "mac_25", "film_25", 5),
            Statement(
                "MAC and others, FiLM among them, on a quarter of CLEVR",
                "section 4.2",
                "95.4 % against 50 to 77 %",
                "direction only: maps in place of images, few objects, 1,200 steps",
            ),
        ),
        Claim(
            "With a twentieth of the scenes MAC is as good as FiLM with all.",
            within(ACCURACY, "mac_5", "film", 3),
        ),
        Claim(
            "Several steps of reasoning are better than one.",
            above(ACCURACY, "mac", "one_cell", 2),
        ),
    ),
    departures=(
        "Maps of what stands where in place of features of images, as in the ablations: of "
        "4 by 6 cells, with one channel for each value of an attribute, and 1 × 1 "
        "convolution with coordinates in place of two of 3 × 3.",
        "Four cells of width 64, where the paper has up to 16 of width 512. No dropout of any "
        "kind, and neither the optional self-attention nor the gate of the write unit. "
        "Before the softmax of the read unit is an ELU, as in the authors' code but not in "
        "the paper's equations.",
        "1,200 steps on scenes of 2 to 4 objects and questions with at most one relation, "
        "after which the networks still learn. Each share of the scenes is trained on for "
        "as many steps as all of them.",
        "Learning rates: 0.002 for both networks, MAC's chosen from two, FiLM's in the "
        "ablations; the paper has 0.0001. Preset paper has the paper's widths, twelve cells "
        "and the scenes' maps of 14 by 14 cells.",
    ),
    tuned_on="learning rate of MAC by training accuracy of arm mac, seed 0, in its first 600 "
    "steps: 0.001 and 0.002 were tried",
    tested_on="1,000 scenes with up to 10 questions each that no trial is trained on; scenes "
    "are the independent units",
    cost={"tiny": "seconds", "paper": "one GPU; never run"},
)
