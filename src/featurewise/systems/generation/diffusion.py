"""FiLM in a diffusion model. Dhariwal & Nichol 2021, section 3; Ho & Salimans 2022, eq. 6.

A U-Net tells the noise in a noised picture of a digit. Time and digit, embedded and summed, scale
and shift the features after the second norm of each residual block: ``(1 + s) GroupNorm(h) + b``.
Now and then no digit is told, so that drawing may go beyond what telling it changes.

    featurewise run diffusion --arms all --seeds 3
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from PIL import Image
from torch import Tensor, nn

import featurewise as fw
from featurewise.generators import Generator
from featurewise.models.unet import TimeAndClass, UNet
from featurewise.study.claims import above, at_least, decide, lower, within
from featurewise.study.results import Measurement, Proportion, Results
from featurewise.study.system import Arm, Claim, Judged, Paper, System, Verdict
from featurewise.training.batch import to_device
from featurewise.training.diffusion import Denoiser, DiffusionBatch, DiffusionSource, noise_error
from featurewise.training.optim import cosine
from featurewise.training.source import Source
from featurewise.training.steppers import Generative, Sampler
from featurewise.worlds import glyphs as world
from featurewise.worlds.glyphs.letter_data import letter_splits
from featurewise.worlds.glyphs.sheets import diversity, sample_metrics, sheet
from featurewise.worlds.glyphs.versions import NEEDS, render_versions

UNTOLD = len(world.DIGITS)  # stands for a digit that is not told
WEIGHTS = (0.0, 1.0, 2.0, 4.0)  # of guidance; 0 tells no digit, 1 is without guidance


@dataclass(frozen=True, slots=True, kw_only=True)
class Denoising(Judged):
    """Sizes; the error is that of so many batches that are ``tested``."""

    widths: tuple[int, ...] = (16, 32, 32)
    embedding: int = 64
    times: int = 1000
    visited: int = 25
    drop: float = 0.15
    tested: int = 32


def build(s: Denoising, arm: Arm) -> nn.Module:
    """The network of an arm: time and digit at every block of the U-Net."""
    add = arm.name == "add"
    net = fw.condition(
        UNet(1, s.widths),
        at="**.first" if add else "**.second_norm",
        operation=fw.Shift() if add else fw.Affine(),
        generator=Generator(TimeAndClass(s.embedding, UNTOLD + 1), s.embedding),
    )
    return Denoiser(net, UNTOLD, s.times)


def sampler(s: Denoising, weight: float) -> Sampler:
    """Draws digits; a weight of 0 tells none, one of 1 is without guidance."""

    def draws(network: nn.Module, asked: DiffusionBatch, random: torch.Generator) -> Tensor:
        images: Tensor = cast(Denoiser, network).draw(asked, random, s.visited, weight)
        return (images + 1) / 2

    return draws


def stepper(network: nn.Module, s: Denoising, arm: Arm) -> Generative:
    """Adam, a falling rate, averaged weights."""
    return Generative(
        network,
        noise_error,
        torch.optim.Adam(network.parameters(), s.rate),
        sampler=sampler(s, 2.0),
        schedule=cosine(s.steps, warmup=s.steps // 20),
        clip=1.0,
        average=s.average,
    )


def noising(some: world.Glyphs, s: Denoising, arm: Arm, drop: float, seed: int) -> DiffusionSource:
    """Digits by lot, ink at 1 and paper at -1; as controls, none told, or those of others."""
    return DiffusionSource(
        world.GlyphSource(some, s.batch_size, seed),
        read=lambda batch: (2 * batch.images - 1, batch.letters),
        times=s.times,
        seed=seed,
        null_class=UNTOLD,
        drop=1.0 if arm.name == "unconditional" else drop,
        shuffled=arm.name == "shuffled",
    )


def data(s: Denoising, arm: Arm, seed: int) -> Source[DiffusionBatch]:
    """Digits of the training faces."""
    return noising(letter_splits(s.where, world.DIGITS, s.size).train, s, arm, s.drop, seed)


def drawn(trained: Generative, s: Denoising, arm: Arm, weight: float, each: int) -> Tensor:
    """So many of each digit, a digit after the other; the same noise for all weights."""
    digits = torch.arange(UNTOLD).repeat_interleave(each)
    blank = torch.zeros(len(digits), 1, s.size, s.size)
    asked = to_device(DiffusionBatch(blank, digits, digits, blank), trained.learner.device)
    weight = 0.0 if arm.name == "unconditional" else weight  # it learned no digit
    with trained.evaluating() as network:
        random = torch.Generator(trained.learner.device).manual_seed(0)
        return sampler(s, weight)(network, asked, random).cpu()


def evaluate(trained: Generative, s: Denoising, arm: Arm) -> Measurement:
    """The error of the noise on held-out faces; what a judge reads at each weight of guidance."""
    found = letter_splits(s.where, world.DIGITS, s.size)
    held_out, judge = noising(found.test, s, arm, 0.0, 0), found.classifier(s.judging)
    batches = [to_device(held_out.batch(i), trained.learner.device) for i in range(s.tested)]
    with trained.evaluating() as network:
        losses = [float(noise_error(network, batch)[0]) for batch in batches]
    values = {"loss": sum(losses) / len(losses), "judge_on_real": float(judge.real_accuracy)}
    true, right = torch.arange(UNTOLD).repeat(len(found.train.typefaces)), {}
    variety = diversity(world.as_ink(found.train.images.flatten(0, 1)), true)
    asked = torch.arange(UNTOLD).repeat_interleave(s.asked)
    for weight in WEIGHTS:
        images = drawn(trained, s, arm, weight, s.asked)
        read = sample_metrics(images, asked, judge)
        right[f"weight {weight:g}"] = Proportion(int(read["correct"]), int(read["total"]))
        values[f"spread at {weight:g}"] = diversity(images, asked) / variety
    return Measurement(right["weight 2"], right, values)


def draw(trained: Generative, s: Denoising, arm: Arm) -> Image.Image:
    """A row for each digit: ten at a weight of 1, and the same noise at 4."""
    one, four = (drawn(trained, s, arm, w, 10).view(-1, 10, 1, s.size, s.size) for w in (1.0, 4.0))
    return sheet(torch.cat((one, torch.zeros_like(one[:, :1]), four), dim=1), world.DIGITS)


def gain(one: str, other: str, points: float) -> Claim:
    """Guidance at one weight is worth so many points over that at another."""

    def judge(results: Results) -> Verdict:
        trials = [trial.measured.number for trial in results.of("scale_shift")]
        return decide([100 * (number(one) - number(other)) for number in trials], low=points)

    sentence = f"`scale_shift` is read {points:g} points better at `{one}` than `{other}`."
    return Claim(sentence, judge, ("scale_shift",))


SYSTEM = System(
    name="diffusion",
    title="FiLM in a diffusion model: scale and shift after the norms of a U-Net, with guidance",
    what="A U-Net takes noise out of digits; time and digit scale and shift each second norm.",
    paper=Paper(
        citation="Dhariwal, Nichol 2021: Diffusion Models Beat GANs on Image Synthesis. NeurIPS",
        url="https://arxiv.org/abs/2105.05233",
        where="section 3; guidance: Ho & Salimans 2022, eq. 6",
        reports="ImageNet, FID (table 3 of the preprint): adaptive group norm 13.06, addition and "
        "group norm 15.08",
    ),
    world="Digits of Debian's typefaces in 16 x 16 pixels; other families are held out and judge.",
    licence="typefaces under the licences of their packages; only pictures of letters are used",
    presets={
        "tiny": Denoising(
            steps=40, where="bundled", widths=(8, 16), visited=4, tested=2, asked=2, judging=20
        ),
        "small": Denoising(steps=900),
        "paper": Denoising(steps=500_000, size=64, widths=(192, 384, 576, 768), embedding=768),
    },
    arms=(
        Arm("scale_shift", "the system: (1 + s) GroupNorm(h) + b"),
        Arm("add", "time and digit are added to the features before that norm"),
        Arm("unconditional", "control: no digit is ever told, the time is"),
        Arm("shuffled", "control: the digit of another picture"),
    ),
    build=build,
    stepper=stepper,
    data=data,
    evaluate=evaluate,
    draw=draw,
    claims=(
        lower(
            "scale_shift",
            "add",
            0.98,
            "loss",
            why="The loss is 1.9 % lower, and the bar lies at 2 %.",
        ),
        above(
            "scale_shift",
            "add",
            2.0,
            why="Both are near 98 % at a guidance of 2, which leaves hardly 2 points.",
        ),
        gain("weight 2", "weight 1", 5.0),
        at_least("scale_shift", 0.85),
        above("scale_shift", "unconditional", 50.0, added=True),
        above("scale_shift", "shuffled", 50.0, added=True),
        within("shuffled", "unconditional", 5.0),
    ),
    departures=(
        "Digits of 16 x 16 pixels, 0.3 million weights, 900 steps of 32; no attention, no dropout.",
        "The noise alone is predicted, on a cosine schedule; drawn by DDIM in 25 steps.",
        "Arm add, at equal time, has fewer weights: one number for each feature instead of two.",
        "The weight of guidance is that of the conditional prediction in ε0 + w (ε1 - ε0): it is "
        "the w of Ho & Salimans plus 1, so that 1 is no guidance.",
        "Preset paper has the paper's widths at 64 x 64 pixels; one block a level instead of "
        "three, batches of 32, no attention, and digits.",
    ),
    limits=(
        "At a guidance of 2 the accuracy of both arms is near 98 %: the classifier cannot "
        "distinguish them.",
    ),
    needs=NEEDS,
    versions=lambda s: render_versions(s.where),
    tested_on="loss: 1,024 images of 65 typefaces from 6 groups of related families. Samples: 200, "
    "20 of each digit; the classifier is trained on 83 typefaces from 15 other groups",
    caption="A row for each digit: ten samples at a guidance weight of 1, a gap, and samples from "
    "the same ten noises at 4.",
    measures={
        "loss": "squared error of the noise, held-out faces",
        "judge_on_real": "share of real digits that the judge reads",
        **{f"weight {w:g}": f"digits read as asked, at a guidance of {w:g}" for w in WEIGHTS},
        **{f"spread at {w:g}": "distance of drawings of a digit, over real ones'" for w in WEIGHTS},
    },
    band="98 % of digits as asked at a guidance of 2, 89 % without; chance is 10 %",
)
