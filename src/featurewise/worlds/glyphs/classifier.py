"""The evaluation classifier: recognises letters in generated images.

It is trained on typefaces that no generator is trained on, so that a generator cannot match it by
reproducing its training images.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from featurewise.common.cache import cache_folder
from featurewise.common.files import write_bytes
from featurewise.common.locks import file_lock
from featurewise.common.opening import read_bytes
from featurewise.worlds.files import as_json
from featurewise.worlds.glyphs.attributes import ATTRIBUTES
from featurewise.worlds.glyphs.errors import GlyphError
from featurewise.worlds.glyphs.render import FORMAT_VERSION, Glyphs, glyphs
from featurewise.worlds.glyphs.source import GlyphSource, as_ink
from featurewise.worlds.glyphs.typefaces import Split, find_typefaces, split_typefaces

#: Increase it whenever the network, its training or its state dict changes.
_VERSION: Final = 2
_EVAL_BATCH: Final = 512


@dataclass(frozen=True)
class ClassifierConfig:
    """How a classifier is trained: Adam with a cosine schedule, cross-entropy on jittered letters.

    Attributes:
        steps: training steps.
        batch_size: images in a batch.
        width: channels after the first convolution.
        learning_rate: initial learning rate; it decays to 0 along half a cosine.
        jitter: as in :class:`featurewise.worlds.glyphs.source.GlyphSource`.
    """

    steps: int = 900
    batch_size: int = 64
    width: int = 24
    learning_rate: float = 4e-3
    jitter: float = 1.0


class Classifier(nn.Module):
    """Classifies letters, and regresses the attributes of their typeface.

    Three convolutions, each with batch normalisation and max pooling by 2, then one linear layer
    for the letters and one for the four attributes. :func:`evaluation_classifier` returns it in
    evaluation mode.

    Args:
        alphabet: the letters it knows, in the order of its logits.
        size: height and width of the images, 8 or more.
        width: channels after the first convolution; the other two have twice as many.

    Attributes:
        real_accuracy: accuracy on real images, 0 to 1: all letters of the test typefaces, without
            jitter. NaN before training.
        mean: mean of each attribute over the training typefaces.
        std: standard deviation of each attribute over the training typefaces.
    """

    real_accuracy: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, alphabet: str, size: int, width: int = 24) -> None:
        super().__init__()
        self.alphabet, self.size = alphabet, size
        widths = [1, width, 2 * width, 2 * width]
        self.features = nn.Sequential(
            *(_block(a, b) for a, b in pairwise(widths)),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
        )
        self.letter_head = nn.Linear(8 * width, len(alphabet))
        self.attribute_head = nn.Linear(8 * width, len(ATTRIBUTES))
        self.register_buffer("real_accuracy", torch.tensor(float("nan")))
        self.register_buffer("mean", torch.zeros(len(ATTRIBUTES)))
        self.register_buffer("std", torch.ones(len(ATTRIBUTES)))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the letters (N, L), and standardised attributes (N, 4).

        Raises:
            GlyphError: images of another shape than (N, 1, S, S).
        """
        if images.ndim != 4 or images.shape[1:] != (1, self.size, self.size):
            raise GlyphError(
                f"this classifier takes images (N, 1, {self.size}, {self.size}), "
                f"got {tuple(images.shape)}"
            )
        features = self.features(images)
        return self.letter_head(features), self.attribute_head(features)

    def letters(self, images: Float[Tensor, "N 1 S S"]) -> Float[Tensor, "N L"]:
        """Logits of the letters, in the order of ``alphabet``; ink is 1, background 0."""
        logits: Tensor = self(images)[0]
        return logits

    def attributes(self, images: Float[Tensor, "N 1 S S"]) -> Float[Tensor, "N 4"]:
        """Estimated weight, slant (degrees), serif and width of each letter's typeface."""
        attributes: Tensor = self(images)[1]
        return attributes * self.std + self.mean

    @torch.no_grad()
    def accuracy(self, glyphs: Glyphs) -> float:
        """Accuracy, 0 to 1, on every letter of every typeface once, without jitter.

        Raises:
            GlyphError: letters that the classifier does not know, or another image size.
        """
        if unknown := sorted(set(glyphs.letters) - set(self.alphabet)):
            raise GlyphError(f"this classifier knows {self.alphabet!r}, not {''.join(unknown)!r}")
        images = as_ink(glyphs.images.flatten(0, 1))
        parts = torch.split(images, _EVAL_BATCH)
        predictions = torch.cat([self.letters(part).argmax(1) for part in parts])
        labels = torch.tensor([self.alphabet.index(letter) for letter in glyphs.letters])
        return float((predictions == labels.repeat(len(glyphs.typefaces))).double().mean())


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )


