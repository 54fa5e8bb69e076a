"""A conditioner in a folder of its own: generator, layout, and which network it belongs to.

* ``model.safetensors``: the generator's tensors (``generator.*``), and the running statistics of
  the backbone's batch norms (``statistics.*``), which training the conditioner moves;
* ``config.json``: layout, how the generator was made, fingerprint of the backbone;
* ``manifest.json``: size and SHA-256 of the files, sealed by a hash of its own;
* ``README.md``: the model card, for people; it may be edited.

The folder appears whole or not at all. Reading believes nothing before its hash agrees, unpickles
nothing, imports nothing, and allocates nothing before shapes agree.
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

#: Version of the files. A reader takes its own and all before.
FORMAT: Final = 1

_CONFIG, _WEIGHTS, _CARD = "config.json", "model.safetensors", "README.md"
_MANIFEST: Final = "manifest.json"
_GENERATOR, _STATISTICS = "generator.", "statistics."

#: Longest JSON file that is read, in bytes.
_LONGEST: Final = 1 << 26

#: Greatest number that a file may say of a format, or of bytes.
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
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "conditioner"
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
    """The files of a conditioner, by name. The same conditioner makes the same bytes.

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
    """Raise unless ``folder`` is absent, empty, or an older conditioner that may be replaced."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise SavingError(f"{folder}: is no folder; choose another name")
    ours = {_CONFIG, _WEIGHTS, _CARD, _MANIFEST}
    strange = [] if not folder.exists() else sorted({p.name for p in folder.iterdir()} - ours)
    if strange:
        raise SavingError(
            f"{folder}: holds {', '.join(strange[:5])}, which would be lost; choose a new folder"
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
    """Copy, in place, every tensor of a state dict whose memory one before it has.

    Args:
        state: a state dict.
        prefix: begins the names that are looked at.
    """
    spans: dict[int, list[tuple[int, int]]] = {}  # storage -> the bytes that names have in it
    for name, tensor in state.items():
        if name.startswith(prefix) and readable(tensor) and tensor.numel():
            taken = spans.setdefault(tensor.untyped_storage().data_ptr(), [])
            start = tensor.data_ptr()
            last = sum(
                (n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True)
            )
            stop = start + (last + 1) * tensor.itemsize
            if any(start < other[1] and other[0] < stop for other in taken):
                state[name] = tensor.clone()
            else:
                taken.append((start, stop))


def _plain(tensor: Tensor) -> Tensor:
    """A copy that shares no memory: the file may then hold tied tensors, each by itself."""
    return stored(tensor).clone(memory_format=torch.contiguous_format)


def _generator_config(generator: nn.Module, layout: Layout) -> dict[str, Any]:
    """How to make the generator again, or why that cannot be done from JSON."""
    kind = type(generator).__name__
    if not isinstance(generator, Configured):
        return {"kind": kind, "reason": f"{kind} does not derive from Configured"}
    try:
        config = generator.config()
        reason = _outside(generator) or difference(generator, _sketch(config, layout))
    except FeaturewiseError as error:
        return {"kind": kind, "reason": str(error)}
    return config if reason is None else {"kind": kind, "reason": f"{kind} has changed: {reason}"}


def _sketch(config: Mapping[str, Any], layout: Layout) -> nn.Module:
    """The generator as it is made, its values of no account; no random number is drawn."""
    try:
        with torch.device("meta"):  # which allocates nothing
            return _bound(from_config(config), layout)
    except RuntimeError:  # one that looks at its values cannot be made there
        return _fresh(config, layout)


def _fresh(config: Mapping[str, Any], layout: Layout) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        return _bound(from_config(config), layout)


def materialized(generator: nn.Module, layout: Layout, device: Any) -> nn.Module:
    """The generator on ``device``; one that is on the meta device begins anew there."""
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


def _outside(generator: nn.Module) -> str | None:
    """A tensor that the state dict lacks: where it came from an argument its values are lost."""
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
    owned = (
        "It brings the running statistics of the network's batch norms, which loading sets.\n\n"
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
        owned=owned,
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

A `{kind}` generator ({numbers} numbers) that modulates {sites} of a `{network}`: {size} numbers
for each condition. The network itself is not in here; `config.json` has its fingerprint.

| site | operation | axis | width | parameters |
|---|---|---:|---:|---:|
{rows}

{owned}```python
import featurewise as fw

network = ...  # the {network} that it was trained on
net = fw.Conditioned.from_pretrained("this/folder/or/repository", network)
y = net(x, condition=z)
```

Another network is refused, and the difference named.
"""


# --- reading -------------------------------------------------------------------------------------


