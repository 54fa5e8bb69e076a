"""MODERN against the paper's equations; arms; what is frozen; metrics."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from featurewise.models.pretrained.errors import WeightsError
from featurewise.systems.reasoning.modern import SYSTEM, sources
from featurewise.systems.reasoning.modern.blocks import PLANS, blocks_of, lower_features
from featurewise.systems.reasoning.modern.experiment import (
    CHANGED,
    CLOSED,
    OPEN,
    changed_values,
    correct,
    evaluate,
    sizes,
)
from featurewise.systems.reasoning.modern.method import (
    Config,
    Modern,
    Question,
    first_block,
    paper_offsets,
)
from featurewise.systems.reasoning.modern.sources import (
    QuestionSource,
    data_digests,
    question_set,
)
from featurewise.training.randomness import seed_everything
from featurewise.training.steppers import Supervised
from featurewise.worlds.vqa import is_yes_or_no

TINY = cast(Config, SYSTEM.preset("tiny"))


def config(arm: str) -> Config:
    return cast(Config, SYSTEM.config("tiny", arm))


def trained(arm: str, steps: int = 12) -> Supervised:
    seed_everything(0)
    stepper = cast(Supervised, SYSTEM.stepper(SYSTEM.build(config(arm)), config(arm)))
    stepper.network.train()  # the frozen norms must not follow
    source = SYSTEM.data(config(arm), 0)
    for index in range(steps):
        stepper.step(source.batch(index))
    return stepper


def rough_norms(network: nn.Module) -> None:
    """Norms whose four parts differ from their initial values."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.5, 0.5),
                (module.running_mean, -0.3, 0.3),
                (module.running_var, 0.5, 2.0),
            ):
                cast(Tensor, tensor).uniform_(low, high)


