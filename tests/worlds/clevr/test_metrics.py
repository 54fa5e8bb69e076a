import math

import pytest
import torch

from featurewise.worlds.clevr.data import Batch
from featurewise.worlds.clevr.errors import WorldError
from featurewise.worlds.clevr.metrics import Count, Tally
from featurewise.worlds.clevr.vocabulary import QUESTION_TYPES


def batch(answers: list[int], types: list[int]) -> Batch:
    n = len(answers)
    return Batch(
        images=torch.zeros(1, 3, 2, 2, dtype=torch.uint8),
        image_index=torch.zeros(n, dtype=torch.int64),
        questions=torch.ones(n, 1, dtype=torch.int64),
        lengths=torch.ones(n, dtype=torch.int64),
        answers=torch.tensor(answers),
        types=torch.tensor(types),
    )


def test_counts_accumulate_over_batches() -> None:
    exist, less = QUESTION_TYPES.index("exist"), QUESTION_TYPES.index("less_than")
    equal, color = QUESTION_TYPES.index("equal_integer"), QUESTION_TYPES.index("query_color")
    tally = Tally()
    tally.add(torch.tensor([0, 1, 1]), batch([0, 0, 1], [exist, exist, less]))
    tally.add(torch.tensor([1, 20, 3]), batch([0, 20, 3], [equal, color, -1]))
    assert tally.by_type()["exist"] == Count(1, 2)
    assert tally.by_type()["equal_integer"] == Count(0, 1)
    groups = tally.by_group()
    assert groups["compare integer"] == Count(1, 2)
    assert groups["query attribute"] == Count(1, 1)
    assert groups["count"] == Count(0, 0)
    assert math.isnan(groups["count"].accuracy)
    assert tally.overall() == Count(4, 6)
    assert tally.overall().accuracy == pytest.approx(4 / 6)


def test_answers_that_cannot_be_counted_are_rejected() -> None:
    with pytest.raises(WorldError, match="2 questions"):
        Tally().add(torch.tensor([0]), batch([0, 0], [0, 0]))
    with pytest.raises(WorldError, match="no known answer"):
        Tally().add(torch.tensor([0]), batch([-1], [0]))
