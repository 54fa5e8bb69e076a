"""Results of the cells: one JSON line each, into the folder that FEATUREWISE_MATRIX names."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .cells import Cell, Pair
from .networks import Network


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "cell(capability): a cell of the compatibility matrix")


@pytest.fixture
def pair(network: Network) -> Pair:
    return Pair(network)


@pytest.fixture
def cell(network: Network, request: pytest.FixtureRequest) -> Cell:
    mark = request.node.get_closest_marker("cell")
    return Cell(network, mark.args[0], request.node.user_properties)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Iterator[None]:
    report = yield
    folder = os.environ.get("FEATUREWISE_MATRIX")
    mark = item.get_closest_marker("cell")
    if folder and mark is not None and (report.when == "call" or not report.passed):
        line = {
            "capability": mark.args[0],
            "network": item.callspec.params["network"].name,
            "result": _result(report, dict(item.user_properties)),
        }
        worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
        with (Path(folder) / f"{worker}.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
    return report


def _result(report: pytest.TestReport, properties: dict[str, Any]) -> str:
    if report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        return "n/a: " + str(reason).removeprefix("Skipped: ")
    if report.failed:
        return "fail"
    return str(properties.get("matrix", "pass"))
