"""The contract of ``condition`` in plain eager use."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from jaxtyping import TypeCheckError
from torch import Tensor, nn

from featurewise.core import (
    Affine,
    ArgumentTypeError,
    Gate,
    Layout,
    LayoutError,
    LowRank,
    Operation,
    OperationError,
    RowColumn,
    Scale,
    ShapeError,
    Shift,
    Site,
    TaskRepresentation,
    film,
)
from featurewise.generators import Learned, Linear, LocalGenerator
from featurewise.layers.film import FiLM
from featurewise.retrofit import CallError, Conditioned, SiteWarning, condition
from featurewise.training.hardware import computes_bfloat16

Move = Callable[[Conditioned], Conditioned]
KIND = (ArgumentTypeError, TypeCheckError)  # whichever checks first
OPERATIONS: list[Operation] = [
    Shift(),
    Scale(),
    Affine(),
    Gate(),
    Affine(activation="exp"),
    RowColumn(),
    LowRank(2),
]


def images(count: int = 4) -> Tensor:
    return torch.randn(count, 3, 6, 6)


# --- identity and removal ------------------------------------------------------------------------


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
@pytest.mark.parametrize("when", ["output", "input"])
@pytest.mark.parametrize("training", [False, True])
def test_identity_initially_and_after_removal(
    convnet: nn.Module, operation: Operation, when: str, training: bool
) -> None:
    twin = copy.deepcopy(convnet).train(training)
    convnet.train(training)
    x = images()
    net = condition(
        convnet,
        at="blocks.*.bn",
        operation=operation,
        generator=Linear(7),
        example=x,
        when=when,
    )
    assert torch.equal(net(x, condition=torch.randn(4, 7)), twin(x))
    assert net.remove() is convnet
    assert torch.equal(convnet(x), twin(x))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in convnet.modules())


def test_state_dict_keys_and_code_are_untouched(convnet: nn.Module) -> None:
    keys, modules = list(convnet.state_dict()), dict(convnet.named_modules())
    net = condition(convnet, at="blocks.*.bn", generator=Linear(7))
    assert list(net.backbone.state_dict()) == keys
    assert dict(net.backbone.named_modules()) == modules
    expected = {f"backbone.{key}" for key in keys}
    assert set(net.state_dict()) == expected | {"generator.head.weight", "generator.head.bias"}


def test_state_dict_carries_everything(moved: Move, convnet: nn.Module) -> None:
    make = lambda: condition(copy.deepcopy(convnet), at="blocks.*.bn", generator=Linear(7))  # noqa: E731
    first, second = moved(make()).eval(), make().eval()
    x, z = images(), torch.randn(4, 7)
    assert not torch.equal(first(x, condition=z), second(x, condition=z))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(x, condition=z), second(x, condition=z))


def test_operation_without_identity_is_refused(convnet: nn.Module) -> None:
    with pytest.raises(OperationError, match=r"Gate\(ceiling=1.0\) at site 'stem' has no identity"):
        condition(convnet, at="stem", operation=Gate(1.0), generator=Linear(7))
    net = condition(convnet, at="stem", operation=Gate(1.0), generator=Linear(7), identity=False)
    assert len(net.layout) == 1


def test_removed_network_says_so(convnet: nn.Module) -> None:
    net = condition(convnet, at="stem", generator=Linear(7))
    net.remove()
    with pytest.raises(CallError, match="removed"):
        net(images(), condition=torch.randn(4, 7))


# --- the arithmetic ------------------------------------------------------------------------------


class ByHand(nn.Module):
    """The convolutional network of the fixtures with FiLM written into its forward."""

    def __init__(self, net: nn.Module, film_before_norm: bool) -> None:
        super().__init__()
        self.net, self.before = net, film_before_norm

    def forward(self, x: Tensor, flat: Tensor) -> Tensor:
        x = self.net.stem(x)
        for i, block in enumerate(self.net.blocks):
            at = flat[..., 16 * i : 16 * (i + 1)]
            gamma, beta = 1 + at[..., :8], at[..., 8:]
            y = block.conv(x)
            y = block.bn(film(y, gamma, beta)) if self.before else film(block.bn(y), gamma, beta)
            x = torch.relu(y + x)
        return self.net.head(x.mean((2, 3)))


@pytest.mark.parametrize("when", ["output", "input"])
@pytest.mark.parametrize("shape", [(48,), (4, 48)])
def test_values_and_gradients_equal_film_by_hand(
    convnet: nn.Module, when: str, shape: tuple[int, ...]
) -> None:
    convnet.double()
    byhand = ByHand(copy.deepcopy(convnet), when == "input")
    net = condition(convnet, at="blocks.*.bn", generator=Learned(), when=when)
    x, flat = images().double(), torch.randn(shape, dtype=torch.double)
    mine, theirs = flat.clone().requires_grad_(), flat.clone().requires_grad_()
    y, expected = net(x, task=mine), byhand(x, theirs)
    torch.testing.assert_close(y, expected)
    y.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad)
    for (name, p), q in zip(convnet.named_parameters(), byhand.net.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, msg=name)


def test_rows_of_a_mixed_batch_equal_rows_alone(moved: Move, convnet: nn.Module) -> None:
    net = moved(condition(convnet.double().eval(), at="blocks.*.bn", generator=Linear(7))).double()
    x, z = images().double(), torch.randn(4, 7).double()
    mixed = net(x, condition=z)
    for i in range(4):
        torch.testing.assert_close(net(x[i : i + 1], condition=z[i : i + 1]), mixed[i : i + 1])


def test_trap_13_in_place_neighbours_stay_right(moved: Move, convnet: nn.Module) -> None:
    """``y += x`` and ``ReLU(inplace=True)`` follow the sites; gradients by finite differences."""
    net = moved(condition(convnet.eval(), at="blocks.*.bn", generator=Linear(7))).double()
    x, z = images(2).double(), torch.randn(2, 7, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: net(x, condition=z), (z,))


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_gradients_at_inplace_relu_itself(operation: Operation) -> None:
    network = nn.Sequential(nn.Conv2d(2, 4, 1), nn.ReLU(inplace=True), nn.Conv2d(4, 1, 1)).double()
    for when in ("input", "output"):
        x = torch.randn(2, 2, 3, 3, dtype=torch.double)
        net = condition(
            network, at="1", operation=operation, generator=Learned(), when=when, example=x
        )
        flat = torch.randn(net.layout.size, dtype=torch.double, requires_grad=True)
        assert torch.autograd.gradcheck(lambda flat, net=net, x=x: net(x, task=flat), (flat,))
        net.remove()


def test_batch_norm_counts_and_freezes_as_usual(moved: Move, convnet: nn.Module) -> None:
    convnet.blocks[1].bn.eval()
    twin, x = copy.deepcopy(convnet), images()
    net = condition(convnet, at="blocks.*.bn", generator=Linear(7))
    net(x, condition=torch.randn(4, 7))
    twin(x)
    for key, value in convnet.state_dict().items():
        assert torch.equal(value, twin.state_dict()[key]), key


def test_channels_last_is_kept(moved: Move, convnet: nn.Module) -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).to(
        memory_format=torch.channels_last
    )
    net = moved(condition(network, at="1", generator=Linear(7)))
    y = net(images().to(memory_format=torch.channels_last), condition=torch.randn(4, 7))
    assert y.is_contiguous(memory_format=torch.channels_last)


# --- arguments of a call --------------------------------------------------------------------------


def test_task_and_condition_agree(moved: Move, convnet: nn.Module) -> None:
    net = moved(condition(convnet.eval(), at="blocks.*.bn", generator=Linear(7)))
    x, z = images(), torch.randn(4, 7)
    task = net.represent(z)
    assert isinstance(task, TaskRepresentation) and task.layout is net.layout
    expected = net(x, condition=z)
    assert torch.equal(net(x, task=task), expected)
    assert torch.equal(net(x, task=task.flat), expected)
    with net.using(task=task):
        assert torch.equal(net.backbone(x), expected)
        assert torch.equal(net(x), expected)
    assert torch.equal(net.backbone(x), net.remove()(x))


def test_nothing_given(convnet: nn.Module) -> None:
    net = condition(convnet, at="stem", generator=Linear(7))
    for call in (lambda: net(images()), net.represent, lambda: net.using().__enter__()):
        with pytest.raises(CallError, match="Linear needs a condition"):
            call()
    with pytest.raises(CallError, match="not both"):
        net(images(), condition=torch.randn(4, 7), task=net.layout.start())


def test_generators_that_need_no_condition(convnet: nn.Module) -> None:
    net = condition(convnet, at="stem", generator=Learned())
    with torch.no_grad():
        net.generator.vector += 1.0
    x = images()
    assert torch.equal(net(x), net(x, task=net.generator.vector))
    assert not torch.equal(net(x), convnet(x))


def test_wrong_tasks(convnet: nn.Module) -> None:
    net = condition(convnet, at="stem", generator=Linear(7))
    other = Layout((Site("elsewhere", 8, Affine()),))
    with pytest.raises(LayoutError, match="other sites: elsewhere; this network has stem"):
        net(images(), task=TaskRepresentation.identity(other))
    with pytest.raises(KIND, match="TaskRepresentation or a flat tensor, got list|'task'"):
        net(images(), task=[0.0])
    with pytest.raises(ShapeError, match=r"expected flat \(16,\)"):
        net(images(), task=torch.zeros(4, 17))


def test_wrong_batch_names_the_site(convnet: nn.Module) -> None:
    net = condition(convnet, at="blocks.*.bn", generator=Linear(7))
    with pytest.raises(
        ShapeError, match=r"site 'blocks.0.bn': gamma\(3, 8\) has none of the shapes"
    ):
        net(images(4), condition=torch.randn(3, 7))


def test_wrong_generators(convnet: nn.Module) -> None:
    with pytest.raises(ArgumentTypeError, match="generator must be a module or a function"):
        condition(convnet, at="stem", generator=lambda layout: 3)
    net = condition(convnet, at="stem", generator=nn.Flatten(0))
    with pytest.raises(ShapeError, match=r"expected flat \(16,\)"):
        net(images(), condition=torch.zeros(3))
    tuples = condition(convnet, at="stem", generator=nn.Sequential())
    with pytest.raises(ArgumentTypeError, match="Sequential must return a flat tensor"):
        tuples(images(), condition=(torch.zeros(3), 1))
    with pytest.raises(KIND, match="network must be a module|'network'"):
        condition(3, at="stem", generator=Learned())
    with pytest.raises(LayoutError, match="when must be"):
        condition(convnet, at="stem", generator=Learned(), when="after")


def test_any_module_or_function_of_the_layout_generates(convnet: nn.Module) -> None:
    class Tasks(nn.Module):
        def __init__(self, layout: Layout) -> None:
            super().__init__()
            self.layout = layout
            self.table = nn.Parameter(torch.randn(3, layout.size))

        def forward(self, ids: Tensor) -> TaskRepresentation:
            return TaskRepresentation(self.layout, self.table[ids])

    net = condition(convnet.eval(), at="blocks.*.bn", generator=Tasks)
    x, ids = images(), torch.tensor([2, 0, 0, 1])
    assert torch.equal(net(x, condition=ids), net(x, task=net.generator.table[ids]))


def test_declared_sites() -> None:
    network = nn.Sequential(nn.Linear(3, 8), FiLM(8, axis=-1), nn.ReLU(), nn.Linear(8, 8), FiLM(8))
    x = torch.randn(4, 3)
    plain = network(x)
    net = condition(network, at=FiLM, generator=Learned())
    assert net.layout.names == ("1", "4") and net.layout["1"].axis == -1
    assert torch.equal(net(x), plain)
    with pytest.raises(ShapeError, match="positive"):
        FiLM(0)


def test_film_layers_keep_their_operation_by_default() -> None:
    network = nn.Sequential(FiLM(8, operation=Gate()), FiLM(8, axis=-1, batch_axis=1))
    layout = condition(network, at=FiLM, generator=Learned()).layout
    assert [site.operation for site in layout] == [Gate(), Affine()]
    assert layout["1"].batch_axis == 1
    given = condition(network, at=FiLM, operation=Shift(), generator=Learned()).layout
    assert {site.operation for site in given} == {Shift()}
    mapped = condition(network, at={"0": Scale()}, generator=Learned()).layout
    assert mapped["0"].operation == Scale()


# --- scopes --------------------------------------------------------------------------------------


def test_nothing_remains_after_an_exception(convnet: nn.Module, moved: Move) -> None:
    net = moved(condition(convnet.eval(), at="blocks.*.bn", generator=Linear(7)))
    x, z = images(), torch.randn(4, 7)
    plain = net.backbone(x)

    def fail(module: nn.Module, args: Any, output: Any) -> None:
        raise RuntimeError("on purpose")

    handle = convnet.head.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="on purpose"):
        net(x, condition=z)
    with pytest.raises(RuntimeError, match="on purpose"), net.using(condition=z):
        net.backbone(x)
    handle.remove()
    assert torch.equal(net.backbone(x), plain)


def test_scopes_nest_and_raise_where_they_end_out_of_order(convnet: nn.Module) -> None:
    net = condition(convnet.eval(), at="stem", generator=Learned())
    a, b = torch.randn(2, net.layout.size)
    x = images()
    of = {key: net(x, task=task) for key, task in (("a", a), ("b", b))}
    with net.using(task=a):
        with net.using(task=b):
            assert torch.equal(net.backbone(x), of["b"])
        assert torch.equal(net.backbone(x), of["a"])
        assert torch.equal(net(x, task=b), of["b"])
    first, second = net.using(task=a), net.using(task=b)
    first.__enter__()
    second.__enter__()
    with pytest.raises(CallError, match="one that began later is open"):
        first.__exit__(None, None, None)
    assert torch.equal(net.backbone(x), of["b"])
    second.__exit__(None, None, None)
    assert not torch.equal(net.backbone(x), of["b"])


def test_record_keeps_raw_parameters(convnet: nn.Module, moved: Move) -> None:
    net = moved(condition(convnet, at="blocks.*.bn", generator=Linear(7)))
    z, record = torch.randn(4, 7), {}
    with net.using(condition=z, record=record):
        net.backbone(images())
    task = TaskRepresentation.from_named(net.layout, record)
    assert torch.equal(task.flat, net.represent(z).flat)


def test_two_conditionings_of_one_backbone(convnet: nn.Module) -> None:
    first = condition(convnet.eval(), at="stem", generator=Learned())
    second = condition(convnet, at="blocks.*.bn", generator=Learned())
    x, a, b = images(), torch.randn(16), torch.randn(48)
    plain = convnet(x)
    alone = second(x, task=b)
    with first.using(task=a):
        both = second(x, task=b)
    first.remove()
    assert torch.equal(second(x, task=b), alone) and not torch.equal(both, alone)
    second.remove()
    assert torch.equal(convnet(x), plain)


def test_conditioned_network_inside_another(convnet: nn.Module) -> None:
    inner = condition(convnet.eval(), at="blocks.*.bn", generator=Learned())
    with torch.no_grad():
        inner.generator.vector.normal_()
    twin = copy.deepcopy(inner)
    outer = condition(inner, at="backbone.stem", generator=Linear(7))
    x, z = images(), torch.randn(4, 7)
    assert torch.equal(outer(x, condition=z), twin(x))
    with torch.no_grad():
        outer.generator.head.bias.normal_()
    with condition(convnet, at="stem", generator=Learned()).using(task=outer.generator.head.bias):
        expected = inner(x)
    assert torch.equal(outer(x, condition=z), expected)
    assert not torch.equal(expected, twin(x))


# --- copies and leaks ----------------------------------------------------------------------------


def test_trap_2_copies_are_independent(convnet: nn.Module, moved: Move) -> None:
    net = moved(condition(convnet.eval(), at="blocks.*.bn", generator=Linear(7)))
    x, z = images(), torch.randn(4, 7)
    expected, plain = net(x, condition=z), net.backbone(x)
    for copied in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):  # noqa: S301
        assert torch.equal(copied(x, condition=z), expected)
        with net.using(condition=z):
            assert torch.equal(copied.backbone(x), plain)
        with torch.no_grad():
            copied.generator.head.bias += 1.0
        assert torch.equal(net(x, condition=z), expected)
        assert not torch.equal(copied(x, condition=z), expected)
        copied.remove()
        assert torch.equal(copied.backbone(x), plain)
        assert torch.equal(net(x, condition=z), expected)


def test_a_copy_of_the_backbone_alone_is_plain(convnet: nn.Module, moved: Move) -> None:
    net = moved(condition(convnet.eval(), at="blocks.*.bn", generator=Linear(7)))
    x, z = images(), torch.randn(4, 7)
    with net.using(condition=z):
        assert torch.equal(copy.deepcopy(convnet)(x), net.remove()(x))


class Walker(LocalGenerator):
    """A small multi-hop generator: passes a memory from site to site."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(8, 16)

    def forward(
        self, site: Site, x: Tensor, condition: Any, memory: Any
    ) -> tuple[dict[str, Tensor], Any]:
        pooled = x.mean((2, 3))
        memory = pooled if memory is None else memory + pooled
        if condition is not None:
            memory = memory + condition
        gamma, beta = self.mix(memory).chunk(2, -1)
        return {"gamma": gamma, "beta": beta}, memory


