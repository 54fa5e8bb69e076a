"""Style and content of letters. Tenenbaum & Freeman 2000, eq. 1 and 3, sections 3.2 to 5.

An observation has a style s and a content c. The asymmetric model is a matrix for each style and a
vector for each content, the symmetric model a vector for both::

    y = A_s b_c                    (eq. 3)
    y_k = a_s^T W_k b_c            (eq. 1)

Here a style is a typeface and a content a letter. Both models are fitted in closed form, by
singular value decomposition. Of a typeface that is not in the training data two letters in three
are given: its matrix follows by least squares, and the model predicts the others. Without labels,
its letters are classified by expectation-maximisation (EM) over a mixture of contents.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from jaxtyping import Float, Int64
from PIL import Image
from torch import Tensor, nn

from featurewise.study import system
from featurewise.study.claims import Claim, Statement, above, at_most_ratio
from featurewise.study.metric import Metric
from featurewise.study.results import Measurement, Proportion
from featurewise.study.system import Arm, Paper, System
from featurewise.training.source import Source
from featurewise.training.steppers import ClosedForm, Metrics
from featurewise.worlds.glyphs import LETTERS
from featurewise.worlds.glyphs.facts import STYLES
from featurewise.worlds.glyphs.letter_data import LetterData, letter_splits
from featurewise.worlds.glyphs.sheets import sheet
from featurewise.worlds.glyphs.styles import Styles, StyleSource, styles
from featurewise.worlds.glyphs.versions import render_versions

# --- method ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(system.Config):
    """One model, its fit and its evaluation.

    Attributes:
        model: "asymmetric" (eq. 3), "symmetric" (eq. 1), or a baseline without factors, see
            `Baseline`.
        shuffled_condition: whether each given letter is of another typeface, as a control.
        typefaces: which ones, as `featurewise.worlds.glyphs.find_typefaces` takes it.
        letters: the letters.
        image_size: height and width of an image, in pixels.
        training_typefaces: number of typefaces that the model is fitted to.
        rank: J, length of the content vectors.
        style_rank: I, length of the style vectors of the symmetric model.
        ridge: see `Asymmetric`.
        blend: see `Asymmetric`; the ``ridge`` of `Symmetric`.
        deviation: standard deviation of a pixel around its prediction, in EM.
        rounds: of EM.
        classifier_steps: training steps of the evaluation classifier.
    """

    FORMER_NAMES: ClassVar = {
        "where": "typefaces",
        "size": "image_size",
        "faces": "training_typefaces",
        "judging": "classifier_steps",
    }

    model: Literal["asymmetric", "symmetric", "additive", "nearest", "mean"] = "asymmetric"
    shuffled_condition: bool = False
    typefaces: str = "debian"
    letters: str = LETTERS
    image_size: int = 24
    training_typefaces: int = 120
    rank: int = 40
    style_rank: int = 64
    ridge: float = 1.0
    blend: float = 0.01
    deviation: float = 0.05
    rounds: int = 10
    classifier_steps: int = 900

    @property
    def splits(self) -> LetterData:
        """The letters."""
        return letter_splits(self.typefaces, self.letters, self.image_size)


ContentModel: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(means of the observed contents (F, L, P), counts (F, L)) -> all contents (F, L, P)."""


