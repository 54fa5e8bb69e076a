"""``Recurrent``: sequences and their lengths, and invalid sequences."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import Tensor, nn

from featurewise.core import Affine, ArgumentTypeError, Layout, ShapeError, Site
from featurewise.generators import ConditionError, GeneratorError, Recurrent
from featurewise.generators.recurrent import RecurrentEncoder

KIND = (ArgumentTypeError, TypeCheckError)


def _alone(encoder: RecurrentEncoder, tokens: list[int]) -> Tensor:
    """Last state of one sequence by the layer of torch, without padding or packing."""
    kind = nn.GRU if isinstance(encoder.recurrent, nn.GRU) else nn.LSTM
    plain = kind(encoder.embedding.embedding_dim, encoder.recurrent.hidden_size)
    plain.load_state_dict(encoder.recurrent.state_dict())
    words = encoder.embedding.weight[torch.tensor(tokens)].unsqueeze(1)
    return plain(words)[0][-1, 0]


@pytest.mark.parametrize("kind", ["gru", "lstm"])
@settings(max_examples=25)
@given(
    sentences=st.lists(
        st.lists(st.integers(1, 10), min_size=1, max_size=6), min_size=1, max_size=6
    ),
    more=st.integers(0, 3),
)
def test_the_state_after_the_last_token(kind: str, sentences: list[list[int]], more: int) -> None:
    encoder = RecurrentEncoder(11, 3, 4, kind)
    longest = max(map(len, sentences)) + more
    tokens = torch.tensor([s + [0] * (longest - len(s)) for s in sentences])
    lengths = torch.tensor([len(s) for s in sentences])
    expected = torch.stack([_alone(encoder, s) for s in sentences])
    torch.testing.assert_close(encoder(tokens), expected)
    torch.testing.assert_close(encoder((tokens, lengths)), expected)
    with torch.no_grad():
        torch.testing.assert_close(encoder(tokens.int()), expected)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_tokens_after_the_given_length_are_ignored(kind: str) -> None:
    encoder = RecurrentEncoder(11, 3, 4, kind)
    tokens = torch.randint(1, 11, (4, 6))
    lengths = torch.tensor([6, 1, 3, 5])
    changed = tokens.where(torch.arange(6) < lengths.unsqueeze(1), 7)
    assert torch.equal(encoder((tokens, lengths)), encoder([changed, lengths]))


def test_a_zero_inside_a_sequence_has_a_zero_embedding() -> None:
    encoder = RecurrentEncoder(11, 3, 4, "gru")
    inside = encoder(torch.tensor([[1, 0, 2]]))
    torch.testing.assert_close(inside[0], _alone(encoder, [1, 0, 2]))
    assert not torch.allclose(inside, encoder(torch.tensor([[1, 2, 0]])))


@pytest.mark.parametrize("kind", ["gru", "lstm"])
@pytest.mark.parametrize("batch", [2, 20])  # fewer and more tokens than the vocabulary has
def test_gradients_are_those_of_torch(kind: str, batch: int) -> None:
    encoder = RecurrentEncoder(11, 3, 4, kind).double()
    tokens = torch.randint(0, 11, (batch, 5))
    tokens[:, 0] = 1
    lengths = 1 + torch.arange(batch) % 5
    ours = torch.autograd.grad(encoder((tokens, lengths)).sin().sum(), encoder.parameters())
    plain = (nn.GRU if kind == "gru" else nn.LSTM)(3, 4, batch_first=True).double()
    plain.load_state_dict(encoder.recurrent.state_dict())
    states = plain(encoder.embedding(tokens))[0][torch.arange(batch), lengths - 1]
    parameters = [encoder.embedding.weight, *plain.parameters()]
    theirs = torch.autograd.grad(states.sin().sum(), parameters)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)
    assert torch.equal(ours[0][0], torch.zeros(3, dtype=torch.float64)), "padding learns nothing"


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_the_path_for_tracing_gives_equal_results(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = RecurrentEncoder(11, 3, 4, kind)
    tokens = torch.randint(1, 11, (4, 6)) * (torch.arange(6) < torch.tensor([[6], [1], [3], [5]]))
    eager = encoder(tokens)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close(encoder(tokens), eager)


@pytest.mark.traced
@pytest.mark.filterwarnings("ignore:The tensor attributes self.recurrent._flat_weights")  # nn.GRU's
def test_exports() -> None:
    encoder = RecurrentEncoder(11, 3, 4, "gru").eval()
    tokens = torch.tensor([[1, 2, 3], [4, 0, 0]])
    exported = torch.export.export(encoder, (tokens,))
    torch.testing.assert_close(exported.module()(tokens), encoder(tokens))


GOOD = torch.tensor([[1, 2, 3], [4, 5, 0]])


@pytest.mark.parametrize(
    ("condition", "error", "words"),
    [
        (torch.tensor([[1, 2], [0, 0]]), ConditionError, "sequence 1 has 0 tokens"),
        ((GOOD, torch.tensor([3, 0])), ConditionError, "sequence 1 has 0"),
        ((GOOD, torch.tensor([-1, 2])), ConditionError, "sequence 0 has -1"),
        ((GOOD, torch.tensor([4, 2])), ConditionError, r"1\.\.3.*sequence 0 has 4"),
        (torch.tensor([[1, 11]]), ConditionError, r"tokens must lie in 0\.\.10, got 1\.\.11"),
        (torch.tensor([[1, -1]]), ConditionError, "tokens .*-1"),
        (torch.tensor([[2**40, 1]]), ConditionError, "tokens"),
        (torch.tensor([1, 2, 3]), ShapeError, r"tokens must be \(B, T\).*\(3,\)"),
        (torch.ones(2, 3, 4, dtype=torch.int64), ShapeError, "tokens"),
        (torch.tensor(3), ShapeError, "tokens"),
        (torch.zeros(0, 4, dtype=torch.int64), ShapeError, "tokens"),
        (torch.zeros(2, 0, dtype=torch.int64), ShapeError, "tokens"),
        (GOOD.float(), ArgumentTypeError, "tokens.*float32"),
        (GOOD.bool(), ArgumentTypeError, "tokens.*bool"),
        (GOOD.to(torch.int16), ArgumentTypeError, "tokens.*int16"),
        ([[1, 2, 3]], ArgumentTypeError, "tokens"),
        ("what color is it", ArgumentTypeError, "tokens.*str"),
        ((GOOD,), ArgumentTypeError, "tokens, lengths"),
        ((GOOD, GOOD, GOOD), ArgumentTypeError, "tokens, lengths"),
        ((GOOD, [3, 2]), ArgumentTypeError, "lengths.*list"),
        ((GOOD, torch.tensor([3.0, 2.0])), ArgumentTypeError, "lengths.*float32"),
        ((GOOD, torch.tensor([3])), ShapeError, r"lengths must be \(2,\), got \(1,\)"),
        ((GOOD, torch.tensor([[3, 2]])), ShapeError, "lengths"),
        ((GOOD, torch.tensor(3)), ShapeError, "lengths"),
        (None, ConditionError, "None"),
    ],
)
def test_wrong_conditions(condition: Any, error: type[Exception], words: str) -> None:
    generator = Recurrent(11, 3, 4)
    generator.bind(Layout((Site("a", 2, Affine()),)))
    with pytest.raises(error, match=words):
        generator(condition)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((0, 3, 4), GeneratorError, "vocabulary"),
        ((-1, 3, 4), GeneratorError, "vocabulary"),
        ((11, 0, 4), GeneratorError, "embedding"),
        ((11, 3, 0), GeneratorError, "hidden"),
        ((11, 3, 4, "rnn"), GeneratorError, "kind must be one of gru, lstm"),
        ((11, 3, 4, "GRU"), GeneratorError, "kind"),
        ((11.0, 3, 4), KIND, "vocabulary"),
        ((11, "3", 4), KIND, "embedding"),
        ((11, 3, None), KIND, "hidden"),
        ((True, 3, 4), KIND, "vocabulary"),
    ],
)
def test_wrong_settings(arguments: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        Recurrent(*arguments)
