"""Constructor arguments of generators as JSON, from which a saved generator is rebuilt.

A class that derives from ``Configured``, such as ``Generator`` and ``LocalGenerator``, records the
arguments of its constructor. ``from_config`` finds the class by its name, as for operations, and
calls it with the same arguments. It imports and evaluates no code.

Arguments may be numbers, strings, None, lists, tuples, mappings with string keys, operations,
sites, layouts, dtypes, classes of ``torch.nn``, other generators, modules of ``torch.nn`` whose
constructor arguments are among their attributes, and tensors. Of tensors only shape and dtype are
recorded: their values belong to the state dict.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from featurewise.common.errors import error_text
from featurewise.common.text import short
from featurewise.core import FeaturewiseError, Layout, Operation, Site
from featurewise.generators.errors import GeneratorError, LimitError

#: Arguments of device and dtype, which are not recorded.
_PLACES: Final = ("device", "dtype")


#: Class names of version 0.1 -> names of today; descriptions with either can be read.
RENAMED: Final[Mapping[str, str]] = {"Damped": "GatedGenerator", "Joint": "ConcatEncoders"}

#: Limit to the elements of a list or mapping of arguments, and to numbers of layers.
MAX_ITEMS: Final = 1000


class _Unknown(str):
    """Placeholder for an argument that cannot be described; the text is the reason."""


class Configured:
    """Base class whose instances record the arguments of their constructor.

    The arguments of the outermost constructor are recorded when it is called. Later changes of the
    arguments or of the module are not recorded; ``difference`` detects them.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = _recording(cls.__init__)  # type: ignore[method-assign]

    def config(self) -> dict[str, Any]:
        """Class name and constructor arguments, JSON-able; ``from_config`` restores them.

        Raises:
            GeneratorError: an argument cannot be described; the message names it.
        """
        config: dict[str, Any] = vars(self).get("_config", {"kind": type(self).__name__})
        if "arguments" not in config:
            raise GeneratorError(
                f"{type(self).__name__} has no record of its constructor arguments"
            )
        reason = _unknown(config["arguments"])
        if reason is not None:
            raise GeneratorError(f"{type(self).__name__} cannot be described: {reason}")
        return config


def from_config(config: Mapping[str, Any]) -> nn.Module:
    """Rebuild a generator, unbound and with new weights.

    Args:
        config: a result of ``config()``.

    Raises:
        GeneratorError: if ``config`` is not such a description, no generator of that name has been
            defined or imported, the name is ambiguous, or the arguments are invalid.
    """
    if not isinstance(config, Mapping):
        raise GeneratorError(f"not a generator: {short(config)}")
    kind, arguments = config.get("kind"), config.get("arguments")
    if not isinstance(kind, str) or not isinstance(arguments, Mapping):
        raise GeneratorError(f"not a generator: {short(config)}")
    return _make(_find(kind), arguments)


def difference(module: nn.Module, other: nn.Module) -> str | None:
    """The first difference between two modules, except in values of tensors; None if none.

    It compares the classes of all submodules, their plain attributes, and the names, shapes and
    sharing of the tensors of the state dict.
    """
    mine, theirs = (dict(m.named_modules(remove_duplicate=False)) for m in (module, other))
    for name in (*mine, *(theirs.keys() - mine.keys())):
        where = f"module '{name}'" if name else "the module itself"
        pair = mine.get(name), theirs.get(name)
        kinds = [type(m).__name__ if m is not None else "missing" for m in pair]
        if type(pair[0]) is not type(pair[1]):
            return f"{where} is {kinds[0]}, expected {kinds[1]}"
        plain = [_plain_attributes(m) for m in pair if m is not None]
        for key in sorted(plain[0].keys() | plain[1].keys()):
            one, two = (attributes.get(key) for attributes in plain)
            if type(one) is not type(two) or one != two:
                return f"{where} has {key}={one!r}, expected {two!r}"
    return _tensor_difference(module.state_dict(keep_vars=True), other.state_dict(keep_vars=True))