class Asymmetric(nn.Module):
    """``y = A^s b^c``: a matrix for each style, a vector for each content (eq. 3).

    Fitted by a singular value decomposition of the stacked styles (section 3.2). The matrix of a
    new style is a ridge regression whose prior is the best linear combination of the known styles.

    Args:
        styles: number of styles S that it is fitted to.
        contents: number of contents L.
        values: number of values P of an observation.
        rank: J, length of the content vectors, at most L.
        ridge: strength of the penalty on the distance of a new style from its prior.
        blend: strength of the penalty on the distance of the prior from the mean of all styles,
            relative to the mean square of the contents.
    """

    basis: Tensor
    matrices: Tensor

    def __init__(
        self, styles: int, contents: int, values: int, rank: int, ridge: float, blend: float
    ) -> None:
        super().__init__()
        self.ridge, self.blend = ridge, blend
        self.register_buffer("basis", torch.zeros(contents, rank))
        self.register_buffer("matrices", torch.zeros(styles, rank, values))

    def fit(self, observed: Float[Tensor, "S L P"]) -> None:
        """Fit the content vectors, as orthonormal columns, and the style matrices."""
        self.basis.copy_(
            leading_eigenvectors(torch.einsum("slp,smp->lm", observed, observed), self.basis)
        )
        self.matrices.copy_(self.basis.mT @ observed)

    def forward(
        self, means: Float[Tensor, "F L P"], counts: Float[Tensor, "F L"]
    ) -> Float[Tensor, "F L P"]:
        """All contents of new styles, from the means and the counts of their observed contents."""
        weights = blend_weights(self.basis @ self.matrices, means, counts, self.blend)
        prior = torch.einsum("fs,sjp->fjp", weights, self.matrices)
        weighted = counts[..., None] * self.basis
        eye = torch.eye(self.basis.shape[1], dtype=means.dtype, device=means.device)
        gram = weighted.mT @ self.basis + self.ridge * eye
        change = torch.linalg.solve(gram, weighted.mT @ (means - self.basis @ prior))
        predicted: Tensor = self.basis @ (prior + change)
        return predicted


class Symmetric(nn.Module):
    """``y_k = aᵀ W_k b``: a vector for each style and for each content (eq. 1).

    Fitted by alternating singular value decompositions (section 3.2). The vector of a new style is
    a ridge regression whose prior is the mean of the known vectors.

    Args:
        styles: number of styles S that it is fitted to.
        contents: number of contents L.
        values: number of values P of an observation.
        style_rank: I, length of the style vectors, at most S.
        rank: J, length of the content vectors, at most L.
        ridge: strength of the penalty on the distance of a new style from the mean style, relative
            to the mean square of the contents.
        rounds: number of alternations.
    """

    style: Tensor
    basis: Tensor
    core: Tensor

    def __init__(
        self,
        styles: int,
        contents: int,
        values: int,
        style_rank: int,
        rank: int,
        ridge: float,
        rounds: int = 5,
    ) -> None:
        super().__init__()
        self.ridge, self.rounds = ridge, rounds
        self.register_buffer("style", torch.zeros(styles, style_rank))
        self.register_buffer("basis", torch.zeros(contents, rank))
        self.register_buffer("core", torch.zeros(style_rank, rank, values))

    def fit(self, observed: Float[Tensor, "S L P"]) -> None:
        """Fit both sets of vectors, as orthonormal columns, and W."""
        self.basis.copy_(
            leading_eigenvectors(torch.einsum("slp,smp->lm", observed, observed), self.basis)
        )
        for _ in range(self.rounds):
            by_style = (self.basis.mT @ observed).flatten(1)
            self.style.copy_(leading_eigenvectors(by_style @ by_style.mT, self.style))
            reduced = torch.einsum("si,slp->ilp", self.style, observed)
            self.basis.copy_(
                leading_eigenvectors(torch.einsum("ilp,imp->lm", reduced, reduced), self.basis)
            )
        self.core.copy_(self.basis.mT @ torch.einsum("si,slp->ilp", self.style, observed))

    def forward(
        self, means: Float[Tensor, "F L P"], counts: Float[Tensor, "F L"]
    ) -> Float[Tensor, "F L P"]:
        """All contents of new styles, from the means and the counts of their observed contents."""
        parts = self.basis @ self.core
        vectors = blend_weights(parts, means, counts, self.ridge, self.style.mean(0))
        return torch.einsum("fi,ilp->flp", vectors, parts)


