"""What a system offers that answers questions about images: the interface of the command line.

``featurewise ask``, ``evaluate``, ``demo`` and ``train --data`` know a system through its record
alone; the record of one that answers questions names how its `Answerer` is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from jaxtyping import Float, UInt8
from PIL.Image import Image
from torch import Tensor, nn

from featurewise.analysis import ParameterTable
from featurewise.study.results import Measurement, Proportion

ConfigT = TypeVar("ConfigT")


@dataclass(frozen=True)
class InputImage:
    """An image file as a network takes it.

    Attributes:
        original: the file's image, RGB at its own size.
        pixels: at the size that the network takes.
        note: what was done to an image of another shape than the network's; None where it fits.
        rows: first row, and the row after the last, of the original that the network processes, in
            pixels; outside of the original where it was extended.
    """

    original: Image
    pixels: UInt8[Tensor, "3 H W"]
    note: str | None
    rows: tuple[float, float]


@dataclass(frozen=True)
class Answer:
    """A network's answer to one question about one image.

    Attributes:
        question: the question.
        ranked: every answer with its probability, the most probable first.
        unknown: words of the question that are outside the vocabulary -> known words that are
            spelled alike.
        places: share of the answer that each position of the feature map accounts for; None for a
            network without such a map.
    """

    question: str
    ranked: tuple[tuple[str, float], ...]
    unknown: Mapping[str, tuple[str, ...]]
    places: Float[Tensor, "h w"] | None


@dataclass(frozen=True)
class Example:
    """A new image with questions whose answers are known.

    Attributes:
        description: what the image shows, in a sentence.
        questions: each with its true answer.
        render: makes the image, RGB; it takes about a second.
    """

    description: str
    questions: tuple[tuple[str, str], ...]
    render: Callable[[], Image]


@dataclass(frozen=True)
class UnknownWords:
    """Words of questions that are outside a network's vocabulary.

    Attributes:
        words: number of such words.
        of_words: number of all words.
        questions: number of questions with such a word.
        of_questions: number of all questions.
    """

    words: int
    of_words: int
    questions: int
    of_questions: int


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation gives.

    Attributes:
        measured: accuracy by type of question; without any where the true answers are unknown.
        answers: the network's, in the order of the questions.
        unknown: words outside the vocabulary.
    """

    measured: Measurement
    answers: tuple[str, ...]
    unknown: UnknownWords


@dataclass(frozen=True)
class TwinTest:
    """A test by pairs of questions that differ in one relation.

    Attributes:
        description: what the pairs are and what each figure counts.
        figures: name of a figure -> its label in a table.
    """

    description: str
    figures: Mapping[str, str]


@runtime_checkable
class Queries(Protocol):
    """Questions about the images of a data set on disk."""

    @property
    def path(self) -> Path:
        """The file of the questions."""

    @property
    def has_answers(self) -> bool:
        """Whether the true answers are known."""

    @property
    def first_image(self) -> Path:
        """The first image."""

    def numbers(self) -> Sequence[int]:
        """The number of each question in the file, in the order of evaluation.

        Raises:
            FormatError: two questions have the same number.
        """


@runtime_checkable
class Answerer(Protocol[ConfigT]):
    """What a system offers that answers questions about images.

    Networks are of any arm, in eval mode, and come with the config they were built with.
    """

    def image(self, config: ConfigT, path: Path) -> InputImage:
        """Reads an image file.

        Raises:
            FormatError: it is missing, damaged, or no image.
        """

    def answer(self, network: nn.Module, image: UInt8[Tensor, "3 H W"], question: str) -> Answer:
        """Answers one question about one image.

        Args:
            network: see above.
            image: ``pixels`` of `InputImage`.
            question: in English; unknown words are encoded as such.

        Raises:
            WorldError: the question has no words, or none that the network knows.
        """

    def examples(self, config: ConfigT, seed: int, count: int) -> list[Example]:
        """New images with questions of the kind that the network was trained on."""

    def parameters(self, network: nn.Module, questions: Sequence[str]) -> ParameterTable | None:
        """γ and β that questions give; None for a network that is not conditioned."""

    def splits(self, folder: Path) -> list[str]:
        """Splits of a data set on disk that have questions."""

    def queries(
        self, folder: Path, split: str, questions: Path | None = None, limit: int | None = None
    ) -> Queries:
        """Questions of a data set on disk.

        Args:
            folder: the data set.
            split: of it.
            questions: another file of questions about the images of that split.
            limit: only about the first so many images.

        Raises:
            FormatError: a file is missing or not what the format promises.
        """

    def trained_on(self, config: ConfigT, folder: Path, split: str) -> ConfigT:
        """The config that trains on a data set on disk, in place of rendered images."""

    def held_out(self, config: ConfigT) -> str:
        """The held-out data that belong to a config, in a sentence; equal for equal data."""

    def evaluate(
        self,
        network: nn.Module,
        config: ConfigT,
        queries: Queries | None = None,
        *,
        limit: int | None = None,
        shuffled: bool = False,
    ) -> Evaluation:
        """Answers many questions, and measures how many answers are correct.

        Args:
            network: see above.
            config: see above.
            queries: questions of a data set on disk; default: the held-out data of the config.
            limit: only about the first so many images of the held-out data.
            shuffled: whether the network is given each question of another image.

        Raises:
            FormatError: a file is not what the format promises.
        """

    def groups(self, measured: Measurement) -> dict[str, tuple[Proportion, tuple[str, ...]]]:
        """Rows of published tables: name -> accuracy, and the types of questions it sums up."""

    def remark(self, measured: Measurement) -> str | None:
        """A sentence on what a demonstration shows beside accuracy; None for nothing."""

    @property
    def twin_test(self) -> TwinTest:
        """What the twin test measures."""

    def measure_twins(
        self,
        network: nn.Module,
        config: ConfigT,
        folder: Path | None = None,
        split: str = "val",
        limit: int | None = None,
    ) -> dict[str, Proportion]:
        """The twin test; without figures that no image has a pair of questions for.

        Args:
            network: see above.
            config: see above.
            folder: a data set on disk; default: rendered images.
            split: of the data set.
            limit: only about the first so many images.

        Raises:
            FormatError: a file is missing or not what the format promises.
        """
