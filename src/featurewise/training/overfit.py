"""``OverfitMonitor``: warns once when a conditioned network begins to overfit."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping

from featurewise.common.text import short
from featurewise.core import ArgumentTypeError
from featurewise.core.numbers import is_finite
from featurewise.retrofit import Conditioned
from featurewise.retrofit.advice import LARGE, advice, size_of_generator
from featurewise.training.errors import ExperimentError


class OverfitWarning(UserWarning):
    """The gap between training and validation metric grows, and the generator is large."""


class OverfitMonitor:
    """Warns once when the generalisation gap grows and the generator is large.

    The warning contains the recommendations of ``advice`` for the network. There is no warning if
    the generator is small relative to its backbone: the gap then has other causes.

    Args:
        net: the conditioned network.
        patience: number of consecutive evaluations in which the gap must exceed all earlier gaps.
        large: a generator is large if its parameter count is at least this fraction of that of the
            backbone.
        higher_is_better: True for an accuracy, False for a loss.
        metric: name of the metric that ``report`` reads.
        examples: number of training examples, for the text of the warning.

    Attributes:
        gaps: gaps of all evaluations so far; positive if the validation metric is worse.
        warned: whether the warning has been given.

    Raises:
        ArgumentTypeError: ``net`` is no conditioned network.
        ExperimentError: ``patience`` below 1, or ``large`` negative or not finite.

    Example:
        >>> from torch import nn
        >>> import featurewise as fw
        >>> network = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))
        >>> net = fw.condition(network, at="0", generator=fw.Linear(16))
        >>> monitor = OverfitMonitor(net)
        >>> monitor.update(train=0.9, validation=1.0)
        False
    """

    def __init__(
        self,
        net: Conditioned,
        *,
        patience: int = 3,
        large: float = LARGE,
        higher_is_better: bool = False,
        metric: str = "loss",
        examples: int | None = None,
    ) -> None:
        if not isinstance(net, Conditioned):
            raise ArgumentTypeError(f"net must be a conditioned network, got {type(net).__name__}")
        if not isinstance(patience, int) or isinstance(patience, bool) or patience < 1:
            raise ExperimentError(f"patience must be an integer of at least 1, got {patience!r}")
        if not (isinstance(large, int | float) and is_finite(large) and large >= 0):
            raise ExperimentError(f"large must be finite and not negative, got {short(large)}")
        self.net = net
        self.patience = patience
        self.large = large
        self.higher_is_better = higher_is_better
        self.metric = metric
        self.examples = examples
        self.gaps: list[float] = []
        self.warned = False
        self._grown = 0
        self._train: float | None = None

    def update(self, *, train: float, validation: float) -> bool:
        """Adds one evaluation.

        Args:
            train: the metric on training data.
            validation: the same metric on validation data.

        Returns:
            Whether this call gave the warning.

        Raises:
            ExperimentError: a metric is infinite or NaN.

        Warns:
            OverfitWarning: at most once.
        """
        for name, value in (("train", train), ("validation", validation)):
            if not math.isfinite(value):
                raise ExperimentError(f"{name} must be finite, got {value}")
        gap = float(train - validation if self.higher_is_better else validation - train)
        wider = gap > 0 and bool(self.gaps) and gap > max(self.gaps)
        self._grown = self._grown + 1 if wider else 0
        self.gaps.append(gap)
        if self.warned or self._grown < self.patience or not self.is_large:
            return False
        self.warned = True
        warnings.warn(self._text(), OverfitWarning, stacklevel=2)
        return True

    @property
    def is_large(self) -> bool:
        """Whether the generator is currently large relative to its backbone."""
        backbone = sum(p.numel() for p in self.net.backbone.parameters())
        return size_of_generator(self.net) >= self.large * max(1, backbone)

    def report(self, step: int, kind: str, metrics: Mapping[str, float]) -> None:
        """Receives metrics of ``fit``; compares evaluations with the last training metric."""
        value = metrics.get(self.metric)
        if value is None:
            return
        if kind == "train":
            self._train = value
        elif self._train is not None:
            self.update(train=self._train, validation=value)

    def say(self, message: str) -> None:
        """Ignores messages; part of the `Reporter` protocol."""

    def _text(self) -> str:
        grown = " -> ".join(f"{gap:.4g}" for gap in self.gaps[-self.patience - 1 :])
        return (
            f"the gap between training and validation has grown over {self.patience} evaluations "
            f"({grown}), and the generator is large relative to its backbone\n"
            f"{advice(self.net, self.examples)}"
        )
