"""Patterns, types, predicates, combinations of them, and presets."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import nn

from featurewise.core import (
    Affine,
    ArgumentTypeError,
    Gate,
    LayoutError,
    OperationError,
    Scale,
    Shift,
)
from featurewise.generators import Linear
from featurewise.layers import FiLM
from featurewise.retrofit import condition
from featurewise.retrofit.select import count_parameters, resolve, select


class Tree(nn.Module):
    """layer1, layer2: blocks 0, 1 with conv, bn1, bn2; a shared module under two names."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("layer1", "layer2"):
            blocks = [
                nn.ModuleDict(
                    {"conv": nn.Conv2d(2, 2, 1), "bn1": nn.BatchNorm2d(2), "bn2": nn.BatchNorm2d(2)}
                )
                for _ in range(2)
            ]
            setattr(self, name, nn.ModuleList(blocks))
        self.head = nn.Linear(2, 2)
        self.tied = self.head


def names(at: object) -> list[str]:
    return list(resolve(Tree(), at, Affine()))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("head", ["head"]),
        ("layer2.*.bn2", ["layer2.0.bn2", "layer2.1.bn2"]),
        ("layer*.0.bn*", ["layer1.0.bn1", "layer1.0.bn2", "layer2.0.bn1", "layer2.0.bn2"]),
        ("**.bn1", ["layer1.0.bn1", "layer1.1.bn1", "layer2.0.bn1", "layer2.1.bn1"]),
        ("layer1.**.conv", ["layer1.0.conv", "layer1.1.conv"]),
        ("layer1.0.**", ["layer1.0", "layer1.0.conv", "layer1.0.bn1", "layer1.0.bn2"]),
        ("**.head", ["head"]),
        (nn.Linear, ["head"]),
        (lambda name, module: name.endswith("1.conv"), ["layer1.1.conv", "layer2.1.conv"]),
        (["head", "layer1.1.conv", nn.Linear], ["layer1.1.conv", "head"]),
        ("tied", ["head"]),
        ("*", ["layer1", "layer2", "head"]),
        ("layer1.0.*", ["layer1.0.conv", "layer1.0.bn1", "layer1.0.bn2"]),
        ("layer1.1*", ["layer1.1"]),
    ],
)
def test_selectors(at: object, expected: list[str]) -> None:
    assert names(at) == expected


def test_star_stays_within_one_component() -> None:
    with pytest.raises(LayoutError):
        names("layer1.*bn1")


def test_dots_of_a_pattern_are_dots() -> None:
    with pytest.raises(LayoutError):
        names("layer1.0xbn1")


def test_everything_holds_the_network_itself() -> None:
    assert names("**") == [name for name, _ in Tree().named_modules()]


def test_mapping_gives_each_its_operation_in_the_order_of_the_network() -> None:
    chosen = resolve(Tree(), {"head": Shift(), "layer1.*.bn1": Gate()}, Affine())
    assert chosen == {"layer1.0.bn1": Gate(), "layer1.1.bn1": Gate(), "head": Shift()}
    assert list(chosen) == ["layer1.0.bn1", "layer1.1.bn1", "head"]


def test_no_match_names_the_near_ones() -> None:
    with pytest.raises(LayoutError, match=r"'layer3.\*.bn2'; near names: .*layer\d.\d.bn2"):
        names("layer3.*.bn2")
    with pytest.raises(
        LayoutError, match=r"Conv3d; the network has BatchNorm2d \(8\), Conv2d \(4\)"
    ):
        names(nn.Conv3d)
    with pytest.raises(LayoutError, match="at selects no module"):
        names([])


def test_one_selector_of_several_without_match_is_an_error() -> None:
    with pytest.raises(LayoutError, match="'nothing'"):
        names(["head", "nothing"])


def test_two_operations_for_one_site() -> None:
    with pytest.raises(LayoutError, match="two selectors match 'head'"):
        resolve(Tree(), {"head": Shift(), nn.Linear: Gate()}, Affine())


@pytest.mark.parametrize("at", [3, int, {"head": Affine}])
def test_wrong_types(at: object) -> None:
    with pytest.raises((ArgumentTypeError, TypeCheckError)):
        names(at)


# --- selections ----------------------------------------------------------------------------------


