"""What of FiLM matters. Perez et al. 2018, section 4.4, tables 2 and 3.

The network of figures 2 and 3, one part of which is changed at a time: the operation by
which the question conditions a block (here, scale alone, shift alone, and activations of
the scale), where in the block this happens, which blocks are conditioned, and what else
a block consists of::

    h = relu(1×1(x, coordinates))
    y = h + relu(FiLM(norm(3×3(h))))

The network does not change with the operation, the place or the blocks that are
conditioned: they are the arguments of one call. Scenes are given as maps of what stands
where, not as images, so that only reasoning is compared.
"""

from __future__ import annotations

from featurewise.study.claims import Claim, Statement, above, within
from featurewise.study.metric import ACCURACY
from featurewise.study.system import Arm, Paper, System
from featurewise.systems.reasoning.ablations.experiment import BY_GROUP, data, evaluate
from featurewise.systems.reasoning.ablations.method import (
    AblatedNetwork,
    Config,
    stepper,
)
from featurewise.systems.reasoning.ablations.presets import PRESETS
from featurewise.worlds.clevr.splits import CLEVR

__all__ = ["SYSTEM", "AblatedNetwork", "Config"]

# --- experiment --------------------------------------------------------------------


def _statement(what: str, where: str, number: str) -> Statement:
    return Statement(
        what,
        where,
        f"{number}, of 97.4 % (validation)",
        "direction only: maps in place of images, few objects, at most one relation",
    )


