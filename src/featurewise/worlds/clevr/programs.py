"""Functional programs of CLEVR questions, and their execution on scenes.

A program is a tuple of steps in topological order; the last step gives the answer. During execution
a set of objects is a bit mask: bit j of a Python integer stands for object j.

Source: Johnson et al. 2017, *CLEVR: A Diagnostic Dataset for Compositional Language and Elementary
Visual Reasoning*, section 3 and supplementary A.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from featurewise.worlds.clevr.errors import SceneError, WorldError
from featurewise.worlds.clevr.scene import Scene
from featurewise.worlds.clevr.vocabulary import ATTRIBUTES, QUESTION_TYPES, RELATIONS


class ProgramError(WorldError):
    """A program is malformed, or has no answer on the scene."""


@dataclass(frozen=True, slots=True)
class Step:
    """One function application.

    Attributes:
        function: Name of the function, a key of `FUNCTIONS`.
        inputs: Indices of the earlier steps whose results are its inputs.
        value: Its literal argument (a colour, a relation, ...), or None.
    """

    function: str
    inputs: tuple[int, ...] = ()
    value: str | None = None


Program = tuple[Step, ...]

#: The largest number among the answers.
MAX_OBJECTS: Final = 10


class Signature(NamedTuple):
    """Types of a function's inputs and output, and its literal values; () if it takes none."""

    inputs: tuple[str, ...]
    output: str
    values: tuple[str, ...] = ()


def _signatures() -> dict[str, Signature]:
    table = {
        "scene": Signature((), "set"),
        "unique": Signature(("set",), "object"),
        "relate": Signature(("object",), "set", RELATIONS),
        "union": Signature(("set", "set"), "set"),
        "intersect": Signature(("set", "set"), "set"),
        "count": Signature(("set",), "integer"),
        "exist": Signature(("set",), "bool"),
        "equal_integer": Signature(("integer", "integer"), "bool"),
        "less_than": Signature(("integer", "integer"), "bool"),
        "greater_than": Signature(("integer", "integer"), "bool"),
    }
    for attribute, values in ATTRIBUTES.items():
        table[f"filter_{attribute}"] = Signature(("set",), "set", values)
        table[f"same_{attribute}"] = Signature(("object",), "set")
        table[f"query_{attribute}"] = Signature(("object",), attribute)
        table[f"equal_{attribute}"] = Signature((attribute, attribute), "bool")
    return table


#: Every function of the language and its signature.
FUNCTIONS: Final[dict[str, Signature]] = _signatures()


def check(program: Program) -> None:
    """Check arity, types, literal values and order of a program.

    Raises:
        ProgramError: the program is empty, a step is wrong (the message names it), or the last
            step gives no answer.
    """
    if not program:
        raise ProgramError("an empty program has no answer; give at least one step")
    for index, step in enumerate(program):
        _check_step(index, step, program)
    if program[-1].function not in QUESTION_TYPES:
        raise _error(
            len(program) - 1, program[-1], "the last step must give an answer (count, query_*, ...)"
        )


def _check_step(index: int, step: Step, program: Program) -> None:
    signature = FUNCTIONS.get(step.function)
    if signature is None:
        raise _error(index, step, f"unknown function; known are {', '.join(FUNCTIONS)}")
    if len(step.inputs) != len(signature.inputs):
        raise _error(
            index, step, f"takes {len(signature.inputs)} inputs, was given {len(step.inputs)}"
        )
    for position, source in zip(signature.inputs, step.inputs, strict=True):
        if not 0 <= source < index:
            raise _error(
                index, step, f"input {source} is not an earlier step (they are 0..{index - 1})"
            )
        given = FUNCTIONS[program[source].function].output
        if given != position:
            raise _error(index, step, f"input {source} is of type {given}, needs {position}")
    if signature.values and step.value not in signature.values:
        raise _error(index, step, f"value {step.value!r} is none of {', '.join(signature.values)}")
    if not signature.values and step.value is not None:
        raise _error(index, step, f"takes no value, was given {step.value!r}")


def _error(index: int, step: Step, reason: str) -> ProgramError:
    return ProgramError(f"step {index} ({step.function}): {reason}")


class SceneSets:
    """The sets of objects of one scene that programs use, as bit masks.

    Raises:
        SceneError: the scene has more than `MAX_OBJECTS` objects.

    Attributes:
        everything: Mask of all objects.
        values: Attribute -> value of each object.
        having: Attribute -> value -> mask of the objects with this value.
        same: Attribute -> for each object, mask of the *other* objects with the same value.
        related: Relation -> for each object i, mask of the objects in this relation to i.
    """

    __slots__ = ("everything", "having", "related", "same", "values")

    def __init__(self, scene: Scene) -> None:
        objects = scene.objects
        if len(objects) > MAX_OBJECTS:
            raise SceneError(f"answers count up to {MAX_OBJECTS} objects, not {len(objects)}")
        self.everything = (1 << len(objects)) - 1
        self.values: dict[str, list[str]] = {
            a: [getattr(thing, a) for thing in objects] for a in ATTRIBUTES
        }
        self.having = {a: dict.fromkeys(values, 0) for a, values in ATTRIBUTES.items()}
        for attribute, column in self.values.items():
            masks = self.having[attribute]
            for index, value in enumerate(column):
                masks[value] |= 1 << index
        self.same = {
            a: [self.having[a][value] & ~(1 << i) for i, value in enumerate(column)]
            for a, column in self.values.items()
        }
        self.related = {
            relation: [sum(1 << j for j in others) for others in scene.related(relation)]
            for relation in RELATIONS
        }


