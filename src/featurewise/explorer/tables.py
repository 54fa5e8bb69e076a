"""Content of a report as plain records: evaluation code fills them, the explorer renders them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from PIL.Image import Image

from featurewise.analysis import ParameterTable


class ReportError(ValueError):
    """A report cannot be made from its content, or a package for it is not installed."""


@dataclass(frozen=True, slots=True)
class Score:
    """An accuracy in [0, 1].

    Attributes:
        value: share of correct answers.
        low: lower end of its 95 % interval.
        high: upper end.
        count: number of questions.
    """

    value: float
    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True)
class AccuracyRow:
    """One row of an accuracy table.

    Attributes:
        name: the kind of question.
        level: 0 for all questions, 1 for a group, 2 for one type of a group.
        scores: one for each column; None where a column has no such question.
    """

    name: str
    level: int
    scores: tuple[Score | None, ...]

    def __post_init__(self) -> None:
        if self.level not in (0, 1, 2):
            raise ReportError(f"row {self.name!r}: level must be 0, 1 or 2, not {self.level}")


@dataclass(frozen=True, slots=True)
class AccuracyTable:
    """Accuracy by kind of question, side by side.

    Attributes:
        title: above the table.
        data: one sentence that describes the evaluation data.
        columns: names of the networks.
        rows: all questions first, then groups and their types.
    """

    title: str
    data: str
    columns: tuple[str, ...]
    rows: tuple[AccuracyRow, ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.scores) != len(self.columns):
                raise ReportError(
                    f"row {row.name!r} has {len(row.scores)} scores for {len(self.columns)} columns"
                )


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim, its verdict and the measured value.

    Attributes:
        sentence: the claim.
        verdict: one or two words, such as "supported" or "one seed".
        value: the measured value; None when the claim was not tested.
    """

    sentence: str
    verdict: str
    value: float | None


@dataclass(frozen=True, slots=True)
class AnsweredQuestion:
    """One question and the answers of the network.

    Attributes:
        question: its text.
        ranked: answers with their probabilities, the most probable first.
        truth: the correct answer, where it is known.
        overlay: the image with a heat map of the positions that the network used.
    """

    question: str
    ranked: tuple[tuple[str, float], ...]
    truth: str | None = None
    overlay: Image | None = None


@dataclass(frozen=True, slots=True)
class ImageQuestions:
    """An image and questions about it.

    Attributes:
        image: the image.
        alt: description of the image, as text.
        questions: questions and answers.
    """

    image: Image
    alt: str
    questions: tuple[AnsweredQuestion, ...]


@dataclass(frozen=True, slots=True)
class Curve:
    """One value over training, such as the loss.

    Attributes:
        name: of the network.
        steps: training steps at which the value was recorded.
        values: the value at each of these steps.
    """

    name: str
    steps: tuple[int, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.steps) != len(self.values):
            raise ReportError(
                f"curve {self.name!r}: {len(self.steps)} steps, {len(self.values)} values"
            )


@dataclass(frozen=True, slots=True)
class Report:
    """All content of the page, from top to bottom; empty parts are left out.

    Attributes:
        title: of the page.
        summary: a few sentences below the title.
        claims: claims with verdicts.
        accuracy: tables, each shown with a figure.
        images: images with questions and answers.
        parameters: γ and β for many questions.
        parameters_of: which network and questions they belong to; follows "γ and β".
        losses: training loss of each run.
        facts: hardware, seeds, versions, by name.
        commands: shell commands that reproduce the report.
    """

    title: str
    summary: tuple[str, ...] = ()
    claims: tuple[Claim, ...] = ()
    accuracy: tuple[AccuracyTable, ...] = ()
    images: tuple[ImageQuestions, ...] = ()
    parameters: ParameterTable | None = None
    parameters_of: str = ""
    losses: tuple[Curve, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    commands: tuple[str, ...] = ()
