"""``Fingerprint``: which network a conditioner belongs to, and how another one differs."""

from __future__ import annotations

import ctypes
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from featurewise.retrofit.errors import BackboneError
from featurewise.retrofit.facade import plain_class

#: How many differences a message names.
_FEW: Final = 5

#: Hexadecimal digits of the digest of one tensor.
_DIGITS: Final = 16

_STATISTICS: Final = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Imprint:
    """What is kept of one tensor.

    Attributes:
        dtype: its dtype, without "torch.".
        shape: its shape.
        digest: first digits of the SHA-256 of its bytes; None where it has none to read (meta
            device, sharded, quantised).
    """

    dtype: str
    shape: tuple[int, ...]
    digest: str | None

    def __str__(self) -> str:
        return f"{self.dtype} {json.dumps(self.shape, separators=(',', ':'))} {self.digest or '-'}"

    @classmethod
    def parse(cls, text: str) -> Imprint:
        """The inverse of ``str``.

        Raises:
            ValueError: it is another text.
        """
        dtype, shape, digest = text.split(" ")
        return cls(dtype, tuple(map(int, json.loads(shape))), None if digest == "-" else digest)


@dataclass(frozen=True)
class Fingerprint:
    """Identity of a network: the class, and the tensors of its state dict.

    Attributes:
        kind: name of the class.
        tensors: name in the state dict -> what is kept of the tensor.
    """

    kind: str
    tensors: Mapping[str, Imprint]

    @classmethod
    def of(cls, network: nn.Module, values: bool = True) -> Fingerprint:
        """Fingerprint of a network, at the speed of SHA-256 (measured: 0.6 s of one core a GB).

        Args:
            network: any network.
            values: whether to read the tensors; without, no digest is kept.
        """
        tensors = {
            name: Imprint(
                str(tensor.dtype).removeprefix("torch."),
                tuple(tensor.shape),
                _digest(tensor) if values else None,
            )
            for name, tensor in network.state_dict().items()
            if isinstance(tensor, Tensor)
        }
        return cls(plain_class(type(network)).__name__, tensors)

    @property
    def architecture(self) -> str:
        """SHA-256 of names, dtypes and shapes."""
        listing = [[name, t.dtype, list(t.shape)] for name, t in sorted(self.tensors.items())]
        return hashlib.sha256(json.dumps(listing).encode()).hexdigest()

    def check(
        self, network: nn.Module, *, values: bool, ignore: Collection[str] = (), where: str = ""
    ) -> None:
        """Raise unless ``network`` is the one that was fingerprinted.

        Args:
            network: the network to compare.
            values: whether dtypes and values must agree too, not only class, names and shapes.
            ignore: names of tensors whose values may differ.
            where: opens the message.

        Raises:
            BackboneError: it is another one; the message names the difference.
        """
        other = Fingerprint.of(network, values=values)
        found = list(self._other_architecture(other))
        if not found and values:
            found = list(self._other_values(other, set(ignore)))
        if found:
            raise BackboneError(f"{where}made for another network than this: {'; '.join(found)}")

    def _other_architecture(self, other: Fingerprint) -> Iterator[str]:
        mine, theirs = self.tensors, other.tensors
        if self.kind != other.kind:
            yield f"expected a {self.kind}, got a {other.kind}"
        if missing := [name for name in mine if name not in theirs]:
            yield f"missing tensors {_few(missing)}"
        if extra := [name for name in theirs if name not in mine]:
            yield f"extra tensors {_few(extra)}"
        shapes = [
            f"{name} {theirs[name].shape} instead of {mine[name].shape}"
            for name in mine
            if name in theirs and mine[name].shape != theirs[name].shape
        ]
        if shapes:
            yield f"other shapes: {_few(shapes)}"

    def _other_values(self, other: Fingerprint, ignore: set[str]) -> Iterator[str]:
        mine, theirs = self.tensors, other.tensors
        names = [name for name in mine if name not in ignore]
        kinds = [
            f"{name} {theirs[name].dtype} instead of {mine[name].dtype}"
            for name in names
            if mine[name].dtype != theirs[name].dtype
        ]
        if kinds:
            yield f"other dtypes: {_few(kinds)}"
            return  # then no value is the same, which says nothing
        unread = [n for n in names if mine[n].digest is None or theirs[n].digest is None]
        if unread:
            side = "this network" if theirs[unread[0]].digest is None else "the saved one"
            yield (
                f"values of {side} cannot be read (meta device, sharded, quantised): "
                f"{_few(unread)}; pass check='later' to compare at the first call, or "
                "check='architecture' to leave it at that"
            )
        changed = [n for n in names if n not in unread and mine[n].digest != theirs[n].digest]
        if changed:
            yield f"other values in {len(changed)} of {len(names)} tensors: {_few(changed)}"

    def to_json(self) -> dict[str, Any]:
        """A JSON-able description; ``from_json`` restores it."""
        return {
            "class": self.kind,
            "architecture": self.architecture,
            "tensors": {name: str(imprint) for name, imprint in self.tensors.items()},
        }

    @classmethod
    def from_json(cls, data: Any) -> Fingerprint:
        """Restore a fingerprint from ``to_json``.

        Raises:
            BackboneError: if it is no fingerprint.
        """
        try:
            tensors = {str(name): Imprint.parse(text) for name, text in data["tensors"].items()}
            made = cls(str(data["class"]), tensors)
            sound = made.architecture == data["architecture"]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BackboneError(f"not a fingerprint: {error!r}") from error
        if not sound:
            raise BackboneError("not a fingerprint: its digest is not that of its tensors")
        return made


def statistics_of(network: nn.Module) -> dict[str, Tensor]:
    """Running statistics of the batch norms (and the like) of a network, by state-dict name."""
    return {
        f"{name}.{kind}" if name else kind: tensor
        for name, module in network.named_modules(remove_duplicate=False)
        if isinstance(module, _NormBase)
        for kind in _STATISTICS
        if isinstance(tensor := getattr(module, kind, None), Tensor)
    }


def _few(items: list[str]) -> str:
    more = len(items) - _FEW
    return ", ".join(items[:_FEW]) + (f" and {more} more" if more > 0 else "")


def readable(tensor: object) -> TypeGuard[Tensor]:
    """Whether it is a plain tensor with bytes of its own to read."""
    return (
        type(tensor) in (Tensor, nn.Parameter)
        and isinstance(tensor, Tensor)
        and tensor.layout == torch.strided
        and tensor.device.type != "meta"
        and not tensor.is_quantized
    )


def _digest(tensor: Tensor) -> str | None:
    if not readable(tensor):
        return None
    data = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    size = data.numel() * data.itemsize
    memory = (ctypes.c_char * size).from_address(data.data_ptr()) if size else b""
    return hashlib.sha256(memory).hexdigest()[:_DIGITS]
