"""Save and load a conditioner: generator, layout, and a fingerprint of its backbone, in a folder.

* ``model.safetensors``: the generator's tensors (``generator.*``), and the running statistics of
  the backbone's batch norms (``statistics.*``), which training the conditioner moves;
* ``config.json``: layout, configuration of the generator, fingerprint of the backbone;
* ``manifest.json``: size and SHA-256 of the two files, with a SHA-256 of its own content;
* ``README.md``: the model card, for people; it may be edited.

The folder is written atomically. Loading verifies hashes before it uses any content, unpickles
and imports nothing, and compares shapes before it allocates memory.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from featurewise.common.errors import error_text, wrap_errors
from featurewise.common.files import recovered, sha256, write_folder
from featurewise.common.json import Node, dumps, failing, loads
from featurewise.common.opening import read_bytes
from featurewise.common.seal import sealed, unsealed
from featurewise.common.text import code, printable, short
from featurewise.core import ArgumentTypeError, FeaturewiseError, Layout
from featurewise.core.numbers import is_float, stored
from featurewise.generators import Configured, GeneratorError, from_config
from featurewise.generators.base import bind_part
from featurewise.generators.config import building_at_most, difference
from featurewise.generators.errors import LimitError
from featurewise.retrofit import calls
from featurewise.retrofit.calls import Owner
from featurewise.retrofit.errors import BackboneError, FormatError, SavingError
from featurewise.retrofit.fingerprint import Fingerprint, readable, statistics_of

#: Version of the files. This version is read, and all earlier ones.
FORMAT: Final = 1

_CONFIG, _WEIGHTS, _CARD = "config.json", "model.safetensors", "README.md"
_MANIFEST: Final = "manifest.json"
_GENERATOR, _STATISTICS = "generator.", "statistics."

#: Largest JSON file that is read, in bytes.
_LONGEST: Final = 1 << 26

#: Largest integer that a file may contain as format or number of bytes.
_MOST: Final = 1 << 62

_CHECKS: Final = ("weights", "architecture", "later", "sites")


# --- writing -------------------------------------------------------------------------------------


def save(
    folder: str | Path,
    backbone: nn.Module,
    generator: nn.Module,
    layout: Layout,
    *,
    statistics: bool = True,
) -> None:
    """Write a conditioner; see ``Conditioned.save_pretrained``."""
    folder = Path(folder)
    _check_free(folder)
    files = contents(backbone, generator, layout, statistics=statistics)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        write_folder(folder, files)
    except OSError as error:
        raise SavingError(f"{folder}: cannot be written: {error.strerror or error}") from error


def push(
    repo: str,
    backbone: nn.Module,
    generator: nn.Module,
    layout: Layout,
    *,
    statistics: bool,
    private: bool,
    message: str,
    api: Any,
) -> str:
    """Upload a conditioner; see ``Conditioned.push_to_hub``."""
    api = _hub().HfApi() if api is None else api
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "conditioner"
        save(folder, backbone, generator, layout, statistics=statistics)
        try:
            url = api.create_repo(repo_id=repo, private=private, exist_ok=True)
            api.upload_folder(repo_id=repo, folder_path=str(folder), commit_message=message)
        except (OSError, ValueError, RuntimeError) as error:
            raise SavingError(f"{repo}: cannot be pushed: {error}") from error
    return str(url)


def contents(
    backbone: nn.Module, generator: nn.Module, layout: Layout, *, statistics: bool = True
) -> dict[str, bytes]:
    """The files of a conditioner, by name. Equal conditioners give equal bytes.

    Raises:
        SavingError: a tensor of the generator that cannot be written.
    """
    owned = statistics_of(backbone) if statistics else {}
    owned = {name: tensor for name, tensor in owned.items() if tensor.device.type != "meta"}
    tensors = _state(generator) | {_STATISTICS + name: t for name, t in owned.items()}
    config = {
        "library_name": "featurewise",
        "library_version": version("featurewise"),
        "format": FORMAT,
        "layout": layout.to_json(),
        "generator": _generator_config(generator, layout),
        "statistics": bool(owned),
        "backbone": Fingerprint.of(backbone).to_json(),
    }
    files = {
        _CONFIG: dumps(config),
        _WEIGHTS: to_bytes({name: _plain(tensor) for name, tensor in tensors.items()}),
        _CARD: _card(type(backbone).__name__, generator, layout, bool(owned)).encode(),
    }
    return files | {_MANIFEST: sealed({"format": FORMAT, "files": _listing(files)})}


def _check_free(folder: Path) -> None:
    """Raise unless ``folder`` is absent, empty, or a conditioner, which may be replaced."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise SavingError(f"{folder}: is not a folder; choose another name")
    ours = {_CONFIG, _WEIGHTS, _CARD, _MANIFEST}
    other = [] if not folder.exists() else sorted({p.name for p in folder.iterdir()} - ours)
    if other:
        raise SavingError(
            f"{folder}: holds {', '.join(other[:5])}, which would be lost; choose a new folder"
        )


