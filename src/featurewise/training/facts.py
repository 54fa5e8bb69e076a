"""What the JSON files of a run say: sealed, of one format, and believed only within ranges."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from featurewise.common.json import Node, loads
from featurewise.common.seal import SEAL, sealed, unsealed
from featurewise.training.errors import FormatVersionError

FORMAT = 2
"""Of ``run.json``, ``model.json`` and ``results.json``; those of version 0.1 have no seal."""

MOST = (1 << 63) - 1
"""Greatest integer that a file may say: of a seed, of steps, of parameters."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}")


def facts_text(content: dict[str, Any]) -> bytes:
    """The file that says this."""
    return sealed({"format": FORMAT, **content})


def read_facts(raw: bytes, path: Path | str, first: int | None) -> Node:
    """What a file says beside its format and its seal.

    Args:
        raw: its content.
        path: of the file, for errors.
        first: the format that files without a seal state; None where they state none.

    Raises:
        FormatVersionError: another version of the library wrote it.
        ValueError: it is damaged.
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
    """Raise unless the format of a file is one that is read here.

    Args:
        number: as the file says.
        newest: formats from 1 to this one are read.
        path: of the file.

    Raises:
        FormatVersionError: another version of the library wrote it.
    """
    found = number.integer(1, 1 << 31)
    if found > newest:
        raise FormatVersionError(
            f"{path}: has format {found}, this version of featurewise reads {newest}"
        )


def is_path_name(name: str) -> bool:
    """Whether a name may become a part of a path: of a system, a preset, an arm."""
    return _NAME.fullmatch(name) is not None


def read_path_name(said: Node) -> str:
    """A name that may become a part of a path."""
    name = said.text()
    if not is_path_name(name):
        raise said.error("expected a name of letters, digits and _ . + -, at most 100 of them")
    return name


def read_names(said: Node) -> dict[str, Node]:
    """The values of an object whose names are fit to be shown."""
    return {Node(key, said.where, said.fail).name(): each for key, each in said.entries().items()}


def read_hardware(said: Node) -> dict[str, str]:
    """What runs ran on, by name; see `featurewise.training.hardware.describe`."""
    return {name: value.text(1000) for name, value in read_names(said).items()}
