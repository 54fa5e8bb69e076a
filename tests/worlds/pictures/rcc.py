"""Writes Qt resource files for tests."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class _Node:
    name: str
    content: bytes | None = None
    flags: int = 2
    children: list[_Node] = field(default_factory=list)


def packed(content: bytes, stated: int | None = None) -> tuple[int, bytes]:
    """An entry that is compressed by zlib, with the size it states."""
    size = len(content) if stated is None else stated
    return 1, struct.pack(">I", size) + zlib.compress(content)


def resource_file(entries: Mapping[str, bytes | tuple[int, bytes]], version: int = 3) -> bytes:
    """The bytes of a resource file.

    Args:
        entries: path without a leading slash -> content; or its flags and its bytes as stored.
        version: 1 to 3.
    """
    root = _Node("")
    for path, entry in entries.items():
        node = root
        for name in path.split("/"):
            found = next((child for child in node.children if child.name == name), None)
            if found is None:
                found = _Node(name)
                node.children.append(found)
            node = found
        node.flags, node.content = entry if isinstance(entry, tuple) else (0, entry)
    order = [root]
    for node in order:
        order.extend(node.children)
    first, tree, data, names = 1, b"", b"", b""
    for node in order:
        if node.content is None:
            place = struct.pack(">II", len(node.children), first)
            first += len(node.children)
        else:
            place = struct.pack(">HHI", 0, 1, len(data))
            data += struct.pack(">I", len(node.content)) + node.content
        tree += (
            struct.pack(">IH", len(names), node.flags) + place + b"\0" * (8 if version > 1 else 0)
        )
        raw = node.name.encode("utf-16-be")
        names += struct.pack(">HI", len(raw) // 2, 0) + raw
    head = 24 if version == 3 else 20
    offsets = (head, head + len(tree), head + len(tree) + len(data))
    header = b"qres" + struct.pack(">IIII", version, *offsets) + b"\0" * (head - 20)
    return header + tree + data + names
