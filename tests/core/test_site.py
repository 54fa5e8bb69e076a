"""Sites and layouts: which numbers of a flat vector go where."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import Tensor

from featurewise.core import (
    Affine,
    ArgumentTypeError,
    FeaturewiseError,
    Gate,
    Layout,
    LayoutError,
    LowRank,
    Operation,
    OperationError,
    Parameter,
    RowColumn,
    ShapeError,
    Shift,
    Site,
)

LAYOUT = Layout(
    (
        Site("stem", 4, Affine()),
        Site("body.0", 3, LowRank(2), axis=-1, batch_axis=1),
        Site("body.1", 5, Gate(), batch_axis=None, when="input", leaf=1),
        Site("head", 2, RowColumn(), extent=(3, 4)),
        Site("", 6, Affine(raw=True)),
    )
)
#: By hand: 2*4, 3*2 + 2*3, 5, 2*2 + 3 + 4, 2*6.
SIZE = 8 + 12 + 5 + 11 + 12
#: Run-time shape checks, where enabled, raise first.
KIND = (ArgumentTypeError, TypeCheckError)


def flat(*shape: int) -> Tensor:
    count = torch.Size(shape).numel()
    return torch.arange(count, dtype=torch.float64).reshape(shape)


# --- sites ---------------------------------------------------------------------------------------


def test_site_applies_its_operation(operation: Operation, reference: Any) -> None:
    x = torch.randn(4, 5, 2, 3)
    values = {n: v.float() for n, v in reference.values(operation, x, -1, 2).items()}
    site = Site("here", 3, operation, axis=-1, batch_axis=2, extent=(4, 5))
    assert torch.equal(site.modulate(x, values), operation(x, values, axis=-1, batch_axis=2))


def test_site_size_counts_its_parameters() -> None:
    assert [site.size for site in LAYOUT] == [8, 12, 5, 11, 12]


BAD_SITES: dict[str, tuple[dict[str, Any], Any, str]] = {
    "width zero": ({"width": 0}, ShapeError, "width"),
    "width negative": ({"width": -3}, ShapeError, "width"),
    "width a float": ({"width": 3.0}, KIND, "width"),
    "width a boolean": ({"width": True}, KIND, "width"),
    "name a number": ({"name": 3}, KIND, "name"),
    "operation a class": ({"operation": Affine}, KIND, "operation"),
    "operation None": ({"operation": None}, KIND, "operation"),
    "axis a float": ({"axis": 1.0}, KIND, "axis"),
    "axis None": ({"axis": None}, KIND, "axis"),
    "batch_axis text": ({"batch_axis": "0"}, KIND, "batch_axis"),
    "axes the same": ({"batch_axis": 1}, ShapeError, "batch_axis"),
    "when unknown": ({"when": "before"}, LayoutError, "when"),
    "when None": ({"when": None}, KIND, "when"),
    "leaf negative": ({"leaf": -1}, LayoutError, "leaf"),
    "leaf a float": ({"leaf": 0.5}, KIND, "leaf"),
    "extent a list": ({"extent": [3, 4]}, KIND, "extent"),
    "extent of floats": ({"extent": (3.0, 4)}, KIND, "extent"),
}


@pytest.mark.parametrize("what", BAD_SITES)
def test_invalid_sites_raise(what: str) -> None:
    change, error, word = BAD_SITES[what]
    with pytest.raises(error, match=word):
        Site(**{"name": "a", "width": 3, "operation": Affine(), **change})


# --- layouts -------------------------------------------------------------------------------------


def test_size_and_start() -> None:
    assert LAYOUT.size == SIZE
    start = LAYOUT.start()
    assert start.shape == (SIZE,)
    # Zero everywhere but at the last site, whose raw gamma is not an offset and starts at one.
    assert torch.equal(start.nonzero().flatten(), torch.arange(SIZE - 12, SIZE - 6))
    assert start.sum() == 6
    assert LAYOUT.neutral
    assert not Layout((Site("a", 2, Affine()), Site("b", 2, Gate(1.0)))).neutral


def test_spans_follow_each_other() -> None:
    spans = [LAYOUT.span(name) for name in LAYOUT.names]
    assert [(s.start, s.stop) for s in spans] == [(0, 8), (8, 20), (20, 25), (25, 36), (36, 48)]


@pytest.mark.parametrize("lead", [(), (0,), (1,), (3,)], ids=str)
@pytest.mark.parametrize("tail", [(), (1,), (2, 0), (2, 5)], ids=str)
def test_join_is_the_inverse_of_split(lead: tuple[int, ...], tail: tuple[int, ...]) -> None:
    if not lead and tail:
        pytest.skip("positions come with a batch")
    given = flat(*lead, SIZE, *tail)
    named = LAYOUT.split(given)
    assert torch.equal(LAYOUT.join(named), given)
    for site in LAYOUT:
        assert list(named[site.name]) == list(site.parameters)
        for name, parameter in site.parameters.items():
            assert named[site.name][name].shape == (*lead, *parameter.shape, *tail)


def test_split_cuts_where_it_says_and_shares_memory() -> None:
    given = flat(3, SIZE)
    named = LAYOUT.split(given)
    assert torch.equal(named["stem"]["gamma"], given[:, 0:4])
    assert torch.equal(named["stem"]["beta"], given[:, 4:8])
    assert torch.equal(named["body.0"]["left"], given[:, 8:14].reshape(3, 3, 2))
    assert torch.equal(named["body.0"]["right"], given[:, 14:20].reshape(3, 2, 3))
    assert torch.equal(named["head"]["column"], given[:, 32:36])
    storage = given.untyped_storage().data_ptr()
    for values in named.values():
        assert {v.untyped_storage().data_ptr() for v in values.values()} == {storage}


@given(widths=st.lists(st.integers(1, 5), max_size=5), lead=st.lists(st.integers(0, 3), max_size=1))
def test_split_and_join_at_any_widths(widths: list[int], lead: list[int]) -> None:
    kinds = (Affine(), Shift(), LowRank())
    layout = Layout(tuple(Site(f"s{i}", w, kinds[i % 3]) for i, w in enumerate(widths)))
    given = torch.randn(*lead, layout.size) if widths else torch.zeros(0)
    joined = layout.join(layout.split(given))
    assert torch.equal(joined, given)


def test_join_lets_gradients_through() -> None:
    leaf = flat(2, SIZE).requires_grad_()
    (LAYOUT.join(LAYOUT.split(leaf)) * flat(2, SIZE)).sum().backward()
    assert leaf.grad is not None and torch.equal(leaf.grad, flat(2, SIZE))


BAD_FLAT: dict[str, tuple[Any, Any]] = {
    "too long": (flat(SIZE + 1), ShapeError),
    "too short": (flat(2, SIZE - 1), ShapeError),
    "transposed": (flat(SIZE, 3), ShapeError),
    "no axes": (torch.tensor(1.0), ShapeError),
    "positions first": (flat(2, 5, SIZE), ShapeError),
    "a list": ([0.0] * SIZE, KIND),
}


@pytest.mark.parametrize("what", BAD_FLAT)
def test_invalid_splits_raise(what: str) -> None:
    given, error = BAD_FLAT[what]
    with pytest.raises(error, match="flat"):
        LAYOUT.split(given)
    with pytest.raises(error, match="flat"):
        LAYOUT.split_site(given, "stem")


def named() -> dict[str, dict[str, Any]]:
    return LAYOUT.split(flat(2, SIZE))


def test_invalid_joins_raise() -> None:
    for change, error, word in (
        (lambda n: n.pop("head"), LayoutError, "head"),
        (lambda n: n.update(tail={}), LayoutError, "tail"),
        (lambda n: n["stem"].pop("beta"), LayoutError, "stem"),
        (lambda n: n["stem"].update(delta=flat(2, 4)), LayoutError, "delta"),
        (lambda n: n["stem"].update(beta=flat(2, 5)), ShapeError, "stem.beta"),
        (lambda n: n["stem"].update(beta=flat(4)), ShapeError, "stem.beta"),
        (lambda n: n["stem"].update(beta=flat(3, 4)), ShapeError, "stem.beta"),
        (lambda n: n["stem"].update(beta=flat(2, 4, 3)), ShapeError, "stem.beta"),
        (lambda n: n["stem"].update(beta=torch.tensor(0.0)), ShapeError, "stem.beta"),
        (lambda n: n["stem"].update(beta=[0.0] * 4), KIND, "stem.beta|named"),
    ):
        wrong = named()
        change(wrong)
        with pytest.raises(error, match=word):
            LAYOUT.join(wrong)


def test_sites_by_name() -> None:
    assert LAYOUT["body.1"].width == 5
    assert "stem" in LAYOUT and LAYOUT["stem"] in LAYOUT
    assert "body" not in LAYOUT and Site("stem", 4, Shift()) not in LAYOUT
    assert len(LAYOUT) == 5 and [s.name for s in LAYOUT] == list(LAYOUT.names)
    for ask in (LAYOUT.__getitem__, LAYOUT.span, lambda n: LAYOUT.split_site(flat(SIZE), n)):
        with pytest.raises(LayoutError, match=r"no site 'body'; the sites are stem, body\.0"):
            ask("body")


def test_invalid_layouts_raise() -> None:
    with pytest.raises(LayoutError, match="two sites are named 'a'"):
        Layout((Site("a", 2, Affine()), Site("a", 3, Affine())))
    with pytest.raises(KIND, match="sites"):
        Layout(("a",))  # type: ignore[arg-type]
    # An operation that its site does not support raises when the layout is made.
    with pytest.raises(ShapeError, match="two position axes"):
        Layout((Site("a", 2, RowColumn()),))
    with pytest.raises(OperationError, match="exceeds the width"):
        Layout((Site("a", 2, LowRank(3)),))


def test_empty_layout() -> None:
    empty = Layout(())
    assert empty.size == 0 and empty.start().shape == (0,) and empty.neutral
    assert empty.split(torch.zeros(0)) == {} and empty.join({}).shape == (0,)
    assert "0 sites" in str(empty)


def test_parameters_without_axes() -> None:
    class Constant(Operation):
        def parameters(self, width: int, extent: Any = None) -> dict[str, Parameter]:
            return {"value": Parameter((), positional=False)}

        def apply(self, x: Tensor, values: Any, axis: int, batch_axis: int | None) -> Tensor:
            value = values["value"]
            return x + (value if value.ndim == 0 else value.reshape(-1, *(1,) * (x.ndim - 1)))

    layout = Layout((Site("a", 3, Constant()), Site("b", 2, Shift())))
    assert layout.size == 3
    given = flat(2, 3)
    values = layout.split(given)
    assert values["a"]["value"].shape == (2,)
    assert torch.equal(layout.join(values), given)
    assert layout["a"].modulate(torch.zeros(2, 3), values["a"].copy()).shape == (2, 3)


def test_json_round_trip_through_text() -> None:
    text = json.dumps(LAYOUT.to_json())
    again = Layout.from_json(json.loads(text))
    assert again == LAYOUT and hash(again) == hash(LAYOUT)
    assert json.dumps(again.to_json()) == text


def test_equal_and_copied_layouts() -> None:
    assert copy.deepcopy(LAYOUT) == LAYOUT
    sites = LAYOUT.sites
    assert Layout(sites[::-1]) != LAYOUT
    assert Layout((replace(sites[0], axis=2), *sites[1:])) != LAYOUT


def broken(**change: Any) -> list[dict[str, Any]]:
    return [{**LAYOUT.sites[0].to_json(), **change}]


BAD_JSON: dict[str, Any] = {
    "null": None,
    "an empty object": {},
    "sites an object": {"sites": {}},
    "sites null": {"sites": None, "backbone": 3},
    "another key": {"sites": [], "backbone": 3, "speed": 4},
    "backbone text": {"sites": [], "backbone": "3"},
    "backbone a truth": {"sites": [], "backbone": True},
    "backbone negative": {"sites": [], "backbone": -1},
    "text": "stem",
    "a list of text": ["stem"],
    "a list of null": [None],
    "an empty site": [{}],
    "a key too many": broken(speed=3),
    "a key missing": [{k: v for k, v in LAYOUT.sites[0].to_json().items() if k != "width"}],
    "width text": broken(width="4"),
    "width a float": broken(width=4.5),
    "width zero": broken(width=0),
    "extent a number": broken(extent=3),
    "extent of text": broken(extent=["3", "4"]),
    "when unknown": broken(when="later"),
    "operation null": broken(operation=None),
    "operation unknown": broken(operation={"kind": "Nothing"}),
    "name null": broken(name=None),
    "module null": broken(module=None),
    "a site twice": broken() * 2,
}


@pytest.mark.parametrize("what", BAD_JSON)
def test_bad_json(what: str) -> None:
    with pytest.raises((FeaturewiseError, TypeCheckError)):
        Layout.from_json(BAD_JSON[what])


def test_printed_table() -> None:
    lines = str(LAYOUT).splitlines()  # without class names and the size of the backbone
    assert len(lines) == len(LAYOUT) + 2
    assert lines[0].split() == ["site", "operation", "axis", "width", "parameters"]
    assert lines[2].split() == ["body.0", "LowRank(rank=2)", "-1", "3", "12"]
    assert lines[-1].split() == ["5", "sites", str(SIZE)]


def annotated() -> Layout:
    """``LAYOUT`` with the fields for display: class names, size of the backbone."""
    modules = ("Conv2d", "LSTM", "Linear", "Block", "Network")
    sites = zip(LAYOUT, modules, strict=True)
    return Layout(tuple(replace(site, module=name) for site, name in sites), 4800)


def test_printed_table_of_a_network() -> None:
    lines = str(annotated()).splitlines()
    assert lines[0].split() == ["site", "module", "operation", "axis", "width", "parameters"]
    assert lines[2].split() == ["body.0", "LSTM", "LowRank(rank=2)", "-1", "3", "12"]
    assert lines[-2].split() == ["5", "sites", str(SIZE)]
    assert lines[-1] == "1.00% of the backbone, which has 4,800 parameters"
    assert len({len(line) for line in lines[:-1]}) == 1  # the columns are aligned
    assert "%" not in str(replace(annotated(), backbone=0))  # no share of an empty backbone
    assert "12,000,000" in str(Layout((Site("a", 6_000_000, Affine()),)))


def test_fields_for_display_do_not_affect_equality() -> None:
    assert annotated() == LAYOUT and hash(annotated()) == hash(LAYOUT)
    assert annotated()["stem"] == LAYOUT["stem"] and LAYOUT["stem"] in annotated()
    again = Layout.from_json(json.loads(json.dumps(annotated().to_json())))
    assert str(again) == str(annotated())
    assert [site.module for site in again] == ["Conv2d", "LSTM", "Linear", "Block", "Network"]


def test_json_of_the_first_versions_still_loads() -> None:
    old = [
        {k: v for k, v in site.items() if k != "module"} for site in annotated().to_json()["sites"]
    ]
    loaded = Layout.from_json(json.loads(json.dumps(old)))
    assert loaded == LAYOUT and loaded.backbone is None
    assert {site.module for site in loaded} == {""}
    assert Layout.from_json({"sites": old}) == LAYOUT


@pytest.mark.traced
def test_splitting_compiles_without_graph_breaks() -> None:
    torch.compiler.reset()
    layout = Layout((Site("a", 3, Affine()), Site("b", 3, LowRank())))

    def run(x: Tensor, given: Tensor) -> Tensor:
        for site, values in zip(layout, layout.split(given).values(), strict=True):
            x = site.modulate(x, values)
        return x

    x, given = torch.randn(2, 3), torch.randn(2, layout.size)
    compiled = torch.compile(run, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x, given), run(x, given))


# --- positions of other sizes --------------------------------------------------------------------


def nearest_by_hand(value: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Each new cell takes the value of the old cell that contains its centre."""
    for axis, size in enumerate(sizes, 2):
        given = value.shape[axis]
        middles = (torch.arange(size, dtype=torch.float64) + 0.5) * given / size
        value = value.index_select(axis, middles.floor().long().clamp(max=given - 1))
    return value


