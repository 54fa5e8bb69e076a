"""Claims that systems share: one arm above another, a number within bounds.

Each is decided on means over seeds. Where two arms are compared, seed by seed, the verdict carries
the interval of the difference (or ratio) over the seeds that both were trained with.
"""

from __future__ import annotations

import math

from featurewise.lab.errors import LabError
from featurewise.lab.record import Claim, Verdict
from featurewise.lab.results import Interval, Results, over_seeds


def above(one: str, other: str, points: float | int, name: str = "accuracy") -> Claim:
    """A proportion of one arm is at least so many points above that of another.

    Args:
        one: name of an arm.
        other: name of an arm.
        points: hundredths; negative for "at most so many below".
        name: of a proportion, see `Measurement.number`.
    """

    def judge(results: Results) -> Verdict:
        gap = over_seeds([100 * (a - b) for a, b in pairs(results, one, other, name)])
        return Verdict.between(gap, low=points)

    where = "" if name == "accuracy" else f" in `{name}`"
    wanted = f"at least {points:g} points above"
    if points < 0:
        wanted = f"at most {-points:g} points below"
    return Claim(f"`{one}` is {wanted} `{other}`{where}.", judge)


def within(one: str, other: str, points: float | int, name: str = "accuracy") -> Claim:
    """A proportion of one arm is within so many points of that of another; see `above`."""

    def judge(results: Results) -> Verdict:
        gap = over_seeds([100 * (a - b) for a, b in pairs(results, one, other, name)])
        return Verdict.between(gap, low=-points, high=points)

    where = "" if name == "accuracy" else f" in `{name}`"
    return Claim(f"`{one}` is within {points:g} points of `{other}`{where}.", judge)


def lower(one: str, other: str, factor: float | int, name: str) -> Claim:
    """A positive number of one arm is at most so many times that of another.

    Ratios of seeds are averaged as logarithms are, so that it does not matter which arm is below
    the line; where a number is 0, as they are.

    Args:
        one: name of an arm.
        other: name of an arm.
        factor: 1 for "no larger", 0.5 for "half at most".
        name: of a value, see `Measurement.number`.
    """

    def judge(results: Results) -> Verdict:
        ratios = [a / b if b else math.nan for a, b in pairs(results, one, other, name)]
        if any(ratio <= 0 for ratio in ratios):
            return Verdict.between(over_seeds(ratios), high=factor)
        found = over_seeds([math.log(ratio) for ratio in ratios])
        ends = found if math.isfinite(found.low) else Interval(found.value, math.nan, math.nan)
        ratio = Interval(*map(math.exp, (found.value, ends.low, ends.high)))
        return Verdict.between(ratio, high=factor)

    return Claim(f"`{name}` of `{one}` is at most {factor:g} times that of `{other}`.", judge)


def at_least(arm: str, bound: float | int, name: str = "accuracy") -> Claim:
    """A number of one arm reaches a bound; see `Measurement.number`."""

    def judge(results: Results) -> Verdict:
        found = results.mean(arm, name)
        return Verdict.between(found, low=bound)

    return Claim(f"`{name}` of `{arm}` is at least {bound:g}.", judge)


def at_most(arm: str, bound: float | int, name: str = "accuracy") -> Claim:
    """A number of one arm stays under a bound; see `Measurement.number`."""

    def judge(results: Results) -> Verdict:
        found = results.mean(arm, name)
        return Verdict.between(found, high=bound)

    return Claim(f"`{name}` of `{arm}` is at most {bound:g}.", judge)


def pairs(results: Results, one: str, other: str, name: str) -> list[tuple[float, float]]:
    """A number of two arms, seed by seed, over the seeds that both have.

    Raises:
        LabError: an arm was not tried, or they share no seed.
    """
    found = [
        {trial.seed: trial.measured.number(name) for trial in results.of(arm)}
        for arm in (one, other)
    ]
    seeds = found[0].keys() & found[1].keys()
    if not seeds:
        raise LabError(f"{results.system}: {one} and {other} were tried with different seeds")
    return [(found[0][seed], found[1][seed]) for seed in sorted(seeds)]
