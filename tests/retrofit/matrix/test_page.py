"""The published matrix has the columns and rows of these tests, and only what a test can say."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from .cells import CAPABILITIES, OF_PACKAGES
from .networks import NETWORKS
from .packages import MORE

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture
def published() -> str:
    page = DOCS / "matrix.md"
    if not page.exists():
        pytest.skip("no page yet: make matrix")
    return page.read_text()


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("matrix_page", DOCS / "matrix.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tables(text: str) -> list[list[list[str]]]:
    """Head, rule and rows of each."""
    found = re.findall(r"(?:^\|.*\n)+", text, re.M)
    return [
        [[cell.strip() for cell in line[1:-1].split("|")] for line in one.splitlines()]
        for one in found
    ]


def test_page_lists_exactly_the_networks_and_capabilities(published: str) -> None:
    first, more = tables(published)
    assert first[0][1:] == [network.name for network in NETWORKS]
    assert [row[0] for row in first[2:]] == list(CAPABILITIES)
    assert more[0][1:] == list(OF_PACKAGES)
    assert [row[0] for row in more[2:]] == [network.name for network in MORE]


def test_capabilities_of_packages_are_among_all() -> None:
    assert [name for name in CAPABILITIES if name in OF_PACKAGES] == list(OF_PACKAGES)
    names = [network.name for network in (*NETWORKS, *MORE)]
    assert len(set(names)) == len(names)
    assert all(network.extra and network.package for network in MORE)


def test_every_cell_is_a_pass_or_has_its_reason(published: str) -> None:
    reasons = re.findall(r"^(\d+)\. \S", published, re.M)
    used = set()
    for row in (row for one in tables(published) for row in one[2:]):
        for cell in row[1:]:
            found = re.fullmatch(r"✓|(?:✓|—|refused) \[(\d+)\]", cell)
            assert found, cell
            used.add(found[1])
    assert used - {None} == set(reasons)


def test_worst_result_of_a_cell_stands(script: ModuleType) -> None:
    def cells(*results: str) -> list[dict[str, str]]:
        return [{"capability": "a", "network": "b", "result": result} for result in results]

    assert script.merge(cells("pass", "pass")) == {("a", "b"): "pass"}
    assert script.merge(cells("pass", "n/a: why", "pass")) == {("a", "b"): "n/a: why"}
    assert script.merge(cells("fail", "n/a: why", "pass")) == {("a", "b"): "fail"}


def test_page_of_results(script: ModuleType) -> None:
    results = {
        ("a", "x"): "pass",
        ("a", "y"): "n/a: no",
        ("b", "x"): "refused: so",
        ("b", "y"): "pass",
    }
    results |= {("a", "z"): "pass: then", ("c", "z"): "n/a: no"}
    first, more = script.Table(["a", "b"], ["x", "y"]), script.Table(["a", "c"], ["z"])
    text = script.page(first, more, results, {"torch": "1"})
    assert tables(text)[0][2:] == [["a", "✓", "— [1]"], ["b", "refused [2]", "✓"]]
    assert tables(text)[1] == [["", "a", "c"], ["---", ":-:", ":-:"], ["z", "✓ [3]", "— [1]"]]
    assert "1. No.\n2. So.\n3. Then.\n\nWith torch 1.\n" in text


@pytest.mark.parametrize("results", [{}, {("a", "x"): "fail"}])
def test_no_page_for_a_failed_or_partial_run(
    script: ModuleType, results: dict[tuple[str, str], str]
) -> None:
    with pytest.raises(ValueError, match="cells not run"):
        script.page(script.Table(["a"], ["x"]), script.Table([], []), results, {})
    with pytest.raises(ValueError, match="cells not run"):
        script.page(script.Table([], []), script.Table(["a"], ["x"]), results, {})
