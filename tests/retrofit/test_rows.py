"""``repeat`` and ``rows`` equal conditions that are repeated by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor, nn

from featurewise.core import (
    Affine,
    ArgumentTypeError,
    LayoutError,
    LowRank,
    Operation,
    ShapeError,
    Site,
)
from featurewise.generators import Learned, Linear, LocalGenerator
from featurewise.retrofit import Conditioned, condition, guide

KIND = (ArgumentTypeError, TypeCheckError)  # whichever checks first
ORDERS = ("interleave", "tile")


class Expands(nn.Module):
    """Runs the first map on samples and the second on ``k`` rows of each."""

    def __init__(self, k: int, how: str) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.k, self.how = k, how

    def forward(self, x: Tensor) -> Tensor:
        return self.second(by_hand(torch.tanh(self.first(x)), self.k, self.how))


def by_hand(x: Tensor, k: int, how: str) -> Tensor:
    """k rows of each, as a list of rows."""
    if how == "interleave":
        return torch.stack([row for row in x for _ in range(k)])
    return torch.stack([row for _ in range(k) for row in x])


def moved(net: Conditioned) -> Conditioned:
    for parameter in net.generator.parameters():
        nn.init.normal_(parameter, std=0.5)
    return net.double()


@pytest.mark.parametrize("how", ORDERS)
@pytest.mark.parametrize("operation", [Affine(), LowRank(2)], ids=str)
@pytest.mark.parametrize("scoped", [False, True])
def test_rows_per_condition_are_computed_at_each_site(
    how: str, operation: Operation, scoped: bool
) -> None:
    network = Expands(3, how).double()
    net = moved(condition(network, at=nn.Linear, operation=operation, generator=Linear(5)))
    x, z = torch.randn(2, 4).double(), torch.randn(2, 5).double()
    if scoped:
        with net.using(condition=z, repeat=how):
            y = net.backbone(x)
    else:
        y = net(x, condition=z, repeat=how)
    y.square().sum().backward()
    grads = {name: p.grad for name, p in net.named_parameters()}
    net.zero_grad()
    values = net.layout.split(net.represent(z).flat)
    first, second = net.layout
    hidden = torch.tanh(
        first.modulate(nn.functional.linear(x, *network.first.parameters()), values[first.name])
    )
    many = {name: by_hand(value, 3, how) for name, value in values[second.name].items()}
    hidden = nn.functional.linear(by_hand(hidden, 3, how), *network.second.parameters())
    expected = second.modulate(hidden, many)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    expected.square().sum().backward()
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(grads[name], parameter.grad, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("how", ORDERS)
def test_positions_are_repeated_with_their_rows(how: str) -> None:
    net = condition(nn.Sequential(nn.Conv1d(3, 4, 1)), at="0", generator=Learned())
    x, task = torch.randn(6, 3, 5), torch.randn(2, 8, 5)
    assert torch.equal(net(x, task=task, repeat=how), net(x, task=by_hand(task, 3, how)))


class Adds(LocalGenerator):
    """Shifts features by the condition, row by row."""

    def forward(self, site: Site, x: Tensor, condition: Any, memory: Any) -> Any:
        (z,) = condition
        return {"gamma": 0.1 * z + x.mean(), "beta": z * x}, memory


@pytest.mark.parametrize("how", ORDERS)
def test_a_local_generator_is_given_repeated_conditions(how: str) -> None:
    net = condition(nn.Linear(3, 4), at="", generator=Adds())
    x, z = torch.randn(6, 3), torch.randn(2, 4)
    expected = net(x, condition=(by_hand(z, 3, how),))
    assert torch.equal(net(x, condition=(z,), repeat=how), expected)


def test_one_condition_for_all_needs_no_repeat() -> None:
    net = moved(condition(Expands(3, "tile").double(), at=nn.Linear, generator=Linear(5)))
    x, z = torch.randn(2, 4).double(), torch.randn(5).double()
    assert torch.equal(net(x, condition=z, repeat="tile"), net(x, condition=z))


# --- beams and guidance --------------------------------------------------------------------------

LENGTH = 6


def translator() -> Conditioned:
    """T5 with both stacks conditioned."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(3)
    config = transformers.T5Config(
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=2,
        vocab_size=23,
        decoder_start_token_id=0,
        dropout_rate=0.0,
        initializer_factor=3.0,
    )
    network = transformers.T5ForConditionalGeneration(config).eval()
    at = ["encoder.**.DenseReluDense", "decoder.**.DenseReluDense", "decoder.**.EncDecAttention.o"]
    net = condition(
        network,
        at=at,
        generator=Linear(5),
        axis=-1,
        example={
            "input_ids": torch.ones(2, 3, dtype=torch.long),
            "decoder_input_ids": torch.ones(2, 3, dtype=torch.long),
        },
    )
    for parameter in net.generator.parameters():
        nn.init.normal_(parameter, std=1.0)
    return net


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("returned", [1, 2])
def test_beam_search_of_an_encoder_and_a_decoder_both_conditioned(
    beams: int, returned: int
) -> None:
    if returned > beams:
        pytest.skip("no more sequences than beams")
    net = translator()
    tokens, z = torch.randint(2, 23, (3, 5)), torch.randn(3, 5)
    run = {
        "num_beams": beams,
        "num_return_sequences": returned,
        "max_new_tokens": LENGTH,
        "min_new_tokens": LENGTH,
        "do_sample": False,
    }
    with net.using(condition=z, repeat="interleave"):
        together = net.backbone.generate(tokens, **run)
    alone = []
    for row, one in zip(tokens, z, strict=True):
        with net.using(condition=one):  # shared by all rows: nothing to map
            alone.append(net.backbone.generate(row[None], **run))
    assert torch.equal(together, torch.cat(alone))
    assert not torch.equal(together, net.backbone.generate(tokens, **run))