@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("given_sizes", [(6,), (3, 5), (8, 8), (2, 1), (1, 9), (2, 3, 4)], ids=str)
def test_nearest_positions_equal_the_loop(given_sizes: tuple[int, ...], axis: int) -> None:
    sizes = (4, 7, 5)[: len(given_sizes)]
    x = torch.randn(2, 3, *sizes)
    if axis == -1:
        x = x.movedim(1, -1)
    values = {name: torch.randn(2, 3, *given_sizes) for name in ("gamma", "beta")}
    found = Site("a", 3, Affine(), axis=axis, resize="nearest").modulate(x, values)
    by_hand = {
        name: nearest_by_hand(
            value, tuple(g if g == 1 else s for g, s in zip(given_sizes, sizes, strict=True))
        )
        for name, value in values.items()
    }
    assert torch.equal(found, Site("a", 3, Affine(), axis=axis).modulate(x, by_hand))


def test_linear_and_area_resizing() -> None:
    beta = torch.tensor([[[0.0, 4.0, 8.0, 12.0]]])
    x = torch.zeros(1, 1, 2)
    for rule in ("linear", "area"):  # the centre of two cells is their mean
        site = Site("a", 1, Shift(), resize=rule)
        assert site.modulate(x, {"beta": beta}).flatten().tolist() == [2.0, 10.0]
    longer = Site("a", 1, Shift(), resize="linear").modulate(torch.zeros(1, 1, 8), {"beta": beta})
    assert longer.flatten().tolist() == [0.0, 1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 12.0]
    row = Site("a", 1, Shift(), resize="area").modulate(torch.zeros(1, 1, 1), {"beta": beta})
    assert row.item() == 6.0


