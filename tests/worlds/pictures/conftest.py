"""These tests have a cache of their own; some need packages, and are skipped without them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from featurewise.worlds.pictures import MissingPicturesError, Painting, Photograph
from featurewise.worlds.pictures import paintings as read_paintings
from featurewise.worlds.pictures import photographs as read_photographs


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATUREWISE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def works() -> tuple[Painting, ...]:
    """The paintings."""
    try:
        return read_paintings()
    except MissingPicturesError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def parts() -> dict[str, tuple[Photograph, ...]]:
    """The photographs by part."""
    try:
        return {"train": read_photographs("train"), "test": read_photographs("test")}
    except MissingPicturesError as error:
        pytest.skip(str(error))
