"""Untrusted text neither controls a terminal nor becomes markup."""

from __future__ import annotations

import pytest

from featurewise.common.text import code, markdown, printable, short
from featurewise.core import FeaturewiseError, ShapeError
from featurewise.training import ExperimentError
from featurewise.training.errors import CheckpointError


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, é 😀 中", "plain, é 😀 中"),
        ("\x1b[2J\x07", r"\x1b[2J\x07"),
        ("a\nb\tc\r", r"a\x0ab\x09c\x0d"),
        ("\x9b2J\x7f", r"\x9b2J\x7f"),
        ("\u202egnp.exe\u2069", r"\u202egnp.exe\u2069"),
        ("\u2028\u200b\ufeff", r"\u2028\u200b\ufeff"),
        ("\udc80\U000e0001", r"\udc80\U000e0001"),
    ],
)
def test_invisible_characters_are_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(printable(text)) == shown


def test_newlines_can_be_kept() -> None:
    assert printable("a\n\x1bb", lines=True) == "a\n\\x1bb"


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "[a](javascript:x)",
        "![a](b)",
        "`a`",
        "**a** | b",
        "a\n# b",
        "&lt;b&gt;",
        "\\<b>",
        "{{ x }}",
    ],
)
def test_text_does_not_become_markup(text: str) -> None:
    shown = markdown(text)
    assert not set("<>[]`*|\n{}\\") & set(shown)
    assert code(text).startswith("<code>") or "`" in code(text)
    assert "<script" not in code(text) and "\n" not in code(text)


def test_plain_names_are_unchanged() -> None:
    name = "Intel(R) Xeon(R) @ 2.80GHz, γ_1 / 3 %"
    assert markdown(name) == name and code("layer1.0") == "`layer1.0`"
    assert code("a|b`c") == "<code>a&#124;b&#96;c</code>"


def test_long_values_are_truncated() -> None:
    assert short("a\x1b") == r"'a\x1b'"
    assert short([1, 2]) == "[1, 2]" and len(short("x" * 10**6)) == 80
    assert short(10**5000) == "an integer of 16610 bits"


@pytest.mark.parametrize("error", [FeaturewiseError, ShapeError, ExperimentError, CheckpointError])
def test_quotes_in_errors_are_escaped(error: type[Exception]) -> None:
    assert str(error("a\x1b[2J\u202e: bad\nline")) == "a\\x1b[2J\\u202e: bad\nline"
