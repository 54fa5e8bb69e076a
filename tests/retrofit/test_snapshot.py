"""A dry run restores all state: kinds of state one by one, then networks that change state."""

from __future__ import annotations

import copy
import functools
import gc
import random
import sys
import threading
import types
import weakref
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn

from featurewise.core import LayoutError
from featurewise.generators import Linear
from featurewise.retrofit import condition, select
from featurewise.retrofit.snapshot import Snapshot, check_gone

from .state import changed, state

TABLES: dict[int, Tensor] = {}
SEEN: set[int] = set()
CALLS = 0


@functools.lru_cache(maxsize=8)
def table(width: int) -> Tensor:
    return torch.ones(width)


@functools.cache
def nested(width: int) -> dict[str, list[Tensor]]:
    return {"tables": [torch.ones(width)]}


class Config:
    """An object that is not a module, with attributes and containers."""

    def __init__(self) -> None:
        self.steps = 0
        self.cache: dict[str, Any] = {"layers": [{}]}


class Slotted:
    __slots__ = ("late", "value")

    def __init__(self) -> None:
        self.value = 0


class Base(nn.Module):
    """A network; ``trace`` is called at the start of its forward, and changes state."""

    shared: dict[int, Tensor] = {}  # noqa: RUF012 (what is tried)
    installed = False

    def __init__(self, trace: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.lin, self.other = nn.Linear(4, 4), nn.Linear(4, 4)
        self.spare = nn.Linear(4, 4)
        self.unlisted = [nn.BatchNorm1d(4)]
        self.register_buffer("kept", torch.zeros(4), persistent=False)
        self.plain = torch.zeros(4)
        self.cache: dict[Any, Any] = {}
        self.ordered = OrderedDict({"a": 1, "b": 2})
        self.counts: dict[str, int] = defaultdict(int)
        self.steps: list[Any] = []
        self.known: set[Any] = set()
        self.recent: deque[Any] = deque(maxlen=2)
        self.config, self.slotted = Config(), Slotted()
        self.array = numpy.zeros(3)
        self.local = threading.local()
        self.rng, self.python_rng = torch.Generator(), random.Random(0)
        self.doomed = "here"
        self.fails = False
        self.trace = types.MethodType(trace, self)

    def forward(self, x: Tensor) -> Tensor:
        y = self.lin(x)
        self.trace(y)
        if self.fails:
            raise RuntimeError("half-way")
        return y + self.other(y)


def install_hooks(net: Any, x: Tensor) -> None:
    if not net.installed:
        net.installed = True
        net.lin.register_forward_hook(lambda module, args, output: net.steps.append(output))
        net.other.register_forward_pre_hook(lambda module, args: None)


def fill_containers(net: Any, x: Tensor) -> None:
    net.cache["x"] = x
    net.counts["runs"] += 1
    net.steps.append(x)
    net.known.add(3)
    net.recent.extend([1, 2, 3])
    net.ordered.move_to_end("a")


def fill_objects(net: Any, x: Tensor) -> None:
    net.config.steps += 1
    net.config.cache["layers"][0]["keys"] = x
    net.config.late = x
    net.slotted.value, net.slotted.late = x, x


def set_attributes(net: Any, x: Tensor) -> None:
    net.kept, net.plain = x.sum(0), x
    net.doomed = x
    net.lin.in_features = 7


def delete_attributes(net: Any, x: Tensor) -> None:
    del net.doomed, net.spare, net.kept


def change_modules(net: Any, x: Tensor) -> None:
    net.spare = nn.Linear(2, 2)
    net.added = nn.Linear(2, 2)
    net.register_buffer("late", x)
    net.register_parameter("none", None)


def write_into_tensors(net: Any, x: Tensor) -> None:
    net.plain += 1
    net.plain[0] = 5
    net.kept.add_(x.mean())
    net.spare.weight.data.mul_(2)
    net.unlisted[0](x)


def replace_data(net: Any, x: Tensor) -> None:
    net.lin.weight.data = net.lin.weight.data * 2
    net.plain.data = x.sum(0)
    net.spare.__class__ = nn.Identity


def use_threads(net: Any, x: Tensor) -> None:
    net.local.x = x


def switch_flags(net: Any, x: Tensor) -> None:
    net.train(not net.training)
    net.spare.requires_grad_(False)
    net.lin.weight.grad = None
    net.other.weight.grad = torch.ones(4, 4)


def use_randomness(net: Any, x: Tensor) -> None:
    torch.manual_seed(7)
    torch.rand(3)
    torch.rand(3, generator=net.rng)
    net.rng.manual_seed(9)
    net.python_rng.random()
    random.gauss()
    numpy.random.rand()
    net.array[0] += 1


def use_settings(net: Any, x: Tensor) -> None:
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(True)
    torch.set_float32_matmul_precision("medium")


def use_classes(net: Any, x: Tensor) -> None:
    type(net).installed = True
    type(net).shared[1] = x
    Config.late = x  # type: ignore[attr-defined]


def use_globals(net: Any, x: Tensor) -> None:
    global CALLS
    CALLS += 1
    TABLES[1] = x
    SEEN.add(id(net))


def use_memories(net: Any, x: Tensor) -> None:
    net.last = table(4) + nested(4)["tables"][0]


def use_closure() -> Callable[[Any, Tensor], None]:
    calls, kept = 0, []

    def trace(net: Any, x: Tensor, default: list[Tensor] = []) -> None:  # noqa: B006 (tried)
        nonlocal calls
        calls += 1
        kept.append(x)
        default.append(x)
        trace.calls = calls  # type: ignore[attr-defined]

    return trace


TRACES = [
    *(install_hooks, fill_containers, fill_objects, set_attributes, delete_attributes),
    *(
        change_modules,
        write_into_tensors,
        replace_data,
        use_threads,
        switch_flags,
        use_randomness,
        use_settings,
    ),
    *(use_classes, use_globals, use_memories, use_closure()),
]


def surroundings() -> tuple[Any, ...]:
    return (
        *(
            CALLS,
            dict(TABLES),
            set(SEEN),
            dict(Base.shared),
            Base.installed,
            "late" in vars(Config),
        ),
        *(torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()),
        torch.get_float32_matmul_precision(),
        *(torch.get_rng_state().tolist(), random.getstate()[2]),
        str(numpy.random.get_state()),
    )


def dry(network: nn.Module, x: Tensor) -> None:
    condition(network, at="lin", generator=Linear(2), example=x).remove()


def presets(network: nn.Module, x: Tensor) -> None:
    assert list(select(network).residual_branches(x)) == ["other"]


@pytest.mark.parametrize("run", [dry, presets])
@pytest.mark.parametrize("fails", [False, True], ids=["runs", "raises"])
@pytest.mark.parametrize("trace", TRACES, ids=lambda t: t.__name__)
def test_changed_state_is_restored(trace: Any, run: Callable[..., None], fails: bool) -> None:
    network, x = Base(trace), torch.randn(3, 4)
    network.fails = fails
    network.lin.weight.grad = torch.ones(4, 4)
    table.cache_clear()
    before, around = state(network), surroundings()
    if fails:
        with pytest.raises(LayoutError, match="RuntimeError: half-way"):
            run(network, x)
    else:
        run(network, x)
    assert changed(before, state(network)) == []
    assert around == surroundings()
    if trace in (use_memories, *TRACES[:1]):
        assert type(table(4)) is Tensor and type(nested(4)["tables"][0]) is Tensor


def test_sites_that_are_not_reached_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = types.ModuleType("elsewhere")
    elsewhere.store = {"a": []}  # type: ignore[attr-defined]
    monkeypatch.setitem(__import__("sys").modules, "elsewhere", elsewhere)

    def trace(net: Any, x: Tensor) -> None:
        __import__("elsewhere").store["a"].append(x)

    network = Base(trace)
    with pytest.raises(LayoutError, match="left 1 tensors without values in 'store' of module els"):
        dry(network, torch.randn(3, 4))
    elsewhere.store["a"].clear()  # type: ignore[attr-defined]


def test_what_a_first_import_defines_stays() -> None:
    class Lazy(nn.Module):
        helper: Any = None

        def forward(self, x: Tensor) -> Tensor:
            return x

    network = Lazy()
    with Snapshot(network):
        module = types.ModuleType("first_import")
        made = type("Made", (), {"__module__": "first_import"})
        Lazy.imported, Lazy.made, Lazy.other = module, made, Config  # type: ignore[attr-defined]
    assert Lazy.imported is module and Lazy.made is made  # type: ignore[attr-defined]
    assert not hasattr(Lazy, "other")


# --- networks of other packages -------------------------------------------------------------------


def beit() -> nn.Module:
    from transformers import BeitConfig, BeitForSemanticSegmentation

    return BeitForSemanticSegmentation(
        BeitConfig(
            hidden_size=16,
            num_hidden_layers=4,
            num_attention_heads=2,
            intermediate_size=16,
            image_size=32,
            patch_size=8,
            out_indices=[1, 2, 3, 4],
            pool_scales=[1, 2],
            num_labels=3,
        )
    )


def dpt() -> nn.Module:
    from transformers import DPTConfig, DPTForSemanticSegmentation

    return DPTForSemanticSegmentation(
        DPTConfig(
            hidden_size=16,
            num_hidden_layers=4,
            num_attention_heads=2,
            intermediate_size=16,
            image_size=32,
            patch_size=8,
            backbone_out_indices=[0, 1, 2, 3],
            neck_hidden_sizes=[8, 8, 8, 8],
            fusion_hidden_size=8,
            num_labels=3,
        )
    )


def segformer() -> nn.Module:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    return SegformerForSemanticSegmentation(
        SegformerConfig(
            hidden_sizes=[8, 8, 16, 16],
            depths=[1, 1, 1, 1],
            num_attention_heads=[1, 1, 2, 2],
            decoder_hidden_size=8,
            num_labels=3,
        )
    )


def llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=31,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=3,
            num_attention_heads=2,
            num_key_value_heads=1,
            pad_token_id=0,
            bos_token_id=0,
            eos_token_id=0,
        )
    )


