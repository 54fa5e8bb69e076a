"""Images per second of the CLEVR renderers and of a plain loop, and the cost of a pool by part.

Run: OMP_NUM_THREADS=1 python benchmarks/render.py [--compiled]

Setting up the arrays of the scenes is included, but not the masks, which pools do not need. The
plain loop renders one scene after another and tests every ray against one object after another,
also the pairs that cannot intersect. Times are processor times, on which other programs have little
influence.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from unittest.mock import patch

import torch
from torch import Tensor

from featurewise.worlds.clevr import shapes
from featurewise.worlds.clevr.data import make_block
from featurewise.worlds.clevr.generate import Recipe
from featurewise.worlds.clevr.objects import Scene
from featurewise.worlds.clevr.render import Renderer, default_renderer, render
from featurewise.worlds.clevr.scene import sample_scenes
from featurewise.worlds.clevr.shapes import Shapes, Solver


def every_pair(
    origin: Tensor, reach: Tensor, scene: Tensor, objects: Shapes
) -> tuple[Tensor, Tensor]:
    """The candidates of a renderer that excludes no pair."""
    return (objects.radius[scene] >= 0).nonzero().unbind(1)


def one_by_one(origin: Tensor, direction: Tensor, b: Shapes, steps: int) -> Tensor:
    """Intersections of rays with one object after another."""
    t = torch.full(origin.shape[1:], torch.inf)
    centers = torch.stack([b.x, b.y, b.z])[..., 0]
    for center in centers.unique(dim=1).T:
        rows = (centers == center[:, None]).all(0).nonzero()[:, 0]
        mine = Shapes(*(getattr(b, name)[rows] for name in Shapes.__slots__))
        if float(mine.radius[0]) > 0:
            t[rows] = shapes.intersect(origin[:, rows], direction[:, rows], mine, steps)
    return t


def plain(scenes: Sequence[Scene], width: int, samples: int) -> None:
    """Render without batches: one scene and one object at a time."""
    closest_hit, occluded = shapes.closest_hit, shapes.occluded

    def loop_closest_hit(
        o: Tensor, r: Tensor, s: Tensor, b: Shapes, _: Solver
    ) -> tuple[Tensor, Tensor]:
        return closest_hit(o, r, s, b, one_by_one)

    def loop_occluded(o: Tensor, r: Tensor, s: Tensor, b: Shapes, _: Solver) -> Tensor:
        return occluded(o, r, s, b, one_by_one)

    with (
        patch.object(shapes, "candidates", every_pair),
        patch.object(shapes, "closest_hit", loop_closest_hit),
        patch.object(shapes, "occluded", loop_occluded),
    ):
        for scene in scenes:
            render([scene], width=width, height=width, samples=samples, renderer="torch")


def images_per_second(work: Callable[[], object], images: int, rounds: int = 3) -> float:
    """Images per second of processor time, best of ``rounds``."""
    work()
    best = float("inf")
    for _ in range(rounds):
        begin = time.process_time()
        work()
        best = min(best, time.process_time() - begin)
    return images / best


SIZES = ((64, 64, 1), (128, 128, 1), (120, 80, 4), (480, 320, 4), (480, 320, 16))
"""Width, height and samples per pixel."""

BARS = {(64, 1): "4,000", (128, 1): "1,200", (480, 16): "10"}
"""Images per second of the numba renderer that are wanted, by width and samples."""


def renderers() -> list[Renderer]:
    """Those that are installed."""
    return ["numba", "torch"] if default_renderer() == "numba" else ["torch"]


def print_pool(images: int) -> None:
    """Milliseconds per image of what a pool holds, by part."""
    print("\npool of 120x80, 4 samples, 20 questions, ms per image (6 wanted):")
    print(
        f"{'renderer':<9}{'scenes':>9}{'images':>9}{'questions':>11}{'tables':>9}{'together':>10}"
    )
    for renderer in renderers():
        recipe = Recipe(seed=1, questions_per_image=20, renderer=renderer)
        make_block(recipe, 1, 20)  # compile, and fill caches
        times = [time.process_time()]
        scenes = recipe.scenes(0, images)
        times.append(time.process_time())
        recipe.images(scenes)
        times.append(time.process_time())
        recipe.questions(0, scenes)
        times.append(time.process_time())
        make_block(recipe, 0, images)
        times.append(time.process_time())
        *parts, whole = [1000 * (b - a) / images for a, b in pairwise(times)]
        print(
            f"{renderer:<9}{parts[0]:9.2f}{parts[1]:9.2f}{parts[2]:11.2f}"
            f"{whole - sum(parts):9.2f}{whole:10.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compiled", action="store_true", help="also measure compiled torch code")
    options = parser.parse_args()
    torch.set_num_threads(1)
    scenes = sample_scenes(16, seed=0)
    slow = images_per_second(lambda: plain(scenes[:2], 64, 1), 2, rounds=1)
    print(f"plain loop, 64x64, 1 sample: {slow:.1f} images/s")
    print(f"\n{'size':<10}{'samples':>8}  {'renderer':<15}{'images/s':>9}{'wanted':>8}")
    for width, height, samples in SIZES:
        some = scenes[: 16 if width < 200 else 2]
        modes: list[tuple[Renderer, bool]] = [(each, False) for each in renderers()]
        modes += [("torch", True)] if options.compiled else []
        for renderer, compiled in modes:
            size = {"width": width, "height": height, "samples": samples}
            speed = images_per_second(
                partial(
                    render, some, **size, renderer=renderer, compiled=compiled, with_masks=False
                ),
                len(some),
                rounds=3 if renderer == "torch" else 9,
            )
            bar = BARS.get((width, samples), "") if renderer == "numba" else ""
            name = "torch compiled" if compiled else renderer
            print(f"{width}x{height:<6}{samples:>8}  {name:<15}{speed:9,.1f}{bar:>8}")
    print_pool(100)


if __name__ == "__main__":
    main()