@dataclass
class BackboneRef:
    """Where a loaded conditioner comes from, and what is still to be done to its backbone.

    Attributes:
        place: folder or repository, as it was given.
        fingerprint: of the backbone that it was saved with.
        values: whether the backbone's values must agree too.
        statistics: running statistics by name.
        only: names of the modules that are compared, their names and shapes; None means all.
        settled: whether the backbone was found to be right and has the statistics.
    """

    place: str
    fingerprint: Fingerprint
    values: bool
    statistics: dict[str, Tensor]
    only: tuple[str, ...] | None = None
    settled: bool = False

    def compare(self, backbone: nn.Module, *, values: bool) -> None:
        """Raise ``BackboneError`` unless ``backbone`` is the one; the message says how it differs.

        Args:
            backbone: the network to compare.
            values: whether its values must agree too.
        """
        where = f"{self.place}: "
        self.fingerprint.check(
            backbone, values=values, ignore=self.statistics, only=self.only, where=where
        )
        own = statistics_of(backbone)
        if missing := [name for name in self.statistics if name not in own]:
            raise BackboneError(f"{where}this network has no running statistics {missing[0]}")

    def settle(self, backbone: nn.Module) -> None:
        """Set the running statistics of a backbone that was found to be the one."""
        own = statistics_of(backbone)
        if meta := [name for name in self.statistics if own[name].device.type == "meta"]:
            raise BackboneError(f"{self.place}: {meta[0]} is still on the meta device")
        with torch.no_grad():
            for name, tensor in self.statistics.items():
                own[name].copy_(tensor)
        self.settled = True

    def verify(self, backbone: nn.Module) -> None:
        """Compare as it was asked for at loading; the first time, set the statistics too."""
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

    def watch(self, backbone: nn.Module, owner: Owner) -> list[RemovableHandle]:
        """Wait for the first call, where something is still to be done."""
        return (
            []
            if self.backbone_ref.settled
            else [VerifyOnFirstCall(owner, self.backbone_ref).attach(backbone)]
        )


class VerifyOnFirstCall:
    """A hook on the backbone that verifies it at the first conditioned call, and goes."""

    def __init__(self, owner: Owner, backbone_ref: BackboneRef) -> None:
        self.owner = owner
        self.backbone_ref = backbone_ref
        self.handle: RemovableHandle | None = None

    def attach(self, backbone: nn.Module) -> RemovableHandle:
        """Begin to watch."""
        self.handle = backbone.register_forward_pre_hook(self)
        return self.handle

    def __call__(self, module: nn.Module, args: Any) -> None:
        """Verify ``module`` unless the call is traced, or none of the conditioner's."""
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
    place = str(source)
    files = _verified(_local(source))
    saved = _Saved.read(place, files[_CONFIG], files[_WEIGHTS])
    values = check in ("weights", "later")
    only = saved.layout.names if check == "sites" else None
    backbone_ref = BackboneRef(place, saved.fingerprint, values, saved.statistics, only)
    backbone_ref.compare(network, values=check == "weights")
    _check_sites(place, saved.layout, network)
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
    """The content of a folder, understood."""

    place: str
    layout: Layout
    generator: Mapping[str, Any]
    fingerprint: Fingerprint
    tensors: dict[str, Tensor]
    statistics: dict[str, Tensor]

    @classmethod
    def read(cls, place: str, config: bytes, weights: bytes) -> _Saved:
        with wrap_errors(place, SavingError, SavingError, what="is no conditioner"):
            data = Node(loads(config), _CONFIG)
            _check_format(place, data["format"])
            layout = Layout.from_json(data["layout"].value)
            generator = data["generator"].mapping()
            fingerprint = Fingerprint.from_json(data["backbone"].value)
            tensors = from_bytes(weights)
            parts: dict[str, dict[str, Tensor]] = {_GENERATOR: {}, _STATISTICS: {}}
            for name, tensor in tensors.items():
                prefix = name.partition(".")[0] + "."
                parts[prefix][name.removeprefix(prefix)] = tensor
            saved = cls(place, layout, generator, fingerprint, *parts.values())
            saved._check_statistics(data["statistics"].value)
        return saved

    def limit(self) -> AbstractContextManager[None]:
        """Within, no more can be made than the file holds."""
        most = sum(tensor.numel() for tensor in self.tensors.values())
        return building_at_most(len(self.tensors), most)

    def _check_statistics(self, promised: object) -> None:
        if promised is not bool(self.statistics):
            raise SavingError(f"{self.place}: {_WEIGHTS} and {_CONFIG} do not belong together")
        for name, tensor in self.statistics.items():
            own = self.fingerprint.tensors.get(name)
            if own is None or (own.dtype, own.shape) != (_dtype(tensor), tuple(tensor.shape)):
                raise SavingError(f"{self.place}: statistics of '{name}' do not fit the backbone")


def _check_sites(place: str, layout: Layout, network: nn.Module) -> None:
    names = dict(network.named_modules(remove_duplicate=False))
    missing = [name for name in layout.names if name not in names]
    if missing:
        raise BackboneError(
            f"{place}: made for another network than this: no modules {', '.join(missing[:5])}"
        )


