"""Properties of all wrappers of generators."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor, nn

from featurewise.core import (
    Affine,
    ArgumentTypeError,
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
    Bounded,
    ConditionError,
    GatedGenerator,
    Learned,
    Linear,
    Lookup,
    ParameterDropout,
    Recurrent,
    SqueezeExcite,
    spectral,
)
from featurewise.generators.wrapper import Wrapper

KIND = (ArgumentTypeError, TypeCheckError)
LAYOUT = Layout(
    (
        Site("a", 3, Affine()),
        Site("b", 2, Shift()),
        Site("c", 2, Affine(raw=True)),
        Site("d", 4, Scale()),
    )
)
Wrap = Callable[[nn.Module], Wrapper]
WRAPS: dict[str, Wrap] = {
    "damped": GatedGenerator,
    "dropout": lambda g: ParameterDropout(g, 0.5),
    "bounded": lambda g: Bounded(g, gamma=(0.2, 3.0), beta=(-1.0, 0.5)),
    "spectral": spectral,
    "all": lambda g: Bounded(
        ParameterDropout(GatedGenerator(spectral(g)), 0.5), gamma=(0.2, 3.0), beta=(-1.0, 0.5)
    ),
}
each_wrap = pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
GENERATORS: dict[str, tuple[Callable[[], nn.Module], Any]] = {
    "linear": (lambda: Linear(5), torch.randn(4, 5)),
    "linear shared": (lambda: Linear(5), torch.randn(5)),
    "linear positions": (lambda: Linear(5), torch.randn(4, 5, 2, 3)),
    "mlp": (lambda: MLP(5, (6, 7)), torch.randn(4, 5)),
    "lookup": (lambda: Lookup(3), torch.tensor([2, 0])),
    "learned": (Learned, None),
    "recurrent": (lambda: Recurrent(9, 3, 4), torch.tensor([[1, 2, 0], [3, 4, 5]])),
}


def moved(wrapper: Wrapper) -> Wrapper:
    """A bound wrapper, all parameters not at the identity."""
    wrapper.bind(LAYOUT)
    with torch.no_grad():
        for parameter in wrapper.parameters():
            parameter.normal_()
    return wrapper


HEADLESS = ("lookup", "learned")  # no head whose spectral norm could be limited
PAIRS = [
    pytest.param(wrap, *made, id=f"{how}-{what}")
    for how, wrap in WRAPS.items()
    for what, made in GENERATORS.items()
    if not (how in ("spectral", "all") and what in HEADLESS)
]


@pytest.mark.parametrize(("wrap", "make", "condition"), PAIRS)
def test_starts_at_the_identity(wrap: Wrap, make: Callable[[], nn.Module], condition: Any) -> None:
    generator = wrap(make())
    generator.bind(LAYOUT)
    for training in (True, False):
        flat = generator.train(training)(condition)
        rows, rest = flat.shape[: flat.ndim > 1], flat.shape[2:]
        start = LAYOUT.start().reshape(-1, *(1,) * len(rest)).expand(*rows, LAYOUT.size, *rest)
        assert torch.equal(flat, start)


@each_wrap
def test_gradients_in_the_first_steps(wrap: Wrap) -> None:
    """Some parameter has a gradient in the first step, and the head after two steps."""
    generator = wrap(Linear(5))
    generator.bind(LAYOUT)
    target, z = torch.randn(64, LAYOUT.size), torch.randn(64, 5)
    optimiser = torch.optim.SGD(generator.parameters(), 0.5)
    for _ in range(3):
        optimiser.zero_grad()
        (generator(z) - target).square().mean().backward()
        optimiser.step()
    assert generator.head is not None
    assert all(p.grad is not None and p.grad.any() for p in generator.parameters())


@each_wrap
def test_conditions_and_the_head_pass_through(wrap: Wrap) -> None:
    inner = Linear(5)
    generator = wrap(inner)
    assert generator.head is None
    generator.bind(LAYOUT)
    assert generator.head is inner.head
    with pytest.raises(ConditionError, match="Linear needs a condition"):
        generator()


@each_wrap
def test_binding_again(wrap: Wrap) -> None:
    generator = moved(wrap(Linear(5))).eval()
    z = torch.randn(2, 5)
    before = generator(z)
    generator.bind(Layout(LAYOUT.sites))
    assert torch.equal(generator(z), before)
    with pytest.raises(LayoutError, match="bound to"):
        generator.bind(Layout((Site("a", 3, Affine()),)))
    with pytest.raises(LayoutError, match="bind"):
        wrap(Linear(5))(z)


@each_wrap
def test_a_trained_generator_keeps_its_parameters(wrap: Wrap) -> None:
    inner = Linear(5)
    inner.bind(LAYOUT)
    assert inner.head is not None
    nn.init.normal_(inner.head.weight)
    weight = inner.head.weight
    before = weight.detach().clone()
    generator = wrap(inner)
    generator.bind(LAYOUT)
    assert generator.head is not None
    assert generator.head.weight is weight
    assert torch.equal(weight, before)


@each_wrap
def test_copies_and_pickles(wrap: Wrap) -> None:
    generator = moved(wrap(MLP(5, (6,)))).eval()
    z = torch.randn(2, 5)
    for twin in (copy.deepcopy(generator), pickle.loads(pickle.dumps(generator))):  # noqa: S301
        assert torch.equal(twin(z), generator(z))
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter.zero_()
        assert not torch.equal(twin(z), generator(z))


@each_wrap
def test_state_round_trip(wrap: Wrap) -> None:
    generator = moved(wrap(Linear(5))).train()
    z = torch.randn(2, 5)
    generator(z)
    twin = wrap(Linear(5))
    twin.bind(LAYOUT)
    twin.load_state_dict(generator.state_dict())
    assert torch.equal(twin.eval()(z), generator.eval()(z))


@each_wrap
def test_under_vmap_and_functional_call(wrap: Wrap) -> None:
    generator = moved(wrap(Linear(5)))
    z = torch.randn(3, 5)
    generator.train()
    torch.func.vmap(generator, randomness="different")(z)
    generator.eval()
    torch.testing.assert_close(torch.func.vmap(generator)(z), generator(z))

    def loss(parameters: dict[str, Tensor], z: Tensor) -> Tensor:
        return torch.func.functional_call(generator, parameters, (z,)).square().sum()

    parameters = {name: p.detach() for name, p in generator.named_parameters()}
    generator.train()
    torch.func.vmap(torch.func.grad(loss), (None, 0), randomness="different")(parameters, z)
    generator.eval()
    rows = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, z)
    for i in range(3):
        for name, g in torch.func.grad(loss)(parameters, z[i]).items():
            torch.testing.assert_close(rows[name][i], g, rtol=1e-4, atol=1e-4)


@pytest.mark.traced
@each_wrap
def test_compiled(wrap: Wrap) -> None:
    generator = moved(wrap(Linear(5)))
    compiled = torch.compile(generator, fullgraph=True, backend="aot_eager")
    z = torch.randn(3, 5)
    generator.train()
    compiled(z).square().sum().backward()
    generator.eval()
    found = compiled(z)
    torch.testing.assert_close(found, generator(z))
    with torch.compiler.set_stance("fail_on_recompile"):
        for _ in range(2):
            z = torch.randn(3, 5)
            torch.testing.assert_close(compiled(z), generator(z))


class NoArgument(nn.Module):
    def forward(self) -> TaskRepresentation:
        return TaskRepresentation.identity(LAYOUT)


def test_any_module_can_be_wrapped() -> None:
    generator = ParameterDropout(NoArgument())
    generator.bind(LAYOUT)
    assert torch.equal(generator(), LAYOUT.start())
    generator = Bounded(nn.Linear(2, LAYOUT.size), gamma=(0.5, 2.0))
    generator.bind(LAYOUT)
    assert generator(torch.randn(3, 2)).shape == (3, LAYOUT.size)
    with pytest.raises(ConditionError, match="Linear needs a condition"):
        generator()


@each_wrap
@pytest.mark.parametrize("inner", [None, Linear, SqueezeExcite()])
def test_wrong_generators(wrap: Wrap, inner: Any) -> None:
    with pytest.raises(KIND, match="generator"):
        wrap(inner)


def test_a_generator_of_another_size() -> None:
    generator = ParameterDropout(nn.Linear(2, 7))
    generator.bind(LAYOUT)
    with pytest.raises(ShapeError, match="flat"):
        generator(torch.randn(3, 2))