def test_steps_narrow_and_keep_the_order() -> None:
    tree = select(Tree())
    assert list(tree) == [name for name, _ in Tree().named_modules()]
    last = tree.named("layer2.**").of(nn.BatchNorm2d)
    assert last.names == ("layer2.0.bn1", "layer2.0.bn2", "layer2.1.bn1", "layer2.1.bn2")
    assert list(last.where(lambda name, module: "1." in name)) == ["layer2.1.bn1", "layer2.1.bn2"]
    assert list(last.but("**.bn2")) == ["layer2.0.bn1", "layer2.1.bn1"]
    assert list(last.but(last.first(3))) == ["layer2.1.bn2"]
    assert list(tree.of(nn.Linear, nn.Conv2d).last(2)) == ["layer2.1.conv", "head"]
    assert len(last) == 4 and "layer2.0.bn1" in last and "head" not in last
    assert last[1] == "layer2.0.bn2" and last[-1] == "layer2.1.bn2"
    assert last[1:3].names == last.names[1:3] and last[::2].names == last.names[::2]
    # What was narrowed down is as it was.
    assert len(tree) == len(list(Tree().modules()))


def test_inside_is_at_any_depth_and_without_the_module_itself() -> None:
    tree = select(Tree())
    assert list(tree.inside("layer1.0")) == ["layer1.0.conv", "layer1.0.bn1", "layer1.0.bn2"]
    assert list(tree.of(nn.Conv2d).inside("layer*")) == [f"layer{i}.{j}.conv" for i, j in PAIRS]
    assert list(tree.inside(nn.ModuleDict).of(nn.Conv2d)) == list(tree.of(nn.Conv2d))
    assert list(tree.inside(tree.named("layer2")).first()) == ["layer2.0"]
    assert "" not in tree.inside("") and len(tree.inside("")) == len(tree) - 1
    with pytest.raises(LayoutError, match="no module is inside 'head'"):
        tree.inside("head")
    with pytest.raises(LayoutError, match="no module matches 'foot'"):
        tree.inside("foot")


PAIRS = [(1, 0), (1, 1), (2, 0), (2, 1)]


def test_second_names() -> None:
    tree = select(Tree())
    assert list(tree.named("tied")) == list(tree.of(nn.Linear).named("tied")) == ["head"]
    assert "head" not in tree.but("tied")
    shared = nn.ModuleDict({"a": nn.Sequential(nn.Linear(2, 2))})
    shared["b"] = nn.Sequential(shared["a"][0])
    assert list(select(shared).inside("b")) == ["a.0"]


def test_sets_of_modules_match_sets_of_names() -> None:
    tree = select(Tree())
    one, other = tree.inside("layer*"), tree.named("**.bn*") | tree.named("head")
    for made, plain in (
        (one | other, set(one) | set(other)),
        (one & other, set(one) & set(other)),
        (one - other, set(one) - set(other)),
        (other - one, set(other) - set(one)),
        (one.but(other), set(one) - set(other)),
    ):
        assert list(made) == [name for name in tree if name in plain]
    assert (one | other) == (other | one) and hash(one | other) == hash(other | one)
    assert one != other


def test_operations_of_a_selection() -> None:
    tree = select(Tree())
    norms = tree.of(nn.BatchNorm2d).using(Gate())
    both = norms | tree.named("head") | tree.of(nn.Conv2d).using(Shift())
    assert dict(both.sites)["layer1.0.bn1"] == Gate() and dict(both.sites)["head"] is None
    assert resolve(tree.network, both, Affine(raw=True))["head"] == Affine(raw=True)
    assert resolve(tree.network, both)["layer1.0.conv"] == Shift()
    # Narrowing keeps them; the later of two `using` stands; difference keeps those on the left.
    assert dict(both.named("**.bn1").sites)["layer1.0.bn1"] == Gate()
    assert dict(norms.using(Shift()).sites)["layer1.0.bn1"] == Shift()
    assert set(dict((norms - norms.first()).sites).values()) == {Gate()}
    assert set(dict((tree & norms).sites).values()) == {Gate()}
    assert set(dict((norms & tree).sites).values()) == {Gate()}
    assert set(dict((norms | tree.of(nn.BatchNorm2d)).sites).values()) == {Gate()}
    for clash in (lambda: norms | norms.using(Shift()), lambda: norms & norms.using(Shift())):
        with pytest.raises(LayoutError, match=r"'layer1.0.bn1' with different .*Gate.*Shift"):
            clash()


