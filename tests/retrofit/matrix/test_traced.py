"""Compiled, exported, and run by ONNX Runtime: equal to the truth, for every condition."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.compiler import set_stance

from .cells import BATCH, Cell, Pair, capability, close, close_grads
from .networks import Network

pytestmark = [
    # Of the tracers themselves: inputs of a graph that are no leaves; the stack of active calls.
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
    pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects"),
    pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`"),
    # Recurrent modules set their flat weights; torch says so of the plain module too.
    pytest.mark.filterwarnings("ignore:The tensor attributes .*_flat_weights"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    with torch._dynamo.config.patch(allow_rnn=True):
        yield


PREPARED = (
    "pass: after one eager run, in which the network prepares itself; without, the network alone "
    "is not compiled once and whole either"
)


def assert_compiles(pair: Pair, backend: str) -> None:
    """Values and gradients over three conditions, with no recompilation after the first."""
    inputs, z = pair.draw()
    if pair.network.prepares:
        with torch.no_grad():
            close(pair(inputs, z), pair.hand(inputs, z))
    compiled = torch.compile(pair.net, fullgraph=True, backend=backend)
    tensor = pair.network.tensor
    tensor(compiled(**inputs, condition=z)).square().sum().backward()
    pair.grads()
    for k in (1.0, -2.0, 0.5):
        with set_stance("fail_on_recompile"):
            y = tensor(compiled(**inputs, condition=k * z))
        expected = pair.hand(inputs, k * z)
        close(y, expected)
        y.square().sum().backward()
        expected.square().sum().backward()
        close_grads(pair.grads(), pair.hand_grads())


@capability("torch.compile, fullgraph, no recompilation", traced=True)
def test_compile(network: Network, pair: Pair, cell: Cell) -> None:
    plain = torch.compile(pair.plain, fullgraph=True, backend="eager")
    if network.prepares:
        assert_not_compiled_at_once(network)
        cell.says(PREPARED)
    cell.attempt(
        lambda: assert_compiles(pair, "eager"), lambda: plain(**pair.network.inputs(BATCH))
    )


def assert_not_compiled_at_once(network: Network) -> None:
    plain = torch.compile(network.ready(), fullgraph=True, backend="eager")
    with pytest.raises(RuntimeError):
        plain(**network.inputs(BATCH))
        with set_stance("fail_on_recompile"):
            plain(**network.inputs(BATCH))
    torch._dynamo.reset()


@capability("torch.compile, Inductor", traced=True, slow=lambda n: n.name != "Audio, 1-d")
def test_inductor(network: Network, pair: Pair, cell: Cell) -> None:
    plain = torch.compile(pair.plain, fullgraph=True)
    cell.attempt(
        lambda: assert_compiles(pair, "inductor"), lambda: plain(**pair.network.inputs(BATCH))
    )


@capability("torch.export", traced=True)
def test_export(network: Network, pair: Pair, cell: Cell) -> None:
    inputs, z = pair.draw()
    program = cell.attempt(
        lambda: torch.export.export(pair.net, (), {**inputs, "condition": z}),
        lambda: torch.export.export(pair.plain, (), inputs),
    ).module()
    for _ in range(2):
        inputs, z = pair.draw()
        close(network.tensor(program(**inputs, condition=z)), pair.hand(inputs, z))


@capability("ONNX Runtime", traced=True, slow=lambda n: n.costly)
def test_onnx(network: Network, pair: Pair, cell: Cell) -> None:
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    inputs, z = pair.draw()

    def export(net: torch.nn.Module, inputs: dict[str, Any]) -> Any:
        with torch.no_grad():
            return torch.onnx.export(net, (), kwargs=inputs, dynamo=True, verbose=False)

    program = cell.attempt(
        lambda: export(pair.net, {**inputs, "condition": z}),
        lambda: export(pair.plain, inputs),
    )
    session = runtime.InferenceSession(program.model_proto.SerializeToString())
    for _ in range(2):
        inputs, z = pair.draw()
        given = {**inputs, "condition": z}
        feed = {place.name: given[place.name].numpy() for place in session.get_inputs()}
        assert "condition" in feed
        with torch.no_grad():
            close(torch.from_numpy(session.run(None, feed)[0]), pair.hand(inputs, z))
