"""Versions of Debian's packages."""

from __future__ import annotations

import shutil

import pytest

from featurewise.worlds.packages import installed_versions


def test_versions_of_installed_packages() -> None:
    if shutil.which("dpkg-query") is None:
        pytest.skip("needs Debian's package manager")
    found = installed_versions(["dpkg", "no-such-package"])
    assert list(found) == ["dpkg"] and found["dpkg"][0].isdigit()


def test_other_systems_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert installed_versions(["dpkg"]) == {}
