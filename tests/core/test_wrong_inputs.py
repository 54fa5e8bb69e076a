"""Wrong inputs: each raises a typed error that names the argument."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor

from featurewise.core import (
    ArgumentTypeError,
    FeaturewiseError,
    Gate,
    LowRank,
    Operation,
    OperationError,
    RowColumn,
    Scale,
    ShapeError,
    Site,
    film,
)

B, C, H, W = 2, 3, 4, 5
#: Run-time shape checks, where enabled, raise for a wrong type before the library does.
KIND = (ArgumentTypeError, TypeCheckError)

Call = dict[str, Any]


def good(operation: Operation | None) -> Call:
    declared = (
        {"gamma": (C,), "beta": (C,)}
        if operation is None
        else {n: p.shape for n, p in operation.parameters(C, (H, W)).items()}
    )
    values = {name: torch.randn(B, *shape) for name, shape in declared.items()}
    return {"x": torch.randn(B, C, H, W), "values": values, "axis": 1, "batch_axis": 0}


def call(operation: Operation | None, given: Call, through: str) -> Tensor:
    x, values, axis, batch = (given[k] for k in ("x", "values", "axis", "batch_axis"))
    if operation is None:
        return film(x, values["gamma"], values["beta"], axis=axis, batch_axis=batch)
    if through == "site":
        site = Site("place", C, operation, axis=axis, batch_axis=batch, extent=(H, W))
        return site.modulate(x, values)
    return operation(x, values, axis=axis, batch_axis=batch)


def with_x(change: Callable[[Tensor], Any]) -> Callable[[Call], None]:
    def apply(given: Call) -> None:
        given["x"] = change(given["x"])

    return apply


def with_axes(**axes: Any) -> Callable[[Call], None]:
    return lambda given: given.update(axes)


#: what is wrong -> (change, type of error, word that the message must contain)
ABOUT_FEATURES: dict[str, tuple[Callable[[Call], None], Any, str]] = {
    "x a list": (with_x(Tensor.tolist), KIND, "x"),
    "x None": (with_x(lambda x: None), KIND, "x"),
    "x integers": (with_x(lambda x: x.long()), KIND, "x"),
    "x booleans": (with_x(lambda x: x > 0), KIND, "x"),
    "x complex": (with_x(lambda x: x.cfloat()), KIND, "x"),
    "x without axes": (with_x(lambda x: x.sum()), ShapeError, "axis"),
    "axis past the end": (with_axes(axis=4), ShapeError, "axis"),
    "axis before the start": (with_axes(axis=-5), ShapeError, "axis"),
    "axis a float": (with_axes(axis=1.0), KIND, "axis"),
    "axis a boolean": (with_axes(axis=True), KIND, "axis"),
    "axis None": (with_axes(axis=None), KIND, "axis"),
    "batch_axis past the end": (with_axes(batch_axis=4), ShapeError, "batch_axis"),
    "batch_axis before the start": (with_axes(batch_axis=-5), ShapeError, "batch_axis"),
    "batch_axis a string": (with_axes(batch_axis="0"), KIND, "batch_axis"),
    "axes the same": (with_axes(batch_axis=1), ShapeError, "batch_axis"),
    "axes the same from the end": (with_axes(batch_axis=-3), ShapeError, "batch_axis"),
}


def longest(value: Tensor) -> int:
    """The longest axis of a parameter, the batch axis excluded."""
    return 1 + max(range(value.ndim - 1), key=lambda i: value.shape[1 + i])


ABOUT_PARAMETERS: dict[str, tuple[Callable[[Tensor], Any], Any]] = {
    "a list": (Tensor.tolist, KIND),
    "a number": (lambda v: 1.0, KIND),
    "integers": (lambda v: v.long(), KIND),
    "booleans": (lambda v: v > 0, KIND),
    "complex": (lambda v: v.cfloat(), KIND),
    "on another device": (lambda v: v.to("meta"), KIND),
    "without axes": (lambda v: v.sum(), ShapeError),
    "one feature more": (
        lambda v: torch.cat([v, v.narrow(longest(v), 0, 1)], longest(v)),
        ShapeError,
    ),
    "one feature": (lambda v: v.narrow(longest(v), 0, 1), ShapeError),
    "no feature": (lambda v: v.narrow(longest(v), 0, 0), ShapeError),
    "one sample for two": (lambda v: v[:1], ShapeError),
    "three samples for two": (lambda v: torch.cat([v, v[:1]]), ShapeError),
    "features before samples": (lambda v: torch.randn(7, *v.shape), ShapeError),
    "one position axis of two": (lambda v: v.unsqueeze(-1).expand(*v.shape, H), ShapeError),
    "positions in the other order": (
        lambda v: v[..., None, None].expand(*v.shape, W, H),
        ShapeError,
    ),
    "an axis too many": (lambda v: v[..., None, None, None], ShapeError),
    "shared with an axis of one": (lambda v: v[0].unsqueeze(-1), ShapeError),
}


def parameter_change(name: str, change: Callable[[Tensor], Any]) -> Callable[[Call], None]:
    def apply(given: Call) -> None:
        given["values"][name] = change(given["values"][name])

    return apply


def without(name: str) -> Callable[[Call], None]:
    return lambda given: given["values"].pop(name)


def wrong_inputs(operation: Operation | None) -> dict[str, tuple[Any, Any, str]]:
    table = dict(ABOUT_FEATURES)
    names = list(good(operation)["values"])
    for name in names:
        for what, (change, error) in ABOUT_PARAMETERS.items():
            table[f"{name} {what}"] = (parameter_change(name, change), error, name)
        table[f"{name} per sample without a batch axis"] = (
            with_axes(batch_axis=None),
            ShapeError,
            "" if operation is not None and "row" in names else names[0],
        )
        if operation is not None:
            table[f"{name} missing"] = (without(name), ShapeError, name)
            if not operation.parameters(C, (H, W))[name].positional:
                per_pixel = parameter_change(
                    name, lambda v: v[..., None, None].expand(*v.shape, H, W)
                )
                table[f"{name} per position"] = (per_pixel, ShapeError, name)
    if operation is not None:
        table["a parameter too many"] = (
            lambda given: given["values"].update(delta=torch.zeros(C)),
            ShapeError,
            "delta",
        )
        table["values a list"] = (
            lambda given: given.update(values=list(given["values"].values())),
            KIND,
            "values",
        )
    return table


def refuse(operation: Operation | None, through: str) -> int:
    table = wrong_inputs(operation)
    for what, (change, error, word) in table.items():
        given = good(operation)
        change(given)
        with pytest.raises(error) as caught:
            call(operation, given, through)
        message = str(caught.value)
        assert word in message, f"{what}: {word!r} is not named in: {message}"
        if isinstance(caught.value, FeaturewiseError):
            place = "film" if operation is None else type(operation).__name__
            assert ("site 'place'" if through == "site" else place) in message
            assert "\n" not in message
    return len(table)


@pytest.mark.parametrize("through", ["operation", "site"])
def test_wrong_inputs_raise(operation: Operation, through: str) -> None:
    count = refuse(operation, through)
    print(f"{operation} through {through}: {count} wrong inputs refused")
    assert count >= 15


def test_wrong_inputs_to_film_raise() -> None:
    count = refuse(None, "film")
    print(f"film: {count} wrong inputs refused")
    assert count >= 15


def test_valid_inputs_do_not_raise(operation: Operation) -> None:
    for through in ("operation", "site"):
        assert call(operation, good(operation), through).shape == (B, C, H, W)


def test_the_table_names_every_case_once(operation: Operation) -> None:
    names = Counter(w for w in wrong_inputs(operation))
    assert set(names.values()) == {1}


@pytest.mark.parametrize("form", ["shared", "sample"])
def test_row_column_raises_for_other_positions_than_its_site(form: str) -> None:
    # Features of one pixel would broadcast silently against rows and columns.
    site = Site("place", C, RowColumn(), extent=(H, W))
    lead = () if form == "shared" else (B,)
    values = {n: torch.randn(*lead, *p.shape) for n, p in site.parameters.items()}
    for positions in ((1, 1), (H, 1), (W, H), (H,), (H, W, 1), ()):
        with pytest.raises(ShapeError, match="row"):
            site.modulate(torch.randn(B, C, *positions), values)


def test_site_raises_for_another_width() -> None:
    site = Site("block.conv", C, Scale())
    with pytest.raises(ShapeError, match=r"site 'block.conv'.*3 features on axis 1.*has 4"):
        site.modulate(torch.randn(B, 4), {"gamma": torch.randn(C)})


def test_errors_show_the_expected_shapes() -> None:
    with pytest.raises(ShapeError) as caught:
        film(torch.randn(B, C, H, W), torch.randn(B, 4), None)
    message = str(caught.value)
    assert "gamma(2, 4)" in message and "x(2, 3, 4, 5)" in message
    assert "(3,), (2, 3), (2, 3, 4, 5) (any position may be 1)" in message


BAD_OPERATIONS: dict[str, tuple[Callable[[], Operation], str]] = {
    "unknown activation": (lambda: Scale("relu"), "activation"),
    "activation None": (lambda: Scale(None), "activation"),  # type: ignore[arg-type]
    "activation a list": (lambda: Scale(["exp"]), "activation"),  # type: ignore[arg-type]
    "raw with an activation": (lambda: Scale("exp", raw=True), "raw"),
    "raw a number": (lambda: Scale(raw=1), "raw"),  # type: ignore[arg-type]
    "ceiling zero": (lambda: Gate(0.0), "ceiling"),
    "ceiling negative": (lambda: Gate(-1.0), "ceiling"),
    "ceiling NaN": (lambda: Gate(float("nan")), "ceiling"),
    "ceiling infinite": (lambda: Gate(float("inf")), "ceiling"),
    "ceiling text": (lambda: Gate("2"), "ceiling"),  # type: ignore[arg-type]
    "rank zero": (lambda: LowRank(0), "rank"),
    "rank a float": (lambda: LowRank(1.5), "rank"),  # type: ignore[arg-type]
    "rank a boolean": (lambda: LowRank(True), "rank"),
}


@pytest.mark.parametrize("what", BAD_OPERATIONS)
def test_invalid_settings_of_operations_raise(what: str) -> None:
    make, word = BAD_OPERATIONS[what]
    with pytest.raises((OperationError, TypeCheckError), match=word):
        make()


def test_rank_beyond_the_width() -> None:
    with pytest.raises(OperationError, match="rank 4 exceeds the width 3"):
        LowRank(4)(torch.randn(B, C), {})


def test_row_column_needs_two_positions() -> None:
    with pytest.raises(ShapeError, match="two position axes"):
        Site("place", C, RowColumn()).parameters
    with pytest.raises(ShapeError, match="two position axes"):
        RowColumn()(torch.randn(B, C, H), {})


BAD_JSON = (
    None,
    [],
    "Affine",
    {},
    {"kind": "Nothing"},
    {"kind": ["Affine"]},
    {"kind": "Affine", "speed": 1},
    {"kind": "Gate", "ceiling": "high"},
    {"kind": "Operation"},
)


@pytest.mark.parametrize("data", BAD_JSON, ids=str)
def test_invalid_json_of_operations(data: Any) -> None:
    with pytest.raises((OperationError, TypeCheckError)):
        Operation.from_json(data)


def test_two_operations_of_one_name_raise() -> None:
    def define(module: str) -> type[Operation]:
        body = {"__module__": module, "parameters": Scale.parameters, "apply": Scale.apply}
        return type("Twofold", (Scale,), body)

    first = define("one")
    assert Operation.from_json({"kind": "Twofold"}) == first()
    again = define("one")  # a notebook cell run twice
    assert type(Operation.from_json({"kind": "Twofold"})) is again
    second = define("two")
    with pytest.raises(OperationError, match=r"one\.Twofold, two\.Twofold"):
        Operation.from_json({"kind": "Twofold"})
    assert second is not first
