"""Questions about CLEVR scenes, sampled at random, with balanced answers.

Source: Johnson et al. 2017, *CLEVR*, section 3 (question generation, rejection of degenerate and
unbalanced questions).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from featurewise.worlds.clevr.errors import SceneError, WorldError
from featurewise.worlds.clevr.families import FAMILIES
from featurewise.worlds.clevr.families.options import Choice, Options
from featurewise.worlds.clevr.families.plan import Describe, Filter
from featurewise.worlds.clevr.families.search import Search
from featurewise.worlds.clevr.programs import FUNCTIONS, Program, SceneSets
from featurewise.worlds.clevr.scene import Scene
from featurewise.worlds.clevr.vocabulary import ATTRIBUTES

#: Number of scenes after which the counters are reset.
RESET_AFTER: Final = 250
#: An answer is rejected if it was given more than `OVER_SECOND` times as often as the second most
#: frequent answer ...
OVER_SECOND: Final = 1.1
#: ... or more than `OVER_MEDIAN` times the median count, which is taken to be >= `MEDIAN_FLOOR`.
OVER_MEDIAN: Final = 5
MEDIAN_FLOOR: Final = 5


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a scene.

    Attributes:
        text: The question in words.
        answer: One of `vocabulary.ANSWERS`.
        program: Its functional program.
        family: Global index of its family, 0 to 89.
        pattern: Index of its wording among the family's patterns.
    """

    text: str
    answer: str
    program: Program
    family: int
    pattern: int


def possible_answers(function: str) -> tuple[str, ...]:
    """Answers of programs that end in `function`; the index of an answer is the integer result."""
    output = FUNCTIONS[function].output
    if output == "bool":
        return "no", "yes"
    return tuple(str(n) for n in range(11)) if output == "integer" else ATTRIBUTES[output]


class Balance:
    """How often each answer of one family was given since the last reset."""

    def __init__(self, answers: int) -> None:
        self._counts = [0] * answers

    def reset(self) -> None:
        """Set all counts to zero."""
        self._counts = [0] * len(self._counts)

    def add(self, answer: int) -> None:
        """Count one more of an answer."""
        self._counts[answer] += 1

    def rejected(self) -> frozenset[int]:
        """Answers that are too frequent."""
        ranked = sorted(self._counts)
        median = max(ranked[len(ranked) // 2], MEDIAN_FLOOR)
        limit = min(OVER_SECOND * ranked[-2], OVER_MEDIAN * median)
        return frozenset(i for i, count in enumerate(self._counts) if count > limit)


class QuestionGenerator:
    """Generates questions with balanced answers about a sequence of scenes.

    Args:
        seed: Random seed; the same seed gives the same questions about the same scenes.
        families: Global indices of the families to use; None uses all 90.

    Raises:
        WorldError: a family does not exist, or none is given.
    """

    def __init__(self, seed: int, families: Sequence[int] | None = None) -> None:
        chosen = range(len(FAMILIES)) if families is None else families
        wrong = [f for f in chosen if f not in range(len(FAMILIES))]
        if wrong or not chosen:
            raise WorldError(f"families are 0..{len(FAMILIES) - 1}, at least one; got {chosen!r}")
        self._rng = Random(seed)
        self._used = dict.fromkeys(chosen, 0)
        self._scenes = 0
        self._search = {f: Search(FAMILIES[f].plan) for f in self._used}
        self._answers = {f: possible_answers(FAMILIES[f].plan.function) for f in self._used}
        self._balance = {f: Balance(len(self._answers[f])) for f in self._used}

    def generate(self, scene: Scene, count: int = 10) -> list[Question]:
        """Questions about a scene, at most one of each family.

        The families that were used least are tried first; ties are broken at random.

        Args:
            scene: One to ten objects.
            count: Number of questions. The result may have fewer, if the scene allows fewer.

        Raises:
            SceneError: the scene has no objects, or more than ten.
            WorldError: `count` is negative.
        """
        if not scene.objects:
            raise SceneError("a scene without objects allows no questions; it needs 1..10 objects")
        if count < 0:
            raise WorldError(f"count must not be negative, got {count}")
        if self._scenes == RESET_AFTER:
            self._reset()
        self._scenes += 1
        options = Options(SceneSets(scene))
        questions: list[Question] = []
        used = self._used
        for family in sorted(used, key=lambda f: used[f] + self._rng.random()):
            if len(questions) == count:
                break
            question = self._try(family, options)
            if question is not None:
                questions.append(question)
        return questions

    def _try(self, family: int, options: Options) -> Question | None:
        plan, balance = FAMILIES[family].plan, self._balance[family]
        rejected = balance.rejected() | plan.impossible
        if len(rejected) == len(self._answers[family]):
            return None
        found = self._search[family].find(options, rejected, self._rng)
        if found is None:
            return None
        choices, answer = found
        balance.add(answer)
        self._used[family] += 1
        pattern = int(self._rng.random() * len(FAMILIES[family].patterns))
        return Question(
            text=_say(family, pattern, choices, self._rng),
            answer=self._answers[family][answer],
            program=plan.program(choices),
            family=family,
            pattern=pattern,
        )

    def _reset(self) -> None:
        self._scenes = 0
        self._used = dict.fromkeys(self._used, 0)
        for balance in self._balance.values():
            balance.reset()


def _say(family: int, pattern: int, choices: list[Choice], rng: Random) -> str:
    nodes = FAMILIES[family].plan.nodes
    described = [
        choice.code
        for node, choice in zip(nodes, choices, strict=True)
        if isinstance(node, Describe | Filter)
    ]
    relations = [choice.relation for choice in choices if choice.relation is not None]
    return FAMILIES[family].patterns[pattern].fill(described, relations, rng)
