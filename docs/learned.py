"""Measure what a FiLM network learned, and write the page and its figures: ``make learned``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from urllib.parse import urlencode

import matplotlib.pyplot as plt
import torch
from figures import INK, ONE, SOFT, STYLE, TWO  # sets up matplotlib, too
from matplotlib.figure import Figure
from PIL import Image
from sklearn.manifold import TSNE

from featurewise.analysis import explained_by_feature, main_axes, neighbour_purity
from featurewise.cli import discovery
from featurewise.study.model import load_network
from featurewise.study.results import Proportion
from featurewise.study.run import read_run
from featurewise.systems.reasoning.film import FilmNetwork
from featurewise.systems.reasoning.film.learned import (
    CONTRASTS,
    Contrast,
    Interpolation,
    Localisation,
    contrast,
    interpolation,
    localisation,
    purities,
    with_noise,
    without_the_question,
)
from featurewise.systems.reasoning.film.probe import Probe, sample
from featurewise.systems.reasoning.film.sums import SumAccuracy, sum_accuracy, sums
from featurewise.worlds.clevr import QUESTION_TYPES, Scene
from featurewise.worlds.clevr.metrics import GROUPS

PAGE = Path(__file__).parent / "learned.md"
IMAGES = Path(__file__).parent / "images"
SEED = 77_000
"""Of scenes that no run is trained or tested on."""
LEVELS = (0.1, 0.25, 0.5, 1.0, 2.0)
COLORS = ("#1d6fb8", "#2b9a66", "#c2410c", "#7c3aed", "#b58900")


@dataclass(frozen=True)
class Measured:
    """All that the page reports."""

    probe: Probe
    place: Localisation
    contrasts: dict[str, Contrast]
    purity: dict[str, tuple[float, float]]
    projected: torch.Tensor
    path: Interpolation
    without: dict[tuple[str, str], Proportion]
    noise: dict[str, list[Proportion]]
    sums: SumAccuracy


def measure(probe: Probe, scenes: Sequence[Scene]) -> Measured:
    """Everything, in a minute or two."""
    points = TSNE(random_state=0, init="pca", perplexity=30).fit_transform(probe.tasks.flat.numpy())
    return Measured(
        probe,
        localisation(probe),
        {name: contrast(probe, *words) for name, words in CONTRASTS.items()},
        purities(probe),
        torch.from_numpy(points),
        interpolation(probe),
        without_the_question(probe),
        with_noise(probe, LEVELS),
        sum_accuracy(probe.network, probe.sample.images, sums(scenes)),
    )


def groups(types: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
    """Name of each group of question types, and which questions belong to it."""
    names = [name.replace("_", " ") for name in QUESTION_TYPES]
    found = []
    for group, members in GROUPS.items():
        numbers = torch.tensor([names.index(member) for member in members])
        found.append((group, torch.isin(types, numbers)))
    return found


# --- figures -------------------------------------------------------------------------------------


def histograms(measured: Measured) -> Figure:
    """γ and β of all questions, block by block."""
    table = measured.probe.table()
    figure, axes = plt.subplots(1, 2, figsize=(8, 2.8), layout="constrained")
    for axis, name in zip(axes, ("gamma", "beta"), strict=True):
        low, high = torch.quantile(getattr(table, name)[::7], torch.tensor([0.001, 0.999])).tolist()
        for site, color in zip(table.sites, COLORS, strict=False):
            values = getattr(table.at(site), name).numpy()
            axis.hist(values, 120, range=(low, high), histtype="step", color=color, label=site)
        axis.axvline(0, color=SOFT, lw=0.8)
        axis.set(xlabel="γ" if name == "gamma" else "β", yticks=[])
    axes[0].set_ylabel("questions × feature maps")
    axes[0].legend(fontsize=7)
    return figure


def scatters(measured: Measured) -> Figure:
    """γ and β of the feature maps that tell kinds of questions apart best."""
    probe = measured.probe
    texts = [question.text.lower().rstrip("?").split() for question in probe.sample.questions]
    figure, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
    for axis, (name, found) in zip(axes, measured.contrasts.items(), strict=True):
        part = probe.table().at(found.best.site)
        width = int(part.feature.max()) + 1
        gamma, beta = (v.view(-1, width)[:, found.best.feature] for v in (part.gamma, part.beta))
        for words, label, color in zip(CONTRASTS[name], name.split(" / "), (TWO, ONE), strict=True):
            other = CONTRASTS[name][0 if words is CONTRASTS[name][1] else 1]
            rows = torch.tensor(
                [any(w in t for w in words) and not any(w in t for w in other) for t in texts]
            )
            axis.plot(gamma[rows], beta[rows], ".", ms=3, alpha=0.5, color=color, label=label)
        axis.set(title=f"{found.best.site}, map {found.best.feature}", xlabel="γ")
        axis.legend(fontsize=7)
    axes[0].set_ylabel("β")
    return figure


def projection(measured: Measured) -> Figure:
    """t-SNE of γ and β, coloured by the type of question; purity by block."""
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(9, 3.8), layout="constrained", width_ratios=(2, 1)
    )
    for (name, rows), color in zip(groups(measured.probe.sample.types), COLORS, strict=True):
        points = measured.projected[rows]
        left.plot(points[:, 0], points[:, 1], ".", ms=3, alpha=0.6, color=color, label=name)
    left.set(xticks=[], yticks=[], title="t-SNE of γ and β of all blocks")
    left.legend(fontsize=7, markerscale=3)
    shares = {name: share for name, (share, _) in measured.purity.items()}
    right.barh(list(shares), list(shares.values()), color=TWO)
    right.axvline(measured.purity["all"][1], color=ONE, lw=1)
    right.text(measured.purity["all"][1], -0.65, " random", color=ONE, fontsize=7, va="bottom")
    right.set(xlim=(0, 1), xlabel="share of 10 neighbours of the same type")
    right.invert_yaxis()
    return figure


def interpolations(measured: Measured) -> Figure:
    """The expected number from one counting question to another, pair by pair and on average."""
    figure, axis = plt.subplots(figsize=(4.6, 3), layout="constrained")
    path = measured.path.numbers
    weights = torch.linspace(0, 1, path.shape[1])
    for each in path[:60]:
        axis.plot(weights, each, color=SOFT, lw=0.6)
    axis.plot(weights, path.mean(0), color=ONE, lw=2, label=f"mean of {len(path)} pairs")
    axis.set(xlabel="share of the second question in γ and β", ylabel="expected number")
    axis.legend(fontsize=8)
    return figure


def ablations(measured: Measured) -> Figure:
    """Accuracy where γ or β lose the question, and where noise is added to them."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
    full = 100 * measured.without["none", "all"].value
    sites = [site for parameter, site in measured.without if parameter == "gamma"]
    for shift, (parameter, color) in zip((-0.2, 0.2), (("gamma", ONE), ("beta", TWO)), strict=True):
        values = [100 * measured.without[parameter, site].value for site in sites]
        places = [index + shift for index in range(len(sites))]
        label = "γ" if parameter == "gamma" else "β"
        left.bar(places, values, 0.38, color=color, label=f"mean {label}")
        noisy = [full, *(100 * found.value for found in measured.noise[parameter])]
        right.plot([0, *LEVELS], noisy, "o-", color=color, label=f"noise on {label}")
    left.axhline(full, color=INK, lw=0.8)
    left.set_xticks(range(len(sites)), [site.removesuffix(".norm") for site in sites], fontsize=7)
    left.set(ylabel="accuracy (%)", ylim=(0, 100))
    right.set(xlabel="noise, in standard deviations of the parameter", ylim=(0, 100))
    left.legend(fontsize=7)
    right.legend(fontsize=7)
    return figure


