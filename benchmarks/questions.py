"""Questions per second of `QuestionGenerator`, and of a plain implementation of its search.

    python benchmarks/questions.py

The plain search has sets of indices in place of bit masks, computes the options again at every
node, and does not record failed branches. Prints both speeds on one core and their ratio. Times are
processor times of this process.
"""

from __future__ import annotations

import argparse
import time
from random import Random

from featurewise.worlds.clevr import questions as fast
from featurewise.worlds.clevr.families.options import (
    CHOICES,
    DESCRIPTIONS,
    DISTRACTOR,
    TRIVIAL_SHARE,
    Ending,
    Options,
    Proposal,
)
from featurewise.worlds.clevr.families.search import Attempt, Search
from featurewise.worlds.clevr.scene import Scene, sample_scenes
from featurewise.worlds.clevr.vocabulary import ATTRIBUTES, RELATIONS


class PlainOptions(Options):
    """Options by comparing every object with every description, without a cache."""

    def _objects(self, mask: int) -> set[int]:
        return {i for i in range(mask.bit_length()) if mask >> i & 1}

    def _fitting(self, code: int) -> set[int]:
        wanted = [(a, v) for a, v in zip(ATTRIBUTES, DESCRIPTIONS[code], strict=True) if v]
        everything = self._objects(self.sets.everything)
        return {i for i in everything if all(self.sets.values[a][i] == v for a, v in wanted)}

    def matching(self, code: int) -> int:
        """Mask of the objects that fit a description."""
        return sum(1 << i for i in self._fitting(code))

    def plain(self, objects: int, ending: Ending) -> list[Proposal]:
        """Proposals of descriptions that filter a set."""
        inside = self._objects(objects)
        found = {code: self._fitting(code) for code in range(len(DESCRIPTIONS))}
        hits = {code: fits & inside for code, fits in found.items() if fits}
        single = {code: hit for code, hit in hits.items() if len(hit) == 1}
        kept = single if ending == "unique" else hits
        proposals = [
            (CHOICES[None][code], sum(1 << i for i in hit))
            for code, hit in kept.items()
            if code or ending != "set"
        ]
        distractors = {"unique": 0, "exist": len(hits)}.get(ending, len(single))
        return proposals + [(DISTRACTOR, objects)] * distractors

    def related(self, thing: int, ending: Ending, rng: Random) -> list[Proposal]:
        """Relations together with descriptions to filter the related set with."""
        informative: list[Proposal] = []
        trivial: list[Proposal] = []
        for relation in RELATIONS:
            others = self._objects(self.sets.related[relation][thing])
            for code in range(len(DESCRIPTIONS)):
                fits = self._fitting(code)
                hit = fits & others
                if not fits or (ending == "unique" and len(hit) != 1):
                    continue
                if ending == "set" and not hit:
                    continue
                proposal = (CHOICES[relation][code], sum(1 << i for i in hit))
                (trivial if hit == fits else informative).append(proposal)
        wanted = round(len(informative) * TRIVIAL_SHARE / (1 - TRIVIAL_SHARE))
        return informative + rng.sample(trivial, min(wanted, len(trivial)))


class PlainSearch(Search):
    """The search without the record of failed branches."""

    def _extend(self, attempt: Attempt, shadows: list[list[int]]) -> bool:
        attempt.failed.clear()
        return super()._extend(attempt, shadows)


def questions_per_second(scenes: list[Scene], generator: fast.QuestionGenerator) -> float:
    """Questions per second of processor time."""
    start = time.process_time()
    count = sum(len(generator.generate(scene)) for scene in scenes)
    return count / (time.process_time() - start)


def plain_questions_per_second(scenes: list[Scene], seed: int) -> float:
    """The same with the plain search."""
    options, search = fast.Options, fast.Search
    fast.Options, fast.Search = PlainOptions, PlainSearch  # type: ignore[misc]
    try:
        return questions_per_second(scenes, fast.QuestionGenerator(seed))
    finally:
        fast.Options, fast.Search = options, search  # type: ignore[misc]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=500)
    parser.add_argument("--plain-scenes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    scenes = sample_scenes(args.scenes, seed=args.seed)
    questions_per_second(scenes[:20], fast.QuestionGenerator(args.seed))  # warm-up
    ours = questions_per_second(scenes, fast.QuestionGenerator(args.seed))
    plain = plain_questions_per_second(scenes[: args.plain_scenes], args.seed)
    print(f"questions/s: {ours:,.0f}   plain search: {plain:,.1f}   ratio: {ours / plain:,.0f}")


if __name__ == "__main__":
    main()
