"""Images per second of the CLEVR renderer, and of a plain loop with the same result.

Run: OMP_NUM_THREADS=1 python benchmarks/render.py [--compiled]

The plain loop renders one scene after another and tests every ray against one object after another,
also the pairs that cannot intersect. Times are processor times, on which other programs have little
influence.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from unittest.mock import patch

import torch
from torch import Tensor

from featurewise.worlds.clevr import shapes
from featurewise.worlds.clevr.objects import Scene
from featurewise.worlds.clevr.render import render
from featurewise.worlds.clevr.scene import sample_scenes
from featurewise.worlds.clevr.shapes import Shapes, Solver

REFERENCE = {(64, 1): "3000", (128, 1): "430-780"}
"""Images per second of an earlier compiled prototype: one thread, hard shadows, no mirrors."""


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
            render([scene], width=width, height=width, samples=samples)


def images_per_second(work: Callable[[], object], images: int, rounds: int = 3) -> float:
    """Images per second of processor time, best of ``rounds``."""
    work()
    best = float("inf")
    for _ in range(rounds):
        begin = time.process_time()
        work()
        best = min(best, time.process_time() - begin)
    return images / best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compiled", action="store_true", help="also measure the compiled path")
    options = parser.parse_args()
    torch.set_num_threads(1)
    scenes = sample_scenes(8, seed=0)
    modes = [False, True] if options.compiled else [False]
    print("size      samples  path      img/s  ratio to plain loop  prototype")
    for width, height, samples in ((64, 64, 1), (64, 64, 4), (128, 128, 1), (128, 128, 4)):
        slow = images_per_second(lambda w=width, n=samples: plain(scenes[:2], w, n), 2, rounds=1)
        for compiled in modes:
            fast = images_per_second(
                lambda w=width, h=height, n=samples, c=compiled: render(
                    scenes, width=w, height=h, samples=n, compiled=c
                ),
                len(scenes),
            )
            path = "compiled" if compiled else "eager"
            reference = REFERENCE.get((width, samples), "-")
            print(
                f"{width}x{height:<6} {samples:<8} {path:<9} {fast:6.1f} {fast / slow:12.1f}"
                f"{reference:>21}"
            )
    for samples in (1, 4, 16):
        fast = images_per_second(
            lambda n=samples: render(scenes, width=120, height=80, samples=n), len(scenes)
        )
        print(f"120x80   {samples:<8} eager     {fast:6.1f}")


if __name__ == "__main__":
    main()
