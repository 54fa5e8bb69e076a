"""The nine groups of families, each a function that yields its plans and wordings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Final

from featurewise.worlds.clevr.families.options import Ending
from featurewise.worlds.clevr.families.patterns import (
    Pattern,
    ask_count,
    ask_equal,
    ask_exist,
    ask_numbers,
    ask_value,
    chain,
)
from featurewise.worlds.clevr.families.plan import Apply, Describe, Filter, Node, Plan, Relate
from featurewise.worlds.clevr.vocabulary import ATTRIBUTES


@dataclass(frozen=True, slots=True)
class Family:
    """One question family.

    Attributes:
        group: Name of its group.
        plan: The structure of its program.
        patterns: Its wordings.
    """

    group: str
    plan: Plan
    patterns: tuple[Pattern, ...]


#: Plan of a family and the texts of its patterns.
FamilySpec = tuple[Plan, tuple[str, ...]]
_NUMBERS: Final = ("equal_integer", "less_than", "greater_than")
_NONE: Final[frozenset[str]] = frozenset()


def _hidden(*attributes: str) -> frozenset[str]:
    return frozenset(attributes)


def _hops(hops: int, ending: Ending, first: int = 0, last: frozenset[str] = _NONE) -> list[Node]:
    """A chain of uniquely described objects, `hops` relations long, with `ending` at its end.

    `first` is the index of its first node in the plan. `last` has the attributes that the last
    description may not name.
    """
    nodes: list[Node] = []
    for hop in range(hops + 1):
        final = hop == hops
        nodes.append(
            Describe(
                first + hop - 1 if hop else None,
                ending if final else "unique",
                related=hop > 0,
                without=last if final else _NONE,
            )
        )
    return nodes


def _compare_integer() -> Iterator[FamilySpec]:
    for (left, right), function in product(((0, 0), (1, 0), (1, 1)), _NUMBERS):
        first = _hops(left, "count")
        second = _hops(right, "count", first=left + 1)
        ends = (left, left + 1 + right)
        nodes = (*first, *second, Apply(function, ends))
        different = {(0, 0): ((0, 1),), (1, 0): (), (1, 1): ((0, 2),)}[left, right]
        yield (
            Plan(nodes, different),
            ask_numbers(
                function,
                chain(left, plural=True),
                chain(right, plural=True, start=left + 2, relation=left + 1),
            ),
        )


def _comparison() -> Iterator[FamilySpec]:
    for attribute in ATTRIBUTES:
        yield _compared(attribute, 0, 0)
    for attribute in ATTRIBUTES:
        for left, right in ((1, 0), (0, 1), (1, 1)):
            yield _compared(attribute, left, right)


def _compared(attribute: str, left: int, right: int) -> FamilySpec:
    hidden = _hidden(attribute)
    first = _hops(left, "unique", last=hidden)
    second = _hops(right, "unique", first=left + 2, last=hidden)
    if attribute == "size" and (left, right) == (1, 0):
        # As in the original, by its mistake: the first description may not name the size, instead
        # of the last one.
        first = [Describe(None, "unique", without=hidden), *first[1:]]
        second = _hops(0, "unique", first=3)
    one, two = left, left + 2 + right
    nodes: tuple[Node, ...] = (
        *first,
        Apply(f"query_{attribute}", (one,)),
        *second,
        Apply(f"query_{attribute}", (two,)),
        Apply(f"equal_{attribute}", (left + 1, two + 1)),
    )
    texts = ask_equal(attribute, chain(left), chain(right, start=left + 2, relation=left + 1))
    return Plan(nodes, ((one, two),)), texts


def _hop_family(hops: int, attribute_order: tuple[str, ...]) -> Iterator[FamilySpec]:
    """Families with `hops` relations (at least one): count, exist, then one query per attribute."""
    last, anchor = hops + 1, chain(hops - 1)
    where, there = f"<R{hops}> the {anchor}", f"<R{hops}> it"
    intro = f"there is a {anchor}; "
    noun, nouns = f"<{last}>", f"<{last}s>"
    counts = ask_count(nouns, where) + tuple(intro + t for t in ask_count(nouns, there))
    yield Plan(tuple(_hops(hops, "count"))), counts
    exists = ask_exist(noun, nouns, where)
    exists += tuple(intro + t for t in ask_exist(noun, nouns, there))
    yield Plan(tuple(_hops(hops, "exist"))), exists
    for attribute in attribute_order:
        nodes = _hops(hops, "unique", last=_hidden(attribute))
        query = Apply(f"query_{attribute}", (hops,))
        yield Plan((*nodes, query)), ask_value(attribute, chain(hops))


def _one_hop() -> Iterator[FamilySpec]:
    yield from _hop_family(1, ("size", "color", "material", "shape"))


def _two_hop() -> Iterator[FamilySpec]:
    yield from _hop_family(2, ("size", "color", "material", "shape"))


def _three_hop() -> Iterator[FamilySpec]:
    yield from _hop_family(3, ("size", "shape", "color", "material"))


def _zero_hop() -> Iterator[FamilySpec]:
    counts = ("how many <1s> are there", "what number of <1s> are there")
    yield Plan((Describe(None, "count"),)), counts
    exists = ("is there a <1>", "are there any <1s>", "are any <1s> visible")
    yield Plan((Describe(None, "exist"),)), exists
    for attribute in ("shape", "material", "color", "size"):
        nodes = _hops(0, "unique", last=_hidden(attribute))
        query = Apply(f"query_{attribute}", (0,))
        yield Plan((*nodes, query)), ask_value(attribute, "<1>", pronoun=False)


def _same_relate() -> Iterator[FamilySpec]:
    for ask in (_any_same, _number_same, _some_same, _how_many_same):
        for attribute in ATTRIBUTES:
            yield ask(attribute)
    for attribute in ATTRIBUTES:
        for queried in ATTRIBUTES:
            if queried != attribute:
                yield _value_same(attribute, queried)


def _sharing(attribute: str) -> tuple[Node, Node]:
    """A uniquely described object, and the other objects with the same value of an attribute."""
    return Describe(None, "unique", without=_hidden(attribute)), Apply(f"same_{attribute}", (0,))


def _alike(attribute: str, be: str, have: str) -> tuple[str, ...]:
    """Wordings of "has the same value of an attribute as the first description"."""
    same = f"the same {attribute} as the <1>"
    made = "[made of] " if attribute == "material" else ""
    return f"{be} {made}{same}", f"{have} {same}"


def _any_same(attribute: str) -> FamilySpec:
    singular = _alike(attribute, "is", "has")
    texts = [f"is there anything else that {alike}" for alike in singular]
    texts += [f"is there any other <thing> that {alike}" for alike in singular]
    texts += [
        f"are there any other <things> that {alike}" for alike in _alike(attribute, "are", "have")
    ]
    return Plan((*_sharing(attribute), Apply("exist", (1,)))), tuple(texts)


def _number_same(attribute: str) -> FamilySpec:
    texts = []
    for ask in ("how many", "what number of"):
        are, have = _alike(attribute, "are", "have")
        texts += [f"{ask} other <things> {are}", f"{ask} other <things> {have}"]
        made = "made " if attribute == "material" else ""
        texts.append(f"{ask} other <things> are there {made}of the same {attribute} as the <1>")
    return Plan((*_sharing(attribute), Apply("count", (1,)))), tuple(texts)


def _some_same(attribute: str) -> FamilySpec:
    made = "made " if attribute == "material" else ""
    shared = f"{made}of the same {attribute} as the <1>"
    texts = [f"is there another <2> {shared}", f"are there any other <2s> {shared}"]
    texts += [f"is there another <2> that {alike}" for alike in _alike(attribute, "is", "has")]
    texts += [
        f"are there any other <2s> that {alike}" for alike in _alike(attribute, "are", "have")
    ]
    described = Describe(1, "exist", without=_hidden(attribute))
    return Plan((*_sharing(attribute), described)), tuple(texts)


def _how_many_same(attribute: str) -> FamilySpec:
    texts = [
        f"{ask} other <2s> {alike}"
        for ask in ("how many", "what number of")
        for alike in _alike(attribute, "are", "have")
    ]
    described = Describe(1, "count", without=_hidden(attribute))
    return Plan((*_sharing(attribute), described)), tuple(texts)


def _value_same(attribute: str, queried: str) -> FamilySpec:
    alike, _ = _alike(attribute, "is", "has")
    texts = tuple(
        text.replace("there is a ", "there is another ").replace("the <2>", "the other <2>")
        for text in ask_value(queried, f"<2> that {alike}")
    )
    described = Describe(1, "unique", without=_hidden(attribute, queried))
    return Plan((*_sharing(attribute), described, Apply(f"query_{queried}", (2,)))), texts


def _single_and() -> Iterator[FamilySpec]:
    both: tuple[Node, ...] = (
        Describe(None, "unique"),
        Relate(0),
        Describe(None, "unique"),
        Relate(2),
        Apply("intersect", (1, 3)),
    )
    where = "[both] <R2> the <2> and <R1> the <1>"
    yield Plan((*both, Describe(4, "count"))), ask_count("<3s>", where)
    for attribute in ("size", "color", "material", "shape"):
        described = Describe(4, "unique", without=_hidden(attribute))
        plan = Plan((*both, described, Apply(f"query_{attribute}", (5,))), ((1, 3),))
        yield plan, ask_value(attribute, f"<3> that is {where}")


def _single_or() -> Iterator[FamilySpec]:
    yield _either(0, 0)
    yield _either(0, 0, "size")
    yield _either(0, 0, "color")
    yield _either(1, 1)
    yield _either(0, 0, "material")
    yield _either(0, 0, "shape")
    yield _either(1, 0)
    yield _either(0, 1)


def _either(left: int, right: int, attribute: str | None = None) -> FamilySpec:
    """Count the union of two sets, or, with an attribute, its objects with one value of it."""
    hidden = _hidden(attribute) if attribute else _NONE
    first = _hops(left, "set", last=hidden)
    second = _hops(right, "set", first=left + 1, last=hidden)
    ends = (left, left + 1 + right)
    nodes: list[Node] = [*first, *second, Apply("union", ends)]
    nouns = "<things>"
    if attribute:
        nodes.append(Filter(len(nodes) - 1, attribute))
        nouns = "<3s>"
    nodes.append(Apply("count", (len(nodes) - 1,)))
    sides = (chain(left, plural=True), chain(right, plural=True, start=left + 2, relation=left + 1))
    different = (ends,) if left == right == 0 else ()
    return Plan(tuple(nodes), different), ask_count(nouns, f"[either] {sides[0]} or {sides[1]}")


_BUILDERS: Final[dict[str, Callable[[], Iterator[FamilySpec]]]] = {
    "compare_integer": _compare_integer,
    "comparison": _comparison,
    "one_hop": _one_hop,
    "same_relate": _same_relate,
    "single_and": _single_and,
    "single_or": _single_or,
    "three_hop": _three_hop,
    "two_hop": _two_hop,
    "zero_hop": _zero_hop,
}


def _family(group: str, plan: Plan, texts: tuple[str, ...]) -> Family:
    descriptions = sum(isinstance(node, Describe | Filter) for node in plan.nodes)
    related = any(isinstance(n, Relate) or getattr(n, "related", False) for n in plan.nodes)
    exclusive = descriptions == 2 and not related
    return Family(group, plan, tuple(Pattern(text, exclusive=exclusive) for text in texts))


#: All families; the position is the global index.
FAMILIES: Final[tuple[Family, ...]] = tuple(
    _family(group, plan, texts) for group, build in _BUILDERS.items() for plan, texts in build()
)
#: Names of the groups, in the order of their families.
GROUPS: Final[tuple[str, ...]] = tuple(_BUILDERS)
