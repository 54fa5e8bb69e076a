"""Digests that files carry of themselves: what is not as it was written is not believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from featurewise.common.files import sha256
from featurewise.common.json import dumps

#: The key of a sealed object that holds its digest.
SEAL: Final = "seal"
#: Stands in a safetensors header until its digest is known, and while it is computed.
PLACEHOLDER: Final = "0" * 64


class SealError(ValueError):
    """A digest is missing, or is not that of what it seals."""


def sealed(content: Mapping[str, Any], *, end: str = "\n") -> bytes:
    """An object as JSON, its last key the SHA-256 of the text without it.

    Args:
        content: JSON values.
        end: what follows it, also where the digest is taken.

    Raises:
        ValueError: a number is infinite or NaN.
    """
    return dumps({**content, SEAL: sha256(dumps(content, end=end))}, end=end)


def unsealed(raw: bytes, content: Mapping[str, Any], *, end: str = "\n") -> dict[str, Any]:
    """What a sealed object says beside its seal, proved equal to what was written.

    Args:
        raw: the file, byte for byte.
        content: what JSON made of it.
        end: as it was written.

    Raises:
        SealError: it has no seal, or a byte of it is another.
    """
    if SEAL not in content:
        raise SealError("its seal is missing")
    said = {key: value for key, value in content.items() if key != SEAL}
    if sealed(said, end=end) != raw:
        raise SealError("its seal is not that of its content; it was damaged or changed by hand")
    return said


def seal_tensors(raw: bytes) -> bytes:
    """A safetensors file whose header has ``PLACEHOLDER`` once, with its SHA-256 in that place.

    Raises:
        SealError: the header has no such place, or several.
    """
    return _with(raw, PLACEHOLDER, sha256(raw))


def check_tensors(raw: bytes, digest: object) -> None:
    """Raise unless ``digest``, which its header states, is that of a safetensors file.

    Raises:
        SealError: it is not: a byte of the file is another.
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
