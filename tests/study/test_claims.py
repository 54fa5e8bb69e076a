"""Claims that systems share, on results written by hand."""

import math
import random

import pytest

from featurewise.study import claims
from featurewise.study.metric import ACCURACY, Metric
from featurewise.study.results import Interval, Measurement, Proportion, Results, Trial
from featurewise.training.errors import ExperimentError

LOSS = Metric("loss", "mean error", "nats", "lower")


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
    ("claim", "within", "value"),
    [
        (claims.above(ACCURACY, "a", "b", 19), True, 19.0),
        (claims.above(ACCURACY, "a", "b", 19.5), False, 19.0),
        (claims.above(ACCURACY, "b", "a", -20), True, -19.0),
        (claims.within(ACCURACY, "a", "b", 19.1), True, 19.0),
        (claims.within(ACCURACY, "b", "a", 18), False, -19.0),
        (claims.at_most_ratio(LOSS, "a", "b", 0.5), True, 0.5),
        (claims.at_most_ratio(LOSS, "a", "b", 0.49), False, 0.5),
        (claims.at_least(ACCURACY, "a", 85), True, 85.0),
        (claims.at_least(ACCURACY, "a", 86), False, 85.0),
        (claims.at_most(LOSS, "b", 3.0), True, 3.0),
        (claims.at_most(LOSS, "b", 2.9), False, 3.0),
    ],
    ids=lambda each: getattr(each, "sentence", None),
)
def test_the_value_is_the_mean_over_seeds(claim, within, value):
    verdict = claim.verdict(FOUND)
    assert verdict.within is within
    assert verdict.value == pytest.approx(value)
    assert verdict.interval.low < verdict.value < verdict.interval.high or value == 0.5


def test_arms_are_compared_seed_by_seed():
    """The deviation between seeds that both share does not widen the interval of the difference."""
    same = results(a=[(90, 1.0), (50, 1.0)], b=[(80, 1.0), (40, 1.0)])
    interval = claims.above(ACCURACY, "a", "b", 10).verdict(same).interval
    assert (interval.low, interval.high) == pytest.approx((10, 10))
    assert math.isfinite(claims.at_least(ACCURACY, "a", 50).verdict(same).interval.high)


def test_nothing_is_decided_without_a_shared_seed():
    found = results(a=[(90, 1.0)])
    apart = Trial("b", 7, 1, 1.0, 1, Measurement(Proportion(1, 100)))
    found = Results("toy", "small", (*found.trials, apart))
    assert claims.Claim("It is.", claims.above(ACCURACY, "a", "b", 1)).check(found) is None
    with pytest.raises(ExperimentError, match="different seeds"):
        claims.pairs(found, "a", "b", ACCURACY)


THREE = results(a=[(90, 1.0), (70, 1.0), (51, 1.0)], b=[(80, 1.0), (61, 1.0), (40, 1.0)])


@pytest.mark.parametrize(
    ("claim", "outcome"),
    [
        (claims.above(ACCURACY, "a", "b", 5), "supported"),  # 10 points, 7.5 to 12.5
        (claims.above(ACCURACY, "a", "b", 9.9), "inconclusive"),
        (claims.above(ACCURACY, "a", "b", 11), "inconclusive"),
        (claims.above(ACCURACY, "a", "b", 20), "refuted"),
        (claims.within(ACCURACY, "a", "b", 15), "supported"),
        (claims.within(ACCURACY, "a", "b", 10.1), "inconclusive"),
        (claims.within(ACCURACY, "a", "b", 5), "refuted"),
        (claims.within(ACCURACY, "b", "a", 5), "refuted"),
        (claims.at_least(ACCURACY, "a", 70), "inconclusive"),
        (claims.at_most(ACCURACY, "a", 10), "refuted"),
        (claims.at_most_ratio(LOSS, "a", "b", 1), "supported"),
        (claims.at_most_ratio(LOSS, "a", "b", 0.9), "refuted"),
    ],
    ids=lambda each: getattr(each, "sentence", None),
)
def test_the_interval_decides(claim, outcome):
    assert claim.verdict(THREE).outcome == outcome


