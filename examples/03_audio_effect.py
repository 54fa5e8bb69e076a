"""Time-varying FiLM on audio: an effect whose knobs move during a clip.

Learn: parameters per time step, ``(B, N, T)``. One network models an overdrive and a low-pass
filter whose two knobs change continuously; with the mean of the knobs as its condition it cannot.
"""

# %% The effect to model
# `drive` distorts, `tone` is the coefficient of a one-pole filter. Both change during a clip.
import os
from pathlib import Path

import soundfile
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import featurewise as fw

SAMPLE_RATE, LENGTH = 8000, 1024


def clips(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Sawtooth chords ``(B, T)``, knobs ``(B, 2, T)``, and the output of the effect ``(B, T)``."""
    pitch, phase = 60 + 400 * torch.rand(count, 3, 1), torch.rand(count, 3, 1)
    dry = ((pitch * torch.arange(LENGTH) / SAMPLE_RATE + phase) % 1 - 0.5).mean(1)
    knobs = F.interpolate(torch.rand(count, 2, 9), LENGTH, mode="linear", align_corners=True)
    driven, tone = torch.tanh((1 + 7 * knobs[:, 0]) * dry), 0.05 + 0.9 * knobs[:, 1]
    wet = [torch.zeros(count)]
    for t in range(LENGTH):
        wet.append(wet[-1] + tone[:, t] * (driven[:, t] - wet[-1]))
    return dry, knobs, torch.stack(wet[1:], 1)


# %% A causal convolutional network over time
class Stack(nn.Module):
    """Residual layers with growing dilation."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv1d(1, 16, 1), nn.Conv1d(16, 1, 1)
        self.layers = nn.ModuleList(nn.Conv1d(16, 16, 3, dilation=2**i) for i in range(5))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T)`` sound -> sound."""
        y = self.first(x[:, None])
        for i, layer in enumerate(self.layers):
            y = y + layer(F.pad(y, (2 * 2**i, 0))).tanh()
        return self.last(y)[:, 0]


# %% Train it twice: with the moving knobs, and with their mean over the clip
torch.manual_seed(0)
data, test = clips(256), clips(64)
errors = {}
for name in ("moving", "standing"):
    torch.manual_seed(1)
    net = fw.condition(Stack(), at="layers.*", generator=fw.MLP(2, (16,)))
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    for step in range(301):
        rows = torch.randint(256, (16,))
        dry, knobs, wet = test if step == 300 else (part[rows] for part in data)
        with torch.set_grad_enabled(step < 300):
            output = net(dry, condition=knobs if name == "moving" else knobs.mean(2))
            loss = ((output - wet).square().mean(1) / wet.square().mean(1)).mean()
        if step < 300:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    errors[name] = loss.item()
    print(f"{name} knobs: error is {loss.item():.1%} of the signal energy on test clips")
    if "SOUNDS" in os.environ:  # a folder for the audio files
        soundfile.write(
            Path(os.environ["SOUNDS"]) / f"{name}.wav", output.flatten().numpy(), SAMPLE_RATE
        )
better = errors["moving"] < errors["standing"] / 2
print(f"check: moving knobs halve the error: {'passed' if better else 'failed'}")
