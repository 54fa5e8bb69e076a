"""The fast GRU against ``nn.GRU`` in float64: values, gradients, second gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from featurewise.generators import gru as module
from featurewise.generators.gru import GRU, gru_states, plain_states

LENGTHS = st.lists(st.integers(1, 7), min_size=1, max_size=6)


def _pair(inputs: int = 3, width: int = 4) -> tuple[GRU, nn.GRU]:
    """``GRU`` and ``nn.GRU`` with the same weights, in float64."""
    ours = GRU(inputs, width).double()
    theirs = nn.GRU(inputs, width, batch_first=True).double()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    return ours, theirs


def _packed(x: Tensor, lengths: list[int]) -> PackedSequence:
    return pack_padded_sequence(x, torch.tensor(lengths), True, enforce_sorted=False)


def _gradients(gru: nn.GRU, x: Tensor, lengths: list[int]) -> list[Tensor]:
    """States, last states, and gradients of a loss with a different weight for each state."""
    x = x.clone().requires_grad_()
    states, last = gru(_packed(x, lengths))
    weigh = torch.linspace(0.5, 2.0, states.data.numel(), dtype=x.dtype).view_as(states.data)
    loss = (states.data * weigh).sin().sum() + (last * weigh[: last.shape[1]]).square().sum()
    grads = torch.autograd.grad(loss, [x, *gru.parameters()])
    return [states.data.detach(), last.detach(), *grads]


@settings(max_examples=30)
@given(lengths=LENGTHS, inputs=st.integers(1, 4), width=st.integers(1, 5))
def test_values_and_gradients_are_those_of_torch(
    lengths: list[int], inputs: int, width: int
) -> None:
    ours, theirs = _pair(inputs, width)
    x = torch.randn(len(lengths), max(lengths), inputs, dtype=torch.float64)
    for a, b in zip(_gradients(ours, x, lengths), _gradients(theirs, x, lengths), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@settings(max_examples=30)
@given(lengths=LENGTHS)
def test_a_table_of_inputs_equals_its_lookup(lengths: list[int]) -> None:
    ours, theirs = _pair()
    table = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    ids = torch.randint(5, (len(lengths), max(lengths)))
    results = []
    for last in (ours(_packed(ids, lengths), table)[1], theirs(_packed(table[ids], lengths))[1]):
        params = [table, *(ours if not results else theirs).parameters()]
        results.append([last, *torch.autograd.grad(last.sin().sum(), params)])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_only_training_uses_the_fast_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []

    def spy(*arguments: object) -> Tensor:
        calls.append(arguments)
        return gru_states(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "gru_states", spy)
    ours, _ = _pair()
    x = torch.randn(2, 4, 3, dtype=torch.float64)
    trained = ours(_packed(x, [4, 2]))[1]
    assert len(calls) == 1
    with torch.no_grad():
        inferred = ours(_packed(x, [4, 2]))[1]
    padded, _ = ours(x)
    assert len(calls) == 1
    torch.testing.assert_close(trained, inferred, rtol=0, atol=1e-12)
    torch.testing.assert_close(trained[0, 1], padded[1, 1], rtol=0, atol=1e-12)


def test_one_node_of_the_graph_holds_all_steps() -> None:
    def nodes(last: Tensor) -> int:
        found, stack = set(), [last.grad_fn]
        while stack:
            node = stack.pop()
            if node is not None and node not in found:
                found.add(node)
                stack += [n for n, _ in node.next_functions]
        return len(found)

    ours, _ = _pair()
    short, long = (torch.randn(2, t, 3, dtype=torch.float64) for t in (3, 30))
    counts = [nodes(ours(_packed(x, [x.shape[1]] * 2))[1]) for x in (short, long)]
    assert counts[0] == counts[1]


def _arguments() -> tuple[Tensor, Tensor, Tensor]:
    shapes = ((6, 9), (9, 3), (9,))
    return tuple(torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes)  # type: ignore[return-value]


SIZES = (3, 2, 1)


def test_derivatives_of_first_and_second_order() -> None:
    def run(*arguments: Tensor) -> Tensor:
        return gru_states(*arguments, SIZES)

    assert gradcheck(run, _arguments())
    assert gradgradcheck(run, _arguments())


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_second_order_with_an_input_that_needs_no_gradient(frozen: int) -> None:
    arguments = _arguments()
    arguments[frozen].requires_grad_(False)
    wanted = [a for a in arguments if a.requires_grad]
    found = []
    for states in (gru_states(*arguments, SIZES), plain_states(*arguments, SIZES)):
        first = torch.autograd.grad(states.sin().sum(), wanted, create_graph=True)
        loss = torch.stack([g.square().sum() for g in first]).sum()
        found.append([*first, *torch.autograd.grad(loss, wanted)])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_a_wide_recurrence_with_a_packed_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward and backward; the plain product is the twin, and both are really taken."""
    torch.manual_seed(0)
    taken: list[int] = []
    before = module._torch.prepacked

    def spy(weight: Tensor, rows: int) -> object:
        taken.append(rows)
        return before(weight, rows)

    monkeypatch.setattr(module._torch, "prepacked", spy)
    mine, theirs = (each.float() for each in _pair(8, 64))
    x, lengths = torch.randn(5, 12, 8), [12, 12, 9, 3, 1]
    wanted = _gradients(theirs, x, lengths)
    for width in (64, 65):
        monkeypatch.setattr(module, "PACKED_WIDTH", width)
        for found, exact in zip(_gradients(mine, x, lengths), wanted, strict=True):
            torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-5)
    assert taken == [5, 5]


