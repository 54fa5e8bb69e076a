"""Gated convolutions against equation 1, word by word; arms; measures."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from featurewise.systems.language.gated_conv import SYSTEM, experiment
from featurewise.systems.language.gated_conv.experiment import (
    CONTEXT,
    LONGEST,
    by_position,
    gradient_kept,
    perplexity_of,
    reading_other,
    words_of,
)
from featurewise.systems.language.gated_conv.method import Batch, LanguageModel
from featurewise.training.randomness import seed_everything
from featurewise.worlds.text import TextSource

TINY = SYSTEM.preset("tiny")
CONVOLUTIONS = [arm.name for arm in SYSTEM.arms if arm.name != "lstm"]


def built(arm: str) -> LanguageModel:
    """An arm in float64 whose biases are not zero."""
    seed_everything(0)
    network = cast(LanguageModel, SYSTEM.build(SYSTEM.config("tiny", arm)))
    for parameter in network.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, std=0.5)
    return network.double().eval()


def batch(count: int = 4, window: int = 10) -> Batch:
    found = TextSource(words_of(TINY).test, 1, count, window).batch(0)
    return Batch(found.tokens, found.tokens.roll(1, 0), found.targets)


UNITS: dict[str, Any] = {
    "gated_conv": lambda a, b: a / (1 + math.exp(-b)),
    "shuffled": lambda a, b: a / (1 + math.exp(-b)),
    "gtu": lambda a, b: math.tanh(a) / (1 + math.exp(-b)),
    "bilinear": lambda a, b: a * b,
    "relu": lambda a, b: max(a, 0.0),
    "tanh": lambda a, b: math.tanh(a),
    "linear": lambda a, b: a,
}


def weight(convolution: Any) -> Tensor:
    """Weight norm: each output channel has the direction of v and the length g."""
    found = convolution.parametrizations.weight
    g, v = found.original0, found.original1
    rows = [
        scale.flatten() * row / row.square().sum().sqrt() for scale, row in zip(g, v, strict=True)
    ]
    return torch.stack(rows)


def convolved(convolution: Any, x: list[Tensor], t: int) -> Tensor:
    """The convolution at position t of the vectors so far; those before the first are zero."""
    kernel, result = weight(convolution), convolution.bias.clone()
    size = kernel.shape[2]
    for k in range(size):
        if (place := t - size + 1 + k) >= 0:
            result = result + kernel[:, :, k] @ x[place]
    return result


def paper(network: LanguageModel, arm: str, tokens: Tensor, read: Tensor) -> Tensor:
    """Logits after each word of one window: equation 1, and the sum with the layer's input."""
    trunk: Any = network.trunk

    def entered(numbers: Tensor) -> list[Tensor]:
        kernel = trunk.enter.weight[:, :, 0]
        return [kernel @ network.embed.weight[n] + trunk.enter.bias for n in numbers]

    x, other = entered(tokens), entered(read)
    for unit in trunk.units:
        layers = []
        for stream in (x, other):
            layer = []
            for t, before in enumerate(stream):
                a = convolved(unit.values, stream, t)
                b = convolved(unit.gates, other, t) if hasattr(unit, "gates") else a
                h = [UNITS[arm](p, q) for p, q in zip(a.tolist(), b.tolist(), strict=True)]
                layer.append(before + torch.tensor(h, dtype=torch.float64))
            layers.append(layer)
        x, other = layers
    vectors = [trunk.leave.weight[:, :, 0] @ each + trunk.leave.bias for each in x]
    return torch.stack([network.embed.weight @ each + network.bias for each in vectors])


@torch.no_grad()
@pytest.mark.parametrize("arm", CONVOLUTIONS)
def test_the_network_is_the_equation_word_by_word(arm: str) -> None:
    network, given = built(arm), batch(2)
    logits = network(given)
    for i in range(2):
        read = given.gating[i] if arm == "shuffled" else given.tokens[i]
        torch.testing.assert_close(logits[i], paper(network, arm, given.tokens[i], read))


@torch.no_grad()
@pytest.mark.parametrize("arm", [arm.name for arm in SYSTEM.arms])
def test_no_prediction_sees_a_later_word(arm: str) -> None:
    network, given = built(arm), batch()
    before = network(given)
    changed = [given.tokens.clone(), given.gating.clone()]
    for each in changed:
        each[:, 6:] = (each[:, 6:] + 1) % 5
    after = network(Batch(*changed, given.targets))
    torch.testing.assert_close(before[:, :6], after[:, :6])
    assert not torch.allclose(before[:, 6], after[:, 6])


def test_arms_have_about_as_many_weights() -> None:
    """At small, with the vocabulary that it has."""
    counts = {
        arm.name: sum(
            p.numel() for p in LanguageModel(SYSTEM.config("small", arm.name), 2000).parameters()
        )
        for arm in SYSTEM.arms
    }
    assert counts["gated_conv"] == counts["gtu"] == counts["bilinear"] == counts["shuffled"]
    assert counts["relu"] == counts["tanh"] == counts["linear"]
    for count in counts.values():
        assert abs(count / counts["gated_conv"] - 1) < 0.01


