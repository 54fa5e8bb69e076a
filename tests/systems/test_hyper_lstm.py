"""HyperLSTM and its baselines against their equations, unit by unit; measures of changes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from featurewise.systems.language.hyper_lstm import SYSTEM, experiment
from featurewise.systems.language.hyper_lstm.baselines import NormStep
from featurewise.systems.language.hyper_lstm.experiment import (
    CONTEXT,
    LONGEST,
    changes,
    characters_of,
    held_out,
    reading_other,
    relative,
)
from featurewise.systems.language.hyper_lstm.method import Batch, CharacterModel
from featurewise.training.randomness import seed_everything
from featurewise.worlds.text import TextSource

TINY = SYSTEM.preset("tiny")


def built(arm: str) -> CharacterModel:
    """An arm in float64 with random weights everywhere."""
    seed_everything(0)
    network = cast(CharacterModel, SYSTEM.build(SYSTEM.config("tiny", arm)))
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.4)
    return network.double().eval()


def batch(count: int = 4, window: int = 9) -> Batch:
    found = TextSource(characters_of(TINY).test, 1, count, window).batch(0)
    return Batch(found.tokens, found.tokens.roll(1, 0), found.targets)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def product(matrix: Tensor, vector: list[float]) -> list[float]:
    return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix.tolist()]


def lstm(y: list[float], c: list[float]) -> tuple[list[float], list[float]]:
    """One step, unit by unit: gates i, f, o and input g, one after another."""
    n, h, after = len(c), [], []
    for k in range(n):
        i, f, o, g = (y[k + n * gate] for gate in range(4))
        after.append(sigmoid(f) * c[k] + sigmoid(i) * math.tanh(g))
        h.append(sigmoid(o) * math.tanh(after[k]))
    return h, after


def normed(x: list[float]) -> list[float]:
    mean = sum(x) / len(x)
    variance = sum((each - mean) ** 2 for each in x) / len(x)
    return [(each - mean) / math.sqrt(variance + 1e-5) for each in x]


def normalized(norms: Any, y: list[float], c: list[float]) -> tuple[list[float], list[float]]:
    """h and c of an LSTM with layer norm of each gate's sum, and of the cell."""
    n = norms.width
    y = [
        value * norms.scale[gate, k].item() + norms.shift[gate, k].item()
        for gate in range(4)
        for k, value in enumerate(normed(y[gate * n : (gate + 1) * n]))
    ]
    _, c = lstm(y, c)
    weight, added = norms.norm.weight.tolist(), norms.norm.bias.tolist()
    h = [
        sigmoid(y[k + 2 * n]) * math.tanh(each * weight[k] + added[k])
        for k, each in enumerate(normed(c))
    ]
    return h, c


def scales(part: Any, state: list[float]) -> list[float]:
    """d = W_z z, z = W h^ + b, gate by gate."""
    signals = product(part.signals.weight, state)
    signals = [s + b for s, b in zip(signals, part.signals.bias.tolist(), strict=True)]
    count = part.scales.shape[1]
    return [
        sum(signals[gate * count + s] * part.scales[gate, s, k].item() for s in range(count))
        for gate in range(4)
        for k in range(part.scales.shape[2])
    ]


def hyper_logits(network: CharacterModel, tokens: Tensor, read: Tensor) -> Tensor:
    """Logits after each character of one window."""
    cell: Any = network.network
    h, c = [0.0] * cell.width, [0.0] * cell.width
    h_hat, c_hat = [0.0] * cell.hyper_width, [0.0] * cell.hyper_width
    found = []
    for here, other in zip(tokens.tolist(), read.tolist(), strict=True):
        x, x_hat = network.embed.weight[here].tolist(), network.embed.weight[other].tolist()
        y_hat = [
            a + b + bias
            for a, b, bias in zip(
                product(cell.hyper_hidden.weight, h + h_hat),
                product(cell.hyper_inputs.weight, x_hat),
                cell.hyper_hidden.bias.tolist(),
                strict=True,
            )
        ]
        if isinstance(cell.step, NormStep):
            h_hat, c_hat = normalized(cell.hyper_step, y_hat, c_hat)
        else:
            h_hat, c_hat = lstm(y_hat, c_hat)
        d_h, d_x, added = (
            scales(part, h_hat) for part in (cell.hidden_scale, cell.input_scale, cell.added)
        )
        w_h, w_x = product(cell.hidden.weight, h), product(cell.inputs.weight, x)
        y = [
            d_h[k] * w_h[k] + d_x[k] * w_x[k] + added[k] + cell.bias[k].item()
            for k in range(len(w_h))
        ]
        h, c = normalized(cell.step, y, c) if isinstance(cell.step, NormStep) else lstm(y, c)
        found.append(product(network.leave.weight, h))
    return torch.tensor(found, dtype=torch.float64) + network.leave.bias