def test_sampled_sequences_interleave() -> None:
    net = translator()
    tokens, z = torch.randint(2, 23, (2, 5)), 3 * torch.randn(2, 5)
    run = {"do_sample": True, "num_return_sequences": 4, "max_new_tokens": 3, "temperature": 1e-4}
    with net.using(condition=z, repeat="interleave"):
        many = net.backbone.generate(tokens, **run).reshape(2, 4, -1)
    assert torch.equal(many, many[:, :1].expand_as(many))  # nearly greedy: equal within a sample
    with net.using(condition=z):
        greedy = net.backbone.generate(tokens, do_sample=False, max_new_tokens=3)
    assert torch.equal(many[:, 0, : greedy.shape[1]], greedy)


def test_both_halves_of_a_guidance_batch() -> None:
    net = moved(condition(nn.Sequential(nn.Linear(4, 4)).double(), at="0", generator=Linear(5)))
    x, z = torch.randn(3, 4).double(), torch.randn(3, 5).double()
    halves = net(torch.cat([x, -x]), condition=z, repeat="tile")
    assert torch.equal(halves, torch.cat([net(x, condition=z), net(-x, condition=z)]))
    guided = guide(net, torch.cat([x, -x]), condition=z, weight=1.0, repeat="tile")
    assert torch.equal(guided, halves)
    base = guide(net, torch.cat([x, -x]), condition=z, weight=0.0, null=-z, repeat="tile")
    assert torch.equal(base, net(torch.cat([x, -x]), condition=-z, repeat="tile"))


# --- rows that are not samples --------------------------------------------------------------------


