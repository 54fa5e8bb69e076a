"""Conditional norms: a norm without its affine part, then FiLM (Dumoulin et al. 2018).

``condition_features``, ``operation`` and ``generator`` are those of ``FiLM``. Without condition
features or a generator, the FiLM is a declared site, and the norm has no affine part.

As norms of torch do, these keep their input for the backward pass where it needs gradients itself:
it must not be changed in place then. An input that needs none may be.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from featurewise.common.text import short
from featurewise.core import Affine, ArgumentTypeError, Operation, ShapeError
from featurewise.core.broadcast import check_features
from featurewise.core.kernels import (
    batch_norm_film,
    compute_dtype,
    gpu_kernels,
    group_norm_film,
    layer_norm,
    layer_norm_film,
    rms_norm,
    rms_norm_film,
    takes_kernels,
)
from featurewise.core.numbers import is_finite
from featurewise.generators import ConditionError, GeneratorError
from featurewise.generators.base import check_ids, check_range, positive
from featurewise.layers.film import FiLM

_POLICIES: Final = ("batch", "frozen", "per_condition")


class _ConditionalNorm(nn.Module, ABC):
    """A norm without affine part, then FiLM."""

    def __init__(
        self,
        features: int,
        condition_features: int | None,
        operation: Operation | str,
        axis: int,
        generator: nn.Module | None,
        eps: float,
    ) -> None:
        super().__init__()
        if not isinstance(eps, int | float) or isinstance(eps, bool):
            raise ArgumentTypeError(f"eps must be a number, got {type(eps).__name__}")
        if not (is_finite(eps) and eps > 0):
            raise GeneratorError(f"eps must be positive and finite, got {short(eps)}")
        self.film = FiLM(
            features, condition_features, operation=operation, axis=axis, generator=generator
        )
        self.features, self.axis, self.eps = features, axis, eps

    @abstractmethod
    def normalize(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The norm without FiLM."""

    def forward(self, x: Float[Tensor, "..."], condition: Any = None) -> Float[Tensor, "..."]:
        """Normalised, then modulated features, of the shape and dtype of ``x``.

        Args:
            x: features, samples on axis 0.
            condition: the condition of the generator; None without a generator.

        Raises:
            ConditionError: if the condition is missing or superfluous.
            ShapeError: a shape that does not fit.
            ArgumentTypeError: an argument of the wrong type, dtype or device.
        """
        check_features(x, self.features, self.axis, 0, type(self).__name__)
        self._check_norm(x)
        kernel = self._kernel()
        fusable = kernel is not None and isinstance(self.film, FiLM) and self.film.is_fusable
        if kernel is not None and fusable and (takes_kernels(x) or gpu_kernels(x) is not None):
            raw, pair = self.film.parameters_for(x, condition)
            scale, shift = pair or (None, None)
            if scale is not None and shift is not None:
                return kernel(x, scale, shift)
            return self.film.modulate(self.normalize(x), raw, pair)
        y: Tensor = self.film(self.normalize(x), condition)
        return y

    def _check_norm(self, x: Tensor) -> None:
        """Check that the statistics exist."""

    def _kernel(self) -> Callable[[Tensor, Tensor, Tensor], Tensor] | None:
        """Norm and FiLM in one pass, from features, scale and shift; None where there is none.

        Not for subclasses, whose ``normalize`` may be another one.
        """
        return None

    def extra_repr(self) -> str:
        """The eps, for ``repr``."""
        return f"eps={self.eps}"


