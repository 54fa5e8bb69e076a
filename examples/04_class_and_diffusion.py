"""A diffusion U-Net conditioned on a class, with guidance.

Learn: ``condition`` on an unconditional U-Net of diffusers. Without a condition the network is
unchanged, so classifier-free guidance needs no null class.
"""

# %% A U-Net that generates digits
# Handwritten digits of 8 x 8 pixels. A support vector machine is the evaluation classifier.
import torch
from diffusers import DDIMScheduler, UNet2DModel
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.svm import SVC
from torch import Tensor, nn

import featurewise as fw
from featurewise.retrofit import guide

torch.manual_seed(0)
digits = load_digits()
images = torch.tensor(digits.images).float()[:, None] / 8 - 1  # in [-1, 1]
targets = torch.tensor(digits.target)
classifier = SVC(gamma=0.05).fit(images.flatten(1), targets)
blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
sizes = {"in_channels": 1, "out_channels": 1, "sample_size": 8, "block_out_channels": (16, 32)}
unet = UNet2DModel(norm_num_groups=8, layers_per_block=1, add_attention=False, **blocks, **sizes)
scheduler = DDIMScheduler(100, clip_sample_range=1.0)

# %% Its group norms are conditioned on the class
# Three batches in four are trained with their classes, the others without a condition.
net = fw.condition(unet, at=nn.GroupNorm, generator=fw.Lookup(10))


def loss(conditional: bool) -> Tensor:
    """Squared error of the predicted noise."""
    rows, time = torch.randint(len(targets), (64,)), torch.randint(100, (64,))
    noise = torch.randn(64, 1, 8, 8)
    noisy = scheduler.add_noise(images[rows], noise, time)
    guess = net(noisy, time, condition=targets[rows]) if conditional else unet(noisy, time)
    return (guess.sample - noise).square().mean()


STEPS = 400
optimizer = torch.optim.Adam([{"params": m.parameters()} for m in (unet, net.generator)])
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [4e-3, 1e-1], STEPS)
for step in range(STEPS):
    optimizer.zero_grad()
    loss(conditional=step % 4 > 0).backward()
    optimizer.step()
    schedule.step()

# %% Sample twenty images of each class
labels = torch.arange(10).repeat(20)


@torch.no_grad()
def sampled(weight: float) -> Tensor:
    """Twenty samples of each class, in [-1, 1]."""
    x = torch.randn(len(labels), 1, 8, 8, generator=torch.Generator().manual_seed(2))
    scheduler.set_timesteps(15)
    for time in scheduler.timesteps:
        noise = guide(net, x, time, condition=labels, weight=weight).sample
        x = scheduler.step(noise, time, x).prev_sample
    return x


samples = {weight: sampled(weight) for weight in (0.0, 1.0, 3.0)}
accuracy = {}
for weight, x in samples.items():
    accuracy[weight] = (classifier.predict(x.flatten(1)) == labels.numpy()).mean()
    print(f"guidance {weight:.0f}: classifier accuracy on samples {accuracy[weight]:.0%}")
for what, low, high in (("conditioning", 0.0, 1.0), ("guidance", 1.0, 3.0)):
    gain = accuracy[high] - accuracy[low]
    print(f"check: {what} adds 15 points: {'passed' if gain > 0.15 else 'failed'}")

# %% Samples with weight 3: one column per class
framed = nn.functional.pad(samples[3.0].clamp(-1, 1), (1, 1, 1, 1), value=-1.0)
grid = framed.view(20, 10, 10, 10)[:6].transpose(1, 2).reshape(60, 100)
Image.fromarray((127.5 * (grid + 1)).byte().numpy()).resize((800, 480), Image.Resampling.NEAREST)
