"""Reading and writing the JSON files of a run: format version, seal, checks of ranges and names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from featurewise.common.json import Node, loads
from featurewise.common.seal import SEAL, sealed, unsealed
from featurewise.training.errors import FormatVersionError

FORMAT = 2
"""Format of ``run.json``, ``model.json`` and ``results.json``; version 0.1 wrote no seal."""

MOST = (1 << 63) - 1
"""Greatest integer accepted in a file: for a seed, a number of steps or of parameters."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}")


def facts_text(content: dict[str, Any]) -> bytes:
    """The bytes of a file with this content, with format and seal added."""
    return sealed({"format": FORMAT, **content})


def read_facts(raw: bytes, path: Path | str, first: int | None) -> Node:
    """The content of a file without its format and seal, after checking both.

    Args:
        raw: bytes of the file.
        path: of the file, for errors.
        first: format number in files of version 0.1, which have no seal; None if they have no
            format number either.

    Raises:
        FormatVersionError: a newer version of the library wrote the file.
        ValueError: the file is damaged.
    """
    content = Node(loads(raw)).mapping()
    if not _is_of_version_0_1(content, first):
        check_format(Node(content)["format"], FORMAT, path)
        content = unsealed(raw, content)
    return Node({key: value for key, value in content.items() if key != "format"})


def _is_of_version_0_1(content: dict[str, Any], first: int | None) -> bool:
    if SEAL in content or "format" not in content:
        return SEAL not in content and first is None
    return type(content["format"]) is int and content["format"] == first


def check_format(number: Node, newest: int, path: Path | str) -> None:
    """Checks that this version reads the format of a file.

    Args:
        number: format number in the file.
        newest: formats from 1 to this one can be read.
        path: of the file.

    Raises:
        FormatVersionError: a newer version of the library wrote the file.
    """
    found = number.integer(1, 1 << 31)
    if found > newest:
        raise FormatVersionError(
            f"{path}: has format {found}, this version of featurewise reads {newest}"
        )


def is_path_name(name: str) -> bool:
    """Whether a name (of a system, a preset or an arm) is safe as a path component."""
    return _NAME.fullmatch(name) is not None


def read_path_name(node: Node) -> str:
    """A string that is safe as a path component."""
    name = node.text()
    if not is_path_name(name):
        raise node.error("expected a name of letters, digits and _ . + -, at most 100 of them")
    return name


def read_names(node: Node) -> dict[str, Node]:
    """The values of an object, after checking that its keys are printable names."""
    return {Node(key, node.where, node.fail).name(): each for key, each in node.entries().items()}


def read_hardware(node: Node) -> dict[str, str]:
    """The description that `featurewise.training.hardware.describe` made."""
    return {name: value.text(1000) for name, value in read_names(node).items()}