def execute(program: Program, scene: Scene) -> str:
    """Execute a program on a scene.

    Args:
        program: The steps, the last of which gives the answer.
        scene: The scene.

    Returns:
        One of `vocabulary.ANSWERS`.

    Raises:
        ProgramError: the program is malformed, or the input of `unique` is not a set of exactly
            one object; the message names the step.
        SceneError: the scene has more than `MAX_OBJECTS` objects.
    """
    check(program)
    return run(program, SceneSets(scene))


def run(program: Program, sets: SceneSets) -> str:
    """Execute a program that was checked on the sets of a scene (see `execute`)."""
    result = _results(program, sets)[-1]
    if FUNCTIONS[program[-1].function].output == "bool":
        return "yes" if result else "no"
    return str(result)


def queried_objects(program: Program, scene: Scene) -> tuple[int, ...]:
    """Indices of the objects that the answer is about, in increasing order.

    They are those that the program counts, compares, or whose existence or attribute it gives; not
    those that it only describes them by, such as the ball in "the cube left of the ball".

    Raises:
        ProgramError: as `execute`.
        SceneError: as `execute`.
    """
    check(program)
    results = _results(program, SceneSets(scene))
    found, open_steps = 0, list(program[-1].inputs)
    while open_steps:
        index = open_steps.pop()
        match FUNCTIONS[program[index].function].output:
            case "set":
                found |= int(results[index])
            case "object":
                found |= 1 << int(results[index])
            case _:
                open_steps += program[index].inputs
    return tuple(i for i in range(len(scene.objects)) if found >> i & 1)


def _results(program: Program, sets: SceneSets) -> list[int | str]:
    """The result of every step."""
    results: list[int | str] = []
    for index, step in enumerate(program):
        result = _apply(step, [results[i] for i in step.inputs], sets)
        if result is None:
            found = int(results[step.inputs[0]]).bit_count()
            raise _error(index, step, f"needs exactly one object, found {found}")
        results.append(result)
    return results


def _apply(step: Step, inputs: list[int | str], sets: SceneSets) -> int | str | None:
    """Result of one step: a mask, an object's index, a number, a boolean or a word."""
    verb, _, attribute = step.function.partition("_")
    if verb == "equal":
        return inputs[0] == inputs[1]
    numbers = [int(x) for x in inputs]
    match verb:
        case "scene":
            return sets.everything
        case "filter":
            return numbers[0] & sets.having[attribute][str(step.value)]
        case "unique":
            return numbers[0].bit_length() - 1 if numbers[0].bit_count() == 1 else None
        case "relate":
            return sets.related[str(step.value)][numbers[0]]
        case "same":
            return sets.same[attribute][numbers[0]]
        case "union":
            return numbers[0] | numbers[1]
        case "intersect":
            return numbers[0] & numbers[1]
        case "count":
            return numbers[0].bit_count()
        case "exist":
            return numbers[0] != 0
        case "query":
            return sets.values[attribute][numbers[0]]
        case "less":
            return numbers[0] < numbers[1]
        case _:
            return numbers[0] > numbers[1]


def question_type(program: Program) -> str:
    """Question type, as in tables of accuracy: the function of the program's last step.

    Raises:
        ProgramError: the program is empty or its last function is none of `QUESTION_TYPES`.
    """
    if not program or program[-1].function not in QUESTION_TYPES:
        last = repr(program[-1].function) if program else "nothing"
        raise ProgramError(f"a question ends in one of {', '.join(QUESTION_TYPES)}, not in {last}")
    return program[-1].function


def program_to_json(program: Program) -> list[dict[str, object]]:
    """The program as in files of CLEVR v1.0, with keys function, inputs, value_inputs."""
    return [
        {
            "function": step.function,
            "inputs": list(step.inputs),
            "value_inputs": [] if step.value is None else [step.value],
        }
        for step in program
    ]


def program_from_json(entries: object) -> Program:
    """Read a program from parsed JSON, with the keys of the release or of its generator.

    The release has "function" and "value_inputs", the public generator "type" and "side_inputs".

    Raises:
        ProgramError: an entry is malformed, or the program fails `check`.
    """
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise ProgramError(f"a program is a list of steps, not {type(entries).__name__}")
    program = tuple(_step_from_json(index, entry) for index, entry in enumerate(entries))
    check(program)
    return program


def _step_from_json(index: int, entry: object) -> Step:
    if not isinstance(entry, Mapping):
        raise ProgramError(f"step {index}: expected an object, found {type(entry).__name__}")
    function = entry.get("function", entry.get("type"))
    inputs = entry.get("inputs")
    values = entry.get("value_inputs", entry.get("side_inputs", []))
    if not isinstance(function, str):
        raise ProgramError(f'step {index}: needs a text under "function" (or "type")')
    if not isinstance(inputs, list) or any(type(i) is not int for i in inputs):
        raise ProgramError(f'step {index} ({function}): "inputs" must be a list of integers')
    if not isinstance(values, list) or len(values) > 1 or any(type(v) is not str for v in values):
        raise ProgramError(f'step {index} ({function}): "value_inputs" must hold at most one text')
    return Step(function, tuple(inputs), values[0] if values else None)
