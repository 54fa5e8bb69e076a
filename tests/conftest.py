"""What every test shares: one thread, repeatable examples, and the way to the real data."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

# The same examples on every machine and in every run; slow machines are no failures.
settings.register_profile(
    "featurewise",
    derandomize=True,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("featurewise")

torch.set_num_threads(1)

SOURCES = Path(__file__).resolve().parents[1] / "src"


def with_shapes() -> list[str]:
    """Modules whose annotations give shapes.

    Checking the others too finds nothing that mypy does not, and takes most of the tests' time.
    """
    return sorted(
        ".".join(path.relative_to(SOURCES).with_suffix("").parts)
        for path in SOURCES.rglob("*.py")
        if "from jaxtyping import" in path.read_text()
    )


if os.environ.get("FEATUREWISE_CHECK_SHAPES"):
    # Here, before any module is imported, and in every process of the tests.
    install_import_hook(with_shapes(), "beartype.beartype")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share what takes long run in one process (``--dist loadgroup``).

    Those of a file, such as a server or a trained network; and all of a system, whose arms would
    else be trained in every process. A file of traced tests must name the mark: ``make test`` finds
    the files by it.
    """
    for item in items:
        path = item.path
        if item.get_closest_marker("traced") is not None and "traced" not in _text(path):
            raise pytest.UsageError(f"{path} has traced tests but does not name the mark")
        if path.stem == "test_contract" and (system := _system_of(item)):
            path = path.with_stem(f"test_{system}")
        item.add_marker(pytest.mark.xdist_group(str(path)))


@functools.cache
def _text(path: Path) -> str:
    return path.read_text()


def _system_of(item: pytest.Item) -> str | None:
    """The system that a test of the contract is about, if it is about one."""
    given = getattr(item, "callspec", None)
    name = None if given is None else given.params.get("name")
    return name if isinstance(name, str) else None


SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _nothing_compiled(request: pytest.FixtureRequest) -> Iterator[None]:
    """Dynamo compiles one function at most so many times, in all tests of a process together."""
    yield
    if request.node.get_closest_marker("traced") is not None:
        torch._dynamo.reset()


@pytest.fixture(scope="session")
def shared_data() -> Callable[..., Path]:
    """``shared_data("distill", "x.json")`` -> its path, or a skip that says what is missing."""

    def find(*parts: str) -> Path:
        path = SHARED_DATA.joinpath(*parts)
        if not path.exists():
            pytest.skip(f"real data not here: ../shared/data/{'/'.join(parts)}")
        return path

    return find
