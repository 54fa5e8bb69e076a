"""Saved conditioners load bit-identically, for their own backbone only, or raise an error.

Fixtures of earlier versions are loaded forever; see ``saved.py``.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from jaxtyping import TypeCheckError
from safetensors.torch import load_file, save_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

import featurewise as fw
from featurewise.common import files as common_files
from featurewise.common.seal import sealed
from featurewise.core import ArgumentTypeError, Diagonal
from featurewise.generators import MLP, Configured, Generator, Linear
from featurewise.retrofit import BackboneError, Conditioned, FormatError, SavingError, saving
from featurewise.retrofit.fingerprint import Fingerprint, statistics_of

sys.path.insert(0, str(Path(__file__).parent))
try:
    from saved import (
        CASES,
        FIXTURES,
        FLOATS,
        NORMS,
        Backbone,
        conditioned,
        images,
        run,
    )
finally:
    sys.path.pop(0)

FILES = ["README.md", "config.json", "manifest.json", "model.safetensors"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def reseal(folder: Path, change: Callable[[dict[str, Any]], None] = lambda manifest: None) -> None:
    """Update the hashes of the manifest to the content of the folder."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest.pop("seal")
    for name, entry in manifest["files"].items():
        data = (folder / name).read_bytes()
        entry |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    change(manifest)
    (folder / "manifest.json").write_bytes(sealed(manifest))


