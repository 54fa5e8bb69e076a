"""The network: FiLM in every block of a residual network (figures 2 and 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

import featurewise as fw
from featurewise.models.trunks import CoordinateConv
from featurewise.study import system
from featurewise.worlds.clevr import ANSWERS, VOCABULARY, Batch
from featurewise.worlds.clevr.splits import CurriculumStage, Folder
from featurewise.worlds.clevr.vocabulary import ATTRIBUTES

ATTRIBUTE_CLASSES = [len(values) + 1 for values in ATTRIBUTES.values()]
"""Values of each attribute, and one for "no object here"."""


@dataclass(frozen=True, kw_only=True)
class Config(system.Config):
    """One network, its data and its training.

    Attributes:
        network: how question and image are combined: "film"; "question only" and "image
            only", which ignore the other; "concatenation" of both, pooled; or "stacked
            attention".
        shuffled_questions: whether each question is replaced by that of another image,
            in training and in evaluation.
        curriculum: stages of training, easy ones first; the last is tested on.
        test_images: number of images that are tested on.
        images_per_batch: images in a batch.
        questions_per_image: questions about each image of a batch.
        stem: widths of the stem before its last convolution.
        channels: width C of the trunk.
        blocks: residual blocks of the trunk.
        embedding: width of a word vector.
        hidden: width of the GRU.
        features: width of the max-pooled map and of the classifier's hidden layer.
        learning_rate: of Adam, for what processes images.
        head_learning_rate: of the generator's head, as a multiple of ``learning_rate``.
            Adam moves every weight by about as much, so that a head of 128 inputs moves
            γ and β a thirtieth of what one of 4,096 inputs does, as in the paper.
        encoder_learning_rate: of word vectors and GRU, as a multiple of
            ``learning_rate``.
        weight_decay: of weights, those of the head included.
        bfloat16: whether the forward pass runs under bfloat16 autocast.
        folder: files to train and test on in place of rendered images; the last stage
            then says how large images are.
    """

    FORMER_NAMES: ClassVar = {
        "lessons": "curriculum",
        "held_out": "test_images",
        "pictures": "images_per_batch",
        "questions": "questions_per_image",
        "head_rate": "head_learning_rate",
        "reader_rate": "encoder_learning_rate",
    }

    network: Literal[
        "film", "question only", "image only", "concatenation", "stacked attention"
    ] = "film"
    shuffled_questions: bool = False
    curriculum: tuple[CurriculumStage, ...]
    test_images: int
    images_per_batch: int = 16
    questions_per_image: int = 4
    stem: tuple[int, ...] = (32, 64)
    channels: int = 64
    blocks: int = 4
    embedding: int = 64
    hidden: int = 128
    features: int = 256
    learning_rate: float = 1e-3
    head_learning_rate: float = 10.0
    encoder_learning_rate: float = 3.0
    weight_decay: float = 1e-5
    bfloat16: bool = True
    folder: Folder | None = None


class Answers(NamedTuple):
    """What a network gives for a batch.

    Attributes:
        logits: of the answers, (Q, 28).
        attributes: logits of `AttributeHead`, (I, V, h, w); None from a network without
            images.
    """

    logits: Tensor
    attributes: Tensor | None


class PixelStem(nn.Module):
    """Images -> feature map: strided convolutions, each with batch norm and ReLU.

    Section 2.2 (trained from scratch): four 4 x 4 convolutions of 128 channels and
    stride 2; the widths here are free. Every convolution halves height and width.

    Args:
        widths: output channels of each convolution.
        kernel: kernel size.
    """

    def __init__(self, widths: Sequence[int], kernel: int = 4) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((3, *widths), widths, strict=False):
            layers += [
                nn.Conv2d(before, after, kernel, 2, (kernel - 1) // 2, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N C h w"]:
        """Features of images whose values lie in [0, 1]."""
        y: Tensor = self.layers((x - 0.5) * 4.0)
        return y


class ResidualBlock(nn.Module):
    """The block of figure 3 without its FiLM layer, whose site is ``norm``.

    ``h = relu(1×1(x, coordinates)); y = h + relu(norm(3×3(h)))``. The norm has no
    affine part.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.project = CoordinateConv(channels, channels)
        self.convolve = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels, affine=False)

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C H W"]:
        """Features of the same shape."""
        h = F.relu(self.project(x))
        return h + F.relu(self.norm(self.convolve(h)))


class ResidualTrunk(nn.Module):
    """A stack of residual blocks; the sites of FiLM are ``blocks.*.norm``.

    Args:
        channels: width C of every block.
        blocks: number of blocks.
    """

    def __init__(self, channels: int = 128, blocks: int = 4) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(channels) for _ in range(blocks))

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C H W"]:
        """Features of the same shape."""
        for block in self.blocks:
            x = block(x)
        return x


class PooledClassifier(nn.Module):
    """1×1 convolution with coordinates, global max-pool, perceptron (section 2.2).

    Args:
        channels: width of the incoming features.
        features: width F of the map that is max-pooled.
        hidden: width of the hidden layer.
        classes: number of classes.
    """

    def __init__(self, channels: int, features: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.project = CoordinateConv(channels, features)
        self.classify = nn.Sequential(
            nn.Linear(features, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, classes),
        )

    def map(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N F H W"]:
        """The features before the global max-pool."""
        return F.relu(self.project(x))

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N classes"]:
        """Logits of the classes."""
        logits: Tensor = self.classify(self.map(x).amax(dim=(2, 3)))
        return logits


class AttributeHead(nn.Conv2d):
    """Linear map from the features of a cell to the attributes of its object.

    It replaces pretraining. Perez et al. start from features that were pretrained on
    ImageNet, or train from pixels for days; here every network that processes images
    also predicts, in training, size, color, material and shape of the object whose
    centre lies in a cell of its feature map. A test uses nothing but pixels and
    question.

    Args:
        channels: width of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, sum(ATTRIBUTE_CLASSES), 1)


class FilmNetwork(nn.Module):
    """Figure 2: the question conditions every block of the trunk, by eq. 2."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.stem = PixelStem((*config.stem, config.channels))
        self.naming = AttributeHead(config.channels)
        self.trunk = fw.condition(
            ResidualTrunk(config.channels, config.blocks),
            at="blocks.*.norm",
            operation=fw.Affine(),
            generator=fw.Recurrent(len(VOCABULARY), config.embedding, config.hidden),
        )
        width = config.features
        self.answer = PooledClassifier(config.channels, width, width, len(ANSWERS))

    def image_features(
        self, images: UInt8[Tensor, "I 3 H W"]
    ) -> Float[Tensor, "I C h w"]:
        """Features of images, computed once for all questions about them."""
        found: Tensor = self.stem(images.to(memory_format=torch.channels_last) / 255)
        return found

    def forward(self, batch: Batch) -> Answers:
        """Answers to all questions of a batch."""
        image = self.image_features(batch.images)
        question = (batch.questions, batch.lengths)
        features = self.trunk(image[batch.image_index], condition=question)
        return Answers(self.answer(features), self.naming(image))
