"""Where bfloat16 is worth using, by what the device says of itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from featurewise.training import distributed, hardware


@pytest.fixture(autouse=True)
def _not_cached() -> Iterator[None]:
    hardware.computes_bfloat16.cache_clear()
    yield
    hardware.computes_bfloat16.cache_clear()


@pytest.mark.parametrize(
    ("has", "computed"),
    [
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ({"avx512_f": True, "avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"neon_bf16": True, "cpu_name": "bf16"}, True),
        ({"cpu_name": "bf16"}, False),
        ({}, False),
    ],
)
def test_processors(
    has: dict[str, bool | str], computed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has, raising=False)
    assert hardware.computes_bfloat16("cpu") is computed
    assert hardware.autocast(torch.device("cpu"), bfloat16=True)._enabled is computed
    assert not hardware.autocast(torch.device("cpu"), bfloat16=False)._enabled
    monkeypatch.setenv(distributed.DEVICE, "cpu")
    said = hardware.describe()["bfloat16"]
    assert said == ("has instructions" if computed else "no instructions")


def test_a_torch_that_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    for has in (True, False):
        hardware.computes_bfloat16.cache_clear()
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has=has: has)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        assert hardware.computes_bfloat16("cpu") is has


@pytest.mark.parametrize("computed", [True, False])
def test_graphics_processors(computed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: computed)
    assert hardware.computes_bfloat16("cuda") is computed
    assert hardware.computes_bfloat16("mps")
