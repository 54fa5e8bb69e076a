"""``Snapshot``: saves all state that a network can reach, and restores it."""

from __future__ import annotations

import functools
import gc
import random
import sys
import types
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from featurewise.core import LayoutError, _torch

_Undo = Callable[[], object]

#: Types whose values contain nothing that a run can change.
_PLAIN: Final = (
    *(str, bytes, int, float, complex, bool, type(None), type, types.ModuleType, types.CodeType),
    *(torch.dtype, torch.device, torch.Size, weakref.ref),
)
_CACHED: Final = functools._lru_cache_wrapper
_WEAK: Final = (weakref.WeakSet, weakref.WeakKeyDictionary, weakref.WeakValueDictionary)
#: Parts of the standard library whose objects store values for a network.
_CONTAINERS: Final = (
    *("builtins", "collections", "types", "weakref", "_weakrefset", "functools"),
    "_thread",  # threading.local
)

#: Global settings of torch and of Python: functions that read and that set each.
_SETTINGS: Final[tuple[tuple[Callable[[], Any], Callable[[Any], Any]], ...]] = (
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_default_device, torch.set_default_device),
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    (torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled),
    (torch.get_rng_state, torch.set_rng_state),
    (random.getstate, random.setstate),
)


class Snapshot:
    """A block after which all state that runs of ``network`` changed is restored, even on errors.

    Restored in place are the attributes of modules and of all objects that they reference; the
    content of their dicts, lists, sets, deques and arrays, including hooks; the attributes of
    their classes and the globals of the Python modules that define these; the state of random
    generators and the settings of torch. Values of tensors are not restored: run the network on
    fakes, or run a copy.

    Args:
        network: the network, including objects that it references without registering them.

    Attributes:
        modules: all reachable modules, registered or not; the network is the first.
    """

    def __init__(self, network: nn.Module) -> None:
        self._settings = [_setting(read, put) for read, put in _settings()]
        self._held = _Held(network)
        self.modules = self._held.modules

    def restore(self) -> None:
        """Restore everything now; values that have not changed are not written."""
        for undo in (*self._held.undo, *self._settings):
            undo()

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, *error: object) -> None:
        self.restore()


def _settings() -> Iterator[tuple[Callable[[], Any], Callable[[Any], Any]]]:
    yield from _SETTINGS
    for kind in ("cpu", "cuda"):
        yield (
            functools.partial(torch.is_autocast_enabled, kind),
            functools.partial(torch.set_autocast_enabled, kind),
        )
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        for i in range(torch.cuda.device_count()):
            yield (
                functools.partial(torch.cuda.get_rng_state, i),
                functools.partial(torch.cuda.set_rng_state, device=i),
            )
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None:
        yield functools.partial(numpy.random.get_state, legacy=True), numpy.random.set_state


def _setting(read: Callable[[], Any], put: Callable[[Any], object]) -> _Undo:
    before = read()

    def undo() -> None:
        if not _same(read(), before):
            put(before)

    return undo


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one.tobytes() == other.tobytes() if hasattr(one, "tobytes") else one == other)


# --- reachable state -----------------------------------------------------------------------------


