"""Programs: the executor against a reference and official questions, errors, JSON."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurewise.worlds.clevr.errors import SceneError
from featurewise.worlds.clevr.programs import (
    FUNCTIONS,
    ProgramError,
    Step,
    check,
    execute,
    program_from_json,
    program_to_json,
    queried_objects,
    question_type,
)
from featurewise.worlds.clevr.scene import Object, Scene
from featurewise.worlds.clevr.vocabulary import (
    ANSWERS,
    COLORS,
    MATERIALS,
    QUESTION_TYPES,
    SHAPES,
    SIZES,
)

OFFICIAL = Path(__file__).parents[4] / "shared/data/clevr_blender"


def _load(name: str):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


plain = _load("plain_programs")

coordinates = st.floats(-3, 3, allow_nan=False).map(lambda x: round(x, 3))
# Strategies make plain records, which tests convert to the library's classes: their run-time type
# checks use random numbers, which Hypothesis forbids inside strategies.
objects = st.builds(
    SimpleNamespace,
    shape=st.sampled_from(SHAPES),
    size=st.sampled_from(SIZES),
    material=st.sampled_from(MATERIALS),
    color=st.sampled_from(COLORS),
    position=st.tuples(coordinates, coordinates, st.just(0.7)),
    rotation=st.just(0.0),
)
scenes = st.builds(SimpleNamespace, objects=st.lists(objects, max_size=10))


@st.composite
def questions(draw):
    """A scene and a well-typed program, of any structure, not only those of the families.

    If `safe`, `unique` is only applied to sets of one object.
    """
    scene, safe = draw(scenes), draw(st.booleans())
    program, length = [_record("scene", (), None)], draw(st.integers(0, 16))
    while len(program) <= length or program[-1].function not in QUESTION_TYPES:
        kinds = [FUNCTIONS[step.function].output for step in program]
        found = plain.results(program, scene) if safe else [()] * len(program)
        ready = {
            name: [
                [
                    i
                    for i, kind in enumerate(kinds)
                    if kind == wanted and not (safe and name == "unique" and len(found[i]) != 1)
                ]
                for wanted in signature.inputs
            ]
            for name, signature in FUNCTIONS.items()
            if len(program) <= length or name in QUESTION_TYPES
        }
        name = draw(st.sampled_from([name for name, inputs in ready.items() if all(inputs)]))
        inputs = tuple(draw(st.sampled_from(earlier)) for earlier in ready[name])
        values = FUNCTIONS[name].values
        program.append(_record(name, inputs, draw(st.sampled_from(values)) if values else None))
    return program, scene


def _record(function: str, inputs: tuple[int, ...], value: str | None) -> SimpleNamespace:
    return SimpleNamespace(function=function, inputs=inputs, value=value)


def _made(question) -> tuple[tuple[Step, ...], Scene]:
    program, scene = question
    things = tuple(Object(**vars(thing)) for thing in scene.objects)
    return tuple(Step(**vars(step)) for step in program), Scene(things)


@settings(max_examples=300, deadline=None)
@given(questions())
def test_executor_agrees_with_the_reference_implementation(question):
    program, scene = _made(question)
    expected = plain.answer(program, scene)
    if expected is None:
        with pytest.raises(ProgramError, match=r"step \d+ \(unique\): needs exactly one object"):
            execute(program, scene)
    else:
        assert execute(program, scene) == expected
        assert expected in ANSWERS


THREE = Scene(
    tuple(
        Object(shape, size, "rubber", color, (x, y, 0.7), 0.0)
        for shape, size, color, x, y in (
            ("cube", "large", "red", -2.0, -2.0),
            ("cube", "small", "blue", 0.0, 0.0),
            ("sphere", "small", "red", 2.0, 2.0),
        )
    )
)


def _chain(*steps: tuple[str, str | None]):
    program = [Step("scene")]
    for name, value in steps:
        program.append(Step(name, (len(program) - 1,), value))
    return tuple(program)


@pytest.mark.parametrize(
    ("program", "answer"),
    [
        (_chain(("count", None)), "3"),
        (_chain(("filter_color", "red"), ("count", None)), "2"),
        (_chain(("filter_color", "gray"), ("exist", None)), "no"),
        (_chain(("filter_shape", "sphere"), ("unique", None), ("query_size", None)), "small"),
        # (2, 2) is far to the right: everything else is left of it.
        (
            _chain(
                ("filter_shape", "sphere"), ("unique", None), ("relate", "left"), ("count", None)
            ),
            "2",
        ),
        (
            _chain(
                ("filter_shape", "sphere"), ("unique", None), ("relate", "right"), ("exist", None)
            ),
            "no",
        ),
        (
            _chain(
                ("filter_shape", "sphere"), ("unique", None), ("same_color", None), ("count", None)
            ),
            "1",
        ),
    ],
)
def test_answers_of_hand_written_programs(program, answer):
    assert execute(program, THREE) == answer


SPHERE = (("filter_shape", "sphere"), ("unique", None))


@pytest.mark.parametrize(
    ("program", "queried"),
    [
        (_chain(("count", None)), (0, 1, 2)),
        (_chain(("filter_color", "gray"), ("exist", None)), ()),
        (_chain(*SPHERE, ("query_size", None)), (2,)),
        # What is left of the sphere, not the sphere that the question describes it by.
        (_chain(*SPHERE, ("relate", "left"), ("count", None)), (0, 1)),
        (_chain(*SPHERE, ("same_color", None), ("exist", None)), (0,)),
        # Both sides of a comparison.
        (
            (
                Step("scene"),
                Step("filter_color", (0,), "blue"),
                Step("count", (1,)),
                Step("filter_shape", (0,), "sphere"),
                Step("count", (3,)),
                Step("less_than", (2, 4)),
            ),
            (1, 2),
        ),
        (
            (
                Step("scene"),
                Step("filter_color", (0,), "blue"),
                Step("unique", (1,)),
                Step("query_size", (2,)),
                Step("filter_shape", (0,), "sphere"),
                Step("unique", (4,)),
                Step("query_size", (5,)),
                Step("equal_size", (3, 6)),
            ),
            (1, 2),
        ),
    ],
)
def test_objects_that_an_answer_is_about(program, queried):
    assert queried_objects(program, THREE) == queried


def test_queried_objects_of_a_program_without_answer_are_an_error():
    with pytest.raises(ProgramError, match="needs exactly one object, found 2"):
        queried_objects(
            _chain(("filter_color", "red"), ("unique", None), ("query_size", None)), THREE
        )


@pytest.mark.parametrize("split", ["val", "valA", "valB"])
def test_every_official_question_is_answered_correctly(split):
    if not OFFICIAL.is_dir():
        pytest.skip(f"official-generator data not found at {OFFICIAL}")
    scenes_file = OFFICIAL / f"scenes/CLEVR_{split}_scenes.json"
    scenes_by_index = [
        Scene(
            tuple(
                Object(
                    shape=o["shape"],
                    size=o["size"],
                    material=o["material"],
                    color=o["color"],
                    position=tuple(o["3d_coords"]),
                    rotation=o["rotation"],
                )
                for o in scene["objects"]
            )
        )
        for scene in json.loads(scenes_file.read_text())["scenes"]
    ]
    questions_file = OFFICIAL / f"questions/CLEVR_{split}_questions.json"
    questions = json.loads(questions_file.read_text())["questions"]
    assert len(questions) in (200, 800)
    wrong = []
    for question in questions:
        program = program_from_json(question["program"])
        scene = scenes_by_index[question["image_index"]]
        if not execute(program, scene) == question["answer"] == plain.answer(program, scene):
            wrong.append(question["question_index"])
        assert question_type(program) in QUESTION_TYPES
        assert program_to_json(program) == question["program"]
    assert wrong == []


COUNT = Step("count", (0,))


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ((), "an empty program"),
        ((Step("sceen"),), r"step 0 \(sceen\): unknown function"),
        ((Step("scene"), Step("count")), r"step 1 \(count\): takes 1 inputs, was given 0"),
        ((Step("scene"), Step("count", (0, 0))), r"step 1 \(count\): takes 1 inputs, was given 2"),
        ((Step("scene", (0,)), COUNT), r"step 0 \(scene\): takes 0 inputs, was given 1"),
        ((Step("scene"), Step("count", (1,))), r"step 1 \(count\): input 1 is not an earlier step"),
        ((Step("scene"), Step("count", (2,)), COUNT), r"step 1 .* input 2 is not an earlier"),
        ((Step("scene"), Step("count", (-1,))), r"step 1 .* input -1 is not an earlier step"),
        ((Step("scene"), Step("query_size", (0,))), r"step 1 .* is of type set, needs object"),
        (
            (Step("scene"), COUNT, Step("equal_color", (1, 1))),
            r"step 2 \(equal_color\): input 1 is of type integer, needs color",
        ),
        (
            (Step("scene"), Step("filter_color", (0,), "pink"), Step("count", (1,))),
            r"step 1 \(filter_color\): value 'pink' is none of gray, red",
        ),
        (
            (Step("scene"), Step("filter_color", (0,)), Step("count", (1,))),
            r"step 1 \(filter_color\): value None is none of",
        ),
        ((Step("scene"), Step("count", (0,), "red")), r"step 1 \(count\): takes no value"),
        ((Step("scene"), Step("filter_size", (0,), "large")), r"step 1 .* must give an answer"),
    ],
)
def test_errors_of_malformed_programs_name_the_step(program, message):
    with pytest.raises(ProgramError, match=message):
        check(program)
    with pytest.raises(ProgramError, match=message):
        execute(program, THREE)


def test_the_error_of_unique_names_the_step_and_the_count():
    program = _chain(("filter_color", "red"), ("unique", None), ("query_size", None))
    with pytest.raises(ProgramError, match=r"step 2 \(unique\): needs exactly one object, found 2"):
        execute(program, THREE)


def test_scenes_of_too_many_objects_are_rejected():
    eleven = Scene(THREE.objects * 4)
    with pytest.raises(SceneError, match="up to 10 objects, not 12"):
        execute(_chain(("count", None)), eleven)


@settings(max_examples=50, deadline=None)
@given(questions())
def test_json_round_trip_in_both_spellings(question):
    program, _ = _made(question)
    entries = program_to_json(program)
    assert program_from_json(json.loads(json.dumps(entries))) == program
    generator = [
        {
            "type": e["function"],
            "inputs": e["inputs"],
            "side_inputs": e["value_inputs"],
            "_output": 3,
        }
        for e in entries
    ]
    assert program_from_json(generator) == program


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ("scene", "a list of steps, not str"),
        (None, "a list of steps, not NoneType"),
        ([3], "step 0: expected an object, found int"),
        ([{"inputs": []}], 'needs a text under "function"'),
        ([{"function": "scene"}], '"inputs" must be a list of integers'),
        ([{"function": "scene", "inputs": [True]}], '"inputs" must be a list of integers'),
        ([{"function": "scene", "inputs": [], "value_inputs": ["a", "b"]}], "at most one text"),
        ([{"function": "scene", "inputs": [], "value_inputs": [4]}], "at most one text"),
        ([{"function": "scene", "inputs": []}], "must give an answer"),
    ],
)
def test_malformed_json_is_rejected(entries, message):
    with pytest.raises(ProgramError, match=message):
        program_from_json(entries)


def test_question_type_is_the_last_function():
    assert question_type(_chain(("count", None))) == "count"
    with pytest.raises(ProgramError, match="not in 'filter_size'"):
        question_type(_chain(("filter_size", "large")))
    with pytest.raises(ProgramError, match="not in nothing"):
        question_type(())
