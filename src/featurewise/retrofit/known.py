"""What torch's own modules tell of their features without being run: width and axes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from torch import nn

from featurewise.layers.film import FiLM


@dataclass(frozen=True)
class Features:
    """Features a module gives or takes.

    Attributes:
        width: number of features C.
        axis: their axis.
        batch_axis: axis of the samples; None where the module does not know it.
    """

    width: int
    axis: int
    batch_axis: int | None = None


Rule = Callable[[Any, str], Features | None]


def _last(output: str, taken: str | None = None) -> Rule:
    """Features on the last axis, their number in these attributes."""
    names = {"output": output, "input": taken or output}
    return lambda module, when: Features(getattr(module, names[when]), -1)


def _second(output: str, taken: str | None = None) -> Rule:
    """Features on axis 1 of (B, C, *positions)."""
    names = {"output": output, "input": taken or output}
    return lambda module, when: Features(getattr(module, names[when]), 1, 0)


def _recurrent(module: Any, when: str) -> Features:
    width = module.input_size
    if when == "output":
        width = (module.proj_size or module.hidden_size) * (2 if module.bidirectional else 1)
    return Features(width, -1, 0 if module.batch_first else 1)


def _attention(module: Any, when: str) -> Features:
    return Features(module.embed_dim, -1, 0 if module.batch_first else 1)


def _normalized(module: Any, when: str) -> Features | None:
    return Features(module.normalized_shape[0], -1) if len(module.normalized_shape) == 1 else None


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

_RULES: Final[tuple[tuple[tuple[type[nn.Module], ...], Rule], ...]] = (
    (_CONVOLUTIONS, _second("out_channels", "in_channels")),
    (_BATCH_NORMS, _second("num_features")),
    ((nn.GroupNorm,), _second("num_channels")),
    ((nn.LayerNorm, nn.RMSNorm), _normalized),
    ((nn.Linear,), _last("out_features", "in_features")),
    ((nn.RNN, nn.LSTM, nn.GRU), _recurrent),
    ((nn.RNNCell, nn.LSTMCell, nn.GRUCell), _last("hidden_size", "input_size")),
    ((nn.MultiheadAttention,), _attention),
    ((nn.TransformerEncoderLayer, nn.TransformerDecoderLayer), _layer),
    ((FiLM,), _declared),
)


def features_of(module: nn.Module, when: str) -> Features | None:
    """Features of a module whose type tells them, or None.

    Args:
        module: any module.
        when: "output" for what it gives, "input" for what it takes.
    """
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and when == "output":
        return Features(module.embedding_dim, -1)
    if type(module).__name__ == "Conv1D" and hasattr(module, "nf"):  # a linear map of transformers
        return _last("nf", "nx")(module, when)
    for types, rule in _RULES:
        if isinstance(module, types):
            return rule(module, when)
    return None


def batched_rank(module: nn.Module) -> int | None:
    """How many axes features have at a module that takes a sample without its batch axis, too."""
    if isinstance(module, _CONVOLUTIONS):
        return 2 + len(module.kernel_size)
    name, home = type(module).__name__, type(module).__module__
    if home.startswith("torch.nn.") and any(
        kind in name for kind in ("InstanceNorm", "Pool", "Pad")
    ):
        return next((2 + int(c) for c in name if c in "123"), None)
    return None


def batch_first(network: nn.Module, name: str) -> bool | None:
    """What the nearest enclosing sequence module of ``name`` says of its batch axis, or None."""
    parts = name.split(".") if name else []
    for i in range(len(parts), -1, -1):
        module: Any = network.get_submodule(".".join(parts[:i]))
        for place in (module, getattr(module, "self_attn", None)):
            said = getattr(place, "batch_first", None)
            if isinstance(said, bool):
                return said
    return None
