"""The cache of tensors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from featurewise.worlds.tensors import tensor_cache


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path))
    return tmp_path / "some"


class Computed:
    """Counts its calls."""

    calls = 0

    def __call__(self) -> dict[str, Tensor]:
        self.calls += 1
        return {"a": torch.arange(6, dtype=torch.uint8), "b": torch.tensor([self.calls])}


def test_it_computes_once_for_one_identity(folder: Path) -> None:
    compute = Computed()
    first, again, other = (tensor_cache("some", {"of": key}, compute) for key in (1, 1, 2))
    assert [int(each["b"]) for each in (first, again, other)] == [1, 1, 2]
    assert torch.equal(again["a"], torch.arange(6, dtype=torch.uint8))
    assert len(list(folder.glob("*.safetensors"))) == len(list(folder.glob("*.json"))) == 2


@pytest.mark.parametrize("name", ["*.safetensors", "*.json"])
@pytest.mark.parametrize("content", [b"", b"{}", b"[", b"\xff" * 99])
def test_damaged_files_are_computed_again(folder: Path, name: str, content: bytes) -> None:
    compute = Computed()
    tensor_cache("some", {"of": 1}, compute)
    (file,) = folder.glob(name)
    file.write_bytes(content)
    assert int(tensor_cache("some", {"of": 1}, compute)["b"]) == 2
    assert int(tensor_cache("some", {"of": 1}, compute)["b"]) == 2


def test_another_identity_in_the_manifest_is_not_believed(folder: Path) -> None:
    compute = Computed()
    tensor_cache("some", {"of": 1}, compute)
    (manifest,) = folder.glob("*.json")
    manifest.write_text(manifest.read_text().replace('"of": 1', '"of": 2'))
    assert int(tensor_cache("some", {"of": 1}, compute)["b"]) == 2