def test_only_the_control_reads_other_windows() -> None:
    source = TextSource(words_of(TINY).train, 3, TINY.batch_size, TINY.window)
    plain = source.batch(2)
    for arm in SYSTEM.arms:
        found = SYSTEM.data(SYSTEM.config("tiny", arm.name), 3).batch(2)
        assert torch.equal(found.tokens, plain.tokens)
        assert torch.equal(found.targets, plain.targets)
        expected = plain.tokens.roll(1, 0) if arm.is_control else plain.tokens
        assert torch.equal(found.gating, expected)
    given = batch()
    changed = replace(given, gating=given.gating.roll(1, 0))
    for arm in SYSTEM.arms:
        network = built(arm.name)
        assert torch.equal(network(given), network(changed)) is not arm.is_control


@torch.no_grad()
def test_what_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Perplexity of each test word after all words of its window, against a direct one."""
    monkeypatch.setattr(experiment, "_EVALUATED", 3)
    config, network = SYSTEM.config("tiny", "gated_conv"), built("gated_conv")
    measured = SYSTEM.evaluate(SYSTEM.stepper(network, config), config)
    test = words_of(config).test
    starts = [*range(0, len(test) - LONGEST - 1, LONGEST - CONTEXT), len(test) - LONGEST - 1]

    def direct(*, other: bool) -> float:
        read = reading_other(network, config).double() if other else network
        costs: dict[int, float] = {}
        for start, before in zip(starts, [starts[-1], *starts], strict=False):
            rows = [test[each : each + LONGEST][None] for each in (start, before)]
            targets = test[start + 1 : start + LONGEST + 1]
            log = read(Batch(rows[0], rows[1], targets[None]))[0].log_softmax(1)
            for t, target in enumerate(targets.tolist()):
                if start + t + 1 not in costs:
                    costs[start + t + 1] = -log[t, target].item()
        assert sorted(costs) == list(range(1, len(test)))
        return math.exp(sum(costs.values()) / len(costs))

    assert measured.values["perplexity"] == pytest.approx(direct(other=False))
    assert measured.values["perplexity, other gates"] == pytest.approx(direct(other=True))
    assert measured.values["perplexity, other gates"] != measured.values["perplexity"]


def test_the_gradient_kept_is_that_of_the_equation() -> None:
    """Of one linear layer all, of ReLU that at positive features, of GLU the share σ."""
    given = batch()
    assert gradient_kept(built("linear"), given) == pytest.approx([1.0, 1.0])
    for arm in ("relu", "gated_conv", "gtu", "bilinear"):
        network: Any = built(arm)
        caught: dict[str, Tensor] = {}
        unit = network.trunk.units[-1]

        def keep(name: str, caught: dict[str, Tensor] = caught) -> Any:
            return lambda module, inputs, output: caught.update({name: output})

        hooks = [
            unit.values.register_forward_hook(keep("a")),
            unit.register_forward_hook(keep("h")),
        ]
        if hasattr(unit, "gates"):
            hooks.append(unit.gates.register_forward_hook(keep("b")))
        loss = nn.functional.cross_entropy(network(given).flatten(0, 1), given.targets.flatten())
        (at_h,) = torch.autograd.grad(loss, caught["h"])
        for hook in hooks:
            hook.remove()
        a, b = caught["a"], caught.get("b", torch.zeros(()))
        factor = {
            "relu": (a > 0).double(),
            "gated_conv": b.sigmoid(),
            "gtu": (1 - a.tanh() ** 2) * b.sigmoid(),
            "bilinear": b,
        }[arm]
        expected = ((at_h * factor).norm() / at_h.norm()).item()
        assert gradient_kept(network, given)[-1] == pytest.approx(expected)
        assert all(each.grad is None for each in network.parameters())


@torch.no_grad()
def test_the_cost_by_position_has_the_mean_of_all_windows() -> None:
    config, network = SYSTEM.config("tiny", "relu"), built("relu")
    text = experiment.held_out_text(config, other=False)
    log = network(text.batch).log_softmax(2)
    costs = -log.gather(2, text.batch.targets[:, :, None])[:, :, 0]
    assert by_position(network, text) == pytest.approx(costs.mean(0).tolist())
    assert perplexity_of(network, text) == pytest.approx(
        costs[text.counted].mean().exp().item(), rel=1e-5
    )


@pytest.mark.parametrize("arm", ["gated_conv", "lstm"])
def test_every_arm_has_a_figure(arm: str) -> None:
    config = SYSTEM.config("tiny", arm)
    assert SYSTEM.draw is not None
    assert SYSTEM.draw(SYSTEM.stepper(built(arm).float(), config), config).width >= 600