def _state(generator: nn.Module) -> dict[str, Tensor]:
    state = {_GENERATOR + name: value for name, value in generator.state_dict().items()}
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise SavingError(f"{name} is a {type(value).__name__}; only tensors can be saved")
        if value.device.type == "meta":
            raise SavingError(f"{name} is on the meta device and has no values to save")
    return state


def untie(state: dict[str, Any], prefix: str) -> None:
    """Copy, in place, every tensor of a state dict that shares memory with an earlier one.

    Args:
        state: a state dict.
        prefix: only names that begin with this are considered.
    """
    spans: dict[int, list[tuple[int, int]]] = {}  # storage -> byte ranges used in it
    for name, tensor in state.items():
        if name.startswith(prefix) and readable(tensor) and tensor.numel():
            used = spans.setdefault(tensor.untyped_storage().data_ptr(), [])
            start = tensor.data_ptr()
            last = sum(
                (n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True)
            )
            stop = start + (last + 1) * tensor.itemsize
            if any(start < other[1] and other[0] < stop for other in used):
                state[name] = tensor.clone()
            else:
                used.append((start, stop))


def _plain(tensor: Tensor) -> Tensor:
    """A copy that shares no memory, since safetensors does not store tied tensors."""
    return stored(tensor).clone(memory_format=torch.contiguous_format)


def _generator_config(generator: nn.Module, layout: Layout) -> dict[str, Any]:
    """The configuration of the generator, or the reason why it has none in JSON."""
    kind = type(generator).__name__
    if not isinstance(generator, Configured):
        return {"kind": kind, "reason": f"{kind} does not derive from Configured"}
    try:
        config = generator.config()
        reason = _unsaved(generator) or difference(generator, _meta(config, layout))
    except FeaturewiseError as error:
        return {"kind": kind, "reason": str(error)}
    return config if reason is None else {"kind": kind, "reason": f"{kind} has changed: {reason}"}


def _meta(config: Mapping[str, Any], layout: Layout) -> nn.Module:
    """The generator without values, to compare shapes; the random state is not changed."""
    try:
        with torch.device("meta"):  # allocates no memory
            return _bound(from_config(config), layout)
    except RuntimeError:  # its constructor reads values, which the meta device has none of
        return _fresh(config, layout)


def _fresh(config: Mapping[str, Any], layout: Layout) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        return _bound(from_config(config), layout)


def materialized(generator: nn.Module, layout: Layout, device: Any) -> nn.Module:
    """The generator on ``device``; one on the meta device is created again with initial values."""
    tensors = [*generator.parameters(), *generator.buffers()]
    if not any(tensor.is_meta for tensor in tensors):
        return generator.to(device)
    if isinstance(generator, Configured):
        with contextlib.suppress(FeaturewiseError):
            made = _fresh(generator.config(), layout).train(generator.training)
            _cast(made, generator.state_dict())
            return made.to(device)
    generator.to_empty(device=device)
    for module in generator.modules():
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()
    return generator


