"""Sound of few levels: μ-law, blocks with phones, voices, people, made sound."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.worlds.sound.test_recordings import write

from featurewise.worlds.sound import (
    PHONES,
    RecordingError,
    SoundError,
    SpeechSource,
    Spoken,
    waves,
)
from featurewise.worlds.sound.espeak import Line
from featurewise.worlds.sound.features import pitch
from featurewise.worlds.sound.made import made_speech
from featurewise.worlds.sound.voices import lines, voices
from featurewise.worlds.sound.waves import (
    BLOCK,
    SPEAKERS,
    TAKES,
    digit_waves,
    made_waves,
    synthetic_waves,
    to_levels,
    to_samples,
    wave_versions,
)


def test_levels_are_those_of_the_formula() -> None:
    samples = torch.linspace(-1, 1, 201)
    for x, level in zip(samples.tolist(), to_levels(samples).tolist(), strict=True):
        curved = math.copysign(math.log(1 + 63 * abs(x)) / math.log(64), x)
        assert abs((curved + 1) / 2 * 63 - level) <= 0.5 + 1e-6
    assert to_levels(torch.tensor([-3.0, -1.0, 1.0, 3.0])).tolist() == [0, 0, 63, 63]


def test_each_level_is_its_own_sample() -> None:
    levels = torch.arange(64, dtype=torch.uint8)
    samples = to_samples(levels)
    assert torch.equal(to_levels(samples), levels)
    assert samples[0] == -1 and samples[-1] == 1 and (samples.diff() > 0).all()


def test_crops_are_blocks_of_their_utterance() -> None:
    found = made_waves("test", 2)
    batch = found.crops([3, 0], 5, [7, 0])
    first = int(found.firsts[3]) + 7
    assert torch.equal(batch.levels[0], found.blocks[first : first + 5].flatten().long())
    assert torch.equal(batch.phones[0], found.phones[first : first + 5])
    assert batch.speakers.tolist() == [1, 0] and batch.levels.shape == (2, 5 * BLOCK)
    with pytest.raises(SoundError, match="utterance 0 has 60 frames; 5 from 56 are wanted"):
        found.crops([0], 5, [56])


def test_batches_are_of_different_speakers() -> None:
    batch = SpeechSource(made_waves("train", 3), 4, 6, seed=1).batch(2)
    assert sorted(batch.speakers.tolist()) == [0, 1, 2, 3]
    assert batch.levels.shape == (4, 240) and batch.phones.shape == (4, 6)


def test_made_speakers_have_a_pitch_each() -> None:
    found = made_waves("train", 2)
    batch = found.beginnings(50, 2)
    for speaker, levels in zip(batch.speakers.tolist(), batch.levels, strict=True):
        heard = pitch(to_samples(levels), waves.RATE)
        assert heard == pytest.approx(80 * 1.4**speaker, rel=0.03)
    assert not torch.equal(made_waves("test", 2).phones, found.phones)


def test_voices_are_rendered_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a synthesiser that hums: blocks, phones and speakers of all lines."""
    calls = []

    def hum(said: list[Line]) -> list[Spoken]:
        calls.append(said)
        wave = torch.sin(torch.arange(22050) * 0.1) * 0.5
        return [Spoken(wave, 22050, ("s", "V", "_:"), (2205, 11025, 19845)) for _ in said]

    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path))
    monkeypatch.setattr(waves, "speak", hum)
    synthetic_waves.cache_clear()
    found = synthetic_waves("validation", 2)
    synthetic_waves.cache_clear()
    again = synthetic_waves("validation", 2)
    synthetic_waves.cache_clear()
    assert len(calls) == 1 and len(calls[0]) == 2 * len(SPEAKERS)
    assert torch.equal(found.blocks, again.blocks)
    assert found.firsts.tolist() == [i * 100 for i in range(17)]
    assert found.speakers.tolist() == [i // 2 for i in range(16)] and found.names == SPEAKERS
    times = [(n + 0.5) * 0.01 for n in range(100)]
    expected = ["_" if t < 0.1 or t >= 0.9 else "s" if t < 0.5 else "V" for t in times]
    assert [PHONES[p] for p in found.phones[:100].tolist()] == expected
    loudest = to_samples(found.blocks).abs().amax()
    assert loudest == pytest.approx(0.9, abs=0.05)


def test_parts_have_the_same_voices_and_other_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {}
    for part in ("train", "test"):
        monkeypatch.setattr(waves, "tensor_cache", lambda *_: pytest.fail("rendered"))
        monkeypatch.setattr(
            waves, "lines_digest", lambda job, part=part: said.setdefault(part, job) and ""
        )
        synthetic_waves.cache_clear()
        with pytest.raises(pytest.fail.Exception):
            synthetic_waves(part, 3)  # type: ignore[arg-type]
    voices = [[line.voice for line in job] for job in said.values()]
    assert voices[0] == voices[1]
    texts = [{line.text for line in job} for job in said.values()]
    assert not texts[0] & texts[1]


def test_a_take_of_digits_is_an_utterance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path))
    digit_waves.cache_clear()
    assert wave_versions() == {}
    folder = tmp_path / "spoken-digits"
    for speaker in ("theo", "lucas"):
        for take in (0, 1, 2, 5):
            for digit in range(10):
                write(folder / f"{digit}_{speaker}_{take}.wav", [100 * (1 + digit)] * 200)
    digit_waves.cache_clear()
    found = digit_waves("train")
    assert found.names == ("lucas", "theo") and found.speakers.tolist() == [0, 0, 1, 1]
    assert found.firsts.tolist() == [0, 25, 50, 75, 100]
    assert not found.phones.any()
    assert (to_samples(found.blocks)[:, 20] == to_samples(to_levels(torch.tensor(0.9)))).all()
    assert len(digit_waves("test")) == 2
    assert wave_versions()["spoken digits"].startswith("levels of six speakers, SHA-256 ")
    with pytest.raises(SoundError, match="have the parts train, test, not validation"):
        digit_waves("validation")
    digit_waves.cache_clear()


