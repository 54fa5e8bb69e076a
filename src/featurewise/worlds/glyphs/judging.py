"""A network that reads letters: it says what others drew, and never saw their typefaces."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from featurewise.common.cache import cache_folder
from featurewise.common.files import write_bytes
from featurewise.common.locks import file_lock
from featurewise.common.opening import read_bytes
from featurewise.worlds.files import as_json
from featurewise.worlds.glyphs.attributes import ATTRIBUTES
from featurewise.worlds.glyphs.errors import GlyphError
from featurewise.worlds.glyphs.render import FORMAT_VERSION, Glyphs, glyphs
from featurewise.worlds.glyphs.source import GlyphSource, as_ink
from featurewise.worlds.glyphs.typefaces import Split, find_typefaces, split_typefaces

#: Counts up when the network or its training changes.
_VERSION: Final = 1
_AT_ONCE: Final = 512


@dataclass(frozen=True)
class Training:
    """How a judge is trained: Adam, a rate that falls to 0 as half a cosine, jittered letters."""

    steps: int = 900
    batch_size: int = 64
    width: int = 24
    rate: float = 4e-3
    jitter: float = 1.0


class Judge(nn.Module):
    """Tells letters, and measures how their face looks.

    Three convolutions, each with batch normalisation and halving the picture, then a linear map for
    the letters and one for the four attributes. In evaluation mode when :func:`judge` gives it.

    Args:
        alphabet: the letters it tells, in the order of its logits.
        size: height and width of the pictures, 8 or more.
        width: features after the first convolution; the others have twice as many.

    Attributes:
        held_out: share of letters of held-out typefaces that it tells; NaN before training.
    """

    held_out: Tensor
    mean: Tensor
    spread: Tensor

    def __init__(self, alphabet: str, size: int, width: int = 24) -> None:
        super().__init__()
        self.alphabet, self.size = alphabet, size
        widths = [1, width, 2 * width, 2 * width]
        self.features = nn.Sequential(
            *(_block(a, b) for a, b in pairwise(widths)),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
        )
        self.letter_head = nn.Linear(8 * width, len(alphabet))
        self.attribute_head = nn.Linear(8 * width, len(ATTRIBUTES))
        self.register_buffer("held_out", torch.tensor(float("nan")))
        self.register_buffer("mean", torch.zeros(len(ATTRIBUTES)))
        self.register_buffer("spread", torch.ones(len(ATTRIBUTES)))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the letters (N, L), and attributes (N, 4) before they have their units."""
        if images.ndim != 4 or images.shape[1:] != (1, self.size, self.size):
            raise GlyphError(
                f"this judge reads pictures (N, 1, {self.size}, {self.size}), "
                f"got {tuple(images.shape)}"
            )
        features = self.features(images)
        return self.letter_head(features), self.attribute_head(features)

    def letters(self, images: Float[Tensor, "N 1 S S"]) -> Float[Tensor, "N L"]:
        """Logits of the letters, in the order of ``alphabet``; ink is 1, paper 0."""
        logits: Tensor = self(images)[0]
        return logits

    def attributes(self, images: Float[Tensor, "N 1 S S"]) -> Float[Tensor, "N 4"]:
        """Weight, slant (degrees), serif and width, as the letters look to the judge."""
        attributes: Tensor = self(images)[1]
        return attributes * self.spread + self.mean

    @torch.no_grad()
    def accuracy(self, some: Glyphs) -> float:
        """Share of the letters that it tells, all faces and letters once, without jitter.

        Raises:
            GlyphError: letters that it does not know, or another size.
        """
        if unknown := sorted(set(some.letters) - set(self.alphabet)):
            raise GlyphError(f"this judge tells {self.alphabet!r}, not {''.join(unknown)!r}")
        images = as_ink(some.images.flatten(0, 1))
        told = torch.cat([self.letters(part).argmax(1) for part in torch.split(images, _AT_ONCE)])
        true = torch.tensor([self.alphabet.index(letter) for letter in some.letters])
        return float((told == true.repeat(len(some.faces))).double().mean())


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )


