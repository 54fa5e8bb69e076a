"""Plans: the structure of a family's program, with its descriptions and relations left open.

A plan is a tuple of nodes in topological order. A node has three methods, which the depth-first
search of `search.py` uses: `propose` gives its possible choices in random order, each with its
result, from the results of the earlier nodes; `apply` gives the result of a given choice; `steps`
gives the program steps of a choice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Final, Protocol, runtime_checkable

from featurewise.worlds.clevr.families.options import (
    CHOICES,
    DESCRIPTIONS,
    DISTRACTOR,
    NAMED,
    STRIDES,
    Choice,
    Ending,
    Options,
    Proposal,
    shuffled,
)
from featurewise.worlds.clevr.programs import Program, Step
from featurewise.worlds.clevr.vocabulary import ATTRIBUTES, RELATIONS


@runtime_checkable
class Node(Protocol):
    """One node of a plan."""

    @property
    def sources(self) -> tuple[int, ...]:
        """Indices of the earlier nodes whose results are its inputs."""

    def propose(self, results: list[int], options: Options, rng: Random) -> Iterable[Proposal]:
        """Possible choices with their results."""

    def apply(self, choice: Choice, results: list[int], options: Options) -> int | None:
        """Result of a given choice; None if it has no result."""

    def steps(self, choice: Choice, at: list[int], program: list[Step]) -> None:
        """Append the node's steps; `at[k]` is the step that holds the result of node k."""


@dataclass(frozen=True, slots=True)
class Describe:
    """Filter a set by a description, then apply `ending`.

    Attributes:
        source: Node of the input; None for all objects of the scene.
        ending: Function of the filtered set; "set" returns the set itself.
        related: Whether `source` is an object, and the input is the set of objects in some
            relation to it.
        without: Attributes that the description may not name, because they would give the answer.
    """

    source: int | None
    ending: Ending
    related: bool = False
    without: frozenset[str] = frozenset()

    @property
    def sources(self) -> tuple[int, ...]:
        """The node of the input, if any."""
        return () if self.source is None else (self.source,)

    def propose(self, results: list[int], options: Options, rng: Random) -> Iterator[Proposal]:
        """Descriptions (and relations) that `without` allows, with the result of `ending`."""
        start = options.sets.everything if self.source is None else results[self.source]
        if self.related:
            found = options.related(start, self.ending, rng)
        else:
            found = options.plain(start, self.ending)
        finish, without = _FINISH[self.ending], self.without
        for choice, hit in shuffled(found, rng):
            if choice is DISTRACTOR:
                choice = CHOICES[None][int(rng.random() * len(DESCRIPTIONS))]
                hit &= options.matching(choice.code)
            if without.isdisjoint(NAMED[choice.code]):
                yield choice, finish(hit)

    def apply(self, choice: Choice, results: list[int], options: Options) -> int | None:
        """Result of `ending`; None if it is "unique" and the set has not exactly one object."""
        hit = options.sets.everything if self.source is None else results[self.source]
        if choice.relation is not None:
            hit = options.sets.related[choice.relation][hit]
        hit &= options.matching(choice.code)
        undefined = self.ending == "unique" and hit.bit_count() != 1
        return None if undefined else _FINISH[self.ending](hit)

    def steps(self, choice: Choice, at: list[int], program: list[Step]) -> None:
        """`scene` or `relate`, the filters in fixed order, then the ending."""
        last = _append(program, "scene") if self.source is None else at[self.source]
        if choice.relation is not None:
            last = _append(program, "relate", (last,), choice.relation)
        for attribute, value in zip(ATTRIBUTES, DESCRIPTIONS[choice.code], strict=True):
            if value is not None:
                last = _append(program, f"filter_{attribute}", (last,), value)
        if self.ending != "set":
            last = _append(program, self.ending, (last,))
        at.append(last)