@torch.no_grad()
@pytest.mark.parametrize("arm", ["hyper_lstm", "unnormalized", "shuffled"])
def test_the_network_is_the_equations_unit_by_unit(arm: str) -> None:
    network, given = built(arm), batch(2, 6)
    logits = network(given)
    for i in range(2):
        read = given.read[i] if arm == "shuffled" else given.tokens[i]
        torch.testing.assert_close(logits[i], hyper_logits(network, given.tokens[i], read))


def baseline_states(network: CharacterModel, arm: str, tokens: Tensor) -> Tensor:
    """h after each character of one window, of a baseline."""
    cell: Any = network.network
    n = cell.width
    h, c = [0.0] * n, [0.0] * n
    found = []
    for here in tokens.tolist():
        x = network.embed.weight[here].tolist()
        w_x = product(cell.inputs.weight, x)
        if arm == "multiplicative":
            scale = product(cell.scales.weight, x)
            factors = product(cell.factors.weight, h)
            h = [
                (s + b) * f
                for s, b, f in zip(scale, cell.scales.bias.tolist(), factors, strict=True)
            ]
        y = [a + b for a, b in zip(product(cell.hidden.weight, h), w_x, strict=True)]
        if arm == "norm":
            h, c = normalized(cell.normalize, y, c)
        else:
            y = [a + b for a, b in zip(y, cell.hidden.bias.tolist(), strict=True)]
            if arm == "lstm":
                h, c = lstm(y, c)
            else:
                h = [math.tanh(each) for each in y]
        found.append(h)
    return torch.tensor(found, dtype=torch.float64)


@torch.no_grad()
@pytest.mark.parametrize("arm", ["lstm", "norm", "multiplicative", "rnn"])
def test_baselines_are_their_equations(arm: str) -> None:
    network, given = built(arm), batch(2, 6)
    states = torch.stack([each[0] for each in network.states(given)], 1)
    logits = network(given)
    for i in range(2):
        h = baseline_states(network, arm, given.tokens[i])
        torch.testing.assert_close(states[i], h)
        expected = h @ network.leave.weight.T + network.leave.bias
        torch.testing.assert_close(logits[i], expected)


def shifts(cell: Any, arm: str) -> Tensor:
    """Of the gates, after their layer norm."""
    return (cell.step if arm == "hyper_lstm" else cell.normalize).shift.flatten()


@torch.no_grad()
def test_scales_start_at_their_value_and_the_forget_gate_at_one() -> None:
    seed_everything(0)
    config = replace(TINY, start=0.25)
    network = SYSTEM.build(config)
    for _, _, d_h, d_x in network.states(batch()):
        torch.testing.assert_close(d_h, torch.full_like(d_h, 0.25))
        torch.testing.assert_close(d_x, torch.full_like(d_x, 0.25))
    for arm in ("hyper_lstm", "lstm", "norm"):
        cell: Any = SYSTEM.build(SYSTEM.config("tiny", arm)).network
        bias = cell.hidden.bias if arm == "lstm" else shifts(cell, arm)
        assert [each.unique().tolist() for each in bias.chunk(4)] == [[0], [1], [0], [0]]
        for gate in cell.hidden.weight.chunk(4):
            torch.testing.assert_close(gate @ gate.T, torch.eye(len(gate)), atol=1e-5, rtol=0)
    plain = SYSTEM.build(SYSTEM.config("tiny", "unnormalized")).network
    hyper = SYSTEM.build(TINY).network.hyper_step.shift.flatten()
    for bias in (hyper, plain.bias, plain.hyper_hidden.bias):
        assert [each.unique().tolist() for each in bias.chunk(4)] == [[0], [1], [0], [0]]


def test_arms_have_about_as_many_weights() -> None:
    """At small, with the characters that it has."""
    counts = {
        arm.name: sum(
            p.numel() for p in CharacterModel(SYSTEM.config("small", arm.name), 81).parameters()
        )
        for arm in SYSTEM.arms
    }
    for count in counts.values():
        assert abs(count / counts["hyper_lstm"] - 1) < 0.02


