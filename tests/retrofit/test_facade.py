"""A conditioned network has the attributes and the signature of its backbone."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from featurewise.generators import Learned, Linear, SqueezeExcite
from featurewise.retrofit import CallError, Conditioned, condition

Move = Callable[[Conditioned], Conditioned]
KEYWORD = inspect.Parameter.KEYWORD_ONLY


class Settings:
    width = 6


class Named(nn.Module):
    """A network with a detailed signature, attributes of several kinds, and methods."""

    _no_split_modules = ("Linear",)
    main_input_name = "x"

    def __init__(self) -> None:
        super().__init__()
        self.config = Settings()
        self.first = nn.Linear(6, 6)
        self.last = nn.Linear(6, 3)
        self._hook_of_somebody = object()

    def forward(
        self, x: Tensor, mask: Tensor | None = None, *, labels: Tensor | None = None, **rest: Any
    ) -> Tensor:
        assert not rest
        y: Tensor = self.last(torch.tanh(self.first(x)))
        return y if labels is None else (y - labels).square().mean()

    @property
    def device(self) -> torch.device:
        return self.first.weight.device

    @property
    def broken(self) -> int:
        return int(self.nowhere)

    def roll(self, x: Tensor, steps: int) -> Tensor:
        for _ in range(steps):
            x = torch.cat([self(x), self(x)], 1)
        return x

    def describe(self, word: str) -> str:
        return f"{word} {self.config.width}"

    def tell(self, *, task: str) -> str:
        return task

    def each(self, xs: list[Tensor]) -> Iterator[Tensor]:
        for x in xs:
            yield self(x)

    def _secret(self) -> str:
        return "secret"


class Positional(nn.Module):
    def forward(self, x: Tensor, /, scale: float = 1.0, *more: Tensor) -> Tensor:
        return x * scale


class ForQuestionAnswering(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)

    def forward(self, x: Tensor, start_positions: Any = None, end_positions: Any = None) -> Tensor:
        y: Tensor = self.first(x)
        return y


class Wrapper(nn.Module):
    """Like PEFT's wrapper: hides the signature, and returns the wrapped module."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner(*args, **kwargs)

    def get_base_model(self) -> nn.Module:
        return self.inner


def conditioned(move: Move, network: nn.Module | None = None, at: str = "**.first") -> Conditioned:
    return move(condition(network or Named(), at=at, generator=Linear(2)))


# --- the signature -------------------------------------------------------------------------------


def test_signature_is_the_backbones_and_ours(moved: Move) -> None:
    net = conditioned(moved)
    shown = inspect.signature(net.forward).parameters
    own = inspect.signature(net.backbone.forward).parameters
    assert list(shown) == ["x", "mask", "labels", "condition", "task", "rest"]
    assert all(shown[name] == own[name] for name in own)
    assert all(shown[name].kind is KEYWORD for name in ("condition", "task"))
    # Some look at the class.
    assert list(inspect.signature(type(net).forward).parameters)[1:] == list(shown)
    assert "labels" in inspect.signature(type(net).forward).parameters


def test_signature_of_an_unusual_backbone() -> None:
    net = condition(Positional(), at="", generator=Linear(2), example=torch.ones(2, 6))
    shown = inspect.signature(net.forward).parameters
    assert list(shown) == ["x", "scale", "more", "condition", "task"]
    assert net(torch.ones(2, 6), 3.0, condition=torch.ones(2, 2)).eq(3).all()


def test_signature_through_wrappers(moved: Move) -> None:
    net = conditioned(moved, Wrapper(Wrapper(Named())))
    assert list(inspect.signature(net.forward).parameters)[:2] == ["x", "mask"]
    inner = conditioned(moved)
    outer = condition(inner, at="backbone.last", generator=Linear(2))
    shown = inspect.signature(outer.forward).parameters
    assert list(shown) == ["x", "mask", "labels", "condition", "task", "rest"]


def test_a_hidden_signature_stays_hidden() -> None:
    class Hidden(nn.Linear):
        def forward(self, *args: Any) -> Any:
            return super().forward(*args)

    net = condition(nn.Sequential(Hidden(2, 2)), at="0", generator=Linear(2))
    assert list(inspect.signature(net.forward).parameters) == [
        "args",
        "condition",
        "task",
        "repeat",
        "rows",
        "kwargs",
    ]
    net = condition(Hidden(2, 2), at="", generator=Linear(2))
    assert list(inspect.signature(net.forward).parameters) == ["args", "condition", "task"]