def judge(
    where: str | Path | Split,
    letters: str,
    size: int,
    *,
    seed: int = 0,
    training: Training = Training(),
) -> Judge:
    """The judge of letters from a place, trained at the first use and kept in the cache.

    It learns from the judge's part of a split alone; the other parts are free for those it judges.
    What is kept is checked by its SHA-256 and trained anew when damaged.

    Args:
        where: the split; or a place as in
            :func:`featurewise.worlds.glyphs.typefaces.find_typefaces`, for
            ``split_typefaces(find_typefaces(where, letters), seed)``. Other letters may find other
            faces and so another split: who trains on one should give it here.
        letters: what it tells.
        size: height and width of the pictures.
        seed: of the split, the initial weights and the batches.
        training: how it is trained.

    Raises:
        TypefaceError: no or too few typefaces.
        GlyphError: wrong letters, or a wrong size.
    """
    split = (
        where if isinstance(where, Split) else split_typefaces(find_typefaces(where, letters), seed)
    )
    known, unknown = (glyphs(part, letters, size) for part in (split.judge, split.held_out))
    identity = {
        "version": [_VERSION, FORMAT_VERSION],
        "judge": [face.digest for face in known.faces],
        "held_out": [face.digest for face in unknown.faces],
        "letters": letters,
        "size": size,
        "seed": seed,
        "training": asdict(training),
    }
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    folder = cache_folder() / "glyphs" / "judges"
    place = folder / f"{digest[:16]}.safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    with file_lock(place.with_suffix(".lock")):
        network = _kept(place, identity, Judge(letters, size, training.width))
        if network is None:
            network = trained(known, seed, training)
            network.held_out.fill_(network.accuracy(unknown))
            content = save(network.state_dict())
            write_bytes(place, content)
            sha256 = hashlib.sha256(content).hexdigest()
            write_bytes(place.with_suffix(".json"), as_json({**identity, "sha256": sha256}))
    return network


def _kept(place: Path, identity: Mapping[str, Any], network: Judge) -> Judge | None:
    try:
        manifest = json.loads(read_bytes(place.with_suffix(".json")))
        content = read_bytes(place)
        if manifest != {**identity, "sha256": hashlib.sha256(content).hexdigest()}:
            return None
        network.load_state_dict(load(content))
    except (OSError, ValueError, RuntimeError, SafetensorError):
        return None
    return network.eval().requires_grad_(False)


@torch.enable_grad()
def trained(known: Glyphs, seed: int, training: Training) -> Judge:
    """A judge that learned letters and attributes of ``known``; global random numbers stay.

    Also where whoever asks for the judge takes no gradients.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Judge(known.letters, known.size, training.width)
    targets = torch.stack([known.attributes[name] for name in ATTRIBUTES], dim=1)
    network.mean.copy_(targets.nanmean(0).nan_to_num())
    spread = (targets - network.mean).square().nanmean(0).sqrt().nan_to_num(1.0)
    network.spread.copy_(spread.clamp_min(1e-3))
    targets = (targets - network.mean) / network.spread
    source = GlyphSource(known, training.batch_size, seed, training.jitter)
    optimizer = torch.optim.Adam(network.parameters(), training.rate)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, training.steps)
    for step in range(training.steps):
        batch = source.batch(step)
        logits, attributes = network(batch.images)
        wanted = targets[batch.faces]
        off = torch.where(wanted.isnan(), 0.0, attributes - wanted)
        loss = F.cross_entropy(logits, batch.letters) + 0.1 * off.square().mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        falling.step()
    return network.eval().requires_grad_(False)


def coverage(told: Int64[Tensor, "N"], classes: int) -> float:
    """Share of ``classes`` that occur among what a judge told: of the modes, those not dropped.

    Raises:
        GlyphError: no class, or one that is not below ``classes``.
    """
    if classes < 1 or (len(told) and not 0 <= int(told.min()) <= int(told.max()) < classes):
        raise GlyphError(f"classes are from 0 to below {classes}, got {sorted(set(told.tolist()))}")
    return len(set(told.tolist())) / classes
