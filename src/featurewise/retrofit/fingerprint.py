"""``Fingerprint``: hashes that identify the backbone of a conditioner, and show differences."""

from __future__ import annotations

import ctypes
import hashlib
import inspect
import io
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from featurewise.common.json import Node, loads
from featurewise.retrofit.errors import BackboneError
from featurewise.retrofit.facade import plain_class

#: Largest number of differences in a message.
_FEW: Final = 5

#: Number of hexadecimal digits kept of the hash of one tensor.
_DIGITS: Final = 16

_STATISTICS: Final = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class TensorHash:
    """Dtype, shape and hash of one tensor.

    Attributes:
        dtype: the dtype, without "torch.".
        shape: the shape.
        digest: first 16 hexadecimal digits of the SHA-256 of its bytes; None if the bytes cannot
            be read (meta device, sharded).
    """

    dtype: str
    shape: tuple[int, ...]
    digest: str | None

    def __str__(self) -> str:
        return f"{self.dtype} {json.dumps(self.shape, separators=(',', ':'))} {self.digest or '-'}"

    @classmethod
    def parse(cls, text: str) -> TensorHash:
        """The inverse of ``str``.

        Raises:
            ValueError: if ``text`` is not of this form.
        """
        dtype, shape, digest = text.split(" ")
        sizes = tuple(size.integer(0, 1 << 62) for size in Node(loads(shape)).items())
        return cls(dtype, sizes, None if digest == "-" else digest)