def test_local_generator_runs_at_each_site_with_memory(convnet: nn.Module) -> None:
    convnet.double().eval()
    net = condition(convnet, at="blocks.*.bn", generator=Walker().double())
    x, z = images().double(), torch.randn(4, 8).double()
    y, memory = convnet.stem(x), None
    for i, block in enumerate(convnet.blocks):
        normed = block.bn(block.conv(y))
        values, memory = net.generator(net.layout.sites[i], normed, z, memory)
        y = torch.relu(film(normed, 1 + values["gamma"], values["beta"]) + y)
    torch.testing.assert_close(net(x, condition=z), convnet.head(y.mean((2, 3))))
    record: dict[str, dict[str, Tensor]] = {}
    with net.using(record=record):
        y = net(x)
    torch.testing.assert_close(net(x, task=TaskRepresentation.from_named(net.layout, record)), y)
    with pytest.raises(CallError, match="Walker computes its parameters from the features"):
        net.represent(z)


@pytest.mark.parametrize("local", [False, True])
def test_trap_3_nothing_outlives_the_outputs(convnet: nn.Module, local: bool) -> None:
    """A call with tensors downstream of a site would be a cycle that gc cannot collect."""
    net = condition(convnet, at="blocks.*.bn", generator=Walker() if local else Linear(8))
    for _ in range(2):
        x, z = images(), torch.randn(4, 8, requires_grad=True)
        scaled, record = z * 2, {}
        dead = [weakref.ref(scaled.grad_fn.metadata.setdefault("here", _Mark()))]
        y = net(x, condition=scaled)
        with net.using(condition=scaled, record=record):
            second = net.backbone(x)
        kept = next(iter(record.values()))["gamma"]
        dead.append(weakref.ref(kept.grad_fn.metadata.setdefault("here", _Mark())))
        dead.append(weakref.ref(second.grad_fn.metadata.setdefault("here", _Mark())))
        (y.sum() + second.sum()).backward()
        del x, z, scaled, record, y, second, kept
        gc.collect()
        assert [ref() for ref in dead] == [None, None, None]