class _Held:
    """All objects that can be reached from one object, with functions that restore them.

    Attributes:
        undo: functions that restore, in any order.
        modules: the reachable modules.
    """

    def __init__(self, root: Any) -> None:
        self.undo: list[_Undo] = []
        self.modules: list[nn.Module] = []
        self._seen: dict[int, Any] = {}  # by id; keeps the objects alive, so that ids are unique
        self._kinds: dict[type, _Kind] = {}
        self._modules = frozenset(sys.modules)
        self._to_do = [root]
        while self._to_do:
            value = self._to_do.pop()
            if not isinstance(value, _PLAIN) and self._is_new(value):
                self._note(value)

    def _is_new(self, value: Any) -> bool:
        new = id(value) not in self._seen
        self._seen[id(value)] = value
        return new

    def _note(self, value: Any) -> None:
        if isinstance(value, (tuple, frozenset)):
            self._to_do.extend(value)
        elif isinstance(value, dict):
            self._dict(value)
        elif isinstance(value, (list, set, deque)):
            self._to_do.extend(value)
            self.undo.append(functools.partial(_restore_elements, value, list(value)))
        elif isinstance(value, types.CellType):
            self._cell(value)
        elif isinstance(value, types.FunctionType):
            self._to_do += [value.__closure__, value.__defaults__, value.__kwdefaults__]
        elif isinstance(value, (types.MethodType, types.BuiltinMethodType)):
            self._to_do += [value.__self__, getattr(value, "__func__", None)]
        elif isinstance(value, functools.partial):
            self._to_do += [value.func, value.args, value.keywords]
        elif isinstance(value, (property, classmethod, staticmethod)):
            self._to_do += [getattr(value, name, None) for name in ("fget", "__func__")]
        elif isinstance(value, _CACHED):
            self._to_do.append(value.__wrapped__)
            self.undo.append(functools.partial(_restore_cache, value, value.cache_info().misses))
        else:
            self.undo += _own_state(value)
        if isinstance(value, nn.Module):
            self.modules.append(value)
            self.undo.append(functools.partial(_restore_class, value, type(value)))
        self._attributes(value)

    def _dict(self, value: dict[Any, Any]) -> None:
        items = _items(value)
        self._to_do.extend(item for _, item in items)
        self.undo.append(functools.partial(_restore_items, value, items))

    def _cell(self, cell: types.CellType) -> None:
        try:
            content = cell.cell_contents
        except ValueError:  # it is empty
            return
        self._to_do.append(content)
        self.undo.append(lambda: setattr(cell, "cell_contents", content))

    def _attributes(self, value: Any) -> None:
        """Attributes of an object and of its class, except classes of torch and Python."""
        kind = type(value)
        if kind not in self._kinds:
            self._kinds[kind] = _Kind.of(kind)
            for base in self._kinds[kind].foreign:
                if self._is_new(base) and not _is_machinery(base):
                    self._names(base)
                    self._globals(sys.modules.get(base.__module__))
        known = self._kinds[kind]
        if known.holds:
            attributes = getattr(value, "__dict__", None)
            if isinstance(attributes, dict):
                self._dict(attributes)
        for slot in known.slots:
            before = getattr(value, slot, _ABSENT)
            self._to_do.append(before)
            self.undo.append(functools.partial(_restore_slot, value, slot, before))

    def _names(self, place: Any) -> dict[str, Any]:
        """Names in a class or a Python module."""
        before = {n: v for n, v in vars(place).items() if not n.startswith("__")}
        self.undo.append(functools.partial(_restore_names, place, before, self._modules))
        if isinstance(place, type):
            self._to_do.extend(before.values())
        return before

    def _globals(self, module: types.ModuleType | None) -> None:
        """Globals of a Python module, and of those of its package whose functions it uses."""
        if module is None or not self._is_new(module):
            return
        package = module.__name__.partition(".")[0]
        for value in self._names(module).values():
            if isinstance(value, (dict, list, set, deque, _CACHED, *_WEAK)):
                self._to_do.append(value)
            if isinstance(value, (types.FunctionType, _CACHED)):
                home = str(value.__module__)
                if home == module.__name__:
                    self._to_do.append(value)
                elif home.partition(".")[0] == package:
                    self._globals(sys.modules.get(home))


