"""Questions of a data set on disk, to be answered in their order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from featurewise.common.cache import cache_folder
from featurewise.worlds.clevr.batch import Batch
from featurewise.worlds.clevr.disk import DiskSource, read_queries
from featurewise.worlds.clevr.errors import FormatError
from featurewise.worlds.clevr.formats import ClevrFolder
from featurewise.worlds.clevr.progress import reading_images
from featurewise.worlds.clevr.splits import EVAL_BATCH
from featurewise.worlds.clevr.words import UNKNOWN_INDEX


class FolderQueries:
    """Images and questions from files in the format of CLEVR v1.0.

    Args:
        folder: the data set.
        split: name of the split.
        questions: another file of questions about the split's images (CLEVR-Humans).
        limit: only about the first so many images of the questions file.

    Attributes:
        path: the file of the questions.
        has_answers: whether its questions have answers.
        first_image: path of the first image.

    Raises:
        FormatError: a file is missing or not what the format promises.
    """

    def __init__(
        self, folder: Path, split: str, questions: Path | None = None, limit: int | None = None
    ) -> None:
        self._folder, self._split, self._questions, self._limit = folder, split, questions, limit
        self._place = ClevrFolder(folder, split)
        self.path = self._place.questions if questions is None else questions
        ((name, first),) = read_queries(self._place, self.path, 1).items()
        self.has_answers = first[0].answer >= 0
        self.first_image = self._place.image(name)

    def batches(self, width: int, height: int) -> Iterator[Batch]:
        """All questions, image by image; a progress bar shows while images are read.

        Args:
            width: width of the images in a batch, in pixels.
            height: height of the images in a batch, in pixels.

        Raises:
            FormatError: a file is missing or not what the format promises.
        """
        with reading_images() as progress:
            source = DiskSource(
                self._folder,
                self._split,
                width=width,
                height=height,
                questions=self._questions,
                limit=self._limit,
                cache=cache_folder() / "clevr",
                on_progress=progress,
                images_per_batch=1,
            )
        return source.in_order(EVAL_BATCH)

    def numbers(self) -> list[int]:
        """The number of each question ("question_index"), in the order of `batches`.

        Raises:
            FormatError: two questions have the same number.
        """
        found = read_queries(self._place, self.path, self._limit)
        numbers = [question.number for about_one in found.values() for question in about_one]
        if len(set(numbers)) < len(numbers):
            twice = Counter(numbers).most_common(1)[0][0]
            raise FormatError.at(self.path, f"two questions have the question_index {twice}")
        return numbers


def splits_with_questions(folder: Path) -> list[str]:
    """Splits of a data set in the layout of CLEVR v1.0 that have a file of questions."""
    name = ClevrFolder(folder, "*").questions
    before, after = name.name.split("*")
    return sorted(
        path.name.removeprefix(before).removesuffix(after) for path in name.parent.glob(name.name)
    )


class CountedUnknownWords:
    """Batches, and the words outside the vocabulary in those that were taken.

    Attributes:
        batches: any.
        counts: of unknown words, words, questions with an unknown word, and questions.
    """

    def __init__(self, batches: Iterable[Batch]) -> None:
        self.batches = batches
        self.counts = torch.zeros(4, dtype=torch.int64)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.batches:
            unknown = batch.questions == UNKNOWN_INDEX
            questions = torch.tensor(len(batch.lengths))
            counts = (
                unknown.sum(),
                batch.lengths.sum(),
                unknown.any(1).sum(),
                questions,
            )
            self.counts += torch.stack(counts)
            yield batch
