"""Training of the backbone: the mode, frozen weights, running statistics, counts."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from featurewise.core import ArgumentTypeError
from featurewise.deploy import bake
from featurewise.generators import MLP, GatedGenerator, Learned, Linear, ParameterDropout
from featurewise.retrofit import CallError, Conditioned, condition


def convolutional() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)),
        nn.InstanceNorm2d(4, track_running_stats=True),
        nn.BatchNorm2d(4, track_running_stats=False),
    )


def make(network: nn.Module | None = None, **arguments: Any) -> Conditioned:
    return condition(network or convolutional(), at="0", generator=Linear(2), **arguments)


def run(net: Conditioned) -> Tensor:
    output: Tensor = net(torch.randn(3, 3, 8, 8), condition=torch.randn(3, 2))
    return output


def statistics(network: nn.Module) -> list[Tensor]:
    return [b.clone() for n, b in network.named_buffers() if "running" in n or "tracked" in n]


def same(before: list[Tensor], after: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


# --- the mode ------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_the_backbones_mode_is_kept(training: bool) -> None:
    network = convolutional().train(training)
    network[1].eval()
    before = [module.training for module in network.modules()]
    net = make(network)
    assert net.training is training
    assert [module.training for module in network.modules()] == before
    assert net.generator.training is training


def test_a_network_in_evaluation_mode_is_deterministic() -> None:
    net = condition(convolutional().eval(), at="0", generator=ParameterDropout(Linear(2), 0.5))
    for parameter in net.generator.parameters():
        nn.init.normal_(parameter)
    x, z = torch.randn(3, 3, 8, 8), torch.randn(3, 2)
    assert torch.equal(net(x, condition=z), net(x, condition=z))
    net.replace_generator(ParameterDropout(Linear(2), 0.5))
    assert not net.generator.training


def test_a_generator_that_is_given_keeps_its_own_modes_in_training() -> None:
    encoder = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)).eval()
    generator = Linear(2)
    generator.encoder = encoder
    net = condition(convolutional(), at="0", generator=generator)
    assert net.training and generator.training and not encoder.training


# --- freeze --------------------------------------------------------------------------------------


def test_freeze_trains_the_generator_alone() -> None:
    network = convolutional()
    network[2][0].bias.requires_grad_(False)
    trained = [name for name, p in network.named_parameters() if p.requires_grad]
    before = copy.deepcopy(network.state_dict())
    net = make(network, freeze=True)
    assert not any(p.requires_grad for p in network.parameters())
    assert all(p.requires_grad for p in net.generator.parameters())
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    net.train()
    for _ in range(2):
        run(net).square().sum().backward()
        optimizer.step()
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert any(p.grad is not None for p in net.generator.parameters())
    net.remove()
    assert [name for name, p in network.named_parameters() if p.requires_grad] == trained


def test_without_freeze_everything_is_trained() -> None:
    net = make()
    assert all(p.requires_grad for p in net.parameters())


def test_weights_that_the_generator_shares_are_trained() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    generator = Linear(4)
    generator.encoder = network[1]
    net = condition(network, at="0", generator=generator, freeze=True)
    assert network[1].weight.requires_grad
    assert not network[0].weight.requires_grad
    net.remove()
    assert network[0].weight.requires_grad


# --- batch norm ----------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [{"batch_norm": "frozen"}, {"freeze": True}], ids=str)
@pytest.mark.parametrize("level", ["net", "backbone", "part", "norm", "wrapper", "flag"])
def test_frozen_statistics_stay_after_train(level: str, arguments: Any) -> None:
    net = make(**arguments)
    reference = copy.deepcopy(net).eval()
    wrapper = nn.ModuleDict({"net": net})
    start = statistics(net.backbone)
    {
        "net": net.train,
        "backbone": net.backbone.train,
        "part": net.backbone[2].train,
        "norm": net.backbone[1].train,
        "wrapper": wrapper.train,
        "flag": lambda: [setattr(m, "training", True) for m in net.modules()],
    }[level]()
    net.backbone[2][2].eval()  # the dropout
    net.backbone[4].eval()
    x, z = torch.randn(3, 3, 8, 8), torch.randn(3, 2)
    assert torch.equal(net(x, condition=z), reference(x, condition=z))
    net.backbone(x)  # nor does the backbone alone move them
    assert same(start, statistics(net.backbone))


@pytest.mark.parametrize("arguments", [{}, {"batch_norm": "train"}, {"freeze": True}], ids=str)
def test_the_default_moves_them_unless_the_backbone_is_frozen(arguments: Any) -> None:
    net = make(**arguments).train()
    start = statistics(net.backbone)
    run(net)
    assert same(start, statistics(net.backbone)) is bool(arguments.get("freeze"))
    net = make(freeze=True, batch_norm="train").train()
    start = statistics(net.backbone)
    run(net)
    assert not same(start, statistics(net.backbone))


def test_frozen_norms_look_frozen_and_the_rest_trains() -> None:
    net = make(batch_norm="frozen").train()
    modes = {name: module.training for name, module in net.backbone.named_modules()}
    assert [name for name, training in modes.items() if not training] == ["1", "2.1", "3"]
    net.eval()
    assert not any(module.training for module in net.modules())


def test_frozen_in_copies_and_trainable_after_removal() -> None:
    net = make(batch_norm="frozen")
    for again in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):  # noqa: S301
        again.train()
        again.backbone.train()
        start = statistics(again.backbone)
        run(again)
        assert same(start, statistics(again.backbone))
        free = again.remove()
        assert not any(m._forward_pre_hooks for m in free.modules())
        assert free[1].training
        free(torch.randn(3, 3, 8, 8))
        assert not same(start, statistics(free))


def test_two_conditioners_of_which_one_is_removed() -> None:
    network = convolutional()
    one, two = make(network, batch_norm="frozen"), make(network, batch_norm="frozen")
    one.remove()
    two.backbone.train()
    start = statistics(network)
    run(two)
    assert same(start, statistics(network))


def test_a_loaded_conditioner_takes_the_same_arguments(tmp_path: Path) -> None:
    make().save_pretrained(tmp_path / "conditioner", statistics=False)
    torch.manual_seed(0)
    net = Conditioned.from_pretrained(
        tmp_path / "conditioner",
        convolutional(),
        check="architecture",
        freeze=True,
        batch_norm="frozen",
    ).train()
    assert not any(p.requires_grad for p in net.backbone.parameters())
    start = statistics(net.backbone)
    run(net)
    assert same(start, statistics(net.backbone))


def test_a_baked_network_has_no_frozen_norms() -> None:
    net = make(batch_norm="frozen", freeze=True).eval()
    baked = bake(net, condition=torch.randn(2)).module
    assert not any(m._forward_pre_hooks for m in baked.modules())
    assert all(p.requires_grad for p in baked.parameters())
    assert not any(p.requires_grad for p in net.backbone.parameters())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"batch_norm": "frosted"}, "batch_norm must be one of train, frozen"),
        ({"batch_norm": True}, "batch_norm"),
        ({"freeze": "yes"}, "freeze"),
    ],
)
def test_wrong_policies_change_nothing(arguments: Any, words: str) -> None:
    network = convolutional()
    with pytest.raises((ArgumentTypeError, TypeCheckError), match=words):
        make(network, **arguments)
    assert not any(m._forward_hooks for m in network.modules())
    assert all(p.requires_grad for p in network.parameters())


# --- counts --------------------------------------------------------------------------------------


def test_trainable_parameters_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    network = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 6))
    network[1].weight = nn.Parameter(network[1].weight)
    net = condition(network, at="0", generator=Linear(2), freeze=True)
    net.print_trainable_parameters()
    # A head of (2 + 1) x 8, beside 6 x 4 + 4 and 4 x 6 + 6.
    assert capsys.readouterr().out == (
        "trainable params: 24 || all params: 82 || trainable%: 29.2683\n"
    )


def test_tied_weights_count_once(capsys: pytest.CaptureFixture[str]) -> None:
    network = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    network[1].weight = network[0].weight
    condition(network, at="0", generator=Linear(2)).print_trainable_parameters()
    assert "all params: 40 ||" in capsys.readouterr().out


def test_parameters_without_a_shape_cannot_be_counted() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.LazyLinear(2))
    with pytest.raises(CallError, match="run the network once"):
        condition(network, at="0", generator=Linear(2)).print_trainable_parameters()


# --- the state dict ------------------------------------------------------------------------------


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.body = nn.Linear(4, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("whole", torch.arange(8.0))
        self.register_buffer("middle", self.whole[2:6])
        self.register_buffer("end", self.whole[6:])

    whole: Tensor

    def forward(self, tokens: Tensor) -> Tensor:
        y: Tensor = self.head(self.body(self.embed(tokens)))
        return y


def test_tied_tensors_can_be_written_by_safetensors(tmp_path: Path) -> None:
    net = condition(Tied(), at="body", generator=Linear(2))
    for state in (net.state_dict(), nn.ModuleDict({"net": net}).state_dict()):
        save_file(state, tmp_path / "state.safetensors")
    state = net.state_dict()
    assert list(state) == [name for name, _ in _with_duplicates(net)]
    for name, tensor in _with_duplicates(net):
        assert torch.equal(state[name], tensor)
    again = condition(Tied(), at="body", generator=Linear(2))
    again.load_state_dict(state)
    assert again.backbone.head.weight is again.backbone.embed.weight
    tokens = torch.arange(7)
    z = torch.randn(7, 2)
    assert torch.equal(again(tokens, condition=z), net(tokens, condition=z))


def _with_duplicates(net: nn.Module) -> list[tuple[str, Tensor]]:
    keys = nn.Module.state_dict(net, keep_vars=True)
    return list(keys.items())


def test_untied_tensors_and_kept_variables_are_the_networks_own() -> None:
    net = condition(Tied(), at="body", generator=Linear(2))
    kept = net.state_dict(keep_vars=True)
    assert kept["backbone.head.weight"] is net.backbone.embed.weight
    state = net.state_dict()
    for name in ("backbone.embed.weight", "backbone.body.weight", "generator.head.weight"):
        assert state[name].data_ptr() == kept[name].data_ptr()
    assert state["backbone.head.weight"].data_ptr() != kept["backbone.head.weight"].data_ptr()
    with torch.device("meta"):
        assert condition(Tied(), at="body", generator=Linear(2)).state_dict()


# --- materialised and removed --------------------------------------------------------------------


GENERATORS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: Linear(2),
    "encoder": lambda: MLP(2, [5]),
    "damped": lambda: GatedGenerator(Linear(2)),
    "module": lambda: OfLayout(),
}


class OfLayout(nn.Module):
    """One that JSON cannot create, with ``reset_parameters``."""

    def __init__(self) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.zeros(8))

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.vector)

    def forward(self, condition: Tensor) -> Tensor:
        return self.vector.expand(len(condition), -1)


@pytest.mark.parametrize("kind", GENERATORS)
@pytest.mark.parametrize("where", ["all on meta", "the backbone on meta"])
def test_to_empty_keeps_the_identity(kind: str, where: str) -> None:
    network = convolutional().eval()
    x, z = torch.randn(3, 3, 8, 8), torch.randn(3, 2)
    expected, state = network(x), network.state_dict()
    with torch.device("meta"):
        empty = convolutional().eval()
    net = condition(empty, at="0", generator=GENERATORS[kind]())
    if where == "all on meta":
        net.to("meta")
    assert net.to_empty(device="cpu") is net
    assert not net.generator.training
    net.backbone.load_state_dict(state)
    assert torch.equal(net(x, condition=z), expected)


def test_to_empty_keeps_what_a_generator_has_learned() -> None:
    net = make().eval()
    nn.init.normal_(net.generator.head.weight)
    weight, state = net.generator.head.weight.clone(), copy.deepcopy(net.backbone.state_dict())
    x, z = torch.randn(3, 3, 8, 8), torch.randn(3, 2)
    expected = net(x, condition=z)
    net.to_empty(device="cpu").backbone.load_state_dict(state)
    assert torch.equal(net.generator.head.weight, weight)
    assert torch.equal(net(x, condition=z), expected)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_removing_the_inner_one_leaves_the_outer_one(checkpointed: bool) -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner: nn.Module = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
            self.last = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = checkpoint(self.inner, x, use_reentrant=False) if checkpointed else self.inner(x)
            y: Tensor = self.last(x)
            return y

    block = Block()
    twin = condition(copy.deepcopy(block), at=["last", "inner.1"], generator=Linear(2))
    block.inner = inner = condition(block.inner, at="0", generator=Learned())
    outer = condition(block, at=["last", "inner.backbone.1"], generator=Linear(2))
    nn.init.normal_(inner.generator.vector)
    nn.init.normal_(outer.generator.head.weight)
    twin.generator.load_state_dict(outer.generator.state_dict())
    x, z = torch.randn(3, 4), torch.randn(3, 2)
    assert not torch.equal(outer(x, condition=z), twin(x, condition=z))
    inner.remove()
    gradients = []
    for net in (outer, twin):
        output = net(x, condition=z)
        gradients.append([output, *torch.autograd.grad(output.sum(), net.generator.head.weight)])
    assert all(map(torch.equal, *gradients))
    with pytest.raises(CallError, match="removed"):
        inner(x)