def test_affine_after_a_norm_is_the_papers_equation() -> None:
    """(γ_pre + Δγ) x̂ + β_pre + Δβ of each sample, channel and place, in float64."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3).double().eval()
    rough_norms(norm)
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    gamma, beta = torch.randn(2, 2, 3, dtype=torch.float64)
    d_gamma, d_beta = paper_offsets(norm, gamma, beta)
    operation = next(iter(Modern(TINY, 5, 3).trunk.layout)).operation
    found = operation(norm(x), {"gamma": gamma, "beta": beta})
    for n in range(2):
        for c in range(3):
            mean, var = norm.running_mean[c], norm.running_var[c]
            hat = (x[n, c] - mean) / (var + norm.eps) ** 0.5
            wanted = (norm.weight[c] + d_gamma[n, c]) * hat + norm.bias[c] + d_beta[n, c]
            torch.testing.assert_close(found[n, c], wanted)


def test_the_network_is_that_of_the_paper() -> None:
    """LSTM, MLP, norms with offsets, mean, fusion, MLP: sample by sample, in float64."""
    seed_everything(1)
    network = Modern(TINY, 9, 4).double().eval()
    rough_norms(network)
    for parameter in network.trunk.generator.parameters():
        nn.init.normal_(parameter, std=0.3)
    batch = QuestionSource(TINY, "train", 0).batch(0)
    batch = replace(batch, inputs=batch.inputs.double())
    words = Question(batch.question.words.clamp(max=8), batch.question.lengths)
    batch = replace(batch, question=words, given=words)
    found = network(batch)
    blocks, layout = network.trunk.backbone, network.trunk.layout
    for n in range(3):
        count = int(words.lengths[n])
        vectors = network.encode.embedding(words.words[n, :count])[None]
        e_q = network.encode.lstm(vectors)[1][0][0, 0]
        raw = network.trunk.generator(e_q[None])[0]
        x, at = batch.inputs[n : n + 1], 0
        for block, site in zip(blocks, layout, strict=True):
            convolution, norm = block[0], block[1]
            width = norm.num_features
            gamma, beta = raw[at : at + width], raw[at + width : at + 2 * width]
            at += 2 * width
            d_gamma, d_beta = (each[0] for each in paper_offsets(norm, gamma[None], beta[None]))
            x = convolution(x)
            hat = torch.stack(
                [
                    (x[0, c] - norm.running_mean[c]) / (norm.running_var[c] + norm.eps) ** 0.5
                    for c in range(width)
                ]
            )
            scale, shift = norm.weight + d_gamma, norm.bias + d_beta
            x = (scale[:, None, None] * hat + shift[:, None, None]).clamp(0, 6)[None]
            assert site.width == width
        v = x[0].mean((1, 2))
        v = (v - v.mean()) / (v.var(correction=0) + 1e-5).sqrt()
        fused = torch.tanh(network.of_image(v)) * torch.tanh(network.of_question(e_q))
        torch.testing.assert_close(found[n], network.answer(fused))


@pytest.mark.parametrize("arm", ["modern", "last", "shuffled"])
def test_it_starts_as_the_unchanged_network(arm: str) -> None:
    seed_everything(0)
    network = cast(Any, SYSTEM.build(config(arm)))
    batch = QuestionSource(config(arm), "train", 0).batch(0)
    plain = blocks_of("random")[first_block(config(arm)) :]
    pooled = plain(batch.inputs).mean((2, 3))
    expected = nn.functional.layer_norm(pooled, pooled.shape[1:])
    torch.testing.assert_close(network.vector(batch), expected)


def test_lower_and_upper_blocks_are_the_whole_network() -> None:
    images = question_set(TINY, "train").images[:4]
    blocks = blocks_of("random")
    whole = lower_features(blocks, images)
    torch.testing.assert_close(whole[2:3], lower_features(blocks, images[2:3]))
    for below in range(len(blocks)):
        part = blocks[below:](lower_features(blocks[:below], images))
        torch.testing.assert_close(part, whole)


def test_arms_change_the_norms_that_they_name() -> None:
    plan = PLANS["random"]
    widths = {arm: Modern(config(arm), 9, 4).trunk.layout for arm in ("modern", "last")}
    assert [site.width for site in widths["modern"]] == [16, 32]
    assert [site.width for site in widths["last"]] == [32]
    assert first_block(config("modern")) == plan.below
    assert first_block(config("frozen")) == len(blocks_of("random"))
    assert not hasattr(Modern(config("frozen"), 9, 4), "trunk")


def test_baselines_read_one_of_both() -> None:
    source = QuestionSource(config("frozen"), "train", 0)
    batch, other = source.batch(0), source.batch(1)
    no_image = replace(batch, inputs=other.inputs)
    no_question = replace(batch, question=other.question, given=other.given)
    for arm, same, changed in (
        ("question", no_image, no_question),
        ("image", no_question, no_image),
    ):
        seed_everything(0)
        network = SYSTEM.build(config(arm)).eval()
        assert torch.equal(network(batch), network(same))
        assert not torch.equal(network(batch), network(changed))


def test_the_control_changes_what_norms_read_and_nothing_else() -> None:
    own = SYSTEM.data(config("modern"), 0).batch(3)
    other = SYSTEM.data(config("shuffled"), 0).batch(3)
    assert torch.equal(own.question.words, other.question.words)
    assert torch.equal(other.given.words, own.question.words.roll(1, 0))
    assert torch.equal(other.given.lengths, own.question.lengths.roll(1, 0))
    assert torch.equal(own.inputs, other.inputs)
    assert torch.equal(own.answers, other.answers)


def test_the_frozen_blocks_do_not_change_in_training() -> None:
    stepper = trained("modern")
    network = cast(Any, stepper.network)
    assert changed_values(network, TINY) == 0
    published = blocks_of("random")[1:].state_dict()
    for key, value in network.trunk.backbone.state_dict().items():
        assert torch.equal(value, published[key])
    moved = [each for each in network.trunk.generator.parameters() if each.abs().max() > 0]
    assert moved
    network.trunk.backbone[0][1].running_mean[2] += 1e-6
    network.trunk.backbone[1][0].weight.data[0, 0, 0, :2] *= 1.0001
    assert changed_values(network, TINY) == 3


@pytest.mark.parametrize("arm", ["modern", "shuffled"])
def test_accuracies_are_counted_question_by_question(arm: str) -> None:
    stepper, chosen = trained(arm, 30), config(arm)
    generator = cast(Any, stepper.network).trunk.generator
    nn.init.normal_(generator.head.weight, std=3.0)  # answers depend on what norms read
    questions = question_set(chosen, "test")
    right = []
    source = QuestionSource(chosen, "test", 0)
    count = len(questions.questions)
    with stepper.evaluating() as network, torch.no_grad():
        for row in range(count):
            batch = source.rows(torch.tensor([row]))
            if arm == "shuffled":
                other = (row + count // 2) % count
                assert questions.image_index[other] != questions.image_index[row]
                batch = replace(batch, given=source.rows(torch.tensor([other])).question)
            answer = questions.answers[int(network(batch).argmax())]
            right.append(answer == questions.questions[row].answer)
        assert correct(network, chosen).tolist() == right
    closed = is_yes_or_no(questions.answers, questions.labels).tolist()
    found = evaluate(stepper, chosen)
    assert found.accuracy is not None
    assert found.accuracy.correct == sum(right)
    for metric, kind in ((CLOSED, True), (OPEN, False)):
        share = [r for r, c in zip(right, closed, strict=True) if c == kind]
        assert found.number(metric) == pytest.approx(sum(share) / len(share))
    assert found.number(CHANGED) == 0


def test_sizes_are_root_mean_squares_by_norm() -> None:
    network = cast(Any, trained("modern").network)
    found = sizes(network, TINY)
    given = QuestionSource(TINY, "test", 0).rows(torch.arange(48)).given
    raw = network.trunk.generator(network.encode(given)).detach()
    first = raw[:, :16]
    assert found["gamma"][0].item() == pytest.approx(first.square().mean().sqrt().item())
    assert found["beta"][0].item() == pytest.approx(raw[:, 16:32].square().mean().sqrt().item())
    assert len(found["beta"]) == 2


def test_the_pretrained_blocks_are_cut_at_the_four_stages() -> None:
    try:
        blocks = blocks_of("mobilenet_v2")
    except WeightsError as error:
        pytest.skip(str(error))
    images = torch.randint(256, (1, 3, 64, 64), dtype=torch.uint8)
    sides = [lower_features(blocks[: k + 1], images).shape[-1] for k in range(len(blocks))]
    assert sides == [32, 32, 16, 16, 8, 8, 8, *[4] * 7, *[2] * 5]
    plan = PLANS["mobilenet_v2"]
    assert (plan.below, plan.last) == (sides.index(16), sides.index(2))
    network = Modern(replace(TINY, backbone="mobilenet_v2"), 9, 13)
    assert len(network.trunk.layout) == 49
    assert list(network.trunk.layout)[-1].width == plan.width
    assert not any(each.requires_grad for each in network.trunk.backbone.parameters())


def test_a_run_belongs_to_its_words_and_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both number rows of weights; the order of the questions does not matter."""
    assert SYSTEM.data_digests is data_digests
    before, train = data_digests(TINY), question_set(TINY, "train")
    first = train.questions[0]
    for questions, answers, same in (
        (train.questions[::-1], train.answers, True),
        ((replace(first, text="Is there a yak?"), *train.questions[1:]), train.answers, False),
        (train.questions, train.answers[::-1], False),
    ):
        other = replace(train, questions=questions, answers=answers)
        monkeypatch.setattr(sources, "question_set", lambda config, split, other=other: other)
        assert (data_digests(TINY) == before) is same
