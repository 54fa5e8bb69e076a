"""The gated-attention reader against its equations, token by token; arms; measures."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from featurewise.study.metric import Metric
from featurewise.study.results import Proportion
from featurewise.systems.language.gated_attention import SYSTEM, experiment
from featurewise.systems.language.gated_attention.experiment import (
    around,
    measured,
    with_other_queries,
)
from featurewise.systems.language.gated_attention.method import (
    BiGRU,
    Config,
    Reader,
    gated,
    objective,
)
from featurewise.training.randomness import seed_everything
from featurewise.worlds.text import (
    ABSENT,
    STORY_VOCABULARY,
    ClozeBatch,
    HeldOutQuestions,
    cloze_source,
    held_out_questions,
)

TINY = cast(Config, SYSTEM.preset("tiny"))
ARMS = [arm.name for arm in SYSTEM.arms]


def small(arm: str) -> Config:
    """Few units, and three hops where the arm has several."""
    config = cast(Config, SYSTEM.config("tiny", arm))
    hops = 1 if config.hops == 1 else 3
    return replace(config, hops=hops, width=4, one_hop_width=6, embedding=5)


def built(arm: str) -> Reader:
    """An arm in float64 with random weights everywhere."""
    seed_everything(0)
    network = cast(Reader, SYSTEM.build(small(arm)))
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.5)
    return network.double().eval()


def batch(count: int = 4) -> ClozeBatch:
    """Questions with short and long queries in turn, and documents that end before others do."""
    found = held_out_questions("stories", "validation").questions
    kinds = [(found.query_lengths == length).nonzero()[:count, 0] for length in (6, 7)]
    found = found.select(torch.stack(kinds, 1).flatten()[:count])
    return replace(found, document_lengths=50 - 5 * (torch.arange(count) % 3))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def product(matrix: Tensor, vector: list[float], bias: Tensor) -> list[float]:
    return [
        sum(a * b for a, b in zip(row, vector, strict=True)) + added
        for row, added in zip(matrix.tolist(), bias.tolist(), strict=True)
    ]


def gru(part: nn.GRU, x: list[list[float]]) -> list[list[float]]:
    """States after each input: r, z, n = gates; h' = (1 - z) n + z h."""
    weight_i, weight_h, bias_i, bias_h = part.all_weights[0]
    h, found = [0.0] * part.hidden_size, []
    for each in x:
        given, back = product(weight_i, each, bias_i), product(weight_h, h, bias_h)
        after, width = [], len(h)
        for k in range(width):
            r = sigmoid(given[k] + back[k])
            z = sigmoid(given[width + k] + back[width + k])
            n = math.tanh(given[2 * width + k] + r * back[2 * width + k])
            after.append((1 - z) * n + z * h[k])
        h = after
        found.append(h)
    return found


def both_ways(part: BiGRU, x: list[list[float]]) -> list[list[float]]:
    ahead, behind = gru(part.forwards, x), gru(part.backwards, x[::-1])[::-1]
    return [a + b for a, b in zip(ahead, behind, strict=True)]


def softmax(x: list[float]) -> list[float]:
    total = sum(math.exp(each) for each in x)
    return [math.exp(each) / total for each in x]


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


COMBINED: dict[str, Any] = {
    "mul": lambda d, q: [a * b for a, b in zip(d, q, strict=True)],
    "sum": lambda d, q: [a + b for a, b in zip(d, q, strict=True)],
    "concat": lambda d, q: d + q,
}