def _bound(generator: nn.Module, layout: Layout) -> nn.Module:
    bind_part(generator, layout)
    return generator


def _unsaved(generator: nn.Module) -> str | None:
    """Describes a tensor attribute that the state dict does not contain; None if there is none."""
    for name, module in generator.named_modules():
        for key, value in vars(module).items():
            if isinstance(value, Tensor):
                return f"tensor {name}.{key} is neither parameter nor buffer".replace(" .", " ")
    return None


def _listing(files: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
    return {
        name: {"bytes": len(data), "sha256": sha256(data)} for name, data in sorted(files.items())
    }


# --- the card ------------------------------------------------------------------------------------


def _card(network: str, generator: nn.Module, layout: Layout, statistics: bool) -> str:
    rows = [
        f"| {code(site.name)} | {site.operation} | {site.axis} | {site.width} | {site.size} |"
        for site in layout
    ]
    numbers = sum(p.numel() for p in generator.parameters())
    statistics_text = (
        "It contains the running statistics of the network's batch norms; loading sets them.\n\n"
        if statistics
        else ""
    )
    return _CARD_TEXT.format(
        network=network,
        kind=type(generator).__name__,
        numbers=f"{numbers:,}",
        size=f"{layout.size:,}",
        sites="1 site" if len(layout) == 1 else f"{len(layout)} sites",
        rows="\n".join(rows),
        statistics=statistics_text,
    )


_CARD_TEXT: Final = """\
---
library_name: featurewise
tags:
- featurewise
- film
- conditioning
---

# Conditioner of a `{network}`

A `{kind}` generator ({numbers} parameters) that modulates {sites} of a `{network}`: {size} values
per condition. The network itself is not included; `config.json` contains its fingerprint.

| site | operation | axis | width | parameters |
|---|---|---:|---:|---:|
{rows}

{statistics}```python
import featurewise as fw

network = ...  # the {network} that it was trained on
net = fw.Conditioned.from_pretrained("this/folder/or/repository", network)
y = net(x, condition=z)
```

A different network raises an error that names the differences.
"""


# --- reading -------------------------------------------------------------------------------------


@dataclass
class BackboneRef:
    """The backbone that a loaded conditioner was saved with, and what is left to verify or set.

    Attributes:
        location: folder or repository, as given.
        fingerprint: fingerprint of that backbone.
        values: whether the values of the backbone must be equal too.
        statistics: running statistics by name.
        only: names of the modules to compare, by names and shapes of tensors; None: all.
        settled: whether the backbone was verified and the statistics were set.
    """

    location: str
    fingerprint: Fingerprint
    values: bool
    statistics: dict[str, Tensor]
    only: tuple[str, ...] | None = None
    settled: bool = False

    def compare(self, backbone: nn.Module, *, values: bool) -> None:
        """Raise ``BackboneError`` if ``backbone`` differs; the message names the differences.

        Args:
            backbone: the network to compare.
            values: whether its values must be equal too.
        """
        where = f"{self.location}: "
        self.fingerprint.check(
            backbone, values=values, ignore=self.statistics, only=self.only, where=where
        )
        own = statistics_of(backbone)
        if missing := [name for name in self.statistics if name not in own]:
            raise BackboneError(f"{where}this network has no running statistics {missing[0]}")

    def settle(self, backbone: nn.Module) -> None:
        """Set the running statistics of a backbone that was verified."""
        own = statistics_of(backbone)
        if meta := [name for name in self.statistics if own[name].device.type == "meta"]:
            raise BackboneError(f"{self.location}: {meta[0]} is still on the meta device")
        with torch.no_grad():
            for name, tensor in self.statistics.items():
                own[name].copy_(tensor)
        self.settled = True

    def verify(self, backbone: nn.Module) -> None:
        """Compare as chosen when loading; the first time, set the statistics too."""
        self.compare(backbone, values=self.values)
        if not self.settled:
            self.settle(backbone)


@dataclass(frozen=True)
class Loaded:
    """The parts of a ``Conditioned`` that ``load`` read.

    Attributes:
        generator: maps a condition to the task representation.
        layout: of the sites.
        backbone_ref: identifies the backbone that they were saved with.
    """

    generator: nn.Module
    layout: Layout
    backbone_ref: BackboneRef

    def attach(self, backbone: nn.Module, owner: Owner) -> list[RemovableHandle]:
        """Verify the backbone at the first call, if that is still to be done."""
        return (
            []
            if self.backbone_ref.settled
            else [VerifyOnFirstCall(owner, self.backbone_ref).attach(backbone)]
        )


class VerifyOnFirstCall:
    """A hook that verifies the backbone at its first conditioned call, then removes itself."""

    def __init__(self, owner: Owner, backbone_ref: BackboneRef) -> None:
        self.owner = owner
        self.backbone_ref = backbone_ref
        self.handle: RemovableHandle | None = None

    def attach(self, backbone: nn.Module) -> RemovableHandle:
        """Register the hook."""
        self.handle = backbone.register_forward_pre_hook(self)
        return self.handle

    def __call__(self, module: nn.Module, args: Any) -> None:
        """Verify ``module``, unless the call is traced or not conditioned."""
        if torch.compiler.is_compiling() or calls.find(self.owner)[0] is None:
            return
        if not self.backbone_ref.settled:
            self.backbone_ref.verify(module)
        if self.handle is not None:
            self.handle.remove()


def load(
    source: str | Path, network: nn.Module, *, generator: nn.Module | None, check: str
) -> Loaded:
    """Read a conditioner; see ``Conditioned.from_pretrained``."""
    if not isinstance(network, nn.Module):
        raise ArgumentTypeError(f"network must be a module, got {type(network).__name__}")
    if check not in _CHECKS:
        raise SavingError(f"check must be one of {', '.join(_CHECKS)}, got {check!r}")
    location = str(source)
    files = _verified(_local(source))
    saved = _Saved.read(location, files[_CONFIG], files[_WEIGHTS])
    values = check in ("weights", "later")
    only = saved.layout.names if check == "sites" else None
    backbone_ref = BackboneRef(location, saved.fingerprint, values, saved.statistics, only)
    backbone_ref.compare(network, values=check == "weights")
    _check_sites(location, saved.layout, network)
    made = _filled(saved, generator)
    like = next(network.parameters(), None)
    if like is not None and like.device.type != "meta":
        made.to(like.device)
    if generator is None:
        made.train(network.training)
    own = statistics_of(network)
    waits = any(own[name].device.type == "meta" for name in saved.statistics)
    if check != "later" and not waits:
        backbone_ref.settle(network)
    return Loaded(made, saved.layout, backbone_ref)


@dataclass(frozen=True)
class _Saved:
    """The parsed content of a folder."""

    location: str
    layout: Layout
    generator: Mapping[str, Any]
    fingerprint: Fingerprint
    tensors: dict[str, Tensor]
    statistics: dict[str, Tensor]

    @classmethod
    def read(cls, location: str, config: bytes, weights: bytes) -> _Saved:
        with wrap_errors(location, SavingError, SavingError, what="is not a conditioner"):
            data = Node(loads(config), _CONFIG)
            _check_format(location, data["format"])
            layout = Layout.from_json(data["layout"].value)
            generator = data["generator"].mapping()
            fingerprint = Fingerprint.from_json(data["backbone"].value)
            tensors = from_bytes(weights)
            parts: dict[str, dict[str, Tensor]] = {_GENERATOR: {}, _STATISTICS: {}}
            for name, tensor in tensors.items():
                prefix = name.partition(".")[0] + "."
                parts[prefix][name.removeprefix(prefix)] = tensor
            saved = cls(location, layout, generator, fingerprint, *parts.values())
            saved._check_statistics(data["statistics"].value)
        return saved

    def limit(self) -> AbstractContextManager[None]:
        """A block in which no more parameters can be created than the file contains."""
        most = sum(tensor.numel() for tensor in self.tensors.values())
        return building_at_most(len(self.tensors), most)

    def _check_statistics(self, declared: object) -> None:
        if declared is not bool(self.statistics):
            raise SavingError(f"{self.location}: {_WEIGHTS} and {_CONFIG} do not belong together")
        for name, tensor in self.statistics.items():
            own = self.fingerprint.tensors.get(name)
            if own is None or (own.dtype, own.shape) != (_dtype(tensor), tuple(tensor.shape)):
                raise SavingError(
                    f"{self.location}: statistics of '{name}' do not fit the backbone"
                )


def _check_sites(location: str, layout: Layout, network: nn.Module) -> None:
    names = dict(network.named_modules(remove_duplicate=False))
    missing = [name for name in layout.names if name not in names]
    if missing:
        raise BackboneError(
            f"{location}: made for a different network: no modules {', '.join(missing[:5])}"
        )


def _filled(saved: _Saved, given: nn.Module | None) -> nn.Module:
    """The generator, created from JSON or as given, with the saved values."""
    location = saved.location
    if given is not None:
        if not isinstance(given, nn.Module):
            raise ArgumentTypeError(
                f"generator must be a module or None, got {type(given).__name__}"
            )
        what = "does not fit the given generator"
        with wrap_errors(location, SavingError, FeaturewiseError, what=what), saved.limit():
            made = _bound(given, saved.layout)
    else:
        made = _made(saved)
    own = made.state_dict()
    _check_tensors(location, type(made).__name__, own, saved.tensors)
    _check_dtypes(location, own, saved.tensors)
    other = [name for name, t in saved.tensors.items() if own[name].dtype != t.dtype]
    if other and given is not None:
        raise ArgumentTypeError(
            f"{location}: {other[0]} is {saved.tensors[other[0]].dtype}, in the given generator "
            f"it is {own[other[0]].dtype}; convert the generator"
        )
    if other:
        _cast(made, saved.tensors)
    made.load_state_dict(saved.tensors)
    return made


def _made(saved: _Saved) -> nn.Module:
    config = saved.generator
    if "reason" in config:
        reason = printable(config["reason"])
        raise SavingError(
            f"{saved.location}: its generator cannot be created from JSON ({reason}): "
            "create it yourself and pass generator=..."
        )
    try:
        with saved.limit():
            empty = _meta(config, saved.layout)
        _check_tensors(saved.location, type(empty).__name__, empty.state_dict(), saved.tensors)
        return _fresh(config, saved.layout)
    except LimitError as error:
        raise SavingError(f"{saved.location}: its generator cannot be created: {error}") from error
    except GeneratorError as error:
        raise SavingError(
            f"{saved.location}: its generator cannot be created: {error}; import the module that "
            "defines it, or create it yourself and pass generator=..."
        ) from error
    except FeaturewiseError as error:
        raise SavingError(f"{saved.location}: its generator cannot be created: {error}") from error
    except Exception as error:  # raised by a constructor for arguments that it does not know
        reason = error_text(error)
        raise SavingError(f"{saved.location}: its generator cannot be created: {reason}") from error


def _check_tensors(
    location: str, kind: str, own: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    for name in (*own, *(tensors.keys() - own.keys())):
        shapes = [tuple(t[name].shape) if name in t else "missing" for t in (tensors, own)]
        if shapes[0] != shapes[1]:
            raise SavingError(
                f"{location}: tensor '{name}' of the generator is {shapes[0]} in the file, "
                f"{shapes[1]} in {kind}"
            )


def _check_dtypes(location: str, own: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Check that values in the file can be converted to the dtypes of the generator."""
    for name, tensor in tensors.items():
        expected = own[name].dtype
        if tensor.dtype != expected and not (is_float(tensor) and expected.is_floating_point):
            raise SavingError(
                f"{location}: tensor '{name}' of the generator is {_dtype(tensor)}, which "
                f"cannot be converted to {str(expected).removeprefix('torch.')}"
            )


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _cast(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Convert tensors of ``module`` to the dtypes of ``tensors``, in place, so ties are kept."""
    kinds = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    if len(kinds) == 1:
        module.to(kinds.pop())  # includes buffers that are not in the state dict
    for name, own in module.state_dict(keep_vars=True).items():
        own.data = own.data.to(tensors[name].dtype)


def _local(source: str | Path) -> Path:
    """The folder; if there is none of that name, a repository is downloaded from the hub."""
    folder = recovered(source)
    if folder.exists():
        return folder
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", str(source)):
        raise SavingError(f"{source}: no such folder")
    try:
        hub = _hub()
        names = [_CONFIG, _WEIGHTS, _CARD, _MANIFEST]
        return Path(hub.snapshot_download(str(source), allow_patterns=names))
    except (SavingError, OSError, ValueError, RuntimeError) as error:
        raise SavingError(
            f"{source}: no such folder, and no such repository can be reached: {error}"
        ) from error


def _hub() -> Any:
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise SavingError(
            "huggingface_hub is not installed: pip install huggingface_hub"
        ) from error


def _verified(folder: Path) -> dict[str, bytes]:
    """The configuration and the weights, after verification of their hashes."""
    if not folder.is_dir():
        raise SavingError(f"{folder}: is not a folder")
    listed = _manifest(folder, _content(folder, _MANIFEST, _LONGEST))
    files = {}
    for name in (_CONFIG, _WEIGHTS):
        if name not in listed:
            raise SavingError(f"{folder}: {_MANIFEST} does not list {name}")
        size = listed[name]["bytes"].integer(0, _LONGEST if name == _CONFIG else _MOST)
        data = _content(folder, name, size)
        if len(data) != size or sha256(data) != listed[name]["sha256"].value:
            raise SavingError(f"{folder}: {name} is damaged: copy it again")
        files[name] = data
    return files


def _content(folder: Path, name: str, longest: int) -> bytes:
    """The bytes of a file in ``folder``, or in the hub's cache if the file links to it."""
    path = folder / name
    try:
        real = path.resolve(strict=True)
        home = folder.resolve(strict=True)
        if real.parent != home and real.parent != home.parent.parent / "blobs":
            raise SavingError(
                f"{folder}: {name} is a link to a file outside the folder; copy the file"
            )
        return read_bytes(real, limit=longest)
    except FileNotFoundError as error:
        raise SavingError(f"{folder}: is not a conditioner: {name} is missing") from error
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SavingError(f"{folder}: {name} cannot be read: {reason}") from error


def _manifest(folder: Path, content: bytes) -> dict[str, Node]:
    """The entries of the manifest, after verification of its hash and its format."""
    damaged = f"{folder}: {_MANIFEST} is damaged: copy it again"
    try:
        said = unsealed(content, Node(loads(content, max_bytes=_LONGEST)).mapping())
    except ValueError as error:
        raise SavingError(damaged) from error
    manifest = Node(said, _MANIFEST, failing(SavingError, folder))
    _check_format(str(folder), manifest["format"])
    files = manifest["files"].entries()
    odd = [name for name in files if not re.fullmatch(r"[\w-][\w.-]*", name)]
    if odd:
        raise SavingError(f"{folder}: {_MANIFEST} lists {short(odd[0])}, which is not a file name")
    return files


def _check_format(location: str, number: Node) -> None:
    """Raise if this version cannot read the format."""
    if number.integer(1, _MOST) > FORMAT:
        raise FormatError(_newer(location, number.value))


def _newer(location: str, number: int) -> str:
    return f"{location}: has format {number}, this version of featurewise reads {FORMAT}: update it"
