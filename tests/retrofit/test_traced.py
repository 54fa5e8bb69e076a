"""Compiled, exported and regionally compiled networks equal the eager one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.compiler import set_stance
from torch.utils.checkpoint import checkpoint

from featurewise.core import Affine, Gate, LowRank, Operation, RowColumn, Shift
from featurewise.generators import Learned, Linear
from featurewise.retrofit import Conditioned, checkpoint_context, condition

Move = Callable[[Conditioned], Conditioned]
pytestmark = [
    pytest.mark.traced,
    # Of the tracers themselves: inputs of a graph that are no leaves; the stack of active calls.
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
    pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects"),
]

BACKEND = "eager"  # what is tested here is what is traced and guarded; one test goes all the way


def images() -> Tensor:
    return torch.randn(4, 3, 6, 6)


def grads(net: nn.Module) -> list[Tensor]:
    found = [p.grad for p in net.parameters() if p.grad is not None]
    net.zero_grad()
    return found


def assert_same_training(
    compiled: Callable[..., Tensor], net: Conditioned, x: Tensor, zs: list[Tensor]
) -> None:
    """Values and gradients of both, over several conditions, without recompilation."""
    compiled(x, condition=zs[0]).square().sum().backward()
    grads(net)
    with set_stance("fail_on_recompile"):
        for z in zs:
            y = compiled(x, condition=z)
            y.square().sum().backward()
            found = grads(net)
            with set_stance("force_eager"):
                expected = net(x, condition=z)
            expected.square().sum().backward()
            torch.testing.assert_close(y, expected)
            torch.testing.assert_close(found, grads(net), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("operation", [Shift(), Affine(), Gate(), RowColumn(), LowRank(2)], ids=str)
def test_trap_1_fullgraph_without_recompilation(
    convnet: nn.Module, moved: Move, operation: Operation
) -> None:
    net = condition(
        convnet, at="blocks.*.bn", operation=operation, generator=Linear(7), example=images()
    )
    net = moved(net).eval()
    compiled = torch.compile(net, fullgraph=True, backend=BACKEND)
    assert_same_training(compiled, net, images(), [torch.randn(4, 7) for _ in range(3)])


def test_trap_1_first_eager_call_after_compilation_changes_nothing(
    convnet: nn.Module, moved: Move
) -> None:
    """The first eager call tracks rows and stores that it did: no guard may depend on that."""
    net = moved(condition(convnet, at="blocks.*.bn", generator=Linear(7))).eval()
    compiled = torch.compile(net, fullgraph=True, backend=BACKEND)
    x, z = images(), torch.randn(4, 7)
    compiled(x, condition=z)
    assert not net._followed
    with set_stance("force_eager"):
        net(x, condition=z)
    assert net._followed[None] == set(net.layout.names)
    with set_stance("fail_on_recompile"):
        compiled(x, condition=-z)


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_backends(perceptron: nn.Module, moved: Move, backend: str) -> None:
    del perceptron.blocks[1:]
    net = moved(condition(perceptron, at="blocks.*.0", generator=Linear(7))).double()
    compiled = torch.compile(net, fullgraph=True, backend=backend)
    zs = [torch.randn(4, 7).double() for _ in range(3)]
    assert_same_training(compiled, net, torch.randn(4, 6).double(), zs)


def test_task_representations_are_inputs_of_compiled_code(convnet: nn.Module, moved: Move) -> None:
    net = moved(condition(convnet.eval(), at="blocks.*.bn", generator=Linear(7)))
    compiled = torch.compile(net, fullgraph=True, backend=BACKEND)
    x = images()
    compiled(x, task=net.represent(torch.randn(4, 7)))
    with set_stance("fail_on_recompile"):
        for _ in range(3):
            task = net.represent(torch.randn(4, 7))
            y = compiled(x, task=task)
            with set_stance("force_eager"):
                torch.testing.assert_close(y, net(x, task=task))


def test_input_sites_and_lstm(sentence: nn.Module) -> None:
    for at, when in (("head", "input"), ("lstm", "output")):
        net = condition(sentence, at=at, generator=Learned(), when=when, batch_axis=1)
        tokens, tasks = torch.randint(11, (5, 4)), torch.randn(3, 4, 14)
        with torch._dynamo.config.patch(allow_rnn=True):
            compiled = torch.compile(net, fullgraph=True, backend=BACKEND)
            compiled(tokens, task=tasks[0])
            with set_stance("fail_on_recompile"):
                for task in tasks:
                    y = compiled(tokens, task=task)
                    with set_stance("force_eager"):
                        torch.testing.assert_close(y, net(tokens, task=task))
        net.remove()


def test_compiled_in_bf16_autocast(convnet: nn.Module, moved: Move) -> None:
    net = moved(condition(convnet.eval(), at="blocks.*.bn", generator=Linear(7)))
    compiled = torch.compile(net, fullgraph=True, backend=BACKEND)
    x, z = images(), torch.randn(4, 7)
    with torch.autocast("cpu", torch.bfloat16):
        y = compiled(x, condition=z)
        with set_stance("force_eager"):
            expected = net(x, condition=z)
    assert y.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(y, expected)


def test_blocks_compiled_one_by_one(convnet: nn.Module, moved: Move) -> None:
    net = moved(condition(convnet.eval(), at="blocks.*.bn", generator=Linear(7)))
    x, zs = images(), [torch.randn(4, 7) for _ in range(4)]
    expected, plain = [net(x, condition=z) for z in zs], net.backbone(x)
    for block in convnet.blocks:
        block.compile(fullgraph=True, backend=BACKEND)
    for z, y in zip(zs, expected, strict=True):
        torch.testing.assert_close(net(x, condition=z), y)
        torch.testing.assert_close(net.backbone(x), plain)
    with set_stance("fail_on_recompile"):
        for z, y in zip(zs, expected, strict=True):
            torch.testing.assert_close(net(x, condition=z), y)


def test_checkpoint_inside_compiled_code(perceptron: nn.Module, moved: Move) -> None:
    net = moved(condition(perceptron, at="blocks.*.0", generator=Linear(7))).double()
    perceptron.run = lambda block, x: checkpoint(block, x, use_reentrant=False)
    compiled = torch.compile(net, fullgraph=True, backend=BACKEND)
    zs = [torch.randn(4, 7).double() for _ in range(3)]
    assert_same_training(compiled, net, torch.randn(4, 6).double(), zs)


@pytest.mark.parametrize("operation", [Affine(), Shift()], ids=str)
def test_trap_7_compiled_blocks_inside_eager_checkpoints(
    perceptron: nn.Module, operation: Operation
) -> None:
    """They cannot identify their run: exact or an error, never unmodulated features."""
    expected, run = _in_checkpoints(perceptron, operation, context_fn=None)
    try:
        found = run()
    except RuntimeError as error:
        assert "checkpoint" in str(error)
    else:
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("operation", [Affine(), Shift()], ids=str)
def test_trap_7_checkpoint_context_fixes_it(perceptron: nn.Module, operation: Operation) -> None:
    expected, run = _in_checkpoints(perceptron, operation, context_fn=checkpoint_context)
    torch.testing.assert_close(run(), expected)


def _in_checkpoints(
    network: nn.Module, operation: Operation, context_fn: Any
) -> tuple[list[Tensor], Callable[[], list[Tensor]]]:
    """Gradients of two live calls, and how to get them with compiled, checkpointed blocks."""
    net = condition(network, at="blocks.*.0", operation=operation, generator=Learned())
    x, task = torch.randn(4, 6).double(), torch.randn(4, net.layout.size).double()

    def run() -> list[Tensor]:
        losses = [net(x, task=task).square().sum(), net(x, task=-task).square().sum()]
        for loss in losses:
            loss.backward()
        return grads(net.backbone)

    expected = run()
    for block in network.blocks:
        block.compile(backend="aot_eager")
    options = {} if context_fn is None else {"context_fn": context_fn}
    network.run = lambda block, x: checkpoint(block, x, use_reentrant=False, **options)
    return expected, run


@pytest.mark.parametrize("strict", [False, True])
def test_export(convnet: nn.Module, moved: Move, strict: bool) -> None:
    net = moved(condition(convnet.eval(), at="blocks.*.bn", generator=Linear(7)))
    x, zs = images(), [torch.randn(4, 7) for _ in range(3)]
    exported = torch.export.export(net, (x,), {"condition": zs[0]}, strict=strict).module()
    for z in zs:
        torch.testing.assert_close(exported(x, condition=z), net(x, condition=z))


def test_trap_16_export_takes_task_representations(convnet: nn.Module, moved: Move) -> None:
    net = moved(condition(convnet.eval(), at="blocks.*.bn", generator=Linear(7)))
    x, tasks = images(), [net.represent(torch.randn(4, 7)) for _ in range(2)]
    exported = torch.export.export(net, (x,), {"task": tasks[0]}).module()
    for task in tasks:
        torch.testing.assert_close(exported(x, task=task), net(x, task=task))


def test_export_with_free_batch(convnet: nn.Module, moved: Move) -> None:
    net = moved(condition(convnet.eval(), at="blocks.*.bn", generator=Linear(7)))
    batch = torch.export.Dim("batch", min=2, max=64)
    shapes: Any = {"x": {0: batch}, "condition": {0: batch}}  # named as the backbone names them
    exported = torch.export.export(
        net, (images(),), {"condition": torch.randn(4, 7)}, dynamic_shapes=shapes
    ).module()
    x, z = torch.randn(9, 3, 6, 6), torch.randn(9, 7)
    torch.testing.assert_close(exported(x, condition=z), net(x, condition=z))


def test_nested_conditioning_compiles(convnet: nn.Module, moved: Move) -> None:
    inner = condition(convnet.eval(), at="blocks.*.bn", generator=Learned())
    with torch.no_grad():
        inner.generator.vector.normal_()
    net = moved(condition(inner, at="backbone.stem", generator=Linear(7)))
    compiled = torch.compile(net, fullgraph=True, backend=BACKEND)
    x = images()
    for z in torch.randn(3, 4, 7):
        y = compiled(x, condition=z)
        with set_stance("force_eager"):
            torch.testing.assert_close(y, net(x, condition=z))


def test_gradients_of_a_scope_that_has_ended(perceptron: nn.Module) -> None:
    """Compiled blocks in eager checkpoints under ``using``: backward comes after the scope."""
    net = condition(perceptron, at="blocks.*.0", generator=Learned())
    net.double()
    x = torch.randn(4, 6).double()
    with torch.no_grad():
        net.generator.vector.normal_()

    def run() -> list[Tensor]:
        with net.using():
            y = perceptron(x)
        y.square().sum().backward()
        return grads(net)

    expected = run()
    assert len(expected) == len(list(net.parameters()))
    for block in perceptron.blocks:
        block.compile(backend="aot_eager")
    perceptron.run = lambda block, x: checkpoint(
        block, x, use_reentrant=False, context_fn=checkpoint_context
    )
    torch.testing.assert_close(run(), expected)


def test_compiled_code_raises_for_another_batch_size(convnet: nn.Module) -> None:
    net = condition(convnet.eval(), at="blocks.*.bn", generator=Learned())
    compiled = torch.compile(net, backend=BACKEND)
    with pytest.raises(Exception, match="has none of the shapes"):
        compiled(images(), task=torch.randn(3, net.layout.size))
