"""Dynamic layer norm against its equations step by step; arms; probes against plain code."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from featurewise.study.results import Proportion
from featurewise.systems.sound.dynamic_layer_norm import SYSTEM, experiment
from featurewise.systems.sound.dynamic_layer_norm.experiment import (
    evaluated,
    nearest,
    probe,
    summaries,
)
from featurewise.systems.sound.dynamic_layer_norm.method import AcousticModel, Batch
from featurewise.training.randomness import seed_everything
from featurewise.training.steppers import Supervised
from featurewise.worlds.sound import SpeechSource, made_speech

TINY = SYSTEM.preset("tiny")
ARMS = [arm.name for arm in SYSTEM.arms]


def built(arm: str, preset: str = "tiny") -> AcousticModel:
    seed_everything(0)
    return cast(AcousticModel, SYSTEM.build(SYSTEM.config(preset, arm)))


def perturbed(arm: str) -> AcousticModel:
    """Weights that are not those of the start, so that each of them matters."""
    network = built(arm).double()
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in network.parameters():
            value.add_(0.2 * torch.randn(value.shape, generator=rng, dtype=value.dtype))
    return network


def batch(count: int = 3) -> Batch:
    found = evaluated(TINY, "test")[0]
    rows = slice(0, count)
    return Batch(found.features[rows].double(), found.summarised[rows].double(), found.phones[rows])


def ln(x: Tensor) -> Tensor:
    mean = sum(x) / len(x)
    variance = sum((each - mean) ** 2 for each in x) / len(x)
    return (x - mean) / (variance + 1e-5) ** 0.5


def parameters(layer: Any, read: Tensor | None, norm: str) -> tuple[Tensor, Tensor, Tensor]:
    """γ_in, β and γ_hid, each (2, 4H): maps of a = mean_t tanh(W h_t + b), or learned."""
    if norm == "learned":
        flat = layer.generator.vector
    else:
        weight, bias = layer.summary.linear.weight, layer.summary.linear.bias
        a = sum(torch.tanh(weight @ h + bias) for h in read) / len(read)
        flat = layer.generator.head.weight @ a + layer.generator.head.bias
    gamma_in, beta, gamma_hid = flat.reshape(3, 2, -1)
    return 1 + gamma_in, beta, 1 + gamma_hid


def paper_layer(layer: Any, x: Tensor, read: Tensor, norm: str) -> Tensor:
    """Outputs of one utterance, direction by direction and step by step."""
    size, found = layer.hidden, []
    for direction in (0, 1):
        h, c, states = torch.zeros(size).double(), torch.zeros(size).double(), {}
        order = range(len(x)) if direction == 0 else reversed(range(len(x)))
        rows = slice(4 * size * direction, 4 * size * (direction + 1))
        for t in order:
            of_input = layer.from_input.weight[rows] @ x[t]
            of_state = h @ layer.from_state[direction]
            if norm == "none":
                gates = of_input + layer.from_input.bias[rows] + of_state
            else:
                gamma_in, beta, gamma_hid = parameters(layer, read, norm)
                gates = (
                    gamma_in[direction] * ln(of_input)
                    + gamma_hid[direction] * ln(of_state)
                    + beta[direction]
                )
            i, f, g, o = gates.split(size)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            shown = c
            if norm != "none":
                shown = ln(c) * layer.cell_scale[direction, 0] + layer.cell_shift[direction, 0]
            h = torch.sigmoid(o) * torch.tanh(shown)
            states[t] = h
        found.append(torch.stack([states[t] for t in range(len(x))]))
    return torch.cat(found, 1) @ layer.project.weight.T + layer.project.bias


@torch.no_grad()
@pytest.mark.parametrize("arm", ARMS)
def test_the_network_is_the_equations_utterance_by_utterance(arm: str) -> None:
    network, given, config = perturbed(arm), batch(), SYSTEM.config("tiny", arm)
    logits = network(given)
    for n in range(len(given.features)):
        x = given.features[n]
        read = given.summarised[n] if config.summarised == "other" else x
        for layer in network.layers:
            x, read = (paper_layer(layer, each, read, config.norm) for each in (x, read))
        expected = x @ network.classify.weight.T + network.classify.bias
        torch.testing.assert_close(logits[n], expected)


def test_norms_start_as_the_paper_says() -> None:
    """γ is 1, β the biases of an LSTM with 1 for the forget gate; weights within 0.01."""
    biases = torch.tensor([0.0] * 8 + [1.0] * 8 + [0.0] * 16).repeat(2)
    start = torch.cat((torch.zeros(64), biases, torch.zeros(64)))
    for layer in built("dynamic").layers:
        head = cast(Any, layer).generator.head
        assert torch.equal(head.bias.detach(), start)
        assert 0.009 < head.weight.abs().max() <= 0.01
    for layer in built("learned").layers:
        assert torch.equal(cast(Any, layer).generator.vector.detach(), start)
    for layer in built("none").layers:
        assert torch.equal(cast(Any, layer).from_input.bias.detach(), biases)


@pytest.mark.parametrize("preset", ["tiny", "small", "paper"])
def test_the_wide_network_has_about_as_many_parameters(preset: str) -> None:
    def count(arm: str) -> int:
        with torch.device("meta"):
            network = SYSTEM.build(SYSTEM.config(preset, arm))
        return sum(p.numel() for p in network.parameters())

    assert abs(count("wide") / count("dynamic") - 1) < (0.06 if preset == "tiny" else 0.01)
    assert count("none") < count("learned") < count("dynamic") == count("shuffled")


def test_only_the_control_reads_other_voices() -> None:
    for arm in SYSTEM.arms:
        config = SYSTEM.config("tiny", arm.name)
        found = SYSTEM.data(config, 3).batch(2)
        train = made_speech("train", 6)
        mean, std = train.features.mean(0), train.features.std(0)
        plain = SpeechSource(train.normalised(mean, std), 8, 16, 3).batch(2)
        pairs = torch.cat((plain.features[:, ::2], plain.features[:, 1::2]), 2)
        assert torch.equal(found.features, pairs)
        assert torch.equal(found.phones, plain.phones[:, ::2])
        expected = pairs.roll(1, 0) if arm.is_control else pairs
        assert torch.equal(found.summarised, expected)
        assert len(set(plain.speakers.tolist())) == 8


@torch.no_grad()
def test_the_summary_changes_the_outputs() -> None:
    given = batch()
    changed = replace(given, summarised=given.summarised.roll(1, 0))
    for arm in ARMS:
        network = perturbed(arm)
        assert torch.allclose(network(given), network(changed)) == (arm != "shuffled")


@torch.no_grad()
def test_summaries_are_of_the_inputs_of_each_layer() -> None:
    network, given = perturbed("dynamic"), batch()
    x, found = given.features, summaries(network, given)
    for layer, vectors in zip(network.layers, found, strict=True):
        linear = cast(Any, layer).summary.linear
        for n in range(3):
            expected = sum(torch.tanh(linear(h)) for h in x[n]) / x.shape[1]
            torch.testing.assert_close(vectors[n], expected)
        x = layer(x, x)


def test_test_utterances_have_another_voice_before_them() -> None:
    given, voices = evaluated(TINY, "test")
    assert voices.tolist() == list(range(6)) * 12
    assert torch.equal(given.summarised[1:], given.features[:-1])
    assert not (voices == voices.roll(1)).any()
    seen, heard = evaluated(TINY, "train")
    assert heard.tolist() == list(range(12)) * 4
    trained = {row.sum().item() for row in SYSTEM.data(TINY, 0).batch(0).features.flatten(0, 1)}
    assert not trained & {row.sum().item() for row in seen.features.flatten(0, 1)}


def test_the_probe_is_ridge_regression() -> None:
    """By gradient descent on the same loss; one voice is found by no linear map."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(3).repeat(20)
    centres = torch.tensor([[0.0, 4.0], [3.0, -2.0], [-3.0, -2.0]])
    vectors = centres[labels] + torch.randn(60, 2, generator=rng)
    found = probe(vectors, labels)
    fitted = vectors[:30].double()
    x = (fitted - fitted.mean(0)) / fitted.std(0)
    rows = torch.cat((x, torch.ones(30, 1)), 1)
    y = torch.nn.functional.one_hot(labels[:30]).double()
    weights = torch.zeros(3, 3, dtype=torch.float64)
    for _ in range(3000):
        weights -= 0.01 * (rows.T @ (rows @ weights - y) + weights)
    tested = (vectors[30:].double() - fitted.mean(0)) / fitted.std(0)
    predicted = (torch.cat((tested, torch.ones(30, 1)), 1) @ weights).argmax(1)
    assert torch.equal(found, predicted == labels[30:])
    assert 0.8 < found.double().mean() <= 1


