"""``FeatureAxes``: the feature axes of each tensor, propagated through a run operator by operator.

Convolutions, products with a weight, embeddings and normalisations determine the axis of their
output features. Element-wise operators, permutations, views, pooling and attention propagate the
axes of their inputs. For other operators, and for the inputs of the network, the axes are unknown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import torch
from torch import Tensor

from featurewise.core import _torch

#: Feature axes of one tensor; several if the feature axis was split.
Axes = frozenset[int]


class FeatureAxes:
    """Feature axes of the tensors of one run: call ``note`` for each operator, then ``axes``."""

    def __init__(self) -> None:
        self._known: dict[int, Axes | None] = {}  # by id; None if sources disagree
        self._alive: list[Tensor] = []  # keeps ids unique

    def axes(self, tensor: Tensor) -> Axes | None:
        """The feature axes of a tensor, or None if they are unknown."""
        return self._known.get(id(tensor)) or None

    def start(self, inputs: Any) -> None:
        """Note the inputs of the network."""
        for leaf in _torch.tree_flatten(inputs)[0]:
            if isinstance(leaf, Tensor):
                self._set(leaf, None)

    def note(self, operator: Any, inputs: Any, result: Any) -> None:
        """Note one operator; a callback of ``_torch.watching``."""
        if not self.runs_on(inputs):
            return
        name = operator.name().partition("::")[2].partition(".")[0]
        args = inputs[0]
        rule = _RULES.get(name) or _RULES.get(name.removesuffix("_"))
        for leaf in _torch.tree_flatten(result)[0]:
            if not isinstance(leaf, Tensor) or not leaf.ndim:
                continue
            if rule is not None:
                self._set(leaf, rule(self, args, leaf))
            elif torch.Tag.pointwise in operator.tags:
                tensors = [t for t in _torch.tree_flatten(inputs)[0] if isinstance(t, Tensor)]
                self._set(leaf, self.common(tensors, leaf))
            else:
                self._set(leaf, None)

    def forget(self) -> None:
        """Release the tensors."""
        self._alive.clear()
        self._known.clear()

    def runs_on(self, tree: Any) -> bool:
        """Whether anything in ``tree`` depends on the inputs of the network."""
        leaves = _torch.tree_flatten(tree)[0]
        return any(isinstance(leaf, Tensor) and id(leaf) in self._known for leaf in leaves)

    def common(self, tensors: Iterable[Tensor], result: Tensor) -> Axes | None:
        """The feature axes on which broadcast tensors agree."""
        found: set[Axes] = set()
        for tensor in tensors:
            axes = self.axes(tensor)
            if axes is not None:
                found.add(frozenset(a + result.ndim - tensor.ndim for a in axes))
        return found.pop() if len(found) == 1 else None

    def _set(self, tensor: Tensor, axes: Axes | None) -> None:
        self._known[id(tensor)] = axes
        self._alive.append(tensor)


# --- rules: (run, arguments, result) -> axes ----------------------------------------------------

_Rule = Callable[[FeatureAxes, Any, Tensor], Axes | None]


def _second(run: FeatureAxes, args: Any, result: Tensor) -> Axes | None:
    return frozenset({1})


def _last(run: FeatureAxes, args: Any, result: Tensor) -> Axes | None:
    return frozenset({result.ndim - 1})


def _normalised(run: FeatureAxes, args: Any, result: Tensor) -> Axes | None:
    """A norm over the last axes: those of its input, else the last axis if it is the only one."""
    before = run.axes(args[0])
    return before or (_last(run, args, result) if len(args[1]) == 1 else None)


def _product(run: FeatureAxes, args: Any, result: Tensor) -> Axes | None:
    """``a @ b``: rows come from ``a``, columns from ``b``; those of a weight are features."""
    a, b = args[-2:]
    found = set()
    for tensor, axis in ((a, -2), (b, -1)):
        features = not run.runs_on([tensor])
        if features or (tensor.ndim + axis) in (run.axes(tensor) or ()):
            found.add(result.ndim + axis)
    return frozenset(found) or None


def _same(index: int = 0) -> _Rule:
    """The axes of argument number ``index``, if the result has as many axes."""

    def rule(run: FeatureAxes, args: Any, result: Tensor) -> Axes | None:
        axes = run.axes(args[index])
        return axes if args[index].ndim == result.ndim else None

    return rule


def _joined(run: FeatureAxes, args: Any, result: Tensor) -> Axes | None:
    return run.common(args[0], result)


def _permuted(run: FeatureAxes, args: Any, result: Tensor) -> Axes | None:
    axes, order = run.axes(args[0]), [d % result.ndim for d in args[1]]
    return None if axes is None else frozenset(order.index(a) for a in axes)


def _transposed(run: FeatureAxes, args: Any, result: Tensor) -> Axes | None:
    order = list(range(result.ndim))
    one, other = (args[1], args[2]) if len(args) > 2 else (0, result.ndim - 1)
    order[one], order[other] = order[other], order[one]
    return _permuted(run, (args[0], order), result)


def _inserted(run: FeatureAxes, args: Any, result: Tensor) -> Axes | None:
    """``unsqueeze`` and ``stack``."""
    first = args[0] if isinstance(args[0], Tensor) else args[0][0]
    axes = run.axes(first)
    new = (args[1] if len(args) > 1 else 0) % result.ndim
    return None if axes is None else frozenset(a + (a >= new) for a in axes)


def _dropped(run: FeatureAxes, args: Any, result: Tensor) -> Axes | None:
    """Operators that remove axes: selection, reduction, squeeze."""
    before: Tensor = args[0]
    axes = run.axes(before)
    if axes is None or result.ndim == before.ndim:
        return axes
    dims = args[1] if len(args) > 1 else [i for i in range(before.ndim) if before.shape[i] == 1]
    gone = {d % before.ndim for d in ([dims] if isinstance(dims, int) else dims)}
    kept = [i for i in range(before.ndim) if i not in gone]
    if len(kept) != result.ndim:
        return None
    return frozenset(kept.index(a) for a in axes if a in kept) or None


def _unbound(run: FeatureAxes, args: Any, result: Tensor) -> Axes | None:
    return _dropped(run, args if len(args) > 1 else (args[0], 0), result)


def _expanded(run: FeatureAxes, args: Any, result: Tensor) -> Axes | None:
    return run.common([args[0]], result)


def _viewed(run: FeatureAxes, args: Any, result: Tensor) -> Axes | None:
    """Axes that are split or merged; unknown if another axis is merged with the features."""
    before: Tensor = args[0]
    axes = run.axes(before)
    if axes is None:
        return None
    old, new = _spans(before.shape), _spans(result.shape)
    wide = {a for a in axes if before.shape[a] > 1}
    mixed = {
        i
        for i, span in enumerate(new)
        for a, own in enumerate(old)
        if _overlap(own, span) and a not in wide and before.shape[a] > 1
    }
    found = {
        i
        for i, span in enumerate(new)
        if result.shape[i] > 1 and any(_overlap(old[a], span) for a in wide)
    }
    return None if found & mixed else frozenset(found) or None


def _spans(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """For each axis its interval of strides: from its own to that of the previous axis."""
    return [(math.prod(shape[i + 1 :]), math.prod(shape[i:])) for i in range(len(shape))]


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return max(one[0], other[0]) < min(one[1], other[1])


_RULES: Final[Mapping[str, _Rule]] = {
    **dict.fromkeys(
        (
            *("convolution", "_convolution", "convolution_overrideable", "mkldnn_convolution"),
            *("native_batch_norm", "_native_batch_norm_legit", "_batch_norm_impl_index"),
            *("_native_batch_norm_legit_no_training", "_batch_norm_with_update"),
            *("_batch_norm_no_update", "cudnn_batch_norm", "miopen_batch_norm"),
            *("native_group_norm", "_native_batch_norm_legit_functional"),
        ),
        _second,
    ),
    **dict.fromkeys(
        ("embedding", "lstm", "gru", "rnn_tanh", "rnn_relu", "mkldnn_rnn_layer", "_cudnn_rnn"),
        _last,
    ),
    **dict.fromkeys(("native_layer_norm", "_fused_rms_norm", "rms_norm"), _normalised),
    **dict.fromkeys(("mm", "addmm", "bmm", "baddbmm"), _product),
    **dict.fromkeys(
        (
            *("clone", "contiguous", "detach", "_to_copy", "alias", "lift_fresh", "roll", "flip"),
            *("constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d"),
            *("replication_pad1d", "replication_pad2d", "replication_pad3d", "slice", "split"),
            *("split_with_sizes", "chunk", "narrow", "_softmax", "_safe_softmax", "cumsum"),
            *("native_dropout", "max_pool2d_with_indices", "max_pool3d_with_indices"),
            *("avg_pool1d", "avg_pool2d", "avg_pool3d", "mkldnn_max_pool2d", "max_pool1d"),
            *("adaptive_avg_pool1d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d"),
            *("adaptive_max_pool2d", "adaptive_max_pool3d", "upsample_nearest1d", "index_select"),
            *("upsample_nearest2d", "upsample_nearest3d", "_upsample_nearest_exact2d"),
            *("upsample_bilinear2d", "_upsample_bilinear2d_aa", "upsample_bicubic2d"),
            *("_upsample_bicubic2d_aa", "upsample_linear1d", "upsample_trilinear3d"),
            *("grid_sampler_2d", "tril", "triu", "glu", "masked_fill", "repeat_interleave"),
        ),
        _same(),
    ),
    **dict.fromkeys(
        (
            *("_scaled_dot_product_flash_attention", "_scaled_dot_product_efficient_attention"),
            *("_scaled_dot_product_cudnn_attention", "_scaled_dot_product_attention_math"),
            *("_scaled_dot_product_flash_attention_for_cpu", "scaled_dot_product_attention"),
            "_scaled_dot_product_fused_attention_overrideable",
        ),
        _same(2),
    ),
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "_reshape_alias", "flatten"), _viewed),
    **dict.fromkeys(("unflatten", "view_as"), _viewed),
    **dict.fromkeys(("mean", "sum", "amax", "amin", "select", "squeeze"), _dropped),
    "unbind": _unbound,
    **dict.fromkeys(("unsqueeze", "stack"), _inserted),
    **dict.fromkeys(("transpose", "t"), _transposed),
    "_grouped_mm": lambda run, args, result: _product(run, args[:2], result),
    "permute": _permuted,
    "expand": _expanded,
    "cat": _joined,
}