SEGMENTATION = {"beit": beit, "dpt": dpt, "segformer": segformer}


@pytest.mark.parametrize(
    "name",
    ["beit", *(pytest.param(name, marks=pytest.mark.slow) for name in ("dpt", "segformer"))],
)
def test_segmentation_networks_of_transformers(name: str) -> None:
    pytest.importorskip("transformers")
    network, x = SEGMENTATION[name]().eval(), torch.randn(1, 3, 32, 32)
    expected = copy.deepcopy(network)(x).logits
    before = state(network)
    at = next(n for n, m in network.named_modules() if isinstance(m, nn.Linear))
    condition(network, at=at, generator=Linear(4), example=x).remove()
    list(select(network).residual_branches(x))
    assert changed(before, state(network)) == []
    assert torch.equal(network(x).logits, expected)


def test_llama_with_hidden_states() -> None:
    pytest.importorskip("transformers")
    network, ids = llama().eval(), torch.randint(31, (2, 5))
    example = {"input_ids": ids, "output_hidden_states": True, "output_attentions": False}
    expected = copy.deepcopy(network)(**example)
    before = state(network)
    condition(network, at="**.q_proj", generator=Linear(4), example=example).remove()
    list(select(network).residual_branches(example))
    assert changed(before, state(network)) == []
    output = network(**example)
    assert len(output.hidden_states) == len(expected.hidden_states) == 4
    assert torch.equal(output.logits, expected.logits)


