"""Options: the possible descriptions of the objects of one scene, and the objects that fit them.

All results are integers: a bit mask for a set, an index for an object, an index into `ATTRIBUTES`
for a value, 0 or 1 for a boolean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from random import Random
from typing import Final, Literal, NamedTuple

from featurewise.worlds.clevr.programs import SceneSets
from featurewise.worlds.clevr.vocabulary import ATTRIBUTES, RELATIONS

#: What is done with a filtered set; "set" leaves it as it is.
Ending = Literal["unique", "set", "count", "exist"]


class Choice(NamedTuple):
    """A value of a node's open parameters: a relation, and the code of a description."""

    relation: str | None = None
    code: int = 0


#: A choice with the result it gives.
Proposal = tuple[Choice, int]

#: Description code -> (size, color, material, shape), None where the word is left out. Code 0 has
#: no attribute ("thing").
DESCRIPTIONS: Final[tuple[tuple[str | None, ...], ...]] = tuple(
    product(*((None, *values) for values in ATTRIBUTES.values()))
)
#: Place value of each attribute in a code; its digit is 1 + the index of the value, 0 if left out.
STRIDES: Final[dict[str, int]] = {"size": 108, "color": 12, "material": 4, "shape": 1}
#: Description code -> the attributes it names.
NAMED: Final[tuple[frozenset[str], ...]] = tuple(
    frozenset(a for a, value in zip(ATTRIBUTES, description, strict=True) if value is not None)
    for description in DESCRIPTIONS
)

#: Relation (or None) -> description code -> the choice of both; shared by all scenes.
CHOICES: Final[dict[str | None, tuple[Choice, ...]]] = {
    relation: tuple(Choice(relation, code) for code in range(len(DESCRIPTIONS)))
    for relation in (None, *RELATIONS)
}
#: Placeholder of a description that is sampled from all descriptions when it is tried.
DISTRACTOR: Final = Choice(None, -1)
#: Proportion of trivial options, whose relation does not restrict the set ("the cube left of it",
#: where all cubes are left of it).
TRIVIAL_SHARE: Final = 0.1


class Options:
    """The possible descriptions in one scene, computed once and cached.

    Attributes:
        sets: The scene's sets of objects.
        values: Attribute -> index of each object's value in `ATTRIBUTES`.
        present: (code, mask) of every description that fits at least one object.
    """

    def __init__(self, sets: SceneSets) -> None:
        self.sets = sets
        self.values = {
            a: [values.index(value) for value in sets.values[a]] for a, values in ATTRIBUTES.items()
        }
        self.present = self._describe()
        self._mask = dict(self.present)
        self._plain: dict[tuple[int, Ending], list[Proposal]] = {}
        self._related: dict[tuple[int, Ending], tuple[list[Proposal], list[Proposal]]] = {}

    def _describe(self) -> list[tuple[int, int]]:
        masks: dict[int, int] = {}
        columns = [
            [stride * (1 + value) for value in self.values[a]] for a, stride in STRIDES.items()
        ]
        for index, (size, color, material, shape) in enumerate(zip(*columns, strict=True)):
            bit = 1 << index
            codes = [0, size, color, size + color]
            codes += [code + material for code in codes]
            codes += [code + shape for code in codes]
            for code in codes:
                masks[code] = masks.get(code, 0) | bit
        return list(masks.items())

    def matching(self, code: int) -> int:
        """Mask of the objects that fit a description."""
        return self._mask.get(code, 0)

    def plain(self, objects: int, ending: Ending) -> list[Proposal]:
        """Descriptions to filter a set with.

        For `unique`, those that fit exactly one object of the set. For the other endings, every
        description that fits an object of the scene, plus distractors: for `exist` as many as
        those, otherwise as many as there are descriptions that fit exactly one object.
        """
        key = (objects, ending)
        found = self._plain.get(key)
        if found is None:
            found = self._plain[key] = self._find_plain(objects, ending)
        return found

    def _find_plain(self, objects: int, ending: Ending) -> list[Proposal]:
        choices = CHOICES[None]
        hits = [(choices[code], mask & objects) for code, mask in self.present]
        single = [(choice, hit) for choice, hit in hits if hit and not hit & (hit - 1)]
        if ending == "unique":
            return single
        distractors = len(hits) if ending == "exist" else len(single)
        present = [(choice, hit) for choice, hit in hits if choice.code or ending != "set"]
        return [*present, *[(DISTRACTOR, objects)] * distractors]

    def related(self, anchor: int, ending: Ending, rng: Random) -> list[Proposal]:
        """Relations to an object, with descriptions to filter the related set with.

        An option is trivial if its relation does not restrict the set; trivial options are sampled
        so that they are a tenth of the result. The filtered set may be empty only for `count` and
        `exist`.
        """
        key = (anchor, ending)
        found = self._related.get(key)
        if found is None:
            found = self._related[key] = self._find_related(anchor, ending)
        informative, trivial = found
        count = round(len(informative) * TRIVIAL_SHARE / (1 - TRIVIAL_SHARE))
        return [*informative, *rng.sample(trivial, min(count, len(trivial)))]

    def _find_related(self, anchor: int, ending: Ending) -> tuple[list[Proposal], list[Proposal]]:
        informative: list[Proposal] = []
        trivial: list[Proposal] = []
        for relation in RELATIONS:
            others, choices = self.sets.related[relation][anchor], CHOICES[relation]
            for code, mask in self.present:
                hit = mask & others
                if ending == "unique" and (not hit or hit & (hit - 1)):
                    continue
                if ending == "set" and not hit:
                    continue
                (trivial if hit == mask else informative).append((choices[code], hit))
        return informative, trivial


def shuffled(proposals: Sequence[Proposal], rng: Random) -> Iterator[Proposal]:
    """The proposals in random order, shuffled lazily (most searches need only a few)."""
    pool = list(proposals)
    for remaining in range(len(pool), 0, -1):
        pick = int(rng.random() * remaining)
        yield pool[pick]
        pool[pick] = pool[remaining - 1]
