"""Written and read again, and made permanent."""

from __future__ import annotations

import copy
from pathlib import Path

import torch

from featurewise.deploy import bake
from featurewise.retrofit import Conditioned

from .cells import Pair, capability, close
from .networks import Network


@capability("saved and loaded")
def test_saved_and_loaded(network: Network, pair: Pair, tmp_path: Path) -> None:
    inputs, z = pair.draw()
    pair.net.save_pretrained(tmp_path / "conditioner")
    net = Conditioned.from_pretrained(tmp_path / "conditioner", copy.deepcopy(pair.plain)).eval()
    y = network.tensor(net(**inputs, condition=z))
    assert torch.equal(y, pair(inputs, z))
    close(y, pair.hand(inputs, z))


@capability("baked")
def test_baked(network: Network, pair: Pair) -> None:
    """A plain network of the backbone's class, with one condition for every sample."""
    inputs, z = pair.draw()
    module, report = bake(pair.net, condition=z[:1])
    assert type(module) is type(pair.plain)
    assert list(report) == [place.name for place in network.places]
    close(network.tensor(module(**inputs)), pair.hand(inputs, z[:1].expand_as(z)))