@pytest.mark.parametrize("rule", ["nearest", "linear", "area"])
def test_equal_positions_are_not_resized(rule: str) -> None:
    x = torch.randn(2, 3, 4, 5)
    plain, resizing = Site("a", 3, Affine()), Site("a", 3, Affine(), resize=rule)
    for tail in ((), (4, 5), (1, 5), (1, 1)):
        values = {name: torch.randn(2, 3, *tail) for name in ("gamma", "beta")}
        assert torch.equal(resizing.modulate(x, values), plain.modulate(x, values))
    shared = {name: torch.randn(3) for name in ("gamma", "beta")}
    assert torch.equal(resizing.modulate(x, shared), plain.modulate(x, shared))


@pytest.mark.parametrize("rule", ["nearest", "linear", "area"])
def test_resized_parameters_have_gradients_and_any_dtype(rule: str) -> None:
    site = Site("a", 3, Affine(), resize=rule)
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    values = {
        name: torch.randn(2, 3, 2, 9, dtype=torch.float64, requires_grad=True)
        for name in ("gamma", "beta")
    }
    assert torch.autograd.gradcheck(
        lambda gamma, beta: site.modulate(x, {"gamma": gamma, "beta": beta}),
        (values["gamma"], values["beta"]),
    )
    for dtype in (torch.float16, torch.bfloat16):
        half = {name: value.detach().to(dtype) for name, value in values.items()}
        assert site.modulate(x.to(dtype), half).dtype == dtype


