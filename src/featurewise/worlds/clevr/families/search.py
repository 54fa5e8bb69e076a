"""Depth-first search for one choice per node of a plan that gives a valid question on one scene.

The partial program is executed at every node, so a branch is abandoned as soon as it violates a
constraint. *Shadow* programs are executed beside it: for every `Relate` node, the same program with
the set of all objects in place of the related objects. A question whose answer does not depend on
the relation is degenerate, and a branch is abandoned as soon as all live results of a shadow equal
its own. A result is live if a later node uses it.

Two branches with equal live results (their own and those of their shadows) can be completed in the
same ways; a combination of live results that failed once is not searched again, so even an
exhaustive search is short.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from random import Random

from featurewise.worlds.clevr.families.options import Choice, Options
from featurewise.worlds.clevr.families.plan import Node, Plan, Relate

Results = list[int]


class Search:
    """The search of one plan; created once per family and used for every scene."""

    def __init__(self, plan: Plan) -> None:
        indices = range(len(plan.nodes))
        self._nodes = plan.nodes
        self._live_after = [plan.live_after(k) for k in indices]
        self._differs = [tuple(i for i, j in plan.different if j == k) for k in indices]

    def find(
        self, options: Options, rejected: Collection[int], rng: Random
    ) -> tuple[list[Choice], int] | None:
        """Random choices with an answer that is not rejected; None if there are none.

        Args:
            options: The scene's options.
            rejected: Results of the last node that are not allowed.
            rng: Samples the order in which choices are tried.

        Returns:
            One choice per node, and the result of the last node.
        """
        attempt = Attempt(options, rejected, rng)
        if self._extend(attempt, []):
            return attempt.choices, attempt.results[-1]
        return None

    def _extend(self, attempt: Attempt, shadows: list[Results]) -> bool:
        """Choose for the next node and all after it; on failure, restore the attempt."""
        results, failed, options = attempt.results, attempt.failed, attempt.options
        k = len(results)
        if k == len(self._nodes):
            return results[-1] not in attempt.rejected
        node, live_after, differs = self._nodes[k], self._live_after[k], self._differs[k]
        for choice, result in node.propose(results, options, attempt.rng):
            if any(results[i] == result for i in differs):
                continue
            results.append(result)
            advanced = self._advance(node, choice, attempt, shadows)
            future = (k, *[run[i] for run in (results, *advanced) for i in live_after])
            if future not in failed and not self._degenerate(live_after, results, advanced):
                attempt.choices.append(choice)
                if self._extend(attempt, advanced):
                    return True
                attempt.choices.pop()
                failed.add(future)
            results.pop()
        return False

    @staticmethod
    def _advance(
        node: Node, choice: Choice, attempt: Attempt, shadows: list[Results]
    ) -> list[Results]:
        """The shadows after one more node; a shadow without a result differs and is removed."""
        advanced = []
        for shadow in shadows:
            result = node.apply(choice, shadow, attempt.options)
            if result is not None:
                advanced.append([*shadow, result])
        if isinstance(node, Relate):
            advanced.append([*attempt.results[:-1], attempt.options.sets.everything])
        return advanced

    @staticmethod
    def _degenerate(live_after: Sequence[int], results: Results, shadows: list[Results]) -> bool:
        return any(all(shadow[i] == results[i] for i in live_after) for shadow in shadows)


class Attempt:
    """State of one search: choices and results so far, and live results that are known to fail."""

    __slots__ = ("choices", "failed", "options", "rejected", "results", "rng")

    def __init__(self, options: Options, rejected: Collection[int], rng: Random) -> None:
        self.options = options
        self.rejected = rejected
        self.rng = rng
        self.choices: list[Choice] = []
        self.results: Results = []
        self.failed: set[tuple[int, ...]] = set()
