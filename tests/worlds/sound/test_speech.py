"""Utterances: parts, batches, crops, cache."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from featurewise.worlds.sound import (
    PHONES,
    SoundError,
    SpeechSource,
    Spoken,
    made_speech,
    speech,
    synthetic_speech,
    voices,
)
from featurewise.worlds.sound.espeak import Line
from featurewise.worlds.sound.made import SPEAKERS
from featurewise.worlds.sound.voices import KINDS, Part, lines

PARTS: tuple[Part, ...] = ("train", "validation", "test")


def test_parts_share_no_kind_of_voice() -> None:
    kind = {name: i for i, names in enumerate(KINDS) for name in names}
    assert len(kind) == sum(map(len, KINDS))
    by_part = [{kind[voice.name] for voice in voices(part)} for part in PARTS]
    assert sum(map(len, by_part)) == len(set().union(*by_part)) == len(KINDS)
    names = [voice.name for part in PARTS for voice in voices(part)]
    assert sorted(names) == sorted(kind)
    assert [len(voices(part)) for part in PARTS] == [51, 7, 20]


def test_lines_depend_on_voice_and_part_alone() -> None:
    one, other = voices("test")[:2]
    assert lines(one, 3, "test") == lines(one, 5, "test")[:3]
    assert lines(one, 3, "test") != lines(one, 3, "unheard")
    assert lines(one, 3, "test")[0].text != lines(other, 3, "test")[0].text
    assert lines(one, 1, "test")[0].voice == f"en-us+{one.name}"
    assert len(lines(one, 1, "test")[0].text.split()) == 7


def test_a_batch_has_different_speakers_and_depends_on_its_index() -> None:
    source = SpeechSource(made_speech("train", 3), 8, 20, seed=1)
    batch = source.batch(5)
    assert batch.features.shape == (8, 20, 40) and batch.phones.shape == (8, 20)
    assert len(set(batch.speakers.tolist())) == 8
    again = SpeechSource(made_speech("train", 3), 8, 20, seed=1).batch(5)
    assert torch.equal(batch.features, again.features)
    assert not torch.equal(batch.features, source.batch(6).features)
    assert not torch.equal(
        batch.features, SpeechSource(made_speech("train", 3), 8, 20, seed=2).batch(5).features
    )


def test_crops_are_frames_of_their_utterance() -> None:
    found = made_speech("test", 2)
    crops = found.crops([3, 0], 10, [5, 38])
    first = int(found.firsts[3])
    assert torch.equal(crops.features[0], found.features[first + 5 : first + 15])
    assert torch.equal(crops.phones[1], found.phones[38:48])
    assert crops.speakers.tolist() == [1, 0]
    with pytest.raises(SoundError, match="utterance 0 has 48 frames; 10 from 39 are wanted"):
        found.crops([0], 10, [39])


def test_a_batch_reaches_every_frame() -> None:
    found = made_speech("train", 1, frames=6)
    source = SpeechSource(found, 12, 4, seed=0)
    seen = {
        float(x) for i in range(30) for x in source.batch(i).features[:, :, 0].flatten().tolist()
    }
    assert seen == set(found.features[:, 0].tolist())


def test_beginnings_take_speakers_in_turn() -> None:
    found = made_speech("test", 3).beginnings(7, 2)
    assert found.speakers.tolist() == [*range(6), *range(6)]
    whole = made_speech("test", 3)
    assert torch.equal(found.features[6], whole.features[48:55])


def test_made_speakers_differ_between_parts_and_phones_are_known() -> None:
    assert len({made_speech(part, 1).features[0, 0].item() for part in PARTS}) == 3
    for part in PARTS:
        found = made_speech(part, 2)
        assert len(found.names) == SPEAKERS[part] and len(found) == 2 * SPEAKERS[part]
        assert int(found.phones.max()) < 8 <= len(PHONES)
    same = made_speech("train", 1, said="other")
    assert not torch.equal(same.phones, made_speech("train", 1).phones)


def test_normalised_features_have_mean_0_and_variance_1() -> None:
    found = made_speech("train", 2)
    changed = found.normalised(found.features.mean(0), found.features.std(0))
    torch.testing.assert_close(changed.features.mean(0), torch.zeros(40), atol=1e-5, rtol=0)
    torch.testing.assert_close(changed.features.std(0), torch.ones(40))
    assert torch.equal(changed.phones, found.phones)


@pytest.mark.parametrize(("size", "frames"), [(0, 5), (13, 5), (4, 0), (4, 49)])
def test_batches_that_cannot_be_are_refused(size: int, frames: int) -> None:
    with pytest.raises(SoundError, match="must be from 1 to (12 speakers|48)"):
        SpeechSource(made_speech("train", 1), size, frames, seed=0)


def test_synthetic_speech_is_rendered_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a synthesiser that hums: frames, phones and speakers of all lines."""
    calls = []

    def hum(said: list[Line]) -> list[Spoken]:
        calls.append(said)
        wave = torch.sin(torch.arange(22050) * 0.1) * 0.5
        return [Spoken(wave, 22050, ("s", "V", "_:"), (2205, 11025, 19845)) for _ in said]

    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path))
    monkeypatch.setattr(speech, "speak", hum)
    synthetic_speech.cache_clear()
    found = synthetic_speech("validation", 2)
    synthetic_speech.cache_clear()
    again = synthetic_speech("validation", 2)
    synthetic_speech.cache_clear()
    assert len(calls) == 1 and len(calls[0]) == 14
    assert torch.equal(found.features, again.features)
    frames = 1 + (8000 - 256) // 128
    assert found.firsts.tolist() == [i * frames for i in range(15)]
    assert found.speakers.tolist() == [i // 2 for i in range(14)]
    assert found.names == tuple(voice.name for voice in voices("validation"))
    times = [(t * 128 + 128) / 8000 for t in range(frames)]
    expected = ["_" if t < 0.1 or t >= 0.9 else "s" if t < 0.5 else "V" for t in times]
    assert [PHONES[p] for p in found.phones[:frames].tolist()] == expected