def test_a_subclass_with_a_forward_of_its_own_shows_that() -> None:
    class Mine(Conditioned):
        def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
            y: Tensor = super().forward(x, condition=torch.zeros(2))
            return y

    made = condition(Named(), at="first", generator=Linear(2))
    net = Mine(made.remove(), made.generator, made.layout)
    assert type(net) is Mine
    assert list(inspect.signature(net.forward).parameters) == ["x"]
    assert net(torch.ones(2, 6)).shape == (2, 3)


def test_equal_backbones_share_a_class_that_is_a_conditioned(moved: Move) -> None:
    one, two = conditioned(moved), conditioned(moved)
    assert type(one) is type(two)
    assert isinstance(one, Conditioned)
    assert type(one) is not type(conditioned(moved, Wrapper(Named())))
    answers = condition(ForQuestionAnswering(), at="first", generator=Linear(2))
    assert "QuestionAnswering" in type(answers).__name__
    torch.func.stack_module_state([one, copy.deepcopy(one)])  # refuses unlike classes


@pytest.mark.parametrize(
    "again",
    [
        copy.copy,
        copy.deepcopy,
        lambda net: pickle.loads(pickle.dumps(net)),  # noqa: S301
        lambda net: pickle.loads(pickle.dumps(net, protocol=0)),  # noqa: S301
    ],
    ids=["copy", "deepcopy", "pickle", "pickle 0"],
)
def test_copies_and_pickles_show_the_same(moved: Move, again: Callable[[Any], Any]) -> None:
    net = conditioned(moved)
    made = again(net)
    assert type(made) is type(net)
    assert inspect.signature(made.forward) == inspect.signature(net.forward)
    x, z = torch.randn(4, 6), torch.randn(4, 2)
    assert torch.equal(made(x, condition=z), net(x, condition=z))
    assert made.config.width == 6
    assert torch.equal(made.roll(x, 1, condition=z), net.roll(x, 1, condition=z))


def test_a_whole_module_survives_torch_save(moved: Move) -> None:
    net = conditioned(moved)
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    again = torch.load(file, weights_only=False)
    x, z = torch.randn(4, 6), torch.randn(4, 2)
    assert torch.equal(again(x, condition=z), net(x, condition=z))


# --- attributes ----------------------------------------------------------------------------------


def test_attributes_are_the_backbones_as_a_last_resort(moved: Move) -> None:
    net = conditioned(moved)
    assert net.config is net.backbone.config
    assert net.first is net.backbone.first
    assert net.device == torch.device("cpu")
    assert net.main_input_name == "x"
    assert net._no_split_modules == ("Linear",)
    assert net.describe("width") == "width 6"
    assert net.layout.names == ("first",)  # our own come first


def test_hasattr_is_honest(moved: Move) -> None:
    net = conditioned(moved)
    assert hasattr(net, "roll")
    for name in ("generate", "broken", "_hook_of_somebody", "_secret", "__len__", "__iter__"):
        assert not hasattr(net, name), name


def test_missing_attributes_name_both(moved: Move) -> None:
    net = conditioned(moved)
    with pytest.raises(AttributeError, match="'Conditioned' object .* 'nope'.* a Named"):
        net.nope
    with pytest.raises(AttributeError, match="'broken'"):
        net.broken
    with pytest.raises(AttributeError, match="'Conditioned' object has no attribute 'config'$"):
        Conditioned.__new__(Conditioned).config


def test_settings_are_restored(moved: Move) -> None:
    net = conditioned(moved)
    net.note = 3
    assert net.note == 3
    assert not hasattr(net.backbone, "note")
    net.config = None
    assert net.config is None
    assert net.backbone.config is not None
    del net.config
    assert net.config is net.backbone.config


def test_what_the_backbone_has_can_be_registered_here_too(moved: Move) -> None:
    net = conditioned(moved)
    net.main_input_name = nn.Parameter(torch.ones(2))
    net.register_buffer("device", torch.ones(3))
    net.add_module("first", nn.Linear(2, 2))
    net.last = nn.Linear(3, 3)
    assert "main_input_name" in dict(net.named_parameters())
    assert {"device", "first.weight", "last.weight"} <= set(net.state_dict())
    assert net.last is not net.backbone.last
    with pytest.raises(KeyError, match="already exists"):
        net.register_buffer("layout", torch.ones(1))
    assert net.config is net.backbone.config


