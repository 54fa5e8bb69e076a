"""Reference implementation of the program executor: Python sets, one loop, no precomputed masks.

It is written from the definitions of the functions and the geometry of the relations, and shares
only the objects' fields with the library's executor.
"""

from __future__ import annotations

RIGHT = (0.6563112736, 0.7544902563)
BEHIND = (-0.7544903159, 0.6563112736)


def stands(relation: str, one, other) -> bool:
    """Whether `one` is in the relation to `other`."""
    axis = RIGHT if relation in ("left", "right") else BEHIND
    sign = 1 if relation in ("right", "behind") else -1
    offset = sum(a * (p - q) for a, p, q in zip(axis, one.position, other.position, strict=False))
    return sign * offset > 0.2


def results(program, scene) -> list | None:
    """Result of every step (sets of indices, indices, words, numbers); None if unique fails."""
    things = scene.objects
    out: list = []
    for step in program:
        x = [out[i] for i in step.inputs]
        name, value = step.function, step.value
        if name == "scene":
            y = set(range(len(things)))
        elif name == "unique":
            if len(x[0]) != 1:
                return None
            (y,) = x[0]
        elif name == "relate":
            y = {j for j in range(len(things)) if stands(value, things[j], things[x[0]])}
        elif name == "union":
            y = x[0].union(x[1])
        elif name == "intersect":
            y = x[0].intersection(x[1])
        elif name == "count":
            y = len(x[0])
        elif name == "exist":
            y = len(x[0]) > 0
        elif name == "less_than":
            y = x[0] < x[1]
        elif name == "greater_than":
            y = x[0] > x[1]
        elif name.startswith("equal_"):
            y = x[0] == x[1]
        elif name.startswith("filter_"):
            y = {i for i in x[0] if getattr(things[i], name[7:]) == value}
        elif name.startswith("same_"):
            mine = getattr(things[x[0]], name[5:])
            y = {i for i, t in enumerate(things) if getattr(t, name[5:]) == mine and i != x[0]}
        else:
            y = getattr(things[x[0]], name.removeprefix("query_"))
        out.append(y)
    return out


def answer(program, scene) -> str | None:
    """The answer in words; None if unique fails."""
    out = results(program, scene)
    if out is None:
        return None
    return {True: "yes", False: "no"}[out[-1]] if isinstance(out[-1], bool) else str(out[-1])
