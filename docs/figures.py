"""Make the figures and write the cards of the documentation: ``python docs/figures.py``."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Literal

import layer
import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from featurewise.cli import discovery, example
from featurewise.cli.explore import bundle_of
from featurewise.common.files import write_bytes
from featurewise.core import Affine, Gate, LowRank, Operation, RowColumn, Scale, Shift, film
from featurewise.explorer.overlay import heat
from featurewise.layers.concat import ConcatConv
from featurewise.study import catalogue
from featurewise.study.model import load_network
from featurewise.worlds.clevr.questions import QuestionGenerator
from featurewise.worlds.clevr.render import render
from featurewise.worlds.clevr.scene import Scene, sample_scenes

ASSETS = Path(__file__).parent / "assets"
KEPT = Path(__file__).parent / "images" / "answers.png"
INK, SOFT, ONE, TWO = "#1f2933", "#b8c4ce", "#c2410c", "#1d6fb8"
STYLE = {
    "font.size": 9,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.titlesize": 9,
    "figure.facecolor": "white",
}


def scene() -> Scene:
    """One scene that all figures share."""
    return sample_scenes(1, seed=11, min_objects=5, max_objects=6)[0]


# --- FiLM on features of an image ----------------------------------------------------------------

FEATURES = ("red", "green", "blue", "edges", "light")


def features(image: Tensor) -> Tensor:
    """Five features of an image ``(3, H, W)`` in 0..1, each with a maximum of one: (5, H, W).

    Three colour opponents, edge strength and lightness: written by hand, and similar to features
    in the first layers of a trained network.
    """
    red, green, blue = image
    light = image.mean(0)
    sobel = torch.tensor([[1.0, 2, 1], [0, 0, 0], [-1, -2, -1]])
    kernels = torch.stack([sobel, sobel.T])[:, None]
    slopes = F.conv2d(F.pad(light[None, None], (1, 1, 1, 1), mode="replicate"), kernels)
    maps = torch.stack(
        [
            red - torch.maximum(green, blue),
            green - torch.maximum(red, blue),
            blue - torch.maximum(red, green),
            slopes[0].norm(dim=0),
            light,
        ]
    ).relu()
    return maps / maps.amax((1, 2), keepdim=True)


#: Condition -> effective γ and β of the five features.
CONDITIONS = {
    "what is blue?": ((0.0, 0.0, 1.6, 0.0, 0.0), (0.0, 0.0, -0.1, 0.0, 0.0)),
    "what is red, and where are sharp edges?": (
        (1.2, 0.0, 0.0, 2.5, 0.0),
        (0.0, 0.0, 0.0, -0.8, 0),
    ),
    "what is dark?": ((0.0, 0.0, 0.0, 0.0, -4.0), (0.0, 0.0, 0.0, 0.0, 2.2)),
}


def film_on_an_image() -> Figure:
    """One image, five features, three conditions: γ selects, removes, inverts; β is a threshold."""
    image = render([scene()], width=240, height=160, samples=16).images[0] / 255
    x = features(image)
    figure, grid = plt.subplots(4, 6, figsize=(10, 5.6), layout="constrained")
    show_image(grid[0, 0], image, "the image")
    for axis, name, value in zip(grid[0, 1:], FEATURES, x, strict=True):
        show_map(axis, value, f"x: {name}", SOFT)
    for row, (question, (gamma, beta)) in zip(grid[1:], CONDITIONS.items(), strict=True):
        y = film(x[None], torch.tensor(gamma), torch.tensor(beta))[0].relu()
        found = y.sum(0).clamp(0, 1)
        show_image(row[0], image * (0.25 + 0.75 * found), wrapped(f"“{question}”", 24))
        for axis, value, g, b in zip(row[1:], y, gamma, beta, strict=True):
            shown = f"γ = {g:+.1f}" + (f",  β = {b:+.1f}" if b else "") if g else "γ = 0"
            show_map(axis, value, shown, ONE if g else SOFT)
    return figure


def show_image(axis: Axes, image: Tensor, title: str) -> None:
    """Plot an image ``(3, H, W)`` in 0..1."""
    axis.imshow(image.permute(1, 2, 0).clamp(0, 1).numpy(), interpolation="bilinear")
    bare(axis, title)


def show_map(axis: Axes, value: Tensor, title: str, frame: str) -> None:
    """Plot a feature map ``(H, W)``."""
    axis.imshow(value.numpy(), cmap="magma", vmin=0, vmax=1, interpolation="bilinear")
    bare(axis, title)
    axis.spines[:].set(color=frame, linewidth=1.5 if frame == ONE else 0.8)


def bare(axis: Axes, title: str) -> None:
    """Set the title and remove the ticks."""
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_title(title, fontsize=9)


# --- the spectrum of operations ------------------------------------------------------------------

SPECTRUM: dict[str, tuple[Operation, dict[str, list[float] | list[list[float]]]]] = {
    "Shift:  x + β": (Shift(), {"beta": [0.5, 0.25]}),
    "Scale:  γ x": (Scale(), {"gamma": [0.4, -0.5]}),
    "Gate:  2 σ(γ) x": (Gate(), {"gamma": [0.9, -1.6]}),
    "Affine (FiLM):  γ x + β": (Affine(), {"gamma": [0.4, -0.5], "beta": [0.5, 0.25]}),
    "LowRank:  x + U (E + V) x": (LowRank(), {"left": [[0.4], [-0.2]], "right": [[-0.3, 0.5]]}),
}


def spectrum() -> Figure:
    """The plane of two features under each operation, from a shift to a bilinear form."""
    figure, axes = plt.subplots(2, 3, figsize=(8, 5.4), layout="constrained")
    fine = torch.linspace(-1, 1, 61)
    lines = [torch.stack([fine, torch.full_like(fine, at)], 1) for at in torch.linspace(-1, 1, 9)]
    lines += [line.flip(1) for line in lines]
    for axis, (title, (operation, raw)) in zip(axes.flat, SPECTRUM.items(), strict=False):
        values = {name: torch.tensor(value) for name, value in raw.items()}
        for line in lines:
            axis.plot(*line.T, color=SOFT, lw=0.6)
            axis.plot(*operation(line, values).T, color=ONE, lw=0.8)
        frame_plane(axis, title)
    axis, angle = axes[1, 2], torch.linspace(0, 2 * torch.pi, 61)
    for line in lines:
        axis.plot(*line.T, color=SOFT, lw=0.6)
        # Positions along the line: each point has its own scale.
        gamma = 1 + 0.35 * torch.stack([torch.cos(angle), torch.sin(angle)])
        axis.plot(*film(line.T[None], gamma[None], None)[0], color=TWO, lw=0.8)
    frame_plane(axis, "Affine per position: γ(t) x")
    return figure


def frame_plane(axis: Axes, title: str) -> None:
    """Set up the axes of two features."""
    axis.set(xlim=(-1.7, 1.7), ylim=(-1.7, 1.7), aspect="equal")
    bare(axis, title)
    axis.set_xlabel("feature 1", fontsize=7)
    axis.set_ylabel("feature 2", fontsize=7)


# --- concatenation is a conditional bias ---------------------------------------------------------


def concatenation(padding_mode: Literal["zeros", "replicate"]) -> tuple[Tensor, Tensor]:
    """Outputs (H, W) of a convolution with a concatenated condition and with its shift."""
    torch.manual_seed(3)
    conv = ConcatConv(4, 6, 1, 3, padding="same", padding_mode=padding_mode)
    x, z = torch.randn(1, 4, 12, 12), 1.5 * torch.randn(1, 6)
    with torch.no_grad():
        whole = conv(x, z)
        shifted = Shift()(conv(x, torch.zeros_like(z)), {"beta": conv.conditional_bias(z)})
    return whole[0, 0], shifted[0, 0]


def concatenation_is_a_shift() -> Figure:
    """Both are equal except at the border, where zero padding replaces the condition."""
    figure, axes = plt.subplots(1, 4, figsize=(10, 2.7), layout="constrained")
    whole, shifted = concatenation("zeros")
    for axis, value, title in (
        (axes[0], whole, "conv([x; z]): concatenation"),
        (axes[1], shifted, "conv(x) + W z: a shift"),
    ):
        axis.imshow(value.numpy(), cmap="PuOr_r", vmin=-1.5, vmax=1.5)
        bare(axis, title)
    for axis, mode, (whole, shifted) in (
        (axes[2], "zeros", concatenation("zeros")),
        (axes[3], "replicate", concatenation("replicate")),
    ):
        gap = (whole - shifted).abs()
        axis.imshow(gap.numpy(), cmap="magma", vmin=0, vmax=1)
        inside = f"{gap[1:-1, 1:-1].max():.0e}"
        border = f"{torch.cat([gap[0], gap[-1], gap[:, 0], gap[:, -1]]).max():.1g}"
        bare(axis, f"difference, padding: {mode}\ninside ≤ {inside}, border ≤ {border}")
    return figure


# --- the CLEVR world -----------------------------------------------------------------------------


def clevr() -> Figure:
    """Images, masks of the visible objects, and questions with answers."""
    scenes = sample_scenes(2, seed=5, min_objects=5, max_objects=8)
    rendered = render(scenes, width=360, height=240, samples=16)
    generator = QuestionGenerator(seed=4)
    figure, grid = plt.subplots(
        2, 3, figsize=(9.5, 4.4), width_ratios=[1, 1, 1.1], layout="constrained"
    )
    for row, one, image, mask in zip(grid, scenes, rendered.images, rendered.masks, strict=True):
        show_image(row[0], image / 255, "rendering")
        row[1].imshow(
            torch.where(mask < 0, torch.nan, mask.float()).numpy(), cmap="tab10", vmin=0, vmax=9
        )
        bare(row[1], "mask: visible objects")
        short = [q for q in generator.generate(one, count=40) if len(q.text) < 80][:3]
        row[2].axis("off")
        text = "\n\n".join(f"{wrapped(q.text)}\n→ {q.answer}" for q in short)
        written = row[2].text(
            0, 1, text, va="top", fontsize=8.5, linespacing=1.25, transform=row[2].transAxes
        )
        # Otherwise the layout would shrink the images to make room for the text.
        written.set_in_layout(False)
    return figure


def wrapped(text: str, width: int = 46) -> str:
    """Break a question into lines."""
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


# --- row and column terms ------------------------------------------------------------------------


def row_and_column() -> Figure:
    """Each shape of parameters, applied to a map of features that are all one."""
    x = torch.ones(1, 1, 12, 18)
    h, w = torch.linspace(-1, 1, 12), torch.linspace(-1, 1, 18)
    zero = torch.zeros(1)
    row_column = {"gamma": zero, "beta": zero, "row": 0.6 * h, "column": -0.4 * w.abs()}
    spot = torch.exp(-3 * ((h[:, None] + 0.3) ** 2 + (w[None] - 0.4) ** 2))
    maps = {
        "(C,) or (B, C): the same at all positions": film(x, torch.tensor([0.6]), None),
        "RowColumn: H + W + 2C numbers": RowColumn()(x, row_column),
        "(B, C, H, W): one for each position": film(x, spot[None, None], None),
    }
    figure, axes = plt.subplots(1, 3, figsize=(9, 2.4), layout="constrained")
    for axis, (title, value) in zip(axes, maps.items(), strict=True):
        axis.imshow(value[0, 0].numpy(), cmap="magma", vmin=0, vmax=1.6)
        bare(axis, title)
    return figure


# --- answers -------------------------------------------------------------------------------------

#: Questions about the image of ``featurewise ask --example``, with different answers.
QUESTIONS = (
    "What color is the cube left of the large metal sphere?",
    "What color is the cube right of the large metal sphere?",
    "How many rubber things are the same size as the purple cylinder?",
)


def answers() -> Figure:
    """One image, three questions: the answers of the bundled model, with heat maps."""
    found = discovery.find("film")
    answerer = discovery.answerer(found.system)
    network, config = load_network(found.folder, found.system)
    shown = answerer.image(config, example.IMAGE)
    figure, axes = plt.subplots(1, 4, figsize=(12, 2.75), layout="constrained")
    axes[0].imshow(shown.original)
    bare(axes[0], "one image, three questions")
    for axis, question in zip(axes[1:], QUESTIONS, strict=True):
        answer = answerer.answer(network, shown.pixels, question)
        axis.imshow(heat(shown.original, answer.places.numpy(), shown.rows))
        text, probability = answer.ranked[0]
        bare(axis, wrapped(question, 42))
        axis.set_xlabel(f"{text}   {probability:.0%}", fontsize=11, color=ONE, weight="bold")
    return figure


def parameters() -> Figure:
    """γ and β of the bundled model for many questions, at its first and its last block."""
    found = discovery.find("film")
    answerer = discovery.answerer(found.system)
    network, config = load_network(found.folder, found.system)
    examples = answerer.examples(config, 7, 40)
    table = answerer.parameters(network, [text for each in examples for text, _ in each.questions])
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained", sharey=True)
    for axis, site in zip(axes, (table.sites[0], table.sites[-1]), strict=True):
        part = table.at(site)
        axis.plot(part.gamma, part.beta, ".", ms=1.5, alpha=0.25, color=TWO, rasterized=True)
        axis.axvline(0, color=SOFT, lw=0.8)
        axis.axhline(0, color=SOFT, lw=0.8)
        axis.plot(1, 0, "+", color=ONE, ms=12, mew=2, label="identity")
        axis.set(title=f"{site}: {len(part.gamma):,} pairs", xlabel="γ")
    axes[0].set_ylabel("β")
    axes[0].legend(loc="upper left", fontsize=8)
    return figure


def favicon() -> Figure:
    """Two sliders, for a scale and a shift."""
    figure, axis = plt.subplots(figsize=(0.4, 0.4))
    figure.subplots_adjust(0, 0, 1, 1)
    for at, knob, color in ((0.33, 0.7, ONE), (0.67, 0.35, TWO)):
        axis.plot([at, at], [0.12, 0.88], color=SOFT, lw=2.5, solid_capstyle="round")
        axis.plot(at, knob, "o", color=color, ms=8)
    axis.set(xlim=(0, 1), ylim=(0, 1))
    axis.axis("off")
    return figure


FIGURES: dict[str, Callable[[], Figure]] = {
    "film.png": film_on_an_image,
    "spectrum.png": spectrum,
    "concatenation.png": concatenation_is_a_shift,
    "positions.png": row_and_column,
    "clevr.png": clevr,
    "parameters.png": parameters,
    "favicon.png": favicon,
}


def main() -> None:
    """Write every figure into ``docs/assets``, every card and the catalogue."""
    ASSETS.mkdir(exist_ok=True)
    catalogue.save(discovery.published(), ASSETS.parent)
    with plt.rc_context(STYLE):
        for name, plot in FIGURES.items():
            figure = plot()
            figure.savefig(ASSETS / name, dpi=150)
            plt.close(figure)
        figure = answers()
        figure.savefig(content := BytesIO(), dpi=100)
    (page := ASSETS / "film.html").unlink(missing_ok=True)
    bundle_of("film")[0].export(page)
    write_bytes(ASSETS / "layer.html", layer.page().encode())
    # In the repository, for its front page.
    with Image.open(content) as image:
        shown = image.convert("RGB")
    shown = shown.quantize(palette=shown.quantize(256), dither=Image.Dither.FLOYDSTEINBERG)
    shown.save(KEPT, optimize=True)


if __name__ == "__main__":
    main()