def test_operations_by_name() -> None:
    tree = Tree()
    assert resolve(tree, {"head": "gate", "layer1.*.conv": Shift()})["head"] == Gate()
    assert set(resolve(tree, "layer1.*.conv", "bias").values()) == {Shift()}
    assert select(tree).named("head").using("scale").sites == (("head", Scale()),)
    for wrong in (
        lambda: resolve(tree, {"head": "gat"}),
        lambda: resolve(tree, "head", "gat"),
        lambda: select(tree).named("head").using("gat"),
    ):
        with pytest.raises(OperationError, match="did you mean 'gate'"):
            wrong()
    with pytest.raises(OperationError, match="operation of 'head'"):
        resolve(tree, {"head": "gat"})


def test_selections_in_lists_and_mappings() -> None:
    tree = select(Tree())
    head, norms = tree.named("head"), tree.named("layer1.*.bn1").using(Gate())
    net = tree.network
    assert resolve(net, [head, norms, "layer2.0.conv"], Shift()) == {
        "layer1.0.bn1": Gate(),
        "layer1.1.bn1": Gate(),
        "layer2.0.conv": Shift(),
        "head": Shift(),
    }
    assert resolve(net, {head: Gate(), "layer1.0.bn1": Shift()})["head"] == Gate()
    assert resolve(net, [norms, "layer1.0.bn1"])["layer1.0.bn1"] == Gate()
    for clash in (
        {norms: Shift()},
        {norms: Gate(), "**.bn1": Shift()},
        [norms, norms.using(Shift())],
    ):
        with pytest.raises(LayoutError, match=r"two selectors match 'layer1.0.bn1' with different"):
            resolve(net, clash)


def test_condition_takes_a_selection() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), FiLM(8, operation=Gate()))
    at = select(net).norms() | select(net).named("0").using(Shift()) | select(net).of(FiLM)
    made = condition(net, at=at, generator=Linear(4))
    assert [(s.name, s.operation, s.module) for s in made.layout] == [
        ("0", Shift(), "Conv2d"),
        ("1", Affine(), "BatchNorm2d"),
        ("2", Gate(), "FiLM"),
    ]
    weights = sum(p.numel() for p in net.parameters())
    assert made.layout.backbone == weights
    lines = str(made.layout).splitlines()
    assert lines[1].split() == ["0", "Conv2d", "Shift()", "1", "8", "8"]
    assert lines[-1].startswith(
        f"{made.layout.size / weights:.2%} of the backbone, which has {weights}"
    )


def test_a_selection_of_another_network() -> None:
    one, other = select(Tree()), select(Tree())
    for use in (
        lambda: one | other,
        lambda: one & other,
        lambda: one - other,
        lambda: one.but(other),
        lambda: one.inside(other),
        lambda: resolve(one.network, other),
        lambda: resolve(one.network, ["head", other]),
        lambda: condition(one.network, at=other.named("head"), generator=Linear(2)),
        lambda: resolve(copy.deepcopy(one.network), one),
    ):
        with pytest.raises(LayoutError, match="another network, a Tree"):
            use()


def test_a_network_that_has_changed_since() -> None:
    net = Tree()
    chosen = select(net).named("layer2.*.conv")
    del net.layer2[1]
    with pytest.raises(LayoutError, match=r"changed since the selection, it has no layer2.1.conv"):
        resolve(net, chosen)


def test_nothing_left() -> None:
    tree = select(Tree())
    norms = tree.norms()
    for empty, words in (
        (lambda: norms.named("head"), "none of the 8 selected modules matches 'head'"),
        (lambda: norms.of(nn.Linear), "none of the 8 selected modules is Linear"),
        (lambda: norms.of(), "of no type"),
        (lambda: norms.where(lambda name, module: False), "matches <lambda>"),
        (lambda: norms.but("**"), r"none of the 8 .* is left without '\*\*'"),
        (lambda: norms.but("head"), "matches 'head'"),
        (lambda: norms.but(tree.named("head")), "is in a selection of 1"),
        (lambda: norms - tree, "all 8 modules are in the other"),
        (lambda: norms & tree.named("head"), "in both selections, of 8 and 1"),
        (lambda: norms[8:], "the slice of 8 modules is empty"),
        (lambda: norms[8], "no module 8, there are 8"),
        (lambda: tree.of(nn.Linear).norms(), "none of the 1 .* is a normalisation"),
        (lambda: tree.of(nn.Linear).last_stage(), "in the last of several numbered blocks"),
    ):
        with pytest.raises(LayoutError, match=words):
            empty()


