"""Claims, and the criteria that decide them: one arm above another, a number within bounds.

A criterion is decided by the 95 % interval over seeds. Where two arms are compared, seed by seed,
it is the interval of the difference (or ratio) over the seeds that both were trained with. Bounds
and differences are in the unit of their metric: shares in %, their differences in points.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from featurewise.study.metric import PERCENT, Metric
from featurewise.study.results import Interval, Results, over_seeds
from featurewise.training.errors import ExperimentError

_POWER = 1.959964 + 0.841621
"""Normal quantiles of a two-sided test at 5 %, and of a power of 80 %."""

_LARGEST = math.log(sys.float_info.max)
_ROUNDING = 1e-9
"""By so much a bar may pass the end of its scale: 90 % and 10 points are 100 %."""

Outcome: TypeAlias = Literal[
    "supported", "refuted", "inconclusive", "one seed", "no interval", "bar beyond the scale"
]
"""What a claim came to; "one seed" and "no interval" are no verdicts, as nothing says how sure."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was measured of a claim, and its bar; `outcome` is what that comes to.

    Attributes:
        value: the measured value, the mean over seeds.
        interval: of the value, 95 % over seeds, without ends for one seed; None where it has none.
        low: the least value that supports the claim.
        high: the largest one.
        ends: the least and the largest value that any result could have.
        seeds_needed: so many would decide it with a power of 80 %, were the value the true one;
            None where it is decided, or where that is not known.
    """

    value: float
    interval: Interval | None = None
    low: float | int = -math.inf
    high: float | int = math.inf
    ends: tuple[float, float] = (-math.inf, math.inf)
    seeds_needed: int | None = None

    @property
    def within(self) -> bool:
        """Whether the value alone supports the claim; a NaN never does."""
        return self.low <= self.value <= self.high

    @property
    def outcome(self) -> Outcome:
        """Decided by the interval: all of it within the bar, none of it, or a part."""
        if self.low > self.ends[1] + _ROUNDING or self.high < self.ends[0] - _ROUNDING:
            return "bar beyond the scale"
        if self.interval is None:
            return "no interval"
        if math.isinf(self.interval.low) or math.isinf(self.interval.high):
            return "one seed"
        if self.low <= self.interval.low and self.interval.high <= self.high:
            return "supported"
        if self.interval.high < self.low or self.interval.low > self.high:
            return "refuted"
        return "inconclusive"


@dataclass(frozen=True, slots=True)
class Criterion:
    """What decides a claim.

    Attributes:
        sentence: with numbers, as in "`film` is at least 20 points above `shuffled`."; names as
            Markdown's code.
        verdict: results -> verdict; may raise `ExperimentError` when an arm was not tried.
        arms: names of those that it compares.
        metrics: what it compares them by.
        unit: of the measured value: "%", "points", "×" for a ratio, or the metric's own.

    Raises:
        ExperimentError: the sentence has no number, so that it could not fail.
    """

    sentence: str
    verdict: Callable[[Results], Verdict]
    arms: tuple[str, ...] = ()
    metrics: tuple[Metric, ...] = ()
    unit: str = ""

    def __post_init__(self) -> None:
        if not any(letter.isdigit() for letter in self.sentence):
            raise ExperimentError(f"a claim without a number cannot fail: {self.sentence!r}")


@dataclass(frozen=True, slots=True)
class Statement:
    """What the paper states, where a claim repeats a statement of it.

    Attributes:
        what: the statement, in a sentence of ours.
        where: the table, figure or section it stands in, as in "table 2".
        number: the paper's number, with its unit; empty where it gives none.
        comparable: whether our number may be compared with the paper's, and if not, why, as in
            "no: digits instead of photographs".
    """

    what: str
    where: str
    number: str = ""
    comparable: str = "no: other data"


@dataclass(frozen=True, slots=True)
class Claim:
    """A falsifiable sentence, and the criterion that decides it.

    Attributes:
        sentence: what is claimed, as a reader understands it, as in "Depth does not hurt.".
        criterion: what decides it.
        paper: the paper's statement that it repeats; None where the claim is our own control.
        why: why it came out as it did, in a sentence, where it was not supported.
        added: presets whose results were known when it was stated.
    """

    sentence: str
    criterion: Criterion
    paper: Statement | None = None
    why: str = ""
    added: tuple[str, ...] = ()

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the arms that it compares."""
        return self.criterion.arms

    def check(self, results: Results) -> Verdict | None:
        """The verdict; None when the results do not decide it."""
        try:
            return self.criterion.verdict(results)
        except ExperimentError:
            return None


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
        low: the least mean that supports the claim.
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
    """So many seeds would decide a claim with a power of 80 %, if mean and deviation are true.

    Normal theory, with Guenther's correction for Student's t; one more than there are at least.
    None for one value, or a mean that is no number or lies on the bar itself.
    """
    mean = math.fsum(values) / len(values)
    distance = min(abs(mean - low), abs(mean - high))
    if len(values) < 2 or not 0 < distance < math.inf:
        return None
    deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))
    return max(len(values) + 1, math.ceil((_POWER * deviation / distance) ** 2 + 1.96**2 / 2))


