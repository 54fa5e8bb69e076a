"""The spectrum: what each arm predicts, that it is an update of the kernel, and the controls."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featurewise.core import LowRank
from featurewise.study.results import Proportion
from featurewise.systems.mechanisms.hypernetwork import (
    OPERATIONS,
    SHARES,
    SYSTEM,
    Shares,
    data,
    evaluate,
    objective,
    stepper,
)
from featurewise.worlds.small.permuted import PermutedSource, permuted_digits

S = SYSTEM.preset("tiny")
SMALL = SYSTEM.preset("small")


def host(arm: str, s: object = S) -> nn.Module:
    torch.manual_seed(0)
    return Shares(s, SYSTEM.arm(arm)).hosts[0]


def test_so_many_numbers_are_predicted_as_the_arms_say() -> None:
    c = SMALL.width
    of_a_site = {"bias": c, "film": 2 * c, "whole": c * c, "film_wide": 2 * SMALL.wide}
    of_a_site |= {f"rank{r}": 2 * r * c for r in (1, 2, 4, 8)}
    for arm, numbers in of_a_site.items():
        assert host(arm, SMALL).net.layout.size == 2 * numbers


def test_the_wide_host_has_as_many_weights_as_the_arm_whole() -> None:
    wide, whole = (
        sum(p.numel() for p in host(arm, SMALL).parameters()) for arm in ("film_wide", "whole")
    )
    assert wide == pytest.approx(whole, rel=0.01)


def kernel(arm: str, values: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """What an arm makes of a linear map: a matrix on its left, and a bias."""
    one, zero = torch.eye(S.width), torch.zeros(S.width)
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
    made = host(arm)
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


def test_the_hosts_share_nothing_and_see_their_own_column() -> None:
    network, batch = Shares(S, SYSTEM.arm("film")), data(S, SYSTEM.arm("film"), 0).batch(0)
    logits = network(batch)
    assert logits.shape == (S.rows, len(SHARES), 10)
    logits[:, 1].sum().backward()
    for column, each in enumerate(network.hosts):
        assert all(bool(p.grad.any()) == (column == 1) for p in each.parameters())


def test_each_host_learns_as_if_it_were_alone() -> None:
    """The loss is the sum of theirs, so that the rate of each is that of the settings."""
    network, batch = Shares(S, SYSTEM.arm("film")), data(S, SYSTEM.arm("film"), 0).batch(0)
    alone = [
        F.cross_entropy(each(batch.pixels[:, i], batch.task[:, i]), batch.labels[:, i])
        for i, each in enumerate(network.hosts)
    ]
    torch.testing.assert_close(objective(network, batch)[0], sum(alone))


def test_each_column_has_its_share_of_the_digits_and_the_control_another_permutation() -> None:
    for arm in SYSTEM.arms:
        wanted = PermutedSource(
            S.rows, (0.1, 0.3, 1.0), S.tasks, 5, shuffled=arm.name == "shuffled"
        )
        assert data(S, arm, 5) == wanted


def test_the_rate_falls_to_nothing_by_the_last_step() -> None:
    schedule = stepper(host("none"), S, SYSTEM.arm("none")).learner.schedule
    assert [schedule(step) for step in (0, S.steps // 2, S.steps)] == pytest.approx([1, 0.5, 0])


@torch.no_grad()
@pytest.mark.parametrize("name", ["whole", "shuffled"])
def test_accuracy_is_counted_on_test_digits_and_the_control_is_told_wrong(name: str) -> None:
    torch.manual_seed(0)
    arm = SYSTEM.arm(name)
    network = Shares(S, arm)
    for each in network.hosts:
        each.net.generator.table.normal_(std=0.2)
    measured = evaluate(stepper(network, S, arm), S, arm)
    batch = permuted_digits("test", tasks=S.tasks)
    assert S.tasks == 2  # so that there is one other permutation
    told = 1 - batch.task[:, 0] if name == "shuffled" else batch.task[:, 0]
    for share, each in zip(("10%", "30%", "100%"), network.hosts, strict=True):
        right = each(batch.pixels[:, 0], told).argmax(1) == batch.labels[:, 0]
        assert measured.by_type[share] == Proportion(int(right.sum()), 277 * S.tasks)
    assert measured.accuracy == measured.by_type["100%"]
    assert len({each.correct for each in measured.by_type.values()}) == 3


def test_every_arm_but_one_is_conditioned_and_starts_as_the_plain_host() -> None:
    batch = data(S, SYSTEM.arm("whole"), 0).batch(0)
    plain = host("none")(batch.pixels[:, 0], batch.task[:, 0])
    for arm in set(OPERATIONS) - {"film_wide"}:
        assert torch.equal(host(arm)(batch.pixels[:, 0], batch.task[:, 0]), plain)


def test_the_permutation_helps_and_that_of_another_does_not() -> None:
    s, found = replace(S, steps=150, tasks=8), {}
    for name in ("whole", "none", "shuffled"):
        arm = SYSTEM.arm(name)
        torch.manual_seed(0)
        trained = stepper(Shares(s, arm), s, arm)
        source = data(s, arm, 0)
        for index in range(s.steps):
            trained.step(source.batch(index))
        found[name] = evaluate(trained, s, arm)
    accuracy = {name: each.number() for name, each in found.items()}
    assert accuracy["whole"] > accuracy["none"] + 0.1
    assert accuracy["shuffled"] < accuracy["none"] + 0.05
    assert found["whole"].number("predicted") == 2 * s.width**2
    assert found["none"].number("predicted") == 0
    assert list(found["whole"].by_type) == ["10%", "30%", "100%"]
