"""One backbone, a thousand tasks in a bank.

Learn: how a generator that reads something costly (here: calibration measurements) is asked once
per task, then dropped; how rows of one batch name their task by number, or mix several.
"""

# %% A thousand sensors, each bent in its own way
# A sensor shows a reading r for a true value v. Sixteen known values were measured with each.
import time

import torch
from torch import Tensor, nn

import featurewise as fw
from featurewise.deploy import bank

torch.manual_seed(0)
SENSORS, STEPS, BATCH = 1000, 1000, 256
bent = torch.randn(SENSORS, 4) * torch.tensor([0.3, 0.5, 0.4, 0.5]) + torch.tensor([1.0, 0, 0, 2])


def reading(sensor: Tensor, value: Tensor) -> Tensor:
    """What ``sensor`` shows for ``value``."""
    gain, offset, depth, rate = bent[sensor].unbind(-1)
    return gain * value + offset + depth * torch.sin(rate * value)


known = torch.linspace(-2, 2, 16)
calibration = reading(torch.arange(SENSORS)[:, None], known)  # (1000, 16)

# %% One network for all, conditioned on the calibration
backbone = nn.Sequential(
    nn.Linear(1, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(),
    nn.Linear(64, 1),
)  # fmt: skip
net = fw.condition(backbone, at=["0", "2", "4"], generator=fw.MLP(16, (256, 256)))
optimizer = torch.optim.AdamW(net.parameters(), 3e-3)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
for _ in range(STEPS):
    sensor, value = torch.randint(SENSORS, (BATCH,)), torch.rand(BATCH) * 4 - 2
    guess = net(reading(sensor, value)[:, None], condition=calibration[sensor])[:, 0]
    loss = (guess - value).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()

# %% The bank takes the generator's place
# From here on a row says which sensor it comes from, and the measurements are not needed.
sensor, value = torch.arange(SENSORS), torch.rand(SENSORS) * 4 - 2
shown = reading(sensor, value)[:, None]


@torch.no_grad()
def timed(condition: Tensor) -> tuple[Tensor, float]:
    """Output, and the best of twenty times in milliseconds."""
    times = []
    for _ in range(20):
        begin = time.perf_counter()
        output = net(shown, condition=condition)
        times.append(1000 * (time.perf_counter() - begin))
    return output[:, 0], min(times)


generated, slow = timed(calibration)
rows = bank(net, calibration)
generator = net.replace_generator(rows)
banked, fast = timed(sensor)
error = (generated - value).square().mean().sqrt()
same = torch.allclose(generated, banked, atol=1e-5)
size = sum(p.numel() for p in generator.parameters())
print(
    f"error {error:.3f} of values spread by {value.std():.3f}; {slow:.2f} -> {fast:.2f} ms a batch"
)
print(f"generator {size:,} numbers; bank 1000 x {net.layout.size} = {1000 * net.layout.size:,}")
print(f"claim: bank and generator agree: {'held' if same else 'failed'}")
print(f"claim: it reads every sensor: {'held' if error < 0.25 * value.std() else 'failed'}")
