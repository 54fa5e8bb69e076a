"""Twin questions, against the executor of programs and an exhaustive search over anchors."""

from __future__ import annotations

import pytest

from featurewise.worlds.clevr import Object, Scene, Step, execute, sample_scenes, unknown_words
from featurewise.worlds.clevr.twins import OPPOSITES, TwinPair, twin_pairs
from featurewise.worlds.clevr.vocabulary import ATTRIBUTES, SHAPES

SCENES = sample_scenes(40, seed=5)
SAID = {"left": "left of", "right": "right of", "front": "in front of", "behind": "behind"}


def program(shape: str, relation: str, described: str) -> tuple[Step, ...]:
    """The program of a twin question, from its words."""
    steps = [Step("scene")]
    for name, values in ATTRIBUTES.items():
        for value in set(values) & set(described.split()):
            steps.append(Step(f"filter_{name}", (len(steps) - 1,), value))
    steps.append(Step("unique", (len(steps) - 1,)))
    steps.append(Step("relate", (len(steps) - 1,), relation))
    steps.append(Step("filter_shape", (len(steps) - 1,), shape))
    steps.append(Step("unique", (len(steps) - 1,)))
    return (*steps, Step("query_color", (len(steps) - 1,)))


def parsed(question: str, relation: str) -> tuple[str, str]:
    """Shape and description in the words of a question."""
    begin, middle = "What color is the ", f" {SAID[relation]} the "
    assert question.startswith(begin) and question.endswith("?")
    shape, described = question.removeprefix(begin).removesuffix("?").split(middle)
    return shape, described


def test_every_answer_is_that_of_the_program() -> None:
    count = 0
    for scene in SCENES:
        for pair in twin_pairs(scene):
            assert pair.relations in OPPOSITES and pair.answers[0] != pair.answers[1]
            parts = [parsed(q, r) for q, r in zip(pair.questions, pair.relations, strict=True)]
            assert parts[0] == parts[1]
            for relation, answer in zip(pair.relations, pair.answers, strict=True):
                assert execute(program(parts[0][0], relation, parts[0][1]), scene) == answer
            assert not any(unknown_words(question) for question in pair.questions)
            count += 1
    assert count > 60


def anchors(scene: Scene) -> set[tuple[int, str, tuple[str, str]]]:
    """Every uniquely described object, shape and axis with a pair of twin questions."""
    found = set()
    for i, anchor in enumerate(scene.objects):
        same = [o for o in scene.objects if described(o) == described(anchor)]
        if len(same) > 1:
            continue
        for one, other in OPPOSITES:
            for shape in SHAPES:
                sides = [
                    [scene.objects[j] for j in scene.relationships[r][i]] for r in (one, other)
                ]
                twins = [[o for o in side if o.shape == shape] for side in sides]
                colors = [[o.color for o in some] for some in twins]
                if [len(some) for some in twins] == [1, 1] and colors[0] != colors[1]:
                    found.add((i, shape, (one, other)))
    return found


def described(thing: Object) -> tuple[str, ...]:
    return thing.size, thing.color, thing.material, thing.shape


def test_no_pair_is_left_out() -> None:
    for scene in SCENES:
        assert len(twin_pairs(scene)) == len(anchors(scene))


def test_pairs_of_a_hand_written_scene() -> None:
    def thing(shape: str, color: str, x: float, y: float, size: str = "large") -> Object:
        return Object(shape, size, "rubber", color, (x, y, 0.7), 0.0)

    # Left is about (-0.66, -0.75), behind about (-0.75, 0.66).
    left, right = thing("cube", "red", -2.0, -2.0), thing("cube", "blue", 2.0, 2.0)
    anchor = thing("sphere", "gray", 0.1, 0.0)
    scene = Scene((left, anchor, right))
    assert twin_pairs(scene) == [
        TwinPair(
            ("left", "right"),
            (
                "What color is the cube left of the sphere?",
                "What color is the cube right of the sphere?",
            ),
            ("red", "blue"),
        )
    ]
    same_color = thing("cube", "red", 2.0, 2.0)
    assert twin_pairs(Scene((left, anchor, same_color))) == []
    two = Scene((left, anchor, right, thing("cube", "cyan", 3.0, 2.5)))
    assert not any("left of the sphere?" in pair.questions[0] for pair in twin_pairs(two))


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_objects_have_no_twins(count: int) -> None:
    scenes = sample_scenes(3, seed=1, min_objects=count, max_objects=count)
    assert not any(map(twin_pairs, scenes))
