"""FiLM on unknown combinations (CLEVR-CoGenT). Perez et al. 2018, section 4.5.

In condition A there are no cyan cubes; in condition B cubes and cylinders have each
other's colors. A network that is trained on A learns that cubes are never cyan. For a
question about an unknown combination, FiLM parameters are computed from those of three
questions about known ones::

    (γ, β)("How many cyan cubes are there?") =
        (γ, β)("How many cyan spheres are there?")
      + (γ, β)("How many yellow cubes are there?")
      - (γ, β)("How many yellow spheres are there?")

The sum is one of task representations, ``a + b - c``. The same network is then fine-tuned
on B: all of it, with elastic weight consolidation, or its FiLM generator alone.
"""

from __future__ import annotations

from featurewise.study.claims import Claim, Statement, above, at_least, metric_above
from featurewise.study.system import Arm, Paper, System
from featurewise.systems.reasoning.cogent.experiment import data, evaluate
from featurewise.systems.reasoning.cogent.measures import (
    ACCURACY,
    BY_METHOD,
    DIRECT,
    GAIN_LOW,
    METRICS,
    ON_A,
    OVERALL_SUM,
    RANDOM_ALL,
    RANDOM_C,
    SUM,
)
from featurewise.systems.reasoning.cogent.method import Config, build, stepper
from featurewise.systems.reasoning.cogent.presets import PRESETS
from featurewise.worlds.clevr.splits import CLEVR

__all__ = ["SYSTEM", "Config"]

# --- experiment --------------------------------------------------------------------