FIGURES = {
    "learned_histograms": histograms,
    "learned_scatter": scatters,
    "learned_tsne": projection,
    "learned_interpolation": interpolations,
    "learned_ablations": ablations,
}

# --- page ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A measure, its published value, ours, and the bar that was set before it was measured."""

    what: str
    source: str
    published: str
    ours: str
    bar: str
    met: bool | None

    def cells(self) -> str:
        """The row of the table."""
        verdict = "–" if self.met is None else "yes" if self.met else "**no**"
        row = (self.what, self.source, self.published, self.ours, self.bar, verdict)
        return "| " + " | ".join(row) + " |"


def rows(measured: Measured) -> list[Row]:
    """The table: one row a measure."""
    probe, place, purity = measured.probe, measured.place, measured.purity
    table = probe.table()
    summary = table.summary()
    explained = explained_by_feature(table)
    last = table.sites[-1]
    gamma, beta = explained[last]
    axes = torch.cat([main_axes(table, site) for site in table.sites])
    quarters = torch.histc(axes, 4, 0, 180) / len(axes)
    points = neighbour_purity(measured.projected, probe.sample.types)
    full = measured.without["none", "all"].value
    loss = {
        parameter: 100 * (measured.without[parameter, "all"].value - full)
        for parameter in ("gamma", "beta")
    }
    sites = [site for site in purity if site != "all"]
    first, final = purity[sites[0]][0], purity[sites[-1]][0]
    found = [
        Row(
            "Maxima of the pooled features that lie on the queried objects",
            "Perez et al., figure 4",
            "shown, not counted",
            f"{place.share:.0%} of the maxima on {place.area:.1%} of the cells: "
            f"{place.ratio:.1f} × ({place.questions} questions)",
            "≥ 3 ×",
            place.ratio >= 3,
        ),
        Row(
            "Share of negative γ",
            "Perez et al., figure 5",
            "36 %; 35 % in Distill's data",
            f"{summary['gamma_negative']:.0%}, from {summary['gamma_min']:.0f} to "
            f"{summary['gamma_max']:.0f}",
            "20 to 50 %",
            0.2 <= summary["gamma_negative"] <= 0.5,
        ),
        Row(
            "Share of negative β",
            "Perez et al., figure 5",
            "76 %; 70 % in Distill's data",
            f"{summary['beta_negative']:.0%}, from {summary['beta_min']:.0f} to "
            f"{summary['beta_max']:.0f}",
            "–",
            None,
        ),
        Row(
            "Share of γ within 0.1 of 0",
            "Distill's data",
            "16 %",
            f"{summary['gamma_near_zero']:.0%}",
            "–",
            None,
        ),
        Row(
            f"Variance of γ and of β that the feature map explains, in `{last}`",
            "Distill, figure of γ and β",
            "67 % and 84 %",
            f"{gamma:.0%} and {beta:.0%}",
            "both ≥ 50 %",
            min(gamma, beta) >= 0.5,
        ),
        Row(
            "Main axes of the feature maps' scatters: share in each quarter of 0 to 180°",
            "Distill, figure of γ and β",
            "all directions",
            ", ".join(f"{float(share):.0%}" for share in quarters),
            "each ≥ 10 %",
            bool((quarters >= 0.1).all()),
        ),
    ]
    published = {
        "left / right": "–",
        "front / behind": "AUC .87 (map 26)",
        "rubber / metal": "AUC .91 (map 92)",
    }
    for name, each in measured.contrasts.items():
        best = each.best
        letter = "γ" if best.parameter == "gamma" else "β"
        one, other = each.questions
        found.append(
            Row(
                f"One feature map tells {name.replace(' / ', ' from ')}",
                "Distill, sub-clusters",
                published[name],
                f"AUC {best.auc:.2f} ({letter} of map {best.feature} in `{best.site}`; {one} and "
                f"{other} questions; p ≤ {each.probability:.3f} of a best map as good)",
                "AUC ≥ .85, p < .01",
                best.auc >= 0.85 and each.probability < 0.01,
            )
        )
    found += [
        Row(
            "Of 10 neighbours in t-SNE, share of the same type of question",
            "Distill, t-SNE",
            ".90; random .12",
            f"{points[0]:.2f}; random {points[1]:.2f}",
            "≥ 3 × random",
            points[0] >= 3 * points[1],
        ),
        Row(
            "The same in γ and β themselves, of the first and of the last block",
            "Perez et al., figure 6: early blocks group by low-level, late ones by high-level "
            "functions",
            "shown, not counted",
            f"{first:.2f} and {final:.2f}",
            "last > first",
            final > first,
        ),
        Row(
            "From one counting question to another: share of steps that do not lead back",
            "Distill, interpolation",
            "85 % (one pair)",
            f"{measured.path.monotone:.0%} of {measured.path.numbers.shape[1] - 1} steps each, "
            f"{len(measured.path.numbers)} pairs",
            "≥ 85 %",
            measured.path.monotone >= 0.85,
        ),
        Row(
            "Accuracy lost where γ, or β, is the mean over questions",
            "Perez et al., section 4.3",
            "65.4 and 1.0 points",
            f"{-loss['gamma']:.1f} and {-loss['beta']:.1f} points of {100 * full:.1f} %",
            "γ ≥ 10 × β",
            -loss["gamma"] >= 10 * max(0.0, -loss["beta"]),
        ),
        Row(
            "A + B − C: the answer is that of the question it should be, as in red things + blue "
            "cubes − blue things = red cubes",
            "Distill, task arithmetic",
            "shown, not counted",
            f"{percent(measured.sums.summed)} of {measured.sums.summed.total} sums; the question "
            f"itself {percent(measured.sums.direct)}; with a C of another color "
            f"{percent(measured.sums.unrelated)}; always the most frequent answer "
            f"{percent(measured.sums.constant)}",
            "–",
            None,
        ),
        Row(
            "The question itself is nearer to A + B − C than A, B and C are",
            "Distill, task arithmetic",
            "shown, not counted",
            f"{percent(measured.sums.nearest)} of the sums",
            "–",
            None,
        ),
    ]
    return found