def _tensor_difference(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> str | None:
    for name in (*mine, *(theirs.keys() - mine.keys())):
        shapes = [tuple(s[name].shape) if name in s else "missing" for s in (mine, theirs)]
        if shapes[0] != shapes[1]:
            return f"tensor '{name}' is {shapes[0]}, expected {shapes[1]}"
    if _shared(mine) != _shared(theirs):
        return "the modules share different tensors"
    return None


def _shared(state: Mapping[str, Any]) -> list[list[str]]:
    """Groups of names that refer to the same tensor."""
    groups: dict[int, list[str]] = {}
    for name, tensor in state.items():
        groups.setdefault(id(tensor), []).append(name)
    return sorted(group for group in groups.values() if len(group) > 1)


def _plain_attributes(module: nn.Module) -> dict[str, Any]:
    return {
        name: value
        for name, value in vars(module).items()
        if name != "training" and not name.startswith("_") and _is_plain(value)
    }


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return isinstance(value, bool | int | float | str | Operation | Layout)


# --- recording -----------------------------------------------------------------------------------


def _recording(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def record(self: Any, *args: Any, **kwargs: Any) -> None:
        if "_config" not in vars(self):  # the outermost constructor runs first
            kind = type(self).__name__
            vars(self)["_config"] = {"kind": kind} | _arguments(init, args, kwargs)
        init(self, *args, **kwargs)

    return record


def _arguments(
    init: Callable[..., None], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    try:
        bound = inspect.signature(init).bind(None, *args, **kwargs)
    except TypeError:
        return {}  # the constructor itself raises the error
    bound.apply_defaults()  # another version may have other defaults
    mine = list(bound.arguments.items())[1:]
    return {"arguments": {name: _describe(value, name) for name, value in mine}}


def _describe(value: Any, name: str) -> Any:
    """JSON-able form of an argument; values that are not plain JSON become an object of one key."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, tuple | list):
        items = [_describe(item, name) for item in value]
        return items if isinstance(value, list) else {"tuple": items}
    if isinstance(value, Mapping):
        return _describe_mapping(value, name)
    if isinstance(value, nn.Module):
        return _describe_module(value, name)
    return _describe_other(value, name)


def _describe_mapping(value: Mapping[Any, Any], name: str) -> Any:
    odd = next((key for key in value if not isinstance(key, str)), None)
    if odd is not None:
        return _Unknown(f"{name} has the key {odd!r}, which is not a string")
    return {"mapping": {key: _describe(item, f"{name}[{key!r}]") for key, item in value.items()}}


def _describe_module(module: nn.Module, name: str) -> Any:
    if isinstance(module, Configured):
        config = vars(module).get("_config", {})
        if "arguments" in config:
            return {"generator": config}
        return _Unknown(
            f"{name} is a {type(module).__name__} without a record of its constructor arguments"
        )
    cls = type(module)
    if getattr(nn, cls.__name__, None) is not cls:
        return _Unknown(f"{name} is a {cls.__name__}, neither a generator nor of torch.nn")
    if cls in (nn.Sequential, nn.ModuleList):
        children = enumerate(module.children())
        inner = [_describe_module(child, f"{name}[{i}]") for i, child in children]
        key = "args" if cls is nn.Sequential else "modules"
        return {"module": {"kind": cls.__name__, "arguments": {key: inner}}}
    arguments: dict[str, Any] = {}
    for key, parameter in list(inspect.signature(cls.__init__).parameters.items())[1:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            if cls.__init__ is nn.Module.__init__:
                break  # it takes no arguments
            return _Unknown(f"{name} is a {cls.__name__}, whose constructor hides its arguments")
        if key not in _PLACES and hasattr(module, key):
            own = getattr(module, key)
            flag = isinstance(own, Tensor) or (key == "bias" and own is None)
            arguments[key] = own is not None if flag else _describe(own, f"{name}.{key}")
    return {"module": {"kind": cls.__name__, "arguments": arguments}}


def _describe_other(value: Any, name: str) -> Any:
    if isinstance(value, Operation):
        return {"operation": value.to_json()}
    if isinstance(value, Site):
        return {"site": value.to_json()}
    if isinstance(value, Layout):
        return {"layout": value.to_json()}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, Tensor):
        kind = str(value.dtype).removeprefix("torch.")
        return {"tensor": {"shape": list(value.shape), "dtype": kind}}
    if isinstance(value, type) and issubclass(value, nn.Module):
        kind = value.__name__
        if issubclass(value, Configured):
            return {"generator class": kind}
        if getattr(nn, kind, None) is value:
            return {"class": kind}
        return _Unknown(f"{name} is the class {kind}, which is not of torch.nn")
    return _Unknown(f"{name} is a {type(value).__name__}, which has no form in JSON")


def _unknown(data: Any) -> str | None:
    """The first reason why ``data`` cannot be described; None if it can."""
    if isinstance(data, _Unknown):
        return str(data)
    items = list(data.values()) if isinstance(data, Mapping) else data
    if not isinstance(items, list):
        return None
    return next((reason for item in items if (reason := _unknown(item)) is not None), None)


#: Kinds of parameters that do not name their arguments; such arguments are not recorded.
_HIDDEN: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


# --- rebuilding ----------------------------------------------------------------------------------


def _make(cls: type[nn.Module], arguments: Mapping[str, Any]) -> nn.Module:
    signature = inspect.signature(cls.__init__)
    named = {p.kind: p.name for p in signature.parameters.values() if p.kind in _HIDDEN}
    hides = inspect.Parameter.VAR_KEYWORD in named and not issubclass(cls, Configured)
    if hides and arguments.keys() & named.values():
        raise GeneratorError(f"{cls.__name__} hides its arguments, so it cannot be made from JSON")
    bound = signature.bind_partial(None)
    for name, parameter in list(signature.parameters.items())[1:]:
        if name in arguments:
            value = _restore(arguments[name])
            if name.endswith("layers") and isinstance(value, int) and value > MAX_ITEMS:
                raise LimitError(f"{name} may be at most {MAX_ITEMS:,}, got {short(value)}")
            if parameter.kind is parameter.VAR_POSITIONAL:
                value = tuple(value) if isinstance(value, list | tuple) else (value,)
            bound.arguments[name] = value
    odd = arguments.keys() - signature.parameters.keys()
    if odd:
        raise GeneratorError(f"{cls.__name__} takes no {', '.join(sorted(map(repr, odd)))}")
    try:
        return cls(*bound.args[1:], **bound.kwargs)
    except FeaturewiseError:
        raise
    except Exception as error:  # constructors can raise any error for arguments from a file
        raise GeneratorError(f"{cls.__name__}: {error_text(error)}") from error


def _restore(data: Any) -> Any:
    _check_count(data)
    if isinstance(data, list):
        return [_restore(item) for item in data]
    if not isinstance(data, Mapping):
        return data
    if len(data) != 1:
        raise GeneratorError(f"not an argument of a generator: {short(data)}")
    ((tag, value),) = data.items()
    if tag not in _RESTORE:
        raise GeneratorError(f"not an argument of a generator: {short(data)}")
    try:
        return _RESTORE[tag](value)
    except FeaturewiseError:
        raise
    except Exception as error:
        reason = f"{short(data)} ({error_text(error)})"
        raise GeneratorError(f"not an argument of a generator: {reason}") from error


def _check_count(data: Any) -> None:
    """Raise if a list or mapping has more than ``MAX_ITEMS`` elements; lists of strings may."""
    items = data.values() if isinstance(data, Mapping) else data if isinstance(data, list) else ()
    if len(items) > MAX_ITEMS and not all(isinstance(item, str) for item in items):
        raise LimitError(f"an argument has at most {MAX_ITEMS:,} parts, got {len(items):,}")


@contextmanager
def building_at_most(tensors: int, numbers: int, *, meta: bool = True) -> Iterator[None]:
    """Limit the number and size of tensors of modules that are built inside.

    Args:
        tensors: number of parameters and buffers in the file.
        numbers: number of elements of all of them.
        meta: whether tensors on the meta device, which hold no numbers, count: they do where
            modules are built there first; not where others are built there only to be counted.

    Raises:
        LimitError: the modules have several times as many; the margin is for tensors that are
            replaced during construction.
    """
    room = [4 * tensors + 1000, 4 * numbers + (1 << 20)]

    def count(module: nn.Module, name: str, tensor: Tensor | None) -> None:
        if tensor is not None and (meta or not tensor.is_meta):
            room[0] -= 1
            room[1] -= tensor.numel()
        if min(room) < 0:
            raise LimitError(
                f"it needs more than the file holds: {tensors:,} tensors of {numbers:,} numbers"
            )

    with ExitStack() as stack:
        for register in (
            register_module_parameter_registration_hook,
            register_module_buffer_registration_hook,
        ):
            stack.callback(register(count).remove)
        yield


def _dtype(name: Any) -> torch.dtype:
    found = getattr(torch, name) if isinstance(name, str) else None
    if not isinstance(found, torch.dtype):
        raise GeneratorError(f"no dtype {name!r}")
    return found


def _module_class(name: Any) -> type[nn.Module]:
    found = getattr(nn, name, None) if isinstance(name, str) else None
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise GeneratorError(f"torch.nn has no module {name!r}")
    return found


def _find(kind: object) -> type[nn.Module]:
    classes = _subclasses(Configured)
    found = [cls for cls in classes if cls.__name__ == kind and issubclass(cls, nn.Module)]
    if not found and isinstance(kind, str) and kind in RENAMED:  # a class of the user comes first
        return _find(RENAMED[kind])
    if not found:
        known = ", ".join(sorted({cls.__name__ for cls in classes if cls.__name__[0] != "_"}))
        raise GeneratorError(f"no generator {kind!r} is defined or imported; known are {known}")
    homes = {f"{cls.__module__}.{cls.__qualname__}" for cls in found}
    if len(homes) > 1:
        raise GeneratorError(f"several generators are named '{kind}': {', '.join(sorted(homes))}")
    return found[-1]  # the newest, if a class was redefined


def _subclasses(cls: type) -> list[type]:
    direct: list[type] = cls.__subclasses__()
    return direct + [deep for sub in direct for deep in _subclasses(sub)]


_RESTORE: Final[Mapping[str, Callable[[Any], Any]]] = {
    "float": float,
    "tuple": lambda items: tuple(_restore(list(items))),
    "mapping": lambda items: {str(key): _restore(item) for key, item in items.items()},
    "generator": from_config,
    "module": lambda data: _make(_module_class(data["kind"]), data["arguments"]),
    "operation": Operation.from_json,
    "site": Site.from_json,
    "layout": Layout.from_json,
    "dtype": _dtype,
    "class": _module_class,
    "generator class": _find,
    "tensor": lambda data: torch.zeros(data["shape"], dtype=_dtype(data["dtype"])),
}