@dataclass(frozen=True)
class Fingerprint:
    """Identity of a network: its class, and everything that affects what it computes.

    Attributes:
        kind: name of the class.
        tensors: name in the state dict -> hash of the tensor.
        hidden: hashes of values that are no tensor of the state dict: buffers that are not
            persistent, extra state, packed weights. None in files of version 0.1.
        settings: module -> setting -> value as text: the numbers and options that a module is
            built with (heads, strides, eps). None in files of version 0.1.
    """

    kind: str
    tensors: Mapping[str, TensorHash]
    hidden: Mapping[str, TensorHash] | None = None
    settings: Mapping[str, Mapping[str, str]] | None = None

    @classmethod
    def of(cls, network: nn.Module, values: bool = True) -> Fingerprint:
        """Fingerprint of a network. The time is that of SHA-256: 0.6 s per GB on one core.

        Args:
            network: any network.
            values: whether to hash the values of the tensors.
        """
        state = network.state_dict()
        held = {name: value for name, value in state.items() if isinstance(value, Tensor)}
        loose = {name: value for name, value in network.named_buffers() if name not in state}
        packed = {name: value for name, value in state.items() if name not in held}
        return cls(
            plain_class(type(network)).__name__,
            {name: _tensor_hash(tensor, values) for name, tensor in held.items()},
            {name: _tensor_hash(value, values) for name, value in (loose | packed).items()},
            settings_of(network),
        )

    @property
    def architecture(self) -> str:
        """SHA-256 of names, dtypes and shapes."""
        listing = [[name, t.dtype, list(t.shape)] for name, t in sorted(self.tensors.items())]
        return hashlib.sha256(json.dumps(listing).encode()).hexdigest()

    def check(
        self,
        network: nn.Module,
        *,
        values: bool,
        ignore: Collection[str] = (),
        only: Collection[str] | None = None,
        where: str = "",
    ) -> None:
        """Raise unless ``network`` has this fingerprint.

        Args:
            network: the network to compare.
            values: whether dtypes and values must be equal too, in addition to class, names, shapes
                and settings.
            ignore: names of tensors whose values may differ.
            only: names of modules; then only the names and shapes of their tensors are compared.
            where: prefix of the message.

        Raises:
            BackboneError: if it differs; the message names the differences.
        """
        other = Fingerprint.of(network, values=values)
        if only is not None:
            found = list(_of_modules(self, only)._other_architecture(_of_modules(other, only)))
        else:
            found = list(self._other_architecture(other))
            if found:
                found.append("check='sites' compares only the modules at the sites")
        if not found and values:
            found = [*self._other_values(other, set(ignore)), *self._other_hidden(other)]
        if found:
            raise BackboneError(f"{where}made for a different network: {'; '.join(found)}")

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
            yield f"different shapes: {_few(shapes)}"
        if settings := list(self._other_settings(other)):
            yield f"different settings: {_few(settings)}"

    def _other_settings(self, other: Fingerprint) -> Iterator[str]:
        """Settings with different values in both; those of one alone depend on versions."""
        for module, own in (self.settings or {}).items():
            theirs = (other.settings or {}).get(module, {})
            for name, value in own.items():
                if theirs.get(name, value) != value:
                    where = f"{module}.{name}" if module else name
                    yield f"{where} {theirs[name]} instead of {value}"

    def _other_hidden(self, other: Fingerprint) -> Iterator[str]:
        """Differences of buffers and extra state; a buffer may be missing before the first run."""
        mine, theirs = self.hidden or {}, other.hidden or {}
        names = [name for name in mine if name in theirs]
        if missing := [n for n, i in mine.items() if i.dtype == _OBJECT and n not in theirs]:
            yield f"missing state {_few(missing)}"
        if changed := [name for name in names if mine[name] != theirs[name]]:
            yield f"different buffers or extra state: {_few(changed)}"
        unread = [n for n in names if n not in changed and mine[n].digest is None]
        if unread:
            yield f"state that cannot be read: {_few(unread)}; pass check='architecture'"

    def _other_values(self, other: Fingerprint, ignore: set[str]) -> Iterator[str]:
        mine, theirs = self.tensors, other.tensors
        names = [name for name in mine if name not in ignore]
        kinds = [
            f"{name} {theirs[name].dtype} instead of {mine[name].dtype}"
            for name in names
            if mine[name].dtype != theirs[name].dtype
        ]
        if kinds:
            yield f"different dtypes: {_few(kinds)}"
            return  # the values then differ in any case
        unread = [n for n in names if mine[n].digest is None or theirs[n].digest is None]
        if unread:
            side = "this network" if theirs[unread[0]].digest is None else "the saved one"
            yield (
                f"values of {side} cannot be read (meta device, sharded): "
                f"{_few(unread)}; pass check='later' to compare at the first call, or "
                "check='architecture' to skip the comparison of values"
            )
        changed = [n for n in names if n not in unread and mine[n].digest != theirs[n].digest]
        if changed:
            yield f"different values in {len(changed)} of {len(names)} tensors: {_few(changed)}"

    def to_json(self) -> dict[str, Any]:
        """A JSON-able description; ``from_json`` restores it."""
        return {
            "class": self.kind,
            "architecture": self.architecture,
            "tensors": {name: str(tensor_hash) for name, tensor_hash in self.tensors.items()},
            "hidden": {name: str(tensor_hash) for name, tensor_hash in (self.hidden or {}).items()},
            "settings": {name: dict(own) for name, own in (self.settings or {}).items()},
        }

    @classmethod
    def from_json(cls, data: Any) -> Fingerprint:
        """Restore a fingerprint from ``to_json``.

        Raises:
            BackboneError: if it is no fingerprint.
        """
        try:
            tensors = {str(name): TensorHash.parse(text) for name, text in data["tensors"].items()}
            hidden, settings = data.get("hidden"), data.get("settings")
            if hidden is not None:
                hidden = {str(name): TensorHash.parse(text) for name, text in hidden.items()}
            if settings is not None:
                settings = {
                    str(name): {str(key): str(value) for key, value in own.items()}
                    for name, own in settings.items()
                }
            made = cls(str(data["class"]), tensors, hidden, settings)
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


def settings_of(network: nn.Module) -> dict[str, dict[str, str]]:
    """The settings of each module, as text: constructor arguments that no tensor contains.

    For modules of torch these are all attributes that are numbers, options or functions; for
    others the numbers, and the options that are named like an argument of the constructor, since
    other attributes may be flags that change during running or training.
    """
    found = {name: _settings(module) for name, module in network.named_modules()}
    return {name: own for name, own in found.items() if own}


#: Attributes that have no effect in evaluation, or are not settings.
_WITHOUT_EFFECT: Final = ("training", "inplace", "momentum", "layer_idx", "forward")


