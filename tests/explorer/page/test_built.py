"""The built page fits its sources, and its sources fit the data that the library writes."""

import gzip
import hashlib
import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest

EXPLORER = Path(__file__).parents[3] / "src/featurewise/explorer"
PAGE, STATIC = EXPLORER / "page", EXPLORER / "static"
BUILT = "page.css", "page.html", "page.js", "page.source"
SETTINGS = "build.mjs", "package-lock.json", "package.json", "schema.json", "tsconfig.json"


def digest_of_sources() -> str:
    """As in build.mjs."""
    sources = [path for path in (PAGE / "src").rglob("*") if path.is_file()]
    names = [*SETTINGS, *(path.relative_to(PAGE).as_posix() for path in sources)]
    found = hashlib.sha256()
    for name in sorted(names):
        found.update(name.encode() + b"\0" + (PAGE / name).read_bytes() + b"\0")
    return found.hexdigest()


def test_the_built_page_is_that_of_the_sources():
    built = (STATIC / "page.source").read_text().strip()
    assert built == digest_of_sources(), "run npm run build in explorer/page"


def test_the_types_are_those_of_the_data():
    pytest.importorskip("pydantic", reason="needs pydantic")
    spec = importlib.util.spec_from_file_location("make_schema", PAGE / "make_schema.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (PAGE / "schema.json").read_text() == module.make(), "run make_schema.py, npm run types"


def test_the_build_repeats_bit_by_bit(tmp_path):
    if shutil.which("node") is None or not (PAGE / "node_modules/esbuild").exists():
        pytest.skip("needs node, and npm ci in explorer/page")
    command = ["node", str(PAGE / "build.mjs"), str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    for name in BUILT:
        assert (tmp_path / name).read_bytes() == (STATIC / name).read_bytes(), name


def test_the_page_is_small_and_whole():
    script = (STATIC / "page.js").read_text("utf-8")
    assert len(gzip.compress(script.encode(), mtime=0)) <= 60_000
    assert not re.search(r"</script|<!--", script, re.I)
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\beval\(", script)
    assert (
        len(re.findall(r"\bfetch\(|XMLHttpRequest|sendBeacon|WebSocket|EventSource", script)) == 1
    )
    page = (STATIC / "page.html").read_text("utf-8")
    assert re.findall(r"<!--(\w+)-->", page) == ["CSP", "TITLE", "STYLE", "DATA", "SCRIPT"]


def test_the_lock_names_no_host():
    lock = (PAGE / "package-lock.json").read_text()
    assert "resolved" not in lock and "sha512-" in lock
