"""``Recurrent``: token sequences -> parameters, from the last state of a GRU or an LSTM."""

from __future__ import annotations

from typing import Any, Final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from featurewise.core import ArgumentTypeError, ShapeError
from featurewise.generators.base import Generator, check_ids, check_range, positive
from featurewise.generators.errors import ConditionError, GeneratorError
from featurewise.generators.gru import GRU

_KINDS: Final = ("gru", "lstm")


class RecurrentEncoder(nn.Module):
    """Token ids -> state of a one-layer recurrent network after the last token.

    Args:
        vocabulary: size of the vocabulary; token 0 is the padding.
        embedding: width of a token embedding.
        hidden: width H of the state.
        kind: "gru" or "lstm".
    """

    def __init__(self, vocabulary: int, embedding: int, hidden: int, kind: str) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding, padding_idx=0)
        self.recurrent: nn.GRU | nn.LSTM = (
            GRU(embedding, hidden)
            if kind == "gru"
            else nn.LSTM(embedding, hidden, batch_first=True)
        )

    def forward(self, condition: Any) -> Float[Tensor, "B H"]:
        """The last states.

        Args:
            condition: tokens ``(B, T)`` padded with 0 at the end, or ``(tokens, lengths)`` with
                lengths ``(B,)``. Without lengths a sequence ends at its last token other than 0.

        Raises:
            ArgumentTypeError: tokens or lengths that are not integer tensors.
            ShapeError: tokens that are not ``(B, T)``, or lengths that are not ``(B,)``.
            ConditionError: an empty sequence, a length beyond T, or a token outside the
                vocabulary.
        """
        tokens, lengths = self._sequences(condition)
        if torch.compiler.is_compiling():  # packing reads values, which breaks a graph
            states: Tensor = self.recurrent(self.embedding(tokens))[0]
            return states[torch.arange(len(tokens), device=tokens.device), lengths - 1]
        packed = pack_padded_sequence(tokens, lengths.cpu(), True, enforce_sorted=False)
        last: Tensor = self._run(packed)[0]
        return last.squeeze(0)

    def _run(self, tokens: PackedSequence) -> tuple[Tensor, ...]:
        """The last state ``(1, B, H)``, followed by the cell state of an LSTM."""
        vocabulary = self.embedding.num_embeddings
        if isinstance(self.recurrent, GRU) and vocabulary < len(tokens.data):
            words = self.embedding(torch.arange(vocabulary, device=tokens.data.device))
            last = self.recurrent(tokens, words)[1]
        else:
            vectors = PackedSequence(self.embedding(tokens.data), *tokens[1:])
            last = self.recurrent(vectors)[1]
        return last if isinstance(last, tuple) else (last,)

    def _sequences(self, condition: Any) -> tuple[Int[Tensor, "B T"], Int[Tensor, " B"]]:
        """Checked tokens and lengths of a condition."""
        pair = isinstance(condition, tuple | list)
        if pair and len(condition) != 2:
            raise ArgumentTypeError(
                f"condition must be tokens or (tokens, lengths), got {len(condition)}"
            )
        tokens, lengths = condition if pair else (condition, None)
        check_ids(tokens, "tokens")
        if tokens.ndim != 2 or tokens.numel() == 0:
            raise ShapeError(f"tokens must be (B, T), both at least 1, got {tuple(tokens.shape)}")
        check_range(tokens, self.embedding.num_embeddings, "tokens")
        if lengths is None:
            places = torch.arange(1, tokens.shape[1] + 1, device=tokens.device)
            lengths = torch.where(tokens != 0, places, 0).amax(dim=1)
        elif not torch.compiler.is_compiling() and isinstance(lengths, Tensor):
            # Packing needs them there, and a check on a GPU would wait for it a second time.
            lengths = lengths.cpu()
        _check_lengths(lengths, tokens)
        return tokens, lengths


def _check_lengths(lengths: Any, tokens: Tensor) -> None:
    check_ids(lengths, "lengths")
    if lengths.shape != tokens.shape[:1]:
        raise ShapeError(f"lengths must be ({len(tokens)},), got {tuple(lengths.shape)}")
    if torch.compiler.is_compiling():
        return
    wrong = (lengths < 1) | (lengths > tokens.shape[1])
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise ConditionError(
            f"lengths must lie in 1..{tokens.shape[1]}: "
            f"sequence {row} has {int(lengths[row])} tokens"
        )


class Recurrent(Generator):
    """Token sequences -> GRU or LSTM -> parameters (Perez et al. 2018, section 2.2).

    Args:
        vocabulary: size of the vocabulary; token 0 is the padding.
        embedding: width of a token embedding (paper: 200).
        hidden: width of the state (paper: 4096).
        kind: "gru" or "lstm".

    Raises:
        GeneratorError: a number below 1, or an unknown kind.
        ArgumentTypeError: a number that is not an integer.

    Example:
        >>> generator = Recurrent(vocabulary=80, embedding=32, hidden=64)
        >>> # questions (B, T) padded with 0 at the end, or (questions, lengths)
    """

    def __init__(self, vocabulary: int, embedding: int, hidden: int, kind: str = "gru") -> None:
        positive(vocabulary, "vocabulary")
        positive(embedding, "embedding")
        positive(hidden, "hidden")
        if kind not in _KINDS:
            raise GeneratorError(f"kind must be one of {', '.join(_KINDS)}, got {kind!r}")
        super().__init__(RecurrentEncoder(vocabulary, embedding, hidden, kind), hidden)