def test_other_positions_raise_without_a_resize_rule() -> None:
    x = torch.randn(2, 3, 4, 5)
    with pytest.raises(ShapeError, match=r"gamma\(2, 3, 2, 5\) has none of .*resize='nearest'"):
        Site("a", 3, Affine()).modulate(x, {n: torch.ones(2, 3, 2, 5) for n in ("gamma", "beta")})
    site = Site("a", 3, Affine(), resize="nearest")
    for tail in ((20,), (2, 5, 1)):  # another number of position axes
        with pytest.raises(ShapeError, match="has none of"):
            site.modulate(x, {n: torch.ones(2, 3, *tail) for n in ("gamma", "beta")})
    with pytest.raises(ShapeError, match="has none of"):  # rows and features are never resized
        site.modulate(x, {n: torch.ones(4, 3, 2, 5) for n in ("gamma", "beta")})
    row_column = Site("a", 3, RowColumn(), extent=(4, 5), resize="nearest")
    wrong = {n: torch.ones(2, 3, 2, 5) for n in ("gamma", "beta")}
    wrong |= {"row": torch.ones(2, 4, 2, 5), "column": torch.ones(2, 5, 2, 5)}
    with pytest.raises(ShapeError, match="has none of"):
        row_column.modulate(x, wrong)


def test_resize_in_json_and_invalid_rules() -> None:
    site = Site("a", 3, Affine(), resize="area")
    assert Site.from_json(json.loads(json.dumps(site.to_json()))) == site
    assert site != Site("a", 3, Affine())
    assert "resize" not in Site("a", 3, Affine()).to_json()
    with pytest.raises(LayoutError, match="resize must be one of nearest, linear, area"):
        Site("a", 3, Affine(), resize="bicubic")
