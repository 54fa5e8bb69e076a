"""Data of FiLM-EfficientNet: photographs with a shape, and embeddings of sentences."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from featurewise.common.rng import seeded_rng
from featurewise.systems.reasoning.film_efficientnet.method import Batch, Config
from featurewise.systems.sentences import encode
from featurewise.training.errors import ExperimentError
from featurewise.training.shuffled import ShuffledCondition, previous_sample
from featurewise.training.source import Source
from featurewise.worlds.pictures import contents_of
from featurewise.worlds.vqa import words_of
from featurewise.worlds.vqa.composed import ComposedSource, Part, wordings


@lru_cache(maxsize=4)
def embeddings(name: str, width: int, part: Part) -> Float[Tensor, "S F"]:
    """One row for each sentence of a part, of length 1, as MiniLM gives them.

    Raises:
        ExperimentError: the encoder is not installed, or has another width.
    """
    texts = wordings(part)
    if name == "random":  # the mean of a random vector of each word
        rows = [
            torch.stack([_of_word(word, width) for word in words_of(text)]).mean(0)
            for text in texts
        ]
        found = torch.stack(rows)
    else:
        found = encode(texts)
    if found.shape[1] != width:
        raise ExperimentError(
            f"the embeddings have {found.shape[1]} numbers, the config says {width}"
        )
    return F.normalize(found)


def _of_word(word: str, width: int) -> Float[Tensor, " F"]:
    rng = seeded_rng(int.from_bytes(word.encode()[:6], "big"), "word")
    return torch.randn(width, generator=rng)


@dataclass(frozen=True)
class SentenceSource:
    """Batches of photographs with a shape, and the embedding of a sentence each.

    Attributes:
        config: sizes and kinds of data.
        part: of photographs and wordings.
        seed: of all randomness.
    """

    config: Config
    part: Part
    seed: int

    def batch(self, index: int, /) -> Batch:
        """The batch of this index."""
        config = self.config
        photographs = contents_of(config.images, self.part)
        found = ComposedSource(
            photographs, self.part, config.size, config.batch_size, self.seed
        ).batch(index)
        table = embeddings(config.sentences, config.width, self.part)
        return Batch(found.images, table[found.sentences], found.answers)


def data(config: Config, seed: int) -> Source[Batch]:
    """Training images; in the control each with the sentence of the sample before."""
    source = SentenceSource(config, "train", seed)
    return (
        ShuffledCondition(source, ("sentence",), previous_sample)
        if config.shuffled
        else source
    )