@pytest.mark.parametrize("bar", [5, 20])
def test_one_seed_is_no_verdict(bar):
    """Whichever side of the bar it falls on."""
    one = results(a=[(90, 1.0)], b=[(80, 2.0)])
    assert claims.above(ACCURACY, "a", "b", bar).verdict(one).outcome == "one seed"
    assert claims.at_most_ratio(LOSS, "a", "b", bar / 10).verdict(one).outcome == "one seed"


def test_a_verdict_without_interval_says_so():
    assert claims.Verdict(1.0, low=0.5).outcome == "no interval"
    assert claims.Verdict(0.0, low=0.5).outcome == "no interval"


def test_a_nan_decides_nothing():
    values = [math.nan, 1.0, 1.0]
    verdict = claims.decide(values, low=0.5)
    assert (verdict.outcome, verdict.within) == ("inconclusive", False)
    assert claims.decide_ratio([math.nan, 1.0, 1.0], 2).outcome == "inconclusive"


@pytest.mark.parametrize(
    ("claim", "outcome"),
    [
        (
            claims.above(ACCURACY, "a", "b", 10),
            "bar beyond the scale",
        ),  # 96 and 10 are more than 100
        (claims.above(ACCURACY, "a", "b", 4), "inconclusive"),  # 100 can be reached
        (claims.above(ACCURACY, "b", "a", -98), "supported"),
        (claims.at_most(ACCURACY, "b", 90), "refuted"),
    ],
    ids=lambda each: getattr(each, "sentence", None),
)
def test_a_bar_that_no_result_could_meet_decides_nothing(claim, outcome):
    found = results(a=[(98, 1.0), (97, 1.0), (99, 1.0)], b=[(96, 1.0), (97, 1.0), (95, 1.0)])
    assert claim.verdict(found).outcome == outcome


def test_a_bar_at_the_end_of_the_scale_can_be_met():
    """90 % and 10 points are 100 %, whatever floats make of it."""
    found = results(a=[(100, 1.0), (100, 1.0)], b=[(90, 1.0), (90, 1.0)])
    assert claims.above(ACCURACY, "a", "b", 10).verdict(found).outcome == "supported"


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: claims.above(ACCURACY, "a", "b", 101), "the scale of accuracy has 100"),
        (lambda: claims.at_least(ACCURACY, "a", 120), "the scale ends at 100"),
        (lambda: claims.at_most(ACCURACY, "a", -10), "the scale begins at 0"),
        (lambda: claims.at_most_ratio(LOSS, "a", "b", 0), "cannot be 0 times"),
    ],
)
def test_a_bar_beyond_its_scale_is_refused_where_it_is_known(make, complaint):
    with pytest.raises(ExperimentError, match=complaint):
        make()


