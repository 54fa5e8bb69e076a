"""Addresses of databases are shown without their secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from featurewise.study.queue import Queue
from featurewise.training import ExperimentError

pytest.importorskip("optuna", reason="Optuna is not installed (extra: study)")

from featurewise.study.database import shown, without_secrets

SHOWN = {
    "postgresql+psycopg://me:sesame@host/name": "postgresql+psycopg://me:***@host/name",
    "postgresql://me:sesame%2F%40@host:5432/name": "postgresql://me:***@host:5432/name",
    "postgresql://me:sesame@[::1]:5432/name": "postgresql://me:***@[::1]:5432/name",
    "postgresql://me@host/name?password=sesame": "postgresql://me@host/name?***",
    "postgresql://host/name?user=me&password=sesame": "postgresql://host/name?***",
    "postgresql://me@host/name?PassWord=sesame": "postgresql://me@host/name?***",
    "postgresql://me@host/name?pass%77ord=sesame": "postgresql://me@host/name?***",
    "postgresql://me@host/name?password=sesame&password=sesame": "postgresql://me@host/name?***",
    "postgresql://me@host/name?sslmode=require&sslpassword=sesame": (
        "postgresql://me@host/name?sslmode=require&***"
    ),
    "postgresql://me@host/name?passfile=sesame": "postgresql://me@host/name?***",
    "postgresql://me:sesame@/name?host=a:1&host=b:2": (
        "postgresql://me:***@/name?host=a%3A1&host=b%3A2"
    ),
    "postgresql://me:sesame@a:1,b:2/name": "'***'",
    "postgresql://me:s@sesame@host/name": "'***'",
    "postgresql://me%3Asesame@host/name": "'***'",
    "postgresql://host/me:sesame@host/name": "'***'",
    "postgresql://host:12sesame/name": "'***'",
    "postgresql//me:sesame@host/name": "'***'",
    "postgres:sesame": "'***'",
    "host=host user=me password=sesame": "'***'",
    "mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BPWD%3Dsesame": "mssql+pyodbc:///?***",
    "mysql+pymysql://me:sesame@host/name?charset=utf8": "mysql+pymysql://me:***@host/name?***",
    "sqlite:////a/b@c/study.db": "sqlite:////a/b%40c/study.db",
    "nonsense": "'nonsense'",
}


@pytest.mark.parametrize("address", SHOWN)
def test_an_address_is_shown_without_its_secrets(address: str) -> None:
    assert shown(address) == SHOWN[address]
    assert "sesame" not in without_secrets(f"could not open {address}", address)


def test_a_password_is_hidden_however_it_is_written() -> None:
    address = "postgresql://me:sesame%2F%40@host/name"
    for way in ("sesame/@", "sesame%2F%40", "sesame/%40"):
        assert without_secrets(f"no {way} here", address) == "no *** here"


@pytest.mark.parametrize(
    "address", [url for url in SHOWN if "://" not in url or "'***'" in SHOWN[url]]
)
def test_what_is_no_address_is_refused_without_its_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setattr("featurewise.study.database._AT_FIRST", 0.0)
    with pytest.raises(ExperimentError) as told:
        Queue("a", folder=tmp_path, storage=address)
    assert "sesame" not in str(told.value)


@pytest.mark.parametrize(
    "address", ["unheard://me:sesame@host/x", "postgresql+pg8000://me:sesame@h/x"]
)
def test_an_address_without_a_driver_is_refused_at_once(tmp_path: Path, address: str) -> None:
    with pytest.raises(ExperimentError, match=r"\*\*\*") as told:
        Queue("a", folder=tmp_path, storage=address)
    assert "sesame" not in str(told.value)
