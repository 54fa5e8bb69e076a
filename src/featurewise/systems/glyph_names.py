"""What systems share that classify accented letters by the words of their Unicode names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Final, Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from featurewise.common.ranges import Range
from featurewise.common.rng import seeded_rng
from featurewise.core import ShapeError
from featurewise.models.pretrained import word_vectors
from featurewise.models.pretrained.glove import SOURCE as GLOVE
from featurewise.study import system
from featurewise.systems import sentences
from featurewise.training.source import Source
from featurewise.worlds.glyphs.accents import (
    ACCENTS,
    AccentedImages,
    AccentedLetters,
    accented_images,
    accented_letters,
)
from featurewise.worlds.glyphs.labelled import ImageBatch, ImageSource
from featurewise.worlds.glyphs.naming import names, words
from featurewise.worlds.glyphs.typefaces import LOWERCASE
from featurewise.worlds.glyphs.versions import render_versions

Text: TypeAlias = Literal["glove", "minilm", "bag", "random", "classes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NameConfig(system.Config):
    """Letters, what embeds their names, and the network that sees their images.

    Attributes:
        text: the embedding of a name: the sum of the "glove" vectors of its words; that
            of "random" vectors of its words, or of indicators of them ("bag"); a sentence
            vector by "minilm"; or "classes", a random vector for each name that has
            nothing to do with its words.
        shuffled_names: whether each class has the name of another one, as a control.
        features: "convolutions", or "pixels", where an image is its own pixels.
        bases: base letters.
        accents: in the words of Unicode.
        typefaces: which ones, as `featurewise.worlds.glyphs.find_typefaces` takes it.
        image_size: height and width of an image, in pixels.
        channels: of each of three blocks of convolutions.
        batch_size: images per batch.
        learning_rate: of Adam; it falls along a cosine.
        jitter: of training images, as `featurewise.worlds.glyphs.GlyphSource` has it.
    """

    text: Text = "glove"
    shuffled_names: bool = False
    features: Literal["convolutions", "pixels"] = "convolutions"
    bases: str = LOWERCASE
    accents: tuple[str, ...] = ACCENTS
    typefaces: str = "debian"
    image_size: Annotated[int, Range(8)] = 24
    channels: int = 16
    batch_size: int = 64
    learning_rate: float = 6e-3
    jitter: float = 0.0

    @property
    def classes(self) -> AccentedLetters:
        """The letters, known without any typeface."""
        return accented_letters(self.bases, self.accents)

    @property
    def images(self) -> AccentedImages:
        """Their images in parts.

        Raises:
            TypefaceError: there are no typefaces.
        """
        return accented_images(self.typefaces, self.classes, self.image_size)

    @property
    def versions(self) -> Mapping[str, str]:
        """Name and version of what images and embeddings come from."""
        found = dict(render_versions(self.typefaces))
        if self.text == "glove":
            found[GLOVE.package] = GLOVE.version
        return {**found, **sentences.versions()} if self.text == "minilm" else found


def data(config: NameConfig, seed: int) -> Source[ImageBatch]:
    """Images of the seen classes, in training typefaces."""
    return ImageSource(
        config.images.train, config.batch_size, seed, jitter=config.jitter
    )


def name_embeddings(config: NameConfig) -> Float[Tensor, "K F"]:
    """The embedding of the name of each class, of length 1, as the map's targets are.

    Words that all names have, such as "LATIN", are left out of sums, and the mean over the
    seen classes is subtracted: what all names share tells no class from another.

    Raises:
        WeightsError: the word vectors were not converted.
        ExperimentError: the encoder of sentences is not installed.
    """
    return _embeddings(config.classes, config.text, config.shuffled_names)


@lru_cache(maxsize=16)
def _embeddings(
    classes: AccentedLetters, text: Text, shuffled: bool
) -> Float[Tensor, "K F"]:
    with torch.device("cpu"), torch.no_grad():
        found = _rows(classes, text)
        if shuffled:
            found = found[other_class(len(classes))]
        return F.normalize(found - found[: classes.seen].mean(0))


def require_images(images: Tensor, side: int) -> None:
    """Raise unless images are of the height and width that a network has.

    Raises:
        ShapeError: they are not ``(B, 1, side, side)``.
    """
    if images.ndim != 4 or images.shape[1:] != (1, side, side):
        raise ShapeError(
            f"images must be (B, 1, {side}, {side}), got {tuple(images.shape)}"
        )


def other_class(count: int) -> Tensor:
    """For each class another one, the same at every call."""
    order = torch.randperm(count, generator=seeded_rng(0, "shuffled names"))
    found = torch.empty_like(order)
    found[order] = order.roll(1)
    return found


RANDOM_WIDTH: Final = 50
"""Numbers in a random vector: as many as GloVe's have."""


def _rows(classes: AccentedLetters, text: Text) -> Float[Tensor, "K F"]:
    if text == "minilm":
        return sentences.encode([name.lower() for name in names(classes.letters)])
    if text == "classes":
        rng = seeded_rng(0, "vectors of classes")
        return torch.randn(len(classes), RANDOM_WIDTH, generator=rng)
    used = words(classes.letters)
    common = set(used[0]).intersection(*used)
    vocabulary = sorted({word for name in used for word in name} - common)
    counts = torch.tensor([[name.count(word) for word in vocabulary] for name in used])
    return counts.float() @ _of_words(vocabulary, text)


def _of_words(vocabulary: list[str], text: Text) -> Float[Tensor, "V F"]:
    if text == "glove":
        return word_vectors().rows([word.lower() for word in vocabulary])
    if text == "bag":
        return torch.eye(len(vocabulary))
    return torch.stack(
        [
            torch.randn(RANDOM_WIDTH, generator=seeded_rng(0, "vector of word", word))
            for word in vocabulary
        ]
    )
