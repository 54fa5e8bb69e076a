"""The spectrum: what each arm predicts, that it is an update of the kernel, and the controls."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from featurewise.core import LowRank
from featurewise.study.results import Proportion
from featurewise.systems.mechanisms.hypernetwork import (
    SHARES,
    SYSTEM,
    Config,
    OnePerShare,
    Perceptron,
    data,
    evaluate,
    objective,
    stepper,
)
from featurewise.worlds.small.permuted import PermutedSource, permuted_digits

TINY: Config = SYSTEM.preset("tiny")
SMALL: Config = SYSTEM.preset("small")


def perceptron(arm: str, preset: str = "tiny") -> Perceptron:
    torch.manual_seed(0)
    return Perceptron(SYSTEM.config(preset, arm))


def test_so_many_numbers_are_predicted_as_the_arms_say() -> None:
    c = SMALL.width
    of_a_site = {"bias": c, "film": 2 * c, "whole": c * c, "film_wide": 2 * SMALL.wide_width}
    of_a_site |= {f"rank{r}": 2 * r * c for r in (1, 2, 4, 8)}
    for arm, numbers in of_a_site.items():
        assert perceptron(arm, "small").net.layout.size == 2 * numbers


def test_the_wide_perceptron_has_as_many_parameters_as_the_arm_whole() -> None:
    wide, whole = (
        sum(p.numel() for p in perceptron(arm, "small").parameters())
        for arm in ("film_wide", "whole")
    )
    assert wide == pytest.approx(whole, rel=0.01)


def kernel(arm: str, values: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """What an arm makes of a linear map: a matrix on its left, and a bias."""
    one, zero = torch.eye(TINY.width), torch.zeros(TINY.width)
    if arm == "bias":
        return one, values["beta"]
    if arm == "film":
        return torch.diag(1 + values["gamma"]), values["beta"]
    if arm == "whole":
        return one + values["delta"], zero
    effective = LowRank(int(arm.removeprefix("rank"))).effective(values)
    update = effective["left"] @ effective["right"]
    assert torch.linalg.matrix_rank(update) == int(arm.removeprefix("rank"))
    return one + update, zero


@pytest.mark.parametrize("arm", ["bias", "film", "rank1", "rank2", "rank8", "whole"])
def test_what_is_predicted_is_a_kernel(arm: str) -> None:
    made = perceptron(arm)
    table = made.net.generator.table
    with torch.no_grad():
        table.normal_(std=0.2)
    x = torch.rand(6, 64)
    z = torch.tensor([0, 1, 1, 0, 1, 0])
    first, second, last = (made.net.backbone[i] for i in (0, 2, 4))
    answers = made(x, z)
    for row in range(6):
        task, y = made.net.represent(z[row]), x[row]
        for layer, site in ((first, "0"), (second, "2")):
            left, bias = kernel(arm, task[site])
            y = torch.relu((left @ layer.weight) @ y + left @ layer.bias + bias)
        torch.testing.assert_close(answers[row], last(y), rtol=1e-4, atol=1e-5)


def test_perceptrons_share_nothing_and_read_their_own_column() -> None:
    config = SYSTEM.config("tiny", "film")
    network, batch = OnePerShare(config), data(config, 0).batch(0)
    logits = network(batch)
    assert logits.shape == (config.batch_size, len(SHARES), 10)
    logits[:, 1].sum().backward()
    for column, each in enumerate(network.hosts):
        assert all(bool(p.grad.any()) == (column == 1) for p in each.parameters())


def test_each_perceptron_learns_as_if_it_were_alone() -> None:
    """The loss is the sum of theirs, so that the learning rate of each is that of the config."""
    config = SYSTEM.config("tiny", "film")
    network, batch = OnePerShare(config), data(config, 0).batch(0)
    alone = [
        F.cross_entropy(each(batch.pixels[:, i], batch.task[:, i]), batch.labels[:, i])
        for i, each in enumerate(network.hosts)
    ]
    torch.testing.assert_close(objective(network, batch)[0], sum(alone))


def test_each_column_has_its_share_of_the_digits() -> None:
    assert data(TINY, 5) == PermutedSource(TINY.batch_size, (0.1, 0.3, 1.0), TINY.tasks, 5)


def test_the_control_has_the_permutation_of_another_digit() -> None:
    plain, control = (data(SYSTEM.config("small", arm), 5).batch(0) for arm in ("film", "shuffled"))
    assert torch.equal(plain.pixels, control.pixels)
    assert torch.equal(plain.labels, control.labels)
    assert torch.equal(plain.task.roll(1, 0), control.task)
    assert not torch.equal(plain.task, control.task)


def test_the_learning_rate_falls_to_nothing_by_the_last_step() -> None:
    schedule = stepper(perceptron("none"), TINY).learner.schedule
    assert [schedule(step) for step in (0, TINY.steps // 2, TINY.steps)] == pytest.approx(
        [1, 0.5, 0]
    )


@torch.no_grad()
@pytest.mark.parametrize("arm", ["whole", "shuffled"])
def test_accuracy_is_counted_on_test_digits_and_for_the_control_by_another_condition(
    arm: str,
) -> None:
    torch.manual_seed(0)
    config = SYSTEM.config("tiny", arm)
    network = OnePerShare(config)
    for each in network.hosts:
        each.net.generator.table.normal_(std=0.2)
    measured = evaluate(stepper(network, config), config)
    batch = permuted_digits("test", tasks=config.tasks)
    assert config.tasks == 2  # so that there is one other permutation
    condition = 1 - batch.task[:, 0] if arm == "shuffled" else batch.task[:, 0]
    for share, each in zip(("10 %", "30 %", "100 %"), network.hosts, strict=True):
        right = each(batch.pixels[:, 0], condition).argmax(1) == batch.labels[:, 0]
        expected = Proportion(int(right.sum()), 277 * config.tasks)
        assert measured.by_type[f"accuracy on {share}"] == expected
    assert measured.accuracy == measured.by_type["accuracy on 100 %"]
    assert len({each.correct for each in measured.by_type.values()}) == 3


def test_every_arm_but_one_is_conditioned_and_starts_as_the_plain_perceptron() -> None:
    batch = data(TINY, 0).batch(0)
    plain = perceptron("none")(batch.pixels[:, 0], batch.task[:, 0])
    for arm in {each.name for each in SYSTEM.arms} - {"none", "film_wide"}:
        assert perceptron(arm).conditioned
        assert torch.equal(perceptron(arm)(batch.pixels[:, 0], batch.task[:, 0]), plain)


def test_the_permutation_helps_and_that_of_another_does_not() -> None:
    found = {}
    for arm in ("whole", "none", "shuffled"):
        config = replace(SYSTEM.config("tiny", arm), steps=150, tasks=8)
        torch.manual_seed(0)
        trained = stepper(OnePerShare(config), config)
        source = data(config, 0)
        for index in range(config.steps):
            trained.step(source.batch(index))
        found[arm] = evaluate(trained, config)
    accuracy = {arm: each.number() for arm, each in found.items()}
    assert accuracy["whole"] > accuracy["none"] + 0.1
    assert accuracy["shuffled"] < accuracy["none"] + 0.05
    assert found["whole"].number("predicted numbers") == 2 * TINY.width**2
    assert found["none"].number("predicted numbers") == 0
