"""``features_of``: width and axis of the features of a module, by its type or by running it.

The types of torch are in a table; other modules are run in isolation (see ``isolated``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from torch import nn

from featurewise.layers.film import FiLM
from featurewise.retrofit.isolated import input_axis, normalised_axis, vector_features


@dataclass(frozen=True)
class Features:
    """Output or input features of a module.

    Attributes:
        width: number of features C.
        axis: feature axis.
        batch_axis: batch axis; None if the module does not determine it.
        sure: whether the module computes separately for each feature along that axis, as a
            normalisation does, so that any other axis is an error.
    """

    width: int
    axis: int
    batch_axis: int | None = None
    sure: bool = field(default=False, compare=False)


Rule = Callable[[Any, str], Features | None]


def _last(output: str, input_: str | None = None) -> Rule:
    """Features on the last axis; attributes of the module that hold their number."""
    names = {"output": output, "input": input_ or output}
    return lambda module, when: Features(getattr(module, names[when]), -1)


def _second(output: str, input_: str | None = None, sure: bool = False) -> Rule:
    """Features on axis 1 of (B, C, *positions)."""
    names = {"output": output, "input": input_ or output}
    return lambda module, when: Features(getattr(module, names[when]), 1, 0, sure)


def _recurrent(module: Any, when: str) -> Features:
    width = module.input_size
    if when == "output":
        width = (module.proj_size or module.hidden_size) * (2 if module.bidirectional else 1)
    return Features(width, -1, 0 if module.batch_first else 1)


def _attention(module: Any, when: str) -> Features:
    return Features(module.embed_dim, -1, 0 if module.batch_first else 1)


def _normalized(module: Any, when: str) -> Features | None:
    shape = module.normalized_shape
    return Features(shape[0], -1, None, sure=True) if len(shape) == 1 else None


def _layer(module: Any, when: str) -> Features:
    return _attention(module.self_attn, when)


def _declared(module: Any, when: str) -> Features:
    (site,) = module.layout
    return Features(site.width, site.axis, site.batch_axis)


_CONVOLUTIONS: Final = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)
_BATCH_NORMS: Final = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
)

_LINEAR: Final = (nn.Linear,)
_NORMS: Final = (nn.LayerNorm, nn.RMSNorm)

_RULES: Final[tuple[tuple[tuple[type[nn.Module], ...], Rule], ...]] = (
    (_CONVOLUTIONS, _second("out_channels", "in_channels")),
    (_BATCH_NORMS, _second("num_features", sure=True)),
    ((nn.GroupNorm,), _second("num_channels", sure=True)),
    (_NORMS, _normalized),
    (_LINEAR, _last("out_features", "in_features")),
    ((nn.RNN, nn.LSTM, nn.GRU), _recurrent),
    ((nn.RNNCell, nn.LSTMCell, nn.GRUCell), _last("hidden_size", "input_size")),
    ((nn.MultiheadAttention,), _attention),
    ((nn.TransformerEncoderLayer, nn.TransformerDecoderLayer), _layer),
    ((FiLM,), _declared),
)


def features_of(
    module: nn.Module, when: str, seen: tuple[int, ...] | None = None
) -> Features | None:
    """Features of a module as far as the module alone determines them, else None.

    The types of torch are known. A class that derives from one of them with its own ``forward``,
    and any other whose parameters are vectors, is run in isolation on small inputs. Call this
    within ``Snapshot``.

    Args:
        module: any module.
        when: "output" or "input".
        seen: shape of its features, if known; decides for a module that accepts either axis.
    """
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and when == "output":
        return Features(module.embedding_dim, -1)
    if type(module).__name__ == "Conv1D" and hasattr(module, "nf"):  # a linear map of transformers
        return _last("nf", "nx")(module, when)
    for types, rule in _RULES:
        if isinstance(module, types):
            declared = rule(module, when)
            if any(runs_as(module, kind) for kind in types):
                return declared
            return _measured(module, declared, seen)
    return _vectors(module, None, seen)


def runs_as(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a module computes what torch's own class ``kind`` computes."""
    own = type(module)
    if not isinstance(module, kind) or "forward" in vars(module):
        return False
    return all(
        getattr(own, method, None) is getattr(kind, method, None)
        for method in ("forward", "_conv_forward")
    )


def least_size(module: Any) -> int:
    """Smallest size of the position axes to try: the extent of the kernel, at least 3."""
    if not isinstance(module, _CONVOLUTIONS):
        return 3
    spans = zip(module.kernel_size, module.dilation, strict=True)
    return max(3, *((size - 1) * step + 1 for size, step in spans))


def _measured(
    module: Any, declared: Features | None, seen: tuple[int, ...] | None
) -> Features | None:
    """Features of a class with its own ``forward``; ``declared``: those of its torch base class."""
    if isinstance(module, (*_BATCH_NORMS, nn.GroupNorm)):
        return _vectors(module, None, seen) or declared
    if isinstance(module, _NORMS):
        return _vectors(module, declared, seen)
    axis = None
    if declared is not None and isinstance(module, _LINEAR):
        axis = input_axis(module, module.in_features, (3, 4))
    elif declared is not None and isinstance(module, _CONVOLUTIONS):
        ranks = (2 + len(module.kernel_size),)
        axis = input_axis(module, module.in_channels, ranks, least_size(module))
    return declared if declared is None or axis is None else _on(axis, declared.width, sure=False)


def _vectors(
    module: Any, declared: Features | None, seen: tuple[int, ...] | None
) -> Features | None:
    """Features of a module whose parameters are vectors, or of a norm without parameters."""
    found = vector_features(module, None if declared is None else declared.width, seen)
    if found is not None:
        return _on(found[1], found[0], sure=True)
    bare = declared is not None and next(module.parameters(), None) is None
    axis = normalised_axis(module, declared.width) if declared is not None and bare else None
    return None if declared is None or axis is None else _on(axis, declared.width, sure=True)


def _on(axis: int, width: int, sure: bool) -> Features:
    return Features(width, axis, 0 if axis == 1 else None, sure)


def batched_rank(module: nn.Module) -> int | None:
    """Number of axes of batched features, for a module that also accepts a single sample."""
    if isinstance(module, _CONVOLUTIONS):
        return 2 + len(module.kernel_size)
    name, home = type(module).__name__, type(module).__module__
    if home.startswith("torch.nn.") and any(
        kind in name for kind in ("InstanceNorm", "Pool", "Pad")
    ):
        return next((2 + int(c) for c in name if c in "123"), None)
    return None


def batch_first(network: nn.Module, name: str) -> bool | None:
    """``batch_first`` of the nearest enclosing sequence module of ``name``, or None."""
    parts = name.split(".") if name else []
    for i in range(len(parts), -1, -1):
        module: Any = network.get_submodule(".".join(parts[:i]))
        for holder in (module, getattr(module, "self_attn", None)):
            flag = getattr(holder, "batch_first", None)
            if isinstance(flag, bool):
                return flag
    return None
