"""The published matrix has the columns and rows of these tests, and only what a test can say."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from .cells import CAPABILITIES
from .networks import NETWORKS

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


def table(text: str) -> list[list[str]]:
    rows = [line[1:-1] for line in text.splitlines() if line[:1] == "|"]
    return [[cell.strip() for cell in row.split("|")] for row in rows]


def test_page_lists_exactly_the_networks_and_capabilities(published: str) -> None:
    head, _, *rows = table(published)
    assert head[1:] == [network.name for network in NETWORKS]
    assert [row[0] for row in rows] == list(CAPABILITIES)


def test_every_cell_is_a_pass_or_has_its_reason(published: str) -> None:
    reasons = re.findall(r"^(\d+)\. \S", published, re.M)
    used = set()
    for row in table(published)[2:]:
        assert len(row) == len(NETWORKS) + 1
        for cell in row[1:]:
            found = re.fullmatch(r"✓|(?:—|refused) \[(\d+)\]", cell)
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
    text = script.page(["a", "b"], ["x", "y"], results, {"torch": "1"})
    assert table(text)[2:] == [["a", "✓", "— [1]"], ["b", "refused [2]", "✓"]]
    assert "1. No.\n2. So.\n\nWith torch 1.\n" in text


@pytest.mark.parametrize("results", [{}, {("a", "x"): "fail"}])
def test_no_page_of_a_failed_or_partial_run(
    script: ModuleType, results: dict[tuple[str, str], str]
) -> None:
    with pytest.raises(ValueError, match="cells not run"):
        script.page(["a"], ["x"], results, {})
