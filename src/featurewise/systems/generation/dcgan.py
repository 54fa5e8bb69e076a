"""Conditional DCGAN. Mirza & Osindero 2014, eq. 2; Radford, Metz & Chintala 2016, section 4.

A generator draws a letter from noise and the letter's label; a discriminator, told the label too,
tells its pictures from those of typefaces. Both have the label, one-hot, concatenated to the input
of every layer. In a linear layer that is a bias that depends on the label (Dumoulin et al. 2018),
so arm ``bias`` shifts every output instead, in convolutions for k² times fewer weights.

    featurewise run dcgan --arms all --seeds 3
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import featurewise as fw
from featurewise.models.dcgan import Stages, discriminator, generator
from featurewise.study.claims import above, at_least, at_most, lower, within
from featurewise.study.results import Measurement, Proportion
from featurewise.study.system import Arm, Judged, Paper, System
from featurewise.training.source import Source
from featurewise.training.steppers import Adversarial, Metrics
from featurewise.worlds.glyphs import UPPERCASE
from featurewise.worlds.glyphs.gan import GanBatch, GanSource
from featurewise.worlds.glyphs.letter_data import letter_splits
from featurewise.worlds.glyphs.sheets import compare_with_real, sheet
from featurewise.worlds.glyphs.versions import NEEDS, render_versions

SAVED_AS = {"mode_coverage": "covered", "diversity": "spread", "real_accuracy": "real"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing(Judged):
    """Sizes."""

    letters: str = UPPERCASE
    batch_size: int = 64
    noise: int = 64
    hidden: int = 256
    channels: int = 32
    rate: float = 5e-4
    asked: int = 50


class Player(nn.Module):
    """The generator reads the noise of a batch, the discriminator its pictures; told the letter."""

    def __init__(self, stages: Stages, reads: str, labels: int, told: str) -> None:
        super().__init__()
        self.reads, self.labels, self.told = reads, labels, told
        self.stages: nn.Module = stages
        if told in ("bias", "film"):
            film = told == "film" and reads == "noise"
            self.stages = fw.condition(
                stages,
                at=(nn.BatchNorm1d, nn.BatchNorm2d) if film else "stages.*.layer",
                operation=fw.Affine() if film else fw.Shift(),
                generator=fw.Linear(labels),
            )

    def forward(self, batch: GanBatch) -> Tensor:
        """Pictures (B, 1, S, S), or logits (B,) of their being real."""
        x = getattr(batch, self.reads)
        label = (batch.letters[:, None] == torch.arange(self.labels, device=x.device)).to(x.dtype)
        if self.told == "nothing":
            return self.stages(x)  # type: ignore[no-any-return]
        if self.told == "concat":
            return self.stages(x, label)  # type: ignore[no-any-return]
        return self.stages(x, condition=label)  # type: ignore[no-any-return]


def build(s: Drawing, arm: Arm) -> nn.Module:
    """Both networks of an arm."""
    told = {"unconditional": "nothing", "shuffled": "concat"}.get(arm.name, arm.name)
    k = len(s.letters)
    one = k if told == "concat" else 0
    draws = generator(s.noise, s.hidden, s.channels, s.size, labels=one, affine=told != "film")
    tells = discriminator(s.hidden, s.channels, s.size, labels=one)
    players = {"generator": Player(draws, "noise", k, told)}
    return nn.ModuleDict({**players, "discriminator": Player(tells, "images", k, told)})


def discriminator_loss(g: nn.Module, d: nn.Module, batch: GanBatch) -> tuple[Tensor, Metrics]:
    """Real pictures are real, drawn ones are not (Goodfellow et al. 2014, eq. 1)."""
    drawn = replace(batch, images=g(batch).detach())
    return F.softplus(-d(batch)).mean() + F.softplus(d(drawn)).mean(), {}


def generator_loss(g: nn.Module, d: nn.Module, batch: GanBatch) -> tuple[Tensor, Metrics]:
    """Drawn pictures are to be taken for real: the loss that does not saturate (section 3)."""
    return F.softplus(-d(replace(batch, images=g(batch)))).mean(), {}


def stepper(network: nn.Module, s: Drawing, arm: Arm) -> Adversarial:
    """A step of Adam for the discriminator, then one for the generator."""
    players = network.get_submodule("generator"), network.get_submodule("discriminator")
    ours, theirs = (torch.optim.Adam(p.parameters(), s.rate, (0.5, 0.999)) for p in players)

    def sampler(draws: nn.Module, asked: GanBatch, lots: torch.Generator) -> Tensor:
        noise = torch.randn(asked.noise.shape, generator=lots, device=lots.device)
        return draws(replace(asked, noise=noise))  # type: ignore[no-any-return]

    return Adversarial(
        *players,
        generator_loss=generator_loss,
        discriminator_loss=discriminator_loss,
        optimizers=(ours, theirs),
        sampler=sampler,
        average=s.average,
    )


def data(s: Drawing, arm: Arm, seed: int) -> Source[GanBatch]:
    """Letters of the training faces."""
    faces = letter_splits(s.where, s.letters, s.size).train
    return GanSource(faces, s.batch_size, s.noise, seed, shuffled=arm.name == "shuffled")


def drawn(trained: Adversarial, s: Drawing, letters: Tensor) -> Tensor:
    """A picture of each letter."""
    count = len(letters)
    blank, noise = torch.zeros(count, 1, s.size, s.size), torch.zeros(count, s.noise)
    return trained.sample(GanBatch(blank, letters, noise)).float().cpu()


def evaluate(trained: Adversarial, s: Drawing, arm: Arm) -> Measurement:
    """What a judge that saw none of the typefaces reads in drawings of all letters."""
    known = letter_splits(s.where, s.letters, s.size)
    asked = torch.arange(len(s.letters)).repeat(s.asked)
    images = drawn(trained, s, asked)
    found = compare_with_real(images, asked, known.classifier(s.judging), known.train)
    size = sum(p.numel() for net in trained.networks.values() for p in net.parameters())
    accuracy = Proportion(int(found.pop("correct")), int(found.pop("total")))
    values = {SAVED_AS.get(name, name): value for name, value in found.items()}
    return Measurement(accuracy, values={**values, "parameters": float(size)})


def draw(trained: Adversarial, s: Drawing, arm: Arm) -> Image.Image:
    """A row for each letter."""
    asked = torch.arange(len(s.letters)).repeat_interleave(12)
    return sheet(drawn(trained, s, asked).view(-1, 12, 1, s.size, s.size), rows=s.letters)


SYSTEM = System(
    name="dcgan",
    title="Conditional DCGAN: a label by concatenation, and by bias",
    what=(
        "A generator and a discriminator of two convolutions and two linear maps each, on letters "
        "of typefaces; the label is concatenated to the input of every layer, or shifts its output."
    ),
    paper=Paper(
        citation="Radford, Metz, Chintala 2016: Unsupervised Representation Learning [...]. ICLR",
        url="https://arxiv.org/abs/1511.06434",
        where="section 4; told the label as Mirza and Osindero 2014 do, eq. 2",
        reports="MNIST, Parzen-window log-likelihood (Mirza and Osindero, table 1): conditional "
        "132 ± 1.8, unconditional 225 ± 2",
    ),
    world="Capital letters of Debian's typefaces in 16 x 16 pixels; other families for the judge.",
    licence="typefaces under the licences of their packages; only pictures of letters are used",
    presets={
        "tiny": Drawing(
            steps=30, where="bundled", letters="AHLO", noise=8, hidden=16, channels=4, judging=40
        ),
        "small": Drawing(steps=1000),
        "paper": Drawing(
            steps=100_000, batch_size=128, size=28, noise=100, hidden=1024, channels=64, rate=2e-4
        ),
    },
    arms=(
        Arm("concat", "the paper's: the label concatenated to the input of every layer"),
        Arm("bias", "the label shifts the output of every layer"),
        Arm("film", "the label scales and shifts the generator's norms; the discriminator as bias"),
        Arm("unconditional", "control: a plain GAN, told no label"),
        Arm("shuffled", "control: concat with labels dealt at random"),
    ),
    build=build,
    stepper=stepper,
    data=data,
    evaluate=evaluate,
    draw=draw,
    claims=(
        at_least("concat", 0.9),
        above("concat", "shuffled", 50.0, added=True),
        within(
            "bias",
            "concat",
            3.0,
            why="The arms differ in their weights, by a ninth, and in how fast Adam moves them "
            "(see the departures); which of both it is was not tried.",
        ),
        lower("bias", "concat", 0.9, "parameters"),
        at_most("shuffled", 0.1),
        within("shuffled", "unconditional", 3.0),
        at_least("concat", 0.99, "covered"),
        above(
            "concat",
            "unconditional",
            5.0,
            "covered",
            why="The unconditional GAN misses one letter of 26 at most.",
        ),
        at_least("concat", 0.6, "spread"),
    ),
    departures=(
        "Letters of typefaces, not MNIST; 1,000 steps of 64 pictures, channels 32 and 64, linear "
        "layers of 256 and z of 64 where the paper has 64 and 128, 1,024 and 100.",
        "Transposed convolutions are convolutions to four times the channels, shuffled (kernel 6).",
        "Shifts of arm bias start at zero and move by one weight, those of concat start at random "
        "and move by k² taps: the arms differ in how fast Adam moves them, too.",
        "Adam at 5e-4 instead of 2e-4, without weight decay, and torch's own initial weights; "
        "the average of the generator's weights (0.99) is what draws.",
        "Preset paper has the paper's widths, noise, batch and rate; letters, kernel and weight "
        "decay depart from it as above.",
    ),
    limits=(
        "The classifier's accuracy on real letters is 98.3 %, and on those of concat 96.9 %: there "
        "is hardly room above it, nor for mode coverage above an unconditional GAN's 97 %.",
    ),
    needs=NEEDS,
    versions=lambda s: render_versions(s.where),
    tested_on="1,300 samples, 50 of each letter; the classifier is trained on 72 typefaces from 7 "
    "groups of related families, the system on 159 from 12 other groups",
    caption="A row for each capital letter: twelve samples of it, each from its own noise.",
    measures={
        "covered": "share of letters that have a fifth of their fair share of what is read",
        "entropy": "of letters as read, 1 where all are as frequent",
        "confidence": "of the judge in what it reads, 0 to 1",
        "spread": "distance of drawings that are read as one letter, over that of real ones",
        "real": "share of real letters that the judge reads",
        "parameters": "of both networks",
    },
    band="above 90 % on the letter asked for; chance is 3.8 %",
)