class ConditionalBatchNorm(_ConditionalNorm):
    """Conditional batch normalisation (de Vries et al. 2017) of ``(B, C, *positions)``.

    The policy determines the mean and the variance for normalisation:

    * "batch": those of the batch in training, running averages in evaluation, as usual;
    * "frozen": always the running averages, which are never updated (for a pretrained network);
    * "per_condition": as "batch", but with separate averages for each condition; a sample is
      normalised with the samples of its condition (domain-specific batch normalisation, Chang
      et al. 2019).

    In evaluation the samples of a batch are independent, under every policy.

    Args:
        features: C.
        condition_features: width of the condition.
        operation: of the FiLM.
        generator: instead of ``condition_features``.
        statistics: the policy.
        conditions: number of conditions with separate averages; only for "per_condition".
        momentum: weight of the new batch in a running average, in (0, 1].
        eps: added to the variance.

    Raises:
        GeneratorError: an unknown policy, a number out of range, or ``conditions`` without
            "per_condition" or the reverse.
        ArgumentTypeError: an argument of the wrong kind.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self,
        features: int,
        condition_features: int | None = None,
        *,
        operation: Operation | str = Affine(),  # noqa: B008 (frozen)
        generator: nn.Module | None = None,
        statistics: str = "batch",
        conditions: int | None = None,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> None:
        super().__init__(features, condition_features, operation, 1, generator, eps)
        if statistics not in _POLICIES:
            raise GeneratorError(
                f"statistics must be one of {', '.join(_POLICIES)}, got {statistics!r}"
            )
        if (conditions is not None) != (statistics == "per_condition"):
            raise GeneratorError(
                "conditions is needed for statistics='per_condition', and only there"
            )
        if not isinstance(momentum, int | float) or isinstance(momentum, bool):
            raise ArgumentTypeError(f"momentum must be a number, got {type(momentum).__name__}")
        if not 0 < momentum <= 1:
            raise GeneratorError(f"momentum must lie in (0, 1], got {short(momentum)}")
        self.statistics, self.momentum = statistics, momentum
        self.conditions = None if conditions is None else positive(conditions, "conditions")
        shape = (features,) if self.conditions is None else (self.conditions, features)
        self.register_buffer("running_mean", torch.zeros(shape))
        self.register_buffer("running_var", torch.ones(shape))

    def normalize(
        self, x: Float[Tensor, "..."], ids: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, "..."]:
        """The norm without FiLM; ``ids`` as in ``forward``."""
        if self.statistics != "per_condition":
            if ids is not None:
                raise ConditionError(f"statistics={self.statistics!r} takes no ids")
            training = self.training and self.statistics == "batch"
            if training:
                _check_samples(x.numel() // self.features, "the batch")
            averages = self.running_mean, self.running_var
            return F.batch_norm(x, *averages, None, None, training, self.momentum, self.eps)
        checked = self._check_ids(ids, x)
        mean, var = self._group_statistics(x, checked) if self.training else self._averages(checked)
        lift, compute = (*mean.shape, *(1 for _ in x.shape[2:])), compute_dtype(x)
        scale = (var.to(compute).reshape(lift) + self.eps).rsqrt()
        return ((x.to(compute) - mean.to(compute).reshape(lift)) * scale).to(x.dtype)

    def forward(
        self,
        x: Float[Tensor, "..."],
        condition: Any = None,
        ids: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "..."]:
        """Normalised, then modulated features.

        Args:
            x: features ``(B, C, *positions)``.
            condition: the condition of the generator; None without a generator.
            ids: condition of each sample, which selects its averages; only for "per_condition".

        Raises:
            ConditionError: a condition or ids are missing, superfluous or out of range.
            ShapeError: a shape that does not fit; a single value per feature in training.
            ArgumentTypeError: an argument of the wrong type, dtype or device.
        """
        if ids is None:
            return super().forward(x, condition)
        check_features(x, self.features, 1, 0, type(self).__name__)
        y: Tensor = self.film(self.normalize(x, ids), condition)
        return y

    def _kernel(self) -> Callable[[Tensor, Tensor, Tensor], Tensor] | None:
        """With running averages."""
        running = self.statistics == "frozen" or (self.statistics == "batch" and not self.training)
        if not running or type(self) is not ConditionalBatchNorm:
            return None
        mean, variance = self.running_mean, self.running_var
        return partial(batch_norm_film, mean=mean, variance=variance, eps=self.eps)

    def _check_ids(self, ids: Tensor | None, x: Tensor) -> Tensor:
        if ids is None:
            raise ConditionError("statistics='per_condition' needs ids, one per sample")
        check_ids(ids, "ids")
        if ids.shape != x.shape[:1]:
            raise ShapeError(f"ids must be ({len(x)},), got {tuple(ids.shape)}")
        check_range(ids, len(self.running_mean), "ids")
        return ids

    def _averages(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        return self.running_mean[ids], self.running_var[ids]

    def _group_statistics(self, x: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance ``(B, C)`` of the samples with the same id; updates the averages."""
        x = x.to(compute_dtype(x)).flatten(2) if x.ndim > 2 else x.to(compute_dtype(x)).unsqueeze(2)
        blank = x.new_zeros(self.running_mean.shape)
        count = x.new_zeros(len(blank)).index_add(0, ids, x.new_full(ids.shape, x.shape[2]))
        if not torch.compiler.is_compiling():
            _check_samples(int(count[ids].min()) if len(ids) else 0, "a condition")
        per_value = 1.0 / count[ids].unsqueeze(1)
        mean = blank.index_add(0, ids, x.sum(2) * per_value)[ids]
        square = (x - mean.unsqueeze(2)).square().sum(2)
        var = blank.index_add(0, ids, square * per_value)[ids]
        with torch.no_grad():
            unbiased = var * (count / (count - 1))[ids].unsqueeze(1)
            for average, new in ((self.running_mean, mean), (self.running_var, unbiased)):
                average[ids] = torch.lerp(average[ids], new.to(average.dtype), self.momentum)
        return mean, var

    def extra_repr(self) -> str:
        """Policy, momentum and eps, for ``repr``."""
        return f"statistics={self.statistics!r}, momentum={self.momentum}, eps={self.eps}"


