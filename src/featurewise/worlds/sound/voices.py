"""Voices of espeak-ng in parts that share no kind of voice, and lines for them to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

import torch

from featurewise.common.rng import seeded_rng
from featurewise.worlds.sound.errors import SoundError
from featurewise.worlds.sound.espeak import Line
from featurewise.worlds.sound.words import WORDS

Part: TypeAlias = Literal["train", "validation", "test"]

LANGUAGE: Final = "en-us"

KINDS: Final[tuple[tuple[str, ...], ...]] = (
    *(("Alex",), ("Alicia",), ("Andrea",), ("Andy",), ("Annie",), ("Denis",), ("Diogo",)),
    *(("Gene", "Gene2"), ("Henrique",), ("Hugo",), ("Jacky",), ("Lee",), ("Marco",), ("Mario",)),
    *(("Michael",), ("Mike",), ("Nguyen",), ("RicishayMax", "RicishayMax2", "RicishayMax3")),
    *(("Storm",), ("adam",), ("anika",), ("antonio",), ("aunty",), ("belinda",), ("benjamin",)),
    *(("boris",), ("caleb",), ("david",), ("ed",), ("edward", "edward2"), ("f1",), ("f2",)),
    *(("f3",), ("f4",), ("f5",), ("grandma",), ("grandpa",), ("gustave",)),
    *(("iven", "iven2", "iven3", "iven4"), ("john",), ("kaukovalta",), ("klatt", "klatt2")),
    *(("linda",), ("m1",), ("m2",), ("m3",), ("m4",), ("m5",), ("m6",), ("m7",), ("m8",)),
    *(("marcelo",), ("max",), ("michel",), ("miguel",), ("norbert",), ("pablo",), ("paul",)),
    *(("pedro",), ("quincy",), ("rob", "robert"), ("sandro",), ("shelby",)),
    *(("steph", "steph2", "steph3"), ("travis",), ("victor",), ("zac",)),
)
"""Variants of voices, without whispering and robots; those of one kind stay in one part."""

_SHARES: Final = (0.66, 0.1)
_WORDS: Final = 7
_VERSION: Final = 1  # of how lines are made


@dataclass(frozen=True, slots=True)
class Voice:
    """A voice, which stands for a speaker.

    Attributes:
        name: of the variant.
        pitch: see `Line`.
        speed: see `Line`.
    """

    name: str
    pitch: int
    speed: int


def voices(part: Part) -> tuple[Voice, ...]:
    """The voices of a part, each with a pitch and a speed of its own.

    Raises:
        SoundError: there is no such part.
    """
    if part not in get_args(Part):
        raise SoundError(f"parts are {', '.join(get_args(Part))}, not {part!r}")
    order = torch.randperm(len(KINDS), generator=seeded_rng(0, "voices", _VERSION)).tolist()
    first, second = (round(sum(_SHARES[:n]) * len(KINDS)) for n in (1, 2))
    chosen = {"train": order[:first], "validation": order[first:second], "test": order[second:]}
    return tuple(_voice(name) for kind in sorted(chosen[part]) for name in KINDS[kind])


def _voice(name: str) -> Voice:
    rng = seeded_rng(0, "voice", _VERSION, name)
    pitch, speed = (int(torch.randint(n, (), generator=rng)) for n in (31, 41))
    return Voice(name, 35 + pitch, 150 + speed)


def lines(voice: Voice, count: int, part: str) -> list[Line]:
    """Lines for a voice to say: seven random words each.

    Args:
        voice: the speaker.
        count: number of lines.
        part: what they are for; lines of other parts differ.

    Raises:
        SoundError: the number is not 1 or more.
    """
    if count < 1:
        raise SoundError(f"a voice says 1 line or more, not {count}")
    rng = seeded_rng(0, "lines", _VERSION, voice.name, part)
    chosen = torch.randint(len(WORDS), (count, _WORDS), generator=rng).tolist()
    return [
        Line(f"{LANGUAGE}+{voice.name}", " ".join(WORDS[w] for w in row), voice.pitch, voice.speed)
        for row in chosen
    ]
