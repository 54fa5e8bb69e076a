"""Generators record their constructor arguments and are rebuilt from them."""

from __future__ import annotations

import copy
import gc
import inspect
import json
import pickle
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from featurewise.core import Affine, Gate, Layout, Operation, Site
from featurewise.generators import (
    MLP,
    AdaIN,
    ConcatEncoders,
    Configured,
    GatedGenerator,
    Generator,
    GeneratorError,
    Learned,
    Linear,
    Lookup,
    Recurrent,
    SqueezeExcite,
    from_config,
)
from featurewise.generators.config import RENAMED, difference

LAYOUT = Layout((Site("a", 4, Affine()), Site("b", 6, Affine())))


class Holder(Generator):
    """Accepts any arguments, stores them, and registers its modules."""

    def __init__(self, *parts: Any, extra: Any = 1.5, **more: Any) -> None:
        super().__init__(nn.ModuleList(p for p in parts if isinstance(p, nn.Module)), 3)
        self.parts, self.extra, self.more = parts, extra, more


class Grandchild(Linear):
    """A class that inherits its constructor."""


MADE: list[nn.Module] = [
    Linear(5),
    Grandchild(5),
    MLP(5, (4, 3)),
    MLP(5, hidden=[4], activation=nn.Tanh),
    Lookup(3),
    Recurrent(9, 4, 5),
    Recurrent(vocabulary=9, embedding=4, hidden=5, kind="lstm"),
    Learned(),
    SqueezeExcite(2),
    AdaIN(1e-4),
    Generator(nn.Tanh(), 3),
    Generator(nn.EmbeddingBag(7, 3, mode="sum"), 3),
    Generator(nn.Sequential(nn.Linear(7, 3, bias=False), nn.GELU("tanh"), nn.Dropout(0.2)), 3),
    Generator(Generator(Linear(2), 3), features=4),
    Holder(Linear(2), MLP(3), extra={"a": (1, None)}, more=[True, "x"]),
]


def ids(module: nn.Module) -> str:
    return type(module).__name__


@pytest.mark.parametrize("made", MADE, ids=ids)
def test_rebuilt_from_their_description(made: Any) -> None:
    made = copy.deepcopy(made)
    text = json.dumps(made.config(), allow_nan=False)
    again: Any = from_config(json.loads(text))
    assert type(again) is type(made)
    assert difference(made, again) is None
    assert json.dumps(again.config()) == text
    for module in (made, again):
        module.bind(LAYOUT)
    assert difference(made, again) is None
    assert made.config() == again.config() == json.loads(text)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        3,
        -0.0,
        "text",
        (1, (2,), [3]),
        {"a": {"b": (1,)}, "unknown": "x"},
        {"mapping": {"unknown": "x"}},
        float("inf"),
        Affine(),
        Gate(ceiling=1),
        Site("x", 3, Gate()),
        LAYOUT,
        torch.bfloat16,
        nn.GELU,
        Linear,
        [],
        {},
    ],
    ids=repr,
)
def test_arguments_keep_their_type(value: Any) -> None:
    for made in (Holder(extra=value), Holder(value), Holder(other=value)):
        again: Any = from_config(json.loads(json.dumps(made.config())))
        assert repr(again.extra) == repr(made.extra)
        assert repr(again.parts) == repr(made.parts)
        assert repr(again.more) == repr(made.more)


def test_only_the_shape_of_a_tensor_is_recorded() -> None:
    again: Any = from_config(Holder(extra=torch.ones(2, 3, dtype=torch.float16)).config())
    assert again.extra.shape == (2, 3) and again.extra.dtype == torch.float16
    assert not again.extra.any()


class Odd(nn.Module):
    """A class that is neither a generator nor in torch.nn."""

    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize(
    ("made", "match"),
    [
        (MLP(3, activation=lambda: nn.ReLU()), "activation is a function"),
        (Generator(Odd(), 3), "encoder is a Odd"),
        (Generator(nn.GRU(3, 3), 3), "encoder is a GRU"),
        (Generator(nn.Sequential(nn.Tanh(), Odd()), 3), r"encoder\[1\] is a Odd"),
        (Holder(Generator(Odd(), 3)), "encoder is a Odd"),
        (Holder(extra=[{1: 2}]), "extra has the key 1"),
        (Holder(extra={"deep": {3}}), r"extra\['deep'\] is a set"),
        (Holder(extra=Odd), "the class Odd"),
    ],
)
def test_arguments_that_cannot_be_described_are_named(made: Any, match: str) -> None:
    with pytest.raises(GeneratorError, match=match):
        made.config()


