"""What a conditioned network exposes of its backbone: attributes, signature of ``forward``.

Trainers inspect a network before they run it: the arguments of its ``forward`` (the columns of a
data set that it takes), the names of its labels, its ``config``. Some inspect the class
(``inspect.signature(type(net).forward)``), so each conditioned network gets a subclass of
``Conditioned`` with the signature of its backbone; copies and pickles create theirs again.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import Parameter, Signature
from types import FunctionType
from typing import Any, Final, TypeVar
from weakref import WeakValueDictionary

from torch import nn

from featurewise.generators import LocalGenerator
from featurewise.retrofit import calls
from featurewise.retrofit.calls import Call, Values
from featurewise.retrofit.errors import CallError

#: Arguments of every conditioned network, in addition to those of the backbone.
_OWN: Final = ("condition", "task")

#: Message for calls after ``remove``.
REMOVED: Final = "the conditioning was removed; call the backbone itself"

#: Attribute of a generated class: the class that it was generated from.
_MADE_FROM: Final = "_made_from"

#: Set on an instance while it hides the attributes of its backbone.
_OWN_ONLY: Final = "_own_only"

#: A conditioned network.
Net = TypeVar("Net", bound=nn.Module)

_classes: Final[WeakValueDictionary[tuple[type, type, str], Any]] = WeakValueDictionary()


# --- the signature -------------------------------------------------------------------------------


def shown_class(cls: type[Net], backbone: nn.Module) -> type[Net]:
    """The subclass of ``cls`` whose ``forward`` has the signature of the backbone's.

    Its parameters are those of the backbone, then ``condition`` and ``task`` by keyword. Networks
    of equal backbones share one class. Without a usable signature it is ``cls`` itself: one that
    a wrapper hides, or that of ``nn.Sequential``, whose "input" is that of its first module.
    """
    base = plain_class(cls)
    function = inspect.getattr_static(base, "forward")
    parameters = _parameters(backbone)
    if parameters is None or type(backbone) is nn.Sequential:
        return base
    if not isinstance(function, FunctionType) or not _passes_on(function):
        return base  # a subclass with a signature of its own
    signature = Signature([Parameter("self", Parameter.POSITIONAL_ONLY), *parameters])
    key = (base, type(backbone), str(signature))
    made = _classes.get(key)
    if made is None:
        names = {
            "forward": _showing(function, signature),
            _MADE_FROM: base,
            "__module__": base.__module__,
            "__doc__": base.__doc__,
        }
        # Trainers also read class names: "...QuestionAnswering" has other labels.
        made = _classes[key] = type(base.__name__ + type(backbone).__name__, (base,), names)
    return made


def plain_class(cls: type[Net]) -> type[Net]:
    """The class from which ``shown_class`` generated ``cls``; any other class is returned."""
    made_from: type[Net] = vars(cls).get(_MADE_FROM, cls)
    return made_from


def remake(cls: type[Net]) -> Net:
    """An empty network, for copies and pickles, which then set its state."""
    return cls.__new__(cls)


def _parameters(backbone: nn.Module) -> list[Parameter] | None:
    """Parameters of the backbone's ``forward`` and our own, in a valid order."""
    try:
        found = inspect.signature(_innermost(backbone).forward).parameters.values()
        kept = [p for p in found if p.name not in _OWN]
        own = [Parameter(name, Parameter.KEYWORD_ONLY, default=None) for name in _OWN]
        last = [p for p in kept if p.kind is Parameter.VAR_KEYWORD]
        ordered = [*(p for p in kept if p not in last), *own, *last]
        return list(Signature(ordered).parameters.values())
    except (TypeError, ValueError, AttributeError):  # a builtin, or hidden by a wrapper
        return None


def _passes_on(function: Callable[..., Any]) -> bool:
    """Whether a function takes ``*args`` and ``**kwargs``."""
    kinds = {p.kind for p in inspect.signature(function).parameters.values()}
    return {Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD} <= kinds


def _innermost(module: nn.Module) -> nn.Module:
    """The module inside wrappers that pass on ``*args, **kwargs``."""
    if len(inspect.signature(module.forward).parameters) > 2 or not _passes_on(module.forward):
        return module
    for name in ("get_base_model", "module", "_orig_mod"):  # PEFT, data parallel, compiled
        inner = getattr(module, name, None)
        inner = inner() if inspect.ismethod(inner) else inner
        if isinstance(inner, nn.Module):
            return _innermost(inner)
    return module