@dataclass(frozen=True)
class _Kind:
    """What to save of a class and its objects.

    Attributes:
        holds: whether attributes of its objects are saved.
        foreign: the class and its bases that are neither of torch nor of Python.
        slots: names of the slots of those.
    """

    holds: bool
    foreign: tuple[type, ...]
    slots: tuple[str, ...]

    @classmethod
    def of(cls, kind: type) -> _Kind:
        mine = issubclass(kind, (nn.Module, Tensor, types.FunctionType)) or _is_foreign(kind)
        if not mine:
            return cls(_home(kind) in _CONTAINERS, (), ())
        foreign = tuple(filter(_is_foreign, kind.__mro__))
        slots = [
            slot.__name__
            for base in foreign
            for slot in vars(base).values()
            if isinstance(slot, types.MemberDescriptorType)
        ]
        return cls(True, foreign, tuple(slots))


def _home(kind: type) -> str:
    return kind.__module__.partition(".")[0]


def _is_foreign(kind: type) -> bool:
    """Whether a class is neither of torch nor of numpy nor of Python."""
    return _home(kind) not in ("torch", "numpy", *sys.stdlib_module_names)


#: Parts of this library that networks only run in; its models and systems are networks.
_MACHINERY: Final = ("common", "core", "generators", "retrofit", "deploy")


def _is_machinery(kind: type) -> bool:
    """Whether what a class and its Python module hold is no network's: it is not followed."""
    library, _, part = str(kind.__module__).partition(".")
    return library == __name__.partition(".")[0] and part.partition(".")[0] in _MACHINERY


def _own_state(value: Any) -> list[_Undo]:
    """Functions that restore state not held in attributes: random generators, arrays."""
    numpy: Any = sys.modules.get("numpy")
    if isinstance(value, Tensor):
        return [*_storage(value), *([_gradient(value)] if value.is_leaf else [])]
    if isinstance(value, torch.Generator):
        return [_setting(value.get_state, value.set_state)]
    if isinstance(value, random.Random):
        return [_setting(value.getstate, value.setstate)]
    if numpy is not None and isinstance(value, numpy.random.Generator):
        bits = value.bit_generator
        return [functools.partial(setattr, bits, "state", bits.state)]
    if numpy is not None and isinstance(value, numpy.ndarray) and value.flags.writeable:
        return [functools.partial(value.__setitem__, ..., value.copy())]
    return []


# --- restoring -----------------------------------------------------------------------------------

_ABSENT: Final = type("Absent", (), {})()


def _storage(tensor: Tensor) -> list[_Undo]:
    """The storage of a tensor, which ``x.data = ...`` replaces."""
    if type(tensor) not in (Tensor, nn.Parameter) or not _torch.has_storage(tensor):
        return []
    data = tensor.data

    def undo() -> None:
        same = tensor.device == data.device and tensor.dtype == data.dtype
        if not same or _torch.storage_number(tensor) != _torch.storage_number(data):
            tensor.data = data

    return [undo]


def _gradient(tensor: Tensor) -> _Undo:
    wanted, gradient = tensor.requires_grad, tensor.grad

    def undo() -> None:
        if tensor.requires_grad is not wanted:
            tensor.requires_grad_(wanted)
        if tensor.grad is not gradient:
            tensor.grad = gradient

    return undo


def _restore_class(module: nn.Module, kind: type[nn.Module]) -> None:
    if type(module) is not kind:
        module.__class__ = kind


def _restore_elements(value: Any, before: list[Any]) -> None:
    now = list(value)
    if len(now) == len(before) and all(a is b for a, b in zip(now, before, strict=True)):
        return
    value.clear()
    (value.update if isinstance(value, set) else value.extend)(before)


def _items(value: dict[Any, Any]) -> list[tuple[Any, Any]]:
    """Items of a dict, bypassing methods that its class overrides."""
    kind = OrderedDict if isinstance(value, OrderedDict) else dict
    return [(key, dict.__getitem__(value, key)) for key in kind.__iter__(value)]


def _restore_items(value: dict[Any, Any], before: list[tuple[Any, Any]]) -> None:
    now = _items(value)
    if len(now) == len(before) and all(
        a[0] is b[0] and a[1] is b[1] for a, b in zip(now, before, strict=True)
    ):
        return
    kind = OrderedDict if isinstance(value, OrderedDict) else dict
    kind.clear(value)
    for key, item in before:
        kind.__setitem__(value, key, item)


