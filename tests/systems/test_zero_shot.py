"""Zero-shot recognition: each loss as a loop, Gaussians, thresholds, and what the arms read."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import cast

import pytest
import torch
from torch import Tensor

from featurewise.core import ShapeError
from featurewise.models.pretrained import WeightsError, word_vectors
from featurewise.study.results import Proportion
from featurewise.systems.glyph_names import NameConfig, data, name_embeddings, other_class
from featurewise.systems.name_metrics import (
    ACCENT,
    ACCURACY,
    BASE,
    HARMONIC,
    SEEN,
    UNSEEN,
    area,
    best_of,
    by_class,
    chosen_threshold,
    curve,
    harmonic,
    roc_auc,
    shares,
)
from featurewise.systems.recognition.zero_shot import SYSTEM, experiment
from featurewise.systems.recognition.zero_shot.experiment import (
    SEEN_AT,
    UNSEEN_AT,
    branches,
    deviations,
    log_density,
)
from featurewise.systems.recognition.zero_shot.method import (
    Config,
    ZeroShot,
    combination,
    objective,
    rank_loss,
)
from featurewise.training.errors import ExperimentError
from featurewise.training.randomness import seed_everything
from featurewise.training.steppers import Supervised

TINY = cast(Config, SYSTEM.preset("tiny"))


@cache
def trained(arm: str) -> Supervised:
    seed_everything(0)
    config = SYSTEM.config("tiny", arm)
    with torch.enable_grad():
        stepper = cast(Supervised, SYSTEM.stepper(SYSTEM.build(config), config))
        source = SYSTEM.data(config, 0)
        for index in range(config.steps):
            stepper.step(source.batch(index))
    return stepper


def network_of(arm: str) -> ZeroShot:
    network = trained(arm).network
    assert isinstance(network, ZeroShot)
    return network.eval()


def test_the_rank_loss_is_that_of_the_paper() -> None:
    rng = torch.Generator().manual_seed(0)
    mapped, text = (torch.randn(n, 5, generator=rng, dtype=torch.float64) for n in (4, 7))
    labels = torch.tensor([0, 3, 6, 3])
    expected = 0.0
    for row, label in enumerate(labels.tolist()):
        for other in range(7):
            if other != label:
                own, false = (float(text[j] @ mapped[row]) for j in (label, other))
                expected += max(0.0, 0.1 - own + false) / 4
    torch.testing.assert_close(float(rank_loss(mapped, text, labels, 0.1)), expected)


def test_a_convex_combination_is_that_of_the_paper() -> None:
    rng = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 6, generator=rng, dtype=torch.float64)
    text = torch.randn(6, 4, generator=rng, dtype=torch.float64)
    found = combination(logits, text, 2)
    for row in range(3):
        p = logits[row].exp() / logits[row].exp().sum()
        best = sorted(range(6), key=lambda j: -float(p[j]))[:2]
        expected = sum((p[j] * text[j] for j in best), torch.zeros(4, dtype=torch.float64))
        torch.testing.assert_close(found[row], expected / sum(p[j] for j in best))
    torch.testing.assert_close(combination(logits, text, 10), logits.softmax(1) @ text)


@torch.no_grad()
def test_the_squared_loss_is_that_of_the_paper() -> None:
    config = SYSTEM.config("tiny", "socher")
    network, batch = network_of("socher"), SYSTEM.data(config, 3).batch(0)
    logits, mapped = network(batch)
    features = network.trunk(batch.images)
    first, _, second = network.map
    expected = 0.0
    for row, label in enumerate(batch.labels.tolist()):
        theta = second.weight @ torch.tanh(first.weight @ features[row] + first.bias)
        torch.testing.assert_close(mapped[row], theta + second.bias, rtol=1e-4, atol=1e-4)
        expected += float((network.text[label] - mapped[row]).square().sum())
        expected -= float(logits[row].log_softmax(0)[label])
    torch.testing.assert_close(
        float(objective(network, network, batch)[0]), expected / len(batch.labels)
    )


def test_the_map_does_not_change_the_features() -> None:
    """The trunk of an arm gets the gradient of the softmax alone, but for the ceiling."""
    gradients: dict[str, Tensor] = {}
    for arm in ("devise", "socher", "conse", "parts"):
        config = SYSTEM.config("tiny", arm)
        seed_everything(0)
        network = cast(ZeroShot, SYSTEM.build(config))
        with torch.enable_grad():
            objective(network, network, data(config, 0).batch(0))[0].backward()  # type: ignore[no-untyped-call]
        weight = next(network.trunk.parameters())
        assert weight.grad is not None
        gradients[arm] = weight.grad
    torch.testing.assert_close(gradients["devise"], gradients["conse"])
    torch.testing.assert_close(gradients["socher"], gradients["conse"])
    assert not torch.allclose(gradients["parts"], gradients["conse"])


def test_gaussians_are_isotropic() -> None:
    means = torch.tensor([[0.0, 0.0], [1.0, 2.0]], dtype=torch.float64)
    sigma = torch.tensor([0.5, 2.0], dtype=torch.float64)
    points = torch.tensor([[0.3, -0.1], [4.0, 4.0], [1.0, 2.0]], dtype=torch.float64)
    expected = torch.stack(
        [
            torch.distributions.Normal(mean, deviation).log_prob(points).sum(1)
            for mean, deviation in zip(means, sigma, strict=True)
        ],
        dim=1,
    )
    torch.testing.assert_close(log_density(points, means, sigma), expected)


@torch.no_grad()
def test_widths_come_from_training_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "_SIGMA_PER_CLASS", 3)
    config, network = SYSTEM.config("tiny", "socher"), network_of("socher")
    found, train = deviations(network, config), config.images.train
    for label in (0, config.classes.seen - 1):
        images = train.ink[train.labels == label][:3]
        mapped = network.map(network.trunk(images))
        squared = (mapped - network.text[label]).square().mean()
        torch.testing.assert_close(found[label], squared.sqrt(), rtol=1e-4, atol=1e-5)


def test_embeddings_are_sums_of_the_words() -> None:
    classes = TINY.classes
    found = name_embeddings(replace(TINY, text="bag"))
    words = sorted({"WITH", *(base.upper() for base in classes.bases), *TINY.accents})
    rows = []
    for base, accent in zip(classes.bases, classes.accents, strict=True):
        used = [base.upper(), *(["WITH", accent] if accent else [])]
        rows.append(torch.tensor([float(word in used) for word in words]))
    mean = sum(rows[: classes.seen], torch.zeros(len(words))) / classes.seen
    for row, embedding in zip(rows, found, strict=True):
        centred = row - mean
        torch.testing.assert_close(embedding, centred / centred.norm())
    random = name_embeddings(replace(TINY, text="random"))
    torch.testing.assert_close(random.norm(dim=1), torch.ones(len(classes)))
    assert torch.equal(random, name_embeddings(replace(TINY, text="random")))


def test_the_controls_have_other_names() -> None:
    order = other_class(30)
    assert torch.equal(order.sort().values, torch.arange(30))
    assert not (order == torch.arange(30)).any()
    own = name_embeddings(TINY)
    shuffled = name_embeddings(replace(TINY, shuffled_names=True))
    assert not any(torch.allclose(a, b) for a, b in zip(own, shuffled, strict=True))
    one = name_embeddings(replace(TINY, text="classes"))
    assert torch.equal(one, name_embeddings(replace(TINY, text="classes")))
    assert (one @ one.T - torch.eye(len(one))).abs().max() < 0.9


def test_glove_embeds_the_words_of_a_name() -> None:
    config = NameConfig(steps=1, bases="aeiou", accents=TINY.accents)
    try:
        table = word_vectors()
    except WeightsError as error:
        pytest.skip(f"GloVe is not converted here: {error}")
    rows = name_embeddings(config)
    label = config.classes.letters.index("é")
    words = [
        [base, *(["with", accent.lower()] if accent else [])]
        for base, accent in zip(config.classes.bases, config.classes.accents, strict=True)
    ]
    sums = torch.stack([table.rows(each).sum(0) for each in words])
    assert words[label] == ["e", "with", "acute"]
    expected = sums[label] - sums[: config.classes.seen].mean(0)
    torch.testing.assert_close(rows[label], expected / expected.norm())


def by_hand(config: Config) -> tuple[ZeroShot, Tensor, Tensor]:
    """A network, the labels of the test images, and similarities of each to each name."""
    network = network_of("devise")
    test = config.images.test
    with torch.no_grad():
        mapped = network.map(network.trunk(test.ink))
    rows = [[torch.cosine_similarity(a, b, 0) for b in network.text] for a in mapped]
    return network, test.labels, torch.tensor(rows)


def test_numbers_are_what_they_say() -> None:
    classes = TINY.classes
    network, labels, scores = by_hand(TINY)
    found, _ = branches(network, TINY, "test")
    torch.testing.assert_close(found.scores, scores, rtol=1e-4, atol=1e-4)
    validation, _ = branches(network, TINY, "validation")
    threshold = chosen_threshold(validation, classes)
    measured = SYSTEM.evaluate(trained("devise"), TINY)
    unseen, right = list(classes.unseen("test")), {"alone": 0, SEEN: 0, UNSEEN: 0}
    base_right = accent_right = both = 0
    for row, label in enumerate(labels.tolist()):
        line = found.scores[row].tolist()
        one = max(range(classes.seen), key=line.__getitem__)
        other = max(unseen, key=line.__getitem__)
        predicted = one if found.familiarity[row].item() >= threshold else other
        if label < classes.seen:
            right[SEEN] += predicted == label
            continue
        right["alone"] += other == label
        right[UNSEEN] += predicted == label
        base = classes.bases[predicted] == classes.bases[label]
        accent = classes.accents[predicted] == classes.accents[label]
        base_right, accent_right, both = (
            base_right + base,
            accent_right + accent,
            both + (base and accent),
        )
    assert isinstance(measured.accuracy, Proportion)
    assert measured.accuracy.correct == right["alone"]
    assert measured.by_type[SEEN.name].correct == right[SEEN]
    assert measured.by_type[UNSEEN.name].correct == right[UNSEEN] == both
    if base_right:
        assert measured.by_type[ACCENT.name].value == pytest.approx(both / base_right)
    if accent_right:
        assert measured.by_type[BASE.name].value == pytest.approx(both / accent_right)
    shares_of = [measured.by_type[each.name].value for each in (SEEN, UNSEEN)]
    assert measured.values[HARMONIC.name] == pytest.approx(harmonic(*shares_of))


def test_more_novelty_trades_seen_for_unseen() -> None:
    measured = SYSTEM.evaluate(trained("socher"), SYSTEM.config("tiny", "socher"))
    assert measured.values[SEEN_AT[50].name] <= measured.values[SEEN_AT[10].name]
    assert measured.values[UNSEEN_AT[50].name] >= measured.values[UNSEEN_AT[10].name]


def test_the_curve_goes_from_all_unseen_to_all_seen() -> None:
    config = SYSTEM.config("tiny", "socher")
    found, _ = branches(network_of("socher"), config, "test")
    points = curve(found, config.classes)
    assert points[0][1] == 0 and points[-1][2] == 0
    seen, unseen = [point[1] for point in points], [point[2] for point in points]
    assert seen == sorted(seen) and unseen == sorted(unseen, reverse=True)
    assert area(points) <= max(seen) * max(unseen)
    assert area([(1.0, 0.0, 0.5), (0.0, 1.0, 0.5)]) == pytest.approx(0.5)
    best = shares(found, config.classes, chosen_threshold(found, config.classes))[1:]
    assert harmonic(*best) == max(harmonic(*point[1:]) for point in points)
    assert harmonic(0.0, 0.0) == 0


def test_shared_measures() -> None:
    scores = torch.tensor([[0.9, 0.1, 0.3], [0.2, 0.8, 0.5], [0.3, 0.9, 0.4]])
    labels = torch.tensor([0, 1, 2])
    assert best_of(scores, range(1, 3)).tolist() == [2, 1, 1]
    assert by_class(torch.zeros(0, dtype=torch.bool), torch.zeros(0, dtype=torch.long)) == 0
    # class 1: 0.8 above 0.1, below 0.9: 1/2; class 2: 0.4 above 0.3, below 0.5: 1/2
    assert roc_auc(scores, labels, range(1, 3)) == pytest.approx(0.5)
    with pytest.raises(ExperimentError, match="without a test image"):
        roc_auc(scores, torch.tensor([0, 0, 1]), range(1, 3))
    assert ACCURACY.name == "accuracy"


def test_every_arm_has_a_figure() -> None:
    assert SYSTEM.draw is not None
    for arm in ("devise", "socher"):
        assert SYSTEM.draw(trained(arm), SYSTEM.config("tiny", arm)).size == (800, 340)


@pytest.mark.traced
def test_shapes_that_do_not_fit_are_refused() -> None:
    logits, text = torch.randn(2, 3), torch.randn(3, 5)
    for given in (
        (logits, text, 0),
        (logits, text, -1),
        (logits, text[:2], 1),
        (logits[0], text, 1),
    ):
        with pytest.raises(ShapeError, match=r"logits \(B, S\), text \(S, F\)"):
            combination(*given)
    with pytest.raises(ShapeError, match=r"mapped \(B, F\) and text \(K, F\)"):
        rank_loss(logits, text, torch.tensor([0, 1]), 0.1)
    with pytest.raises(ShapeError, match=r"2 images have labels \(3,\)"):
        rank_loss(torch.randn(2, 5), text, torch.tensor([0, 1, 2]), 0.1)
    batch = SYSTEM.data(TINY, 0).batch(0)
    for arm in [each.name for each in SYSTEM.arms]:
        network = network_of(arm)
        with pytest.raises(ShapeError, match=r"images must be \(B, 1, 16, 16\), got"):
            network(replace(batch, images=batch.images[..., 1:]))
        _, mapped = network(batch)
        with pytest.raises(ShapeError, match="expected"):
            network.similarities(mapped[:, 1:])
        with pytest.raises(ShapeError, match="have labels"):
            network.map_loss(mapped, batch.labels[1:])
