"""Every operation against a reference in plain loops, and its algebraic properties."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from featurewise.core import (
    Affine,
    ArgumentTypeError,
    Gate,
    LowRank,
    Operation,
    OperationError,
    RowColumn,
    Scale,
    Shift,
    film,
    operation_of,
)

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
FORMS = ("shared", "sample", "position", "repeated")
#: The shapes of features used below, by number of axes.
SHAPES = {1: (3,), 2: (2, 3), 3: (2, 3, 4), 4: (2, 3, 1, 4), 5: (2, 3, 1, 2, 1)}
RANKS = tuple(SHAPES)


def start(operation: Operation, width: int, extent: tuple[int, ...]) -> dict[str, Tensor]:
    declared = operation.parameters(width, extent)
    return {name: torch.full(p.shape, p.start) for name, p in declared.items()}


def is_neutral(operation: Operation) -> bool:
    return all(p.neutral for p in operation.parameters(4, (2, 2)).values())


def only_sums_and_products(operation: Operation) -> bool:
    """Whether equal numbers give bit-identical results at any memory address.

    A matrix product may be summed in another order; exp and its relatives round the last few
    numbers of a tensor, which fill no vector register, otherwise than the rest.
    """
    if isinstance(operation, Scale):
        return operation.activation == "identity"
    return isinstance(operation, Shift | RowColumn)


# --- against the reference ------------------------------------------------------------------------


def stored(x: Tensor, how: str) -> Tensor:
    """The same numbers (or the first along an axis, repeated) with another memory layout."""
    if how == "permuted":
        order = tuple(reversed(range(x.ndim)))
        return x.permute(order).contiguous().permute(order)
    if how == "strided":
        wide = torch.full((*x.shape[:-1], 2 * x.shape[-1]), math.nan, dtype=x.dtype)
        wide[..., ::2] = x
        return wide[..., ::2]
    if how == "expanded" and x.shape[0] > 0:
        return x[:1].expand(x.shape)
    return x


@st.composite
def cases(draw: Any, operation: Operation | None) -> tuple[Tensor, int, int | None, dict[str, str]]:
    ranks = st.sampled_from([3, 4]) if isinstance(operation, RowColumn) else st.integers(1, 5)
    rank = draw(ranks)
    axis = draw(st.integers(-rank, rank - 1))
    others = [i for i in range(-rank, rank) if i % rank != axis % rank]
    batch = draw(st.sampled_from([None, *others]))
    if isinstance(operation, RowColumn):
        batch = None if rank == 3 else draw(st.sampled_from(others))
    longest = {1: 8, 2: 5, 3: 4}.get(rank, 2)
    sizes = draw(st.lists(st.integers(0, longest), min_size=rank, max_size=rank))
    if isinstance(operation, LowRank):
        sizes[axis] = max(sizes[axis], operation.rank)
    torch.manual_seed(draw(st.integers(0, 2**31)))
    how = draw(st.sampled_from(["plain", "permuted", "strided", "expanded"]))
    x = stored(torch.randn(sizes, dtype=torch.float64), how)
    forms = {n: draw(st.sampled_from(FORMS)) for n in ("gamma", "beta", "left", "right")}
    return x, axis, batch, {**forms, "row": "sample", "column": "shared"}


def close(y: Tensor, expected: Tensor, size: Tensor, terms: int) -> None:
    """Equal within 4 eps of the terms; in half precision, one rounding more."""
    half = y.dtype in (torch.float16, torch.bfloat16)
    eps = torch.finfo(torch.float32 if half else y.dtype).eps
    bound = (3 + terms) * eps * size + torch.finfo(torch.float32).smallest_normal
    if half:
        finfo = torch.finfo(y.dtype)
        bound = bound + 0.5 * finfo.eps * expected.abs() * 1.001 + finfo.smallest_normal * finfo.eps
    excess = ((y.double() - expected).abs() - bound).clamp(min=0)
    assert not excess.any(), f"{y.dtype}: off by {excess.max()} more than allowed"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_equals_reference_at_any_shape(
    operation: Operation, dtype: torch.dtype, reference: Any
) -> None:
    shapes = 0

    @settings(max_examples=50)
    @given(case=cases(operation))
    def compare(case: Any) -> None:
        nonlocal shapes
        shapes += 1
        check_against_reference(operation, case, dtype, reference)

    compare()
    assert shapes >= 50  # over the four dtypes: at least 200 an operation


@settings(max_examples=200)
@given(case=cases(None), dtype=st.sampled_from(DTYPES))
def test_film_equals_reference_at_any_shape(case: Any, dtype: torch.dtype, reference: Any) -> None:
    check_against_reference(None, case, dtype, reference)


def check_against_reference(
    operation: Operation | None, case: Any, dtype: torch.dtype, reference: Any
):
    x, axis, batch, forms = case
    x = x.to(dtype)
    each = {form: reference.values(operation, x, axis, batch, form) for form in set(forms.values())}
    values = {name: each[forms[name]][name].to(dtype) for name in each["sample"]}
    y = reference.run(operation, x, values, axis, batch)
    assert y.shape == x.shape and y.dtype == dtype
    expected, size = reference(operation, x, values, axis, batch)
    terms = 1
    if isinstance(operation, LowRank):
        terms += 2 * (operation.rank + x.shape[axis])
    if isinstance(operation, Scale) and operation.activation != "identity":
        terms += 4  # the activation's own rounding, at |γ| < 5
    close(y, expected, size, terms)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rank", RANKS)
def test_every_axis_and_batch_axis(
    operation: Operation, rank: int, form: str, reference: Any
) -> None:
    x = torch.randn(SHAPES[rank], dtype=torch.float64)
    for axis, batch in reference.places(operation, x.shape):
        values = reference.values(operation, x, axis, batch, form)
        y = reference.run(operation, x, values, axis, batch)
        torch.testing.assert_close(y, reference(operation, x, values, axis, batch)[0])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rank", [r for r in RANKS if r > 1])
def test_rows_of_a_batch_are_independent(
    operation: Operation, rank: int, form: str, reference: Any
) -> None:
    x = torch.randn(SHAPES[rank])
    for axis, batch in reference.places(operation, x.shape):
        if batch is None:
            continue
        values = reference.values(operation, x, axis, batch, form)
        values = {name: value.float() for name, value in values.items()}
        together = reference.run(operation, x, values, axis, batch)
        for i in range(x.shape[batch]):
            own = {n: v if form == "shared" else v[i : i + 1] for n, v in values.items()}
            alone = reference.run(operation, x.narrow(batch, i, 1), own, axis, batch)
            row = together.narrow(batch, i, 1)
            if only_sums_and_products(operation):
                assert torch.equal(row, alone)
            else:
                torch.testing.assert_close(row, alone, rtol=1e-6, atol=1e-6)


def test_float32_parameters_are_not_rounded_with_float64_features() -> None:
    x, gamma = torch.randn(2, 3, dtype=torch.float64), torch.full((3,), 1e-8)
    assert torch.equal(Scale()(x, {"gamma": gamma}), x * (1.0 + gamma.double()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_scale_is_not_rounded_before_use(dtype: torch.dtype) -> None:
    # 1 + 2^-10 is 1 in bfloat16, 1 + 2^-12 is 1 in float16.
    gamma = torch.full((1,), 2.0**-12, dtype=dtype)
    x = torch.full((1, 1), 3.0, dtype=dtype)
    beta = torch.full((1,), -3.0, dtype=dtype)
    y = Affine()(x, {"gamma": gamma, "beta": beta})
    assert y.item() == 3.0 * 2.0**-12


# --- identity ------------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [torch.float32, None], ids=["float32-start", "same-dtype"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_start_is_the_identity_exactly(
    operation: Operation, dtype: torch.dtype, own: torch.dtype | None
) -> None:
    x = (100 * torch.randn(3, 4, 5, 6)).to(dtype)
    for axis, batch, width, extent in ((1, 0, 4, (5, 6)), (-1, 1, 6, (3, 5))):
        raw = {name: v.to(own or dtype) for name, v in start(operation, width, extent).items()}
        y = operation(x, raw, axis=axis, batch_axis=batch)
        assert torch.equal(y, x) == is_neutral(operation)
        assert y.dtype == dtype


def test_zero_is_the_identity_wherever_start_is_zero(operation: Operation) -> None:
    zero = all(p.start == 0.0 for p in operation.parameters(4, (2, 2)).values())
    known = {"raw=True": False, "sigmoid": False, "tanh": False}
    assert zero is not any(word in str(operation) for word in known)


def test_which_operations_have_an_identity() -> None:
    without = [Gate(1.0), Scale("sigmoid"), Scale("tanh"), Affine("sigmoid"), Affine("tanh")]
    assert not any(map(is_neutral, without))
    assert all(map(is_neutral, [Shift(), Scale(), Affine(), Affine("exp"), Gate(), RowColumn()]))
    assert is_neutral(Affine("softplus")) and is_neutral(Affine(raw=True)) and is_neutral(LowRank())


# --- algebra -------------------------------------------------------------------------------------


def test_affine_is_the_diagonal_affine_map() -> None:
    x, gamma, beta = (torch.randn(s, dtype=torch.float64) for s in ((7, 4), (4,), (4,)))
    y = Affine()(x, {"gamma": gamma, "beta": beta})
    torch.testing.assert_close(y, x @ torch.diag(1 + gamma) + beta, rtol=1e-14, atol=1e-14)


def test_affine_is_scale_and_shift() -> None:
    x, gamma, beta = torch.randn(2, 3, 4), torch.randn(2, 3), torch.randn(2, 3)
    none = torch.zeros(2, 3)
    affine = Affine()
    assert torch.equal(Shift()(x, {"beta": beta}), affine(x, {"gamma": none, "beta": beta}))
    assert torch.equal(Scale()(x, {"gamma": gamma}), affine(x, {"gamma": gamma, "beta": none}))
    gate = Gate(ceiling=1.0)(x, {"gamma": gamma})
    assert torch.equal(gate, Scale("sigmoid")(x, {"gamma": gamma}))


def test_row_column_without_rows_and_columns_is_affine(reference: Any) -> None:
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    values = reference.values(RowColumn(), x)
    values["row"], values["column"] = torch.zeros(4).double(), torch.zeros(5).double()
    affine = Affine()(x, {"gamma": values["gamma"], "beta": values["beta"]})
    torch.testing.assert_close(RowColumn()(x, values), affine)


def test_two_affines_compose() -> None:
    x = torch.randn(2, 3, 5, dtype=torch.float64)
    g1, b1, g2, b2 = torch.randn(4, 2, 3, dtype=torch.float64)
    twice = Affine()(Affine()(x, {"gamma": g1, "beta": b1}), {"gamma": g2, "beta": b2})
    gamma, beta = (1 + g1) * (1 + g2) - 1, (1 + g2) * b1 + b2
    torch.testing.assert_close(Affine()(x, {"gamma": gamma, "beta": beta}), twice)


def test_permuting_features_commutes(operation: Operation, reference: Any) -> None:
    if isinstance(operation, LowRank):
        pytest.skip("mixes features in a fixed basis, so their order matters")
    x = torch.randn(2, 6, 3, 4)
    values = {n: v.float() for n, v in reference.values(operation, x).items()}
    order = torch.randperm(6)
    mixed = {n: v[:, order] if v.shape[1] == 6 else v for n, v in values.items()}
    y = operation(x, values)
    assert torch.equal(operation(x[:, order], mixed), y[:, order])
    assert not torch.equal(operation(x[:, order], values), y[:, order])


def test_translation_equivariance(operation: Operation, reference: Any) -> None:
    x = torch.randn(2, 3, 4, 5)
    values = {n: v.float() for n, v in reference.values(operation, x).items()}
    moved = operation(x.roll((1, 2), (2, 3)), values)
    same = torch.equal(moved, operation(x, values).roll((1, 2), (2, 3)))
    assert same is not isinstance(operation, RowColumn)


def test_effective_parameters(operation: Operation, reference: Any) -> None:
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    raw = reference.values(operation, x)
    felt = operation.effective(raw)
    assert felt.keys() == raw.keys()
    if isinstance(operation, LowRank):
        delta = torch.einsum("bcr,brd,bdhw->bchw", felt["left"], felt["right"], x)
        expected = x + delta
    else:
        gamma = felt.get("gamma", torch.ones(2, 3).double())[:, :, None, None]
        if isinstance(operation, RowColumn):
            gamma = gamma + felt["row"][:, None, :, None] + felt["column"][:, None, None, :]
        expected = gamma * x + felt.get("beta", torch.zeros(2, 3).double())[:, :, None, None]
    torch.testing.assert_close(operation(x, raw), expected)


def test_cosine_rows_are_orthonormal() -> None:
    for rank, width in ((1, 1), (3, 3), (4, 9)):
        raw = {"left": torch.zeros(width, rank), "right": torch.zeros(rank, width)}
        rows = LowRank(rank).effective({n: v.double() for n, v in raw.items()})["right"]
        torch.testing.assert_close(rows @ rows.T, torch.eye(rank, dtype=torch.float64))


# --- gradients -----------------------------------------------------------------------------------


def test_analytic_gradients() -> None:
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    gamma, beta = (torch.randn(2, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    g = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    Affine()(x, {"gamma": gamma, "beta": beta}).backward(g)
    torch.testing.assert_close(gamma.grad, (x * g).sum((2, 3)))
    torch.testing.assert_close(beta.grad, g.sum((2, 3)))
    torch.testing.assert_close(x.grad, (1 + gamma)[:, :, None, None] * g)


def test_every_start_passes_gradients_to_its_parameters(operation: Operation) -> None:
    x = torch.randn(2, 4, 3, 3)
    raw = {n: v.requires_grad_() for n, v in start(operation, 4, (3, 3)).items()}
    (operation(x, raw) * torch.randn_like(x)).sum().backward()
    grads = {n: v.grad for n, v in raw.items()}
    # Where one factor of a product starts at zero, the gradient of the other is zero at first.
    still = {"right"} if isinstance(operation, LowRank) else set()
    assert {n for n, g in grads.items() if g is None or not g.any()} == still


@pytest.mark.parametrize("form", FORMS)
def test_gradcheck(operation: Operation, form: str, reference: Any) -> None:
    check_gradients(operation, form, reference)


@pytest.mark.parametrize("form", FORMS)
def test_film_gradcheck(form: str, reference: Any) -> None:
    check_gradients(None, form, reference)


def check_gradients(operation: Operation | None, form: str, reference: Any) -> None:
    x = torch.randn(2, 2, 1, 2, dtype=torch.float64, requires_grad=True)
    values = reference.values(operation, x, 1, 0, form)
    names = list(values)
    leaves = [values[name].requires_grad_() for name in names]

    def run(x: Tensor, *given: Tensor) -> Tensor:
        return reference.run(operation, x, dict(zip(names, given, strict=True)))

    inputs = (x, *leaves)
    assert gradcheck(
        run,
        inputs,
        nondet_tol=0.0,
        check_forward_ad=True,
        check_batched_grad=True,
        check_batched_forward_grad=True,
    )
    assert gradgradcheck(
        run, inputs, nondet_tol=0.0, check_batched_grad=True, check_fwd_over_rev=True
    )


# --- memory and transforms -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_keeps_the_memory_format(operation: Operation, dtype: torch.dtype, reference: Any) -> None:
    x = torch.randn(2, 3, 4, 5).to(dtype)
    for form in FORMS:
        values = {n: v.to(dtype) for n, v in reference.values(operation, x, form=form).items()}
        for laid in (x, x.to(memory_format=torch.channels_last)):
            assert operation(laid, values).stride() == laid.stride()
        # Many backbones have a view after the site, which must still work.
        assert operation(x, values).view(2, -1).shape == (2, 60)


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 3, 0, 5), (1, 3, 1, 1), (2, 3, 4, 0)])
def test_empty_and_single(operation: Operation, shape: tuple[int, ...], reference: Any) -> None:
    x = torch.randn(shape)
    for form in FORMS:
        values = {n: v.float() for n, v in reference.values(operation, x, form=form).items()}
        y = operation(x, values)
        torch.testing.assert_close(y, reference(operation, x, values)[0].float())


def test_arguments_are_not_modified(operation: Operation, reference: Any) -> None:
    x = torch.randn(2, 3, 4, 5)
    values = {n: v.float() for n, v in reference.values(operation, x).items()}
    before = x.clone(), {n: v.clone() for n, v in values.items()}
    operation(x, values)
    assert torch.equal(x, before[0])
    assert all(torch.equal(v, before[1][n]) for n, v in values.items())


def test_vmap_over_tasks_is_the_batch(operation: Operation, reference: Any) -> None:
    x = torch.randn(5, 3, 4, 5, dtype=torch.float64)
    values = reference.values(operation, x)

    def one(x: Tensor, values: dict[str, Tensor]) -> Tensor:
        return operation(x, values, axis=0, batch_axis=None)

    torch.testing.assert_close(torch.func.vmap(one)(x, values), operation(x, values))


def test_jvp_and_grad_transforms(operation: Operation, reference: Any) -> None:
    x, direction = torch.randn(2, 2, 3, 4, 5, dtype=torch.float64)
    values = reference.values(operation, x)
    _, tangent = torch.func.jvp(lambda x: operation(x, values), (x,), (direction,))
    # Operations are affine in the features, so the derivative is a difference.
    torch.testing.assert_close(tangent, operation(x + direction, values) - operation(x, values))
    grads = torch.func.grad(lambda v: operation(x, v).square().sum())(values)
    leaves = {n: v.clone().requires_grad_() for n, v in values.items()}
    operation(x, leaves).square().sum().backward()
    for name, leaf in leaves.items():
        torch.testing.assert_close(grads[name], leaf.grad)


@pytest.mark.traced
def test_compiles_without_graph_breaks(operation: Operation, reference: Any) -> None:
    torch.compiler.reset()
    compiled = torch.compile(operation, fullgraph=True, backend="eager")
    x = torch.randn(2, 3, 4, 5)
    values = {n: v.float() for n, v in reference.values(operation, x).items()}
    torch.testing.assert_close(compiled(x, values), operation(x, values))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_identity_holds_under_autocast(operation: Operation, dtype: torch.dtype) -> None:
    if not is_neutral(operation):
        pytest.skip("has no identity")
    x = torch.randn(2, 3, 4, 5)
    with torch.autocast("cpu", dtype=dtype):
        y = operation(x, start(operation, 3, (4, 5)))
    assert torch.equal(y, x) and y.dtype == x.dtype


# --- film ----------------------------------------------------------------------------------------


def test_film_with_one_and_zero_is_the_identity() -> None:
    for dtype in DTYPES:
        x = torch.randn(2, 3, 4).to(dtype)
        one, zero = torch.ones(2, 3, dtype=dtype), torch.zeros(2, 3, dtype=dtype)
        assert torch.equal(film(x, one, zero), x)
        assert torch.equal(film(x, None, None), x)
        assert torch.equal(film(x, one, None), film(x, None, zero))


def test_film_takes_gamma_as_it_multiplies() -> None:
    x = torch.full((1, 2), 3.0)
    y = film(x, torch.tensor([2.0, 0.0]), torch.tensor([1.0, 5.0]))
    assert y.tolist() == [[7.0, 5.0]]


def test_affine_raw_is_film() -> None:
    x, gamma, beta = torch.randn(2, 3, 4), torch.randn(2, 3, 1), torch.randn(3)
    values = {"gamma": gamma, "beta": beta}
    assert torch.equal(Affine(raw=True)(x, values), film(x, gamma, beta))


# --- configuration -------------------------------------------------------------------------------


def test_json_round_trip(operation: Operation) -> None:
    assert Operation.from_json(operation.to_json()) == operation


@dataclass(frozen=True)
class Clipped(Operation):
    """A user's operation, with a tuple among its fields."""

    bounds: tuple[float, float] = (0.0, 1.0)

    def parameters(self, width: int, extent: tuple[int, ...] | None = None) -> dict[str, Any]:
        return {}

    def apply(self, x: Tensor, values: Any, axis: int, batch_axis: int | None) -> Tensor:
        return x.clamp(*self.bounds)