def test_an_empty_match_names_what_would_have_matched() -> None:
    with pytest.raises(LayoutError) as caught:
        select(Tree()).named("layer1.blocks.*.bn1")
    message = str(caught.value)
    assert "near names: layer1.1.bn1, layer1.0.bn1, layer2" in message
    assert "in 'layer1' there are 0, 1" in message
    assert "BatchNorm2d (8), Conv2d (4), Linear (1)" in message
    assert "norms() matches 8" in message and "last_stage() matches 9" in message
    assert "residual_branches(example) and attention_outputs(example)" in message
    with pytest.raises(LayoutError) as caught:
        select(nn.Sequential(nn.Linear(2, 2))).norms()
    assert "norms()" not in str(caught.value) and "last_stage()" not in str(caught.value)


WRONG: dict[str, Any] = {
    "no network": lambda s: select([nn.Linear(2, 2)]),  # type: ignore[arg-type]
    "pattern": lambda s: s.named(nn.Linear),
    "type": lambda s: s.of("Linear"),
    "type of numbers": lambda s: s.of(int),
    "predicate": lambda s: s.where("head"),
    "predicate a type": lambda s: s.where(nn.Linear),
    "selector": lambda s: s.but(3),
    "outer": lambda s: s.inside(3),
    "operation": lambda s: s.using(3),
    "operation class": lambda s: s.using(Affine),
    "union": lambda s: s | "head",
    "intersection": lambda s: s & "head",
    "difference": lambda s: s - "head",
    "index": lambda s: s["head"],
    "count": lambda s: s.first(0),
    "count true": lambda s: s.last(True),
    "default operation": lambda s: resolve(s.network, "head", 3),  # type: ignore[arg-type]
    "operation of a mapping": lambda s: resolve(s.network, {s: None}),  # type: ignore[dict-item]
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_arguments(what: str) -> None:
    with pytest.raises((ArgumentTypeError, TypeCheckError)):
        WRONG[what](select(Tree()))


def test_printed_selection() -> None:
    tree = select(Tree())
    chosen = tree.named("layer1.0") | tree.named("layer1.0.conv").using(Gate())
    lines = [line.split() for line in str(chosen).splitlines()]
    assert lines == [
        ["site", "module", "operation", "axis", "width"],
        ["layer1.0", "ModuleDict"],
        ["layer1.0.conv", "Conv2d", "Gate()", "1", "2"],
        ["2", "sites"],
    ]
    assert "operation" not in str(tree)  # none is given


# --- presets -------------------------------------------------------------------------------------


class TinyRMSNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))


class NormFree(nn.Linear):
    """Has "Norm" in its name, and a matrix."""