SYSTEM = System(
    name="ablations",
    doc=__doc__,
    paper=Paper(
        "Perez, Strub, de Vries, Dumoulin, Courville 2018: FiLM: Visual Reasoning "
        "with a General Conditioning Layer. AAAI",
        "https://arxiv.org/abs/1709.07871",
        "section 4.4, tables 2 and 3",
        "CLEVR, validation (tables 2 and 3): 97.4 % for the best network",
    ),
    world=CLEVR,
    presets=PRESETS,
    arms=(
        Arm("film", "the system: FiLM after the norm of all four blocks"),
        Arm("scale", "scale alone: β is 0", operation="scale"),
        Arm("shift", "shift alone: γ is 1", operation="shift"),
        Arm("sigmoid", "γ between 0 and 1, by a sigmoid", operation="sigmoid"),
        Arm("tanh", "γ between -1 and 1, by tanh", operation="tanh"),
        Arm("exp", "γ above 0, by exp", operation="exp"),
        Arm("after_block", "FiLM after the sum of a block", place="after the block"),
        Arm("after_relu", "FiLM after the ReLU", place="after the ReLU"),
        Arm(
            "after_convolution",
            "FiLM before the norm",
            place="after the convolution",
        ),
        Arm(
            "before_convolution",
            "FiLM of what enters a block",
            place="before the first convolution",
        ),
        Arm("block_1", "FiLM in the first of four blocks only", conditioned=1),
        Arm("blocks_1_2", "FiLM in the first two of four blocks", conditioned=2),
        Arm("blocks_1_3", "FiLM in the first three of four blocks", conditioned=3),
        Arm("none", "no block is conditioned: no question", conditioned=0),
        Arm("no_coordinates", "without maps of the coordinates", coordinates=False),
        Arm("no_residual", "blocks without their sum", residual=False),
        Arm("no_norm", "blocks without batch norm", norm=False),
        Arm("depth_1", "one block", blocks=1),
        Arm("depth_2", "two blocks", blocks=2),
        Arm("depth_6", "six blocks", blocks=6),
        Arm(
            "shuffled",
            "control: each question is replaced by that of another scene, answers stay",
            shuffled_questions=True,
        ),
    ),
    build=AblatedNetwork,
    stepper=stepper,
    data=data,
    evaluate=evaluate,
    metrics=tuple(BY_GROUP.values()),
    finding="Preset small, one seed, 16 of 21 arms: after 1,200 steps FiLM answers 62.3 % of "
    "the questions, and 14.7 % without FiLM. No operation is farther than 2 points from it "
    "(scale 61.7, shift 62.4, sigmoid 63.1, tanh 61.8, exp 64.2). Networks that begin to "
    "learn sooner are ahead: with FiLM of what enters a block 78.3 %, without maps of the "
    "coordinates 75.5 %, with one block 73.1 %. The paper compares networks that are "
    "trained to the end; its table is not tested by this, and one seed decides no claim.",
    claims=(
        Claim(
            "Without FiLM the network is far worse: it is not given the question.",
            above(ACCURACY, "film", "none", 40),
            _statement("without FiLM the network fails", "table 2", "21.4 %"),
        ),
        Claim(
            "FiLM uses the question that it is conditioned on.",
            above(ACCURACY, "film", "shuffled", 40),
        ),
        Claim(
            "FiLM in the first block alone is nearly as good as in all.",
            within(ACCURACY, "block_1", "film", 3),
            _statement("one FiLM layer, early, is nearly enough", "table 2", "97.3 %"),
        ),
        Claim(
            "A scale without shift is nearly as good as FiLM.",
            within(ACCURACY, "scale", "film", 3),
            _statement("β can be left out", "table 2", "96.9 %"),
        ),
        Claim(
            "A shift without scale is worse than a scale without shift.",
            above(ACCURACY, "scale", "shift", 0),
            _statement("γ matters more than β", "table 2", "96.9 and 95.9 %"),
        ),
        Claim(
            "γ between 0 and 1 is worse than a free one.",
            above(ACCURACY, "film", "sigmoid", 0),
            _statement("limits of γ cost accuracy", "table 2", "95.9 %"),
        ),
        Claim(
            "γ between -1 and 1 is worse than a free one.",
            above(ACCURACY, "film", "tanh", 0),
            _statement("limits of γ cost accuracy", "table 2", "96.3 %"),
        ),
        Claim(
            "γ above 0 is worse than a free one.",
            above(ACCURACY, "film", "exp", 0),
            _statement("limits of γ cost accuracy", "table 2", "96.3 %"),
        ),
        Claim(
            "FiLM need not follow the norm: before it is as good.",
            within(ACCURACY, "after_convolution", "film", 3),
            _statement("FiLM need not be tied to a norm", "table 2", "97.1 %"),
        ),
        Claim(
            "FiLM need not precede the ReLU: after it is as good.",
            within(ACCURACY, "after_relu", "film", 3),
            _statement("FiLM need not be tied to a norm", "table 2", "97.7 %"),
        ),
        Claim(
            "FiLM of what enters a block is worse.",
            above(ACCURACY, "film", "before_convolution", 0),
            _statement(
                "FiLM before the first convolution is worse", "table 2", "95.0 %"
            ),
        ),
        Claim(
            "Coordinates help.",
            above(ACCURACY, "film", "no_coordinates", 1),
        ),
        Claim(
            "The sums of the blocks help.",
            above(ACCURACY, "film", "no_residual", 1),
            _statement("residual connections help", "table 2", "94.0 %"),
        ),
        Claim(
            "Batch norm helps.",
            above(ACCURACY, "film", "no_norm", 1),
            _statement("batch norm helps", "table 2", "93.7 %"),
        ),
        Claim(
            "One block is worse than four.",
            above(ACCURACY, "film", "depth_1", 1),
            _statement("depth helps little", "table 3", "93.5 %"),
        ),
        Claim(
            "Six blocks are no worse than four.",
            within(ACCURACY, "depth_6", "film", 2),
            _statement("depth helps little", "table 3", "97.7 %"),
        ),
    ),
    departures=(
        "Maps of what stands where in place of images: of 4 by 6 cells, with one channel "
        "for each value of an attribute. Perception is perfect, but for objects that share "
        "a cell, of which only one is seen.",
        "Scenes of 2 to 4 objects and questions with at most one relation, after a stage of "
        "1 to 3 objects and no relation.",
        "32 channels instead of 128, a GRU of 96 instead of 4,096; the head does not "
        "start at zero, as γ of a sigmoid or tanh has no identity. These two start near 1, "
        "where they are flat, so that their γ differs a tenth as much between questions at "
        "first as that of the other arms.",
        "The paper removes the maps of coordinates together with the 3 × 3 convolutions "
        "(95.3 %); arm no_coordinates keeps its convolutions, and has no published number.",
        "0.3 million questions, where the paper trains on up to 56 million; 1,200 steps, after "
        "which the networks still learn. What is compared is how far each gets by then. "
        "Preset paper has "
        "the paper's widths but for 512 hidden units of the classifier, and four questions "
        "about each of 64 scenes in a batch.",
    ),
    tuned_on="learning rate, batch and widths by the training accuracy of arm film, seed 0, in its "
    "first 600 steps",
    tested_on="1,000 scenes with up to 10 questions each that no trial is trained on; scenes "
    "are the independent units",
    cost={"tiny": "seconds", "paper": "one GPU; never run"},
)
