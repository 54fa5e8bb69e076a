"""A diffusion U-Net conditioned on a class, with guidance.

Learn: ``condition`` on a U-Net of diffusers that knows nothing of classes. Without a condition it
is the plain network, so that classifier-free guidance needs no empty class.
"""

# %% A U-Net that draws digits
# Real handwriting of 8 x 8 pixels. A support vector machine, trained apart, will be the judge.
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
pictures = torch.tensor(digits.images).float()[:, None] / 8 - 1  # in [-1, 1]
names = torch.tensor(digits.target)
judge = SVC(gamma=0.05).fit(pictures.flatten(1), names)

blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
sizes = {"in_channels": 1, "out_channels": 1, "sample_size": 8, "block_out_channels": (16, 32)}
unet = UNet2DModel(norm_num_groups=8, layers_per_block=1, add_attention=False, **blocks, **sizes)
noises = DDIMScheduler(100, clip_sample_range=1.0)

# %% Its group norms hear the class
# Three batches of four come with their classes; the others train the plain network.
net = fw.condition(unet, at=nn.GroupNorm, generator=fw.Lookup(10))


def loss(told: bool) -> Tensor:
    """Squared error of the predicted noise."""
    rows, time = torch.randint(len(names), (64,)), torch.randint(100, (64,))
    noise = torch.randn(64, 1, 8, 8)
    noisy = noises.add_noise(pictures[rows], noise, time)
    guess = net(noisy, time, condition=names[rows]) if told else unet(noisy, time)
    return (guess.sample - noise).square().mean()


STEPS, RATES = 400, [4e-3, 1e-1]
optimizer = torch.optim.Adam([{"params": m.parameters()} for m in (unet, net.generator)])
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATES, STEPS)
for step in range(STEPS):
    optimizer.zero_grad()
    loss(told=step % 4 > 0).backward()
    optimizer.step()
    schedule.step()

# %% Sample twenty of each class
wanted = torch.arange(10).repeat(20)


@torch.no_grad()
def sampled(weight: float) -> Tensor:
    """Twenty samples of each class, in [-1, 1]."""
    x = torch.randn(len(wanted), 1, 8, 8, generator=torch.Generator().manual_seed(2))
    noises.set_timesteps(15)
    for time in noises.timesteps:
        noise = guide(net, x, time, condition=wanted, weight=weight).sample
        x = noises.step(noise, time, x).prev_sample
    return x


samples = {weight: sampled(weight) for weight in (0.0, 1.0, 3.0)}
shares = {w: (judge.predict(x.flatten(1)) == wanted.numpy()).mean() for w, x in samples.items()}
for weight, share in shares.items():
    print(f"guidance {weight:.0f}: {share:.0%} read as wanted")
print(f"claim: the class is heard: {'held' if shares[1.0] > shares[0.0] + 0.15 else 'failed'}")
print(f"claim: guidance sharpens it: {'held' if shares[3.0] > shares[1.0] + 0.15 else 'failed'}")

# %% With weight 3: a column for each class
framed = nn.functional.pad(samples[3.0].clamp(-1, 1), (1, 1, 1, 1), value=-1.0)
grid = framed.view(20, 10, 10, 10)[:6].transpose(1, 2).reshape(60, 100)
Image.fromarray((127.5 * (grid + 1)).byte().numpy()).resize((800, 480), Image.Resampling.NEAREST)