def blend_weights(
    parts: Float[Tensor, "S L P"],
    target: Float[Tensor, "F L P"],
    counts: Float[Tensor, "F L"],
    ridge: float,
    prior: Float[Tensor, " S"] | None = None,
) -> Float[Tensor, "F S"]:
    """Weights of the linear combination of parts that is nearest to a target: ridge regression.

    Args:
        parts: what is combined.
        target: what the combination approximates.
        counts: weight of each content in the squared error.
        ridge: strength of the penalty on the distance from ``prior``, relative to the mean square
            of the parts.
        prior: weights without observations; default: 1 / S each.
    """
    size = len(parts)
    products = (parts.transpose(0, 1) @ parts.permute(1, 2, 0)).flatten(1)
    gram = (counts @ products).view(-1, size, size)
    # Scaled by all contents, so that the result without observations is the prior.
    penalty = ridge * products.sum(0).view(size, size).diagonal().mean() + 1e-12
    right = (counts[..., None] * target).flatten(1) @ parts.flatten(1).mT
    if prior is None:
        prior = parts.new_full((size,), 1 / size)
    eye = torch.eye(size, dtype=parts.dtype, device=parts.device)
    weights: Tensor = torch.linalg.solve(gram + penalty * eye, right + penalty * prior)
    return weights


def leading_eigenvectors(
    gram: Float[Tensor, "N N"], like: Float[Tensor, "N K"]
) -> Float[Tensor, "N K"]:
    """Eigenvectors of the K largest eigenvalues, signed so that each has a positive sum."""
    vectors = torch.linalg.eigh(gram.double())[1].flip(1)[:, : like.shape[1]]
    signs = torch.where(vectors.sum(0) < 0, -1.0, 1.0)
    found: Tensor = (vectors * signs).to(like.dtype)
    return found


def classify_contents(
    model: ContentModel,
    observations: Float[Tensor, "F N P"],
    contents: int,
    std: float,
    rounds: int,
) -> Float[Tensor, "F N L"]:
    """Classify the contents of unlabelled observations of new styles (section 4).

    Expectation-maximisation of a mixture over the contents: each is a normal distribution around
    the prediction of ``model``, all with the same standard deviation. The first round uses the
    prediction without any observation, which is the mean style.

    Args:
        model: a fitted model.
        observations: N observations of each of F styles, their contents unknown.
        contents: number of contents L.
        std: standard deviation of an observation around its mean, for each of the P values.
        rounds: number of rounds; with 1 the model does not adapt to the style.

    Returns:
        Probabilities of the contents, for each observation.
    """
    styles, size, values = observations.shape
    means = observations.new_zeros(styles, contents, values)
    counts = observations.new_zeros(styles, contents)
    probabilities = observations.new_zeros(styles, size, contents)
    for _ in range(rounds):
        squares = torch.cdist(observations, model(means, counts)).square()
        probabilities = (-squares / (2 * values * std**2)).softmax(-1)
        counts = probabilities.sum(1)
        means = (probabilities.mT @ observations) / counts[..., None].clamp(min=1e-6)
    return probabilities


