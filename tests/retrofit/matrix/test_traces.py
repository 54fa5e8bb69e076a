"""A dry run leaves nothing behind, in no network."""

from __future__ import annotations

import copy
import importlib.util
from typing import Any

import pytest
import torch
from tests.retrofit.state import changed, state

from featurewise.core import LayoutError
from featurewise.generators import Linear
from featurewise.retrofit import condition, select

from .cells import BATCH, CONDITION, capability
from .networks import Network

NO_TRACE = "`example=` leaves no trace"


@capability(NO_TRACE, slow=lambda n: n.costly)
def test_a_dry_run_leaves_no_traces(network: Network) -> None:
    module, inputs = network.ready(), network.inputs(BATCH)
    before = state(module)
    condition(
        module, at=network.at, generator=Linear(CONDITION), example=inputs, **network.options
    ).remove()
    try:
        list(select(module).residual_branches(inputs))
    except LayoutError as error:  # it has none
        assert "does not run" not in str(error)
    assert changed(before, state(module)) == []


@capability(NO_TRACE, slow=lambda n: n.costly)
def test_a_dry_run_that_fails_leaves_no_traces(network: Network) -> None:
    module, inputs = network.ready(), network.inputs(BATCH)

    def fail(*args: Any) -> None:
        raise RuntimeError("half-way")

    module.get_submodule(network.places[-1].name).register_forward_hook(fail)
    before = state(module)
    with pytest.raises(LayoutError, match="RuntimeError: half-way"):
        condition(
            module, at=network.at, generator=Linear(CONDITION), example=inputs, **network.options
        )
    assert changed(before, state(module)) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["levit_128s", "efficientformer_l1", "convnext_atto"])
def test_networks_of_timm_that_cache(name: str) -> None:
    if importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed")
    import timm

    network, x = timm.create_model(name).eval(), torch.randn(2, 3, 224, 224)
    before = state(network)
    expected = copy.deepcopy(network)(x)
    assert list(select(network).residual_branches(x))
    condition(network, at=torch.nn.Linear, generator=Linear(CONDITION), example=x).remove()
    assert changed(before, state(network)) == []
    assert torch.equal(network(x), expected)
