"""Method of FiLM-EfficientNet: a sentence modulates each MBConv of a pretrained network.

The encoder of RT-1 and Q-Transformer. EfficientNet-Lite0 has the weights of ImageNet and is
frozen; what is trained is FiLM, of which both linear maps start at zero, and the head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

import featurewise as fw
from featurewise.models.pretrained import efficientnet_lite0
from featurewise.models.pretrained.efficientnet_lite0 import EfficientNetLite0, MBConv
from featurewise.study import system
from featurewise.training.optim import cosine
from featurewise.training.steppers import Metrics, Supervised
from featurewise.worlds.vqa.composed import ANSWERS

Backbone: TypeAlias = Literal["efficientnet_lite0", "random"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(system.Config):
    """One network and its training.

    Attributes:
        film: how the maps W and V start: at "zero", or with "glorot"; or "none" where there is
            no FiLM.
        reads: what the head reads: the "image", modulated or not; image and sentence "both";
            or the "sentence" alone.
        shuffled: whether each image gets the sentence of another one, as a control.
        backbone: "efficientnet_lite0", pretrained; or "random", three blocks, for tests.
        images: photographs of "debian" packages, or "patterns", for tests.
        sentences: embeddings by "minilm", pretrained; or "random" ones of words, for tests.
        width: of the embeddings.
        size: height and width of the images, in pixels.
        hidden: units of the head.
        batch_size: images per batch.
        learning_rate: of Adam, at its highest; it falls along a cosine.
        test_batches: batches that are tested on.
    """

    film: Literal["zero", "glorot", "none"] = "zero"
    reads: Literal["image", "both", "sentence"] = "image"
    shuffled: bool = False
    backbone: Backbone = "efficientnet_lite0"
    images: Literal["debian", "patterns"] = "debian"
    sentences: Literal["minilm", "random"] = "minilm"
    width: int = 384
    size: int = 64
    hidden: int = 256
    batch_size: int = 32
    learning_rate: float = 3e-3
    test_batches: int = 32


@dataclass(frozen=True)
class Batch:
    """Images, each with a sentence.

    Attributes:
        images: RGB.
        sentence: embedding of the sentence, of length 1.
        answers: index of the answer.
    """

    images: UInt8[Tensor, "B 3 S S"]
    sentence: Float[Tensor, "B F"]
    answers: Int64[Tensor, " B"]


class Small(nn.Module):
    """Three MBConv blocks with random weights, in the place of the pretrained network."""

    def __init__(self) -> None:
        super().__init__()
        self._blocks = nn.ModuleList(
            MBConv(before, after, 2, 3, 2)
            for before, after in ((3, 8), (8, 12), (12, 16))
        )
        self._fc = nn.Linear(16, 10)

    def forward(self, x: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N _"]:
        """Logits."""
        for block in self._blocks:
            x = block(x)
        logits: Tensor = self._fc(x.mean((2, 3)))
        return logits


def backbone_of(name: Backbone) -> EfficientNetLite0 | Small:
    """The frozen network with its classifier, in evaluation mode.

    Raises:
        WeightsError: the pretrained weights are not in the cache.
    """
    if name == "efficientnet_lite0":
        network = efficientnet_lite0.load().requires_grad_(False)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return network
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Small().requires_grad_(False).eval()


def prepared(images: UInt8[Tensor, "N 3 S S"]) -> Float[Tensor, "N 3 S S"]:
    """Inputs of the network, in the order that is fastest on a CPU."""
    inputs = efficientnet_lite0.prepare(images, None)
    return inputs.contiguous(memory_format=torch.channels_last)


def width_of(backbone: EfficientNetLite0 | Small) -> int:
    """Features that the classifier reads."""
    return int(backbone._fc.in_features)


def glorot(generator: fw.Linear, layout: fw.Layout, features: int) -> None:
    """Uniform weights of each map W and V, of a variance of 2 / (F + C); no biases."""
    with torch.no_grad():
        parts = [
            nn.init.xavier_uniform_(torch.empty(site.width, features))
            for site in layout
            for _ in site.parameters
        ]
        head = generator.head
        if head is not None:
            head.weight.copy_(torch.cat(parts))
            head.bias.zero_()


def film(backbone: nn.Module, config: Config) -> nn.Module:
    """``(1 + W z) x + V z`` after every MBConv; W and V of all blocks are one linear map."""
    net = fw.condition(
        backbone,
        at="_blocks.*",
        operation=fw.Affine(),
        generator=fw.Linear(config.width),
        example=torch.zeros(1, 3, config.size, config.size),
        freeze=True,
    )
    if config.film == "glorot":
        glorot(net.generator, net.layout, config.width)  # type: ignore[arg-type]
    return net


class FilmEfficientNet(nn.Module):
    """A pretrained network, modulated by a sentence; its last features, and a head on them."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.film, self.reads = config.film, config.reads
        inputs = {"image": 0, "both": config.width, "sentence": config.width}[
            config.reads
        ]
        if config.reads != "sentence":
            backbone = backbone_of(config.backbone)
            inputs += width_of(backbone)
            # The head reads what the classifier of ImageNet reads.
            backbone._fc = nn.Identity()  # type: ignore[assignment]
            self.trunk = film(backbone, config) if config.film != "none" else backbone
        self.head = nn.Sequential(
            nn.Linear(inputs, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, len(ANSWERS)),
        )

    def features(self, batch: Batch) -> Float[Tensor, "B D"]:
        """What the classifier of ImageNet would read, to mean 0 and deviation 1."""
        found: Tensor = self.pooled(batch)
        return F.layer_norm(found, found.shape[1:])

    def pooled(self, batch: Batch) -> Float[Tensor, "B D"]:
        """What the classifier of ImageNet would read."""
        inputs = prepared(batch.images)
        if self.film == "none":
            with torch.no_grad():
                return self.trunk.eval()(inputs)  # type: ignore[no-any-return]
        return self.trunk(inputs, condition=batch.sentence)  # type: ignore[no-any-return]

    def forward(self, batch: Batch) -> Float[Tensor, "B A"]:
        """Logits of the answers."""
        parts = [] if self.reads == "sentence" else [self.features(batch)]
        if self.reads != "image":
            # As large as the features: of variance 1, not of length 1.
            parts.append(batch.sentence * batch.sentence.shape[1] ** 0.5)
        logits: Tensor = self.head(torch.cat(parts, 1))
        return logits


def objective(network: nn.Module, batch: Batch) -> tuple[Tensor, Metrics]:
    """Cross-entropy of the answers."""
    return F.cross_entropy(network(batch).float(), batch.answers), {}


def stepper(network: nn.Module, config: Config) -> Supervised:
    """Adam for all that is not frozen, with a cosine schedule."""
    learned = [each for each in network.parameters() if each.requires_grad]
    optimizer = torch.optim.Adam(learned, lr=config.learning_rate)
    return Supervised(network, objective, optimizer, schedule=cosine(config.steps))