def above(metric: Metric, one: str, other: str, points: float | int) -> Criterion:
    """A number of one arm is at least so much above that of another.

    Args:
        metric: what is compared.
        one: name of an arm.
        other: name of an arm.
        points: in the unit of the metric, hundredths of a share; negative for "at most so much
            below".

    Raises:
        ExperimentError: no two results could be so far apart.
    """
    if points > metric.ends[1] - metric.ends[0]:
        reach = metric.ends[1] - metric.ends[0]
        raise ExperimentError(
            f"{one} cannot be {points:g} above {other}: the scale of {metric.name} has {reach:g}"
        )

    def verdict(results: Results) -> Verdict:
        both = pairs(results, one, other, metric)
        control = math.fsum(b for _, b in both) / len(both)
        ends = (metric.ends[0] - control, metric.ends[1] - control)
        return decide([a - b for a, b in both], points, ends=ends)

    wanted = f"at least {_difference(metric, points)} above"
    if points < 0:
        wanted = f"at most {_difference(metric, -points)} below"
    sentence = f"`{one}` is {wanted} `{other}` in {metric.name}."
    return Criterion(sentence, verdict, (one, other), (metric,), _points(metric))


def within(metric: Metric, one: str, other: str, points: float | int) -> Criterion:
    """A number of one arm is within so much of that of another; see `above`."""

    def verdict(results: Results) -> Verdict:
        gaps = [a - b for a, b in pairs(results, one, other, metric)]
        return decide(gaps, -points, points)

    apart = _difference(metric, points)
    sentence = f"`{one}` is within {apart} of `{other}` in {metric.name}."
    return Criterion(sentence, verdict, (one, other), (metric,), _points(metric))


def at_most_ratio(metric: Metric, one: str, other: str, factor: float | int) -> Criterion:
    """A positive number of one arm is at most so many times that of another; see `decide_ratio`.

    Args:
        metric: what is compared.
        one: name of an arm.
        other: name of an arm.
        factor: 1 for "no larger", 0.5 for "half at most".

    Raises:
        ExperimentError: the factor is 0 or less, which no positive number can reach.
    """
    if factor <= 0:
        raise ExperimentError(f"{metric.name} of {one} cannot be {factor:g} times that of {other}")

    def verdict(results: Results) -> Verdict:
        ratios = [a / b if b else math.nan for a, b in pairs(results, one, other, metric)]
        return decide_ratio(ratios, factor)

    sentence = f"{_capital(metric)} of `{one}` is at most {factor:g} times that of `{other}`."
    return Criterion(sentence, verdict, (one, other), (metric,), "×")


def at_least(metric: Metric, arm: str, bound: float | int) -> Criterion:
    """A number of one arm reaches a bound, in the unit of the metric.

    Raises:
        ExperimentError: the bound lies beyond the end of the scale.
    """
    if bound > metric.ends[1]:
        raise ExperimentError(
            f"{metric.name} of {arm} cannot be at least {bound:g}: the scale ends at "
            f"{metric.ends[1]:g}"
        )

    def verdict(results: Results) -> Verdict:
        return decide(numbers(results, arm, metric), low=bound, ends=metric.ends)

    sentence = f"{_capital(metric)} of `{arm}` is at least {metric.with_unit(bound)}."
    return Criterion(sentence, verdict, (arm,), (metric,), metric.unit)