def test_only_the_control_reads_other_windows() -> None:
    source = TextSource(characters_of(TINY).train, 3, TINY.batch_size, TINY.window)
    plain, given = source.batch(2), batch()
    changed = replace(given, read=given.read.roll(1, 0))
    for arm in SYSTEM.arms:
        found = SYSTEM.data(SYSTEM.config("tiny", arm.name), 3).batch(2)
        assert torch.equal(found.tokens, plain.tokens)
        assert torch.equal(found.targets, plain.targets)
        expected = plain.tokens.roll(1, 0) if arm.is_control else plain.tokens
        assert torch.equal(found.read, expected)
        network = built(arm.name)
        assert torch.equal(network(given), network(changed)) is not arm.is_control


@torch.no_grad()
def test_what_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bits of each test character, and changes of the scales, against direct ones."""
    monkeypatch.setattr(experiment, "_EVALUATED", 7)
    config, network = SYSTEM.config("tiny", "hyper_lstm"), built("hyper_lstm")
    measured = SYSTEM.evaluate(SYSTEM.stepper(network, config), config).values
    test = characters_of(config).test
    last = len(test) - LONGEST - 1
    starts = [*range(0, last, LONGEST - CONTEXT), last]

    def direct(*, other: bool) -> float:
        read = reading_other(network, config).double() if other else network
        bits: dict[int, float] = {}
        for start, before in zip(starts, [starts[-1], *starts], strict=False):
            rows = [test[each : each + LONGEST][None] for each in (start, before)]
            targets = test[start + 1 : start + LONGEST + 1]
            log = read(Batch(rows[0], rows[1], targets[None]))[0].log_softmax(1)
            for t, target in enumerate(targets.tolist()):
                bits.setdefault(start + t + 1, -log[t, target].item() / math.log(2))
        assert sorted(bits) == list(range(1, len(test)))
        return sum(bits.values()) / len(bits)

    assert measured["bits per character"] == pytest.approx(direct(other=False))
    assert measured["bits, other scales"] == pytest.approx(direct(other=True), rel=1e-5)
    text = characters_of(config).vocabulary.decode(test.tolist())
    found: dict[str, list[tuple[float, float]]] = {"space": [], "first": [], "all": []}
    for start in starts[:7]:
        row = test[start : start + LONGEST][None]
        states = network.states(Batch(row, row, row))
        for t in range(CONTEXT, LONGEST):
            d = [torch.cat(states[k][2:], 1) for k in (t - 1, t)]
            change = (
                (d[1] - d[0]).norm().item(),
                (states[t][0] - states[t - 1][0]).norm().item(),
            )
            found["all"].append(change)
            if text[start + t] in " \n":
                found["space"].append(change)
            elif text[start + t - 1] in " \n":
                found["first"].append(change)

    def mean(name: str, which: int) -> float:
        return sum(each[which] for each in found[name]) / len(found[name])

    expected = {
        "change at spaces": mean("space", 0) / mean("all", 0),
        "change at first letters": mean("first", 0) / mean("all", 0),
        "state change at spaces": mean("space", 1) / mean("all", 1),
    }
    assert {name: measured[name] for name in expected} == pytest.approx(expected, rel=1e-4)


def test_a_change_that_is_the_same_everywhere_has_a_ratio_of_one() -> None:
    at = torch.tensor([[True, False, False, True]])
    assert relative(torch.full((1, 4), 3.0), at) == pytest.approx(1)
    assert relative(torch.tensor([[4.0, 1.0, 1.0, 2.0]]), at) == pytest.approx(1.5)


@torch.no_grad()
def test_changes_are_those_at_the_characters_below_the_figure() -> None:
    config, network = TINY, built("hyper_lstm")
    given, _ = held_out(config, other=False)
    one = Batch(given.tokens[:1], given.read[:1], given.targets[:1])
    found = changes(network, config, one)
    text = characters_of(config).vocabulary.decode(one.tokens[0, CONTEXT:].tolist())
    assert found.scales.shape == found.spaces.shape == (1, LONGEST - CONTEXT)
    assert [each in " \n" for each in text] == found.spaces[0].tolist()


@pytest.mark.parametrize("arm", ["hyper_lstm", "rnn"])
def test_every_arm_has_a_figure(arm: str) -> None:
    config = SYSTEM.config("tiny", arm)
    assert SYSTEM.draw is not None
    assert SYSTEM.draw(SYSTEM.stepper(built(arm).float(), config), config).width >= 900