def test_operations_of_users_are_restored_from_json_text() -> None:
    mine = Clipped((0.0, 0.5))
    again = Operation.from_json(json.loads(json.dumps(mine.to_json())))
    assert again == mine and hash(again) == hash(mine)
    assert torch.equal(again(torch.ones(2, 2), {}), torch.full((2, 2), 0.5))


def test_printing_shows_what_differs_from_the_default() -> None:
    assert str(Affine()) == "Affine()"
    assert str(Affine("exp")) == "Affine(activation='exp')"
    assert str(LowRank(3)) == "LowRank(rank=3)"


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("affine", Affine()),
        ("film", Affine()),
        ("FiLM", Affine()),
        ("shift", Shift()),
        ("bias", Shift()),
        ("scale", Scale()),
        ("gate", Gate()),
        ("Gate", Gate()),
        ("row_column", RowColumn()),
        ("RowColumn", RowColumn()),
        ("low-rank", LowRank()),
    ],
)
def test_operations_by_name(name: str, expected: Operation) -> None:
    assert operation_of(name) == expected
    assert operation_of(expected) is expected


def test_operations_of_users_have_names_too() -> None:
    @dataclass(frozen=True)
    class TwiceTheShift(Shift):
        factor: float = 2.0

    @dataclass(frozen=True)
    class ShiftBy(Shift):
        factor: float

    assert operation_of("twice_the_shift") == TwiceTheShift()
    with pytest.raises(OperationError, match=r"'shift_by' needs arguments: pass ShiftBy\(\.\.\.\)"):
        operation_of("shift_by")


@pytest.mark.parametrize(
    ("name", "near"), [("gat", "'gate'"), ("afine", "'affine'"), ("lowrank2", "'low_rank'")]
)
def test_an_unknown_name_lists_the_names_and_a_near_one(name: str, near: str) -> None:
    with pytest.raises(OperationError) as caught:
        operation_of(name, "operation of 'head'")
    words = str(caught.value)
    assert words.startswith(f"operation of 'head': no operation is called '{name}'")
    assert f"did you mean {near}?" in words
    for known in ("affine", "bias", "film", "gate", "low_rank", "row_column", "scale", "shift"):
        assert known in words
    assert "diagonal" not in words  # which is abstract


@pytest.mark.parametrize("name", ["", "diagonal", "operation", "xyzzy"])
def test_unknown_names(name: str) -> None:
    with pytest.raises(OperationError, match="the names are"):
        operation_of(name)


@pytest.mark.parametrize("value", [3, None, Affine, ["film"]])
def test_values_that_name_no_operation(value: Any) -> None:
    with pytest.raises((ArgumentTypeError, TypeCheckError)):
        operation_of(value)
