"""Method of style and content: models of both, fitted in closed form.

Tenenbaum & Freeman 2000, eq. 1 and 3. Fits, predictions and EM are in
`featurewise.models.style_content`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from featurewise.common.ranges import Length
from featurewise.models.style_content import Asymmetric, Baseline, Symmetric
from featurewise.study import system
from featurewise.training.errors import ExperimentError
from featurewise.training.steppers import ClosedForm, Metrics
from featurewise.worlds.glyphs import LETTERS
from featurewise.worlds.glyphs.letter_data import LetterData, letter_splits
from featurewise.worlds.glyphs.styles import Styles
from featurewise.worlds.small.vowels import FEATURES, VOWEL_FRAMES, VOWELS


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(system.Config):
    """One model, its fit and its evaluation.

    Attributes:
        data: "letters" of typefaces, or "vowels" of speakers.
        model: "asymmetric" (eq. 3), "symmetric" (eq. 1), or a baseline without factors,
            see `featurewise.models.style_content.Baseline`.
        shuffled_condition: whether each given content is of another style, as a control.
        typefaces: which ones, as `featurewise.worlds.glyphs.find_typefaces` takes it.
        letters: the letters.
        image_size: height and width of an image of a letter, in pixels.
        vowel_file: see `featurewise.worlds.small.vowels.vowel_samples`.
        training_styles: number of styles that the model is fitted to.
        rank: J, length of the content vectors.
        style_rank: I, length of the style vectors of the symmetric model.
        ridge: see `featurewise.models.style_content.Asymmetric`.
        blend: see `featurewise.models.style_content.Asymmetric`; the ``ridge`` of
            `Symmetric`.
        deviation: standard deviation of a value around its prediction, in EM.
        rounds: of EM.
        classifier_steps: training steps of the evaluation classifier of letters.
    """

    FORMER_NAMES: ClassVar = {
        "where": "typefaces",
        "size": "image_size",
        "faces": "training_styles",
        "judging": "classifier_steps",
    }

    data: Literal["letters", "vowels"] = "letters"
    model: Literal["asymmetric", "symmetric", "additive", "nearest", "mean"] = (
        "asymmetric"
    )
    shuffled_condition: bool = False
    typefaces: str = "debian"
    letters: str = LETTERS
    image_size: int = 24
    vowel_file: Annotated[str, Length(0)] = ""
    training_styles: int = 120
    rank: int = 40
    style_rank: int = 64
    ridge: float = 1.0
    blend: float = 0.01
    deviation: float = 0.05
    rounds: int = 10
    classifier_steps: int = 900

    def __post_init__(self) -> None:
        system.Config.__post_init__(self)
        styles, contents, _, _ = self.sizes
        if self.model in ("asymmetric", "symmetric") and self.rank > contents:
            raise ExperimentError(
                f"rank must be at most the number of contents, {contents}, got {self.rank}"
            )
        if self.model == "symmetric" and self.style_rank > styles:
            raise ExperimentError(
                f"style_rank must be at most training_styles, {styles}, got "
                f"{self.style_rank}"
            )

    @property
    def splits(self) -> LetterData:
        """The letters."""
        return letter_splits(self.typefaces, self.letters, self.image_size)

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Numbers of training styles, contents, observations of a content, values of each."""
        if self.data == "vowels":
            return self.training_styles, len(VOWELS), VOWEL_FRAMES, FEATURES
        return self.training_styles, len(self.letters), 1, self.image_size**2


class StyleModel(nn.Module):
    """A model of style and content that is given a batch: only the contents that are shown.

    Asymmetric, ``y = A_s b_c`` (eq. 3); symmetric, ``y_k = a_s^T W_k b_c`` (eq. 1).
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        styles, contents, count, values = config.sizes
        self.model: nn.Module
        if config.model == "asymmetric":
            self.model = Asymmetric(
                styles, contents, values, config.rank, config.ridge, config.blend
            )
        elif config.model == "symmetric":
            self.model = Symmetric(
                styles, contents, values, config.style_rank, config.rank, config.blend
            )
        else:
            self.model = Baseline(config.model, styles * count, contents, values)

    def forward(self, batch: Styles) -> Float[Tensor, "F L P"]:
        """All contents, also those that are not shown."""
        return self.model(batch.means * batch.shown[..., None], batch.shown)  # type: ignore[no-any-return]


def solve(network: nn.Module, batch: Styles) -> Metrics:
    """Fits all contents of the styles; measures the error of the fit."""
    model: Any = network.get_submodule("model")
    if isinstance(model, Baseline):
        # The n-th observations of all contents are a style each.
        model.fit(batch.samples.transpose(1, 2).flatten(0, 1))
    else:
        model.fit(batch.means)
    return {"error": (network(batch) - batch.means).square().mean().sqrt()}


def stepper(network: nn.Module, config: Config) -> ClosedForm:
    """One step fits the model."""
    return ClosedForm(network, solve)