def test_nearest_neighbours_are_others() -> None:
    vectors = torch.tensor([[0.0], [1.0], [5.0], [5.5], [7.0]])
    labels = torch.tensor([0, 0, 1, 2, 2])
    assert nearest(vectors, labels).tolist() == [True, True, False, False, True]


@torch.no_grad()
def test_what_is_measured() -> None:
    config, network = SYSTEM.config("tiny", "dynamic"), perturbed("dynamic").float().eval()
    measured = SYSTEM.evaluate(SYSTEM.stepper(network, config), config).by_type
    given, voices = evaluated(config, "test")
    errors = network(given).argmax(2) != given.phones
    assert measured["frame error"].correct == int(errors.sum())
    assert measured["frame error"].total == 72 * 8
    assert measured["frame error"] == Proportion.of(errors, voices[:, None].expand(72, 8))
    other = perturbed("shuffled").float().eval()
    other.load_state_dict(network.state_dict())
    worse = other(given).argmax(2) != given.phones
    assert measured["frame error, other summary"].correct == int(worse.sum())
    assert not torch.allclose(other(given), network(given))
    first, second = summaries(network, given)
    for name, vectors in (
        ("speaker, layer 1", first),
        ("speaker, layer 2", second),
        ("speaker, features", given.features.mean(1)),
    ):
        assert measured[name].correct == int(probe(vectors, voices).sum())
        assert measured[name].total == 36
    assert measured["nearest, layer 1"].correct == int(nearest(first, voices).sum())
    seen, _ = evaluated(config, "train")
    wrong = (network(seen).argmax(2) != seen.phones).sum()
    assert measured["frame error, seen voices"].correct == int(wrong)


@pytest.mark.parametrize("arm", ["dynamic", "none"])
def test_every_arm_has_a_figure(arm: str) -> None:
    config = SYSTEM.config("tiny", arm)
    assert SYSTEM.draw is not None
    assert SYSTEM.draw(SYSTEM.stepper(built(arm), config), config).size == (800, 320)


def test_steps_lower_the_loss_from_that_of_equal_logits() -> None:
    config = SYSTEM.config("tiny", "dynamic")
    stepper = cast(Supervised, SYSTEM.stepper(built("dynamic"), config))
    source = SYSTEM.data(config, 0)
    losses = [float(stepper.step(source.batch(0))["loss"]) for _ in range(12)]
    assert losses[0] == pytest.approx(math.log(46), rel=0.1)
    assert losses[-1] < losses[0] - 0.3
    assert experiment.TESTED == 12
