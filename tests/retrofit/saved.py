"""A small backbone, and every generator with a condition, for the tests of saving.

Run as a script it writes the fixtures of this version, which are kept and load forever:
``python tests/retrofit/saved.py``. A later version adds a folder beside, and changes no file.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

import featurewise as fw
from featurewise.common.files import write_bytes
from featurewise.core import LowRank, RowColumn
from featurewise.deploy import Bank
from featurewise.generators import (
    MLP,
    AdaIN,
    Bounded,
    BySite,
    ConcatEncoders,
    GatedGenerator,
    Generator,
    Learned,
    Linear,
    Lookup,
    Masked,
    Optional,
    ParameterDropout,
    Product,
    Recurrent,
    SqueezeExcite,
    Sum,
)

FIXTURES = Path(__file__).parent / "fixtures" / "conditioner-0.1"


class Backbone(nn.Module):
    """Convolutions with batch norm, and a linear head of its own."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
            for _ in range(2)
        )
        self.head = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x.mean((2, 3)))


NORMS = "blocks.*.1"
BATCH = 3
IMAGES = (BATCH, 3, 5, 5)
FLOATS = torch.linspace(-1, 1, BATCH * 6).reshape(BATCH, 6)
TOKENS = torch.tensor([[1, 2, 3], [4, 0, 0], [5, 6, 0]])
IDS = torch.tensor([2, 0, 1])

#: Name -> (how to make the generator, its condition, the sites with their operations).
CASES: Mapping[str, tuple[Callable[[], Any], Any, Mapping[str, fw.Operation]]] = {
    "linear": (lambda: Linear(6), FLOATS, {NORMS: fw.Affine()}),
    "linear_operations": (
        lambda: Linear(6),
        FLOATS,
        {"stem": RowColumn(), "blocks.0.0": LowRank(2), "blocks.*.1": fw.Gate(ceiling=2)},
    ),
    "mlp": (lambda: MLP(6, (5, 4), nn.Tanh), FLOATS, {"stem": fw.Scale(), NORMS: fw.Shift()}),
    "lookup": (lambda: Lookup(4), IDS, {NORMS: fw.Affine()}),
    "recurrent_gru": (lambda: Recurrent(7, 4, 5), TOKENS, {NORMS: fw.Affine()}),
    "recurrent_lstm": (lambda: Recurrent(7, 4, 5, "lstm"), TOKENS, {NORMS: fw.Affine()}),
    "learned": (lambda: Learned(), None, {NORMS: fw.Affine(activation="exp")}),
    "squeeze_excite": (lambda: SqueezeExcite(2), None, {NORMS: fw.Gate()}),
    "adain": (
        lambda: AdaIN(1e-3),
        torch.linspace(-2, 1, BATCH * 4 * 9).reshape(BATCH, 4, 3, 3),
        {"blocks.0.1": fw.Affine()},
    ),
    "encoder": (
        lambda: Generator(nn.Sequential(nn.EmbeddingBag(7, 4), nn.LayerNorm(4), nn.GELU()), 4),
        TOKENS,
        {NORMS: fw.Affine()},
    ),
    "sum": (
        lambda: Sum({"floats": Linear(6), "ids": Lookup(4), "all": Learned()}),
        {"floats": FLOATS, "ids": IDS, "all": None},
        {NORMS: fw.Affine(raw=True)},
    ),
    "product": (
        lambda: Product({"floats": MLP(6, (3,)), "ids": Lookup(4)}),
        {"floats": FLOATS, "ids": IDS},
        {NORMS: fw.Affine()},
    ),
    "joint": (
        lambda: ConcatEncoders(
            {"floats": None, "tokens": nn.EmbeddingBag(7, 3)}, {"floats": 6, "tokens": 3}
        ),
        {"floats": FLOATS, "tokens": TOKENS},
        {NORMS: fw.Affine()},
    ),
    "by_site": (
        lambda: BySite({"stem": Linear(6), NORMS: Lookup(4)}),
        {"stem": FLOATS, NORMS: IDS},
        {"stem": fw.Scale(), NORMS: fw.Affine()},
    ),
    "optional": (
        lambda: Optional(MLP(6, (3,)), drop=0.2),
        Masked(FLOATS, torch.tensor([True, False, True])),
        {NORMS: fw.Affine()},
    ),
    "damped": (lambda: GatedGenerator(Linear(6)), FLOATS, {NORMS: fw.Affine()}),
    "bounded": (
        lambda: Bounded(ParameterDropout(Linear(6), 0.2), gamma=(0.5, 2.0)),
        FLOATS,
        {NORMS: fw.Affine()},
    ),
    "bank": (lambda: _bank, IDS, {NORMS: fw.Affine()}),
}


def _bank(layout: fw.Layout) -> Bank:
    rows = torch.linspace(-1, 1, 4 * layout.size).reshape(4, layout.size)
    return Bank(layout, rows.half(), names=["a", "b", "c", "d"])


def conditioned(name: str, seed: int = 0) -> fw.Conditioned:
    """A backbone (the same for all names) and a generator, with random weights.

    The statistics of the batch norms are those after a step in training mode.
    """
    make, condition, at = CASES[name]
    backbone = _random(Backbone(), seed)
    net = fw.condition(backbone, at=at, generator=make(), example=torch.zeros(IMAGES))
    _random(net.generator, seed + 1)
    with torch.no_grad():
        net.train()
        net(images(), **given(condition))
    return net.eval()


def _random(module: Any, seed: int) -> Any:
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.4)
    return module


def given(condition: Any) -> dict[str, Any]:
    """Keyword arguments of a call with that condition; empty without one."""
    if condition is None:
        return {}
    return {"condition": condition}


def images() -> Tensor:
    """The input of all cases."""
    return torch.linspace(-1, 1, 3 * 3 * 5 * 5).reshape(IMAGES).sin()


def run(net: fw.Conditioned, name: str) -> Tensor:
    """The output for the case's condition; ``Learned`` and the like are called without one."""
    condition = CASES[name][1]
    with torch.no_grad():
        return net(images(), **given(condition))


def _write() -> int:
    if FIXTURES.exists():
        print(f"{FIXTURES}: is there already, and stays as it is")
        return 1
    FIXTURES.mkdir(parents=True)
    write_bytes(FIXTURES / "backbone.safetensors", save(_random(Backbone(), 0).state_dict()))
    outputs = {}
    for name in CASES:
        net = conditioned(name)
        net.save_pretrained(FIXTURES / name)
        outputs[name] = run(net, name)
    write_bytes(FIXTURES / "outputs.safetensors", save({"input": images(), **outputs}))
    return 0


if __name__ == "__main__":
    sys.exit(_write())
