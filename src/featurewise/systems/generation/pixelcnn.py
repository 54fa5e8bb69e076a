"""Conditional gated PixelCNN. van den Oord et al. 2016, eq. 4 and 5, figure 2.

A digit, pixel by pixel, each from those before it. What is known of it adds a bias inside tanh and
σ of every gate: the same at all places (eq. 4, a feature-wise shift V h), or one by place (eq. 5,
a 1×1 convolution of a map s = m(h)). Half of the pictures are told by *what* they show, a digit
that fills them; half by *where*: a small digit of unknown name in one of nine places.

    featurewise run pixelcnn --arms all --seeds 3
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

import featurewise as fw
from featurewise.generators import Generator
from featurewise.models.autoregressive import GatedPixelCNN, SpatialMap, sample_pixels
from featurewise.study.claims import above, at_least, decide, lower, pairs
from featurewise.study.results import Measurement, Proportion, Results
from featurewise.study.system import Arm, Claim, Judged, Paper, System, Verdict
from featurewise.training.batch import to_device
from featurewise.training.optim import cosine
from featurewise.training.source import Source
from featurewise.training.steppers import Generative, Metrics
from featurewise.worlds import glyphs as world
from featurewise.worlds.glyphs.letter_data import letter_splits as splits
from featurewise.worlds.glyphs.placed import PLACES, PlacedLetters, PlacedSource, null_condition
from featurewise.worlds.glyphs.sheets import sample_metrics, sheet
from featurewise.worlds.glyphs.versions import NEEDS, render_versions

TOLD = len(world.DIGITS) + PLACES
TELLING = {"shuffled": "shuffled", "unconditional": "unconditional"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pixelwise(Judged):
    """Sizes; nats are those of so many pictures that are ``tested``."""

    channels: int = 24
    layers: int = 6
    map: int = 10
    rate: float = 1e-2
    average: float = 0.98
    tested: int = 1024


class PixelCNN(nn.Module):
    """The system: a shift at every gate, by what is told."""

    def __init__(self, s: Pixelwise, arm: Arm) -> None:
        super().__init__()
        by_place = Generator(SpatialMap(TOLD, s.map, s.size), s.map)
        self.net = fw.condition(
            GatedPixelCNN(s.channels, s.layers),
            at="layers.*.*_gate.shift",
            operation=fw.Shift(),
            generator=by_place if arm.name == "location" else fw.Linear(TOLD),
        )

    def forward(self, batch: PlacedLetters) -> Float[Tensor, "B 1 S S"]:
        """Logits of ink, of each pixel from those before it; paper is -1, what is beyond it 0."""
        logits: Tensor = self.net(2 * batch.images - 1, condition=batch.condition)
        return logits


def nats(network: nn.Module, batch: PlacedLetters) -> Float[Tensor, " B"]:
    """What each picture costs, all pixels together."""
    each = F.binary_cross_entropy_with_logits(network(batch), batch.images, reduction="none")
    return each.sum((1, 2, 3))


def objective(network: nn.Module, batch: PlacedLetters) -> tuple[Tensor, Metrics]:
    """Nats per pixel."""
    return nats(network, batch).mean() / batch.images[0].numel(), {}


def stepper(network: nn.Module, s: Pixelwise, arm: Arm) -> Generative:
    """Adam, a falling rate, averaged weights; pictures are drawn in reading order."""

    def sampler(network: nn.Module, asked: PlacedLetters, random: torch.Generator) -> Tensor:
        net: fw.Conditioned = network.net  # type: ignore[assignment]
        task = net.represent(asked.condition).flat

        def among(rows: slice) -> AbstractContextManager[object]:
            return net.using(task=task[:, :, rows] if task.ndim > 2 else task, partial=True)

        return sample_pixels(net.backbone, asked.images, random, among)

    return Generative(
        network,
        objective,
        torch.optim.Adam(network.parameters(), s.rate),
        sampler=sampler,
        schedule=cosine(s.steps, warmup=s.steps // 20),
        clip=1.0,
        average=s.average,
    )


def data(s: Pixelwise, arm: Arm, seed: int) -> Source[PlacedLetters]:
    """Digits of typefaces by lot, black and white."""
    source = world.GlyphSource(splits(s.where, world.DIGITS, s.size).train, s.batch_size, seed)
    return PlacedSource(source, TELLING.get(arm.name, "matched"))


def drawn(trained: Generative, s: Pixelwise, arm: Arm, told: Tensor) -> Tensor:
    """Pictures, told these numbers below `TOLD`, or nothing."""
    hot, blank = F.one_hot(told, TOLD).float(), torch.zeros(len(told), 1, s.size, s.size)
    asked = null_condition(hot) if arm.name == "unconditional" else hot
    return trained.sample(PlacedLetters(blank, asked, told < len(world.DIGITS))).cpu()


def evaluate(trained: Generative, s: Pixelwise, arm: Arm) -> Measurement:
    """Nats of pictures of held-out faces; what a judge reads in drawings of all digits."""
    found, digits = splits(s.where, world.DIGITS, s.size), len(world.DIGITS)
    judge, telling = found.classifier(s.judging), TELLING.get(arm.name, "matched")
    batch = PlacedSource(world.GlyphSource(found.test, s.tested), telling).batch(0)
    with trained.evaluating() as network:
        cost = nats(network, to_device(batch, trained.learner.device)).double().cpu()
    asked = torch.arange(digits).repeat(s.asked)
    read = sample_metrics(drawn(trained, s, arm, asked), asked, judge)
    return Measurement(
        Proportion(int(read["correct"]), int(read["total"])),
        values={
            "nats": float(cost.mean()),  # per picture
            "nats_what": float(cost[batch.by_letter].mean()),
            "nats_where": float(cost[~batch.by_letter].mean()),
            "covered": read["mode_coverage"],
            "judge_on_real": float(judge.real_accuracy),
            "parameters": float(sum(p.numel() for p in trained.network.parameters())),
        },
    )


def draw(trained: Generative, s: Pixelwise, arm: Arm) -> Image.Image:
    """Rows of pictures, told the digit; below them rows told the place."""
    asked = torch.arange(TOLD).repeat_interleave(12)
    images = drawn(trained, s, arm, asked).view(TOLD, 12, 1, s.size, s.size)
    return sheet(images, [*world.DIGITS, *(f"place {place}" for place in range(PLACES))])


PLACED = "A bias by place helps here too: it knows where the ink of a digit lies."


def informed(name: str, values: int) -> Claim:
    """What the condition gains is no more than it carries, one of so many equally likely values."""

    def judge(results: Results) -> Verdict:
        both = pairs(results, "unconditional", "feature", name)
        return decide([without - given for without, given in both], high=math.log(values))

    sentence = f"`{name}` of `unconditional` is at most ln {values} = {math.log(values):.2f} nats"
    sentence += " above that of `feature`, as the condition carries no more."
    why = "The unconditional control is undertrained: see what the card cannot show."
    return Claim(sentence, judge, ("unconditional", "feature"), why, added=True)


SYSTEM = System(
    name="pixelcnn",
    title="Conditional gated PixelCNN: a bias at every gate, the same everywhere or by place",
    what="A gated PixelCNN on digits; the digit, or the place of a small one, shifts the input of "
    "every gate.",
    paper=Paper(
        citation="van den Oord et al. 2016: Conditional Image Generation with PixelCNN Decoders",
        url="https://arxiv.org/abs/1606.05328",
        where="eq. 4 and 5, figure 2",
        reports="ImageNet 32 x 32, unconditional (table 2): 3.83 bits a dimension; that classes "
        "change the likelihood little and the samples much (section 3.2)",
    ),
    world="Digits of Debian's typefaces in 16 x 16 pixels; other families are held out and judge.",
    licence="typefaces under the licences of their packages; only pictures of letters are used",
    presets={
        "tiny": Pixelwise(
            steps=30, where="bundled", channels=6, layers=3, map=4, tested=64, asked=1, judging=20
        ),
        "small": Pixelwise(steps=900),
        "paper": Pixelwise(
            steps=200_000, batch_size=128, size=32, channels=384, layers=20, map=32, rate=1e-3
        ),
    },
    arms=(
        Arm("feature", "the system: the same bias at all places (eq. 4)"),
        Arm("location", "the bias is a 1x1 convolution of a map of places (eq. 5)"),
        Arm("unconditional", "control: told the same of every picture"),
        Arm("shuffled", "control: told what is true of another picture"),
    ),
    build=PixelCNN,
    stepper=stepper,
    data=data,
    evaluate=evaluate,
    draw=draw,
    score="nats",
    better="lower",
    claims=(
        lower("feature", "unconditional", 0.97, "nats_what"),
        lower("feature", "unconditional", 0.97, "nats_where"),
        lower("location", "feature", 0.98, "nats_where"),
        lower("location", "feature", 1.01, "nats_what"),
        lower("feature", "location", 1.01, "nats_what", why=PLACED),
        lower("unconditional", "shuffled", 1.005, "nats"),
        at_least("feature", 0.6),
        above("feature", "shuffled", 40.0),
        informed("nats_what", 2 * len(world.DIGITS)),
        informed("nats_where", 2 * PLACES),
    ),
    departures=(
        "Binary pixels, not 256 values; at equal steps location takes twice the time.",
        "6 layers of 24 channels on 16 x 16 pixels, not 20 of 384 on 32 x 32.",
        "900 steps of 32 are a compromise: at twice as many nats get worse by overfitting, while "
        "samples get better.",
        "Preset paper has the paper's depth, width, image size, steps and batch, on digits.",
    ),
    limits=(
        "The condition is one of 20 (what) or 18 (where) equally likely values, worth ln 20 = 3.00 "
        "and ln 18 = 2.89 nats at most. Conditional arms gain more over unconditional: that "
        "control is undertrained, and gains over it are not the worth of the condition.",
    ),
    needs=NEEDS,
    versions=lambda s: render_versions(s.where),
    tested_on="nats: 1,024 images of 65 typefaces from 6 groups of related families. Samples: 200, "
    "20 of each digit; the classifier is trained on 83 typefaces from 15 other groups",
    caption="Twelve samples a row: of the digit at the left; below, of one of nine places.",
    measures={
        "nats": "of a picture of a held-out typeface",
        "nats_what": "of those told by their digit",
        "nats_where": "of those told by their place",
        "covered": "share of digits with a fifth of their fair share of what is read",
        "judge_on_real": "share of real digits that the judge reads",
        "parameters": "of the network",
    },
    band="21 nats, 25 when told nothing; 67 % of digits read as asked, 89 by place; chance is 10",
)