def at_most(metric: Metric, arm: str, bound: float | int) -> Criterion:
    """A number of one arm stays under a bound, in the unit of the metric.

    Raises:
        ExperimentError: the bound lies before the beginning of the scale.
    """
    if bound < metric.ends[0]:
        raise ExperimentError(
            f"{metric.name} of {arm} cannot be at most {bound:g}: the scale begins at "
            f"{metric.ends[0]:g}"
        )

    def verdict(results: Results) -> Verdict:
        return decide(numbers(results, arm, metric), high=bound, ends=metric.ends)

    sentence = f"{_capital(metric)} of `{arm}` is at most {metric.with_unit(bound)}."
    return Criterion(sentence, verdict, (arm,), (metric,), metric.unit)


def metric_above(arm: str, one: Metric, other: Metric, points: float | int) -> Criterion:
    """A number of an arm is at least so much above another number of the same arm.

    Args:
        arm: name of the arm.
        one: what is claimed to be larger.
        other: a metric of the same unit.
        points: in that unit, hundredths of a share.
    """

    def verdict(results: Results) -> Verdict:
        both = zip(numbers(results, arm, one), numbers(results, arm, other), strict=True)
        return decide([a - b for a, b in both], low=points)

    wanted = f"at least {_difference(one, points)} above {other.name}"
    sentence = f"{_capital(one)} of `{arm}` is {wanted}."
    return Criterion(sentence, verdict, (arm,), (one, other), _points(one))


def metric_at_most_ratio(arm: str, one: Metric, other: Metric, factor: float | int) -> Criterion:
    """A positive number of an arm is at most so many times another of the same arm.

    Args:
        arm: name of the arm.
        one: what is claimed to be smaller.
        other: what it is divided by.
        factor: 1 for "no larger", 0.5 for "half at most".
    """

    def verdict(results: Results) -> Verdict:
        both = zip(numbers(results, arm, one), numbers(results, arm, other), strict=True)
        return decide_ratio([a / b if b else math.nan for a, b in both], factor)

    sentence = f"{_capital(one)} of `{arm}` is at most {factor:g} times {other.name}."
    return Criterion(sentence, verdict, (arm,), (one, other), "×")


def _points(metric: Metric) -> str:
    """The unit of a difference."""
    return "points" if metric.unit == PERCENT else metric.unit


def _difference(metric: Metric, points: float | int) -> str:
    return f"{points:g} {_points(metric)}".rstrip()


def _capital(metric: Metric) -> str:
    """The name as a sentence begins with it."""
    return metric.name[0].upper() + metric.name[1:]


def numbers(results: Results, arm: str, metric: Metric) -> list[float]:
    """A number of one arm in its unit, one for each seed.

    Raises:
        ExperimentError: it was not measured.
    """
    return [metric.scale * trial.measured.number(metric) for trial in results.of(arm)]


def pairs(results: Results, one: str, other: str, metric: Metric) -> list[tuple[float, float]]:
    """A number of two arms in its unit, seed by seed; see `by_seed`."""
    return [(first, second) for first, second in by_seed(results, metric, one, other)]


def by_seed(results: Results, metric: Metric, *arms: str) -> list[tuple[float, ...]]:
    """A number of several arms in its unit, seed by seed, over the seeds that all of them have.

    Raises:
        ExperimentError: an arm was not tried, or they share no seed.
    """
    found = [
        {trial.seed: metric.scale * trial.measured.number(metric) for trial in results.of(arm)}
        for arm in arms
    ]
    seeds = set(found[0]).intersection(*found)
    if not seeds:
        raise ExperimentError(
            f"{results.system}: {' and '.join(arms)} were tried with different seeds"
        )
    return [tuple(numbers[seed] for numbers in found) for seed in sorted(seeds)]
