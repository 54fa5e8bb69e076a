"""What a preset of FiLM for visual reasoning fixes: sizes, lessons, training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from featurewise.study.system import Settings
from featurewise.training.loop import Intervals
from featurewise.worlds.clevr import ClevrFolder, Recipe

#: Count, exist and query questions about all objects, without relations.
ZERO_HOP = tuple(range(84, 90))


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """A pool of pictures with questions, and for how many steps it is trained on.

    Attributes:
        recipe: what is drawn and asked.
        images: number of pictures.
        steps: of this lesson; the last lesson lasts until the end.
    """

    recipe: Recipe
    images: int
    steps: int


@dataclass(frozen=True, kw_only=True)
class Folder:
    """Data in the layout of CLEVR v1.0 or CLEVR-CoGenT, in place of what is drawn.

    Attributes:
        path: of the data set.
        split: that is trained on, such as ``train`` or ``trainA``.
    """

    path: str
    split: str

    @property
    def validation(self) -> str | None:
        """The split that belongs to it for measuring, such as ``val`` or ``valA``, if any."""
        other = self.split.replace("train", "val", 1)
        there = other != self.split and ClevrFolder(Path(self.path), other).questions.is_file()
        return other if there else None


@dataclass(frozen=True, kw_only=True)
class Reasoning(Settings):
    """Sizes of the network, what it is asked about, and how it is trained.

    Attributes:
        lessons: what it is trained on, easy things first; it is measured on the last.
        held_out: number of pictures it is measured on.
        pictures: pictures in a batch.
        questions: questions asked about each of them.
        stem: widths of the stem before its last convolution.
        channels: width of the trunk.
        blocks: FiLM-ed blocks of the trunk.
        embedding: width of a word vector.
        hidden: width of the GRU.
        features: width of the max-pooled map and of the answering perceptron.
        learning_rate: of the network that looks.
        head_rate: learning rate of the generator's head, as a multiple. Adam moves every weight
            alike, so that a head of 128 inputs moves γ and β a thirtieth of what one of 4,096
            does, as in the paper.
        reader_rate: learning rate of words and GRU, as a multiple.
        weight_decay: of weights, the head's too.
        bfloat16: whether the forward pass runs under bfloat16 autocast.
        folder: data that is trained and measured on in place of the lessons, which then only say
            how large the pictures are; None for the lessons.
    """

    lessons: tuple[Lesson, ...]
    held_out: int
    pictures: int = 16
    questions: int = 4
    stem: tuple[int, ...] = (32, 64)
    channels: int = 64
    blocks: int = 4
    embedding: int = 64
    hidden: int = 128
    features: int = 256
    learning_rate: float = 1e-3
    head_rate: float = 10.0
    reader_rate: float = 3.0
    weight_decay: float = 1e-5
    bfloat16: bool = True
    folder: Folder | None = None


_FULL = Recipe(seed=2018, width=120, height=80, samples=4, questions_per_image=20)
_EASY = replace(_FULL, seed=2020, max_objects=6, questions_per_image=6, families=ZERO_HOP)

_DEMO = replace(_EASY, seed=2030, width=60, height=40, samples=1, max_objects=4)
_TINY = replace(_DEMO, seed=2040, width=30, height=20)

PRESETS = {
    "tiny": Reasoning(
        steps=30,
        every=Intervals(log=10, save=10),
        lessons=(Lesson(recipe=_TINY, images=64, steps=30),),
        held_out=16,
        pictures=8,
        stem=(8,),
        channels=8,
        blocks=2,
        embedding=8,
        hidden=16,
        features=16,
    ),
    "demo": Reasoning(
        steps=3_000,
        every=Intervals(log=50, evaluate=1_000, save=1_000),
        lessons=(Lesson(recipe=_DEMO, images=3_000, steps=3_000),),
        held_out=300,
        stem=(32,),
        channels=48,
        blocks=3,
    ),
    "small": Reasoning(
        steps=9_000,
        every=Intervals(log=100, evaluate=3_000, save=3_000, save_seconds=120.0),
        lessons=(
            Lesson(recipe=_EASY, images=3_000, steps=3_000),
            Lesson(recipe=_FULL, images=4_000, steps=6_000),
        ),
        held_out=1_000,
    ),
    "hour": Reasoning(
        steps=40_000,
        every=Intervals(log=100, evaluate=2_000, save=2_000, save_seconds=300.0),
        lessons=(
            Lesson(recipe=_EASY, images=4_000, steps=4_000),
            Lesson(recipe=_FULL, images=12_000, steps=36_000),
        ),
        held_out=1_000,
    ),
    "paper": Reasoning(
        steps=800_000,
        every=Intervals(log=100, evaluate=10_000, save=5_000, save_seconds=600.0),
        workers=8,
        lessons=(
            Lesson(
                recipe=replace(_FULL, width=224, height=224, questions_per_image=10),
                images=70_000,
                steps=800_000,
            ),
        ),
        held_out=15_000,
        pictures=64,
        questions=1,
        stem=(128, 128, 128),
        channels=128,
        embedding=200,
        hidden=4_096,
        features=512,
        learning_rate=3e-4,
        head_rate=1.0,
        reader_rate=1.0,
    ),
}