def _filled(saved: _Saved, given: nn.Module | None) -> nn.Module:
    """The generator, made again or the one given, with the saved values."""
    place = saved.place
    if given is not None:
        if not isinstance(given, nn.Module):
            raise ArgumentTypeError(
                f"generator must be a module or None, got {type(given).__name__}"
            )
        what = "does not fit the generator given"
        with wrap_errors(place, SavingError, FeaturewiseError, what=what), saved.limit():
            made = _bound(given, saved.layout)
    else:
        made = _made(saved)
    own = made.state_dict()
    _check_tensors(place, type(made).__name__, own, saved.tensors)
    _check_dtypes(place, own, saved.tensors)
    other = [name for name, t in saved.tensors.items() if own[name].dtype != t.dtype]
    if other and given is not None:
        raise ArgumentTypeError(
            f"{place}: {other[0]} is {saved.tensors[other[0]].dtype}, in the generator given it "
            f"is {own[other[0]].dtype}; convert the generator"
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
            f"{saved.place}: its generator cannot be made from JSON ({reason}): "
            "make it yourself and pass generator=..."
        )
    try:
        with saved.limit():
            sketch = _sketch(config, saved.layout)
        _check_tensors(saved.place, type(sketch).__name__, sketch.state_dict(), saved.tensors)
        return _fresh(config, saved.layout)
    except LimitError as error:
        raise SavingError(f"{saved.place}: its generator cannot be made: {error}") from error
    except GeneratorError as error:
        raise SavingError(
            f"{saved.place}: its generator cannot be made: {error}; import the module that "
            "defines it, or make it yourself and pass generator=..."
        ) from error
    except FeaturewiseError as error:
        raise SavingError(f"{saved.place}: its generator cannot be made: {error}") from error
    except Exception as error:  # of a constructor that was given what it does not know
        reason = error_text(error)
        raise SavingError(f"{saved.place}: its generator cannot be made: {reason}") from error


def _check_tensors(
    place: str, kind: str, own: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    for name in (*own, *(tensors.keys() - own.keys())):
        shapes = [tuple(t[name].shape) if name in t else "missing" for t in (tensors, own)]
        if shapes[0] != shapes[1]:
            raise SavingError(
                f"{place}: tensor '{name}' of the generator is {shapes[0]} in the file, "
                f"{shapes[1]} in {kind}"
            )


def _check_dtypes(place: str, own: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Raise where the values in the file are of another kind than those of the generator."""
    for name, tensor in tensors.items():
        expected = own[name].dtype
        if tensor.dtype != expected and not (is_float(tensor) and expected.is_floating_point):
            raise SavingError(
                f"{place}: tensor '{name}' of the generator is {_dtype(tensor)}, which "
                f"{str(expected).removeprefix('torch.')} cannot take"
            )


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _cast(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give the tensors of ``module`` the dtypes of ``tensors``, in place: ties stay tied."""
    kinds = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    if len(kinds) == 1:
        module.to(kinds.pop())  # buffers that are in no state dict, too
    for name, own in module.state_dict(keep_vars=True).items():
        own.data = own.data.to(tensors[name].dtype)


def _local(source: str | Path) -> Path:
    """The folder that is meant; a repository of the hub is fetched when there is no folder."""
    folder = recovered(source)
    if folder.exists():
        return folder
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", str(source)):
        raise SavingError(f"{source}: there is no such folder")
    try:
        hub = _hub()
        names = [_CONFIG, _WEIGHTS, _CARD, _MANIFEST]
        return Path(hub.snapshot_download(str(source), allow_patterns=names))
    except (SavingError, OSError, ValueError, RuntimeError) as error:
        raise SavingError(
            f"{source}: there is no such folder, and no such repository can be reached: {error}"
        ) from error


def _hub() -> Any:
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise SavingError(
            "huggingface_hub is not installed: pip install huggingface_hub"
        ) from error


def _verified(folder: Path) -> dict[str, bytes]:
    """The files that matter, proved equal to what was written."""
    if not folder.is_dir():
        raise SavingError(f"{folder}: is no folder")
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
    """The bytes of a file that lies in ``folder``, or where the hub's cache keeps what it links."""
    path = folder / name
    try:
        real = path.resolve(strict=True)
        home = folder.resolve(strict=True)
        if real.parent != home and real.parent != home.parent.parent / "blobs":
            raise SavingError(f"{folder}: {name} is a link out of the folder; copy the file")
        return read_bytes(real, limit=longest)
    except FileNotFoundError as error:
        raise SavingError(f"{folder}: is no conditioner: {name} is missing") from error
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SavingError(f"{folder}: {name} cannot be read: {reason}") from error


def _manifest(folder: Path, content: bytes) -> dict[str, Node]:
    """What the manifest says of the files, once it is proved whole and of a format known here."""
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
        raise SavingError(
            f"{folder}: {_MANIFEST} lists {short(odd[0])}, which is no name of a file"
        )
    return files


def _check_format(place: str, number: Node) -> None:
    """Raise unless the format is one that is read here."""
    if number.integer(1, _MOST) > FORMAT:
        raise FormatError(_newer(place, number.value))


def _newer(place: str, number: int) -> str:
    return f"{place}: has format {number}, this version of featurewise reads {FORMAT}: update it"