class _Mark:
    """Something that can be weakly referenced and lives as long as a node."""


# --- forms of inputs and outputs -----------------------------------------------------------------

Pair = namedtuple("Pair", ["hidden", "extra"])


class Shaped(nn.Module):
    """Returns the output of its linear map in a container."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.linear, self.form = nn.Linear(3, 4), form

    def forward(self, *, x: Tensor, flag: bool = True) -> Any:
        y, n = self.linear(x), torch.tensor([7])
        return {
            "tuple": (n, y),
            "list": [n, y, None],
            "dict": {"ids": n, "features": y},
            "namedtuple": Pair(n, y),
            "nested": {"a": [(n, {"b": y})]},
        }[self.form]


class Around(nn.Module):
    def __init__(self, form: str) -> None:
        super().__init__()
        self.inner = Shaped(form)

    def forward(self, x: Tensor) -> Any:
        return self.inner(flag=False, x=x)


def _only_floating(tree: Any) -> Tensor:
    leaves = torch.utils._pytree.tree_leaves(tree)
    (y,) = (leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point())
    return y


@pytest.mark.parametrize("form", ["tuple", "list", "dict", "namedtuple", "nested"])
def test_trap_12_outputs_of_any_form(form: str) -> None:
    network, x = Around(form), torch.randn(5, 3)
    net = condition(network, at="inner", generator=Learned(), example=x)
    flat = torch.randn(5, 8)
    plain, y = network(x), net(x, task=flat)
    assert type(y) is type(plain)
    expected = film(_only_floating(plain), 1 + flat[:, :4], flat[:, 4:])
    assert torch.equal(_only_floating(y), expected)


def test_trap_12_inputs_by_keyword() -> None:
    network, x = Around("tuple"), torch.randn(5, 3)
    net = condition(network, at="inner", generator=Learned(), when="input", example=x)
    flat = torch.randn(5, 6)
    expected = network(film(x, 1 + flat[:, :3], flat[:, 3:]))[1]
    assert torch.equal(net(x, task=flat)[1], expected)


def test_output_that_turns_out_to_be_no_tensor() -> None:
    class Moody(nn.Linear):
        def forward(self, x: Tensor) -> Any:
            return None if x.shape[0] == 1 else super().forward(x)

    net = condition(nn.Sequential(Moody(3, 4)), at="0", generator=Learned())
    net(torch.randn(2, 3))
    with pytest.raises(ArgumentTypeError, match="site '0': output leaf 0 must be a tensor"):
        net(torch.randn(1, 3))


def test_trap_10_lstm_over_time_first_features(sentence: nn.Module) -> None:
    """With as many steps as samples, (B, C) parameters would fit the steps without an error."""
    net = condition(sentence, at="lstm", generator=Learned())
    tokens, flat = torch.randint(11, (5, 5)), torch.randn(5, 14)
    mixed = net(tokens, task=flat)
    for i in range(5):
        alone = net(tokens[:, i : i + 1], task=flat[i])
        torch.testing.assert_close(mixed[:, i : i + 1], alone)
    with pytest.raises(ShapeError, match=r"site 'lstm': gamma\(3, 7\)"):
        net(torch.randint(11, (3, 5)), task=torch.randn(3, 14))


def test_per_step_parameters_of_an_lstm(sentence: nn.Module) -> None:
    net = condition(sentence, at="lstm", generator=Learned())
    tokens, flat = torch.randint(11, (6, 4)), torch.randn(4, 14, 6)
    hidden, _ = sentence.lstm(sentence.embed(tokens))
    gamma, beta = (flat[:, :7] + 1).permute(2, 0, 1), flat[:, 7:].permute(2, 0, 1)
    expected = sentence.head(torch.relu(gamma * hidden + beta))
    torch.testing.assert_close(net(tokens, task=flat), expected)


def test_module_run_twice_uses_the_same_parameters() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(torch.tanh(self.linear(x)))

    network = Twice().double()
    net = condition(network, at="linear", generator=Learned())
    x, flat = torch.randn(3, 4).double(), torch.randn(3, 8).double().requires_grad_()
    run = lambda h: film(network.linear(h), 1 + flat[:, :4], flat[:, 4:])  # noqa: E731
    torch.testing.assert_close(net(x, task=flat), run(torch.tanh(run(x))))
    assert torch.autograd.gradcheck(lambda flat: net(x, task=flat), (flat,))


def test_tied_weights_stay_tied_and_plain_elsewhere() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(9, 4), nn.Linear(4, 9, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, tokens: Tensor) -> Tensor:
            return self.head(self.embed(tokens))

    network, tokens = Tied(), torch.randint(9, (3, 5))
    net = condition(network, at="embed", generator=Learned())
    flat = torch.randn(3, 8)
    gamma, beta = flat[:, None, :4] + 1, flat[:, None, 4:]
    expected = network.head(network.embed(tokens) * gamma + beta)
    torch.testing.assert_close(net(tokens, task=flat), expected)
    assert net.backbone.head.weight is net.backbone.embed.weight


# --- dtypes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_trap_11_dtype_of_the_features_is_kept(convnet: nn.Module, dtype: torch.dtype) -> None:
    net = condition(convnet.to(dtype).eval(), at="blocks.*.bn", generator=Linear(7))
    x = images().to(dtype)
    y = net(x, condition=torch.randn(4, 7))
    assert y.dtype == dtype and torch.equal(y, convnet(x))


def test_trap_11_autocast_dtypes_equal_those_of_the_plain_network(
    convnet: nn.Module, sentence: nn.Module, moved: Move
) -> None:
    cases = [
        (convnet, "blocks.*.bn", images()),
        (convnet, "blocks.*.conv", images()),
    ]
    if computes_bfloat16("cpu"):  # elsewhere torch runs no LSTM in bfloat16
        cases.append((sentence, "lstm", torch.randint(11, (5, 4))))
    for network, at, x in cases:
        net, z = moved(condition(network, at=at, generator=Linear(7))), torch.randn(4, 7)
        with torch.autocast("cpu", torch.bfloat16):
            plain, _ = _seen_dtypes(network, network, x)
            seen, y = _seen_dtypes(network, net, x, condition=z)
        y.float().sum().backward()
        assert plain == seen and torch.bfloat16 in plain[-1]


def _seen_dtypes(
    network: nn.Module, run: nn.Module, *args: Any, **kwargs: Any
) -> tuple[list[Any], Tensor]:
    """Dtypes of the outputs of all modules, in order."""
    seen: list[Any] = []
    handles = [
        module.register_forward_hook(lambda m, a, y: seen.append(_dtypes(y)))
        for module in network.modules()
    ]
    y = run(*args, **kwargs)
    for handle in handles:
        handle.remove()
    return seen, y


def _dtypes(tree: Any) -> list[torch.dtype]:
    return [leaf.dtype for leaf in torch.utils._pytree.tree_leaves(tree)]


def test_half_precision_modulates_in_float32() -> None:
    network = nn.Sequential(nn.Identity())
    x = torch.full((1, 1), 1.0, dtype=torch.bfloat16)
    net = condition(network, at="0", generator=Learned(), example=x)
    with torch.no_grad():
        net.generator.vector[0] = 2.0**-8  # 1 + this is 1 in bfloat16; 1.00390625 * 128 is not 128
    assert net(x * 384).item() == 386.0


# --- sites that are not reached -------------------------------------------------------------------


def test_trap_9_every_eager_call_warns_of_sites_never_reached() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x) + self.idle.forward(x)

    net = condition(Idle(), at=["used", "idle"], generator=Learned())
    x = torch.randn(2, 3)
    with pytest.warns(SiteWarning, match="never reached in this call: idle") as caught:
        net(x)
    assert caught[0].filename == __file__ or "jaxtyping" in caught[0].filename
    with pytest.warns(SiteWarning, match="never reached in this call: idle"):
        net(x)


def test_transformer_does_not_use_its_fused_path() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    network = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    net = condition(network, at="layers.*.linear1", generator=Learned())
    x, flat = torch.randn(3, 5, 8), torch.randn(3, 64)
    with torch.no_grad():
        fast, plain = net(x, task=flat), network(x)
    torch.testing.assert_close(fast, net(x, task=flat).detach())
    assert not torch.allclose(fast, plain)


def test_repr_and_layout(convnet: nn.Module) -> None:
    net = condition(convnet, at="blocks.*.bn", operation=Shift(), generator=Linear(7))
    assert "3 sites, 24 parameters per condition" in repr(net)
    assert net.layout.names == ("blocks.0.bn", "blocks.1.bn", "blocks.2.bn")


# --- conditions over positions -------------------------------------------------------------------


class Pyramid(nn.Module):
    """A small U-Net: features of three resolutions, and a skip."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(3, 4, 3, padding=1)
        self.down = nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.deep = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.last = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        half = self.down(self.inner(x))
        y: Tensor = self.last(self.up(self.deep(half)) + half)
        return y


