"""Errors of parsers become errors of the library that begin with the path."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors import SafetensorError

from featurewise.common.errors import wrap_errors
from featurewise.core import LayoutError, ShapeError


@pytest.mark.parametrize(
    "foreign",
    [
        KeyError("a"),
        IndexError(3),
        TypeError("no"),
        AttributeError("x"),
        ValueError("y"),
        OverflowError("z"),
        ZeroDivisionError("0"),
        RecursionError("deep"),
        RuntimeError("torch"),
        ArithmeticError("float8"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        json.JSONDecodeError("x", "y", 0),
        SafetensorError("header"),
        MemoryError(),
        AssertionError("odd"),
        StopIteration(1),
        EOFError("end"),
        OSError(5, "Input/output error"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_foreign_exceptions_are_converted(foreign: Exception, tmp_path: Path) -> None:
    with pytest.raises(LayoutError) as caught, wrap_errors(tmp_path, LayoutError, ShapeError):
        raise foreign
    assert str(caught.value).startswith(f"{tmp_path}: ") and caught.value.__cause__ is foreign


def test_own_exceptions_keep_their_type_and_get_the_path_once(tmp_path: Path) -> None:
    for message in ("wide", f"{tmp_path}: wide"):
        with pytest.raises(ShapeError) as caught, wrap_errors(tmp_path, LayoutError, ShapeError):
            raise ShapeError(message)
        assert str(caught.value) == f"{tmp_path}: wide"


def test_exits_and_interrupts_pass(tmp_path: Path) -> None:
    for stop in (KeyboardInterrupt, SystemExit, GeneratorExit):
        with pytest.raises(stop), wrap_errors(tmp_path, LayoutError):
            raise stop


def test_messages_are_short_and_escaped(tmp_path: Path) -> None:
    with pytest.raises(LayoutError) as caught, wrap_errors(tmp_path, LayoutError):
        raise ValueError("\x1b[2J" + "x" * 10**6)
    assert "\x1b" not in str(caught.value) and len(str(caught.value)) < 600
