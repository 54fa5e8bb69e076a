"""From an existing hand-written FiLM class to featurewise, in five lines.

Learn: how to copy trained weights, how to convert the order (shift, scale) of your class to
(gamma, beta) of the library, and what you gain: task representations, mixing, and removal.
"""

# %% Your code: a network with FiLM layers inside
# Every forward passes the condition on, and each layer has a linear map of its own.
import torch
from torch import Tensor, nn

import featurewise as fw

torch.manual_seed(0)


class HandWritten(nn.Module):
    """A common form: γ is offset from one, the output is chunked as shift, scale."""

    def __init__(self, width: int, condition: int) -> None:
        super().__init__()
        self.width, self.linear = width, nn.Linear(condition, 2 * width)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """``(1 + scale) * x + shift``."""
        shift, scale = self.linear(z)[:, :, None, None].chunk(2, dim=1)
        return x * (1 + scale) + shift


class Network(nn.Module):
    """Three blocks of convolution, batch norm, FiLM."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3) for a, b in ((3, 16), (16, 32), (32, 64)))
        self.norms = nn.ModuleList(nn.BatchNorm2d(c) for c in (16, 32, 64))
        self.films = nn.ModuleList(HandWritten(c, 8) for c in (16, 32, 64))

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        """Features, averaged over positions."""
        for conv, norm, film in zip(self.convs, self.norms, self.films, strict=True):
            x = film(norm(conv(x)), z).relu()
        return x.mean((2, 3))


network = Network().eval()
images, z = torch.rand(5, 3, 16, 16), torch.randn(5, 8)
before = network(images, z)
old = {name: m for name, m in network.named_modules() if isinstance(m, HandWritten)}

# %% The five lines
# Each old layer becomes a `FiLM` layer without a generator; its linear map becomes rows of one
# generator, in the order of the layout: site by site, γ before β. `roll` turns (shift, scale)
# into (gamma, beta).
for name, film in old.items():
    network.set_submodule(name, fw.FiLM(film.width))
net = fw.condition(network, at=fw.FiLM, generator=fw.Linear(8))
for key, value in net.generator.head.named_parameters():
    value.data = torch.cat([f.linear.get_parameter(key).roll(f.width, 0) for f in old.values()])

# %% The same function
after = net(images, condition=z)
error = (after - before).abs().max().item()
print(net.layout)
print(f"largest difference of an output: {error:.1e}")
print(f"check: outputs are equal to 1e-5: {'passed' if error < 1e-5 else 'failed'}")

# %% What you gain
# Task representations can be mixed, and zero is the network without conditioning.
a, b = net.represent(z[0]), net.represent(z[1])
halfway = net(images, task=a.lerp(b, 0.5))
base = net.remove()(images)
print(f"between two conditions: {halfway.shape}; without condition: {base.shape}")