def evaluation_classifier(
    where: str | Path | Split,
    letters: str,
    size: int,
    *,
    seed: int = 0,
    config: ClassifierConfig = ClassifierConfig(),
) -> Classifier:
    """The evaluation classifier of some typefaces, trained at the first call, then cached.

    It is trained on the ``classifier`` part of a split only, so that the other parts are free for
    the generators it evaluates. The cached weights are checked by their SHA-256; damaged ones are
    trained again.

    Args:
        where: a split; or a location as in
            :func:`featurewise.worlds.glyphs.typefaces.find_typefaces`, for
            ``split_typefaces(find_typefaces(where, letters), seed)``. Which typefaces are found,
            and so the split, depends on the letters: pass the split that the generator uses.
        letters: the letters it classifies.
        size: height and width of the images, in pixels.
        seed: of the split, the initial weights and the batches.
        config: how it is trained.

    Raises:
        TypefaceError: no or too few typefaces.
        GlyphError: wrong letters, or a wrong size.
    """
    split = (
        where if isinstance(where, Split) else split_typefaces(find_typefaces(where, letters), seed)
    )
    train, test = (glyphs(part, letters, size) for part in (split.classifier, split.test))
    identity = {
        "version": [_VERSION, FORMAT_VERSION],
        "train": [typeface.digest for typeface in train.typefaces],
        "test": [typeface.digest for typeface in test.typefaces],
        "letters": letters,
        "size": size,
        "seed": seed,
        "config": asdict(config),
    }
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    folder = cache_folder() / "glyphs" / "classifiers"
    path = folder / f"{digest[:16]}.safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    with file_lock(path.with_suffix(".lock")):
        network = _cached(path, identity, Classifier(letters, size, config.width))
        if network is None:
            network = train_classifier(train, seed, config)
            network.real_accuracy.fill_(network.accuracy(test))
            content = save(network.state_dict())
            write_bytes(path, content)
            sha256 = hashlib.sha256(content).hexdigest()
            write_bytes(path.with_suffix(".json"), as_json({**identity, "sha256": sha256}))
    return network


def _cached(path: Path, identity: Mapping[str, Any], network: Classifier) -> Classifier | None:
    """The network with the cached weights; None if they are missing, damaged or of another one."""
    try:
        manifest = json.loads(read_bytes(path.with_suffix(".json")))
        content = read_bytes(path)
        if manifest != {**identity, "sha256": hashlib.sha256(content).hexdigest()}:
            return None
        network.load_state_dict(load(content))
    except (OSError, ValueError, RuntimeError, SafetensorError):
        return None
    return network.eval().requires_grad_(False)


@torch.enable_grad()
def train_classifier(glyphs: Glyphs, seed: int, config: ClassifierConfig) -> Classifier:
    """A classifier trained on letters and attributes of ``glyphs``.

    The global random state is restored. Gradients are enabled even if the caller disabled them.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Classifier(glyphs.letters, glyphs.size, config.width)
    targets = torch.stack([glyphs.attributes[name] for name in ATTRIBUTES], dim=1)
    network.mean.copy_(targets.nanmean(0).nan_to_num())
    std = (targets - network.mean).square().nanmean(0).sqrt().nan_to_num(1.0)
    network.std.copy_(std.clamp_min(1e-3))
    targets = (targets - network.mean) / network.std
    source = GlyphSource(glyphs, config.batch_size, seed, config.jitter)
    optimizer = torch.optim.Adam(network.parameters(), config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    for step in range(config.steps):
        batch = source.batch(step)
        logits, attributes = network(batch.images)
        target = targets[batch.typefaces]
        error = torch.where(target.isnan(), 0.0, attributes - target)
        loss = F.cross_entropy(logits, batch.letters) + 0.1 * error.square().mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    return network.eval().requires_grad_(False)
