"""The effect against a loop and against pedalboard; knobs, segments, tracks."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.worlds.sound.test_recordings import write

from featurewise.worlds.sound import RecordingError, SoundError
from featurewise.worlds.sound.effects import (
    ATTACK_MS,
    BLOCK,
    DRIVE_DB,
    RATIO,
    RELEASE_MS,
    SPEAKERS,
    THRESHOLD_DB,
    EffectSource,
    digit_tracks,
    digit_versions,
    effect,
    made_tracks,
    moving_knobs,
    rendered,
    standing_knobs,
)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def knob(position: float, ends: tuple[float, float]) -> float:
    return ends[0] + (ends[1] - ends[0]) * position


def test_the_effect_is_the_loop() -> None:
    dry = torch.randn(2, 3 * BLOCK, dtype=torch.float64, generator=rng())
    dry[:, BLOCK : 2 * BLOCK] *= 0.01
    knobs = torch.rand(2, 2, 3, generator=rng(1))
    wet = effect(dry, knobs)
    for row in range(2):
        envelope = 0.0
        for t, x in enumerate(dry[row].tolist()):
            threshold, drive = (
                10 ** (knob(p, ends) / 20)
                for p, ends in zip(
                    knobs[row, :, t // BLOCK].tolist(), (THRESHOLD_DB, DRIVE_DB), strict=True
                )
            )
            ms = ATTACK_MS if abs(x) > envelope else RELEASE_MS
            envelope = abs(x) + math.exp(-2 * math.pi / (ms * 8)) * (envelope - abs(x))
            gain = 1.0
            if envelope > threshold:
                gain = (envelope / threshold) ** (1 / RATIO - 1)
            assert wet[row, t].item() == pytest.approx(math.tanh(drive * gain * x), abs=1e-9)


def test_the_effect_is_that_of_pedalboard() -> None:
    pedalboard = pytest.importorskip("pedalboard", reason="pedalboard is not installed")
    tracks = made_tracks("test", 1, 8000)
    found = rendered(tracks, seed=0, copies=1)
    compressor = pedalboard.Compressor(ratio=RATIO, attack_ms=ATTACK_MS, release_ms=RELEASE_MS)
    overdrive = pedalboard.Distortion()
    parts = []
    for block in range(found.knobs.shape[2]):
        threshold, drive = found.knobs[0, :, block].tolist()
        compressor.threshold_db = knob(threshold, THRESHOLD_DB)
        overdrive.drive_db = knob(drive, DRIVE_DB)
        x = found.dry[0, block * BLOCK : (block + 1) * BLOCK].numpy()
        for each in (compressor, overdrive):
            x = each(x, 8000, buffer_size=BLOCK, reset=False)
        parts.append(x)
    assert np.abs(np.concatenate(parts) - found.wet[0].numpy()).max() < 1e-5


def test_knobs_move_in_lines_and_stand() -> None:
    moving = moving_knobs(3, 70, rng())
    assert moving.shape == (3, 2, 70) and moving.min() >= 0 and moving.max() <= 1
    bends = moving.diff(dim=2).diff(dim=2).abs().amax((0, 1)) > 1e-5
    assert bends.nonzero().flatten().tolist() == [31, 63]
    assert moving.diff(dim=2).abs().max() > 0.01
    standing = standing_knobs(3, 70, rng())
    assert (standing == standing[:, :, :1]).all() and standing[:, :, 0].std() > 0.1


def test_the_effect_needs_a_position_for_each_block() -> None:
    with pytest.raises(SoundError, match=r"65 samples need 2\.03125 positions .* got 2"):
        effect(torch.zeros(1, 65), torch.zeros(1, 2, 2))


def test_segments_are_parts_of_tracks() -> None:
    tracks = rendered(made_tracks("train", 3, 1000), seed=1, copies=2)
    assert tracks.dry.shape == (6, 992) and tracks.knobs.shape == (6, 2, 31)
    assert torch.equal(tracks.dry[:3], tracks.dry[3:])
    assert not torch.equal(tracks.knobs[:3], tracks.knobs[3:])
    found = tracks.segments(64, [(5, 2), (0, 29)])
    assert torch.equal(found.dry[0], tracks.dry[5, 64:128])
    assert torch.equal(found.wet[1], tracks.wet[0, 928:992])
    assert torch.equal(found.knobs[1], tracks.knobs[0, :, 29:31])


def test_a_batch_depends_on_its_index() -> None:
    tracks = rendered(made_tracks("train", 3, 1000), seed=1, copies=2)
    source = EffectSource(tracks, 4, 96, seed=0)
    batch, again = source.batch(3), EffectSource(tracks, 4, 96, seed=0).batch(3)
    assert batch.dry.shape == (4, 96) and batch.knobs.shape == (4, 2, 3)
    assert torch.equal(batch.wet, again.wet)
    assert not torch.equal(batch.wet, source.batch(4).wet)
    ends = {tuple(EffectSource(tracks, 1, 960, 0).batch(i).dry[0, :2].tolist()) for i in range(80)}
    assert len(ends) == 6, "3 tracks, from both blocks where a segment of 960 can begin"


@pytest.mark.parametrize("length", [0, 33, 1024])
def test_lengths_that_cannot_be_are_refused(length: int) -> None:
    tracks = rendered(made_tracks("train", 1, 1000), seed=1, copies=1)
    with pytest.raises(SoundError, match=f"multiple of 32 up to 992, got {length}"):
        EffectSource(tracks, 4, length, seed=0)


def test_tracks_of_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path))
    assert digit_versions() == {}
    folder = tmp_path / "spoken-digits"
    for number, speaker in enumerate(s for part in SPEAKERS.values() for s in part):
        for digit in range(10):
            for take in (0, 1, 2, 5):
                height = 100 * (1 + digit) if take != 2 else 30000
                write(folder / f"{digit}_{speaker}_{take}.wav", [height] * (4 + number))
    found = digit_tracks("train")
    assert found.shape == (3, 4 * 30)
    torch.testing.assert_close(found, torch.full_like(found, 0.7))
    assert digit_tracks("test").shape == (2, 8 * 30)
    assert digit_versions()["spoken digits"].startswith("tracks of six speakers, SHA-256 ")


def test_missing_takes_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path))
    write(tmp_path / "spoken-digits" / "0_theo_0.wav", [5])
    with pytest.raises(RecordingError, match="by theo are needed, found 1 of 30"):
        digit_tracks("validation")


def test_parts_share_no_speaker_and_chords_differ() -> None:
    assert len({s for part in SPEAKERS.values() for s in part}) == 6
    one, other = (made_tracks(part, 2, 500) for part in ("train", "test"))
    assert one.shape == (2, 500) and not torch.equal(one, other)
    assert 0.05 < one.abs().max() <= 0.5
