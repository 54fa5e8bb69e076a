"""What every test shares: one thread, repeatable examples, and the way to the real data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

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
