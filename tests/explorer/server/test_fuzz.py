"""A schema fuzzer against the server: it sends what its document allows, and what it does not."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from starlette.types import ASGIApp
from tests.explorer.server.conftest import Running

from featurewise.explorer import server
from featurewise.explorer.api import PATH
from featurewise.explorer.live import Live

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_schema_conformance,negative_data_rejection"
)
SECONDS = 60


@pytest.mark.slow
def test_schemathesis_finds_no_fault(
    live: Live,
    operations: Live,
    run_server: Callable[[ASGIApp], AbstractContextManager[Running]],
    tmp_path: Path,
) -> None:
    command = shutil.which("schemathesis")
    if command is None:
        pytest.skip("needs the command schemathesis: pip install schemathesis (a tool of its own)")
    with run_server(server.app([live, operations, live.bundle])) as running:
        found = subprocess.run(
            [
                command,
                "run",
                f"http://127.0.0.1:{running.port}{PATH}",
                f"--checks={CHECKS}",
                f"--max-time={SECONDS}",
                "--seed=1",
                "--continue-on-failure",
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=10 * SECONDS,
            check=False,
        )
    print(found.stdout)
    assert found.returncode == 0, found.stdout
    count = re.search(r"(\d+) generated", found.stdout)
    assert count is not None and int(count[1]) >= 500
