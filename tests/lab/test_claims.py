"""Claims that systems share, on results written by hand."""

import math

import pytest

from featurewise.lab import claims
from featurewise.lab.errors import LabError
from featurewise.lab.results import Measurement, Proportion, Results, Trial


def results(**arms):
    """arm=[(correct of 100, loss), ...], one pair a seed."""
    trials = [
        Trial(arm, seed, 1, 1.0, 1, Measurement(Proportion(right, 100), {}, {"loss": loss}))
        for arm, seeds in arms.items()
        for seed, (right, loss) in enumerate(seeds)
    ]
    return Results("toy", "small", tuple(trials))


FOUND = results(a=[(90, 1.0), (80, 2.0)], b=[(70, 2.0), (62, 4.0)])


@pytest.mark.parametrize(
    ("claim", "held", "value"),
    [
        (claims.above("a", "b", 19), True, 19.0),
        (claims.above("a", "b", 19.5), False, 19.0),
        (claims.above("b", "a", -20), True, -19.0),
        (claims.within("a", "b", 19.1), True, 19.0),
        (claims.within("b", "a", 18), False, -19.0),
        (claims.lower("a", "b", 0.5, "loss"), True, 0.5),
        (claims.lower("a", "b", 0.49, "loss"), False, 0.5),
        (claims.at_least("a", 0.85), True, 0.85),
        (claims.at_least("a", 0.86), False, 0.85),
        (claims.at_most("b", 3.0, "loss"), True, 3.0),
        (claims.at_most("b", 2.9, "loss"), False, 3.0),
    ],
    ids=lambda each: getattr(each, "sentence", None),
)
def test_a_claim_is_decided_by_the_mean_over_seeds(claim, held, value):
    verdict = claim.check(FOUND)
    assert verdict.held is held
    assert verdict.value == pytest.approx(value)
    assert verdict.interval.low < verdict.value < verdict.interval.high or value == 0.5


def test_arms_are_compared_seed_by_seed():
    """The spread between seeds that both share does not widen the interval of the difference."""
    same = results(a=[(90, 1.0), (50, 1.0)], b=[(80, 1.0), (40, 1.0)])
    interval = claims.above("a", "b", 10).check(same).interval
    assert (interval.low, interval.high) == pytest.approx((10, 10))
    assert math.isfinite(claims.at_least("a", 0.5).check(same).interval.high)


def test_nothing_is_decided_without_a_shared_seed():
    found = results(a=[(90, 1.0)])
    apart = Trial("b", 7, 1, 1.0, 1, Measurement(Proportion(1, 100)))
    found = Results("toy", "small", (*found.trials, apart))
    assert claims.above("a", "b", 1).check(found) is None
    with pytest.raises(LabError, match="different seeds"):
        claims.pairs(found, "a", "b", "accuracy")


@pytest.mark.parametrize(
    ("claim", "clear"),
    [
        (claims.above("a", "b", 5), True),  # 10 points, 7.5 to 12.5
        (claims.above("a", "b", 9.9), False),
        (claims.above("a", "b", 20), True),
        (claims.within("a", "b", 15), True),
        (claims.within("a", "b", 10.1), False),
        (claims.within("a", "b", 5), True),
        (claims.within("b", "a", 5), True),
        (claims.at_least("a", 0.7), False),
        (claims.at_most("a", 0.1), True),
    ],
    ids=lambda each: getattr(each, "sentence", None),
)
def test_a_claim_is_clear_where_its_interval_does_not_reach_across(claim, clear):
    found = results(a=[(90, 1.0), (70, 1.0), (51, 1.0)], b=[(80, 1.0), (61, 1.0), (40, 1.0)])
    verdict = claim.check(found)
    assert verdict.clear is clear
    assert claim.check(results(a=[(90, 1.0)], b=[(80, 1.0)])).clear is None


def test_ratios_are_averaged_as_logarithms():
    """So that one arm over the other is the inverse of the other over the one."""
    found = results(a=[(1, 0.02), (1, 0.9), (1, 3.0)], b=[(1, 1.0), (1, 1.0), (1, 2.0)])
    one, other = (claims.lower(*arms, 1, "loss").check(found) for arms in ("ab", "ba"))
    mean = (0.02 * 0.9 * 1.5) ** (1 / 3)
    assert (one.value, other.value) == pytest.approx((mean, 1 / mean))
    assert (one.interval.low, one.interval.high) == pytest.approx(
        (1 / other.interval.high, 1 / other.interval.low)
    )
    assert one.interval.low > 0
    none = results(a=[(1, 0.0), (1, 1.0)], b=[(1, 2.0), (1, 2.0)])
    assert claims.lower("a", "b", 0.3, "loss").check(none).value == pytest.approx(0.25)


def test_sentences_say_which_way():
    assert claims.above("a", "b", 5).sentence == "`a` is at least 5 points above `b`."
    assert claims.above("a", "b", -5).sentence == "`a` is at most 5 points below `b`."
    assert "in `seen`" in claims.within("a", "b", 5, "seen").sentence