def test_functional_transforms() -> None:
    ours, theirs = _pair()
    x = torch.randn(2, 4, 3, dtype=torch.float64)

    def loss(gru: nn.GRU, parameters: dict[str, Tensor]) -> Tensor:
        out = torch.func.functional_call(gru, parameters, (_packed(x, [4, 2]),))
        return out[1].square().sum()

    by_transform = torch.func.grad(lambda p: loss(ours, p))(dict(ours.named_parameters()))
    plain = torch.autograd.grad(loss(theirs, dict(theirs.named_parameters())), theirs.parameters())
    for a, b in zip(by_transform.values(), plain, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_bfloat16_autocast_is_at_least_as_exact_as_torch() -> None:
    torch.manual_seed(3)
    ours, theirs = GRU(16, 32), nn.GRU(16, 32, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    exact = nn.GRU(16, 32, batch_first=True).double()
    exact.load_state_dict(ours.state_dict())
    x, lengths = torch.randn(16, 20, 16), [20 - i for i in range(16)]
    truth = _gradients(exact, x.double(), lengths)
    errors = []
    for gru in (ours, theirs):
        with torch.autocast("cpu", torch.bfloat16):
            found = _gradients(gru, x, lengths)
        errors.append(
            [float((a.double() - b).norm() / b.norm()) for a, b in zip(found, truth, strict=True)]
        )
    assert max(errors[0]) < 0.02
    assert sum(errors[0]) < 1.1 * sum(errors[1])


def test_bfloat16_parameters() -> None:
    ours = GRU(4, 8).bfloat16()
    x = torch.randn(3, 5, 4).bfloat16()
    states, last, *grads = _gradients(ours, x, [5, 3, 1])
    assert {t.dtype for t in (states, last, *grads)} == {torch.bfloat16}
    exact = GRU(4, 8).double()
    exact.load_state_dict({k: v.double() for k, v in ours.state_dict().items()})
    reference = _gradients(exact, x.double(), [5, 3, 1])
    for a, b in zip((states, last, *grads), reference, strict=True):
        assert (a.double() - b).norm() < 0.05 * b.norm()


def test_state_dict_is_that_of_torch() -> None:
    ours, theirs = GRU(3, 4), nn.GRU(3, 4)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: v.shape for k, v in theirs.state_dict().items()
    }


def test_plain_states_is_the_recurrence_of_the_docstring() -> None:
    projected, weight, bias = (a.detach() for a in _arguments())
    h = torch.zeros(3, 3, dtype=torch.float64)
    rows = iter(projected)
    states = []
    for size in SIZES:
        for i in range(size):
            p = next(rows)
            hidden = weight @ h[i] + bias
            r = 1 / (1 + torch.exp(-(p[:3] + hidden[:3])))
            z = 1 / (1 + torch.exp(-(p[3:6] + hidden[3:6])))
            n = torch.tanh(p[6:] + r * hidden[6:])
            h[i] = (1 - z) * n + z * h[i]
            states.append(h[i].clone())
    expected = torch.stack(states)
    torch.testing.assert_close(plain_states(projected, weight, bias, SIZES), expected)
    torch.testing.assert_close(gru_states(projected, weight, bias, SIZES), expected)


def test_one_step_equals_gru_cell_of_torch() -> None:
    cell = nn.GRUCell(3, 4).double()
    x = torch.randn(5, 3, dtype=torch.float64)
    projected = F.linear(x, cell.weight_ih, cell.bias_ih)
    torch.testing.assert_close(gru_states(projected, cell.weight_hh, cell.bias_hh, (5,)), cell(x))
