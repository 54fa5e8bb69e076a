"""Which questions each figure counts."""

import torch

from featurewise.worlds.clevr.metrics import BY_TYPE, GROUPS, NUMBERS, TWINS, questions_by_type
from featurewise.worlds.clevr.metrics import twin_hits as hits
from featurewise.worlds.clevr.vocabulary import ANSWERS, QUESTION_TYPES, RELATIONS


def position(answer: str) -> int:
    return ANSWERS.index(answer)


def kind(name: str) -> int:
    return QUESTION_TYPES.index(name)


def test_questions_belong_to_their_type_and_counts_to_their_number() -> None:
    answers = torch.tensor([position(word) for word in ("4", "yes", "0", "10", "4", "red")])
    types = torch.tensor([kind(name) for name in ("count", "exist", "count", "count")] + [-1, -1])
    found = {name: rows.nonzero().flatten().tolist() for name, rows in
             questions_by_type(answers, types).items()}  # fmt: skip
    assert found == {
        "count": [0, 2, 3],
        "exist": [1],
        "count 0": [2],
        "count 4": [0],
        "count 7 or more": [3],
    }
    assert found.keys() <= BY_TYPE.keys()


def test_the_groups_hold_every_type_once() -> None:
    types = [name for names in GROUPS.values() for name in names]
    assert sorted(types) == sorted(name.replace("_", " ") for name in QUESTION_TYPES)
    assert {*types, *NUMBERS} == BY_TYPE.keys()


def test_twin_pairs_are_counted_by_their_relations() -> None:
    left, right = RELATIONS.index("left"), RELATIONS.index("right")
    front, behind = RELATIONS.index("front"), RELATIONS.index("behind")
    relations = torch.tensor([left, right, left, right, front, behind])
    answers = torch.tensor([1, 2, 3, 4, 5, 6])
    predicted = torch.tensor([1, 2, 4, 3, 5, 5])
    found = {
        name: (right_.tolist(), rows.tolist())
        for name, (right_, rows) in hits(predicted, answers, relations).items()
    }
    assert found["twin left"] == ([True, False], [0, 2])
    assert found["twin behind"] == ([False], [5])
    assert found["twin pair left right"] == ([True, False], [0, 2])
    assert found["twin mirrored left right"] == ([False, False, True, True], [0, 1, 2, 3])
    assert found["twin changed left right"] == ([True, True], [0, 2])
    assert found["twin changed front behind"] == ([False], [4])
    assert found.keys() == TWINS.keys()


def test_relations_without_a_pair_are_left_out() -> None:
    relations = torch.tensor([RELATIONS.index("left"), RELATIONS.index("right")])
    found = hits(torch.tensor([1, 2]), torch.tensor([1, 2]), relations)
    assert "twin left" in found
    assert not [name for name in found if "front" in name or "behind" in name]
