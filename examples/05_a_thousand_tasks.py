"""One backbone, a thousand tasks in a bank.

Learn: how to run a generator with a costly input (here: calibration measurements) once per task,
then replace it; how rows of one batch address their task by number.
"""

# %% A thousand sensors, each with its own non-linearity
# A sensor returns a reading r for a true value v. Sixteen known values were measured with each.
import time

import torch
from torch import Tensor, nn

import featurewise as fw
from featurewise.deploy import bank

torch.manual_seed(0)
SENSORS, STEPS, BATCH = 1000, 1000, 256
curves = torch.randn(SENSORS, 4) * torch.tensor([0.3, 0.5, 0.4, 0.5])
curves += torch.tensor([1.0, 0, 0, 2])


def reading(sensor: Tensor, value: Tensor) -> Tensor:
    """Reading of ``sensor`` for the true ``value``."""
    gain, offset, depth, frequency = curves[sensor].unbind(-1)
    return gain * value + offset + depth * torch.sin(frequency * value)


known = torch.linspace(-2, 2, 16)
calibration = reading(torch.arange(SENSORS)[:, None], known)  # (1000, 16)

# %% One network for all sensors, conditioned on the calibration
backbone = nn.Sequential(
    nn.Linear(1, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(),
    nn.Linear(64, 1),
)  # fmt: skip
net = fw.condition(backbone, at=["0", "2", "4"], generator=fw.MLP(16, (256, 256)))
optimizer = torch.optim.AdamW(net.parameters(), 3e-3)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
for _ in range(STEPS):
    sensor, value = torch.randint(SENSORS, (BATCH,)), torch.rand(BATCH) * 4 - 2
    estimate = net(reading(sensor, value)[:, None], condition=calibration[sensor])[:, 0]
    loss = (estimate - value).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()

# %% The bank replaces the generator
# From here on each row has the number of its sensor, and the measurements are not needed.
sensor, value = torch.arange(SENSORS), torch.rand(SENSORS) * 4 - 2
readings = reading(sensor, value)[:, None]


@torch.no_grad()
def timed(condition: Tensor) -> tuple[Tensor, float]:
    """Output, and the shortest of twenty times in milliseconds."""
    times = []
    for _ in range(20):
        begin = time.perf_counter()
        output = net(readings, condition=condition)
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
    f"root mean square error {error:.3f}, standard deviation of values {value.std():.3f}; "
    f"{slow:.2f} -> {fast:.2f} ms per batch"
)
print(f"generator {size:,} parameters; bank 1000 x {net.layout.size} = {1000 * net.layout.size:,}")
print(f"check: bank and generator agree: {'passed' if same else 'failed'}")
print(f"check: readings are corrected: {'passed' if error < 0.25 * value.std() else 'failed'}")