def test_seeds_needed_are_enough_four_times_in_five():
    """Simulated: so many seeds decide in about 80 of 100 trials, a third of them in few."""
    rng, mean, deviation = random.Random(0), 1.0, 1.5
    pilot = [mean - deviation, mean, mean + deviation]  # standard deviation 1.5
    needed = claims.seeds_needed(pilot, low=0)
    assert needed == 20

    def decided(seeds):
        trials = [[rng.gauss(mean, deviation) for _ in range(seeds)] for _ in range(400)]
        return sum(claims.decide(t, low=0).outcome == "supported" for t in trials) / 400

    assert 0.72 < decided(needed) < 0.88
    assert decided(needed // 3) < 0.5
    assert claims.decide(pilot, low=0).seeds_needed == needed
    assert claims.seeds_needed([1.0], low=0) is None
    assert claims.seeds_needed([1.0, 1.0], low=1.0) is None
    assert claims.decide([1.0, 1.1, 1.2], low=0).seeds_needed is None


def test_ratios_are_averaged_as_logarithms():
    """So that one arm over the other is the inverse of the other over the one."""
    found = results(a=[(1, 0.02), (1, 0.9), (1, 3.0)], b=[(1, 1.0), (1, 1.0), (1, 2.0)])
    one, other = (claims.at_most_ratio(LOSS, *arms, 1).verdict(found) for arms in ("ab", "ba"))
    mean = (0.02 * 0.9 * 1.5) ** (1 / 3)
    assert (one.value, other.value) == pytest.approx((mean, 1 / mean))
    assert (one.interval.low, one.interval.high) == pytest.approx(
        (1 / other.interval.high, 1 / other.interval.low)
    )
    assert one.interval.low > 0
    none = results(a=[(1, 0.0), (1, 1.0)], b=[(1, 2.0), (1, 2.0)])
    assert claims.at_most_ratio(LOSS, "a", "b", 0.3).verdict(none).value == pytest.approx(0.25)


def test_a_ratio_as_wide_as_the_numbers_there_are_is_no_single_seed():
    verdict = claims.decide_ratio([1e-300, 1e300], 2)
    assert verdict.outcome == "inconclusive" and math.isfinite(verdict.interval.high)


BEFORE = Metric("loss before", "mean error before adaptation", "nats", "lower")


def two_metrics(*values):
    """Trials of arm a, a seed each: loss, and loss before."""
    trials = [
        Trial("a", seed, 1, 1.0, 1, Measurement(values={"loss": one, "loss before": other}))
        for seed, (one, other) in enumerate(values)
    ]
    return Results("sums", "small", tuple(trials))


def test_two_metrics_of_an_arm_are_compared_seed_by_seed():
    found = two_metrics((1.0, 4.0), (1.5, 5.5), (2.0, 7.0))
    above = claims.metric_above("a", BEFORE, LOSS, 1)
    verdict = above.verdict(found)
    assert verdict.value == pytest.approx(4)
    assert (verdict.outcome, above.unit) == ("supported", "nats")
    assert above.sentence == "Loss before of `a` is at least 1 nats above loss."
    ratio = claims.metric_at_most_ratio("a", LOSS, BEFORE, 0.2)
    verdict = ratio.verdict(found)
    logs = [math.log(one / other) for one, other in ((1.0, 4.0), (1.5, 5.5), (2.0, 7.0))]
    assert verdict.value == pytest.approx(math.exp(sum(logs) / 3))
    assert (verdict.outcome, ratio.unit) == ("refuted", "×")
    assert ratio.sentence == "Loss of `a` is at most 0.2 times loss before."
    assert {metric.name for metric in ratio.metrics} == {"loss", "loss before"}


def test_sentences_say_which_way():
    above, within = claims.above, claims.within
    assert (
        above(ACCURACY, "a", "b", 5).sentence == "`a` is at least 5 points above `b` in accuracy."
    )
    assert (
        above(ACCURACY, "a", "b", -5).sentence == "`a` is at most 5 points below `b` in accuracy."
    )
    assert above(LOSS, "a", "b", 2).sentence == "`a` is at least 2 nats above `b` in loss."
    assert "in loss" in within(LOSS, "a", "b", 5).sentence
    assert claims.at_least(ACCURACY, "a", 98).sentence == "Accuracy of `a` is at least 98 %."
    assert claims.at_most(LOSS, "a", 0.5).sentence == "Loss of `a` is at most 0.5 nats."


def test_a_claim_has_its_criterion_its_paper_and_its_reason():
    paper = claims.Statement("it is better", "table 2", "91.0 %")
    criterion = claims.above(ACCURACY, "a", "b", 5)
    claim = claims.Claim("It is better.", criterion, paper, why="It is so.", added=("small",))
    assert (claim.arms, claim.paper.comparable) == (("a", "b"), "no: other data")
    assert (criterion.metrics, criterion.unit) == ((ACCURACY,), "points")
    assert claims.at_most_ratio(LOSS, "a", "b", 1).unit == "×"
    assert (claims.at_least(LOSS, "a", 1).arms, claims.at_least(LOSS, "a", 1).unit) == (
        ("a",),
        "nats",
    )
    with pytest.raises(ExperimentError, match="a claim without a number"):
        claims.Criterion("It is better.", lambda results: claims.Verdict(1.0))


def test_intervals_of_verdicts_are_those_over_seeds():
    assert claims.decide([1.0]).interval == Interval(1.0, -math.inf, math.inf)
