"""JSON is read strictly, within limits, and in linear time."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from featurewise.common.json import JsonError, Node, dumps, failing, loads, read, stream_array


def test_json_of_python_is_read_back() -> None:
    content = {"a": [1, -2.5e-3, True, None, "é 😀", {}], "b": {"c": 2**127, "": []}}
    assert loads(dumps(content)) == content == loads(dumps(content).decode())
    assert dumps(content) == dumps(loads(dumps(content)))
    with pytest.raises(ValueError, match="not JSON compliant"):
        dumps({"a": float("nan")})


REFUSED = {
    "": "is not JSON",
    "{": "line 1, column 2: is not JSON",
    '{"a": 1,}': "is not JSON",
    "[1] 2": "Extra data",
    "[NaN]": "NaN is not JSON",
    "[-Infinity]": "-Infinity is not JSON",
    "[1e999]": "too large",
    "[-1e999]": "too large",
    '{"a": 1, "a": 1}': "'a' occurs twice",
    '[{"b": {"a": 1, "a": 2}}]': "'a' occurs twice",
    "[" * 101 + "]" * 101: "more than 100 deep",
    '{"a":' * 101 + "1" + "}" * 101: "more than 100 deep",
    "[" * 100_000: "more than 100 deep",
    "9" * 101: "more than 100 digits",
    "-" + "9" * 5000: "more than 100 digits",
    '["\\ud800"]': "half of a surrogate pair",
    '{"\\udfff": 1}': "half of a surrogate pair",
    "\ufeff[]": "byte order mark",
    '["\t"]': "control character",
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: ascii(text)[:20])
def test_lenient_json_raises(text: str) -> None:
    for content in (text, text.encode()):
        with pytest.raises(JsonError, match=REFUSED[text]):
            loads(content)


def test_bytes_that_are_not_utf8_raise() -> None:
    for content in (b"\xff\xfe[\0]\0", "[]".encode("utf-16"), "[]".encode("utf-32"), b'"\xed\xa0"'):
        with pytest.raises(JsonError, match="not UTF-8"):
            loads(content)
    with pytest.raises(JsonError, match="byte order mark"):
        loads("[]".encode("utf-8-sig"))


def test_limits_to_depth_and_length_can_be_set() -> None:
    assert loads("[" * 100 + "]" * 100)
    assert loads("[[0]]", max_depth=2) == [[0]]
    with pytest.raises(JsonError, match="more than 1 deep"):
        loads("[[0]]", max_depth=1)
    with pytest.raises(JsonError, match="longer than 4 bytes"):
        loads("[[0]]", max_bytes=4)


def test_pairs_of_surrogates_are_letters() -> None:
    assert loads(r'["\ud83d\ude00", "\\ud800"]') == ["😀", r"\ud800"]


def test_a_repeated_key_is_found_in_linear_time() -> None:
    keys = ", ".join(f'"{i}": {i}' for i in range(200_000))
    started = time.process_time()
    with pytest.raises(JsonError, match="'199999' occurs twice"):
        loads(f'{{{keys}, "199999": 1}}')
    assert time.process_time() - started < 5  # pairwise comparison would take minutes


# --- nodes ----------------------------------------------------------------------------------------


def node(value: Any) -> Node:
    return Node(value, "a.b", failing(ValueError, "file"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: node([])["key"], "expected an object, found a list"),
        (lambda: node({})["key"], 'key "key" is missing'),
        (lambda: node({"x": 1}).mapping(("y",)), 'key "y" is missing'),
        (lambda: node({"y": 1, "\x1b": 1}).mapping(("y",)), r"key '\\x1b' is unknown"),
        (lambda: node(3).items(), "expected a list, found 3"),
        (lambda: node([1]).items(2), "expected 2 elements, found 1"),
        (lambda: node(None).text(), "expected a text, found null"),
        (lambda: node("xyz").text(2), "longer than 2 characters"),
        (lambda: node("\ud800").text(), "surrogate"),
        (lambda: node("\x1b[2J").name(), r"printable characters, found '\\x1b\[2J'"),
        (lambda: node("a\nb").name(), "printable"),
        (lambda: node("\u202egnp.exe").name(), "printable"),
        (lambda: node("").name(), "printable"),
        (lambda: node("c").one_of(["a", "b"]), "'c' is none of a, b"),
        (lambda: node(True).integer(0, 9), "expected an integer, found True"),
        (lambda: node(1.0).integer(0, 9), "expected an integer"),
        (lambda: node(-3).integer(0, 9), "-3 lies outside 0..9"),
        (lambda: node(10**90).integer(0, 9), r"10+\.\.\. lies outside|10+ lies outside"),
        (lambda: node(True).number(), "expected a number"),
        (lambda: node(10**90).number(0, 1), "outside"),
        (lambda: node(10**400).number(), "too large"),
        (lambda: node(-0.5).number(0), "-0.5 lies outside 0..inf"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert str(caught.value).startswith("file: a.b")


def test_valid_values_are_returned() -> None:
    value = node({"n": [1, 2.5], "t": "é x", "u": {}})
    assert value.mapping(("n", "t"), ("u", "v")) == value.value and "n" in value
    assert [each.number(1, 2.5) for each in value["n"].items(2)] == [1.0, 2.5]
    assert value["n"].items()[0].integer(1, 1) == 1
    assert value["t"].name() == value["t"].text() == value["t"].one_of(["é x"]) == "é x"
    assert value.entries()["u"].where == "a.b.u" and value["n"].items()[1].where == "a.b.n[1]"


# --- files ----------------------------------------------------------------------------------------


def test_errors_of_files_name_them(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    fail = failing(ValueError, path)
    for content, message in [
        (b'{"a": 1}', None),
        (b"[1,", "line 1, column 4: is not JSON"),
        (b"[1]" + b" " * 100, "longer than 100 bytes"),
    ]:
        path.write_bytes(content)
        if message is None:
            assert read(path, fail, max_bytes=100)["a"].integer(1, 1) == 1
            continue
        with pytest.raises(ValueError, match=message) as caught:
            read(path, fail, max_bytes=100)
        assert str(caught.value).startswith(f"{path}: ")
    path.unlink()
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        read(path, fail)


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
def test_a_pipe_raises_without_blocking(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    os.mkfifo(path)
    with pytest.raises(JsonError, match="no regular file"):
        list(stream_array(path, "key"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"things": [{"a": 1, "a": 2}]}', r"things\[0\].*occurs twice"),
        ('{"things": [1e999]}', r"things\[0\].*too large"),
        ('{"things": [' + "9" * 200 + "]}", r"things\[0\].*digits"),
        ('{"things": [' + "[" * 200 + "]" * 200 + "]}", r"things\[0\].*deep"),
        ('{"other": []}', 'key "things" is missing'),
    ],
)
def test_a_stream_is_as_strict(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(JsonError, match=message):
        list(stream_array(path, "things"))


def test_a_stream_equals_json_of_python(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    things = [1, 2.5, "x", None, {"a": [[]]}, []]
    path.write_text(json.dumps({"x": 0, "things": things, "y": {}}))
    assert [each.value for each in stream_array(path, "things")] == things