def test_takes_that_lack_a_digit_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path))
    digit_waves.cache_clear()
    write(tmp_path / "spoken-digits" / "0_theo_1.wav", [5] * 100)
    with pytest.raises(RecordingError, match="take 0 of theo has 0"):
        digit_waves("train")
    digit_waves.cache_clear()


def test_train_and_test_are_other_takes() -> None:
    assert not set(TAKES["train"]) & set(TAKES["test"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([-1], 3), "there are utterances 0 to 7, and no utterance -1"),
        (([8], 3), "there are utterances 0 to 7, and no utterance 8"),
        (([0], 0), "frames must be 1 or more, got 0"),
        (([0], -2), "frames must be 1 or more, got -2"),
        (([0], 3, [-1]), "utterance 0 has 60 frames; 3 from -1 are wanted"),
        (([0], 61), "utterance 0 has 60 frames; 61 from 0 are wanted"),
        (([0, 1], 3, [0]), "got 2 utterances and 1 starts"),
        (([0], 3, []), "got 1 utterances and 0 starts"),
        (([], 3), "crops are of one utterance or more"),
    ],
)
def test_crops_that_there_are_not(arguments: Any, message: str) -> None:
    with pytest.raises(SoundError, match=message):
        made_waves("test", 2).crops(*arguments)


def test_beginnings_that_there_are_not() -> None:
    found = made_waves("test", 2)
    assert len(found.beginnings(3, 5).speakers) == 8, "all that there are"
    for frames, each, message in ((3, 0, "per_speaker must be 1"), (3, -1, "per_speaker must be")):
        with pytest.raises(SoundError, match=message):
            found.beginnings(frames, each)
    fewer = replace(found, speakers=torch.tensor([0, 0, 0, 1, 2, 2, 3, 3]))
    with pytest.raises(SoundError, match="one speaker has 1 utterances, another 2 or more"):
        fewer.beginnings(3, 2)


def test_samples_and_levels_out_of_range() -> None:
    for value in (float("nan"), float("inf")):
        with pytest.raises(SoundError, match="samples must be finite"):
            to_levels(torch.tensor([0.0, value]))
    for level in (-1, 64):
        with pytest.raises(SoundError, match="levels are 0 to 63"):
            to_samples(torch.tensor([0, level]))
    assert to_samples(torch.empty(0, dtype=torch.int64)).shape == (0,)


@pytest.mark.traced
def test_no_utterances_are_refused() -> None:
    (voice, *_) = voices("train")
    made: list[Callable[[], Any]] = [
        lambda: made_waves("test", 0),
        lambda: made_speech("test", 0),
        lambda: made_speech("test", 1, frames=0),
        lambda: lines(voice, 0, "test"),
        lambda: synthetic_waves("test", -1),
    ]
    for make in made:
        with pytest.raises(SoundError, match=r"1 or more|says 1 line"):
            make()
    wrong: Any = "tset"
    made = [lambda: voices(wrong), lambda: made_speech(wrong, 1)]
    for make in made:
        with pytest.raises(SoundError, match="train, validation, test"):
            make()
