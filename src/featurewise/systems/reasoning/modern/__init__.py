"""Questions in a pretrained network. De Vries et al. 2017, section 3.

MobileNetV2 has the weights of ImageNet, which stay as they are. A question changes what
its batch norms do: a network predicts offsets of their scale and shift, zero at first::

    γ = γ_pre + Δγ    β = β_pre + Δβ    (Δγ, Δβ) = MLP(LSTM(question))

What the network sees then depends on the question from early stages on. The baseline
joins the same question to the features of the unchanged network, by the same fusion.
"""

from __future__ import annotations

from featurewise.study.claims import Claim, Statement, above, at_most
from featurewise.study.system import Arm, Intervals, Paper, System
from featurewise.systems.reasoning.modern.experiment import (
    ACCURACY,
    CHANGED,
    CLOSED,
    OPEN,
    draw,
    evaluate,
    versions,
)
from featurewise.systems.reasoning.modern.method import Config, Modern, stepper
from featurewise.systems.reasoning.modern.sources import build, data, data_digests
from featurewise.worlds.vqa import EASY_VQA

__all__ = ["SYSTEM", "Config", "Modern"]

# --- experiment --------------------------------------------------------------------

PRESETS = {
    "tiny": Config(
        steps=30,
        intervals=Intervals(log=10, save=10),
        backbone="random",
        data="made",
        size=32,
        embedding=8,
        hidden=16,
        generator=16,
        fused=32,
        batch_size=16,
        learning_rate=5e-3,
        generator_rate=5e-3,
        train_images=40,
        test_images=12,
    ),
    "small": Config(
        steps=250,
        intervals=Intervals(log=25, evaluate=250, save=125),
        train_images=2_000,
    ),
    "paper": Config(
        steps=180_000,
        intervals=Intervals(log=100, evaluate=18_000, save=2_000, save_seconds=600.0),
        embedding=300,
        hidden=1_024,
        generator=512,
        fused=1_024,
        batch_size=20,
        learning_rate=3e-4,
        generator_rate=3e-4,
        test_images=1_000,
    ),
}

SYSTEM = System(
    name="modern",
    doc=__doc__,
    paper=Paper(
        "De Vries, Strub, Mary, Larochelle, Pietquin, Courville 2017: Modulating early visual "
        "processing by language. NeurIPS",
        "https://arxiv.org/abs/1707.00683",
        "section 3, conditional batch normalisation",
    ),
    world=EASY_VQA,
    presets=PRESETS,
    arms=(
        Arm("modern", "the system: the norms of all four stages are changed"),
        Arm("last", "only the norms of the last stage are changed", stages="last"),
        Arm(
            "frozen",
            "no norm is changed: the question is joined to the features",
            stages="none",
        ),
        Arm(
            "question",
            "question-only baseline: no image",
            stages="none",
            reads="question",
        ),
        Arm("image", "image-only baseline: no question", stages="none", reads="image"),
        Arm(
            "shuffled",
            "control: the norms are changed by the question of another sample; the head "
            "reads its own",
            other_question=True,
        ),
    ),
    build=build,
    stepper=stepper,
    data=data,
    evaluate=evaluate,
    draw=draw,
    metrics=(ACCURACY, CLOSED, OPEN, CHANGED),
    claims=(
        Claim(
            "A frozen network whose norms the question changes is better than without.",
            above(ACCURACY, "modern", "frozen", 2),
            Statement(
                "MODERN against the frozen ResNet-50 on VQA v1",
                "table of results on VQA v1",
                "about 2 points",
                "direction only: computed images of one shape, 13 answers, MobileNetV2",
            ),
            why="It is 3.1 and 2.5 points better with the two seeds; two give a wide interval.",
        ),
        Claim(
            "To change all stages is better than to change the last one.",
            above(ACCURACY, "modern", "last", 0),
            Statement(
                "the more stages are modulated, the better",
                "ablation over stages",
                "no number taken over",
                "direction only: computed images of one shape, 13 answers, MobileNetV2",
            ),
            why="It is 5.1 and 3.7 points better with the two seeds; two give a wide interval.",
        ),
        Claim(
            "The gain is due to what the question says, not to trained norms.",
            above(ACCURACY, "modern", "shuffled", 2),
            why="It is 8.4 and 4.3 points better with the two seeds that can be compared; "
            "two give a wide "
            "interval.",
        ),
        Claim(
            "The image is used.",
            above(ACCURACY, "modern", "question", 15),
        ),
        Claim(
            "The question is used.",
            above(ACCURACY, "modern", "image", 15),
        ),
        Claim(
            "No value of the frozen blocks changes, bit for bit.",
            at_most(CHANGED, "modern", 0.5),
        ),
    ),
    finding="After 250 steps (preset small, two seeds; the control has three) a frozen "
    "MobileNetV2 "
    "whose batch norms the question changes answers 86.2 % of the questions about simple images; "
    "unchanged, with the question joined to its features, 83.4 %; with the last stage alone "
    "changed 81.8 %; with norms changed by another question 78.7 %. Each difference has the "
    "same sign with both seeds, which are too few for a verdict. The question alone has 65.9 %, "
    "the image alone 36.3 %. No value of the frozen network changed.",
    departures=(
        "MobileNetV2 in place of ResNet-50, on images of 64 by 64 pixels in place of 448 by "
        "448. Its stem and first block, of 32 by 32 positions, are not modulated; the "
        "paper leaves out the first convolution and those of the shortcuts.",
        "Δγ is predicted relative to γ_pre: `Affine` after a batch norm equals the paper's "
        "form with Δγ = γ_pre gamma and Δβ = β_pre gamma + beta (`paper_offsets`). One MLP "
        "predicts the offsets of all norms; the paper has one for each.",
        "The features are averaged over positions, without attention; they are normalised "
        "over channels before the fusion. Embeddings of words are trained, without GloVe.",
        "Questions about computed images of one shape, not VQA v1. Preset small has 250 "
        "steps with 64 questions each about 2,000 images. Preset paper has the paper's "
        "LSTM, MLP, batch and learning rate, and its 15 epochs at the size of VQA v1, but "
        "the network and the data of small, of which it has all images.",
    ),
    limits=(
        "Two seeds of all arms but the control.",
        "All arms have equal steps, not equal time or trained parameters. With "
        "more steps, features of the unchanged network are enough for nearly all of these "
        "questions, so that this measures how soon the arms learn.",
        "Each image has one shape. Whether the question helps to choose among several is not "
        "tested.",
    ),
    versions=versions,
    data_digests=data_digests,
    tuned_on="the rates of learning: losses of arms frozen and modern in up to 160 steps of one "
    "seed (100), with 0.003, 0.0003 and 0.0001 for the generator, at 32 by 32 pixels and at 64 "
    "by 64; the number of steps: the accuracy of arm frozen on questions about training images "
    "that it was not trained on, and the cost. The control was trained and measured again "
    "after its "
    "first seed (77.5 %), whose questions at the test were often about the same image",
    tested_on="the questions about the first 250 of the 1,000 images of the official test "
    "set, nearly ten each; images are the independent units",
    caption="Root mean square of the raw γ (relative to γ_pre) and β of each changed norm, "
    "over questions and channels, in the order of the network.",
    captions=dict.fromkeys(
        ("frozen", "question", "image"),
        "Accuracy of each answer: circle, green, red, gray, yes, teal, black, rectangle, "
        "yellow, triangle, brown, blue, no.",
    ),
    cost={"tiny": "seconds", "paper": "one GPU; never run"},
)