_NOT_COMPARABLE = (
    "direction only: maps in place of images, few objects, questions without relations"
)
SYSTEM = System(
    name="cogent",
    doc=__doc__,
    paper=Paper(
        "Perez, Strub, de Vries, Dumoulin, Courville 2018: FiLM: Visual Reasoning "
        "with a General Conditioning Layer. AAAI",
        "https://arxiv.org/abs/1709.07871",
        "section 4.5, figures 9 and 10",
        "CLEVR-CoGenT, validation, after fine-tuning on 30,000 questions of B (figure 9): "
        "with sums of parameters 81.1 % on A and 96.9 % on B, without them 80.8 and 96.9 %",
    ),
    world=CLEVR,
    presets=PRESETS,
    arms=(
        Arm(
            "film",
            "the system: trained on condition A, then fine-tuned",
            fine_tuned=True,
        ),
        Arm(
            "both", "trained on all combinations of color and shape", combinations="all"
        ),
        Arm(
            "question",
            "question-only baseline: trained on A, gets no map",
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
    finding="Trained on condition A, FiLM answers 94.4 % of the questions there and 69.9 % "
    "in B; trained on all combinations, 92.2 % in B. On the 13 % of B's questions that name "
    "just one unknown combination, sums of the parameters of three known questions raise "
    "the accuracy from 71.3 to 74.9 %, with four of five seeds (two of which were run "
    "because three had not decided it); over all of B from 69.9 to 70.4 %. "
    "With c of another question it is 70.2 %, and with one seed "
    "no lower than with the right one; with all three of others 17.1 %. "
    "Fine-tuning on 2,048 scenes raises B to 90.1 %, and A falls to 86.7 %. Elastic weight "
    "consolidation keeps 88.8 % of A at 89.0 % on B; the generator alone comes to 87.2 and "
    "85.0 %.",
    claims=(
        Claim(
            "FiLM trained on A is worse on B, where combinations are unknown.",
            metric_above("film", ON_A, ACCURACY, 3),
            Statement(
                "accuracy on A is much higher than on B",
                "figure 9",
                "98.3 against 75.6 %",
                _NOT_COMPARABLE,
            ),
        ),
        Claim(
            "It is the combinations: trained on all of them, it is better on B.",
            above(ACCURACY, "both", "film", 3),
        ),
        Claim(
            "Sums of parameters answer more of the questions about unknown combinations.",
            metric_above("film", SUM, DIRECT, 0),
            Statement(
                "accuracy jumps for the questions that the method applies to",
                "section 4.5",
                "from 71.5 to 80.7 %",
                _NOT_COMPARABLE,
            ),
        ),
        Claim(
            "They do so beyond what the choice of test scenes explains: the lower end of "
            "the bootstrap interval of the gain is above 0.",
            at_least(GAIN_LOW, "film", 0.1),
            why="The lower end is above 0 with four of five seeds; with one there is no gain.",
        ),
        Claim(
            "Over all questions of B the sums raise the accuracy, too.",
            metric_above("film", OVERALL_SUM, ACCURACY, 0),
            Statement(
                "zero-shot accuracy on B rises",
                "figure 9",
                "from 75.6 to 78.8 %",
                _NOT_COMPARABLE,
            ),
        ),
        Claim(
            "With c of another question there is no gain.",
            metric_above("film", DIRECT, RANDOM_C, 0),
            why="With two of five seeds there is one. A likely reason, which was not tested: c "
            "of another question names spheres, too, so that the sum is wrong in one color "
            "and in what is queried, which a and b both name.",
        ),
        Claim(
            "The right c is better than that of another question.",
            metric_above("film", SUM, RANDOM_C, 0),
            added=("small",),
        ),
        Claim(
            "With a, b and c of other questions there is no gain.",
            metric_above("film", DIRECT, RANDOM_ALL, 0),
        ),
        Claim(
            "Where all combinations are known, the sums neither help nor harm by much.",
            metric_above("both", OVERALL_SUM, ACCURACY, -3),
            Statement(
                "where combinations are known, both ways have similar accuracy",
                "section 4.5",
                "96.9 % on B after fine-tuning, with sums and without",
                "direction only: trained on all combinations at once",
            ),
        ),
        Claim(
            "Fine-tuning on B raises the accuracy there.",
            metric_above("film", BY_METHOD["B", "all", "all"], ACCURACY, 3),
            Statement(
                "accuracy on B rises with 30,000 questions",
                "figure 9",
                "from 75.6 to 96.9 %",
                _NOT_COMPARABLE,
            ),
        ),
        Claim(
            "It forgets A.",
            metric_above("film", ON_A, BY_METHOD["A", "all", "all"], 3),
            Statement(
                "accuracy on A falls",
                "figure 9",
                "from 98.3 to 80.8 %",
                _NOT_COMPARABLE,
            ),
        ),
        Claim(
            "A sixteenth of the scenes of B raises it already.",
            metric_above("film", BY_METHOD["B", "all", "1/16"], ACCURACY, 0),
            Statement(
                "FiLM reaches the earlier state of the art with a third of the data",
                "section 4.5",
                comparable="no: the earlier state of the art is not repeated here",
            ),
        ),
        Claim(
            "Elastic weight consolidation forgets less of A.",
            metric_above(
                "film", BY_METHOD["A", "EWC", "all"], BY_METHOD["A", "all", "all"], 2
            ),
            why="The mean lies at the bar. Another strength keeps more of A, and learns less "
            "of B.",
        ),
        Claim(
            "It still learns B: at most 3 points less than without it.",
            metric_above(
                "film", BY_METHOD["B", "EWC", "all"], BY_METHOD["B", "all", "all"], -3
            ),
        ),
        Claim(
            "The FiLM generator alone can learn B: at most 3 points less than all weights.",
            metric_above(
                "film",
                BY_METHOD["B", "generator", "all"],
                BY_METHOD["B", "all", "all"],
                -3,
            ),
            why="It is 5 to 8 points behind with four of five seeds, level with one.",
        ),
        Claim(
            "FiLM uses the question that it is conditioned on.",
            above(ACCURACY, "film", "shuffled", 15),
        ),
        Claim(
            "FiLM uses the map.",
            above(ACCURACY, "film", "question", 15),
        ),
    ),
    departures=(
        "Maps of what stands where in place of features of images, as in the ablations: of "
        "4 by 6 cells, with one channel for each value of an attribute, so that color and "
        "shape are separate in what the network reads.",
        "Scenes of 1 to 3 objects; count, exist and query questions without relations, all "
        "of one description. Two blocks of 32 channels without coordinates, which these "
        "questions do not need; a GRU of width 64; 1,200 steps of 128 questions.",
        "In place of its color a question gets the one that stands at the same place in the "
        "shape's other palette, yellow for cyan. The paper names brown for cyan and green "
        "for blue; how its parser chooses is not said.",
        "Fine-tuning reads 2,048 scenes of B once, with up to four questions each; the "
        "paper has 30,000 questions. Which scenes does not depend on the seed.",
        "Elastic weight consolidation (Kirkpatrick et al. 2017) is not in the paper. Its "
        "Fisher information is that of single questions, with answers that the network "
        "samples; running statistics of norms are not held.",
        "Preset paper has the widths of the ablations' preset of that name.",
    ),
    limits=(
        "Arm film has five seeds, the others three. Seeds 3 and 4 were run because three had "
        "not decided whether sums gain anything; an interval that is looked at twice is too "
        "narrow, and the lower end of that one is 0.0.",
        "On condition A the network answers 94 %, the paper's 98 %; what sums of parameters "
        "do in a better one is not tested.",
        "One strength of elastic weight consolidation is run; others trade what is kept of "
        "A for what is learnt of B.",
    ),
    tuned_on="blocks, coordinates, batch and learning rate by training accuracy of arm film, "
    "seed 100; learning rate of fine-tuning and strength of elastic weight consolidation by "
    "accuracy of the same trial on other scenes than those of the test",
    tested_on="1,000 scenes of each condition that no trial is trained on, with up to 6 "
    "questions each; scenes are the independent units",
    expected="near 94 % on A and 70 % on B; 90 % on B after fine-tuning",
    cost={"tiny": "seconds", "paper": "one GPU; never run"},
)