class AdaNorm(nn.Module):
    """A norm with a linear map: the normalisation is a child module."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.inner = nn.Linear(4, 4), nn.LayerNorm(4, elementwise_affine=False)


class Normalize(nn.Module):
    pass


class NoNorm(nn.Module):
    pass


def test_norms() -> None:
    net = nn.ModuleDict(
        {
            "batch": nn.BatchNorm1d(4),
            "sync": nn.SyncBatchNorm(4),
            "instance": nn.InstanceNorm2d(4),
            "group": nn.GroupNorm(2, 4),
            "layer": nn.LayerNorm(4),
            "rms": nn.RMSNorm(4),
            "local": nn.LocalResponseNorm(3),
            "tiny": TinyRMSNorm(),
            "ada": AdaNorm(),
            "free": NormFree(4, 4),
            "maps": Normalize(),
            "none": NoNorm(),
            "linear": nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)),
            "spectral": nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)),
            "relu": nn.ReLU(),
        }
    )
    plain = ["batch", "sync", "instance", "group", "layer", "rms", "local", "tiny"]
    assert list(select(net).norms()) == [*plain, "ada.inner"]


class Block(nn.Module):
    def __init__(self, width: int = 2) -> None:
        super().__init__()
        self.map = nn.Linear(width, width)


class Net(nn.Module):
    def __init__(self, **children: nn.Module) -> None:
        super().__init__()
        for name, child in children.items():
            setattr(self, name, child)


def blocks(count: int, width: int = 2) -> list[nn.Module]:
    return [Block(width) for _ in range(count)]


STAGES: dict[str, tuple[nn.Module, str | None]] = {
    "siblings with numbers": (Net(layer1=Block(), layer2=Block(), head=Block()), "layer2"),
    "ten is after nine": (Net(**{f"stage{i}": Block() for i in range(1, 11)}), "stage10"),
    "out of order": (Net(b2=Block(), b10=Block(), b1=Block()), "b10"),
    "a list": (Net(layers=nn.ModuleList(blocks(3))), "layers.2"),
    "a list of different blocks": (nn.ModuleList([Block(), Net(a=Block())]), "1"),
    "a sequence": (Net(body=nn.Sequential(nn.Linear(2, 2), *blocks(3), Net(a=Block()))), "body.3"),
    "stages of blocks": (
        Net(layer1=nn.Sequential(*blocks(2)), layer2=nn.Sequential(*blocks(2))),
        "layer2",
    ),
    "encoder and decoder": (
        Net(down=nn.ModuleList(blocks(2)), up=nn.ModuleList(blocks(2))),
        "up.1",
    ),
    "the larger group": (
        Net(layers=nn.ModuleList(blocks(2, 8)), head1=Block(), head2=Block()),
        "layers.1",
    ),
    "a sequence of leaves": (nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)), None),
    "a body and a head": (nn.Sequential(Block(), Net(a=Block())), None),
    "one block": (Net(layers=nn.ModuleList(blocks(1))), None),
    "blocks without parameters": (
        nn.ModuleList([nn.Sequential(nn.ReLU()), nn.Sequential(nn.ReLU())]),
        None,
    ),
}


@pytest.mark.parametrize("what", STAGES)
def test_last_stage(what: str) -> None:
    net, stage = STAGES[what]
    if stage is None:
        with pytest.raises(LayoutError, match="numbered blocks"):
            select(net).last_stage()
        return
    names = [name for name, _ in net.named_modules()]
    expected = [name for name in names if name == stage or name.startswith(f"{stage}.")]
    assert list(select(net).last_stage()) == expected


def test_stages_are_of_the_whole_network() -> None:
    net = Net(layers=nn.ModuleList(blocks(2, 8)), heads=nn.ModuleList(blocks(2)))
    assert list(select(net).of(nn.Linear).last_stage()) == ["layers.1.map"]
    with pytest.raises(LayoutError, match="numbered blocks"):
        select(net).inside("heads").last_stage()


def test_lazy_modules_have_no_size_yet() -> None:
    lazy = nn.Sequential(nn.Linear(3, 4), nn.LazyLinear(4))
    assert count_parameters(lazy) is None
    assert count_parameters(nn.Linear(3, 4)) == 16
    assert condition(lazy, at="0", generator=Linear(2)).layout.backbone is None


# --- networks of other packages -------------------------------------------------------------------


def started(net: nn.Module, at: Any, example: Any, run: Any, **kwargs: Any) -> list[str]:
    """Condition: the output is unchanged at first, and the parameters of each site change it."""
    net.eval()
    before = run(net)
    made = condition(net, at=at, generator=Linear(4), example=example, **kwargs)
    assert torch.equal(run(lambda *a, **k: made(*a, condition=torch.ones(2, 4), **k)), before)
    for site in made.layout:
        flat = torch.zeros(made.layout.size)
        flat[made.layout.span(site.name)] = torch.linspace(-1, 1, site.size)
        after = run(lambda *a, task=flat, **k: made(*a, task=task, **k))
        assert not torch.allclose(after, before), site.name
    made.remove()
    return list(made.layout.names)


def test_bert() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        vocab_size=50,
    )  # fmt: skip
    net, tokens = transformers.BertModel(config), torch.arange(14).reshape(2, 7)
    chosen = select(net)
    norms = [name for name, _ in net.named_modules() if name.endswith("LayerNorm")]
    assert len(norms) == 5 and list(chosen.norms()) == norms
    last = [n for n, _ in net.named_modules() if n.startswith("encoder.layer.1")]
    assert list(chosen.last_stage()) == last
    at = (
        chosen.norms()
        | chosen.attention_outputs(tokens).using(Gate())
        | (chosen.residual_branches(tokens) - chosen.attention_outputs(tokens)).using(Shift())
    )
    names = started(net, at, tokens, lambda run: run(tokens).last_hidden_state)
    assert names == [n for n in chosen if n in norms or n.endswith("output.dense")]


def test_gpt2() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        n_embd=16, n_layer=2, n_head=2, vocab_size=50, n_positions=16, bos_token_id=0,
        eos_token_id=0,
    )  # fmt: skip
    net, tokens = transformers.GPT2Model(config), torch.arange(14).reshape(2, 7)
    at = select(net).last_stage().residual_branches(tokens)
    names = started(net, at, tokens, lambda run: run(tokens).last_hidden_state, axis=-1)
    assert names == ["h.1.attn.c_proj", "h.1.mlp.c_proj"]
    assert list(select(net).norms()) == ["h.0.ln_1", "h.0.ln_2", "h.1.ln_1", "h.1.ln_2", "ln_f"]


def test_norms_under_other_names() -> None:
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    llama = transformers.LlamaModel(
        transformers.LlamaConfig(**small, intermediate_size=32, vocab_size=50)
    )
    kept = ["layers.0.input_layernorm", "layers.0.post_attention_layernorm", "norm"]
    assert list(select(llama).norms()) == kept
    t5 = transformers.T5EncoderModel(
        transformers.T5Config(d_model=16, num_layers=1, num_heads=2, d_kv=8, d_ff=32, vocab_size=50)
    )
    assert [name.rpartition(".")[2] for name in select(t5).norms()] == [
        "layer_norm",
        "layer_norm",
        "final_layer_norm",
    ]


def test_diffusion_unet() -> None:
    diffusers = pytest.importorskip("diffusers")
    net = diffusers.UNet2DModel(
        sample_size=8, block_out_channels=(8, 16), norm_num_groups=4, layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([1, 2])
    chosen = select(net)
    groups = [n for n, m in net.named_modules() if isinstance(m, nn.GroupNorm)]
    assert list(chosen.norms()) == groups
    assert chosen.last_stage()[0] == "up_blocks.1"
    at = chosen.last_stage().residual_branches((x, t)) | chosen.attention_outputs((x, t))
    names = started(net, at, (x, t), lambda run: run(x, t).sample)
    heads = [name for name in names if name.endswith("attentions.0.to_out.0")]
    assert {*names} - {*heads} == {
        "up_blocks.0.attentions.1.to_out.0",
        *(f"up_blocks.1.resnets.{i}.conv2" for i in (0, 1)),
    }
    assert len(heads) == 3


def test_diffusion_transformer() -> None:
    diffusers = pytest.importorskip("diffusers")
    net = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, num_layers=2, sample_size=8,
        norm_num_groups=4, num_embeds_ada_norm=10,
    )  # fmt: skip
    example = (torch.randn(2, 4, 8, 8), torch.tensor([1, 2]), torch.tensor([1, 2]))
    norms = select(net).norms()
    assert list(norms) == [
        *(f"transformer_blocks.{i}.{n}" for i in (0, 1) for n in ("norm1.norm", "norm3")),
        "norm_out",
    ]
    at = select(net).residual_branches(example)
    assert len(started(net, at, example, lambda run: run(*example).sample)) == 4


def test_transformer_encoder() -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    net = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
    x = torch.randn(2, 5, 16)
    at = select(net).last_stage().attention_outputs(x) | select(net).norms().inside("layers.0")
    names = started(net, at, x, lambda run: run(x))
    assert names == ["layers.0.norm1", "layers.0.norm2", "layers.2.self_attn"]


def test_presets_that_need_a_run_find_nothing() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    with pytest.raises(LayoutError, match="no module ends a residual branch when run"):
        select(net).residual_branches(torch.randn(2, 3))
    with pytest.raises(LayoutError, match="no module returns the output of an attention"):
        select(net).attention_outputs(torch.randn(2, 3))
    with pytest.raises(LayoutError, match="does not run on the example"):
        select(net).attention_outputs(torch.randn(2, 4))
