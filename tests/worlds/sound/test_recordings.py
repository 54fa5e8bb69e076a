"""Recordings of spoken digits: a hand-made folder, malformed files, and the real ones."""

from __future__ import annotations

import struct
import wave
from pathlib import Path

import pytest
import torch

from featurewise.worlds.sound import RecordingError
from featurewise.worlds.sound.recordings import (
    read_recording,
    recording_versions,
    spoken_digits,
)


def write(path: Path, samples: list[int], rate: int = 8000, channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(struct.pack(f"<{len(samples)}h", *samples))
    return path


def test_a_folder_is_read_in_order(tmp_path: Path) -> None:
    write(tmp_path / "recordings" / "3_theo_1.wav", [0, 16384, -32768])
    write(tmp_path / "recordings" / "1_theo_1.wav", [1])
    write(tmp_path / "recordings" / "9_george_12.wav", [2])
    (tmp_path / "recordings" / "notes.txt").write_text("not a recording")
    found = spoken_digits(tmp_path)
    assert [(each.speaker, each.take, each.digit) for each in found] == [
        ("george", 12, 9),
        ("theo", 1, 1),
        ("theo", 1, 3),
    ]
    assert torch.equal(found[2].samples, torch.tensor([0.0, 0.5, -1.0]))
    assert [each.samples for each in spoken_digits(tmp_path / "recordings")] == [
        each.samples for each in found
    ]
    assert recording_versions(tmp_path)["spoken digits"].startswith("3 recordings, SHA-256 ")


def test_an_empty_folder_says_where_recordings_come_from(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"no recordings: get github\.com/Jakobovski"):
        spoken_digits(tmp_path)
    assert recording_versions(tmp_path / "nowhere") == {}


@pytest.mark.parametrize(
    "name", ["theo_1_3.wav", "12_theo_1.wav", "3_theo.wav", "3_THEO_1.wav", "٣_theo_1.wav"]
)
def test_other_names_are_refused(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, [1])
    with pytest.raises(RecordingError, match=rf"{name}: the name must be .* 7_george_12\.wav"):
        read_recording(path)


@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (8000, 2)])
def test_other_sound_is_refused(tmp_path: Path, rate: int, channels: int) -> None:
    path = write(tmp_path / "3_theo_1.wav", [1, 2], rate, channels)
    wanted = rf"3_theo_1\.wav: must have 8000 samples .* has {rate}, {channels} and 16"
    with pytest.raises(RecordingError, match=wanted):
        read_recording(path)


def test_files_that_are_no_recordings_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "3_theo_1.wav"
    path.write_bytes(b"")
    with pytest.raises(RecordingError, match=r"3_theo_1\.wav: is not a WAV file"):
        read_recording(path)
    path.write_bytes(b"RIFF0000WAVEnothing")
    with pytest.raises(RecordingError, match=r"3_theo_1\.wav: is not a WAV file"):
        read_recording(path)
    write(path, [])
    with pytest.raises(RecordingError, match=r"3_theo_1\.wav: has no samples"):
        read_recording(path)
    write(path, [1, 2, 3, 4])
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(RecordingError, match=r"3_theo_1\.wav: has 2 of 4 samples"):
        read_recording(path)
    path.write_bytes(b"\0" * ((1 << 20) + 1))
    with pytest.raises(RecordingError, match=r"3_theo_1\.wav: cannot be read: is longer"):
        read_recording(path)
    with pytest.raises(RecordingError, match=r"3_nobody_1\.wav: cannot be read"):
        read_recording(tmp_path / "3_nobody_1.wav")


def test_versions_name_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "3_theo_1.wav").mkdir()
    with pytest.raises(RecordingError, match=r"3_theo_1\.wav: cannot be read"):
        recording_versions(tmp_path)


def test_the_real_recordings() -> None:
    try:
        found = spoken_digits()
    except RecordingError as error:
        pytest.skip(f"the recordings are not here: {error}")
    speakers = {each.speaker for each in found}
    assert speakers == {"george", "jackson", "lucas", "nicolas", "theo", "yweweler"}
    assert len(found) == 60 * len({each.take for each in found})
    assert {each.digit for each in found} == set(range(10))
    assert all(0.01 < each.samples.abs().max() <= 1 for each in found)