def forge(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the configuration and make all hashes agree."""
    config = json.loads((folder / "config.json").read_bytes())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    reseal(folder)


def twin(net: Conditioned, statistics: bool = False) -> nn.Module:
    """The backbone as before training, with initial statistics of its batch norms."""
    backbone = Backbone()
    backbone.load_state_dict(net.backbone.state_dict())
    if not statistics:
        for module in backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
    return backbone.eval()


@pytest.fixture
def net() -> Conditioned:
    return conditioned("linear")


@pytest.fixture
def folder(net: Conditioned, tmp_path: Path) -> Path:
    net.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


# --- round trips ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_there_and_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    net = conditioned(name)
    backbone = twin(net)
    state = torch.random.get_rng_state()
    net.save_pretrained(tmp_path / "one")
    assert list(contents(tmp_path / "one")) == FILES
    again = Conditioned.from_pretrained(tmp_path / "one", backbone)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert type(again.generator) is type(net.generator)
    assert again.layout == net.layout
    mine, theirs = net.state_dict(), again.state_dict()
    assert list(mine) == list(theirs)
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    assert torch.equal(run(again, name), run(net, name))
    again.save_pretrained(tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    again.verify()


def test_another_process_reads_it(folder: Path, net: Conditioned) -> None:
    (folder.parent / "backbone.safetensors").write_bytes(to_bytes(twin(net).state_dict()))
    code = """
import torch, sys
sys.path.insert(0, sys.argv[2])
from safetensors.torch import load_file, save_file
from saved import Backbone, run
import featurewise as fw
backbone = Backbone().eval()
backbone.load_state_dict(load_file(sys.argv[1] + "/backbone.safetensors"))
net = fw.Conditioned.from_pretrained(sys.argv[1] + "/saved", backbone)
save_file({"y": run(net, "linear")}, sys.argv[1] + "/out.safetensors")
"""
    place = str(folder.parent)
    subprocess.run([sys.executable, "-c", code, place, str(Path(__file__).parent)], check=True)
    assert torch.equal(load_file(f"{place}/out.safetensors")["y"], run(net, "linear"))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["linear", "lookup", "recurrent_gru", "squeeze_excite"])
def test_of_another_dtype(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    net = conditioned(name).to(dtype)
    net.save_pretrained(tmp_path / "one")
    again = Conditioned.from_pretrained(tmp_path / "one", twin(net).to(dtype))
    mine, theirs = net.generator.state_dict(), again.generator.state_dict()
    for key, tensor in mine.items():
        assert theirs[key].dtype == tensor.dtype
        assert torch.equal(theirs[key], tensor)


def test_of_several_dtypes_and_with_buffers_that_are_not_saved(tmp_path: Path) -> None:
    mixed, whole = conditioned("mlp"), conditioned("optional").double()
    mixed.generator.get_submodule("encoder").half()
    for name, net in (("mixed", mixed), ("whole", whole)):
        net.save_pretrained(tmp_path / name)
        again = Conditioned.from_pretrained(tmp_path / name, twin(net), check="architecture")
        for kind in ("named_parameters", "named_buffers"):
            mine, theirs = (dict(getattr(n.generator, kind)()) for n in (net, again))
            assert {k: t.dtype for k, t in mine.items()} == {k: t.dtype for k, t in theirs.items()}


def test_generator_and_backbone_of_different_dtypes(tmp_path: Path) -> None:
    net = conditioned("linear")
    net.generator.double()
    net.save_pretrained(tmp_path / "one")
    again = Conditioned.from_pretrained(tmp_path / "one", twin(net))
    z = FLOATS.double()
    assert torch.equal(again(images(), condition=z), net(images(), condition=z))


def test_mode_follows_the_network(folder: Path, net: Conditioned) -> None:
    for mode in (True, False):
        again = Conditioned.from_pretrained(folder, twin(net).train(mode))
        assert again.generator.training is again.backbone.training is mode


def test_gradients_flow_after_loading(folder: Path, net: Conditioned) -> None:
    again = Conditioned.from_pretrained(folder, twin(net))
    again(images(), condition=FLOATS).sum().backward()
    assert all(p.grad is not None and p.is_leaf for p in again.generator.parameters())


def test_ties_within_the_generator_stay(tmp_path: Path) -> None:
    class Tied(Generator):
        """Two names of one map."""

        def __init__(self, width: int) -> None:
            super().__init__(nn.Sequential(nn.Linear(width, width), nn.Linear(width, width)), width)
            self.encoder[1].weight = self.encoder[0].weight  # type: ignore[index, union-attr]

    torch.manual_seed(0)
    net = fw.condition(Backbone(), at=NORMS, generator=Tied(6)).double()
    net.save_pretrained(tmp_path / "one")
    again = Conditioned.from_pretrained(tmp_path / "one", twin(net).double())
    encoder: Any = again.generator.encoder
    assert encoder[0].weight is encoder[1].weight
    assert encoder[0].weight.dtype == torch.float64
    z = FLOATS.double()
    x = images().double()
    assert torch.equal(again(x, condition=z), net.eval()(x, condition=z))


def test_tied_backbone(tmp_path: Path) -> None:
    def make() -> nn.Module:
        torch.manual_seed(1)
        net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.BatchNorm1d(4))
        net.append(net[3])
        net[2].weight = net[0].weight
        return net

    net = fw.condition(make(), at="0", generator=Linear(6))
    net(torch.randn(5, 4), condition=torch.randn(5, 6))
    net.eval().save_pretrained(tmp_path / "one")
    again = Conditioned.from_pretrained(tmp_path / "one", make().eval())
    x = torch.randn(3, 4)
    assert torch.equal(again(x, condition=FLOATS), net(x, condition=FLOATS))


#: The names under which weights are stored: a contract with every file that was ever saved.
KEYS = {
    "linear": ["head.weight", "head.bias"],
    "linear_operations": ["head.weight", "head.bias"],
    "mlp": [
        "encoder.layers.0.weight",
        "encoder.layers.0.bias",
        "encoder.layers.2.weight",
        "encoder.layers.2.bias",
        "head.weight",
        "head.bias",
    ],
    "lookup": ["table"],
    "recurrent_gru": [
        "encoder.embedding.weight",
        "encoder.recurrent.weight_ih_l0",
        "encoder.recurrent.weight_hh_l0",
        "encoder.recurrent.bias_ih_l0",
        "encoder.recurrent.bias_hh_l0",
        "head.weight",
        "head.bias",
    ],
    "learned": ["vector"],
    "squeeze_excite": [
        f"{part}.{place}.{kind}"
        for part in ("squeeze", "excite")
        for place in range(2)
        for kind in ("weight", "bias")
    ],
    "adain": [],
    "encoder": [
        "encoder.0.weight",
        "encoder.1.weight",
        "encoder.1.bias",
        "head.weight",
        "head.bias",
    ],
}
KEYS["recurrent_lstm"] = KEYS["recurrent_gru"]
HEAD = ["head.weight", "head.bias"]
HIDDEN = ["encoder.layers.0.weight", "encoder.layers.0.bias"]
KEYS |= {
    "sum": [*(f"parts.floats.{key}" for key in HEAD), "parts.ids.table", "parts.all.vector"],
    "product": [*(f"parts.floats.{key}" for key in (*HIDDEN, *HEAD)), "parts.ids.table"],
    "joint": ["encoder.encoders.tokens.weight", *HEAD],
    "by_site": ["parts.stem.head.weight", "parts.stem.head.bias", "parts.blocks/*/1.table"],
    "optional": [f"generator.{key}" for key in (*HIDDEN, *HEAD)],
    "damped": ["multipliers", *(f"generator.{key}" for key in HEAD)],
    "bounded": [f"generator.generator.{key}" for key in HEAD],
    "bank": ["rows"],
}


@pytest.mark.parametrize("name", CASES)
def test_state_dict_keys_are_a_contract(name: str, tmp_path: Path) -> None:
    net = conditioned(name)
    generator = [f"generator.{key}" for key in KEYS[name]]
    backbone = [f"backbone.{key}" for key in Backbone().state_dict()]
    assert list(net.state_dict()) == backbone + generator
    net.save_pretrained(tmp_path / "one")
    stored = set(load_file(tmp_path / "one" / "model.safetensors"))
    statistics = {f"statistics.{key}" for key in statistics_of(net.backbone)}
    assert stored == statistics | set(generator)


@pytest.mark.parametrize("name", CASES)
def test_fixtures_load(name: str) -> None:
    backbone = Backbone().eval()
    backbone.load_state_dict(load_file(FIXTURES / "backbone.safetensors"))
    kept = load_file(FIXTURES / "outputs.safetensors")
    net = Conditioned.from_pretrained(FIXTURES / name, backbone)
    assert torch.equal(images(), kept["input"])
    assert torch.allclose(run(net, name), kept[name], rtol=0, atol=1e-6)


def test_fixtures_are_small_and_complete() -> None:
    files = [path for path in FIXTURES.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 100_000
    assert {path.name for path in FIXTURES.iterdir() if path.is_dir()} == set(CASES)


# --- statistics ----------------------------------------------------------------------------------


def test_statistics_come_with_it(net: Conditioned, folder: Path) -> None:
    fresh = twin(net)
    assert not torch.equal(fresh(images()), net.backbone(images()))
    Conditioned.from_pretrained(folder, fresh)
    mine, theirs = statistics_of(net.backbone), statistics_of(fresh)
    assert len(mine) == 6
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)


def test_without_statistics_they_must_agree(net: Conditioned, tmp_path: Path) -> None:
    net.save_pretrained(tmp_path / "one", statistics=False)
    assert set(load_file(tmp_path / "one" / "model.safetensors")) == {
        "generator.head.weight",
        "generator.head.bias",
    }
    with pytest.raises(BackboneError, match=r"6 of 18 tensors: blocks\.0\.1\.running_mean"):
        Conditioned.from_pretrained(tmp_path / "one", twin(net))
    again = Conditioned.from_pretrained(tmp_path / "one", twin(net, statistics=True))
    assert torch.equal(run(again, "linear"), run(net, "linear"))


def test_statistics_of_other_norms() -> None:
    norms = nn.Sequential(
        nn.InstanceNorm2d(3, track_running_stats=True),
        nn.InstanceNorm2d(3),
        nn.BatchNorm1d(3, track_running_stats=False),
        nn.LayerNorm(3),
    )
    assert list(statistics_of(norms)) == [
        "0.running_mean",
        "0.running_var",
        "0.num_batches_tracked",
    ]
    assert next(iter(statistics_of(nn.BatchNorm1d(2)))) == "running_mean"


# --- other backbones -----------------------------------------------------------------------------


class Deeper(Backbone):
    pass


def _extra(net: Any) -> None:
    net.more = nn.Linear(1, 1)


def _missing(net: Any) -> None:
    del net.head


def _shape(net: Any) -> None:
    net.head = nn.Linear(4, 3)


def _kind(net: Any) -> None:
    net.__class__ = Deeper


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_extra, "extra tensors more.weight, more.bias"),
        (_missing, "missing tensors head.weight, head.bias"),
        (_shape, r"different shapes: head.weight \(3, 4\) instead of \(2, 4\), head.bias"),
        (_kind, "expected a Backbone, got a Deeper"),
    ],
)
@pytest.mark.parametrize("check", ["weights", "architecture", "later"])
def test_another_architecture_is_named(
    net: Conditioned, folder: Path, change: Callable[[Any], None], message: str, check: str
) -> None:
    other = twin(net)
    change(other)
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(BackboneError, match=message) as caught:
        Conditioned.from_pretrained(folder, other, check=check)
    assert str(folder) in str(caught.value)
    assert all(torch.equal(before[key], t) for key, t in other.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in other.modules())


def test_other_values_are_named(net: Conditioned, folder: Path) -> None:
    other = twin(net)
    with torch.no_grad():
        other.get_parameter("blocks.1.0.weight")[0, 0, 0, 0] += 1e-7
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(BackboneError, match=r"1 of 12 tensors: blocks\.1\.0\.weight$"):
        Conditioned.from_pretrained(folder, other)
    assert all(torch.equal(before[key], t) for key, t in other.state_dict().items())
    again = Conditioned.from_pretrained(folder, other, check="architecture")
    assert torch.isfinite(run(again, "linear")).all()
    again.verify()


def test_only_a_few_are_named(net: Conditioned, folder: Path) -> None:
    torch.manual_seed(5)
    with pytest.raises(BackboneError, match=r"12 of 12 tensors: .* and 7 more$"):
        Conditioned.from_pretrained(folder, Backbone())


def test_another_dtype_is_another_value(net: Conditioned, folder: Path) -> None:
    with pytest.raises(
        BackboneError, match="different dtypes: stem.weight float64 instead of float32"
    ):
        Conditioned.from_pretrained(folder, twin(net).double())
    again = Conditioned.from_pretrained(folder, twin(net).double(), check="architecture")
    y = again(images().double(), condition=FLOATS)
    assert torch.allclose(y, run(net, "linear").double(), atol=1e-5)


def test_values_beyond_plain_floats(tmp_path: Path) -> None:
    def of(tensor: Tensor) -> str | None:
        module = nn.Module()
        module.register_buffer("it", tensor)
        return Fingerprint.of(module).tensors["it"].digest

    x = torch.arange(6.0).reshape(2, 3)
    assert of(x) == hashlib.sha256(struct.pack("<6f", *range(6))).hexdigest()[:16]
    assert of(x.t()) == of(x.t().contiguous()) != of(x)
    assert of(x[:, 1]) == of(x[:, 1].clone())
    c = torch.complex(x, x)
    assert of(c.conj()) == of(c.conj().resolve_conj()) != of(c)
    assert of(torch.tensor(-0.0)) != of(torch.tensor(0.0))
    assert of(torch.zeros(0)) == hashlib.sha256(b"").hexdigest()[:16]
    assert of(torch.zeros(2, device="meta")) is None
    assert of(torch.eye(2).to_sparse()) is None


def test_fingerprint_there_and_back(net: Conditioned) -> None:
    mark = Fingerprint.of(net.backbone)
    data = json.loads(json.dumps(mark.to_json()))
    assert Fingerprint.from_json(data) == mark
    for bad in ({}, data | {"architecture": "0"}, data | {"tensors": {"a": "b"}}, []):
        with pytest.raises(BackboneError, match="not a fingerprint"):
            Fingerprint.from_json(bad)


# --- state that is in no tensor of the state dict -------------------------------------------------


class Buffered(nn.Module):
    """Computes with a buffer that is not persistent, with extra state, and with its settings."""

    frequencies: Tensor

    def __init__(self, heads: int = 2, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.flag = False  # switched by whoever runs it
        self.register_buffer("frequencies", torch.arange(4.0), persistent=False)
        self.extra: Any = {"table": torch.arange(3), "names": ["a", "b"], "scale": 2.0}
        self.inner = nn.Linear(4, 4)
        self.drop = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(self.drop(x * self.frequencies))
        return y

    def get_extra_state(self) -> Any:
        return self.extra

    def set_extra_state(self, state: Any) -> None:
        self.extra = state


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make().eval()


def buffered() -> Buffered:
    made = seeded(Buffered)
    assert isinstance(made, Buffered)
    return made


def _other_buffer(net: Buffered) -> None:
    net.frequencies[2] += 1


def _wider_buffer(net: Buffered) -> None:
    net.frequencies = torch.arange(5.0)


def _other_tensor_of_state(net: Buffered) -> None:
    net.extra["table"] = torch.tensor([0, 1, 3])


def _other_number_of_state(net: Buffered) -> None:
    net.extra["scale"] = 3.0


def _other_name_of_state(net: Buffered) -> None:
    net.extra["names"][1] = "c"


def _heads(net: Buffered) -> None:
    net.heads = 4


def _causal(net: Buffered) -> None:
    net.causal = True


HIDDEN = {
    _other_buffer: "different buffers or extra state: frequencies",
    _wider_buffer: "different buffers or extra state: frequencies",
    _other_tensor_of_state: "different buffers or extra state: _extra_state",
    _other_number_of_state: "different buffers or extra state: _extra_state",
    _other_name_of_state: "different buffers or extra state: _extra_state",
}


@pytest.mark.parametrize("change", HIDDEN, ids=lambda change: change.__name__)
def test_other_hidden_state_is_another_value(
    change: Callable[[Buffered], None], tmp_path: Path
) -> None:
    fw.condition(buffered(), at="inner", generator=Linear(2)).save_pretrained(tmp_path / "it")
    Conditioned.from_pretrained(tmp_path / "it", buffered())
    other = buffered()
    change(other)
    with pytest.raises(BackboneError, match=HIDDEN[change]):
        Conditioned.from_pretrained(tmp_path / "it", other)
    late = Conditioned.from_pretrained(tmp_path / "it", other, check="later")
    with pytest.raises(BackboneError, match=HIDDEN[change]):
        late.verify()
    Conditioned.from_pretrained(tmp_path / "it", other, check="architecture")


@pytest.mark.parametrize(
    ("change", "message"),
    [(_heads, "heads 4 instead of 2"), (_causal, "causal True instead of False")],
)
@pytest.mark.parametrize("check", ["weights", "architecture", "later"])
def test_other_settings_are_another_architecture(
    change: Callable[[Buffered], None], message: str, check: str, tmp_path: Path
) -> None:
    fw.condition(buffered(), at="inner", generator=Linear(2)).save_pretrained(tmp_path / "it")
    other = buffered()
    change(other)
    with pytest.raises(BackboneError, match=f"different settings: {message}; .*check='sites'"):
        Conditioned.from_pretrained(tmp_path / "it", other, check=check)
    Conditioned.from_pretrained(tmp_path / "it", other, check="sites")


def test_flags_and_what_acts_in_training_alone_may_differ(tmp_path: Path) -> None:
    net = fw.condition(buffered(), at="inner", generator=Linear(2))
    net.save_pretrained(tmp_path / "it")
    other = buffered()
    other.flag, other.drop.p = True, 0.0
    other.train()
    Conditioned.from_pretrained(tmp_path / "it", other)


@pytest.mark.parametrize(
    ("make", "other", "message"),
    [
        (
            lambda: nn.TransformerEncoderLayer(8, 2, 16),
            lambda: nn.TransformerEncoderLayer(8, 4, 16),
            "self_attn.num_heads 4 instead of 2",
        ),
        (
            lambda: nn.TransformerEncoderLayer(8, 2, 16),
            lambda: nn.TransformerEncoderLayer(8, 2, 16, norm_first=True),
            "norm_first True instead of False",
        ),
        (
            lambda: nn.TransformerEncoderLayer(8, 2, 16),
            lambda: nn.TransformerEncoderLayer(8, 2, 16, activation=F.gelu),
            "activation gelu instead of relu",
        ),
        (
            lambda: nn.Sequential(nn.LayerNorm(4)),
            lambda: nn.Sequential(nn.LayerNorm(4, eps=1e-3)),
            "0.eps 0.001 instead of 1e-05",
        ),
        (
            lambda: nn.Sequential(nn.LayerNorm(4), nn.RNN(4, 4)),
            lambda: nn.Sequential(nn.LayerNorm(4), nn.RNN(4, 4, nonlinearity="relu")),
            "1.mode 'RNN_RELU' instead of 'RNN_TANH'",
        ),
        (
            lambda: nn.Sequential(nn.Conv2d(3, 4, 3, padding=1)),
            lambda: nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect")),
            "padding_mode 'reflect' instead of 'zeros'",
        ),
        (
            lambda: nn.Sequential(nn.Conv2d(3, 4, 3)),
            lambda: nn.Sequential(nn.Conv2d(3, 4, 3, stride=2)),
            r"0.stride \(2, 2\) instead of \(1, 1\)",
        ),
    ],
)
def test_settings_of_modules_of_torch(
    make: Callable[[], nn.Module], other: Callable[[], nn.Module], message: str, tmp_path: Path
) -> None:
    at = (nn.LayerNorm, nn.Conv2d)
    net = fw.condition(
        seeded(make), at=lambda _, m: isinstance(m, at), operation="scale", generator=Linear(2)
    )
    net.save_pretrained(tmp_path / "it")
    Conditioned.from_pretrained(tmp_path / "it", seeded(make))
    with pytest.raises(BackboneError, match=message):
        Conditioned.from_pretrained(tmp_path / "it", seeded(other))


def test_state_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    def strange() -> Buffered:
        made = buffered()
        made.extra = {"thing": object()}
        return made

    fw.condition(strange(), at="inner", generator=Linear(2)).save_pretrained(tmp_path / "it")
    with pytest.raises(BackboneError, match="state that cannot be read: _extra_state"):
        Conditioned.from_pretrained(tmp_path / "it", strange())
    Conditioned.from_pretrained(tmp_path / "it", strange(), check="architecture")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("dtype", [torch.qint8, torch.float16], ids=str)
def test_a_dynamically_quantised_network(dtype: torch.dtype, tmp_path: Path) -> None:
    def quantised(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        plain = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 4))
        made = torch.ao.quantization.quantize_dynamic(plain, {nn.Linear}, dtype=dtype)
        assert isinstance(made, nn.Module)
        return made

    fw.condition(quantised(0), at="1", generator=Linear(2)).save_pretrained(tmp_path / "it")
    Conditioned.from_pretrained(tmp_path / "it", quantised(0))
    with pytest.raises(BackboneError, match=r"extra state: .*0\._packed_params\._packed_params"):
        Conditioned.from_pretrained(tmp_path / "it", quantised(1))


def test_digests_of_quantised_tensors() -> None:
    def of(tensor: Tensor) -> str | None:
        module = nn.Module()
        module.register_buffer("it", tensor)
        return Fingerprint.of(module).tensors["it"].digest

    x = torch.arange(6.0).reshape(2, 3)
    one = torch.quantize_per_tensor(x, 0.5, 1, torch.qint8)
    scales = torch.tensor([0.5, 0.25])
    by_row = torch.quantize_per_channel(x, scales, torch.zeros(2), 0, torch.qint8)
    other_scale = torch.quantize_per_channel(x, scales * 2, torch.zeros(2), 0, torch.qint8)
    digests = [
        of(one),
        of(torch.quantize_per_tensor(x, 0.25, 1, torch.qint8)),
        of(torch.quantize_per_tensor(x + 1, 0.5, 1, torch.qint8)),
        of(by_row),
        of(other_scale),
    ]
    assert None not in digests and len(set(digests)) == 5
    assert of(one) == of(torch.quantize_per_tensor(x, 0.5, 1, torch.qint8))


def test_sites_alone(tmp_path: Path) -> None:
    """A resized vocabulary and another head, both outside the sites."""

    def language(vocabulary: int = 7, answers: int = 3, width: int = 4) -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Embedding(vocabulary, width), nn.LayerNorm(width), nn.Linear(width, answers)
        )

    net = fw.condition(language(), at="1", generator=Linear(2))
    nn.init.normal_(net.generator.head.weight)
    net.save_pretrained(tmp_path / "it")
    other = language(9, 5)
    for check in ("weights", "architecture", "later"):
        with pytest.raises(
            BackboneError, match="check='sites' compares only the modules at the sites"
        ):
            Conditioned.from_pretrained(tmp_path / "it", other, check=check)
    again = Conditioned.from_pretrained(tmp_path / "it", other, check="sites")
    assert again(torch.arange(9), condition=torch.zeros(9, 2)).shape == (9, 5)
    again.verify()
    with pytest.raises(
        BackboneError, match=r"different shapes: 1\.weight \(6,\) instead of \(4,\)"
    ):
        Conditioned.from_pretrained(tmp_path / "it", language(width=6), check="sites")
    with pytest.raises(BackboneError, match="missing tensors 1.weight"):
        Conditioned.from_pretrained(tmp_path / "it", nn.Sequential(nn.Identity()), check="sites")


def test_files_of_version_0_1_do_not_contain_it(tmp_path: Path) -> None:
    fw.condition(buffered(), at="inner", generator=Linear(2)).save_pretrained(tmp_path / "it")
    forge(
        tmp_path / "it", lambda config: [config["backbone"].pop(k) for k in ("hidden", "settings")]
    )
    other = buffered()
    for change in (*HIDDEN, _heads, _causal):
        change(other)
    Conditioned.from_pretrained(tmp_path / "it", other)


# --- before the backbone's own checkpoint --------------------------------------------------------


def test_before_the_checkpoint(net: Conditioned, folder: Path) -> None:
    backbone = Backbone().eval()
    again = Conditioned.from_pretrained(folder, backbone, check="later")
    backbone(images())  # an unconditioned call asks nothing
    for _ in range(2):
        with pytest.raises(BackboneError, match="different values"):
            run(again, "linear")
    with pytest.raises(BackboneError, match="different values"), again.using(condition=FLOATS):
        backbone(images())
    with pytest.raises(BackboneError, match="different values"):
        again.verify()
    backbone.load_state_dict(twin(net).state_dict())
    assert torch.equal(run(again, "linear"), run(net, "linear"))
    hooks = [hook.__self__ for hook in backbone._forward_pre_hooks.values()]
    assert not any(isinstance(hook, saving.VerifyOnFirstCall) for hook in hooks)
    with torch.no_grad():
        backbone.stem.weight.add_(1)
    run(again, "linear")  # once is enough
    with pytest.raises(BackboneError, match="stem.weight"):
        again.verify()


def test_statistics_are_set_once(net: Conditioned, folder: Path) -> None:
    again = Conditioned.from_pretrained(folder, twin(net), check="later")
    again.verify()
    mean = again.backbone.get_buffer("blocks.0.1.running_mean")
    assert torch.equal(mean, net.backbone.get_buffer("blocks.0.1.running_mean"))
    mean.zero_()
    run(again, "linear")
    again.verify()
    assert not mean.any()


def test_copies_wait_on_their_own(net: Conditioned, folder: Path) -> None:
    again = Conditioned.from_pretrained(folder, Backbone().eval(), check="later")
    other = copy.deepcopy(again)
    other.backbone.load_state_dict(twin(net).state_dict())
    assert torch.equal(run(other, "linear"), run(net, "linear"))
    assert not other.backbone._forward_pre_hooks
    with pytest.raises(BackboneError, match="different values"):
        run(again, "linear")


def test_removal_takes_the_check_away(folder: Path) -> None:
    backbone = Backbone().eval()
    again = Conditioned.from_pretrained(folder, backbone, check="later")
    assert again.remove() is backbone
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in backbone.modules())


def test_on_the_meta_device(net: Conditioned, folder: Path) -> None:
    with torch.device("meta"):
        backbone: nn.Module = Backbone().eval()
    with pytest.raises(BackboneError, match="values of this network cannot be read.*check='later'"):
        Conditioned.from_pretrained(folder, backbone)
    again = Conditioned.from_pretrained(folder, backbone, check="architecture")
    assert again.generator.get_parameter("head.weight").device.type == "cpu"
    with pytest.raises(BackboneError, match="still on the meta device"):
        again.verify()
    backbone.to_empty(device="cpu")
    backbone.load_state_dict(twin(net).state_dict())
    assert torch.equal(run(again, "linear"), run(net, "linear"))


def test_saved_from_the_meta_device(tmp_path: Path) -> None:
    with torch.device("meta"):
        backbone = Backbone()
    net = fw.condition(backbone, at=NORMS, generator=Linear(6))
    net.save_pretrained(tmp_path / "one")
    with pytest.raises(BackboneError, match="values of the saved one cannot be read"):
        Conditioned.from_pretrained(tmp_path / "one", Backbone())
    Conditioned.from_pretrained(tmp_path / "one", Backbone(), check="architecture")
    net.generator.to("meta")
    with pytest.raises(SavingError, match=r"generator\.head\.weight is on the meta device"):
        net.save_pretrained(tmp_path / "two")


def test_nothing_to_verify(net: Conditioned) -> None:
    with pytest.raises(SavingError, match="from_pretrained"):
        net.verify()


@pytest.mark.traced
def test_verified_before_it_is_compiled(net: Conditioned, folder: Path) -> None:
    again = Conditioned.from_pretrained(folder, twin(net), check="later")
    again.verify()
    compiled = torch.compile(again, fullgraph=True, backend="eager")
    y = compiled(images(), condition=FLOATS)
    assert torch.allclose(y, run(net, "linear"), atol=1e-6)


# --- damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "manifest.json"])
def test_flipped_bits_are_detected(folder: Path, net: Conditioned, name: str) -> None:
    path, backbone = folder / name, twin(net)
    sound = path.read_bytes()
    step = max(1, len(sound) // 60)
    for place in range(0, len(sound), step):
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
        with pytest.raises(SavingError):
            Conditioned.from_pretrained(folder, backbone)
    path.write_bytes(sound)
    Conditioned.from_pretrained(folder, backbone)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "manifest.json"])
def test_truncated_grown_missing_or_a_folder(folder: Path, net: Conditioned, name: str) -> None:
    path, backbone = folder / name, twin(net)
    sound = path.read_bytes()
    for data in (b"", sound[:-1], sound[: len(sound) // 2], sound + b"x", b"\0" * len(sound)):
        path.write_bytes(data)
        with pytest.raises(SavingError, match=r"saved"):
            Conditioned.from_pretrained(folder, backbone)
    path.unlink()
    with pytest.raises(SavingError, match=f"{name} is missing"):
        Conditioned.from_pretrained(folder, backbone)
    path.mkdir()
    with pytest.raises(SavingError, match=f"{name} cannot be read: Is a directory"):
        Conditioned.from_pretrained(folder, backbone)


def test_a_file_of_another_conditioner(folder: Path, tmp_path: Path) -> None:
    conditioned("linear", seed=1).save_pretrained(tmp_path / "other")
    data = (tmp_path / "other" / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(SavingError, match="model.safetensors is damaged"):
        Conditioned.from_pretrained(folder, Backbone())


def test_the_card_may_be_edited(folder: Path, net: Conditioned) -> None:
    (folder / "README.md").write_text("better words")
    (folder / ".gitattributes").write_text("")
    Conditioned.from_pretrained(folder, twin(net))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format=2), "has format 2, .* reads 1"),
        (lambda c: c.update(format="1"), "not a conditioner"),
        (lambda c: c.pop("layout"), "layout. is missing"),
        (lambda c: c.update(layout=[{"name": 3}]), "saved"),
        (lambda c: c.update(layout=7), "saved"),
        (lambda c: c.update(generator=None), "not a conditioner"),
        (lambda c: c.update(backbone={}), "not a conditioner: not a fingerprint"),
        (lambda c: c.update(statistics=False), "do not belong together"),
        (lambda c: c["generator"].update(kind="Nothing"), "no generator 'Nothing'.* import"),
        (lambda c: c["generator"]["arguments"].update(in_features=5), r"\(16, 6\) in the file"),
        (lambda c: c["generator"]["arguments"].update(in_features=10**13), "the file holds"),
        (lambda c: c["generator"].update(arguments={"in_features": "6"}), "in_features"),
        (lambda c: c["generator"].update(kind="Learned", arguments={}), "missing"),
    ],
)
def test_a_forged_configuration(
    folder: Path, net: Conditioned, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    forge(folder, change)
    with pytest.raises(SavingError, match=message):
        Conditioned.from_pretrained(folder, twin(net))


def test_a_layout_of_modules_that_are_not_there(folder: Path, net: Conditioned) -> None:
    text = (folder / "config.json").read_text().replace('"blocks.0.1",', '"blocks.9.1",')
    (folder / "config.json").write_text(text)
    reseal(folder)
    with pytest.raises(BackboneError, match=r"no modules blocks\.9\.1"):
        Conditioned.from_pretrained(folder, twin(net))


@pytest.mark.parametrize("text", ["[" * 100_000, "[1]", "3", "{}", "\ud83d"])
def test_other_json(folder: Path, net: Conditioned, text: str) -> None:
    for name in ("config.json", "manifest.json"):
        sound = contents(folder)
        (folder / name).write_bytes(text.encode("utf-8", "surrogatepass"))
        if name == "config.json":
            reseal(folder)
        with pytest.raises(SavingError):
            Conditioned.from_pretrained(folder, twin(net))
        for path, data in sound.items():
            (folder / path).write_bytes(data)


def test_a_later_format(folder: Path, net: Conditioned) -> None:
    reseal(folder, lambda manifest: manifest.update(format=2))
    with pytest.raises(FormatError, match="has format 2, this version of featurewise reads 1"):
        Conditioned.from_pretrained(folder, twin(net))


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "..", "a/b", "a\\b", "C:x", "", ".hidden", "a\0b"]
)
def test_names_that_lead_elsewhere(folder: Path, net: Conditioned, name: str) -> None:
    entry = {"bytes": 1, "sha256": "0"}
    reseal(folder, lambda manifest: manifest["files"].update({name: entry}))
    with pytest.raises(SavingError, match="which is not a file name"):
        Conditioned.from_pretrained(folder, twin(net))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.pop("model.safetensors"), "does not list model.safetensors"),
        (lambda f: f.update({"config.json": 3}), "expected an object, found 3"),
        (lambda f: f["config.json"].update(bytes="many"), "bytes: expected an integer"),
        (lambda f: f["config.json"].update(bytes=10**12), "bytes: 1000000000000 lies outside"),
    ],
)
def test_a_forged_manifest(
    folder: Path, net: Conditioned, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    reseal(folder, lambda manifest: change(manifest["files"]))
    with pytest.raises(SavingError, match=message):
        Conditioned.from_pretrained(folder, twin(net))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "manifest.json"])
def test_links_out_of_the_folder(folder: Path, net: Conditioned, name: str) -> None:
    (folder / name).rename(folder.parent / "elsewhere")
    (folder / name).symlink_to(folder.parent / "elsewhere")
    with pytest.raises(SavingError, match="link to a file outside the folder"):
        Conditioned.from_pretrained(folder, twin(net))
    (folder / name).unlink()
    (folder / name).symlink_to(folder / name)
    with pytest.raises(SavingError):
        Conditioned.from_pretrained(folder, twin(net))


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<Q", 1 << 62) + b"{}",
        struct.pack("<Q", 200_000_000) + b"{" + b" " * 100,
        struct.pack("<Q", 2) + b"{}",
        b"",
        to_bytes({"generator.head.weight": torch.zeros(16, 6)}),
        to_bytes({"other.thing": torch.zeros(1)}),
        to_bytes({"statistics.stem.weight": torch.zeros(4, 3, 3, 3)}),
        to_bytes({"statistics.blocks.0.1.running_mean": torch.zeros(5)}),
    ],
)
def test_forged_weights(folder: Path, net: Conditioned, data: bytes) -> None:
    (folder / "model.safetensors").write_bytes(data)
    reseal(folder)
    backbone = twin(net)
    before = copy.deepcopy(backbone.state_dict())
    with pytest.raises((SavingError, BackboneError)):
        Conditioned.from_pretrained(folder, backbone)
    assert all(torch.equal(before[key], t) for key, t in backbone.state_dict().items())


def test_no_pickle(net: Conditioned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*args: object, **options: object) -> None:
        raise AssertionError("pickle was used")

    backbone = twin(net)
    for name in ("load", "loads", "dump", "dumps", "Unpickler", "Pickler", "_Unpickler"):
        monkeypatch.setattr(pickle, name, forbidden)
    monkeypatch.setattr(torch, "load", forbidden)
    monkeypatch.setattr(torch, "save", forbidden)
    net.save_pretrained(tmp_path / "one")
    Conditioned.from_pretrained(tmp_path / "one", backbone)


# --- generators of users --------------------------------------------------------------------------


class Own(nn.Module):
    """Not a ``Generator``: any module that returns a flat tensor."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.map = nn.Linear(6, size)

    def forward(self, condition: Tensor) -> Tensor:
        return self.map(condition)


def test_any_module_given_at_loading(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = fw.condition(Backbone().eval(), at=NORMS, generator=lambda layout: Own(layout.size))
    net.save_pretrained(tmp_path / "one")
    with pytest.raises(SavingError, match=r"Own does not derive from Configured.*generator="):
        Conditioned.from_pretrained(tmp_path / "one", twin(net))
    own = Own(net.layout.size)
    parameters = list(own.parameters())
    again = Conditioned.from_pretrained(tmp_path / "one", twin(net), generator=own)
    assert again.generator is own
    assert all(a is b for a, b in zip(own.parameters(), parameters, strict=True))
    assert torch.equal(run(again, "linear"), run(net, "linear"))
    again.save_pretrained(tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_generator_given_that_does_not_fit(folder: Path, net: Conditioned) -> None:
    for given, error, match in (
        (Linear(5), SavingError, r"\(16, 6\) in the file, \(16, 5\) in Linear"),
        (Own(16), SavingError, "missing"),
    ):
        with pytest.raises(error, match=match):
            Conditioned.from_pretrained(folder, twin(net), generator=given)
    with pytest.raises((ArgumentTypeError, TypeCheckError)):
        Conditioned.from_pretrained(folder, twin(net), generator=3)  # type: ignore[arg-type]
    double = Linear(6)
    double.bind(net.layout)
    with pytest.raises(
        ArgumentTypeError, match=r"float32, in the given generator it is torch\.float64"
    ):
        Conditioned.from_pretrained(folder, twin(net), generator=double.double())


def test_a_generator_without_json_configuration_must_be_given(tmp_path: Path) -> None:
    def make() -> nn.Module:
        return MLP(6, (4,), activation=lambda: nn.Tanh())

    torch.manual_seed(0)
    net = fw.condition(Backbone().eval(), at=NORMS, generator=make())
    net.save_pretrained(tmp_path / "one")
    with pytest.raises(SavingError, match=r"activation is a function.*pass generator="):
        Conditioned.from_pretrained(tmp_path / "one", twin(net))
    again = Conditioned.from_pretrained(tmp_path / "one", twin(net), generator=make())
    assert torch.equal(run(again, "linear"), run(net, "linear"))


def test_changes_after_construction_are_not_lost(tmp_path: Path) -> None:
    net = conditioned("mlp")
    encoder: Any = net.generator.encoder
    encoder.layers[1] = nn.ReLU()
    net.save_pretrained(tmp_path / "one")
    with pytest.raises(SavingError, match=r"MLP has changed.*is ReLU, expected Tanh"):
        Conditioned.from_pretrained(tmp_path / "one", twin(net))


def test_a_tensor_outside_the_state_dict_is_not_lost(tmp_path: Path) -> None:
    class Keeps(Linear):
        """Adds what it was given."""

        def __init__(self, width: int, offset: Tensor) -> None:
            super().__init__(width)
            self.offset = offset

    net = fw.condition(Backbone(), at=NORMS, generator=Keeps(6, torch.ones(3)))
    net.save_pretrained(tmp_path / "one")
    with pytest.raises(SavingError, match="tensor offset is neither parameter nor buffer"):
        Conditioned.from_pretrained(tmp_path / "one", twin(net))


def test_operations_and_generators_of_users(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class HalfScale(Diagonal):
        """Half of it."""

        half: float = 0.5

        def parameters(self, width: int, extent: Any = None) -> Any:
            return fw.Scale().parameters(width, extent)

        def scale_shift(self, values: Any) -> Any:
            return 1 + self.half * values["gamma"], None

    class Users(Generator):
        """A class that is defined in this test."""

        def __init__(self, *, width: int) -> None:
            super().__init__(nn.Tanh(), width)

    torch.manual_seed(0)
    net = fw.condition(
        Backbone().eval(), at=NORMS, operation=HalfScale(0.25), generator=Users(width=6)
    )
    nn.init.normal_(net.generator.get_parameter("head.weight"))
    net.save_pretrained(tmp_path / "one")
    again = Conditioned.from_pretrained(tmp_path / "one", twin(net))
    assert isinstance(again.generator, Users)
    assert torch.equal(run(again, "linear"), run(net, "linear"))


def test_state_that_is_no_tensor(tmp_path: Path) -> None:
    class Extra(Linear):
        def get_extra_state(self) -> Any:
            return {"a": 1}

    net = fw.condition(Backbone(), at=NORMS, generator=Extra(6))
    with pytest.raises(SavingError, match="_extra_state is a dict; only tensors"):
        net.save_pretrained(tmp_path / "one")
    assert not (tmp_path / "one").exists()


# --- the folder ----------------------------------------------------------------------------------


def test_an_older_conditioner_is_replaced(folder: Path) -> None:
    newer = conditioned("lookup")
    newer.save_pretrained(folder)
    assert type(Conditioned.from_pretrained(folder, twin(newer)).generator) is fw.Lookup
    assert [path.name for path in folder.parent.iterdir()] == ["saved"]
    (folder.parent / "empty").mkdir()
    newer.save_pretrained(str(folder.parent / "empty"))
    newer.save_pretrained(folder.parent / "not" / "yet" / "there")


def test_other_files_are_never_lost(folder: Path, net: Conditioned) -> None:
    (folder / "notes.txt").write_text("mine")
    before = contents(folder)
    with pytest.raises(SavingError, match=r"holds notes\.txt"):
        net.save_pretrained(folder)
    assert contents(folder) == before
    (folder.parent / "file").write_text("")
    (folder.parent / "link").symlink_to(folder)
    for name in ("file", "link"):
        with pytest.raises(SavingError, match="is not a folder"):
            net.save_pretrained(folder.parent / name)


@pytest.mark.parametrize("step", ["fsync", "rename"])
def test_a_full_disk_leaves_the_old_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    before = contents(folder)
    monkeypatch.setattr(common_files, "_exchanged", lambda *_: False)  # then it is renamed
    rename = Path.rename

    def fail(*args: Any) -> Any:
        if step == "rename" and not args[0].name.endswith(".part"):
            return rename(*args)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((os, "fsync") if step == "fsync" else (Path, "rename")), fail)
    with pytest.raises(SavingError, match=r"cannot be written: No space left"):
        conditioned("lookup").save_pretrained(folder)
    monkeypatch.undo()
    assert contents(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["saved"]


def test_writing_is_atomic(
    net: Conditioned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    fsync, rename = os.fsync, Path.rename

    def watch(source: Path, target: Path) -> Path:
        seen.append((target.exists(), sorted(contents(source))))
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", watch)
    monkeypatch.setattr(os, "fsync", lambda fd: (seen.append("sync"), fsync(fd))[1])
    net.save_pretrained(tmp_path / "one")
    # Four files and their folder, then the name, then the parent.
    assert seen == ["sync"] * 5 + [(False, FILES), "sync"]


# --- the hub -------------------------------------------------------------------------------------


class Api:
    """The methods of ``huggingface_hub.HfApi`` that are called."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.files: dict[str, bytes] = {}

    def create_repo(self, *, repo_id: str, private: bool, exist_ok: bool) -> str:
        self.calls.append(("create", repo_id, private, exist_ok))
        return f"https://hub/{repo_id}"

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> None:
        self.calls.append(("upload", repo_id, commit_message))
        self.files = contents(Path(folder_path))


def test_push(net: Conditioned, folder: Path) -> None:
    api = Api()
    assert net.push_to_hub("me/it", api=api, private=True, message="hi") == "https://hub/me/it"
    assert api.calls == [("create", "me/it", True, True), ("upload", "me/it", "hi")]
    assert api.files == contents(folder)


def test_push_fits_the_real_interface() -> None:
    hub = pytest.importorskip("huggingface_hub")
    import inspect

    for name in ("create_repo", "upload_folder"):
        real = inspect.signature(getattr(hub.HfApi, name)).parameters
        mine = inspect.signature(getattr(Api, name)).parameters
        assert set(mine) <= set(real)
    assert "allow_patterns" in inspect.signature(hub.snapshot_download).parameters


def test_push_that_fails(net: Conditioned) -> None:
    class Refuses(Api):
        def create_repo(self, **options: Any) -> str:
            raise OSError("401")

    with pytest.raises(SavingError, match="me/it: cannot be pushed: 401"):
        net.push_to_hub("me/it", api=Refuses())


def test_a_repository_is_fetched(
    net: Conditioned, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The layout of the hub's cache: a snapshot with links to blobs."""
    blobs = folder.parent / "models--me--it" / "blobs"
    snapshot = blobs.parent / "snapshots" / "0a1b"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for path in folder.iterdir():
        path.rename(blobs / f"hash-{path.name}")
        (snapshot / path.name).symlink_to(f"../../blobs/hash-{path.name}")
    downloads: list[Any] = []

    class Hub:
        @staticmethod
        def snapshot_download(repo: str, allow_patterns: list[str]) -> str:
            downloads.append((repo, sorted(allow_patterns)))
            return str(snapshot)

    monkeypatch.setattr(saving, "_hub", lambda: Hub)
    again = Conditioned.from_pretrained("me/it", twin(net))
    assert downloads == [("me/it", FILES)]
    assert torch.equal(run(again, "linear"), run(net, "linear"))
    Conditioned.from_pretrained(snapshot, twin(net))
    assert len(downloads) == 1  # no download for an existing folder


def test_no_such_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Hub:
        @staticmethod
        def snapshot_download(repo: str, allow_patterns: list[str]) -> str:
            raise OSError("offline")

    monkeypatch.setattr(saving, "_hub", lambda: Hub)
    with pytest.raises(SavingError, match=r"me/it: no such folder, .*: offline"):
        Conditioned.from_pretrained("me/it", Backbone())
    for name in (tmp_path / "nothing", "./x", "../x", "a/b/c", "~/x", "a b"):
        with pytest.raises(SavingError, match="no such folder$"):
            Conditioned.from_pretrained(name, Backbone())
    (tmp_path / "file").write_text("")
    with pytest.raises(SavingError, match="is not a folder"):
        Conditioned.from_pretrained(tmp_path / "file", Backbone())


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, net: Conditioned) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(SavingError, match="pip install huggingface_hub"):
        Conditioned.from_pretrained("me/it", Backbone())
    with pytest.raises(SavingError, match="pip install huggingface_hub"):
        net.push_to_hub("me/it")


def test_the_card_is_one_of_the_hub(folder: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    card = hub.ModelCard.load(folder / "README.md")
    assert card.data.library_name == "featurewise"
    assert "film" in card.data.tags
    for name in ("blocks.0.1", "blocks.1.1"):
        assert f"| `{name}` | Affine() | 1 | 4 | 8 |" in card.text


def test_wrong_arguments(folder: Path) -> None:
    with pytest.raises(SavingError, match="check must be one of weights, architecture, later"):
        Conditioned.from_pretrained(folder, Backbone(), check="never")
    with pytest.raises((ArgumentTypeError, TypeCheckError)):
        Conditioned.from_pretrained(folder, 3)  # type: ignore[arg-type]


def test_imports_run_one_way() -> None:
    """``conditioned`` imports ``saving``, not the other way round."""
    assert "conditioned" not in vars(saving)
    assert common_files.write_folder is saving.write_folder
    assert issubclass(Linear, Configured)


# --- killed during replacement, and limits of what a file may create ------------------------------


def test_a_folder_whose_writer_was_killed_is_not_downloaded(
    folder: Path, net: Conditioned, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between two renames: the new folder is complete, and is renamed on loading."""
    monkeypatch.chdir(folder.parent.parent)
    name = folder.relative_to(Path.cwd()).as_posix()
    assert name.count("/") == 1  # as a repository is called
    shutil.copytree(folder, folder.parent / f".{folder.name}.0123456789abcdef.part")
    folder.rename(folder.parent / f".{folder.name}.0123456789abcdef.old")
    monkeypatch.setattr(saving, "_hub", lambda: pytest.fail("the hub was used"))
    Conditioned.from_pretrained(name, twin(net))
    assert folder.is_dir()


@pytest.mark.parametrize("dtype", [torch.int8, torch.complex64, torch.float8_e5m2, torch.bool])
@pytest.mark.parametrize("given", [True, False])
def test_weights_of_another_kind_are_refused_and_not_cast(
    folder: Path, net: Conditioned, dtype: torch.dtype, given: bool
) -> None:
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if name.startswith("generator."))
    tensors[name] = tensors[name].to(dtype)
    save_file(tensors, folder / "model.safetensors")
    reseal(folder)
    generator = {"generator": type(net.generator)(6)} if given else {}
    with pytest.raises((SavingError, ArgumentTypeError), match=str(dtype).removeprefix("torch.")):
        Conditioned.from_pretrained(folder, twin(net), **generator)


def statistics_as(folder: Path, dtype: torch.dtype) -> None:
    tensors = load_file(folder / "model.safetensors")
    for name in [name for name in tensors if name.endswith("running_mean")]:
        tensors[name] = tensors[name].to(dtype)
    save_file(tensors, folder / "model.safetensors")
    reseal(folder)


@pytest.mark.parametrize("dtype", [torch.int8, torch.complex64, torch.float64])
def test_statistics_of_another_kind_are_refused_and_not_cast(
    folder: Path, net: Conditioned, dtype: torch.dtype
) -> None:
    statistics_as(folder, dtype)
    with pytest.raises(SavingError, match="do not fit the backbone"):
        Conditioned.from_pretrained(folder, twin(net))


TOO_MUCH: dict[str, tuple[str, Callable[[dict[str, Any]], None]]] = {
    "sites": (
        "at most 10,000 sites",
        lambda c: c["layout"].update(
            sites=[{**c["layout"]["sites"][0], "name": str(i)} for i in range(100_000)]
        ),
    ),
    "width": ("at most .* numbers", lambda c: c["layout"]["sites"][0].update(width=10**15)),
    "layers": (
        "at most 1,000 parts",
        lambda c: c["generator"].update(
            kind="MLP", arguments={"in_features": 6, "hidden": [8] * 30_000}
        ),
    ),
    "modules": (
        "at most 1,000 parts",
        lambda c: c["generator"].update(
            kind="Generator",
            arguments={
                "encoder": {
                    "module": {
                        "kind": "Sequential",
                        "arguments": {
                            "args": [{"module": {"kind": "ReLU", "arguments": {}}}] * 30_000
                        },
                    }
                },
                "features": 6,
            },
        ),
    ),
    "recurrent layers": (
        "GRU hides its arguments",
        lambda c: c["generator"].update(
            kind="Generator",
            arguments={
                "encoder": {
                    "module": {
                        "kind": "GRU",
                        "arguments": {"args": [1, 1], "kwargs": {"num_layers": 100_000}},
                    }
                },
                "features": 6,
            },
        ),
    ),
    "numbers": (
        "more than the file holds",
        lambda c: c["generator"].update(arguments={"in_features": 10**9}),
    ),
}


@pytest.mark.parametrize("what", TOO_MUCH)
def test_files_that_exceed_the_limits_are_refused(
    folder: Path, net: Conditioned, what: str
) -> None:
    message, change = TOO_MUCH[what]
    forge(folder, change)
    started = time.process_time()
    with pytest.raises(SavingError, match=message):
        Conditioned.from_pretrained(folder, twin(net))
    assert time.process_time() - started < 20
