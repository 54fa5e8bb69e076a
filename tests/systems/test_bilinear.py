"""What is particular to bilinear forms: what contains what, the control, two claims."""

from __future__ import annotations

import pytest
import torch

from featurewise.core import film
from featurewise.study.results import Measurement, Results, Trial
from featurewise.systems.mechanisms.bilinear import (
    FACTORS,
    SYSTEM,
    Forms,
    Pupils,
    data,
    digits,
    evaluate,
    falls,
    fewest,
    pupil,
    stepper,
)
from featurewise.worlds.small.forms import CELLS, FormSource

TINY: Forms = SYSTEM.preset("tiny")


def test_film_is_a_bilinear_form() -> None:
    assert digits(TINY) >= 15
    assert digits(SYSTEM.preset("small")) >= 15


def test_as_many_factors_as_features_contain_film() -> None:
    layer, factors = pupil(TINY, "film").double(), pupil(TINY, f"factors{TINY.width}").double()
    with torch.no_grad():
        for weight in layer.parameters():
            weight.normal_()
        for linear in (factors.get_submodule("backbone.0"), factors.get_submodule("backbone.1")):
            linear.weight.copy_(torch.eye(TINY.width))
            linear.bias.zero_()
        factors.generator.head.load_state_dict(layer.generator.head.state_dict())
    x, z = torch.randn(2, 6, TINY.width, dtype=torch.float64)
    torch.testing.assert_close(factors(x, condition=z), layer(x, condition=z))


def test_each_cell_has_a_pupil_of_its_own() -> None:
    batch = data(TINY, SYSTEM.arm("film"), 0).batch(0)
    network = Pupils(TINY, "film")
    with torch.no_grad():
        for cell, learns in enumerate(network.pupils.values()):
            learns.generator.head.weight.zero_()
            learns.generator.head.bias.fill_(cell + 1.0)
    gamma, beta = (torch.full((TINY.width,), v) for v in (1.0, 0.0))
    answers = network(batch)
    for cell in range(4):
        change = cell + 1.0  # Affine's scale is one plus what is generated
        expected = film(batch.x[:, cell], gamma + change, beta + change)
        torch.testing.assert_close(answers[:, cell], expected)


def test_the_control_gets_the_z_of_another_row() -> None:
    plain, control = (data(TINY, SYSTEM.arm(a), 0).batch(0) for a in ("film", "shuffled"))
    assert torch.equal(plain.x, control.x)
    assert not torch.equal(plain.z, control.z)
    assert torch.equal(plain.z[:-1], control.z[1:])


def test_all_settings_reach_the_data() -> None:
    sizes = {"width": 4, "condition": 4, "few": 16, "batch_size": 16}
    for arm in SYSTEM.arms:
        wanted = FormSource(**sizes, noise=0.1, seed=3, shuffled=arm.name == "shuffled")
        assert data(TINY, arm, 3) == wanted


def test_film_starts_away_from_the_identity_as_the_others_do() -> None:
    weight = pupil(SYSTEM.preset("small"), "film").get_submodule("generator.head").weight
    assert float(weight.detach().std()) == pytest.approx(0.1, rel=0.15)


@torch.no_grad()
def test_errors_are_shares_of_the_variance_of_fresh_answers_without_noise() -> None:
    arm = SYSTEM.arm("input")
    network = Pupils(TINY, "input")
    found = evaluate(stepper(network, TINY, arm), TINY, arm).values
    fresh = FormSource(width=4, condition=4, few=1, batch_size=1, noise=0.0, seed=1_000_000)
    rows = fresh.exact(TINY.rows)
    for cell, name in enumerate(CELLS):
        answers, y = network.pupils[name](rows.x[:, cell]), rows.y[:, cell]
        squares, variances = 0.0, 0.0
        for feature in range(TINY.width):
            mean = float(y[:, feature].sum()) / TINY.rows
            squares += float(((answers - y)[:, feature] ** 2).sum()) / TINY.rows
            variances += float(((y[:, feature] - mean) ** 2).sum()) / (TINY.rows - 1)
        assert found[name] == pytest.approx(squares / variances, rel=1e-4)
    assert found["parameters"] == 4 * (4 * 4 + 4)


def test_the_rate_falls_to_a_hundredth() -> None:
    schedule = stepper(Pupils(TINY, "film"), TINY, SYSTEM.arm("film")).learner.schedule
    assert [schedule(step) for step in (0, TINY.steps)] == pytest.approx([1, 0.01])


def results(**measured: dict[str, float]) -> Results:
    return Results("bilinear", "tiny", tuple(trials(0, measured)))


def trials(seed: int, measured: dict[str, dict[str, float]]) -> list[Trial]:
    return [
        Trial(arm, seed, 1, 0.0, 1, Measurement(values=values)) for arm, values in measured.items()
    ]


def sized(parameters: float, error: float) -> dict[str, float]:
    return {"parameters": parameters, "film_many": error}


def test_fewest_weights() -> None:
    others = {"additive": sized(5.0, 0.5), "bilinear": sized(30.0, 0.05)}
    verdict = fewest(results(film=sized(10.0, 0.05), factors1=sized(5.0, 0.06), **others))
    assert (verdict.within, verdict.value) == (True, 3.0)
    verdict = fewest(results(film=sized(10.0, 0.05), factors1=sized(5.0, 0.05), **others))
    assert (verdict.within, verdict.value) == (False, 0.5)
    assert fewest(results(film=sized(10.0, 0.06), **others)).value == 0.0
    others["bilinear"] = sized(30.0, 0.06)
    verdict = fewest(results(film=sized(10.0, 0.05), **others))
    assert (verdict.within, verdict.value) == (False, 0.0)


def test_more_factors_take_of_the_error() -> None:
    errors = {f"factors{r}": {"bilinear_many": 0.8**i} for i, r in enumerate(FACTORS)}
    assert falls(results(**errors)).within
    errors["factors16"]["bilinear_many"] = errors["factors4"]["bilinear_many"]
    verdict = falls(results(**errors))
    assert (verdict.within, verdict.value) == (False, 1.0)


def test_both_have_an_interval_over_seeds() -> None:
    """A verdict without one would say nothing of how sure it is."""
    errors = {
        f"factors{r}": {"bilinear_many": 0.5**i, **sized(5.0, 0.5)} for i, r in enumerate(FACTORS)
    }
    sizes = {"additive": sized(5.0, 0.5), "bilinear": sized(30.0, 0.01), "film": sized(10.0, 0.01)}
    found = Results(
        "bilinear",
        "tiny",
        tuple(trial for seed in range(3) for trial in trials(seed, errors | sizes)),
    )
    for claim, value in ((falls, 0.5), (fewest, 3.0)):
        verdict = claim(found)
        assert verdict.value == pytest.approx(value)
        assert verdict.outcome == "supported"
