import math
from dataclasses import replace

import pytest

from featurewise.study.results import (
    Interval,
    Measurement,
    Proportion,
    Results,
    Trial,
    over_seeds,
)
from featurewise.training.errors import ExperimentError


def wilson_twin(correct, total):
    """The interval is where the score test would not reject: found here by bisection."""

    def rejected(p):
        return abs(correct / total - p) > 1.959963984540054 * math.sqrt(p * (1 - p) / total)

    def edge(inside, outside):
        for _ in range(200):
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if rejected(middle) else (middle, outside)
        return inside

    value = correct / total
    return edge(value, 0.0) if correct else 0.0, edge(value, 1.0) if correct < total else 1.0


@pytest.mark.parametrize(("correct", "total"), [(0, 10), (10, 10), (1, 3), (95, 100), (970, 1000)])
def test_wilson(correct, total):
    found = Proportion(correct, total).interval
    low, high = wilson_twin(correct, total)
    assert found.value == correct / total
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_wilson_by_hand():  # R: prop.test(81, 263, correct = FALSE)
    found = Proportion(81, 263).interval
    assert (found.low, found.high) == pytest.approx((0.2553, 0.3662), abs=1e-4)


@pytest.mark.parametrize("pair", [(1, 0), (0, 0), (-1, 3), (4, 3)])
def test_no_proportion(pair):
    with pytest.raises(ExperimentError, match="is no proportion"):
        Proportion(*pair)


def test_proportions_add():
    assert Proportion(1, 2) + Proportion(3, 4) == Proportion(4, 6)


def test_over_seeds():
    found = over_seeds([0.90, 0.92, 0.97])
    half = 4.302653 * math.sqrt((0.03**2 + 0.01**2 + 0.04**2) / 2 / 3)
    assert found.value == pytest.approx(0.93)
    assert (found.low, found.high) == pytest.approx((0.93 - half, 0.93 + half), abs=1e-5)
    assert over_seeds([0.5]) == Interval(0.5, -math.inf, math.inf)
    with pytest.raises(ExperimentError, match="at least one run"):
        over_seeds([])


def student_quantile(freedom):
    """97.5 % quantile by integrating the density (Simpson) and bisecting."""
    constant = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2))
    constant /= math.sqrt(freedom * math.pi)

    def half_mass(x, n=2000):
        h = x / n
        f = [(1 + (i * h) ** 2 / freedom) ** (-(freedom + 1) / 2) for i in range(n + 1)]
        return constant * h / 3 * (f[0] + f[-1] + 4 * sum(f[1:-1:2]) + 2 * sum(f[2:-1:2]))

    low, high = 1.5, 14.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if half_mass(middle) < 0.475 else (low, middle)
    return low


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8, 11, 20, 31, 32, 60])
def test_student(n):
    values = [0.0] * (n - 1) + [1.0]
    deviation = math.sqrt((1 - 1 / n) / (n - 1))
    found = over_seeds(values)
    quantile = (found.high - found.value) * math.sqrt(n) / deviation
    assert quantile == pytest.approx(student_quantile(n - 1), rel=2e-3)


def results():
    measured = Measurement(Proportion(90, 100), {"count": Proportion(3, 4)}, {"loss": 0.25})
    other = Measurement(Proportion(80, 100), {"count": Proportion(1, 4)}, {"loss": 0.5})
    trials = (
        Trial("film", 0, 10, 1.5, 1000, measured),
        Trial("film", 1, 10, 2.5, 1000, other),
        Trial("blind", 0, 10, 1.0, 900, Measurement(values={"loss": 1.0})),
    )
    return Results("toy", "tiny", trials, {"processor": "abacus"})


def test_numbers_by_name():
    found = results()
    assert found.arms() == ["film", "blind"]
    assert found.mean("film").value == pytest.approx(0.85)
    assert found.mean("film", "count").value == pytest.approx(0.5)
    assert found.mean("film", "loss").value == pytest.approx(0.375)
    with pytest.raises(
        ExperimentError, match=r"nothing called 'accuracy' was measured; there is loss"
    ):
        found.mean("blind")
    with pytest.raises(ExperimentError, match="no trial of arm 'shuffled'"):
        found.mean("shuffled")


def test_json_round_trip(tmp_path):
    assert Results.from_json(results().to_json()) == results()
    results().save(tmp_path / "results.json")
    assert Results.load(tmp_path / "results.json") == results()


def test_versions_of_the_data_are_kept_and_older_files_are_read():
    rendered = replace(results(), data_versions={"FreeType": "2.13"})
    assert Results.from_json(rendered.to_json()) == rendered
    assert "data_versions" not in results().to_json()


IMPOSSIBLE = results().to_json().replace("[\n    90", "[\n    900")
ODD = ["", "[]", "{}", "3", '{"trials": [{}]}', "[" * 100_000, IMPOSSIBLE]


@pytest.mark.parametrize("text", ODD)
def test_bad_files_are_named(tmp_path, text):
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(ExperimentError, match=r"results\.json: these are no results"):
        Results.load(path)
    with pytest.raises(ExperimentError, match=r"nothing\.json: "):
        Results.load(tmp_path / "nothing.json")