def percent(share: Proportion) -> str:
    """A share in %."""
    return f"{100 * share.value:.0f}%"


HEAD = """\
# What FiLM learns

Written by `make learned`, which measures a trained FiLM network (preset `{preset}`, seed {seed})
on {questions:,} questions about {images} images that it was neither trained nor tested on. It is
one network: nothing here says how much other seeds differ.

The bars were set before this network was measured. "–" under *bar met* is a value without a bar.

| measure | source | published | ours | bar | bar met |
| --- | --- | --- | --- | --- | --- |
{table}

Published values are of the authors' networks, which were trained on CLEVR; those of Distill were
computed from the data of its figures. Ours is a smaller network, on images and questions of this
library, so that only directions are comparable.

"""

SECTIONS = {
    "learned_histograms": (
        "γ and β",
        "Values of γ (left) and β (right) over all questions and feature maps, one line a block. "
        "γ below 0 inverts a feature map, γ at 0 removes it.",
    ),
    "learned_scatter": (
        "What one feature map tells apart",
        "γ (across) and β (up) of one feature map each, the one that tells the two kinds of "
        "questions apart best; one dot a question that has a word of one kind and none of the "
        "other.",
    ),
    "learned_tsne": (
        "Questions that are alike",
        "Left: t-SNE of γ and β of all blocks, one dot a question, coloured by its type. Right: of "
        "each question's 10 nearest neighbours in γ and β of one block, the share that are of the "
        "same of 13 types.",
    ),
    "learned_interpolation": (
        "Between two questions",
        "γ and β go linearly from those of one counting question to those of another about the "
        "same image, which has a larger answer. Expected number under the network's probabilities "
        "of the numbers; grey: single pairs.",
    ),
    "learned_ablations": (
        "Without the question",
        "Left: accuracy where γ or β of one block, or of all, is replaced by its mean over "
        "questions; the line is the accuracy without a change. Right: accuracy where normal noise "
        "is added to γ or β of all blocks.",
    ),
}