def _showing(function: FunctionType, signature: Signature) -> FunctionType:
    """A copy of ``function`` with another signature: no extra call, same code for compilers."""
    shown = FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    shown.__kwdefaults__ = function.__kwdefaults__
    shown.__dict__.update(function.__dict__)
    shown.__doc__, shown.__qualname__ = function.__doc__, function.__qualname__
    shown.__module__ = function.__module__
    vars(shown)["__signature__"] = signature
    return shown


# --- calls without a condition of their own ------------------------------------------------------


def plain_run(net: Any) -> bool:
    """Whether a call without a condition runs the backbone as it is, instead of raising.

    It does inside a scope of ``using``; and, after ``remove``, inside the call of another
    conditioned network of which this one is a part.
    """
    if net._removed:
        return calls.any_active()
    return calls.find(net._owner)[0] is not None


# --- attributes ----------------------------------------------------------------------------------


def attribute(net: Any, name: str) -> Any:
    """An attribute of the backbone that the conditioned network does not have.

    Methods run conditioned; see ``Conditioned.using``.

    Raises:
        AttributeError: the backbone has none either, or there is no backbone yet.
    """
    kind = plain_class(type(net)).__name__
    backbone = vars(net).get("_modules", {}).get("backbone")
    if backbone is None or vars(net).get(_OWN_ONLY):
        raise AttributeError(f"'{kind}' object has no attribute '{name}'")
    try:
        if _private(backbone, name):
            raise AttributeError
        value = getattr(backbone, name)
    except AttributeError as error:
        raise AttributeError(
            f"'{kind}' object has no attribute '{name}', and neither has its backbone, "
            f"a {type(backbone).__name__}"
        ) from error
    of_module = inspect.ismethod(value) and isinstance(value.__self__, nn.Module)
    return _conditioned(net, name, value) if of_module else value


@contextmanager
def own_attributes(net: nn.Module) -> Iterator[None]:
    """A block in which a conditioned network hides the attributes of its backbone."""
    vars(net)[_OWN_ONLY] = True
    try:
        yield
    finally:
        del vars(net)[_OWN_ONLY]


def _private(backbone: nn.Module, name: str) -> bool:
    """Whether a name is private to the backbone.

    A private attribute of the instance belongs to the code that set it (hooks of accelerate, the
    internals of wrappers); one that the class declares (``_no_split_modules``) is exposed.
    """
    if not name.startswith("_"):
        return False
    declared = inspect.getattr_static(type(backbone), name, None)
    return name.startswith("__") or declared is None or callable(declared)


def _conditioned(net: Any, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of the backbone that takes ``condition`` and the other arguments of ``using``."""

    @functools.wraps(method)
    def run(*args: Any, **kwargs: Any) -> Any:
        given = {key: kwargs.pop(key) for key in _offered(net, method) if key in kwargs}
        if given and _suspends(method):
            raise CallError(
                f"{name} is a generator or coroutine; iterate it inside a block of using() instead"
            )
        with net.using(**given) if given else _without(net, name):
            return method(*args, **kwargs)

    return run


def _offered(net: Any, method: Callable[..., Any]) -> list[str]:
    """Arguments of ``using`` that are not the method's own."""
    own = inspect.signature(method).parameters
    return [key for key in inspect.signature(net.using).parameters if key not in own]


def _suspends(method: Callable[..., Any]) -> bool:
    return (
        inspect.isgeneratorfunction(method)
        or inspect.iscoroutinefunction(method)
        or inspect.isasyncgenfunction(method)
    )


@contextmanager
def _without(net: Any, name: str) -> Iterator[None]:
    """Run a method without a condition of its own: with that of the scope of ``using``, if any."""
    if net._removed:
        raise CallError(REMOVED)
    if calls.active(net._owner) is not None:
        yield
        return
    call = _OnDemand(net, name)
    stack = calls.prepare(call)
    try:
        stack.append(call)
        yield
    finally:
        stack.remove(call)
        calls.finish(call)
        call.net = None


class _OnDemand(Call):
    """A call without a condition; it raises only if the method runs a site."""

    def __init__(self, net: Any, name: str) -> None:
        local = net.generator if isinstance(net.generator, LocalGenerator) else None
        super().__init__(net._owner, None, local=local)
        self.net: Any = net
        self.name = name

    def values(self, site: str) -> Values | None:
        """Raw parameters of a generator that needs no condition; raises for any other generator."""
        if self.parameters is None and self.local is None and self.net is not None:
            if self.net._conditional:
                raise CallError(
                    f"{self.name} runs site '{site}' without a condition: call "
                    f"net.{self.name}(..., condition=...), or call it in a block of using()"
                )
            self.parameters = self.net.represent()
        return super().values(site)
