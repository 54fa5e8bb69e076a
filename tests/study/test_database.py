"""URLs of databases are printed without their secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from featurewise.study.queue import Queue
from featurewise.training import ExperimentError

pytest.importorskip("optuna", reason="Optuna is not installed (extra: study)")

from featurewise.study.database import redacted, without_secrets

REDACTED = {
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


@pytest.mark.parametrize("url", REDACTED)
def test_a_url_is_printed_without_its_secrets(url: str) -> None:
    assert redacted(url) == REDACTED[url]
    assert "sesame" not in without_secrets(f"could not open {url}", url)


def test_a_password_is_hidden_with_and_without_percent_encoding() -> None:
    url = "postgresql://me:sesame%2F%40@host/name"
    for spelling in ("sesame/@", "sesame%2F%40", "sesame/%40"):
        assert without_secrets(f"no {spelling} here", url) == "no *** here"


@pytest.mark.parametrize(
    "url", [each for each in REDACTED if "://" not in each or "'***'" in REDACTED[each]]
)
def test_an_invalid_url_is_refused_without_its_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setattr("featurewise.study.database._OPEN_TIMEOUT", 0.0)
    with pytest.raises(ExperimentError) as caught:
        Queue("a", folder=tmp_path, storage=url)
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize("url", ["unheard://me:sesame@host/x", "postgresql+pg8000://me:sesame@h/x"])
def test_a_url_without_an_installed_driver_is_refused_immediately(tmp_path: Path, url: str) -> None:
    with pytest.raises(ExperimentError, match=r"\*\*\*") as caught:
        Queue("a", folder=tmp_path, storage=url)
    assert "sesame" not in str(caught.value)