GOOD = {"kind": "Linear", "arguments": {"in_features": 3}}


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({}, "not a generator"),
        ({"kind": "Linear"}, "not a generator"),
        ({"kind": 3, "arguments": {}}, "not a generator"),
        (GOOD | {"kind": "Nothing"}, "known are .*Linear"),
        (GOOD | {"kind": "Module"}, "no generator 'Module'"),
        (GOOD | {"arguments": {}}, "in_features"),
        (GOOD | {"arguments": {"in_features": 3, "os": 1}}, "takes no 'os'"),
        (GOOD | {"arguments": {"in_features": 0}}, "at least 1"),
        (GOOD | {"arguments": {"in_features": {"eval": "1"}}}, "not an argument"),
        (GOOD | {"arguments": {"in_features": {"a": 1, "b": 2}}}, "not an argument"),
        (GOOD | {"arguments": {"in_features": {"dtype": "load"}}}, "no dtype 'load'"),
        (GOOD | {"arguments": {"in_features": {"class": "init"}}}, "no module 'init'"),
        (GOOD | {"arguments": {"in_features": {"generator class": "os"}}}, "no generator 'os'"),
        (
            GOOD | {"arguments": {"in_features": {"module": {"kind": "init", "arguments": {}}}}},
            "no module 'init'",
        ),
        (GOOD | {"arguments": {"in_features": {"tensor": {"shape": "x"}}}}, "not an argument"),
    ],
)
def test_bad_descriptions(config: Any, match: str) -> None:
    with pytest.raises(GeneratorError, match=match):
        from_config(config)


#: Descriptions as version 0.1 wrote them, with the name that the class had then.
OLD_NAMES: dict[str, tuple[nn.Module, dict[str, Any]]] = {
    "Damped": (
        GatedGenerator(Linear(6)),
        {
            "generator": {"generator": {"kind": "Linear", "arguments": {"in_features": 6}}},
            "start": 0.0,
        },
    ),
    "Joint": (
        ConcatEncoders({"floats": None}, {"floats": 6}),
        {
            "encoders": {"mapping": {"floats": None}},
            "features": {"mapping": {"floats": 6}},
        },
    ),
}


def test_every_old_name_has_a_description_here() -> None:
    assert OLD_NAMES.keys() == RENAMED.keys()


@pytest.mark.parametrize("name", OLD_NAMES)
def test_old_names_of_classes_can_be_read_and_new_ones_are_written(name: str) -> None:
    expected, arguments = OLD_NAMES[name]
    made: Any = from_config({"kind": name, "arguments": arguments})
    assert type(made) is type(expected)
    assert made.config() == {"kind": RENAMED[name], "arguments": arguments}
    assert from_config(made.config()).config() == made.config()
    outer = {"encoder": {"generator": {"kind": name, "arguments": arguments}}, "features": 3}
    nested: Any = from_config({"kind": "Generator", "arguments": outer})
    assert type(nested.encoder) is type(expected)


def test_a_class_of_the_user_with_an_old_name_comes_first() -> None:
    own = type("Joint", (Linear,), {"__module__": __name__})
    assert type(from_config({"kind": "Joint", "arguments": {"in_features": 2}})) is own
    del own
    gc.collect()  # so that no later test finds it


def test_two_classes_of_one_name() -> None:
    def make(place: str) -> type:
        body = {"__module__": place, "__init__": lambda self: Generator.__init__(self, None, 2)}
        return type("Twice", (Generator,), body)

    kept = [make("one"), make("two")]
    with pytest.raises(GeneratorError, match=r"several.*one\.Twice, two\.Twice"):
        from_config({"kind": "Twice", "arguments": {}})
    assert kept


def test_changes_after_construction_are_detected() -> None:
    made = MLP(3, (4,))
    again = from_config(made.config())
    assert isinstance(made.encoder, nn.Module)
    made.encoder.layers[1] = nn.Tanh()  # type: ignore[index, operator]
    assert "is Tanh, expected ReLU" in str(difference(made, again))
    style = AdaIN()
    style.eps = 1.0
    assert "eps=1.0" in str(difference(style, from_config(style.config())))
    wide = Linear(3)
    wide.bind(LAYOUT)
    assert "has layout=" in str(difference(wide, from_config(wide.config())))
    shared = Linear(2)
    twice, apart = Holder(shared, shared), Holder(Linear(2), Linear(2))
    for part in (shared, *apart.parts):
        part.bind(LAYOUT)
    assert difference(twice, apart) == "the modules share different tensors"


def test_survives_copies_and_keeps_the_signature() -> None:
    made = MLP(3, activation=nn.Tanh)
    for twin in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):  # noqa: S301
        assert twin.config() == made.config()
    assert list(inspect.signature(MLP).parameters) == ["in_features", "hidden", "activation"]
    with pytest.raises(TypeError, match="in_features"):
        MLP()  # type: ignore[call-arg]


def test_any_module_class_can_derive_from_configured() -> None:
    class Joins(Configured, nn.Module):
        def __init__(self, operations: Mapping[str, Operation]) -> None:
            super().__init__()
            self.operations = dict(operations)

    again: Any = from_config(Joins({"a": Gate()}).config())
    assert again.operations == {"a": Gate()}
