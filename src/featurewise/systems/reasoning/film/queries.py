"""Questions of a data set on disk, and what a network answered to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from featurewise.common.cache import cache_folder
from featurewise.systems.reasoning.film.settings import Reasoning
from featurewise.systems.reasoning.film.study import AT_ONCE
from featurewise.worlds.clevr import ANSWERS, Batch, ClevrFolder, DiskSource, FormatError
from featurewise.worlds.clevr.disk import read_queries
from featurewise.worlds.clevr.pool import Progress
from featurewise.worlds.clevr.words import UNKNOWN_INDEX


class FolderQueries:
    """Images and questions from files in the format of CLEVR v1.0.

    Args:
        folder: the data set.
        split: name of the split.
        questions: another questions file about the split's images (CLEVR-Humans).
        limit: only the first so many images of the questions file.

    Attributes:
        path: the questions file.
        has_answers: whether its questions have answers.
        first_image: path of the first image.

    Raises:
        FormatError: a file is missing or not what the format promises.
    """

    def __init__(
        self, folder: Path, split: str, questions: Path | None = None, limit: int | None = None
    ) -> None:
        self.folder, self.split, self.questions, self.limit = folder, split, questions, limit
        self.place = ClevrFolder(folder, split)
        self.path = self.place.questions if questions is None else questions
        ((name, first),) = read_queries(self.place, self.path, 1).items()
        self.has_answers = first[0].answer >= 0
        self.first_image = self.place.image(name)

    def batches(self, settings: Reasoning, progress: Progress | None = None) -> Iterator[Batch]:
        """All questions, image by image, at the size that a network of these settings takes.

        Args:
            settings: of the network.
            progress: called with the number of images read and wanted.

        Raises:
            FormatError: a file is missing or not what the format promises.
        """
        recipe = settings.lessons[-1].recipe
        source = DiskSource(
            self.folder,
            self.split,
            width=recipe.width,
            height=recipe.height,
            questions=self.questions,
            limit=self.limit,
            cache=cache_folder() / "clevr",
            on_progress=progress,
            images_per_batch=1,
        )
        return source.in_order(AT_ONCE)

    @cached_property
    def numbers(self) -> list[int]:
        """The number of each question ("question_index"), in the order of `batches`.

        Raises:
            FormatError: two questions have the same number.
        """
        found = read_queries(self.place, self.path, self.limit)
        numbers = [question.number for about_one in found.values() for question in about_one]
        if len(set(numbers)) < len(numbers):
            twice = Counter(numbers).most_common(1)[0][0]
            raise FormatError.at(self.path, f"two questions have the question_index {twice}")
        return numbers


def from_folder(settings: Reasoning, folder: Path | str, split: str) -> Iterator[Batch]:
    """Images and questions from files in the format of CLEVR v1.0; see `FolderQueries`."""
    return FolderQueries(Path(folder), split).batches(settings)


def splits(folder: Path) -> list[str]:
    """Splits of a data set in the layout of CLEVR v1.0 that have a questions file."""
    name = ClevrFolder(folder, "*").questions
    before, after = name.name.split("*")
    return sorted(
        path.name.removeprefix(before).removesuffix(after) for path in name.parent.glob(name.name)
    )


class Predictions:
    """What a network answered, gathered batch by batch.

    Args:
        queries: of the data set; None for the built-in world, whose questions have no numbers.
    """

    def __init__(self, queries: FolderQueries | None) -> None:
        self._queries = queries
        self._answers: list[Tensor] = []
        self._unknown = torch.zeros(4, dtype=torch.int64)

    def add(self, batch: Batch, predicted: Tensor) -> None:
        """Keeps the answers to a batch, positions in ``ANSWERS``."""
        self._answers.append(predicted)
        unknown = batch.questions == UNKNOWN_INDEX
        affected = unknown.any(1).sum()
        counts = (unknown.sum(), batch.lengths.sum(), affected, torch.tensor(len(predicted)))
        self._unknown += torch.stack(counts)

    @property
    def questions(self) -> int:
        """How many there were."""
        return sum(map(len, self._answers))

    def unknown(self) -> dict[str, int]:
        """Words that the network does not know, of how many, and the questions that have any."""
        names = ("words", "of_words", "questions", "of_questions")
        return dict(zip(names, self._unknown.tolist(), strict=True))

    def as_json(self) -> list[dict[str, Any]]:
        """Number and answer of every question, by their numbers."""
        if self._queries is None:
            return []
        answers = [ANSWERS[index] for part in self._answers for index in part.tolist()]
        pairs = sorted(zip(self._queries.numbers, answers, strict=True))
        return [{"question_index": number, "answer": answer} for number, answer in pairs]
