"""Labelled images in parts that share no typeface family (or no photograph), of two data sets.

Letters of typefaces, and Fashion-MNIST in its official files, as the same kind of thing: a study
that generates images runs on either, and its evaluation classifier is trained on images that are in
no other part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from featurewise.common.files import file_sha256
from featurewise.common.rng import seeded_rng
from featurewise.worlds.glyphs.classifier import (
    Classifier,
    ClassifierConfig,
    evaluation_classifier,
)
from featurewise.worlds.glyphs.errors import GlyphError
from featurewise.worlds.glyphs.formats.errors import FormatError
from featurewise.worlds.glyphs.formats.idx import mnist
from featurewise.worlds.glyphs.render import Glyphs, glyphs
from featurewise.worlds.glyphs.source import as_ink, jittered
from featurewise.worlds.glyphs.typefaces import Typeface, find_typefaces, split_typefaces

FASHION_FOLDER: Final = "/usr/share/datasets/fashion-mnist"
"""Where Debian's package ``dataset-fashion-mnist`` puts the official files."""

FASHION_CLASSES: Final = (
    *("T-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
"""Names of the classes, by label (Xiao, Rasul & Vollgraf 2017, table 2)."""

_VALIDATION_SHARE: Final = 0.08
_FASHION_PARTS: Final = {"train": (0, 4000), "validation": (4000, 4500), "classifier": (4500, 6000)}


@dataclass(frozen=True)
class LabelledImages:
    """Images with their class.

    Attributes:
        images: ink 255 on paper 0.
        labels: index of the class.
        groups: number of the group that each belongs to; groups are independent of each other, and
            images of one group (letters of one family of typefaces) are not.
    """

    images: UInt8[Tensor, "N S S"]
    labels: Int64[Tensor, " N"]
    groups: Int64[Tensor, " N"]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def ink(self) -> Float[Tensor, "N 1 S S"]:
        """As networks take them: from 0 to 1, ink is 1."""
        return as_ink(self.images)

    def first(self, per_class: int) -> LabelledImages:
        """So many images of each class, in order, or all where there are fewer."""
        classes = int(self.labels.max()) + 1
        rows = [(self.labels == label).nonzero()[:per_class, 0] for label in range(classes)]
        index = torch.cat(rows).sort().values
        return LabelledImages(self.images[index], self.labels[index], self.groups[index])


@dataclass(frozen=True)
class ImageSplits:
    """A data set in parts.

    Attributes:
        names: of the classes.
        train: to train on.
        validation: to choose settings on.
        test: to evaluate on.
        classifier: training steps -> the evaluation classifier, trained on images of none of these
            parts; its ``real_accuracy`` is that on the test part.
    """

    names: tuple[str, ...]
    train: LabelledImages
    validation: LabelledImages
    test: LabelledImages
    classifier: Callable[[int], Classifier] = field(compare=False)


@dataclass(frozen=True)
class ImageBatch:
    """Images to train on.

    Attributes:
        images: ink 1 on paper 0.
        labels: index of the class.
    """

    images: Float[Tensor, "B 1 S S"]
    labels: Int64[Tensor, " B"]


class ImageSource:
    """Random batches: a class, then an image of it.

    Args:
        images: of which each class has at least one.
        batch_size: images per batch.
        seed: of all randomness; batch ``i`` depends on it and on ``i`` alone.
        skew: how unequal the frequencies of the classes are; see `class_frequencies`.
        jitter: how far images are turned, scaled, sheared and shifted at random; see
            :class:`featurewise.worlds.glyphs.GlyphSource`.

    Raises:
        GlyphError: an empty batch, a class without an image, or a negative jitter.
    """

    def __init__(
        self,
        images: LabelledImages,
        batch_size: int,
        seed: int = 0,
        *,
        skew: float = 0.0,
        jitter: float = 0.0,
    ) -> None:
        counts = torch.bincount(images.labels)
        if batch_size < 1 or not 0 <= jitter < 4 or not len(counts) or int(counts.min()) < 1:
            raise GlyphError(
                f"a batch has at least 1 image, every class an image, and jitter is from 0 to "
                f"below 4; got a batch of {batch_size}, {counts.tolist()} images, jitter {jitter}"
            )
        self.images, self.batch_size, self.seed, self.jitter = images, batch_size, seed, jitter
        self.frequencies = class_frequencies(len(counts), skew)
        self._order = images.labels.argsort(stable=True)
        self._counts, self._starts = counts, counts.cumsum(0) - counts

    def batch(self, index: int, /) -> ImageBatch:
        """The batch of this index."""
        rng = seeded_rng(self.seed, index)
        labels = torch.multinomial(self.frequencies, self.batch_size, True, generator=rng)
        uniform = torch.rand(self.batch_size, generator=rng)
        within = (uniform * self._counts[labels]).long()
        rows = self._order[self._starts[labels] + within]
        images = as_ink(self.images.images[rows])
        if self.jitter:
            images = jittered(images, self.jitter, rng)
        return ImageBatch(images, labels)


def class_frequencies(classes: int, skew: float) -> Float[Tensor, " K"]:
    """Zipf's law: the frequency of class k, counted from 1, is proportional to ``k ** -skew``.

    Args:
        classes: K.
        skew: 0 for equal frequencies; 1 makes the first class K times as frequent as the last.
    """
    weights = torch.arange(1, classes + 1, dtype=torch.float64) ** -skew
    return (weights / weights.sum()).float()


@lru_cache(maxsize=4)
def letter_images(typefaces: str | Path, letters: str, size: int) -> ImageSplits:
    """Letters of typefaces, in parts that share no family.

    The validation part are the smallest families of the training part that together have 8 % of its
    typefaces. Where the training part is a single family, validation is the test part.

    Args:
        typefaces: as in :func:`featurewise.worlds.glyphs.typefaces.find_typefaces`.
        letters: the classes.
        size: height and width of an image, 8 or more.

    Raises:
        TypefaceError: no typefaces, or of too few families.
        GlyphError: wrong letters, or a wrong size.
    """
    split = split_typefaces(find_typefaces(typefaces, letters))
    train, validation = _validation(split.train)
    parts = [
        labelled_letters(glyphs(part, letters, size))
        for part in (train, validation, split.test)
        if part
    ]

    def classifier(steps: int) -> Classifier:
        return evaluation_classifier(split, letters, size, config=ClassifierConfig(steps=steps))

    return ImageSplits(
        tuple(letters), parts[0], parts[-2 if validation else -1], parts[-1], classifier
    )


def _validation(typefaces: Sequence[Typeface]) -> tuple[tuple[Typeface, ...], tuple[Typeface, ...]]:
    """Typefaces to train on, and those of the smallest families."""
    sizes = Counter(typeface.superfamily for typeface in typefaces)
    chosen: set[str] = set()
    for name, _ in sorted(sizes.items(), key=lambda item: (item[1], item[0]))[:-1]:
        if sum(sizes[each] for each in chosen) < _VALIDATION_SHARE * len(typefaces):
            chosen.add(name)
    train, validation = (
        tuple(typeface for typeface in typefaces if (typeface.superfamily in chosen) is wanted)
        for wanted in (False, True)
    )
    return train, validation


def labelled_letters(found: Glyphs) -> LabelledImages:
    """All letters of all typefaces: labels are positions of letters, groups are families."""
    count, letters = found.images.shape[:2]
    families = sorted({typeface.superfamily for typeface in found.typefaces})
    groups = torch.tensor([families.index(typeface.superfamily) for typeface in found.typefaces])
    return LabelledImages(
        found.images.flatten(0, 1),
        torch.arange(letters).repeat(count),
        groups.repeat_interleave(letters),
    )


@lru_cache(maxsize=4)
def fashion_images(folder: str | Path = FASHION_FOLDER, size: int = 16) -> ImageSplits:
    """Fashion-MNIST: of each class 4,000 training images, 500 for validation, 1,000 to test on.

    The test part is the official one. The other 1,500 training images of each class train the
    evaluation classifier. Images of 28 by 28 pixels get a border of 2, and each pixel is then the
    mean of a square.

    Args:
        folder: with the four official files, packed by gzip or not.
        size: height and width of an image: a divisor of 32, at least 8.

    Raises:
        GlyphError: the files are not there (the message says how to get them), or another size.
        FormatError: a file is not what its format promises.
    """
    if size not in (8, 16, 32):
        raise GlyphError(f"images of Fashion-MNIST have 8, 16 or 32 pixels here, not {size}")
    files = {train: _official(Path(folder), train) for train in (True, False)}
    images, labels = (torch.from_numpy(np.array(each)) for each in files[True])
    parts = {}
    for name, (start, stop) in _FASHION_PARTS.items():
        rows = [(labels == label).nonzero()[start:stop, 0] for label in range(len(FASHION_CLASSES))]
        index = torch.cat(rows).sort().values
        parts[name] = _resized(images[index], labels[index], size)
    test_images, test_labels = (torch.from_numpy(np.array(each)) for each in files[False])
    test = _resized(test_images, test_labels, size)

    @lru_cache(maxsize=4)
    def classifier(steps: int) -> Classifier:
        return _fashion_classifier(parts["classifier"], test, steps)

    return ImageSplits(FASHION_CLASSES, parts["train"], parts["validation"], test, classifier)


def fashion_versions(folder: str | Path = FASHION_FOLDER) -> dict[str, str]:
    """Name and SHA-256 of each file of the data set, as far as they are there."""
    files = sorted(Path(folder).glob("*-ubyte*"))
    return {f"Fashion-MNIST, {file.name}": f"SHA-256 {file_sha256(file)}" for file in files}


def _official(folder: Path, train: bool) -> tuple[np.ndarray, np.ndarray]:
    try:
        found = mnist(folder, train)
    except FormatError as error:
        if any(folder.glob("*-ubyte*")):
            raise
        raise GlyphError(
            f"the official files of Fashion-MNIST are not in {folder}; on Debian: "
            "apt-get install dataset-fashion-mnist"
        ) from error
    return found.images[:, 0], found.labels.astype(np.int64)


def _resized(images: Tensor, labels: Tensor, size: int) -> LabelledImages:
    padded = F.pad(images.float(), (2, 2, 2, 2))
    small = F.avg_pool2d(padded[:, None], 32 // size)[:, 0].round().to(torch.uint8)
    return LabelledImages(small, labels, torch.arange(len(labels)))


@torch.enable_grad()
def _fashion_classifier(known: LabelledImages, test: LabelledImages, steps: int) -> Classifier:
    """The network and the training of the classifier of letters, without its attributes."""
    config = ClassifierConfig(steps=steps)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Classifier("0123456789", known.images.shape[-1], config.width)
    source = ImageSource(known, config.batch_size)
    optimizer = torch.optim.Adam(network.parameters(), config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        batch = source.batch(step)
        loss = F.cross_entropy(network.letters(batch.images), batch.labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    network.eval().requires_grad_(False)
    with torch.no_grad():
        logits = torch.cat([network.letters(part) for part in torch.split(test.ink, 1000)])
    network.real_accuracy.fill_((logits.argmax(1) == test.labels).double().mean())
    return network
