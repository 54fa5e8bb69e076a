"""How the features of `perception` are trained, and computed once for all training images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import BFloat16, Int64, UInt8
from safetensors.torch import load_file, save
from torch import Tensor, nn

from featurewise.common.cache import cache_folder
from featurewise.common.files import sha256, write_bytes
from featurewise.common.locks import file_lock
from featurewise.common.rng import derive_seed, seeded_rng
from featurewise.systems.reasoning.film.perception import (
    Namer,
    Perception,
    attribute_loss,
    named_right,
)
from featurewise.training.loop import Intervals, fit
from featurewise.training.optim import cosine
from featurewise.training.source import Source
from featurewise.training.steppers import Metrics, Supervised
from featurewise.worlds.clevr.batch import Batch
from featurewise.worlds.clevr.cache import cached_pool
from featurewise.worlds.clevr.camera import HEIGHT, WIDTH
from featurewise.worlds.clevr.data import PoolSource
from featurewise.worlds.clevr.errors import WorldError

EVAL_IMAGES = 2_000
"""Images that the names are tested on."""


def objects_of(batch: Batch) -> Int64[Tensor, "I 10 6"]:
    """The objects of a batch.

    Raises:
        WorldError: they are not known.
    """
    if batch.objects is None:
        raise WorldError("the objects of these images are not known; names need them")
    return batch.objects


def naming_objective(network: nn.Module, batch: Batch) -> tuple[Tensor, Metrics]:
    """`attribute_loss`, and the share of objects whose four attributes are right."""
    logits = network(batch.images)
    objects = objects_of(batch)
    size = (batch.images.shape[3], batch.images.shape[2])
    right = named_right(logits.detach(), objects, size).mean()
    return attribute_loss(logits, objects, size), {"named": right}


@dataclass(frozen=True)
class Augmented:
    """Batches of images that are mirrored, moved, and of other brightness and contrast.

    The questions of a batch no longer fit its images, and are not used.

    Attributes:
        source: of the images.
        seed: of the changes.
        shift: most pixels by which an image is moved in either direction; what comes in
            at an edge repeats it.
    """

    source: Source[Batch]
    seed: int
    shift: int = 6

    def batch(self, index: int, /) -> Batch:
        """The batch of this index: always the same one."""
        batch = self.source.batch(index)
        rng = seeded_rng(self.seed, "augment", index)
        images, objects = mirrored(batch.images, objects_of(batch), rng)
        images, objects = moved(images, objects, self.shift, rng)
        return replace(batch, images=recolored(images, rng), objects=objects)


def mirrored(
    images: UInt8[Tensor, "I 3 H W"],
    objects: Int64[Tensor, "I N 6"],
    rng: torch.Generator,
) -> tuple[UInt8[Tensor, "I 3 H W"], Int64[Tensor, "I N 6"]]:
    """Half of the images with left and right exchanged."""
    which = torch.rand(len(images), generator=rng) < 0.5
    images = torch.where(which[:, None, None, None], images.flip(3), images)
    objects = objects.clone()
    there = which[:, None] & (objects[:, :, 0] >= 0)
    objects[..., 4] = torch.where(there, WIDTH - 1 - objects[..., 4], objects[..., 4])
    return images, objects


def moved(
    images: UInt8[Tensor, "I 3 H W"],
    objects: Int64[Tensor, "I N 6"],
    shift: int,
    rng: torch.Generator,
) -> tuple[UInt8[Tensor, "I 3 H W"], Int64[Tensor, "I N 6"]]:
    """Images moved by up to ``shift`` pixels; objects that leave the image are dropped."""
    height, width = images.shape[2:]
    by = torch.randint(-shift, shift + 1, (len(images), 2), generator=rng)
    rows = (torch.arange(height) - by[:, 1:]).clamp(0, height - 1)
    columns = (torch.arange(width) - by[:, :1]).clamp(0, width - 1)
    number = torch.arange(len(images))[:, None, None]
    images = images.permute(0, 2, 3, 1)[number, rows[:, :, None], columns[:, None]]
    # Pixels of objects are those of a 480-pixel-wide image.
    scale = WIDTH / width
    objects = objects.clone()
    place = objects[..., 4:] + (by[:, None] * scale).round().long()
    edge = torch.tensor([WIDTH, HEIGHT])
    inside = ((place >= 0) & (place < edge)).all(2) & (objects[..., 0] >= 0)
    objects[..., 4:] = place
    return images.permute(0, 3, 1, 2), torch.where(inside[..., None], objects, -1)


def recolored(
    images: UInt8[Tensor, "I 3 H W"], rng: torch.Generator
) -> UInt8[Tensor, "I 3 H W"]:
    """Images of up to a tenth other brightness, contrast, and color of the light."""
    count = len(images)
    gain = 1 + 0.1 * (2 * torch.rand(count, 1, 1, 1, generator=rng) - 1)
    light = 1 + 0.03 * (2 * torch.rand(count, 3, 1, 1, generator=rng) - 1)
    offset = 20 * (2 * torch.rand(count, 1, 1, 1, generator=rng) - 1)
    return (
        ((images.float() - 128) * gain * light + 128 + offset)
        .round()
        .clamp(0, 255)
        .byte()
    )


@lru_cache(maxsize=2)
def pretrained(config: Perception) -> Namer:
    """The trained network from the cache folder; where it is missing it is trained.

    Training that is interrupted goes on at the next call.
    """
    folder = cache_folder() / "film" / f"perception-{sha256(repr(config).encode())[:16]}"
    finished = folder / "weights.safetensors"
    network = Namer(config.widths)
    folder.mkdir(parents=True, exist_ok=True)
    with file_lock(folder / ".lock"):  # another process may train it already
        if not finished.is_file():
            _train(network, config, folder)
            write_bytes(finished, save(_contiguous(network)))
    network.load_state_dict(load_file(finished))
    return network.eval()


def _train(network: Namer, config: Perception, folder: Path) -> None:
    torch.manual_seed(derive_seed(config.seed, "weights"))
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            part.reset_parameters()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pool = cached_pool(config.recipe, config.images)
    source = PoolSource(
        pool,
        seed=config.seed,
        images_per_batch=config.images_per_batch,
        questions_per_image=1,
    )
    stepper = Supervised(
        network,
        naming_objective,
        torch.optim.AdamW(network.parameters(), config.learning_rate, weight_decay=0.05),
        schedule=cosine(config.steps, warmup=config.steps // 20),
        clip=5.0,
        bfloat16=True,
    )
    test = PoolSource(
        cached_pool(
            replace(config.recipe, seed=config.recipe.seed + 20_000), EVAL_IMAGES
        ),
        images_per_batch=1,
        questions_per_image=1,
    )

    def evaluate(trained: Supervised) -> dict[str, float]:
        with trained.evaluating() as module:
            return {"named": naming_accuracy(module, test)}

    fit(
        folder / "run",
        stepper,
        Augmented(source, config.seed),
        steps=config.steps,
        evaluate=evaluate,
        intervals=Intervals(log=200, evaluate=2_000, save=2_000, save_seconds=120.0),
        resume=True,
        seed=config.seed,
    )


def naming_accuracy(network: nn.Module, images: PoolSource) -> float:
    """Share of cells with an object where all four attributes of the object are right."""
    right = []
    for batch in images.in_order(100):
        size = (batch.images.shape[3], batch.images.shape[2])
        right.append(named_right(network(batch.images), objects_of(batch), size))
    return float(torch.cat(right).mean())


def feature_maps(pool: Path, network: Namer) -> BFloat16[Tensor, "I C h w"]:
    """The features of all images of a pool, from the cache folder or computed now.

    Args:
        pool: folder of a pool.
        network: from `pretrained`.

    Returns:
        A memory map in the order (I, h, w, C), seen as (I, C, h, w).
    """
    weights = save(_contiguous(network.stem))
    name = sha256(weights, (pool / "pool.json").read_bytes())[:16]
    path = cache_folder() / "film" / f"features-{name}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(
        path.with_suffix(".lock")
    ):  # another process may compute them already
        if not path.is_file():
            _compute(PoolSource(pool, images_per_batch=1), network, path)
    stored = torch.from_numpy(np.load(path, mmap_mode="c")).view(torch.bfloat16)
    return stored.permute(0, 3, 1, 2)


def _compute(source: PoolSource, network: Namer, path: Path) -> None:
    unfinished = path.with_suffix(".part")
    images = source.pool.images
    with torch.inference_mode():
        shape = network.stem(torch.zeros(1, *images.shape[1:])).shape[1:]
        stored = np.lib.format.open_memmap(
            unfinished,
            mode="w+",
            dtype=np.uint16,
            shape=(len(images), *shape[1:], shape[0]),
        )
        for start in range(0, len(images), 100):
            some = torch.from_numpy(np.array(images[start : start + 100]))
            found = network.stem(some.to(memory_format=torch.channels_last) / 255)
            cells = found.bfloat16().permute(0, 2, 3, 1).contiguous().view(torch.uint16)
            stored[start : start + 100] = cells.numpy()
    stored.flush()
    unfinished.replace(path)


def _contiguous(network: nn.Module) -> dict[str, Tensor]:
    return {name: each.contiguous() for name, each in network.state_dict().items()}
