"""Conditional DCGAN. Mirza & Osindero 2014, eq. 2; Radford, Metz & Chintala 2016, section 4.

A generator draws a letter from noise and the letter's label; a discriminator, told the label too,
tells its pictures from those of typefaces. Both have the label, one-hot, concatenated to the input
of every layer. In a linear layer that is a bias that depends on the label (Dumoulin et al. 2018),
so arm ``bias`` shifts the output of every layer instead, for k² times fewer weights.

    featurewise run dcgan --arms all --seeds 3
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from PIL import Image
from torch import Tensor, nn

import featurewise as fw
from featurewise.lab.claims import above, at_least, at_most, lower, within
from featurewise.lab.record import Arm, Paper, Settings, System
from featurewise.lab.results import Measurement, Proportion
from featurewise.lab.source import Source
from featurewise.lab.steppers import Adversarial, Metrics
from featurewise.layers.dcgan import Stages, discriminator, generator
from featurewise.worlds import glyphs as world
from featurewise.worlds.glyphs.sheets import compare, sheet
from featurewise.worlds.glyphs.source import generator as random


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing(Settings):
    """Sizes.

    Attributes:
        where: which typefaces, see `find_typefaces`.
        letters: the classes.
        size: height and width of a picture, a multiple of 4.
        batch_size: pictures of a step, real and drawn each.
        noise: width of z.
        hidden: width of the fully connected layers.
        channels: of the widest picture in the generator, the first in the discriminator.
        rate: learning rate of Adam.
        average: decay of the average of the generator's weights.
        asked: drawings of each letter that are graded.
        judging: steps that the judge is trained for.
    """

    where: str
    letters: str = world.UPPERCASE
    size: int = 16
    batch_size: int = 64
    noise: int = 64
    hidden: int = 256
    channels: int = 32
    rate: float = 5e-4
    average: float = 0.99
    asked: int = 50
    judging: int = 900


@dataclass(frozen=True)
class Drawn:
    """Pictures, the letters that the networks are told, and noise to draw others from."""

    images: Float[Tensor, "B 1 S S"]
    letters: Int64[Tensor, " B"]
    noise: Float[Tensor, "B Z"]


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

    def forward(self, batch: Drawn) -> Tensor:
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


def discriminator_loss(g: nn.Module, d: nn.Module, batch: Drawn) -> tuple[Tensor, Metrics]:
    """Real pictures are real, drawn ones are not (Goodfellow et al. 2014, eq. 1)."""
    drawn = replace(batch, images=g(batch).detach())
    return F.softplus(-d(batch)).mean() + F.softplus(d(drawn)).mean(), {}


def generator_loss(g: nn.Module, d: nn.Module, batch: Drawn) -> tuple[Tensor, Metrics]:
    """Drawn pictures are to be taken for real: the loss that does not saturate (section 3)."""
    return F.softplus(-d(replace(batch, images=g(batch)))).mean(), {}


def stepper(network: nn.Module, s: Drawing, arm: Arm) -> Adversarial:
    """A step of Adam for the discriminator, then one for the generator."""
    players = network.get_submodule("generator"), network.get_submodule("discriminator")
    ours, theirs = (torch.optim.Adam(p.parameters(), s.rate, (0.5, 0.999)) for p in players)

    def sampler(draws: nn.Module, letters: Tensor, lots: torch.Generator) -> Tensor:
        noise = torch.randn(len(letters), s.noise, generator=lots, device=lots.device)
        return draws(Drawn(noise, letters, noise))  # type: ignore[no-any-return]

    return Adversarial(
        *players,
        generator_loss=generator_loss,
        discriminator_loss=discriminator_loss,
        optimizers=(ours, theirs),
        sampler=sampler,
        average=s.average,
    )


@dataclass(frozen=True)
class Drawings:
    """Letters of typefaces with noise; as a control, the labels of a batch are dealt anew."""

    source: world.GlyphSource
    noise: int
    shuffled: bool

    def batch(self, index: int, /) -> Drawn:
        """The batch of this index."""
        found = self.source.batch(index)
        lots = random(~self.source.seed, index)  # not those that the letters are drawn by
        noise = torch.randn(len(found.letters), self.noise, generator=lots)
        dealt = torch.randperm(len(found.letters), generator=lots)
        letters = found.letters[dealt] if self.shuffled else found.letters
        return Drawn(found.images, letters, noise)


@lru_cache(maxsize=4)
def real(s: Drawing) -> world.Glyphs:
    """The letters to learn from: those of the typefaces that neither judge nor test uses."""
    split = world.split_typefaces(world.find_typefaces(s.where, s.letters))
    return world.glyphs(split.train, s.letters, s.size)


def data(s: Drawing, arm: Arm, seed: int) -> Source[Drawn]:
    """Letters and faces by lot."""
    source = world.GlyphSource(real(s), s.batch_size, seed)
    return Drawings(source, s.noise, arm.name == "shuffled")


def evaluate(trained: Adversarial, s: Drawing, arm: Arm) -> Measurement:
    """What a judge that saw none of the typefaces reads in drawings of all letters."""
    judge = world.judge(s.where, s.letters, s.size, training=world.Training(steps=s.judging))
    asked = torch.arange(len(s.letters)).repeat(s.asked)
    found = compare(trained.sample(asked).float().cpu(), asked, judge, real(s))
    size = sum(p.numel() for net in trained.networks.values() for p in net.parameters())
    accuracy = Proportion(int(found.pop("correct")), int(found.pop("total")))
    return Measurement(accuracy, values={**found, "parameters": float(size)})


def draw(trained: Adversarial, s: Drawing, arm: Arm) -> Image.Image:
    """A row for each letter."""
    asked = torch.arange(len(s.letters)).repeat_interleave(12)
    images = trained.sample(asked).cpu()
    return sheet(images.view(-1, 12, *images.shape[1:]), rows=s.letters)


SYSTEM = System(
    name="dcgan",
    title="Conditional DCGAN: a label by concatenation, and by bias",
    what=(
        "A generator and a discriminator of two convolutions and two linear maps each, on letters "
        "of typefaces; the label is concatenated to the input of every layer, or shifts its output."
    ),
    paper=Paper(
        citation=(
            "Mirza, Osindero 2014: Conditional Generative Adversarial Nets; Radford, Metz, "
            "Chintala 2016: Unsupervised Representation Learning with Deep Convolutional "
            "Generative Adversarial Networks. ICLR"
        ),
        url="https://arxiv.org/abs/1511.06434",
        where="section 4; Mirza and Osindero, eq. 2",
    ),
    world="Capital letters of Debian's typefaces in 16 x 16 pixels; other families for the judge.",
    licence="typefaces under the licences of their packages; only pictures of letters are used",
    presets={
        "tiny": Drawing(
            steps=30,
            where="bundled",
            letters="AHLO",
            batch_size=16,
            noise=8,
            hidden=16,
            channels=4,
            average=0.9,
            asked=8,
            judging=40,
        ),
        "small": Drawing(steps=800, where="debian"),
        "paper": Drawing(
            steps=100_000,
            where="debian",
            size=28,
            batch_size=128,
            noise=100,
            hidden=1024,
            channels=64,
            rate=2e-4,
            average=0.999,
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
        within("bias", "concat", 3.0),
        lower("bias", "concat", 0.9, "parameters"),
        at_most("shuffled", 0.1),
        within("shuffled", "unconditional", 3.0),
        at_least("concat", 0.99, "covered"),
        above("concat", "unconditional", 5.0, "covered"),
        at_least("concat", 0.6, "spread"),
    ),
    departures=(
        "Letters of typefaces, not MNIST; 800 steps of 64 pictures, channels 32 and 64, linear "
        "layers of 256 and z of 64 where the paper has 64 and 128, 1,024 and 100.",
        "Transposed convolutions are convolutions to four times the channels, shuffled (kernel 6).",
        "Adam at 5e-4 instead of 2e-4, without weight decay, and torch's own initial weights; "
        "the average of the generator's weights (0.99) is what draws.",
    ),
    band="above 90 % on the letter asked for; chance is 3.8 %",
    cost={"small": "50 seconds an arm on 1 CPU core", "paper": "one GPU; never run"},
)
