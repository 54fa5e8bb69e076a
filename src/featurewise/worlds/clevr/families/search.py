"""Depth-first search: fill a plan so that the question is sound on one scene.

The partial program is executed at every step, so a branch dies as soon as it breaks a constraint.
Beside it run its *shadows*: for every bare relation, the same program with all objects in the
relation's place. A question whose answer does not depend on the relation is degenerate, and a
branch is dropped as soon as a shadow agrees with it wherever later nodes look.

Two branches whose results (and shadows) agree wherever later nodes look have the same future; a
future that failed once is not searched again, which makes even an exhaustive search short.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from random import Random

from featurewise.worlds.clevr.families.options import Choice, Options
from featurewise.worlds.clevr.families.plan import Node, Plan, Relate

Results = list[int]


class Search:
    """Searches one plan; made once per family and used on every scene."""

    def __init__(self, plan: Plan) -> None:
        indices = range(len(plan.nodes))
        self._nodes = plan.nodes
        self._looked_at = [plan.looked_at(k) for k in indices]
        self._differs = [tuple(i for i, j in plan.different if j == k) for k in indices]

    def find(
        self, options: Options, refused: Collection[int], rng: Random
    ) -> tuple[list[Choice], int] | None:
        """One filling whose answer is not refused, by lot; None if there is none.

        Args:
            options: The scene's options.
            refused: Results of the last node that are not wanted.
            rng: Draws the order in which choices are tried.

        Returns:
            One choice per node, and the result of the last node.
        """
        attempt = Attempt(options, refused, rng)
        if self._extend(attempt, []):
            return attempt.choices, attempt.results[-1]
        return None

    def _extend(self, attempt: Attempt, shadows: list[Results]) -> bool:
        """Fill the next node and all after it; on failure leave the attempt as it was."""
        results, failed, options = attempt.results, attempt.failed, attempt.options
        k = len(results)
        if k == len(self._nodes):
            return results[-1] not in attempt.refused
        node, looked_at, differs = self._nodes[k], self._looked_at[k], self._differs[k]
        for choice, result in node.propose(results, options, attempt.rng):
            if any(results[i] == result for i in differs):
                continue
            results.append(result)
            cast = self._cast(node, choice, attempt, shadows)
            future = (k, *[run[i] for run in (results, *cast) for i in looked_at])
            if future not in failed and not self._degenerate(looked_at, results, cast):
                attempt.choices.append(choice)
                if self._extend(attempt, cast):
                    return True
                attempt.choices.pop()
                failed.add(future)
            results.pop()
        return False

    @staticmethod
    def _cast(
        node: Node, choice: Choice, attempt: Attempt, shadows: list[Results]
    ) -> list[Results]:
        """The shadows one node on; one that has no result differs for good and is let go."""
        cast = []
        for shadow in shadows:
            result = node.apply(choice, shadow, attempt.options)
            if result is not None:
                cast.append([*shadow, result])
        if isinstance(node, Relate):
            cast.append([*attempt.results[:-1], attempt.options.sets.everything])
        return cast

    @staticmethod
    def _degenerate(looked_at: Sequence[int], results: Results, shadows: list[Results]) -> bool:
        return any(all(shadow[i] == results[i] for i in looked_at) for shadow in shadows)


class Attempt:
    """State of one search: what is filled in so far, and which futures are known to fail."""

    __slots__ = ("choices", "failed", "options", "refused", "results", "rng")

    def __init__(self, options: Options, refused: Collection[int], rng: Random) -> None:
        self.options = options
        self.refused = refused
        self.rng = rng
        self.choices: list[Choice] = []
        self.results: Results = []
        self.failed: set[tuple[int, ...]] = set()