def _settings(module: nn.Module) -> dict[str, str]:
    kind = type(module)
    if "Drop" in kind.__name__:
        return {}
    try:
        arguments: Collection[str] = inspect.signature(kind.__init__).parameters
    except (TypeError, ValueError):  # a constructor that is not written in Python
        arguments = ()
    trusted = kind.__module__.startswith("torch.nn")
    return {
        name: text
        for name, value in vars(module).items()
        if not name.startswith("_") and name not in _WITHOUT_EFFECT and "drop" not in name
        if (text := _setting(value, trusted or name in arguments)) is not None
    }


def _setting(value: object, option: bool) -> str | None:
    if isinstance(value, tuple):
        items = [_setting(item, option) for item in value]
        return None if None in items else f"({', '.join(map(str, items))})"
    if isinstance(value, bool | str):
        return repr(value) if option else None
    if isinstance(value, int | float):
        return repr(value)
    return value.__name__ if inspect.isroutine(value) and option else None


def _of_modules(mark: Fingerprint, modules: Collection[str]) -> Fingerprint:
    """The part of a fingerprint that concerns the tensors of some modules."""
    kept = {
        name: tensor_hash
        for name, tensor_hash in mark.tensors.items()
        if any(not module or name.startswith(f"{module}.") for module in modules)
    }
    return Fingerprint("", kept)


# --- digests -------------------------------------------------------------------------------------


#: Stands for a dtype where the value is not a tensor.
_OBJECT: Final = "object"


def _tensor_hash(value: object, read: bool) -> TensorHash:
    if isinstance(value, Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        return TensorHash(dtype, tuple(value.shape), _digest(value) if read else None)
    return TensorHash(_OBJECT, (), _digest_of(value) if read else None)


def readable(tensor: object) -> TypeGuard[Tensor]:
    """Whether it is a plain tensor whose bytes can be read."""
    return (
        type(tensor) in (Tensor, nn.Parameter)
        and isinstance(tensor, Tensor)
        and tensor.layout == torch.strided
        and tensor.device.type != "meta"
        and not tensor.is_quantized
    )


def _digest(tensor: Tensor) -> str | None:
    if tensor.is_quantized and tensor.device.type != "meta":
        return _digest_of(_quantized(tensor))
    if not readable(tensor):
        return None
    data = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    size = data.numel() * data.itemsize
    memory = (ctypes.c_char * size).from_address(data.data_ptr()) if size else b""
    return hashlib.sha256(memory).hexdigest()[:_DIGITS]


def _quantized(tensor: Tensor) -> list[object]:
    """The integers of a quantised tensor with its scales and zero points."""
    integers = tensor.int_repr()
    if tensor.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        return [integers, tensor.q_scale(), tensor.q_zero_point()]
    scales, zeros = tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points()
    return [integers, scales, zeros, tensor.q_per_channel_axis()]


def _digest_of(value: object) -> str | None:
    """Hash of nested containers; None if something in them cannot be read."""
    text = _canonical(value)
    return None if text is None else hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def _canonical(value: object) -> str | None:
    """A text that is equal for equal values, in every process."""
    if isinstance(value, Tensor):
        tensor_hash = _tensor_hash(value, True)
        return None if tensor_hash.digest is None else f"tensor {tensor_hash}"
    if value is None or isinstance(value, bool | int | float | complex | str | torch.dtype):
        return f"{type(value).__name__} {value!r}"
    if isinstance(value, bytes | bytearray):
        return f"bytes {bytes(value).hex()}"
    if isinstance(value, io.BytesIO):
        return _canonical(value.getvalue())
    if isinstance(value, Mapping):
        value, kind = [[key, value[key]] for key in sorted(value, key=repr)], "mapping"
    elif isinstance(value, set | frozenset):
        value, kind = sorted(value, key=repr), "set"
    else:
        kind = "sequence"
    if not isinstance(value, list | tuple):
        return None
    items = [_canonical(item) for item in value]
    return None if None in items else f"{kind} [{', '.join(map(str, items))}]"
