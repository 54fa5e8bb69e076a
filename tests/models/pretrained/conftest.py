"""Pretrained weights and real photographs; tests skip, with the reason, where they are absent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from featurewise.common.cache import cache_folder
from featurewise.models.pretrained.store import Source

#: Found when tests are collected: tests of the command line set another cache.
CACHE = cache_folder()


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch) -> Callable[[Source], None]:
    """``weights(source)`` skips the test where the cache lacks the weights."""
    monkeypatch.setenv("FEATUREWISE_CACHE", str(CACHE))

    def need(source: Source) -> None:
        if not source.path.exists():
            pytest.skip(f"weights not in the cache: {source.remedy} (or make weights)")

    return need


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache folder."""
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path / "cache"))
    yield tmp_path / "cache"


@pytest.fixture
def photograph() -> Callable[[str, str], Tensor]:
    """``photograph(package, file)`` -> RGB (1, 3, H, W) uint8; skips where it is not installed."""

    def read(package: str, file: str) -> Tensor:
        try:
            path = Path(str(distribution(package).locate_file(file)))
        except PackageNotFoundError:
            pytest.skip(f"{package} is not installed; it ships the photograph {file}")
        pixels = np.asarray(Image.open(path).convert("RGB")).copy()
        return torch.from_numpy(pixels).permute(2, 0, 1)[None]

    return read
