"""The names of the 1,000 ImageNet classes."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from featurewise.common.json import loads
from featurewise.common.opening import read_bytes


@lru_cache(maxsize=1)
def class_names() -> tuple[str, ...]:
    """Name of each class of ILSVRC-2012: the words of its WordNet 3.0 synset, "tench, Tinca tinca".

    Russakovsky et al. 2015, *ImageNet Large Scale Visual Recognition Challenge*. Classes are
    numbered in the order of their synsets. The name "crane" occurs twice, for a bird and a machine.
    """
    content = read_bytes(Path(__file__).with_name("imagenet.json"))
    synsets = loads(content)["synsets"]
    return tuple(synsets[synset] for synset in sorted(synsets))
