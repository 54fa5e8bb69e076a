"""All generators: initial state, binding, rows, positions, gradients, state, wrong inputs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from featurewise.core import (
    Affine,
    ArgumentTypeError,
    FeaturewiseError,
    Gate,
    Layout,
    LayoutError,
    Scale,
    ShapeError,
    Shift,
    Site,
    TaskRepresentation,
)
from featurewise.generators import (
    MLP,
    ConditionError,
    Generator,
    GeneratorError,
    Head,
    Learned,
    Linear,
    LocalGenerator,
    Lookup,
    Recurrent,
    flat_parameters,
)

KIND = (ArgumentTypeError, TypeCheckError)

LAYOUT = Layout(
    (
        Site("stem.conv", 3, Affine()),
        Site("stem_conv", 2, Scale("softplus")),
        Site("head", 4, Affine(raw=True)),
        Site("gate", 2, Gate()),
    )
)
OTHER = Layout((Site("stem.conv", 3, Shift()),))

ZOO: dict[str, tuple[Callable[[], Generator], Callable[[int], Any]]] = {
    "encoded": (lambda: Generator(nn.Sequential(nn.Linear(5, 6), nn.Tanh()), 6), lambda b: _z(b)),
    "linear": (lambda: Linear(5), lambda b: _z(b)),
    "mlp": (lambda: MLP(5, (7, 6), nn.Tanh), lambda b: _z(b)),
    "lookup": (lambda: Lookup(4), lambda b: torch.arange(b) % 4),
    "gru": (lambda: Recurrent(9, 3, 6), lambda b: _words(b)),
    "lstm": (lambda: Recurrent(9, 3, 6, "lstm"), lambda b: _words(b)),
}


def _z(batch: int) -> Tensor:
    return torch.randn(batch, 5, generator=torch.Generator().manual_seed(1))


def _words(batch: int) -> Tensor:
    tokens = torch.randint(1, 9, (batch, 6), generator=torch.Generator().manual_seed(2))
    lengths = 1 + torch.arange(batch) * 5 % 6
    return tokens.where(torch.arange(6) < lengths.unsqueeze(1), 0)


def _bound(make: Callable[[], Generator], layout: Layout = LAYOUT) -> Generator:
    generator = make()
    generator.bind(layout)
    return generator


def _trained(make: Callable[[], Generator]) -> Generator:
    """A bound generator, not in its initial state."""
    generator = _bound(make)
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.5)
    return generator


@pytest.fixture(params=ZOO)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class TestEveryGenerator:
    def test_every_condition_starts_as_the_identity(self, kind: str) -> None:
        make, conditions = ZOO[kind]
        flat = _bound(make)(conditions(4))
        assert torch.equal(flat, LAYOUT.start().expand(4, -1))

    def test_trained_generators_depend_on_the_condition(self, kind: str) -> None:
        make, conditions = ZOO[kind]
        flat = _trained(make)(conditions(4))
        assert flat.shape == (4, LAYOUT.size)
        assert all((flat[i] - flat[j]).abs().max() > 1e-3 for i in range(4) for j in range(i))

    def test_rows_of_a_batch_are_independent(self, kind: str) -> None:
        make, conditions = ZOO[kind]
        generator, batch = _trained(make), conditions(4)
        flat = generator(batch)
        for i in range(4):
            torch.testing.assert_close(flat[i : i + 1], generator(batch[i : i + 1]))

    def test_binding_to_an_equal_layout_again_has_no_effect(self, kind: str) -> None:
        generator = _trained(ZOO[kind][0])
        before = [(p, p.clone()) for p in generator.parameters()]
        generator.bind(Layout(LAYOUT.sites))
        assert all(p is q for (p, _), q in zip(before, generator.parameters(), strict=True))
        assert all(torch.equal(p, old) for p, old in before)

    def test_another_layout_raises(self, kind: str) -> None:
        generator = _bound(ZOO[kind][0])
        with pytest.raises(LayoutError, match=r"stem\.conv.*make a new one"):
            generator.bind(OTHER)

    def test_unbound_generators_raise(self, kind: str) -> None:
        make, conditions = ZOO[kind]
        with pytest.raises(LayoutError, match="bind"):
            make()(conditions(2))

    def test_a_missing_condition_raises(self, kind: str) -> None:
        with pytest.raises((FeaturewiseError, TypeCheckError), match="None"):
            _bound(ZOO[kind][0])(None)

    @pytest.mark.parametrize("layout", ["conv", None, (), LAYOUT.sites])
    def test_binding_anything_but_a_layout_raises(self, kind: str, layout: Any) -> None:
        with pytest.raises(KIND, match="layout"):
            ZOO[kind][0]().bind(layout)

    def test_an_empty_layout_raises(self, kind: str) -> None:
        with pytest.raises(LayoutError, match="no parameters"):
            ZOO[kind][0]().bind(Layout(()))

    def test_state_round_trip(self, kind: str) -> None:
        make, conditions = ZOO[kind]
        generator, twin = _trained(make), _bound(make)
        twin.load_state_dict(generator.state_dict(), strict=True)
        assert torch.equal(generator(conditions(3)), twin(conditions(3)))
        assert list(twin.state_dict()) == list(generator.state_dict())

    def test_a_deep_copy_is_independent(self, kind: str) -> None:
        make, conditions = ZOO[kind]
        generator = _trained(make)
        twin = copy.deepcopy(generator)
        before = generator(conditions(3))
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter.zero_()
        assert torch.equal(before, generator(conditions(3)))
        assert twin.layout == generator.layout

    def test_every_parameter_gets_a_gradient(self, kind: str) -> None:
        make, conditions = ZOO[kind]
        generator = _trained(make)
        generator(conditions(4)).sin().sum().backward()
        for name, parameter in generator.named_parameters():
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name

    def test_gradients_to_second_order(self, kind: str) -> None:
        make, conditions = ZOO[kind]
        generator = _trained(make).double()
        condition = conditions(3)
        if condition.is_floating_point():
            condition = condition.double()
        names, values = zip(*generator.named_parameters(), strict=True)

        def run(*parameters: Tensor) -> Tensor:
            named = dict(zip(names, parameters, strict=True))
            return torch.func.functional_call(generator, named, (condition,))

        # Random projections of the Jacobians; test_gru.py checks the recurrence entry by entry.
        assert gradcheck(run, values, fast_mode=True)
        assert gradgradcheck(run, values, fast_mode=True)

    def test_half_precision(self, kind: str) -> None:
        make, conditions = ZOO[kind]
        generator = _trained(make)
        with torch.autocast("cpu", torch.bfloat16):
            half = generator(conditions(4))
        torch.testing.assert_close(
            half.float(), generator(conditions(4)), rtol=0.05, atol=0.05, check_dtype=False
        )


class TestHead:
    def test_reset_restores_the_start_values_without_random_numbers(self) -> None:
        state = torch.get_rng_state()
        head = Head(7, LAYOUT)
        with torch.no_grad():
            head.weight.fill_(3.0)
            head.bias.fill_(3.0)
        head.reset_parameters()
        assert torch.equal(head.weight, torch.zeros(LAYOUT.size, 7))
        assert torch.equal(head.bias, LAYOUT.start())
        assert torch.equal(state, torch.get_rng_state())

    def test_follows_dtype_and_device_of_the_encoder(self) -> None:
        generator = Generator(nn.Linear(3, 4).double(), 4)
        generator.bind(LAYOUT)
        assert generator.head is not None and generator.head.weight.dtype == torch.float64
        on_meta = Generator(nn.Linear(3, 4, device="meta"), 4)
        on_meta.bind(LAYOUT)
        assert on_meta.head is not None and on_meta.head.weight.is_meta


class TestPositions:
    @given(
        shape=st.lists(st.integers(1, 4), min_size=0, max_size=3),
        batch=st.integers(0, 4),
        features=st.integers(1, 5),
    )
    def test_every_position_has_its_own_condition(
        self, shape: list[int], batch: int, features: int
    ) -> None:
        generator = Linear(features)
        generator.bind(LAYOUT)
        assert generator.head is not None
        nn.init.normal_(generator.head.weight)
        z = torch.randn(batch, features, *shape)
        flat = generator(z)
        assert flat.shape == (batch, LAYOUT.size, *shape)
        expected = torch.einsum("nf,bf...->bn...", generator.head.weight, z)
        bias = generator.head.bias.reshape(-1, *(1 for _ in shape))
        torch.testing.assert_close(flat, expected + bias)

    def test_a_single_condition(self) -> None:
        for generator in (Linear(5), MLP(5)):
            generator.bind(LAYOUT)
            assert generator(torch.randn(5)).shape == (LAYOUT.size,)

    def test_mlp_over_positions(self) -> None:
        generator = _trained(ZOO["mlp"][0])
        z = torch.randn(2, 5, 3)
        flat = generator(z)
        for t in range(3):
            torch.testing.assert_close(flat[..., t], generator(z[..., t]))


WRONG_CONDITIONS: list[tuple[str, Any, type[Exception], str]] = [
    ("list", [[0.0] * 5], ArgumentTypeError, "must be a tensor"),
    ("string", "red cube", ArgumentTypeError, "must be a tensor"),
    ("number", 3.0, ArgumentTypeError, "must be a tensor"),
    ("tuple", (torch.zeros(2, 5),), ArgumentTypeError, "must be a tensor"),
    ("integers", torch.zeros(2, 5, dtype=torch.int64), ArgumentTypeError, "floating point"),
    ("booleans", torch.zeros(2, 5, dtype=torch.bool), ArgumentTypeError, "floating point"),
    ("complex", torch.zeros(2, 5, dtype=torch.complex64), ArgumentTypeError, "floating point"),
    ("double", torch.zeros(2, 5, dtype=torch.float64), ArgumentTypeError, "float64"),
    ("half", torch.zeros(2, 5, dtype=torch.float16), ArgumentTypeError, "float16"),
    ("device", torch.zeros(2, 5, device="meta"), ArgumentTypeError, "meta"),
    ("scalar", torch.tensor(1.0), ShapeError, r"\(B, 5\)"),
    ("narrow", torch.zeros(2, 4), ShapeError, r"\(2, 4\)"),
    ("wide", torch.zeros(2, 6), ShapeError, r"\(2, 6\)"),
    ("features last", torch.zeros(2, 3, 5), ShapeError, r"\(2, 3, 5\)"),
    ("transposed", torch.zeros(5, 2), ShapeError, r"\(5, 2\)"),
    ("narrow vector", torch.zeros(4), ShapeError, r"\(4,\)"),
    ("empty", torch.zeros(0), ShapeError, r"\(0,\)"),
]


@pytest.mark.parametrize("kind", ["linear", "mlp"])
@pytest.mark.parametrize(
    ("condition", "error", "words"),
    [w[1:] for w in WRONG_CONDITIONS],
    ids=[w[0] for w in WRONG_CONDITIONS],
)
def test_wrong_conditions(kind: str, condition: Any, error: type[Exception], words: str) -> None:
    # The run-time shape checks of the tests may raise first, with another message.
    with pytest.raises((error, TypeCheckError)) as caught:
        _bound(ZOO[kind][0])(condition)
    if not isinstance(caught.value, TypeCheckError):
        assert caught.match(words) and caught.match("condition")


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Generator("encoder", 3), KIND, "encoder"),
        (lambda: Generator(torch.tanh, 3), KIND, "encoder"),
        (lambda: Generator(nn.Linear, 3), KIND, "encoder"),
        (lambda: Generator(None, 0), GeneratorError, "features"),
        (lambda: Generator(None, -1), GeneratorError, "features"),
        (lambda: Generator(None, True), KIND, "features"),
        (lambda: Generator(None, 2.0), KIND, "features"),
        (lambda: Generator(None, None), KIND, "features"),
        (lambda: Linear(0), GeneratorError, "in_features"),
        (lambda: Linear(-2), GeneratorError, "in_features"),
        (lambda: Linear("5"), KIND, "in_features"),
        (lambda: Linear(1.5), KIND, "in_features"),
        (lambda: Linear(None), KIND, "in_features"),
        (lambda: Linear(False), KIND, "in_features"),
        (lambda: MLP(0), GeneratorError, "in_features"),
        (lambda: MLP(True), KIND, "in_features"),
        (lambda: MLP(3.0), KIND, "in_features"),
        (lambda: MLP(3, ()), GeneratorError, "hidden"),
        (lambda: MLP(3, (0,)), GeneratorError, "hidden"),
        (lambda: MLP(3, (4, -1)), GeneratorError, "hidden"),
        (lambda: MLP(3, (4, 1.5)), KIND, "hidden"),
        (lambda: MLP(3, 4), KIND, "hidden"),
        (lambda: MLP(3, "ab"), KIND, "hidden"),
        (
            lambda: MLP(3, (4,), torch.tanh),
            (ArgumentTypeError, TypeError),
            "activation|missing|input",
        ),
        (lambda: MLP(3, (4,), "relu"), KIND, "activation"),
        (lambda: MLP(3, (4,), lambda: None), KIND, "activation"),
    ],
)
def test_wrong_settings(make: Callable[[], Any], error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize(
    ("features", "error", "words"),
    [
        (torch.zeros(2, 4), ShapeError, "features of the encoder"),
        (torch.zeros(2, 6, dtype=torch.int64), ArgumentTypeError, "floating point"),
        ("features", ArgumentTypeError, "must be a tensor"),
        (None, ArgumentTypeError, "must be a tensor"),
        ((torch.zeros(2, 6),), ArgumentTypeError, "must be a tensor"),
    ],
)
def test_an_encoder_that_returns_something_else(
    features: Any, error: type[Exception], words: str
) -> None:
    class Odd(nn.Module):
        def forward(self, condition: Any) -> Any:
            return features

    generator = Generator(Odd(), 6)
    generator.bind(LAYOUT)
    with pytest.raises(error, match=words):
        generator(torch.zeros(2, 6))


class TestFlatParameters:
    def test_takes_tensors_and_task_representations(self) -> None:
        flat = torch.randn(3, LAYOUT.size)
        assert flat_parameters(flat, LAYOUT) is flat
        assert flat_parameters(TaskRepresentation(LAYOUT, flat), LAYOUT) is flat

    @pytest.mark.parametrize(
        ("output", "error"),
        [
            (torch.zeros(2, 3), ShapeError),
            (torch.tensor(0.0), ShapeError),
            (TaskRepresentation.identity(OTHER), LayoutError),
            ({"gamma": torch.zeros(3)}, ArgumentTypeError),
            ((torch.zeros(LAYOUT.size),), ArgumentTypeError),
            (None, ArgumentTypeError),
        ],
    )
    def test_other_outputs_raise(self, output: Any, error: type[Exception]) -> None:
        with pytest.raises(error):
            flat_parameters(output, LAYOUT)


class TestLearned:
    def test_all_samples_share_one_vector(self) -> None:
        learned = Learned()
        learned.bind(LAYOUT)
        assert torch.equal(learned(), LAYOUT.start())
        assert torch.equal(learned(None), LAYOUT.start())
        learned().square().sum().backward()
        assert learned.vector is not None and learned.vector.grad is not None
        assert [*learned.state_dict()] == ["vector"]

    def test_state_round_trip(self) -> None:
        learned, twin = Learned(), Learned()
        for each in (learned, twin):
            each.bind(LAYOUT)
        assert learned.vector is not None
        nn.init.normal_(learned.vector)
        twin.load_state_dict(learned.state_dict())
        assert torch.equal(learned(), twin())

    @pytest.mark.parametrize(
        "condition",
        [
            0,
            1.0,
            True,
            "",
            "red",
            [],
            [0],
            (),
            {},
            {"a": 1},
            torch.zeros(2),
            torch.tensor(1),
            torch.zeros(2, 5),
            object(),
            LAYOUT,
        ],
    )
    def test_takes_no_condition(self, condition: Any) -> None:
        learned = Learned()
        learned.bind(LAYOUT)
        with pytest.raises(ConditionError, match="no condition"):
            learned(condition)

    def test_binds_once(self) -> None:
        learned = Learned()
        with pytest.raises(LayoutError, match="bind"):
            learned()
        learned.bind(LAYOUT)
        with pytest.raises(LayoutError):
            learned.bind(OTHER)


def test_local_generator_is_abstract() -> None:
    with pytest.raises(TypeError, match="abstract"):
        LocalGenerator()  # type: ignore[abstract]
