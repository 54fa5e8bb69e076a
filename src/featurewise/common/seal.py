"""Digests inside files, which detect damage and changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from featurewise.common.files import sha256
from featurewise.common.json import dumps

#: The key of a sealed object that holds its digest.
SEAL: Final = "seal"
#: Placeholder in a safetensors header for the digest, also while the digest is computed.
PLACEHOLDER: Final = "0" * 64


class SealError(ValueError):
    """A digest is missing or does not match the content."""


def sealed(content: Mapping[str, Any], *, end: str = "\n") -> bytes:
    """An object as JSON, whose last key is the SHA-256 of the text without that key.

    Args:
        content: JSON values.
        end: text at the end, which the digest includes.

    Raises:
        ValueError: a number is infinite or NaN.
    """
    return dumps({**content, SEAL: sha256(dumps(content, end=end))}, end=end)


def unsealed(raw: bytes, content: Mapping[str, Any], *, end: str = "\n") -> dict[str, Any]:
    """Content of a sealed object without its seal, after a check of the digest.

    Args:
        raw: the bytes of the file.
        content: the parsed JSON.
        end: as in ``sealed``.

    Raises:
        SealError: there is no seal, or the bytes differ from those that were written.
    """
    if SEAL not in content:
        raise SealError("its seal is missing")
    rest = {key: value for key, value in content.items() if key != SEAL}
    if sealed(rest, end=end) != raw:
        raise SealError("its seal is not that of its content; it was damaged or changed by hand")
    return rest


def seal_tensors(raw: bytes) -> bytes:
    """Replace ``PLACEHOLDER`` in the header of a safetensors file by the SHA-256 of the file.

    Raises:
        SealError: the header does not contain the placeholder exactly once.
    """
    return _with(raw, PLACEHOLDER, sha256(raw))


def check_tensors(raw: bytes, digest: object) -> None:
    """Check a safetensors file against the digest in its header.

    Raises:
        SealError: the digest does not match.
    """
    if not isinstance(digest, str) or len(digest) != len(PLACEHOLDER):
        raise SealError("its SHA-256 is missing")
    if sha256(_with(raw, digest, PLACEHOLDER)) != digest:
        raise SealError("damaged: its SHA-256 is not the one it states; copy it again")


def _with(raw: bytes, old: str, new: str) -> bytes:
    end = 8 + int.from_bytes(raw[:8], "little")
    header = raw[:end]
    if header.count(old.encode()) != 1:
        raise SealError("its SHA-256 does not stand in its header once")
    return header.replace(old.encode(), new.encode()) + raw[end:]
