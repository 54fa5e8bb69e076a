"""Prototypical networks against loops; what each arm changes; the splits share no script."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from featurewise.models.prototypes import prototypes, squared_distances
from featurewise.systems.episodes import sampled_episodes
from featurewise.systems.few_shot.prototypical import SYSTEM, Config
from featurewise.systems.few_shot.prototypical.experiment import data
from featurewise.systems.few_shot.prototypical.method import Prototypical
from featurewise.worlds.glyphs.episodes import Episodes, split_classes

TINY = SYSTEM.preset("tiny")


def vectors(network: Prototypical, images: Tensor) -> list[list[Tensor]]:
    return [[network.embed(one[None]).flatten().double() for one in row] for row in images]


def test_prototypes_and_distances_are_those_of_loops() -> None:
    torch.manual_seed(1)
    support, queries = torch.randn(2, 6, 4), torch.randn(2, 3, 4)
    labels = torch.tensor([[0, 1, 1, 2, 2, 2], [2, 1, 0, 0, 0, 0]])
    centres = prototypes(support, labels, 3)
    found = squared_distances(queries, centres)
    for e in range(2):
        for n in range(3):
            own = [support[e, i].double() for i in range(6) if labels[e, i] == n]
            mean = sum(own, torch.zeros(4).double()) / len(own)
            assert torch.allclose(centres[e, n].double(), mean, atol=1e-6)
            for q in range(3):
                pairs = zip(queries[e, q].double(), mean, strict=True)
                distance = sum(float(a - b) ** 2 for a, b in pairs)
                assert found[e, q, n].item() == pytest.approx(distance, rel=1e-5)


@pytest.mark.parametrize("arm", ["prototypical", "cosine", "cosine_scaled", "pixels"])
def test_logits_of_one_query_after_another(arm: str) -> None:
    """Equation 2 in a loop: each image embedded alone, each query compared alone."""
    torch.manual_seed(2)
    batch = sampled_episodes(TINY, "train", 3, shot=2).batch(0)
    network = Prototypical(SYSTEM.config("tiny", arm)).eval()
    with torch.no_grad():
        logits = network(batch)
        support, query = vectors(network, batch.support), vectors(network, batch.query)
    for e in (0, 5):
        for n in range(TINY.way):
            labels = batch.support_labels[e]
            own = [v for v, y in zip(support[e], labels, strict=True) if y == n]
            centre = torch.stack(own).mean(0)
            for q in (0, 7):
                x = query[e][q]
                if arm.startswith("cosine"):
                    value = float(x @ centre / (x.norm() * centre.norm()))
                else:
                    value = -float((x - centre).square().sum())
                value *= float(torch.as_tensor(network.scale).detach())
                assert logits[e, q, n].item() == pytest.approx(value, rel=1e-4, abs=1e-4)


def test_the_order_of_the_support_does_not_matter() -> None:
    batch = sampled_episodes(TINY, "train", 3, shot=2).batch(0)
    order = torch.randperm(batch.support.shape[1])
    permuted = Episodes(
        batch.support[:, order], batch.support_labels[:, order], batch.query, batch.query_labels
    )
    network = Prototypical(TINY).eval()
    assert torch.allclose(network(batch), network(permuted), atol=1e-5)


def test_only_the_control_has_permuted_labels() -> None:
    plain = sampled_episodes(TINY, "train", 0).batch(0)
    for arm in SYSTEM.arms:
        batch = data(SYSTEM.config("tiny", arm.name), 0).batch(0)
        assert torch.equal(batch.support, plain.support)
        assert torch.equal(batch.query_labels, plain.query_labels)
        same = torch.equal(batch.support_labels, plain.support_labels)
        assert same == (arm.name != "shuffled"), arm.name
        assert torch.equal(batch.support_labels.sort(1).values, plain.support_labels.sort(1).values)


def test_permuted_labels_are_right_as_often_as_guesses() -> None:
    config = replace(TINY, shuffled_labels=True, batch_size=200)
    labels = data(config, 0).batch(0).support_labels
    share = (labels == torch.arange(5)).float().mean().item()
    assert 0.16 < share < 0.24


def test_splits_share_no_script() -> None:
    scripts = []
    for split in ("train", "validation", "test"):
        source = sampled_episodes(TINY, split, 0)  # type: ignore[arg-type]
        scripts.append({source.pool.groups[label] for label in source.classes})
        assert source.classes == getattr(split_classes(source.pool), split)
    assert not (scripts[0] & scripts[1] or scripts[0] & scripts[2] or scripts[1] & scripts[2])


def test_raw_pixels_have_no_weights() -> None:
    network = Prototypical(SYSTEM.config("tiny", "pixels"))
    assert [name for name, _ in network.named_parameters()] == ["scale"]


def test_settings_of_version_0_1_are_read_by_their_new_names() -> None:
    names = {old for each in Config.__mro__ for old in vars(each).get("FORMER_NAMES", {})}
    assert {"fonts", "size", "faces", "letters", "queries", "episodes", "every"} == names
