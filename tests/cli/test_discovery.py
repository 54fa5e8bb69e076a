"""Systems are found by their files."""

from types import SimpleNamespace

import pytest

from featurewise.cli import discovery
from featurewise.cli.errors import UserError


def test_a_file_without_a_record_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    name = next(iter(discovery.names()))
    monkeypatch.setattr(discovery, "module", lambda _: SimpleNamespace(System=1))
    with pytest.raises(UserError, match=rf"systems\..*{name}: a system file ends in 'SYSTEM ="):
        discovery.load(name)


def test_every_system_is_found() -> None:
    assert {"film", "cavia", "operations"} <= discovery.names().keys()
    assert all(discovery.load(name).name == name for name in discovery.names())
