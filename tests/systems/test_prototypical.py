"""Prototypical networks against loops; the control is deaf; both presets hold together."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from featurewise.systems.few_shot.prototypical import (
    SYSTEM,
    FewShot,
    Prototypical,
    data,
    distances,
    episodes_of,
    prototypes,
)
from featurewise.worlds.glyphs.episodes import Episodes, split_classes

TINY = SYSTEM.preset("tiny")


def vectors(network: Prototypical, pictures: Tensor) -> list[list[Tensor]]:
    return [[network.embed(one[None]).flatten().double() for one in row] for row in pictures]


def test_means_and_distances_are_those_of_loops() -> None:
    torch.manual_seed(1)
    support, queries = torch.randn(2, 6, 4), torch.randn(2, 3, 4)
    labels = torch.tensor([[0, 1, 1, 2, 2, 2], [2, 1, 0, 0, 0, 0]])
    centres = prototypes(support, labels, 3)
    apart = distances(queries, centres)
    for e in range(2):
        for n in range(3):
            own = [support[e, i].double() for i in range(6) if labels[e, i] == n]
            mean = sum(own, torch.zeros(4).double()) / len(own)
            assert torch.allclose(centres[e, n].double(), mean, atol=1e-6)
            for q in range(3):
                d = sum(
                    float(a - b) ** 2 for a, b in zip(queries[e, q].double(), mean, strict=True)
                )
                assert apart[e, q, n].item() == pytest.approx(d, rel=1e-5)


@pytest.mark.parametrize("arm", ["prototypical", "cosine", "cosine_scaled", "pixels"])
def test_logits_of_one_query_after_another(arm: str) -> None:
    """Equation 2 in a loop: each picture embedded alone, each query compared alone."""
    torch.manual_seed(2)
    batch = episodes_of(TINY, "train", 3, shot=2).batch(0)
    network = Prototypical(TINY, arm).eval()
    with torch.no_grad():
        logits = network(batch)
        support, query = vectors(network, batch.support), vectors(network, batch.query)
    for e in (0, 5):
        for n in range(TINY.way):
            members = [
                v for v, y in zip(support[e], batch.support_labels[e], strict=True) if y == n
            ]
            centre = torch.stack(members).mean(0)
            for q in (0, 7):
                x = query[e][q]
                if arm.startswith("cosine"):
                    value = float(x @ centre / (x.norm() * centre.norm()))
                else:
                    value = -float((x - centre).square().sum())
                value *= float(torch.as_tensor(network.scale).detach())
                assert logits[e, q, n].item() == pytest.approx(value, rel=1e-4, abs=1e-4)


def test_the_order_of_the_support_does_not_matter() -> None:
    batch = episodes_of(TINY, "train", 3, shot=2).batch(0)
    order = torch.randperm(batch.support.shape[1])
    turned = Episodes(
        batch.support[:, order], batch.support_labels[:, order], batch.query, batch.query_labels
    )
    network = Prototypical(TINY, "prototypical").eval()
    assert torch.allclose(network(batch), network(turned), atol=1e-5)


def test_only_the_control_is_given_wrong_labels() -> None:
    for arm in SYSTEM.arms:
        batch = data(TINY, arm, 0).batch(0)
        plain = episodes_of(TINY, "train", 0, TINY.shot).batch(0)
        assert torch.equal(batch.support, plain.support)
        assert torch.equal(batch.query_labels, plain.query_labels)
        same = torch.equal(batch.support_labels, plain.support_labels)
        assert same == (arm.name != "shuffled"), arm.name
        assert torch.equal(batch.support_labels.sort(1).values, plain.support_labels.sort(1).values)


def test_the_control_says_nothing_of_the_queries() -> None:
    """Of many deals, as many give a query its own class's label as chance does."""
    s = FewShot(steps=1, fonts="bundled", size=16, faces=2, letters=8, episodes=200)
    labels = data(s, SYSTEM.arm("shuffled"), 0).batch(0).support_labels
    share = (labels == torch.arange(5)).float().mean().item()
    assert 0.16 < share < 0.24


def test_training_and_test_share_no_script() -> None:
    scripts = []
    for part in ("train", "validation", "test"):
        source = episodes_of(TINY, part, 0, 1)
        scripts.append({source.pool.groups[label] for label in source.classes})
        assert source.classes == getattr(split_classes(source.pool), part)
    assert not (scripts[0] & scripts[1] or scripts[0] & scripts[2] or scripts[1] & scripts[2])


def test_raw_pixels_have_no_weights() -> None:
    names = [name for name, _ in Prototypical(TINY, "pixels").named_parameters()]
    assert names == ["scale"]
