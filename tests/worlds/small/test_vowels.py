"""The reader of ``vowel-context.data``, on handwritten lines in its format."""

from __future__ import annotations

from pathlib import Path

import pytest

from featurewise.worlds.small import SmallWorldError
from featurewise.worlds.small.vowels import (
    VOWELS,
    VowelError,
    read_vowels,
    vowel_samples,
    vowel_versions,
)

# The columns of the UCI file; the numbers are made up.
LINES = """\
0  0  0  -3.101  0.502  -0.611  1.250  -0.205  0.413  -0.330  0.770  -0.145  0.060  0
0  0  0  -2.954  0.448  -0.590  1.199  -0.180  0.390  -0.301  0.702  -0.100  0.021  1
0  4  1  -4.012  1.903  -0.877  0.102   0.644 -0.230   0.415  0.118  -0.760  0.333  10

1  8  0  -3.500  2.071  -1.020  0.255   0.890 -0.410   0.520  0.060  -0.830  0.410  5
1 14  1  -2.000  1.000   0.000  0.500  -1.000  0.250   0.125  1.500  -0.250  0.750  10
"""


def test_columns(tmp_path: Path) -> None:
    path = tmp_path / "vowel-context.data"
    path.write_text(LINES)
    vowels = read_vowels(path)
    assert vowels.features.shape == (5, 10)
    assert vowels.features[4].tolist() == [-2, 1, 0, 0.5, -1, 0.25, 0.125, 1.5, -0.25, 0.75]
    assert [VOWELS[v] for v in vowels.vowels] == ["hid", "hId", "hed", "had", "hed"]
    assert vowels.speakers.tolist() == [0, 0, 4, 8, 14]
    assert vowels.female.tolist() == [False, False, True, False, True]
    assert vowels.test.tolist() == [False, False, False, True, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no lines"),
        ("\n \n", "no lines"),
        (LINES.replace("0.060  0\n", "0.060\n", 1), "data:1: a line must have 14 fields, got 13"),
        (LINES.replace("-2.954", "x", 1), "data:2: could not convert"),
        (LINES.replace("0  4  1", "0  4  2", 1), "data:3: split and sex must be 0 or 1"),
        (LINES.replace("1  8  0", "3  8  0", 1), "data:5: split and sex must be 0 or 1"),
        (LINES.replace("1  8  0", "1 -8  0", 1), "data:5: split and sex must be 0 or 1"),
        (LINES.replace("0.410  5", "0.410  11", 1), "data:5: vowel must be from 0 to 10, got 11"),
        (LINES.replace("0.410  5", "nan  5", 1), "data:5: a feature is not finite"),
    ],
)
def test_malformed_lines_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "vowel-context.data"
    path.write_text(text)
    with pytest.raises(VowelError, match=message) as raised:
        read_vowels(path)
    assert str(path) in str(raised.value)
    assert isinstance(raised.value, SmallWorldError)


def rows(frames: dict[tuple[int, int, int], float]) -> str:
    """Lines of (test, speaker, vowel) -> number of its first frame; two frames each."""
    lines = []
    for (test, speaker, vowel), first in frames.items():
        lines += [f"{test} {speaker} 0 {first + n} {'0 ' * 9}{vowel}" for n in range(2)]
    return "\n".join(lines)


def test_samples_are_by_speaker_and_vowel(tmp_path: Path) -> None:
    path = tmp_path / "vowel-context.data"
    frames = {
        (test, speaker, vowel): 1000.0 * speaker + 10 * vowel
        for test, speaker in ((1, 9), (0, 2), (0, 0))
        for vowel in reversed(range(len(VOWELS)))
    }
    path.write_text(rows(frames))
    train, test = vowel_samples("train", path), vowel_samples("test", path)
    assert train.shape == (2, 11, 2, 10)
    assert test.shape == (1, 11, 2, 10)
    assert train[1, 4, :, 0].tolist() == [2040, 2041]
    assert test[0, 10, :, 0].tolist() == [9100, 9101]


def test_speakers_with_other_numbers_of_frames_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "vowel-context.data"
    path.write_text(LINES)
    with pytest.raises(VowelError, match="as many frames of each vowel"):
        vowel_samples("train", path)


def test_a_missing_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path))
    with pytest.raises(VowelError, match=r"vowels/vowel-context.data is missing: get .* UCI"):
        vowel_samples("test")


def test_the_version_is_the_hash_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "vowel-context.data"
    assert vowel_versions(path) == {}
    path.write_bytes(b"")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert vowel_versions(path) == {"vowel-context.data": f"SHA-256 {empty}"}
