"""Recurrent networks with the same weights at every character, and the multiplicative RNN."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

import featurewise as fw

States: TypeAlias = tuple[Tensor, ...]
"""The states of a recurrent network after a character; the first is its output h."""

Step: TypeAlias = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(sums of the gates, c) -> h and c."""


def lstm_step(
    y: Float[Tensor, "B G"], c: Float[Tensor, "B H"]
) -> tuple[Float[Tensor, "B H"], Float[Tensor, "B H"]]:
    """H and c of an LSTM from the sums of its gates i, f, o and of its input g."""
    width = c.shape[1]
    i, f, o = y[:, : 3 * width].sigmoid().chunk(3, 1)
    c = f * c + i * y[:, 3 * width :].tanh()
    return o * c.tanh(), c


def start_gates(hidden: Tensor, bias: Tensor) -> None:
    """Orthogonal recurrent weights of each gate; a bias of 1 for the forget gate."""
    with torch.no_grad():
        for gate in hidden.chunk(4):
            nn.init.orthogonal_(gate)
        bias.zero_()
        bias.chunk(4)[1].fill_(1)


class LSTM(nn.Module):
    """y = W_h h + W_x x + b; then `lstm_step`."""

    def __init__(self, embedding: int, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, 4 * width)
        self.inputs = nn.Linear(embedding, 4 * width, bias=False)
        start_gates(self.hidden.weight, self.hidden.bias)
        self.width = width

    def forward(
        self, x: Float[Tensor, "B T E"], read: Float[Tensor, "B T E"]
    ) -> list[States]:
        """H and c after each character; ``read`` is not used."""
        h = c = x.new_zeros(len(x), self.width)
        found: list[States] = []
        for inputs in self.inputs(x).unbind(1):
            h, c = self.step(inputs, h, c)
            found.append((h, c))
        return found

    def step(
        self, inputs: Float[Tensor, "B G"], h: Float[Tensor, "B H"], c: Tensor
    ) -> tuple[Tensor, Tensor]:
        """H and c after a character, from W_x x."""
        return lstm_step(inputs + self.hidden(h), c)


class NormStep(nn.Module):
    """`lstm_step` with layer norm of each gate's sum, and of the cell (Ba et al. 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4, width))
        self.shift = nn.Parameter(torch.zeros(4, width))
        nn.init.ones_(self.shift.detach()[1])  # the forget gate
        self.norm = nn.LayerNorm(width)
        self.width = width

    def forward(
        self, y: Float[Tensor, "B G"], c: Float[Tensor, "B H"]
    ) -> tuple[Float[Tensor, "B H"], Float[Tensor, "B H"]]:
        """H and c from the sums of the gates i, f, o and of the input g."""
        y = F.layer_norm(y.reshape(len(y), 4, self.width), (self.width,))
        y = (y * self.scale + self.shift).flatten(1)
        i, f, o = y[:, : 3 * self.width].sigmoid().chunk(3, 1)
        c = f * c + i * y[:, 3 * self.width :].tanh()
        return o * self.norm(c).tanh(), c


class NormLSTM(LSTM):
    """An LSTM with `NormStep`, as the paper's baseline; its sums have no other bias."""

    def __init__(self, embedding: int, width: int) -> None:
        super().__init__(embedding, width)
        self.hidden.register_parameter("bias", None)
        self.normalize = NormStep(width)

    def step(
        self, inputs: Float[Tensor, "B G"], h: Float[Tensor, "B H"], c: Tensor
    ) -> tuple[Tensor, Tensor]:
        """H and c after a character, from W_x x."""
        found: tuple[Tensor, Tensor] = self.normalize(inputs + self.hidden(h), c)
        return found


class RNN(nn.Module):
    """h = tanh(W_h h + W_x x + b)."""

    def __init__(self, embedding: int, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, width)
        self.inputs = nn.Linear(embedding, width, bias=False)
        nn.init.orthogonal_(self.hidden.weight)
        self.width = width

    def forward(
        self, x: Float[Tensor, "B T E"], read: Float[Tensor, "B T E"]
    ) -> list[States]:
        """H after each character; ``read`` is not used."""
        h = x.new_zeros(len(x), self.width)
        found: list[States] = []
        for inputs in self.inputs(x).unbind(1):
            h = (inputs + self.hidden(h)).tanh()
            found.append((h,))
        return found


class MultiplicativeRNN(RNN):
    """Sutskever, Martens & Hinton 2011: the character scales factors of the state.

    f = (W_fx x) * (W_fh h); h = tanh(W_hf f + W_x x + b).
    """

    def __init__(self, embedding: int, width: int) -> None:
        super().__init__(embedding, width)  # its matrix `hidden` is W_hf
        self.factors = nn.Linear(width, width, bias=False)  # W_fh
        self.scales = nn.Linear(embedding, width)  # W_fx; at the beginning about 1
        nn.init.orthogonal_(self.factors.weight)
        nn.init.ones_(self.scales.bias)

    def forward(
        self, x: Float[Tensor, "B T E"], read: Float[Tensor, "B T E"]
    ) -> list[States]:
        """H after each character; ``read`` is not used."""
        h = x.new_zeros(len(x), self.width)
        found: list[States] = []
        scales, added = self.scales(x).unbind(1), self.inputs(x).unbind(1)
        for scale, inputs in zip(scales, added, strict=True):
            f = fw.film(self.factors(h), scale, None)
            h = (inputs + self.hidden(f)).tanh()
            found.append((h,))
        return found


NETWORKS: Mapping[str, type[LSTM] | type[RNN]] = {
    "lstm": LSTM,
    "norm": NormLSTM,
    "multiplicative": MultiplicativeRNN,
    "rnn": RNN,
}
"""The baselines by name."""