def links(section: str, measured: Measured) -> list[str]:
    """Links to what the explorer shows of the shipped network, for a section of the page."""

    def link(text: str, **state: str | int) -> str:
        return f"[{text}](assets/film.html#{urlencode(state, safe=',')})"

    last = measured.probe.tasks.layout.names[-1]
    if section == "learned_histograms":
        return [
            link("γ against β of 16 feature maps, first block", view="parameters"),
            link(
                "the same of the last block",
                view="parameters",
                site=last,
            ),
            link("histograms and statistics of all blocks", view="training"),
        ]
    if section == "learned_scatter":
        return [
            link(
                f"{name}: map {found.best.feature} of {found.best.site}",
                view="parameters",
                mode="one",
                site=found.best.site,
                feature=found.best.feature,
                color="question",
                words=",".join(word for group in CONTRASTS[name] for word in group),
            )
            for name, found in measured.contrasts.items()
        ]
    if section == "learned_tsne":
        places = ("all blocks", "the first block", "the last block")
        return [
            link(f"t-SNE of {place}", view="projection", projection=number)
            for number, place in enumerate(places, start=1)
        ]
    if section == "learned_interpolation":
        return [
            link("six pairs of questions", view="interpolation"),
            link("A + B − C of questions", view="arithmetic"),
        ]
    return [link("answers with other γ and β of one feature map", view="feature")]


def main(arguments: Sequence[str]) -> int:
    """Measure the shipped network, or that of a run, and write the page."""
    found = discovery.find(arguments[0] if arguments else "film")
    network, config = load_network(found.folder, found.system)
    if not isinstance(network, FilmNetwork):
        print(f"{found.folder} holds no FiLM network, but {type(network).__name__}")
        return 2
    recipe = replace(config.curriculum[-1].recipe, seed=SEED, questions_per_image=12)
    shown = sample(recipe)
    scenes = recipe.scenes(0, len(shown.images))
    measured = measure(Probe(network, shown), scenes)
    run = read_run(found.folder)
    text = HEAD.format(
        preset=run.preset,
        seed=run.seed,
        questions=len(measured.probe.sample.questions),
        images=len(measured.probe.sample.images),
        table="\n".join(row.cells() for row in rows(measured)),
    )
    plt.rcParams.update(STYLE)
    for name, (title, caption) in SECTIONS.items():
        save(FIGURES[name](measured), IMAGES / f"{name}.png")
        text += f"## {title}\n\n![{title}](images/{name}.png)\n\n{caption}\n\n"
        text += f"In the explorer: {', '.join(links(name, measured))}.\n\n"
    PAGE.write_text(text.rstrip() + "\n", encoding="utf-8")
    print(f"written: {PAGE}")
    return 0


def save(figure: Figure, path: Path) -> None:
    """Save with few colours: these files are kept."""
    raw = BytesIO()
    figure.savefig(raw, format="png", dpi=110)
    plt.close(figure)
    Image.open(raw).convert("RGB").quantize(64).save(path, optimize=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