@pytest.mark.parametrize("rule", ["nearest", "linear", "area"])
def test_a_map_conditions_every_resolution(moved: Move, rule: str) -> None:
    network, x, z = Pyramid(), torch.randn(2, 3, 16, 16), torch.randn(2, 7, 16, 16)
    sites = ["inner", "down", "deep", "up", "last"]
    refused = condition(network, at=sites, generator=Linear(7))
    with pytest.raises(ShapeError, match=r"site 'down'.*resize="):
        refused(x, condition=z)
    refused.remove()
    net = condition(network, at=sites, generator=Linear(7), resize=rule)
    assert torch.equal(net(x, condition=z), network(x))
    moved(net)
    task = net.represent(z)

    def at(name: str, features: Tensor) -> Tensor:
        own = {
            key: value
            if value.shape[2:] == features.shape[2:]
            else F.interpolate(
                value,
                size=features.shape[2:],
                mode={"nearest": "nearest-exact", "linear": "bilinear", "area": "area"}[rule],
            )
            for key, value in task[name].items()
        }
        return film(features, 1 + own["gamma"], own["beta"])

    half = at("down", network.down(at("inner", network.inner(x))))
    up = at("up", network.up(at("deep", network.deep(half))))
    torch.testing.assert_close(net(x, condition=z), at("last", network.last(up + half)))
    again = copy.deepcopy(net)
    assert again.layout == net.layout and again.layout["deep"].resize == rule
    with pytest.raises(LayoutError, match="resize must be one of"):
        condition(Pyramid(), at="inner", generator=Linear(7), resize="cubic")
