"""Measures of a language model, from the sum of what its tokens cost: here alone they are defined.

The cost of a text is ``-sum log p(token | all before)`` in nats, over all tokens, each counted
once.
"""

from __future__ import annotations

import math

from featurewise.worlds.text.errors import TextError

_LARGEST = 700.0  # exp of more is no float


def perplexity(nats: float, tokens: int) -> float:
    """``exp(nats / tokens)``: per word where tokens are words; ``<eos>`` counts as one.

    Infinite where that is more than a float can be, as of a network whose training diverged.

    Args:
        nats: cost of the text.
        tokens: how many it has, ``<eos>`` and ``<unk>`` among them.

    Raises:
        TextError: there are no tokens.
    """
    mean = _mean(nats, tokens)
    return math.exp(mean) if mean < _LARGEST else math.inf


def bits_per_character(nats: float, characters: int) -> float:
    """``nats / (characters * log 2)``.

    Args:
        nats: cost of the text.
        characters: how many it has, line breaks among them; bytes, for a text of bytes.

    Raises:
        TextError: there are no characters.
    """
    return _mean(nats, characters) / math.log(2)


def _mean(nats: float, count: int) -> float:
    if count < 1:
        raise TextError(f"a text of {count} tokens has no mean cost")
    return nats / count