@dataclass(frozen=True, slots=True)
class Filter:
    """Filter a set by one value of one attribute.

    Attributes:
        source: index of the result that is filtered.
        attribute: such as "color"; its value is open.
    """

    source: int
    attribute: str

    @property
    def sources(self) -> tuple[int, ...]:
        """The set."""
        return (self.source,)

    def propose(self, results: list[int], options: Options, rng: Random) -> Iterator[Proposal]:
        """Every value of the attribute, also those that no object has."""
        stride, values = STRIDES[self.attribute], ATTRIBUTES[self.attribute]
        choices = [CHOICES[None][stride * (1 + index)] for index in range(len(values))]
        yield from shuffled([(c, self.apply(c, results, options)) for c in choices], rng)

    def apply(self, choice: Choice, results: list[int], options: Options) -> int:
        """The objects with the value."""
        return results[self.source] & options.matching(choice.code)

    def steps(self, choice: Choice, at: list[int], program: list[Step]) -> None:
        """One filter."""
        value = ATTRIBUTES[self.attribute][choice.code // STRIDES[self.attribute] - 1]
        at.append(_append(program, f"filter_{self.attribute}", (at[self.source],), value))


@dataclass(frozen=True, slots=True)
class Relate:
    """The objects in some relation to an object.

    Attributes:
        source: index of the result that is the object.
    """

    source: int

    @property
    def sources(self) -> tuple[int, ...]:
        """The object."""
        return (self.source,)

    def propose(self, results: list[int], options: Options, rng: Random) -> Iterator[Proposal]:
        """All four relations."""
        choices = [CHOICES[relation][0] for relation in RELATIONS]
        yield from shuffled([(c, self.apply(c, results, options)) for c in choices], rng)

    def apply(self, choice: Choice, results: list[int], options: Options) -> int:
        """The objects in the relation."""
        return options.sets.related[choice.relation or ""][results[self.source]]

    def steps(self, choice: Choice, at: list[int], program: list[Step]) -> None:
        """One relate."""
        at.append(_append(program, "relate", (at[self.source],), choice.relation))


@dataclass(frozen=True, slots=True)
class Apply:
    """A function of earlier results without open parameters (same_*, union, query_*, ...).

    Attributes:
        function: its name in a CLEVR program.
        sources: indices of the results that it takes.
    """

    function: str
    sources: tuple[int, ...]

    def propose(self, results: list[int], options: Options, rng: Random) -> list[Proposal]:
        """The one result."""
        return [(Choice(), self.apply(Choice(), results, options))]

    def apply(self, choice: Choice, results: list[int], options: Options) -> int:
        """The function's value."""
        inputs = [results[source] for source in self.sources]
        verb, _, attribute = self.function.partition("_")
        return _VERBS[verb](attribute, inputs, options)

    def steps(self, choice: Choice, at: list[int], program: list[Step]) -> None:
        """The function itself."""
        at.append(_append(program, self.function, tuple(at[source] for source in self.sources)))


@dataclass(frozen=True, slots=True)
class Plan:
    """The structure of a family's program.

    Attributes:
        nodes: In topological order; the last gives the answer.
        different: Pairs of nodes whose results must differ.
    """

    nodes: tuple[Node, ...]
    different: tuple[tuple[int, int], ...] = ()

    def program(self, choices: Sequence[Choice]) -> Program:
        """The program of one choice per node."""
        program: list[Step] = []
        at: list[int] = []
        for node, choice in zip(self.nodes, choices, strict=True):
            node.steps(choice, at, program)
        return tuple(program)

    @property
    def function(self) -> str:
        """The last function of its programs: the question type."""
        last = self.nodes[-1]
        if isinstance(last, Describe):
            return last.ending
        if isinstance(last, Apply):
            return last.function
        raise TypeError(f"a plan must end in an answer, not in {last!r}")

    @property
    def impossible(self) -> frozenset[int]:
        """Results of the last node that `different` excludes: a comparison of unequal results."""
        compares = self.function == "equal_integer"
        return frozenset({1} if compares and self.nodes[-1].sources in self.different else ())

    def live_after(self, k: int) -> tuple[int, ...]:
        """Nodes up to k whose results are used after k, or k itself if it is the last node."""
        if k == len(self.nodes) - 1:
            return (k,)
        uses = [node.sources for node in self.nodes[k + 1 :]]
        uses += [pair for pair in self.different if pair[1] > k]
        return tuple(sorted({i for sources in uses for i in sources if i <= k}))


_FINISH: Final[dict[Ending, Callable[[int], int]]] = {
    "unique": lambda hit: hit.bit_length() - 1,
    "set": lambda hit: hit,
    "count": int.bit_count,
    "exist": lambda hit: int(hit != 0),
}
_VERBS: Final[dict[str, Callable[[str, list[int], Options], int]]] = {
    "same": lambda attribute, x, options: options.sets.same[attribute][x[0]],
    "union": lambda _, x, __: x[0] | x[1],
    "intersect": lambda _, x, __: x[0] & x[1],
    "count": lambda _, x, __: x[0].bit_count(),
    "exist": lambda _, x, __: int(x[0] != 0),
    "query": lambda attribute, x, options: options.values[attribute][x[0]],
    "equal": lambda _, x, __: int(x[0] == x[1]),
    "less": lambda _, x, __: int(x[0] < x[1]),
    "greater": lambda _, x, __: int(x[0] > x[1]),
}


@cache
def _step(function: str, inputs: tuple[int, ...], value: str | None) -> Step:
    """A step; equal steps are the same object, which saves time and memory."""
    return Step(function, inputs, value)


def _append(
    program: list[Step], function: str, inputs: tuple[int, ...] = (), value: str | None = None
) -> int:
    program.append(_step(function, inputs, value))
    return len(program) - 1