# --- methods -------------------------------------------------------------------------------------


def test_methods_that_run_the_backbone_are_conditioned(moved: Move) -> None:
    net = conditioned(moved)
    x, z = torch.randn(4, 6), torch.randn(4, 2)
    with net.using(condition=z):
        expected = net.backbone.roll(x, 2)
    assert not torch.allclose(expected, net.backbone.roll(x, 2))
    assert torch.equal(net.roll(x, 2, condition=z), expected)
    assert torch.equal(net.roll(x, steps=2, task=net.represent(z)), expected)
    with net.using(condition=z):
        assert torch.equal(net.roll(x, 2), expected)
    seen: dict[str, dict[str, Tensor]] = {}
    net.roll(x, 1, condition=z, record=seen)
    assert list(seen) == ["first"]


def test_a_method_without_a_condition_never_runs_plain(moved: Move) -> None:
    net = conditioned(moved)
    with pytest.raises(CallError, match=r"roll runs site 'first' .* net\.roll\(\.\.\., condition="):
        net.roll(torch.randn(4, 6), 1)
    # Nothing is left of it.
    assert net.backbone.roll(torch.randn(4, 6), 1).shape == (4, 6)


def test_a_method_needs_no_condition_where_the_generator_needs_none() -> None:
    net = condition(Named(), at="first", generator=Learned())
    with torch.no_grad():
        for parameter in net.generator.parameters():
            parameter.normal_()
    x = torch.randn(4, 6)
    with net.using():
        expected = net.backbone.roll(x, 1)
    assert torch.equal(net.roll(x, 1), expected)
    net.roll(x, 1).sum().backward()
    assert all(p.grad is not None for p in net.generator.parameters())


def test_a_method_with_a_local_generator() -> None:
    net = condition(Named(), at="first", generator=SqueezeExcite())
    for parameter in net.generator.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(4, 6)
    with net.using():
        expected = net.backbone.roll(x, 1)
    assert torch.equal(net.roll(x, 1), expected)


def test_a_methods_own_arguments_stay_its_own(moved: Move) -> None:
    assert conditioned(moved).tell(task="sort") == "sort"


def test_a_generator_method_is_refused(moved: Move) -> None:
    net = conditioned(moved)
    xs = [torch.randn(4, 6)]
    with pytest.raises(CallError, match="each is a generator or coroutine"):
        net.each(xs, condition=torch.randn(4, 2))
    with net.using(condition=torch.randn(4, 2)):
        assert len(list(net.each(xs))) == 1


def test_methods_after_removal(moved: Move) -> None:
    net = conditioned(moved)
    net.remove()
    with pytest.raises(CallError, match="removed"):
        net.roll(torch.randn(4, 6), 1)


# --- compilers, names ----------------------------------------------------------------------------


@pytest.mark.traced
def test_compiled_and_exported(moved: Move) -> None:
    net = conditioned(moved)
    x, z = torch.randn(4, 6), torch.randn(4, 2)
    expected = net(x, condition=z)
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    assert torch.equal(compiled(x, condition=z), expected)
    assert compiled.config is net.config
    exported = torch.export.export(net, (x,), {"condition": z})
    assert torch.allclose(exported.module()(x, condition=z), expected)
    rows = torch.export.Dim("rows", min=2)
    exported = torch.export.export(
        net,
        (),
        {"x": x, "condition": z},
        dynamic_shapes={"x": {0: rows}, "condition": {0: rows}},
    )
    assert torch.allclose(exported.module()(x=x, condition=z), expected)


@pytest.mark.traced
def test_a_method_inside_compiled_code(moved: Move) -> None:
    net = conditioned(moved)
    x, z = torch.randn(4, 6), torch.randn(4, 2)

    def run(x: Tensor, z: Tensor) -> Any:
        return net.roll(x, 1, condition=z) * net.config.width

    assert torch.allclose(torch.compile(run, backend="eager")(x, z), run(x, z))


def test_representation_and_name(moved: Move) -> None:
    net = conditioned(moved)
    assert repr(net).startswith("Conditioned(\n  1 sites, 12 parameters per condition\n")
    assert net._get_name() == "Named"  # by which trainers know how labels are to be shifted