class ConditionalInstanceNorm(_ConditionalNorm):
    """Conditional instance normalisation (Dumoulin et al. 2017, eq. 5) of ``(B, C, *positions)``.

    Args:
        features: C.
        condition_features: width of the condition.
        operation: of the FiLM.
        generator: instead of ``condition_features``.
        eps: added to the variance.
    """

    def __init__(
        self,
        features: int,
        condition_features: int | None = None,
        *,
        operation: Operation | str = Affine(),  # noqa: B008 (frozen)
        generator: nn.Module | None = None,
        eps: float = 1e-5,
    ) -> None:
        super().__init__(features, condition_features, operation, 1, generator, eps)

    def normalize(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The norm without FiLM.

        Raises:
            ShapeError: if a sample has fewer than two positions.
        """
        self._check_norm(x)
        # Groups of one feature: equal to F.instance_norm, and several times faster.
        return F.group_norm(x, self.features, eps=self.eps)

    def _check_norm(self, x: Tensor) -> None:
        if math.prod(x.shape[2:]) < 2:
            raise ShapeError(f"instance norm needs two positions or more, x is {tuple(x.shape)}")

    def _kernel(self) -> Callable[[Tensor, Tensor, Tensor], Tensor] | None:
        if type(self) is not ConditionalInstanceNorm:
            return None
        return partial(group_norm_film, groups=self.features, eps=self.eps)


class ConditionalGroupNorm(_ConditionalNorm):
    """Conditional group normalisation of ``(B, C, *positions)``.

    The scale-shift norm of diffusion U-Nets (Dhariwal & Nichol 2021, section 3).

    Args:
        groups: number of groups.
        features: C, a multiple of ``groups``.
        condition_features: width of the condition.
        operation: of the FiLM.
        generator: instead of ``condition_features``.
        eps: added to the variance.

    Raises:
        GeneratorError: if the groups do not divide the features.
    """

    def __init__(
        self,
        groups: int,
        features: int,
        condition_features: int | None = None,
        *,
        operation: Operation | str = Affine(),  # noqa: B008 (frozen)
        generator: nn.Module | None = None,
        eps: float = 1e-5,
    ) -> None:
        super().__init__(features, condition_features, operation, 1, generator, eps)
        if features % positive(groups, "groups"):
            raise GeneratorError(f"groups={groups} does not divide features={features}")
        self.groups = groups

    def normalize(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The norm without FiLM.

        Raises:
            ShapeError: if a group of a sample has a single value.
        """
        self._check_norm(x)
        return F.group_norm(x, self.groups, eps=self.eps)

    def _check_norm(self, x: Tensor) -> None:
        if self.features // self.groups * math.prod(x.shape[2:]) < 2:
            raise ShapeError(f"a group of x{tuple(x.shape)} has fewer than two values")

    def _kernel(self) -> Callable[[Tensor, Tensor, Tensor], Tensor] | None:
        if type(self) is not ConditionalGroupNorm:
            return None
        return partial(group_norm_film, groups=self.groups, eps=self.eps)


class ConditionalLayerNorm(_ConditionalNorm):
    """Conditional layer normalisation over the features of every position.

    The adaptive layer norm of transformers (Peebles & Xie 2023, section 3.2).

    Args:
        features: C.
        condition_features: width of the condition.
        operation: of the FiLM.
        axis: feature axis of x; default: the last, as in ``(B, T, C)``.
        generator: instead of ``condition_features``.
        eps: added to the variance.
    """

    def __init__(
        self,
        features: int,
        condition_features: int | None = None,
        *,
        operation: Operation | str = Affine(),  # noqa: B008 (frozen)
        axis: int = -1,
        generator: nn.Module | None = None,
        eps: float = 1e-5,
    ) -> None:
        super().__init__(features, condition_features, operation, axis, generator, eps)

    def normalize(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The norm without FiLM."""
        return layer_norm(x, self.axis, self.eps)

    def _kernel(self) -> Callable[[Tensor, Tensor, Tensor], Tensor] | None:
        if type(self) is not ConditionalLayerNorm:
            return None
        return lambda x, scale, shift: layer_norm_film(
            x, scale, shift, self.axis % x.ndim, self.eps
        )


class ConditionalRMSNorm(_ConditionalNorm):
    """Conditional root-mean-square normalisation (Zhang & Sennrich 2019, eq. 4).

    Args:
        features: C.
        condition_features: width of the condition.
        operation: of the FiLM; ``Scale()`` is a conditional form of the usual gain.
        axis: feature axis of x; default: the last, as in ``(B, T, C)``.
        generator: instead of ``condition_features``.
        eps: added to the mean square.
    """

    def __init__(
        self,
        features: int,
        condition_features: int | None = None,
        *,
        operation: Operation | str = Affine(),  # noqa: B008 (frozen)
        axis: int = -1,
        generator: nn.Module | None = None,
        eps: float = 1e-6,
    ) -> None:
        super().__init__(features, condition_features, operation, axis, generator, eps)

    def normalize(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The norm without FiLM."""
        return rms_norm(x, self.axis, self.eps)

    def _kernel(self) -> Callable[[Tensor, Tensor, Tensor], Tensor] | None:
        if type(self) is not ConditionalRMSNorm:
            return None
        return lambda x, scale, shift: rms_norm_film(x, scale, shift, self.axis % x.ndim, self.eps)


def _check_samples(values: int, of: str) -> None:
    if values < 2:
        raise ShapeError(
            f"{of} has {values} value per feature: training statistics need at least two"
        )