class Graph(nn.Module):
    """Messages along edges, and their sums at nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.edge, self.node = nn.Linear(8, 4), nn.Linear(8, 4)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        message = self.edge(torch.cat([x[edges[0]], x[edges[1]]], -1))
        arrived = torch.zeros_like(x).index_add(0, edges[1], message)
        return self.node(torch.cat([x, arrived], -1))


RING = torch.stack([torch.arange(6), (torch.arange(6) + 1) % 6])


def test_edges_of_a_ring_need_an_index() -> None:
    net = moved(condition(Graph().double(), at=["edge", "node"], generator=Linear(5)))
    x, z = torch.randn(6, 4).double(), torch.randn(6, 5).double()
    with pytest.raises(LayoutError, match=r"site 'edge' has 6 rows for 6 conditions.*rows=<index"):
        net(x, RING, condition=z)
    values = net.layout.split(net.represent(z).flat)
    edge, node = net.layout
    for to in (0, 1):
        y = net(x, RING, condition=z, rows={"edge": RING[to]})
        own = {name: value[RING[to]] for name, value in values["edge"].items()}
        pairs = torch.cat([x[RING[0]], x[RING[1]]], -1)
        message = edge.modulate(nn.functional.linear(pairs, *net.backbone.edge.parameters()), own)
        arrived = torch.zeros_like(x).index_add(0, RING[1], message)
        out = nn.functional.linear(torch.cat([x, arrived], -1), *net.backbone.node.parameters())
        torch.testing.assert_close(y, node.modulate(out, values["node"]), rtol=1e-12, atol=1e-12)


def test_several_graphs_in_one_batch() -> None:
    net = moved(condition(Graph().double(), at=["edge", "node"], generator=Linear(5)))
    x, z = torch.randn(6, 4).double(), torch.randn(2, 5).double()
    of = torch.tensor([0, 0, 0, 1, 1, 1])  # of which graph a node is
    edges = torch.tensor([[0, 1, 2, 3, 4, 5, 0], [1, 2, 0, 4, 5, 3, 2]])
    y = net(x, edges, condition=z, rows={"node": of, "edge": of[edges[0]]})
    expected = net(x, edges, condition=z[of], rows={"edge": edges[0]})
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)


class Experts(nn.Module):
    """Each token is processed by one of several maps."""

    def __init__(self, experts: int = 3) -> None:
        super().__init__()
        self.gate = nn.Linear(4, experts)
        self.parts = nn.ModuleList(nn.Linear(4, 4) for _ in range(experts))
        self.chosen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.reshape(-1, 4)
        best = self.gate(tokens).argmax(-1)
        out = torch.zeros_like(tokens)
        for number, part in enumerate(self.parts):
            at = (best == number).nonzero()[:, 0]
            self.chosen.append(at)
            out[at] = part(tokens[at])
        return out.reshape(x.shape)


def test_a_function_maps_the_tokens_of_an_expert_to_conditions() -> None:
    net = moved(condition(Experts().double(), at="parts.*", generator=Linear(5)))
    x, z = torch.randn(3, 2, 4).double(), torch.randn(3, 5).double()
    net.backbone.chosen.clear()
    y = net(x, condition=z, rows=lambda site, features: net.backbone.chosen[-1] // 2)
    expected = torch.cat([net(row[None], condition=one) for row, one in zip(x, z, strict=True)])
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)


# --- invalid arguments ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"repeat": "twice"}, LayoutError, "'interleave' or 'tile', got 'twice'"),
        ({"repeat": "tile", "rows": torch.zeros(6, dtype=torch.long)}, LayoutError, "not both"),
        ({"rows": [0, 1]}, KIND, r"got list|\[0, 1\]"),
        ({"rows": torch.zeros(6)}, ArgumentTypeError, "int64 or int32, got torch.float32"),
        ({"rows": torch.zeros(6, 1, dtype=torch.long)}, ShapeError, r"\(R,\)"),
        ({"rows": torch.zeros(5, dtype=torch.long)}, ShapeError, "5 entries, the features have 6"),
        ({"rows": torch.full((6,), 3)}, ShapeError, r"\[0, 3\).*in \[3, 3\]"),
        ({"rows": torch.full((6,), -1)}, ShapeError, r"\[0, 3\).*in \[-1, -1\]"),
        ({"rows": {"nowhere": torch.zeros(6, dtype=torch.long)}}, LayoutError, "nowhere"),
        ({"rows": {"0": torch.zeros(6)}}, ArgumentTypeError, r"rows\['0'\] must be int64"),
        ({"rows": lambda site, x: "first"}, KIND, "site '0' must be a tensor|'first'"),
        ({}, ShapeError, "2 rows per sample, pass repeat='interleave'"),
    ],
)
def test_mistakes_name_what_would_be_right(
    given: dict[str, Any], error: type[Exception] | tuple[type[Exception], ...], said: str
) -> None:
    net = condition(nn.Sequential(nn.Linear(4, 4)), at="0", generator=Linear(5))
    x, z = torch.randn(6, 4), torch.randn(3, 5)
    with pytest.raises(error, match=said):
        net(x, condition=z, **given)
    assert torch.equal(net(x, condition=z, repeat="tile"), net.backbone(x))


@pytest.mark.parametrize("how", ORDERS)
def test_rows_that_are_not_a_multiple(how: str) -> None:
    net = condition(nn.Sequential(nn.Linear(4, 4)), at="0", generator=Linear(5))
    with pytest.raises(ShapeError, match="5 rows, which is not a multiple of the 3 conditions"):
        net(torch.randn(5, 4), condition=torch.randn(3, 5), repeat=how)
    with pytest.raises(ShapeError, match="rows=<index"):
        net(torch.randn(5, 4), condition=torch.randn(3, 5))


def test_two_patterns_for_one_site() -> None:
    net = condition(nn.Sequential(nn.Linear(4, 4)), at="0", generator=Linear(5))
    index = torch.zeros(6, dtype=torch.long)
    with pytest.raises(LayoutError, match="'0' is matched by several patterns"):
        net(torch.randn(6, 4), condition=torch.randn(3, 5), rows={"0": index, "*": index})


class Traceable(Expands):
    """The same with operators that a compiler supports."""

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.first(x))
        many = x.repeat_interleave(self.k, 0) if self.how == "interleave" else x.repeat(self.k, 1)
        return self.second(many)


@pytest.mark.traced
@pytest.mark.parametrize("how", ORDERS)
def test_compiled(how: str) -> None:
    net = moved(condition(Traceable(3, how).double(), at=nn.Linear, generator=Linear(5)))
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    index = by_hand(torch.arange(2), 3, how)
    for given in ({"repeat": how}, {"rows": {"second": index}}):
        compiled(torch.randn(2, 4).double(), condition=torch.randn(2, 5).double(), **given)
        with torch.compiler.set_stance("fail_on_recompile"):
            x, z = torch.randn(2, 4).double(), torch.randn(2, 5).double()
            y = compiled(x, condition=z, **given)
        torch.testing.assert_close(y, net(x, condition=z, **given))
