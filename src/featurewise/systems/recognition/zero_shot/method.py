"""Method of zero-shot recognition: three ways from an image to the embedding of a name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from featurewise.core import ShapeError
from featurewise.models.trunks import PoolingTrunk
from featurewise.systems.glyph_names import NameConfig, name_embeddings, require_images
from featurewise.training.optim import cosine
from featurewise.training.steppers import Metrics, Supervised
from featurewise.worlds.glyphs.labelled import ImageBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(NameConfig):
    """One classifier of the seen classes, and its way to classes that it never saw.

    Attributes:
        method: "devise": a linear map with a rank loss; "socher": a map of two layers with
            a squared loss, and a choice between seen and unseen; "conse": the convex
            combination of embeddings, which trains nothing; or "parts": classifiers of
            base letter and accent, which are given what a name consists of.
        margin: of the rank loss.
        top: number of classes that a convex combination is of, T.
        hidden: hidden units of the map of two layers.
    """

    method: Literal["devise", "socher", "conse", "parts"] = "devise"
    margin: float = 0.1
    top: int = 10
    hidden: int = 100


class ZeroShot(nn.Module):
    """A classifier of the seen classes, and a map of its features beside it.

    The map is trained on features that its loss does not change: the papers' networks are
    trained before their maps are.
    """

    text: Float[Tensor, "K F"]
    base_of: Int64[Tensor, " K"]
    accent_of: Int64[Tensor, " K"]

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.method, self.top, self.margin = config.method, config.top, config.margin
        classes = config.classes
        self.seen, self.side = classes.seen, config.image_size
        width = config.channels * (config.image_size // 8) ** 2
        self.trunk: nn.Module = PoolingTrunk(config.channels, blocks=3)
        if config.features == "pixels":
            self.trunk, width = nn.Flatten(), config.image_size**2
        self.classify = nn.Linear(width, classes.seen)
        text = name_embeddings(config)
        self.register_buffer("text", text.clone())
        dimensions = text.shape[1]
        self.sizes = [0, 0]
        self.map: nn.Module = nn.Identity()
        if config.method == "devise":
            self.map = nn.Linear(width, dimensions, bias=False)
        elif config.method == "socher":
            self.map = nn.Sequential(
                nn.Linear(width, config.hidden),
                nn.Tanh(),
                nn.Linear(config.hidden, dimensions),
            )
        elif config.method == "parts":
            bases, accents = (sorted(set(x)) for x in (classes.bases, classes.accents))
            self.map = nn.Linear(width, len(bases) + len(accents))
            self.sizes = [len(bases), len(accents)]
            for name, known, own in (
                ("base_of", bases, classes.bases),
                ("accent_of", accents, classes.accents),
            ):
                index = torch.tensor([known.index(x) for x in own], device="cpu")
                self.register_buffer(name, index)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, batch: ImageBatch) -> tuple[Tensor, Tensor]:
        """Logits (B, S) of the seen classes, and what `similarities` takes (B, F).

        That is an image in the space of names; for ConSE, which combines the names of
        seen classes, the logits again.

        Raises:
            ShapeError: the images are of another size.
        """
        require_images(batch.images, self.side)
        features = self.trunk(batch.images)
        logits = self.classify(features)
        if self.method == "conse":
            return logits, logits
        return logits, self.map(
            features if self.method == "parts" else features.detach()
        )

    def similarities(self, mapped: Float[Tensor, "B F"]) -> Float[Tensor, "B K"]:
        """How near each image is to the name of each class, seen or not.

        Raises:
            ShapeError: this is not what the network makes of images.
        """
        self._check(mapped)
        if self.method == "socher":
            return -torch.cdist(mapped, self.text).square()
        if self.method == "parts":
            base, accent = (
                part.log_softmax(1) for part in torch.split(mapped, self.sizes, 1)
            )
            return base[:, self.base_of] + accent[:, self.accent_of]
        if self.method == "conse":
            mapped = combination(mapped, self.text[: self.seen], self.top)
        cosines: Tensor = F.normalize(mapped) @ self.text.T
        return cosines

    def map_loss(
        self, mapped: Float[Tensor, "B F"], labels: Int64[Tensor, " B"]
    ) -> Float[Tensor, ""]:
        """What the map is trained by; 0 where none is.

        Raises:
            ShapeError: this is not what the network makes of images, or there is not one label
                for each.
        """
        self._check(mapped)
        _check_labels(mapped, labels)
        if self.method == "devise":
            return rank_loss(mapped, self.text[: self.seen], labels, self.margin)
        if self.method == "socher":
            return (self.text[labels] - mapped).square().sum(1).mean()
        if self.method == "parts":
            base, accent = torch.split(mapped, self.sizes, 1)
            of_base = F.cross_entropy(base, self.base_of[labels])
            return of_base + F.cross_entropy(accent, self.accent_of[labels])
        return mapped.new_zeros(())

    def _check(self, mapped: Tensor) -> None:
        width = self.text.shape[1]
        if self.method in ("conse", "parts"):
            width = self.seen if self.method == "conse" else sum(self.sizes)
        if mapped.ndim != 2 or mapped.shape[1] != width:
            raise ShapeError(f"expected (B, {width}), got {tuple(mapped.shape)}")


def _check_labels(mapped: Tensor, labels: Tensor) -> None:
    if labels.shape != mapped.shape[:1]:
        raise ShapeError(f"{len(mapped)} images have labels {tuple(labels.shape)}")


def combination(
    logits: Float[Tensor, "B S"], text: Float[Tensor, "S F"], top: int
) -> Float[Tensor, "B F"]:
    """ConSE: f(x) = sum of p(y | x) s(y) / Z over the T classes with the largest p.

    Args:
        logits: of the classes.
        text: their embeddings s.
        top: T, at least 1; all classes, where there are fewer.

    Raises:
        ShapeError: there is not one embedding for each class, or no class is taken.
    """
    if top < 1 or logits.ndim != 2 or text.ndim != 2 or logits.shape[1] != len(text):
        raise ShapeError(
            f"logits (B, S), text (S, F) and top of 1 or more are needed, got "
            f"{tuple(logits.shape)}, {tuple(text.shape)} and {top}"
        )
    p, classes = logits.softmax(1).topk(min(top, logits.shape[1]))
    return (p.unsqueeze(2) * text[classes]).sum(1) / p.sum(1, keepdim=True)


def rank_loss(
    mapped: Float[Tensor, "B F"],
    text: Float[Tensor, "S F"],
    labels: Int64[Tensor, " B"],
    margin: float,
) -> Float[Tensor, ""]:
    """DeViSE, eq. 1: sum over j other than y of max(0, margin - t_y M v + t_j M v).

    Raises:
        ShapeError: images and embeddings have other widths, or there is not one label for each
            image.
    """
    if mapped.ndim != 2 or text.ndim != 2 or mapped.shape[1] != text.shape[1]:
        raise ShapeError(
            f"mapped (B, F) and text (K, F) are needed, got {tuple(mapped.shape)} and "
            f"{tuple(text.shape)}"
        )
    _check_labels(mapped, labels)
    products = mapped @ text.T
    own = products.gather(1, labels[:, None])
    violations = (
        F.relu(margin - own + products).sum(1) - margin
    )  # j = y gives the margin
    return violations.mean()


def objective(
    own: ZeroShot, network: nn.Module, batch: ImageBatch
) -> tuple[Tensor, Metrics]:
    """Cross-entropy of the seen classes, and the loss of the map.

    Args:
        own: has the embeddings.
        network: the same, or what is wrapped around it in training on several devices.
        batch: images of seen classes.
    """
    logits, mapped = (each.float() for each in network(batch))
    loss = F.cross_entropy(logits, batch.labels)
    return loss + own.map_loss(mapped, batch.labels), {}


def stepper(network: nn.Module, config: Config) -> Supervised:
    """Adam with a cosine schedule."""
    own: ZeroShot = network  # type: ignore[assignment]
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    return Supervised(
        network, partial(objective, own), optimizer, schedule=cosine(config.steps)
    )