def _restore_slot(value: Any, name: str, before: Any) -> None:
    now = getattr(value, name, _ABSENT)
    if now is not before:
        if before is _ABSENT:
            object.__delattr__(value, name)
        else:
            object.__setattr__(value, name, before)


def _restore_names(place: Any, before: Mapping[str, Any], known: Set[str]) -> None:
    """Names of a class or module; those added by a first import stay, since it runs only once."""
    for name, now in list(vars(place).items()):
        if name.startswith("__") or name in before:
            continue
        home = getattr(now, "__name__" if isinstance(now, types.ModuleType) else "__module__", None)
        if home is None or home in known:
            delattr(place, name)
    for name, value in before.items():
        if vars(place).get(name, _ABSENT) is not value:
            setattr(place, name, value)


def _restore_cache(cached: Any, misses: int) -> None:
    if cached.cache_info().misses != misses:
        cached.cache_clear()


# --- tensors that outlive the run ----------------------------------------------------------------


def check_gone(left: Callable[[], list[Tensor]]) -> None:
    """Check that no tensor of a run is still referenced; ``functools`` caches of them are cleared.

    Args:
        left: returns the tensors that are still alive.

    Raises:
        LayoutError: if another object references one; the message names it.
    """
    if not left():
        return
    gc.collect()
    ids = {id(tensor) for tensor in left()}
    if not ids:
        return
    for cached in list(_caches()):
        if _holds(cached, ids):
            cached.cache_clear()
    gc.collect()
    still = left()
    if still:
        raise LayoutError(
            f"running the network on the example left {len(still)} tensors without values in "
            f"{_holder(still[0])}, where later runs would read them: clear that, and condition "
            "without example="
        )


def _caches() -> Iterator[Any]:
    """All ``functools`` caches; after ``gc.freeze()``, those in the globals of modules."""
    # Not isinstance: it reads an object's ``__class__``, which may warn or raise.
    for value in gc.get_objects():
        if issubclass(type(value), _CACHED):
            yield value
    if gc.get_freeze_count():
        for module in list(sys.modules.values()):
            for value in list(getattr(module, "__dict__", {}).values()):
                if issubclass(type(value), _CACHED):
                    yield value


def _holds(cached: Any, ids: set[int], most: int = 10_000) -> bool:
    to_do, seen = [cached], {id(cached), id(cached.__wrapped__)}
    while to_do and len(seen) < most:
        for value in gc.get_referents(to_do.pop()):
            if id(value) in ids:
                return True
            if id(value) not in seen and not issubclass(type(value), _PLAIN):
                seen.add(id(value))
                to_do.append(value)
    return False


def _holder(tensor: Tensor) -> str:
    """Name of the object that references a tensor: the nearest referrer with a name."""
    to_do: list[Any] = [tensor]
    seen = {id(tensor), id(to_do)}
    found = "an unnamed object"
    while to_do and len(seen) < 1000:
        value = to_do.pop(0)
        for holder in gc.get_referrers(value):
            if id(holder) in seen or isinstance(holder, types.FrameType):
                continue
            seen.add(id(holder))
            name = _name(holder, value)
            if name:
                return name
            to_do.append(holder)
    return found


def _name(holder: Any, value: Any) -> str | None:
    if isinstance(holder, dict) and isinstance(holder.get("__name__"), str):
        module = sys.modules.get(holder["__name__"])
        if module is not None and vars(module) is holder:
            names = [name for name, held in holder.items() if held is value]
            return f"'{names[0] if names else '?'}' of module {holder['__name__']}"
    if isinstance(holder, (type, types.FunctionType)):
        return f"{holder.__module__}.{holder.__qualname__}"
    return None
