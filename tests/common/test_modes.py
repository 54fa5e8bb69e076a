"""Modes of a network are restored, module by module."""

from __future__ import annotations

import pytest
from torch import nn

from featurewise.common.modes import evaluating


def test_each_module_gets_its_own_mode_back() -> None:
    network = nn.Sequential(nn.Dropout(), nn.Sequential(nn.BatchNorm2d(2), nn.ReLU()))
    network[1][0].eval()
    before = [module.training for module in network.modules()]
    with pytest.raises(RuntimeError, match="inside"), evaluating(network):
        assert not any(module.training for module in network.modules())
        raise RuntimeError("inside")
    assert [module.training for module in network.modules()] == before
