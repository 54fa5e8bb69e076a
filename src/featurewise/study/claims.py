"""Claims that systems share: one arm above another, a number within bounds.

Each is decided by the 95 % interval over seeds. Where two arms are compared, seed by seed, it is
the interval of the difference (or ratio) over the seeds that both were trained with.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import TypedDict, Unpack

from featurewise.study.results import Interval, Results, over_seeds
from featurewise.study.system import Claim, Verdict
from featurewise.training.errors import ExperimentError

_POWER = 1.959964 + 0.841621
"""Normal quantiles of a two-sided test at 5 %, and of a chance of 80 % that it decides."""

_LARGEST = math.log(sys.float_info.max)


class About(TypedDict, total=False):
    """What may be said of any claim, see `Claim`."""

    why: str
    added: bool


def decide(
    values: Sequence[float],
    low: float | int = -math.inf,
    high: float | int = math.inf,
    *,
    ends: tuple[float, float] = (-math.inf, math.inf),
) -> Verdict:
    """The verdict on a number, from one value a seed.

    Args:
        values: one for each seed, at least one.
        low: the least mean that bears the claim out.
        high: the largest one.
        ends: the least and the largest mean that any result could have.
    """
    found = over_seeds(values)
    verdict = Verdict(found.value, found, low, high, ends)
    if verdict.outcome != "inconclusive":
        return verdict
    return Verdict(found.value, found, low, high, ends, seeds_needed(values, low, high))


def decide_ratio(ratios: Sequence[float], high: float | int) -> Verdict:
    """The verdict on a ratio of positive numbers, from one value a seed.

    They are averaged as logarithms are, so that it does not matter which arm is below the line;
    where a number is 0, as they are.
    """
    if any(ratio <= 0 for ratio in ratios):
        return decide(ratios, high=high)
    found = decide([math.log(ratio) for ratio in ratios], high=math.log(high))
    value, interval = math.exp(found.value), found.interval
    if interval is not None:
        ends = (_exp(end) for end in (interval.low, interval.high))
        interval = interval if math.isinf(interval.low) else Interval(value, *ends)
    return Verdict(value, interval, high=high, seeds_needed=found.seeds_needed)


def _exp(power: float) -> float:
    """Its exponential; the largest number there is where that is larger."""
    return math.exp(power) if not power > _LARGEST else sys.float_info.max


def seeds_needed(
    values: Sequence[float], low: float | int = -math.inf, high: float | int = math.inf
) -> int | None:
    """So many seeds would decide a claim with 80 % chance, were the mean and spread the true ones.

    Normal theory, with Guenther's correction for Student's t; one more than there are at least.
    None for one value, or a mean that is no number or lies on the bar itself.
    """
    mean = math.fsum(values) / len(values)
    distance = min(abs(mean - low), abs(mean - high))
    if len(values) < 2 or not 0 < distance < math.inf:
        return None
    spread = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))
    return max(len(values) + 1, math.ceil((_POWER * spread / distance) ** 2 + 1.96**2 / 2))


def above(
    one: str, other: str, points: float | int, name: str = "accuracy", **about: Unpack[About]
) -> Claim:
    """A proportion of one arm is at least so many points above that of another.

    Args:
        one: name of an arm.
        other: name of an arm.
        points: hundredths; negative for "at most so many below".
        name: of a proportion, see `Measurement.number`.
        about: see `About`.

    Raises:
        ExperimentError: the bar is more than 100 points, which no proportion can reach.
    """
    if points > 100:
        raise ExperimentError(f"{one} cannot be {points:g} points above {other}: the scale has 100")

    def judge(results: Results) -> Verdict:
        both = pairs(results, one, other, name)
        control = 100 * math.fsum(b for _, b in both) / len(both)
        return decide([100 * a - 100 * b for a, b in both], points, ends=(-control, 100 - control))

    where = "" if name == "accuracy" else f" in `{name}`"
    wanted = f"at least {points:g} points above"
    if points < 0:
        wanted = f"at most {-points:g} points below"
    return Claim(f"`{one}` is {wanted} `{other}`{where}.", judge, (one, other), **about)


def within(
    one: str, other: str, points: float | int, name: str = "accuracy", **about: Unpack[About]
) -> Claim:
    """A proportion of one arm is within so many points of that of another; see `above`."""

    def judge(results: Results) -> Verdict:
        gaps = [100 * a - 100 * b for a, b in pairs(results, one, other, name)]
        return decide(gaps, -points, points)

    where = "" if name == "accuracy" else f" in `{name}`"
    sentence = f"`{one}` is within {points:g} points of `{other}`{where}."
    return Claim(sentence, judge, (one, other), **about)


def lower(one: str, other: str, factor: float | int, name: str, **about: Unpack[About]) -> Claim:
    """A positive number of one arm is at most so many times that of another; see `decide_ratio`.

    Args:
        one: name of an arm.
        other: name of an arm.
        factor: 1 for "no larger", 0.5 for "half at most".
        name: of a value, see `Measurement.number`.
        about: see `About`.

    Raises:
        ExperimentError: the factor is 0 or less, which no positive number can reach.
    """
    if factor <= 0:
        raise ExperimentError(f"{name} of {one} cannot be {factor:g} times that of {other}")

    def judge(results: Results) -> Verdict:
        ratios = [a / b if b else math.nan for a, b in pairs(results, one, other, name)]
        return decide_ratio(ratios, factor)

    sentence = f"`{name}` of `{one}` is at most {factor:g} times that of `{other}`."
    return Claim(sentence, judge, (one, other), **about)


def at_least(arm: str, bound: float | int, name: str = "accuracy", **about: Unpack[About]) -> Claim:
    """A number of one arm reaches a bound; see `Measurement.number`.

    Raises:
        ExperimentError: the bound is an accuracy above 1.
    """
    if name == "accuracy" and bound > 1:
        raise ExperimentError(
            f"accuracy of {arm} cannot be at least {bound:g}: the scale ends at 1"
        )

    def judge(results: Results) -> Verdict:
        return decide(numbers(results, arm, name), low=bound, ends=_scale(results, arm, name))

    return Claim(f"`{name}` of `{arm}` is at least {bound:g}.", judge, (arm,), **about)


def at_most(arm: str, bound: float | int, name: str = "accuracy", **about: Unpack[About]) -> Claim:
    """A number of one arm stays under a bound; see `Measurement.number`.

    Raises:
        ExperimentError: the bound is an accuracy below 0.
    """
    if name == "accuracy" and bound < 0:
        raise ExperimentError(
            f"accuracy of {arm} cannot be at most {bound:g}: the scale begins at 0"
        )

    def judge(results: Results) -> Verdict:
        return decide(numbers(results, arm, name), high=bound, ends=_scale(results, arm, name))

    return Claim(f"`{name}` of `{arm}` is at most {bound:g}.", judge, (arm,), **about)


def numbers(results: Results, arm: str, name: str) -> list[float]:
    """A number of one arm, one for each seed; raises ExperimentError where it was not measured."""
    return [trial.measured.number(name) for trial in results.of(arm)]


def _scale(results: Results, arm: str, name: str) -> tuple[float, float]:
    """The ends of what may be measured: those of a proportion, or none."""
    measured = results.of(arm)[0].measured
    return (0.0, 1.0) if name == "accuracy" or name in measured.by_type else (-math.inf, math.inf)


def pairs(results: Results, one: str, other: str, name: str) -> list[tuple[float, float]]:
    """A number of two arms, seed by seed, over the seeds that both have.

    Raises:
        ExperimentError: an arm was not tried, or they share no seed.
    """
    found = [
        {trial.seed: trial.measured.number(name) for trial in results.of(arm)}
        for arm in (one, other)
    ]
    seeds = found[0].keys() & found[1].keys()
    if not seeds:
        raise ExperimentError(
            f"{results.system}: {one} and {other} were tried with different seeds"
        )
    return [(found[0][seed], found[1][seed]) for seed in sorted(seeds)]
