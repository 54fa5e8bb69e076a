"""CAVIA on sine waves. Zintgraf et al. 2019, eq. 3-5, algorithm 1, section 5.1.

The inner loop adapts a context phi to the support points of a task; the outer loop
learns the weights theta that all tasks share, through the inner loop::

    phi_i = 0 - alpha * grad_phi L(f(phi, theta), support of task i)            (eq. 3)
    theta = theta - beta * grad_theta mean_i L(f(phi_i, theta), query of task i)  (eq. 4)

A perceptron predicts a sine wave of which it is given ten points. A context of five
numbers is concatenated to x, which is a shift after the first layer. MAML (Finn et al.
2017) adapts all weights in the inner loop instead; the arm ``film`` adapts gamma and
beta of the hidden layers themselves, without a context.
"""

from __future__ import annotations

from featurewise.study.claims import Claim, Statement, at_least, at_most, at_most_ratio
from featurewise.study.inner_loops import (
    ERROR,
    INNER_METRICS,
    RELATIVE_ERROR,
)
from featurewise.study.system import Arm, Paper, System
from featurewise.systems.few_shot.cavia.experiment import PLANE, data, draw, evaluate
from featurewise.systems.few_shot.cavia.method import Config, build, stepper
from featurewise.worlds.small.facts import SINES

__all__ = ["SYSTEM", "Config"]

SYSTEM = System(
    name="cavia",
    doc=__doc__,
    paper=Paper(
        "Zintgraf, Shiarlis, Kurin, Hofmann, Whiteson 2019: Fast Context Adaptation via "
        "Meta-Learning. ICML",
        "https://arxiv.org/abs/1810.03642",
        "eq. 3-5, algorithm 1, section 5.1",
    ),
    world=SINES,
    presets={
        "tiny": Config(steps=40, wide=48, tasks=10, test_tasks=40, learning_rate=1e-2),
        "small": Config(steps=2500),
        "paper": Config(steps=50_000, learning_rate=1e-3),
    },
    arms=(
        Arm("cavia", "the system: the inner step is on a context of 5"),
        Arm("embedding", "a context of 2, which can be plotted", context=2),
        Arm(
            "film",
            "the inner step is on gamma and beta of both hidden layers, without a "
            "context",
            adapted="film",
        ),
        Arm("first_order", "inner gradients count as constants", second_order=False),
        Arm("maml", "the inner step is on all weights", adapted="weights"),
        Arm("cavia_wide", "the system, 160 units wide instead of 40", is_wide=True),
        Arm(
            "maml_wide",
            "the inner step is on all weights, 160 units wide",
            adapted="weights",
            is_wide=True,
        ),
        Arm(
            "unadapted",
            "no inner step: the best prediction for all waves",
            adapted="weights",
            inner_steps=0,
        ),
        Arm(
            "shuffled",
            "control: the inner step is on the points of another wave",
            shuffled_support=True,
        ),
    ),
    build=build,
    stepper=stepper,
    data=data,
    evaluate=evaluate,
    draw=draw,
    metrics=(*INNER_METRICS, PLANE),
    score=ERROR,
    finding="One gradient step on five numbers leaves about a tenth of the error, less "
    "than a step on all weights does (MAML); a context of two numbers holds amplitude "
    "and phase.",
    claims=(
        Claim(
            "One step on the context solves most of the task.",
            at_most(RELATIVE_ERROR, "cavia", 20),
        ),
        Claim("Adaptation is needed.", at_most_ratio(ERROR, "cavia", "unadapted", 0.2)),
        Claim(
            "The support points are used.",
            at_most_ratio(ERROR, "cavia", "shuffled", 0.2),
            added=("small",),
        ),
        Claim(
            "Gamma and beta can be adapted without a context.",
            at_most_ratio(ERROR, "film", "unadapted", 0.2),
        ),
        Claim(
            "A context is at least as good as all weights.",
            at_most_ratio(ERROR, "cavia", "maml", 1),
        ),
        Claim(
            "It is so in wide networks, too.",
            at_most_ratio(ERROR, "cavia_wide", "maml_wide", 1),
        ),
        Claim(
            "Wide networks do not overfit.",
            at_most_ratio(ERROR, "cavia_wide", "cavia", 1),
            Statement(
                "CAVIA gains from 32 to 512 filters, MAML loses from 32 to 64",
                "table of miniImageNet, 1 shot",
                "CAVIA 47.24 to 51.82 %, MAML 48.07 to 44.70 %",
                "direction only: images instead of waves",
            ),
        ),
        Claim(
            "Second-order gradients help.",
            at_most_ratio(ERROR, "cavia", "first_order", 1),
        ),
        Claim(
            "Support points of other waves carry no information.",
            at_most_ratio(ERROR, "unadapted", "shuffled", 1.05),
        ),
        Claim(
            "A context of two numbers holds amplitude and phase.",
            at_least(PLANE, "embedding", 0.9),
        ),
    ),
    caption="Three test waves, y over x: support points (triangles), the wave (dotted), "
    "and the prediction after the inner loop (line).",
    captions={
        "embedding": "A dot for each test wave, at its two numbers of φ after the inner "
        "loop (first across, second up); coloured by its amplitude (left) and its phase "
        "(right)."
    },
    departures=(
        "2,500 steps of Adam at 0.003 along a cosine instead of 50,000 at 0.001; the "
        "gradient is clipped to a norm of 10 in all arms.",
        "Inner learning rates were chosen with one seed on waves other than the test "
        "waves, among four for the context (0.1 to 3, which differ little) and for "
        "film, three for maml; embedding, first_order and the wide arms take over those "
        "of their relatives. first_order was slightly better at 0.1 than at 1.",
        "The concatenated context is written as what it is, a shift after the first "
        "layer.",
        "The arm film is not in the paper's section on waves.",
    ),
    tuned_on="waves other than the test waves, with one seed; see the departures",
    tested_on="1,000 waves that no run is trained on, 100 query points each; waves are "
    "independent",
    expected="an error of 0.2 to 0.3 after one step, and of 2.9 without one",
)