def answers(network: Reader, gating: str, given: ClozeBatch, i: int) -> list[float]:
    """Probabilities of the candidates of question i, which is read alone."""
    document = given.document[i, : int(given.document_lengths[i])]
    query = given.query[i, : int(given.query_lengths[i])]
    x, y = (network.embed.weight[each].tolist() for each in (document, query))
    for hop in range(len(network.documents) - 1):
        x = both_ways(cast(BiGRU, network.documents[hop]), x)
        if gating == "none":
            continue
        q = both_ways(cast(BiGRU, network.queries[hop]), y)
        for t, d in enumerate(x):
            alpha = softmax([dot(d, each) for each in q])
            own = [dot(alpha, list(column)) for column in zip(*q, strict=True)]
            x[t] = COMBINED[gating](d, own)
    d = both_ways(cast(BiGRU, network.documents[-1]), x)
    blank = both_ways(cast(BiGRU, network.queries[-1]), y)[int(given.blank[i])]
    s = softmax([dot(each, blank) for each in d])
    sums = [
        sum(weight for weight, token in zip(s, document.tolist(), strict=True) if token == c)
        for c in given.candidates[i].tolist()
    ]
    return [each / sum(sums) for each in sums]


@torch.no_grad()
@pytest.mark.parametrize("arm", ARMS)
def test_the_network_is_the_equations_token_by_token(arm: str) -> None:
    network, given, config = built(arm), batch(), cast(Config, SYSTEM.config("tiny", arm))
    found = network(given)
    for i in range(len(given)):
        expected = torch.tensor(answers(network, config.gating, given, i), dtype=torch.float64)
        torch.testing.assert_close(found[i].double(), expected, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_a_candidate_that_is_mentioned_twice_gets_the_sum() -> None:
    network, given = built("gated_attention"), batch(1)
    s, _ = network.read(given)
    document = given.document[0].tolist()
    where = [t for t in range(4, 50) if document[t] == document[4]]
    assert len(where) > 1, "full stops"
    candidates = torch.tensor([[document[4], document[0], ABSENT]])
    found = network(replace(given, candidates=candidates))[0]
    first = sum(s[0, t].item() for t in where)
    other = sum(s[0, t].item() for t in range(50) if document[t] == document[0])
    assert found.tolist() == pytest.approx([first / (first + other), other / (first + other), 0])


@torch.no_grad()
def test_attention_of_a_token_is_over_the_words_of_its_query() -> None:
    network, given = built("gated_attention"), batch()
    s, attended = network.read(given)
    assert len(attended) == 2, "three hops"
    assert s.sum(1).tolist() == pytest.approx([1.0] * 4)
    for i in range(4):
        assert s[i, int(given.document_lengths[i]) :].eq(0).all()
        for alpha in attended:
            assert alpha[i].sum(1).tolist() == pytest.approx([1.0] * 50)
            assert alpha[i, :, int(given.query_lengths[i]) :].eq(0).all()
    assert not built("one_hop").read(given)[1] and not built("ungated").read(given)[1]


def test_gates_are_not_bounded() -> None:
    d, q = torch.tensor([[[2.0, -3.0]]]), torch.tensor([[[5.0, 4.0]]])
    assert gated(d, q, "mul").tolist() == [[[10.0, -12.0]]]
    assert gated(d, q, "sum").tolist() == [[[7.0, 1.0]]]
    assert gated(d, q, "concat").tolist() == [[[2.0, -3.0, 5.0, 4.0]]]
    assert gated(d, q, "none") is d


def test_arms_have_the_weights_that_the_record_says() -> None:
    counts = {}
    for name in ARMS:
        network = Reader(cast(Config, SYSTEM.config("small", name)), len(STORY_VOCABULARY))
        counts[name] = sum(each.numel() for each in network.parameters())
    for name in ("sum", "one_hop", "shuffled"):
        assert abs(counts[name] / counts["gated_attention"] - 1) < 0.02
    assert counts["concat"] > 1.2 * counts["gated_attention"] > 1.2 * counts["ungated"]


def test_only_the_control_reads_other_queries() -> None:
    plain = cloze_source("stories", 3, TINY.batch_size).batch(2)
    for arm in SYSTEM.arms:
        found = cast(Any, SYSTEM.data(SYSTEM.config("tiny", arm.name), 3).batch(2))
        expected = with_other_queries(plain) if arm.is_control else plain
        for name in ClozeBatch.__dataclass_fields__:
            assert torch.equal(getattr(found, name), getattr(expected, name)), name
    assert torch.equal(with_other_queries(plain).query[3], plain.query[2])
    assert torch.equal(with_other_queries(plain).document, plain.document)


def test_the_loss_is_the_cross_entropy_of_the_answers() -> None:
    network, given = built("gated_attention"), held_out_questions("stories", "test").questions
    given = given.select(slice(0, 8))
    loss, metrics = objective(network, given)
    found = network(given)
    chosen = [found[i, label].item() for i, label in enumerate(given.labels.tolist())]
    assert loss.item() == pytest.approx(-sum(map(math.log, chosen)) / 8)
    best = [max(range(found.shape[1]), key=lambda c, i=i: found[i, c].item()) for i in range(8)]
    right = sum(a == b for a, b in zip(best, given.labels.tolist(), strict=True)) / 8
    assert metrics["accuracy"].item() == pytest.approx(right)


class First(nn.Module):
    """Answers with the candidate whose number is that of the first token of the query, if any."""

    def forward(self, given: ClozeBatch) -> Tensor:
        return (given.candidates == given.query[:, :1]).float()


def plain(found: dict[Metric, Proportion | float]) -> dict[str, float]:
    """Each number by its name, from 0 to 1."""
    return {
        metric.name: each.value if isinstance(each, Proportion) else each
        for metric, each in found.items()
    }


def test_what_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four questions whose answers, by `First`, are right, wrong, right and right."""
    monkeypatch.setattr(experiment, "_EVALUATED", 3)
    given = ClozeBatch(
        document=torch.tensor([[5, 6, 5, 7], [6, 6, 7, 5], [7, 5, 5, 6], [5, 7, 6, 6]]),
        document_lengths=torch.tensor([4, 4, 4, 4]),
        query=torch.tensor([[5, 1], [6, 1], [6, 1], [7, 1]]),
        query_lengths=torch.tensor([2, 2, 2, 2]),
        blank=torch.tensor([1, 1, 1, 1]),
        candidates=torch.tensor([[5, 6, 7]] * 4),
        labels=torch.tensor([0, 2, 1, 2]),
    )
    test = HeldOutQuestions(given, torch.tensor([False, False, True, True]))
    numbers = plain(measured(First(), TINY, test))
    assert numbers == pytest.approx(
        {
            "accuracy": 3 / 4,
            "accuracy, one step": 1 / 2,
            "accuracy, two steps": 1.0,
            "accuracy, other query": 1 / 4,  # queries 7, 5, 6, 6 for answers 5, 7, 6, 7
            "last candidate": 1 / 4,  # 7, 5, 6, 6
            "most frequent candidate": 1 / 4,  # 5, 6, 5, 6
            "majority": 1 / 2,
        }
    )
    control = replace(TINY, shuffled=True)
    numbers = plain(measured(First(), control, test))
    assert numbers["accuracy"] == 1 / 4 and "accuracy, other query" not in numbers
    numbers = plain(measured(First(), TINY, HeldOutQuestions(given, None)))
    assert not {"accuracy, one step", "accuracy, two steps"} & set(numbers)


def test_a_window_is_around_its_place() -> None:
    for place, count, length, expected in [
        (0, 4, 10, (0, 4)),
        (5, 4, 10, (3, 7)),
        (9, 4, 10, (6, 10)),
        (2, 40, 10, (0, 10)),
    ]:
        found = around(place, count, length)
        assert (found.start, found.stop) == expected


@pytest.mark.parametrize("arm", ["gated_attention", "one_hop", "shuffled"])
def test_every_arm_has_a_figure(arm: str) -> None:
    config = small(arm)
    assert SYSTEM.draw is not None
    found = SYSTEM.draw(SYSTEM.stepper(built(arm).float(), config), config)
    assert found.width >= 1000 and found.height >= (200 if arm == "one_hop" else 500)