def test_a_network_that_holds_a_sparse_matrix() -> None:
    """It has no storage, and is multiplied without a change."""

    class Graph(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Linear(6, 6)
            self.register_buffer("edges", torch.eye(4).to_sparse())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sparse.mm(self.edges, self.map(x))

    x = torch.randn(4, 6)
    for example in (None, x):
        network = Graph()
        edges = network.edges
        net = condition(network, at="map", generator=Linear(3), example=example)
        assert network.edges is edges
        assert torch.equal(net(x, condition=torch.randn(4, 3)), network(x))


def test_tensors_without_gradient_give_no_warning() -> None:
    class Caches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Linear(6, 6)
            self.doubled = self.map.weight * 2

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.map(x) @ self.doubled

    condition(Caches(), at="map", generator=Linear(3), example=torch.randn(2, 6))


def test_an_object_that_does_not_say_its_class_does_no_harm() -> None:
    """Deprecated objects of libraries warn or raise when their class is read."""

    class Odd:
        @property
        def __class__(self) -> type:
            raise RuntimeError("deprecated")

    @functools.lru_cache
    def cached() -> Tensor:
        return torch.zeros(1)

    odd, held = [Odd()], weakref.ref(cached())
    check_gone(lambda: [tensor for tensor in [held()] if tensor is not None])
    assert held() is None and len(odd) == 1


def test_caches_of_modules_are_cleared_where_the_objects_are_frozen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a server does before it forks, so that ``gc`` lists nothing of what was imported."""

    @functools.lru_cache
    def cached() -> Tensor:
        return torch.zeros(1)

    elsewhere = types.ModuleType("elsewhere")
    elsewhere.cached = cached  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "elsewhere", elsewhere)
    held = weakref.ref(cached())
    gc.freeze()
    check_gone(lambda: [tensor for tensor in [held()] if tensor is not None])
    assert held() is None
