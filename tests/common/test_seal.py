"""A seal protects every byte of JSON and of safetensors files."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch
from safetensors.torch import save

from featurewise.common.json import loads
from featurewise.common.seal import (
    PLACEHOLDER,
    SealError,
    check_tensors,
    seal_tensors,
    sealed,
    unsealed,
)

CONTENT = {"a": [1, 2.5, None, "é"], "b": {"c": True}}


@pytest.mark.parametrize("end", ["\n", ""])
def test_an_object_is_read_back_only_if_no_byte_changed(end: str) -> None:
    raw = sealed(CONTENT, end=end)
    assert unsealed(raw, loads(raw), end=end) == CONTENT
    plain = (json.dumps(CONTENT, indent=1) + end).encode()
    assert json.loads(raw)["seal"] == hashlib.sha256(plain).hexdigest()  # an independent check
    for at in range(len(raw)):
        for bad in (raw[:at] + raw[at + 1 :], raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]):
            with pytest.raises(ValueError):
                unsealed(bad, loads(bad), end=end)
    for bad in (raw + b" ", b" " + raw, raw.replace(b"\n", b"\r\n")):
        with pytest.raises(SealError):
            unsealed(bad, loads(bad), end=end)


def test_an_object_without_a_seal_raises() -> None:
    with pytest.raises(SealError, match="missing"):
        unsealed(b"{}", {})


def test_tensors_are_read_back_only_if_no_byte_changed() -> None:
    raw = seal_tensors(save({"x": torch.arange(3)}, metadata={"a": PLACEHOLDER}))
    digest = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["__metadata__"]["a"]
    check_tensors(raw, digest)
    assert hashlib.sha256(raw.replace(digest.encode(), b"0" * 64)).hexdigest() == digest
    for at in range(len(raw)):
        with pytest.raises(SealError):
            check_tensors(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :], digest)
    for bad, odd in (
        (raw, None),
        (raw, "0" * 64),
        (raw, "x"),
        (b"", digest),
        (raw + b"\0", digest),
    ):
        with pytest.raises(SealError):
            check_tensors(bad, odd)
    with pytest.raises(SealError, match="once"):
        seal_tensors(save({"x": torch.arange(3)}))