class StyleModel(nn.Module):
    """A model of style and content that is given a batch: only the letters that are shown."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        sizes = config.training_typefaces, len(config.letters), config.image_size**2
        self.model: nn.Module
        if config.model == "asymmetric":
            self.model = Asymmetric(*sizes, config.rank, config.ridge, config.blend)
        elif config.model == "symmetric":
            self.model = Symmetric(*sizes, config.style_rank, config.rank, config.blend)
        else:
            self.model = Baseline(config.model, *sizes)

    def forward(self, batch: Styles) -> Float[Tensor, "F L P"]:
        """All letters, also those that are not shown."""
        return self.model(batch.letters * batch.shown[..., None], batch.shown)  # type: ignore[no-any-return]


def solve(network: nn.Module, batch: Styles) -> Metrics:
    """Fits all letters of the typefaces; measures the error of the fit."""
    model: Any = network.get_submodule("model")
    model.fit(batch.letters)
    return {"error": (network(batch) - batch.letters).square().mean().sqrt()}


def stepper(network: nn.Module, config: Config) -> ClosedForm:
    """One step fits the model."""
    return ClosedForm(network, solve)


def data(config: Config, seed: int) -> Source[Styles]:
    """Training typefaces, all letters shown."""
    return StyleSource(config.splits.train, config.training_typefaces, seed)


# --- experiment -----------------------------------------------------------------------------

ERROR = Metric(
    "error",
    "root mean squared difference of a hidden letter from the true one, of ink from 0 to 1, "
    "averaged over letters",
    better="lower",
)
UNLABELLED = Metric(
    "unlabelled accuracy",
    "share of the letters of test typefaces that are classified correctly, no letter of the "
    "typeface being labelled",
    "%",
    "higher",
)
LEGIBILITY = Metric(
    "legibility",
    "share of predicted hidden letters that the evaluation classifier classifies correctly; the "
    "mean letter is the most legible, whatever the typeface",
    "%",
    "higher",
)


class Baseline(nn.Module):
    """Baselines without factors, computed from the known styles directly.

    Args:
        kind: ``additive`` for mean content plus an offset of the style, ``nearest`` for the known
            style whose contents are nearest to the observed ones, ``mean`` for the mean contents.
        styles: number of styles S that it is fitted to.
        contents: number of contents L.
        values: number of values P of an observation.
    """

    known: Tensor

    def __init__(self, kind: str, styles: int, contents: int, values: int) -> None:
        super().__init__()
        self.kind = kind
        self.register_buffer("known", torch.zeros(styles, contents, values))

    def fit(self, observed: Float[Tensor, "S L P"]) -> None:
        """Store the observations."""
        self.known.copy_(observed)

    def forward(
        self, means: Float[Tensor, "F L P"], counts: Float[Tensor, "F L"]
    ) -> Float[Tensor, "F L P"]:
        """All contents of new styles, from the means and the counts of their observed contents."""
        weight, mean_style = counts[..., None], self.known.mean(0)
        if self.kind == "additive":
            total = weight.sum(1, keepdim=True).clamp(min=1e-6)
            return mean_style + (weight * (means - mean_style)).sum(1, keepdim=True) / total
        if self.kind == "nearest":
            distances = [(weight * (means - style).square()).sum((1, 2)) for style in self.known]
            return self.known[torch.stack(distances).argmin(0)]
        return mean_style.expand_as(means)


def test_styles(config: Config) -> tuple[Styles, Int64[Tensor, " H"]]:
    """Test typefaces, and the indices of the letters that are hidden."""
    batch = styles(config.splits.test, shuffled=config.shuffled_condition)
    return batch, (batch.shown[0] == 0).nonzero().flatten()


def classify(model: Any, batch: Styles, config: Config) -> Int64[Tensor, "F L"]:
    """Classifies all letters of each typeface, without labels.

    By EM; with the baseline "nearest", as the letter of the nearest training image.
    """
    count = batch.letters.shape[1]
    if config.model == "nearest":
        return torch.cdist(batch.letters, model.known.flatten(0, 1)).argmin(2) % count
    return classify_contents(model, batch.letters, count, config.deviation, config.rounds).argmax(2)


def evaluate(trained: ClosedForm, config: Config) -> Measurement:
    """Errors and legibility of hidden letters; classification of all letters without labels."""
    batch, hidden = test_styles(config)
    typefaces, count = batch.shown.shape
    with trained.evaluating() as network:
        predicted = network(batch)[:, hidden]
        classes = classify(network.get_submodule("model"), batch, config)
    classifier = config.splits.classifier(config.classifier_steps)
    images = predicted.reshape(-1, 1, config.image_size, config.image_size)
    with torch.no_grad():
        legible = classifier.letters(images).argmax(1).view(typefaces, -1) == hidden
    error = (predicted - batch.letters[:, hidden]).square().mean(2).sqrt().mean()
    return Measurement.of(
        None,
        {
            LEGIBILITY: Proportion.of(legible),
            UNLABELLED: Proportion.of(classes == torch.arange(count)),
            ERROR: float(error),
        },
    )


def draw(trained: ClosedForm, config: Config) -> Image.Image:
    """Hidden letters of four typefaces: the true ones, and below them the predictions."""
    batch, hidden = test_styles(config)
    some = slice(None, None, max(1, len(batch.letters) // 4))
    with trained.evaluating() as network:
        pairs = torch.stack((batch.letters[some], network(batch)[some]), dim=1)[:4, :, hidden]
    size = config.image_size
    images = pairs.flatten(0, 1).view(2 * len(pairs), -1, 1, size, size)
    return sheet(images, rows=["true", "predicted"] * len(pairs))


SYSTEM = System(
    name="style_content",
    doc=__doc__,
    paper=Paper(
        "Tenenbaum, Freeman 2000: Separating style and content with bilinear models",
        "https://doi.org/10.1162/089976600300015349",
        "sections 3.2 to 5, equations 1 and 3",
    ),
    world=STYLES,
    presets={
        "tiny": Config(
            steps=1,
            typefaces="bundled",
            letters="AHLOTE",
            image_size=16,
            training_typefaces=5,
            rank=3,
            style_rank=4,
            classifier_steps=40,
        ),
        "small": Config(steps=1),
        "paper": Config(steps=1, image_size=38, rank=52),
    },
    arms=(
        Arm("asymmetric", "the system: a matrix for each typeface, a vector for each letter"),
        Arm("symmetric", "a vector for each typeface and each letter", model="symmetric"),
        Arm("additive", "mean letter plus an offset of the typeface: no product", model="additive"),
        Arm(
            "nearest",
            "the letters of the nearest training typeface; without labels, the nearest image",
            model="nearest",
        ),
        Arm("mean", "the mean letter, whatever the typeface", model="mean"),
        Arm(
            "shuffled",
            "control: asymmetric, given letters of as many different typefaces",
            shuffled_condition=True,
        ),
    ),
    build=StyleModel,
    stepper=stepper,
    data=data,
    evaluate=evaluate,
    draw=draw,
    score=ERROR,
    metrics=(ERROR, UNLABELLED, LEGIBILITY),
    finding="From two thirds of its letters, bilinear models predict the others of a new typeface "
    "with two thirds of the error of an additive model. The asymmetric model that adapts without "
    "labels classifies letters better than the nearest training image does.",
    claims=(
        Claim(
            "A product of style and content predicts better than a sum.",
            at_most_ratio(ERROR, "asymmetric", "additive", 0.9),
        ),
        Claim(
            "It predicts better than the nearest training typeface.",
            at_most_ratio(ERROR, "asymmetric", "nearest", 0.9),
        ),
        Claim(
            "The given letters of the typeface are used.",
            at_most_ratio(ERROR, "asymmetric", "shuffled", 0.9),
        ),
        Claim(
            "The symmetric model predicts better than a sum.",
            at_most_ratio(ERROR, "symmetric", "additive", 1),
        ),
        Claim(
            "Adaptation to the typeface helps to classify its letters.",
            above(UNLABELLED, "asymmetric", "mean", 3),
            Statement(
                "a bilinear model that adapts classifies vowels of new speakers better",
                "section 4",
                "about 77 % against 51 to 56 %",
                "direction only: letters instead of vowels",
            ),
        ),
        Claim(
            "Adaptation classifies better than the nearest neighbour.",
            above(UNLABELLED, "asymmetric", "nearest", 0),
            Statement(
                "a bilinear model that adapts classifies vowels better than nearest neighbours",
                "section 4",
                "about 77 % against 51 to 56 %",
                "direction only: letters instead of vowels",
            ),
        ),
    ),
    departures=(
        "Pixels of images where the paper moves particles; 120 typefaces where it has five.",
        "The prior of a new typeface is a blend of the known ones; its strength was chosen on "
        "families left out of the training typefaces, as rank and deviation were.",
        "Letters are classified in place of the paper's vowels.",
        "Preset paper has the paper's image size, with 120 typefaces instead of five.",
    ),
    versions=lambda config: render_versions(config.typefaces),
    tuned_on="families left out of the training typefaces",
    tested_on="57 typefaces from 7 groups of related families, 17 hidden letters each; "
    "groups are the independent units",
    caption="Hidden letters of four test typefaces: the true letters, and below them what the "
    "arm predicts from the letters that are shown.",
    expected="an error of 0.10, where the nearest typeface has 0.135 and a sum 0.152",
)
