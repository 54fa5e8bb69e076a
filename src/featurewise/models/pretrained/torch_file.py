"""Reading of files that ``torch.save`` wrote: the only place where the library does.

Only ``featurewise weights convert`` comes here, with bytes whose SHA-256 is the pinned one.
"""

from __future__ import annotations

import io

import torch
from torch import Tensor


def read_state_dict(content: bytes) -> dict[str, Tensor]:
    """The tensors of a state dict; nothing else is unpickled (``weights_only=True``)."""
    return dict(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
