"""Bilinear transforms: what contains what, the control, and the two claims of its own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from featurewise.core import film
from featurewise.study.results import Measurement, Results, Trial
from featurewise.systems.mechanisms.bilinear import (
    FACTORS,
    SYSTEM,
    Config,
    fewest_parameters,
    more_factors_help,
)
from featurewise.systems.mechanisms.bilinear.experiment import (
    ERRORS,
    data,
    equal_decimals,
    evaluate,
)
from featurewise.systems.mechanisms.bilinear.method import (
    Bilinear,
    Students,
    append_one,
    bilinear,
    build_layer,
    film_as_bilinear,
    stepper,
)
from featurewise.worlds.small.forms import CELLS, FormSource

TINY: Config = SYSTEM.preset("tiny")


def test_it_is_the_sum_over_all_products() -> None:
    layer = Bilinear(3, 2, 4).double()
    x, z = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64)
    expected = torch.zeros(5, 4, dtype=torch.float64)
    for b in range(5):
        left, right = [*x[b].tolist(), 1.0], [*z[b].tolist(), 1.0]
        for k in range(4):
            for i in range(4):
                for j in range(3):
                    expected[b, k] += left[i] * layer.weight[k, i, j].detach() * right[j]
    torch.testing.assert_close(layer(x, z), expected)


def test_film_is_one_of_them() -> None:
    x, gamma, beta = torch.randn(3, 7, 5, dtype=torch.float64)
    weight = film_as_bilinear(5, torch.float64)
    y = bilinear(append_one(x), weight, torch.cat((gamma, beta), dim=1))
    torch.testing.assert_close(y, film(x, gamma, beta), rtol=0, atol=1e-15)
    assert torch.linalg.matrix_rank(weight).tolist() == [2] * 5
    assert weight.sum() == 10


def test_a_layer_can_hold_a_film_generator() -> None:
    torch.manual_seed(0)
    x, z = torch.randn(6, 3), torch.randn(6, 2)
    scale, shift = torch.randn(2, 3, 3)  # of [z; 1]
    layer = Bilinear(3, 2, 3)
    with torch.no_grad():
        layer.weight.zero_()
        for k in range(3):
            layer.weight[k, k] = scale[k]
            layer.weight[k, 3] = shift[k]
    longer = append_one(z)
    torch.testing.assert_close(layer(x, z), film(x, longer @ scale.T, longer @ shift.T))


def test_film_and_its_bilinear_transform_agree_to_double_precision() -> None:
    assert equal_decimals(TINY) >= 14
    assert equal_decimals(SYSTEM.preset("small")) >= 14


def test_as_many_factors_as_features_contain_film() -> None:
    layer = build_layer(TINY).double()
    factors = build_layer(replace(TINY, layer="factors", factors=TINY.width)).double()
    with torch.no_grad():
        for weight in layer.parameters():
            weight.normal_()
        for linear in (factors.get_submodule("backbone.0"), factors.get_submodule("backbone.1")):
            linear.weight.copy_(torch.eye(TINY.width))
            linear.bias.zero_()
        factors.generator.head.load_state_dict(layer.generator.head.state_dict())
    x, z = torch.randn(2, 6, TINY.width, dtype=torch.float64)
    torch.testing.assert_close(factors(x, condition=z), layer(x, condition=z))


def test_each_cell_has_a_layer_of_its_own() -> None:
    batch = data(TINY, 0).batch(0)
    network = Students(TINY)
    with torch.no_grad():
        for cell, student in enumerate(network.students.values()):
            student.generator.head.weight.zero_()
            student.generator.head.bias.fill_(cell + 1.0)
    gamma, beta = (torch.full((TINY.width,), v) for v in (1.0, 0.0))
    outputs = network(batch)
    for cell in range(4):
        change = cell + 1.0  # Affine's scale is one plus what is generated
        expected = film(batch.x[:, cell], gamma + change, beta + change)
        torch.testing.assert_close(outputs[:, cell], expected)


def test_the_control_has_the_z_of_another_example() -> None:
    plain, control = (data(SYSTEM.config("tiny", arm), 0).batch(0) for arm in ("film", "shuffled"))
    assert torch.equal(plain.x, control.x)
    assert torch.equal(plain.y, control.y)
    assert not torch.equal(plain.z, control.z)
    assert torch.equal(plain.z[:-1], control.z[1:])


def test_the_control_is_evaluated_with_the_z_of_another_example() -> None:
    """Students that ignore z have the same errors; those that read it have not."""
    plain, control = SYSTEM.config("tiny", "film"), SYSTEM.config("tiny", "shuffled")
    torch.manual_seed(0)
    trained = stepper(Students(plain), plain)
    assert evaluate(trained, plain) != evaluate(trained, control)
    with torch.no_grad():
        for student in trained.learner.network.students.values():
            student.generator.head.weight.zero_()
    assert evaluate(trained, plain) == evaluate(trained, control)


def test_all_settings_reach_the_data() -> None:
    sizes = {"width": 4, "condition": 4, "rank": 2, "few": 16, "batch_size": 16}
    assert data(TINY, 3) == FormSource(**sizes, noise=0.1, seed=3)


def test_film_starts_away_from_the_identity_as_the_others_do() -> None:
    weight = build_layer(SYSTEM.preset("small")).get_submodule("generator.head").weight
    assert float(weight.detach().std()) == pytest.approx(0.1, rel=0.15)


@torch.no_grad()
def test_errors_are_shares_of_the_variance_of_new_outputs_without_noise() -> None:
    config = SYSTEM.config("tiny", "input")
    network = Students(config)
    found = evaluate(stepper(network, config), config).values
    source = FormSource(width=4, condition=4, rank=2, few=1, batch_size=1, noise=0.0, seed=0)
    exact = source.exact(TINY.test_examples)
    for cell, name in enumerate(CELLS):
        output, y = network.students[name](exact.x[:, cell]), exact.y[:, cell]
        squares, variances = 0.0, 0.0
        for feature in range(TINY.width):
            mean = float(y[:, feature].sum()) / TINY.test_examples
            squares += float(((output - y)[:, feature] ** 2).sum()) / TINY.test_examples
            variances += float(((y[:, feature] - mean) ** 2).sum()) / (TINY.test_examples - 1)
        assert found[ERRORS[cell].name] == pytest.approx(squares / variances, rel=1e-4)
    assert found["parameters"] == 4 * (4 * 4 + 4)


def test_the_learning_rate_falls_to_a_hundredth() -> None:
    schedule = stepper(Students(TINY), TINY).learner.schedule
    assert [schedule(step) for step in (0, TINY.steps)] == pytest.approx([1, 0.01])


def results(**measured: dict[str, float]) -> Results:
    return Results("bilinear", "tiny", tuple(trials(0, measured)))


def trials(seed: int, measured: dict[str, dict[str, float]]) -> list[Trial]:
    return [
        Trial(arm, seed, 1, 0.0, 1, Measurement(values=values)) for arm, values in measured.items()
    ]


def sized(parameters: float, error: float) -> dict[str, float]:
    return {"parameters": parameters, "error on FiLM, new examples": error}


def test_fewest_parameters() -> None:
    fewest = fewest_parameters().verdict
    others = {"additive": sized(5.0, 0.5), "bilinear": sized(30.0, 0.05)}
    verdict = fewest(results(film=sized(10.0, 0.05), factors1=sized(5.0, 0.06), **others))
    assert (verdict.within, verdict.value) == (True, 3.0)
    verdict = fewest(results(film=sized(10.0, 0.05), factors1=sized(5.0, 0.05), **others))
    assert (verdict.within, verdict.value) == (False, 0.5)
    assert fewest(results(film=sized(10.0, 0.06), **others)).value == 0.0
    others["bilinear"] = sized(30.0, 0.06)
    verdict = fewest(results(film=sized(10.0, 0.05), **others))
    assert (verdict.within, verdict.value) == (False, 0.0)


def test_more_factors_leave_less_of_the_error() -> None:
    falls = more_factors_help().verdict
    errors = {
        f"factors{r}": {"error on bilinear, new examples": 0.8**i} for i, r in enumerate(FACTORS)
    }
    assert falls(results(**errors)).within
    errors["factors8"]["error on bilinear, new examples"] = errors["factors4"][
        "error on bilinear, new examples"
    ]
    verdict = falls(results(**errors))
    assert (verdict.within, verdict.value) == (False, 1.0)


def test_both_have_an_interval_over_seeds() -> None:
    """A verdict without one would say nothing of how sure it is."""
    errors = {
        f"factors{r}": {"error on bilinear, new examples": 0.5**i, **sized(5.0, 0.5)}
        for i, r in enumerate(FACTORS)
    }
    sizes = {"additive": sized(5.0, 0.5), "bilinear": sized(30.0, 0.01), "film": sized(10.0, 0.01)}
    found = Results(
        "bilinear",
        "tiny",
        tuple(trial for seed in range(3) for trial in trials(seed, errors | sizes)),
    )
    for criterion, value in ((more_factors_help(), 0.5), (fewest_parameters(), 3.0)):
        verdict = criterion.verdict(found)
        assert verdict.value == pytest.approx(value)
        assert verdict.outcome == "supported"
