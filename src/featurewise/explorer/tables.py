"""What a report shows, as plain records: whoever measures fills them, the explorer draws them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from PIL.Image import Image

from featurewise.analysis import ParameterTable


class ReportError(ValueError):
    """A report cannot be made of what was given, or not with what is installed."""


@dataclass(frozen=True, slots=True)
class Score:
    """An accuracy in [0, 1].

    Attributes:
        value: the share answered right.
        low: lower end of its 95 % interval.
        high: upper end.
        asked: number of questions.
    """

    value: float
    low: float
    high: float
    asked: int


@dataclass(frozen=True, slots=True)
class AccuracyRow:
    """One row of an accuracy table.

    Attributes:
        name: what was asked.
        level: 0 for all questions, 1 for a group, 2 for one type of a group.
        scores: one for each column; None where nothing was asked.
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
        data: sentence that says on what data.
        columns: names of what was measured.
        rows: from the whole to the types.
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
    """A sentence with numbers, and what became of it.

    Attributes:
        sentence: what must come out.
        verdict: in a word or two, as in "supported" or "one seed".
        value: what was measured; None when it was not tested.
    """

    sentence: str
    verdict: str
    value: float | None


@dataclass(frozen=True, slots=True)
class Asked:
    """One question and what the network said.

    Attributes:
        question: as it was asked.
        ranked: answers with their probabilities, the most probable first.
        truth: the right answer, where it is known.
        overlay: the picture with the places that the network looked at.
    """

    question: str
    ranked: tuple[tuple[str, float], ...]
    truth: str | None = None
    overlay: Image | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture and what was asked about it.

    Attributes:
        image: the picture.
        alt: what is to be seen, in words.
        asked: the questions.
    """

    image: Image
    alt: str
    asked: tuple[Asked, ...]


@dataclass(frozen=True, slots=True)
class Curve:
    """A number over training.

    Attributes:
        name: of what was trained.
        steps: where it was noted.
        values: the number there.
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
    """Everything on the page, from top to bottom; what is empty is left out.

    Attributes:
        title: of the page.
        summary: a few sentences in front.
        claims: what must come out, and whether it did.
        accuracy: tables, each with its figure.
        pictures: pictures with questions and answers.
        parameters: γ and β of many questions, and by whom.
        parameters_of: the network they are of.
        losses: training loss of each run.
        facts: what was run: hardware, seeds, versions.
        commands: lines that make the same again.
    """

    title: str
    summary: tuple[str, ...] = ()
    claims: tuple[Claim, ...] = ()
    accuracy: tuple[AccuracyTable, ...] = ()
    pictures: tuple[Picture, ...] = ()
    parameters: ParameterTable | None = None
    parameters_of: str = ""
    losses: tuple[Curve, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    commands: tuple[str, ...] = ()
