"""Batches of every source are pure functions of seed and step."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from featurewise.worlds.clevr import (
    ANSWERS,
    QUESTION_TYPES,
    VOCABULARY,
    Batch,
    ClevrFolder,
    DiskSource,
    FormatError,
    OnlineSource,
    PoolSource,
    Recipe,
    WorldError,
    build_pool,
    collate,
    encode,
    load_image,
    pool,
    question_type,
    read_questions,
    stream,
    write_dataset,
)
from featurewise.worlds.clevr.data import object_table
from featurewise.worlds.clevr.disk import read_queries
from featurewise.worlds.clevr.generate import derive_seed
from featurewise.worlds.clevr.vocabulary import ATTRIBUTES

SMALL = Path(__file__).parent / "fixtures" / "small"
BLENDER = Path(__file__).parents[4] / "shared" / "data" / "clevr_blender"
TINY = Recipe(seed=5, width=12, height=8, samples=1, questions_per_image=6, max_objects=4)
ONLINE = OnlineSource(
    seed=5, width=12, height=8, samples=1, questions_per_image=3, max_objects=4, images_per_batch=3
)
IMAGES = 12
BLOCK = 5


def same(one: Batch, other: Batch) -> bool:
    return all(torch.equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(Batch))


def digest(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks in a pool of a few images."""
    monkeypatch.setattr("featurewise.worlds.clevr.data.BALANCE_BLOCK", BLOCK)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pool")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("featurewise.worlds.clevr.data.BALANCE_BLOCK", BLOCK)
        return build_pool(folder, TINY, images=IMAGES)


def check_batch(batch: Batch) -> None:
    """Assert the invariants of a batch."""
    batch_size = len(batch.answers)
    assert batch.images.dtype == torch.uint8 and batch.images.shape[1] == 3
    assert batch.questions.shape == (batch_size, int(batch.lengths.max()))
    assert batch.image_index.min() >= 0 and batch.image_index.max() < len(batch.images)
    assert batch.answers.min() >= -1 and batch.answers.max() < len(ANSWERS)
    assert batch.types.min() >= -1 and batch.types.max() < len(QUESTION_TYPES)
    for ids, length in zip(batch.questions, batch.lengths, strict=True):
        assert (ids[:length] != 0).all() and (ids[length:] == 0).all()
        assert ids.max() < len(VOCABULARY)


def test_collate_pads_with_zeros() -> None:
    images = torch.zeros(2, 3, 4, 5, dtype=torch.uint8)
    batch = collate(images, [1, 0], [[3, 4, 5], [6]], [2, -1], [-1, 0])
    assert batch.questions.tolist() == [[3, 4, 5], [6, 0, 0]]
    assert batch.lengths.tolist() == [3, 1] and batch.image_index.tolist() == [1, 0]
    assert batch.answers.tolist() == [2, -1] and batch.types.tolist() == [-1, 0]
    names = ("image_index", "questions", "lengths", "answers", "types")
    assert all(getattr(batch, name).dtype == torch.int64 for name in names)
    assert batch.objects is None


def test_collate_rejects_inconsistent_arguments() -> None:
    images = torch.zeros(2, 3, 4, 5, dtype=torch.uint8)
    with pytest.raises(WorldError, match="one length"):
        collate(images, [0], [[1], [2]], [0, 0], [0, 0])
    for row in (-1, 2):
        with pytest.raises(WorldError, match=r"0\.\.1"):
            collate(images, [row], [[1]], [0], [0])


def test_a_batch_can_be_moved_to_a_device() -> None:
    batch = collate(torch.zeros(1, 3, 2, 2, dtype=torch.uint8), [0], [[1]], [0], [0])
    assert batch.to("meta").objects is None
    moved = replace(batch, objects=torch.zeros(1, 10, 6, dtype=torch.int64)).to("meta")
    assert all(getattr(moved, f.name).device.type == "meta" for f in fields(Batch))


def test_derived_seeds_differ() -> None:
    seeds = [derive_seed(s, *path) for s in range(20) for path in [(), (0,), (1,), (0, 0), (0, 1)]]
    assert len(set(seeds)) == len(seeds) and all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(3, 1, 2) == derive_seed(3, 1, 2)


# ---- generated online


def test_online_batches_are_a_function_of_seed_and_step() -> None:
    first, second = ONLINE.batch(0), ONLINE.batch(1)
    check_batch(first)
    assert first.images.shape == (3, 3, 8, 12)
    assert same(ONLINE.batch(0), first) and not same(first, second)
    assert same(replace(ONLINE).batch(1), second)
    assert not same(replace(ONLINE, seed=6).batch(0), first)


def test_online_batches_have_the_questions_of_the_generator() -> None:
    batch = ONLINE.batch(2)
    scenes = ONLINE.scenes(2, 3)
    generated = ONLINE.questions(2, scenes)
    assert torch.equal(batch.images, ONLINE.images(scenes))
    expected = [(row, q) for row, questions in enumerate(generated) for q in questions]
    assert len(expected) == len(batch.answers)
    for i, (row, question) in enumerate(expected):
        assert batch.image_index[i] == row
        assert batch.questions[i, : batch.lengths[i]].tolist() == encode(question.text)
        assert ANSWERS[int(batch.answers[i])] == question.answer
        assert QUESTION_TYPES[int(batch.types[i])] == question_type(question.program)


def test_online_sources_use_families_and_cogent() -> None:
    counting = replace(ONLINE, families=(84,), questions_per_image=1).batch(0)
    assert {QUESTION_TYPES[int(t)] for t in counting.types} == {"count"}
    for scene in replace(ONLINE, cogent="A").scenes(0, 12):
        for thing in scene.objects:
            assert not (thing.shape == "cube" and thing.color == "red")


@pytest.mark.parametrize("workers", [1, 2])
def test_worker_processes_do_not_change_the_order(workers: int) -> None:
    sequential = list(stream(ONLINE, 1, 4))
    parallel = list(stream(ONLINE, 1, 4, workers=workers))
    assert len(sequential) == len(parallel) == 3
    assert all(map(same, sequential, parallel))
    assert same(sequential[0], ONLINE.batch(1))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seed": -1}, "seed"),
        ({"width": 0}, "width"),
        ({"height": -3}, "height"),
        ({"samples": 0}, "samples"),
        ({"questions_per_image": 0}, "questions_per_image"),
        ({"min_objects": 5}, "min_objects"),
        ({"max_objects": 11}, "max_objects"),
        ({"cogent": "C"}, "cogent"),
        ({"images_per_batch": 0}, "images_per_batch"),
    ],
)
def test_impossible_recipes_are_rejected(change: dict[str, object], says: str) -> None:
    with pytest.raises(WorldError, match=says):
        replace(ONLINE, **change)


def test_negative_steps_are_rejected(folder: Path) -> None:
    for source in (ONLINE, PoolSource(folder, images_per_batch=2)):
        with pytest.raises(WorldError, match="step"):
            source.batch(-1)


# ---- pools


def questions_of(batch: Batch) -> Iterable[tuple[bytes, tuple[int, ...], int, int]]:
    """Each question with the bytes of its image."""
    for i, row in enumerate(batch.image_index):
        ids = tuple(batch.questions[i, : batch.lengths[i]].tolist())
        yield batch.images[row].numpy().tobytes(), ids, int(batch.answers[i]), int(batch.types[i])


def test_a_pool_has_the_images_and_questions_of_its_recipe(folder: Path) -> None:
    batches = list(PoolSource(folder, images_per_batch=5).in_order())
    assert [len(batch.images) for batch in batches] == [5, 5, 2]
    for block, batch in enumerate(batches):
        check_batch(batch)
        scenes = TINY.scenes(block, len(batch.images))
        generated = TINY.questions(block, scenes)
        assert torch.equal(batch.images, TINY.images(scenes))
        flat = [question for questions in generated for question in questions]
        found = [ids for _, ids, _, _ in questions_of(batch)]
        assert found == [tuple(encode(question.text)) for question in flat]
        assert [ANSWERS[int(a)] for a in batch.answers] == [q.answer for q in flat]


def test_the_first_images_of_a_pool(folder: Path) -> None:
    source = PoolSource(folder, images_per_batch=5)
    first = list(source.in_order(images=7))
    assert [len(batch.images) for batch in first] == [5, 2]
    for short, whole in zip(first, source.in_order(), strict=False):
        assert torch.equal(short.images, whole.images[: len(short.images)])
        assert list(questions_of(short)) == list(questions_of(whole))[: len(short.lengths)]
    assert len(list(source.in_order(images=99))) == 3


def test_batches_have_the_objects_of_their_images(folder: Path) -> None:
    objects = torch.cat(
        [batch.objects for batch in PoolSource(folder, images_per_batch=5).in_order()]
    )
    scenes = [
        scene for block, size in ((0, 5), (1, 5), (2, 2)) for scene in TINY.scenes(block, size)
    ]
    for rows, scene in zip(objects.tolist(), scenes, strict=True):
        found = [
            (*(ATTRIBUTES[name][i] for name, i in zip(ATTRIBUTES, row, strict=False)), *row[4:])
            for row in rows
            if row[0] >= 0
        ]
        expected = [(o.size, o.color, o.material, o.shape, *o.pixel[:2]) for o in scene.objects]
        assert found == expected


def test_pool_batches_are_a_function_of_seed_and_step(folder: Path) -> None:
    source = PoolSource(folder, seed=1, images_per_batch=4, questions_per_image=2)
    steps = list(range(2 * source.steps_per_epoch))
    forward = [source.batch(step) for step in steps]
    again = PoolSource(folder, seed=1, images_per_batch=4, questions_per_image=2)
    for step in reversed(steps):
        check_batch(forward[step])
        assert same(again.batch(step), forward[step])
    other = PoolSource(folder, seed=2, images_per_batch=4, questions_per_image=2)
    assert not same(other.batch(0), forward[0])
    orders = [
        [source.batch(epoch * source.steps_per_epoch + i).images for i in range(3)]
        for epoch in (0, 1)
    ]
    assert not torch.equal(torch.cat(orders[0]), torch.cat(orders[1]))


def test_an_epoch_has_every_question_once(folder: Path) -> None:
    source = PoolSource(folder, images_per_batch=4)
    everything = Counter(q for batch in source.in_order() for q in questions_of(batch))
    for epoch in range(2):
        first = epoch * source.steps_per_epoch
        steps = range(first, first + source.steps_per_epoch)
        assert Counter(q for s in steps for q in questions_of(source.batch(s))) == everything


def test_question_subsets_cover_all_questions(folder: Path) -> None:
    """With k of n questions per epoch, n/k epochs have every question once."""
    source = PoolSource(folder, images_per_batch=4, questions_per_image=2)
    everything = Counter(q for batch in source.in_order() for q in questions_of(batch))
    assert sum(everything.values()) == 6 * IMAGES
    for cycle in range(2):
        first = 3 * cycle * source.steps_per_epoch
        steps = range(first, first + 3 * source.steps_per_epoch)
        assert Counter(q for s in steps for q in questions_of(source.batch(s))) == everything


def test_a_copy_of_a_pool_for_another_process_maps_the_same_files(folder: Path) -> None:
    source = PoolSource(folder, images_per_batch=4)
    _, parts = source.pool.__reduce__()
    assert parts == (folder,)
    other = copy.copy(source)
    other.pool = copy.copy(source.pool)
    assert isinstance(other.pool.images, np.memmap) and other.pool.images is not source.pool.images
    assert same(other.batch(3), source.batch(3))


def test_a_pool_does_not_depend_on_processes(folder: Path, tmp_path: Path) -> None:
    made: list[tuple[int, int]] = []
    build_pool(
        tmp_path, TINY, images=IMAGES, workers=2, on_progress=lambda *counts: made.append(counts)
    )
    assert digest(tmp_path) == digest(folder)
    assert made[-1] == (IMAGES, IMAGES) and made == sorted(made)


class InterruptionError(Exception):
    """Ends a run from its progress callback."""


def test_an_interrupted_pool_is_resumed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(made: int, total: int) -> None:
        if made >= 2 * BLOCK:
            raise InterruptionError

    with pytest.raises(InterruptionError):
        build_pool(tmp_path, TINY, images=IMAGES, on_progress=stop)
    with pytest.raises(FormatError, match=r"pool\.json.*no finished pool"):
        PoolSource(tmp_path)
    made: list[int] = []
    whole = Recipe.scenes
    monkeypatch.setattr(
        Recipe, "scenes", lambda self, block, size: made.append(block) or whole(self, block, size)
    )
    build_pool(tmp_path, TINY, images=IMAGES)
    assert made == [2]
    assert digest(tmp_path) == digest(folder)
    build_pool(tmp_path, TINY, images=IMAGES)
    assert made == [2]


def test_a_block_whose_images_were_lost_is_made_again(folder: Path, tmp_path: Path) -> None:
    def stop(made: int, total: int) -> None:
        raise InterruptionError

    with pytest.raises(InterruptionError):
        build_pool(tmp_path, TINY, images=IMAGES, on_progress=stop)
    images = np.lib.format.open_memmap(tmp_path / "images.npy", mode="r+")
    images[2] = 0
    images.flush()
    build_pool(tmp_path, TINY, images=IMAGES)
    assert digest(tmp_path) == digest(folder)


@pytest.mark.parametrize("where", ["header", "image", "part", "no part", "cut", "longer"])
def test_damaged_parts_of_an_unfinished_pool_are_made_again(
    folder: Path, tmp_path: Path, where: str
) -> None:
    def stop(made: int, total: int) -> None:
        if made >= 2 * BLOCK:
            raise InterruptionError

    with pytest.raises(InterruptionError):
        build_pool(tmp_path, TINY, images=IMAGES, on_progress=stop)
    part, images = tmp_path / "parts/000001.part", tmp_path / "images.npy"
    if where == "no part":
        part.unlink()
    elif where == "cut":
        os.truncate(images, images.stat().st_size - 10)
    elif where == "longer":
        os.truncate(images, images.stat().st_size + 10)
    else:
        path, at = {
            "header": (images, 60),
            "image": (images, 500),
            "part": (part, part.stat().st_size // 2),
        }[where]
        content = bytearray(path.read_bytes())
        content[at] ^= 4
        path.write_bytes(content)
    build_pool(tmp_path, TINY, images=IMAGES)
    assert digest(tmp_path) == digest(folder)


def test_two_threads_make_a_pool_once(tmp_path: Path, folder: Path) -> None:
    counts: list[int] = []
    threads = [
        threading.Thread(
            target=build_pool,
            args=(tmp_path, TINY),
            kwargs={"images": IMAGES, "on_progress": lambda made, total: counts.append(made)},
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == sorted(set(counts)) and counts[-1] == IMAGES
    assert digest(tmp_path) == digest(folder)


def test_every_bit_of_a_part_is_hashed(tmp_path: Path) -> None:
    def stop(made: int, total: int) -> None:
        raise InterruptionError

    with pytest.raises(InterruptionError):
        build_pool(tmp_path, TINY, images=IMAGES, on_progress=stop)
    part = tmp_path / "parts/000000.part"
    whole = part.read_bytes()
    rng = np.random.default_rng(0)
    assert pool._read_part(part) is not None
    for _ in range(300):
        content = bytearray(whole)
        content[rng.integers(len(whole))] ^= 1 << int(rng.integers(8))
        part.write_bytes(content)
        assert pool._read_part(part) is None


def test_a_block_that_is_damaged_while_others_are_made_raises_an_error(
    folder: Path, tmp_path: Path
) -> None:
    def damage(made: int, total: int) -> None:
        if made == 2 * BLOCK:
            (tmp_path / "parts/000000.part").write_bytes(b"")

    with pytest.raises(WorldError, match="block 0 was damaged while others were made"):
        build_pool(tmp_path, TINY, images=IMAGES, on_progress=damage)
    build_pool(tmp_path, TINY, images=IMAGES)
    assert digest(tmp_path) == digest(folder)


KILLED = """
from featurewise.worlds.clevr import Recipe, build_pool, data
if __name__ == "__main__":
    data.BALANCE_BLOCK = {block}
    recipe = Recipe({recipe})
    on_progress = lambda made, total: print(made, flush=True)
    build_pool({folder!r}, recipe, images={images}, on_progress=on_progress)
"""


def test_a_killed_pool_is_resumed_with_identical_files(folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    recipe = "seed=5, width=12, height=8, samples=1, questions_per_image=6, max_objects=4"
    target = tmp_path / "pool"
    script.write_text(KILLED.format(block=BLOCK, folder=str(target), recipe=recipe, images=IMAGES))
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    build_pool(target, TINY, images=IMAGES)
    assert digest(target) == digest(folder)


def die(block: int, size: int) -> pool.Block:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def test_a_killed_worker_raises_a_clear_error(tmp_path: Path) -> None:
    plan = pool.Plan({}, (4, 3, 2, 2), block_size=2, make=die)
    start = time.monotonic()
    with pytest.raises(WorldError, match="worker process died"):
        pool.build(tmp_path, plan, workers=1)
    assert time.monotonic() - start < 60


@dataclass(frozen=True, kw_only=True)
class Killed(OnlineSource):
    """Kills its worker process in step 2."""

    def batch(self, step: int) -> Batch:
        if step == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().batch(step)


def test_a_killed_worker_of_a_stream_raises_a_clear_error() -> None:
    source = Killed(seed=5, width=12, height=8, samples=1, images_per_batch=2)
    begun = time.monotonic()
    with pytest.raises(WorldError, match="a process that makes batches died"):
        list(stream(source, 0, 4, workers=1))
    assert time.monotonic() - begun < 60


def test_a_folder_of_another_pool_is_rejected(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(WorldError, match="other settings"):
        build_pool(folder, replace(TINY, seed=6), images=IMAGES)
    with pytest.raises(WorldError, match="other settings"):
        build_pool(folder, TINY, images=IMAGES + 1)
    with pytest.raises(WorldError, match="at least 1 image"):
        build_pool(tmp_path, TINY, images=0)


def test_impossible_pool_sources_are_rejected(folder: Path) -> None:
    for wrong in (
        {"seed": -1},
        {"images_per_batch": 0},
        {"images_per_batch": IMAGES + 1},
        {"questions_per_image": 0},
    ):
        with pytest.raises(WorldError, match=next(iter(wrong))):
            PoolSource(folder, **{"images_per_batch": 2, **wrong})


def spoil(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "flipped":
        content[len(content) // 2] ^= 1
    elif how == "truncated":
        del content[-10:]
    elif how == "extended":
        content += b"\0" * 16
    else:
        content.clear()
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["flipped", "truncated", "extended", "emptied"])
@pytest.mark.parametrize("name", ["images.npy", "questions.safetensors"])
def test_an_altered_pool_is_rejected(folder: Path, tmp_path: Path, name: str, how: str) -> None:
    target = tmp_path / "pool"
    shutil.copytree(folder, target)
    spoil(target / name, how)
    with pytest.raises(FormatError, match=f"{name}: altered"):
        PoolSource(target)


@pytest.mark.parametrize("name", ["images.npy", "questions.safetensors", "pool.json"])
def test_an_incomplete_pool_is_rejected(folder: Path, tmp_path: Path, name: str) -> None:
    target = tmp_path / "pool"
    shutil.copytree(folder, target)
    (target / name).unlink()
    with pytest.raises(FormatError, match=f"{name}: not found"):
        PoolSource(target)


@pytest.mark.parametrize("key", ["format", "vocabulary", "answers", "types"])
def test_a_pool_with_another_vocabulary_is_rejected(folder: Path, tmp_path: Path, key: str) -> None:
    target = tmp_path / "pool"
    shutil.copytree(folder, target)
    manifest = json.loads((target / "pool.json").read_text())
    manifest[key] = manifest[key] + 1 if key == "format" else manifest[key][::-1]
    (target / "pool.json").write_text(json.dumps(manifest))
    with pytest.raises(FormatError, match=r"pool\.json"):
        PoolSource(target)


@pytest.mark.parametrize(
    ("key", "value"),
    [("settings", None), ("settings", []), ("sha256", None), ("sha256", []), ("sha256", {})],
)
def test_a_manifest_without_its_hashes_is_rejected(
    folder: Path, tmp_path: Path, key: str, value: object
) -> None:
    target = tmp_path / "pool"
    shutil.copytree(folder, target)
    manifest = json.loads((target / "pool.json").read_text())
    manifest[key] = value
    (target / "pool.json").write_text(json.dumps(manifest))
    with pytest.raises(FormatError, match=r"missing|altered"):
        PoolSource(target)


def test_every_bit_of_a_manifest_is_hashed(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "pool"
    shutil.copytree(folder, target)
    whole = (target / "pool.json").read_bytes()
    content_before = json.loads(whole)
    rng = np.random.default_rng(0)
    for _ in range(300):
        content = bytearray(whole)
        content[rng.integers(len(whole))] ^= 1 << int(rng.integers(8))
        (target / "pool.json").write_bytes(content)
        try:
            pool.Pool(target)
        except FormatError as error:
            assert str(error).startswith(str(target))
        else:  # white space became other white space
            assert json.loads(content) == content_before


def test_a_pool_of_version_0_1_without_seal_is_read(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "pool"
    shutil.copytree(folder, target)
    manifest = json.loads((target / "pool.json").read_text())
    del manifest["seal"]
    (target / "pool.json").write_text(json.dumps(manifest))
    assert len(pool.Pool(target)) == IMAGES
    for name in (pool.IMAGE_COUNT_KEY, "questions"):
        other = {**manifest, name: manifest[name] + 1}
        (target / "pool.json").write_text(json.dumps(other))
        with pytest.raises(FormatError, match=f'"{name}" is .* but the pool holds'):
            pool.Pool(target)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 30_000, "{}", '{"format": 1}'])
def test_a_broken_manifest_is_rejected(folder: Path, tmp_path: Path, text: str) -> None:
    target = tmp_path / "pool"
    shutil.copytree(folder, target)
    (target / "pool.json").write_text(text)
    with pytest.raises(FormatError, match=r"pool\.json"):
        PoolSource(target)


# ---- files in CLEVR's format


def test_a_disk_source_has_the_images_and_questions_of_the_files(tmp_path: Path) -> None:
    source = DiskSource(SMALL, "val", width=6, height=4, cache=tmp_path, images_per_batch=2)
    (batch,) = source.in_order()
    check_batch(batch)
    records = read_questions(ClevrFolder(SMALL, "val").questions)
    assert batch.image_index.tolist() == [0, 0, 1]
    assert [ANSWERS[int(a)] for a in batch.answers] == [record.answer for record in records]
    assert [QUESTION_TYPES[int(t)] for t in batch.types] == ["query_color", "count", "exist"]
    for i, record in enumerate(records):
        assert batch.questions[i, : batch.lengths[i]].tolist() == encode(record.text)
    for row in (0, 1):
        path = SMALL / f"images/val/CLEVR_val_{row:06d}.png"
        assert torch.equal(batch.images[row], load_image(path, 6, 4))
    assert same(source.batch(3), source.batch(3))


def test_a_disk_source_reads_a_data_set_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_small(width: int = 6) -> Path:
        source = DiskSource(
            tmp_path / "data", "val", width=width, height=4, cache=tmp_path, images_per_batch=1
        )
        return source.pool.folder

    shutil.copytree(SMALL, tmp_path / "data")
    first = open_small()
    assert open_small(width=7) != first
    image = tmp_path / "data/images/val/CLEVR_val_000000.png"
    os.utime(image, ns=(0, 1))
    assert open_small() == first  # the image is the same
    before = image.stat()
    image.write_bytes((tmp_path / "data/images/val/CLEVR_val_000001.png").read_bytes())
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (image.stat().st_size, image.stat().st_mtime_ns) == (before.st_size, 1)
    second = open_small()
    assert second != first
    questions = tmp_path / "data/questions/CLEVR_val_questions.json"
    questions.write_text(questions.read_text() + "\n")
    assert open_small() not in (first, second)

    def fail(*args: object) -> None:
        raise AssertionError("read a second time")

    monkeypatch.setattr("featurewise.worlds.clevr.disk.load_image", fail)
    open_small()


def test_a_disk_source_of_a_test_split_has_no_answers(tmp_path: Path) -> None:
    source = DiskSource(SMALL, "test", width=6, height=4, cache=tmp_path, images_per_batch=1)
    batch = source.batch(0)
    assert batch.answers.tolist() == [-1, -1] and batch.types.tolist() == [-1, -1]


def test_a_disk_source_takes_other_questions(tmp_path: Path) -> None:
    source = DiskSource(
        SMALL,
        "val",
        width=6,
        height=4,
        cache=tmp_path,
        questions=SMALL / "CLEVR-Humans-val.json",
        images_per_batch=2,
    )
    (batch,) = source.in_order()
    assert [ANSWERS[int(a)] for a in batch.answers] == ["blue", "yes"]
    assert batch.types.tolist() == [-1, -1]
    assert (batch.questions == 1).sum() >= 2


def test_a_limit_reads_the_first_images_and_their_questions(tmp_path: Path) -> None:
    whole = DiskSource(SMALL, "val", width=6, height=4, cache=tmp_path, images_per_batch=1)
    some = DiskSource(SMALL, "val", width=6, height=4, cache=tmp_path, images_per_batch=1, limit=1)
    (batch,) = some.in_order()
    assert same(batch, next(iter(whole.in_order())))


def test_questions_keep_the_order_of_the_file(tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(SMALL, root)
    place = ClevrFolder(root, "val")
    content = json.loads(place.questions.read_text())
    keep = ("image_filename", "question")
    content["questions"] = [{k: q[k] for k in keep} for q in content["questions"][::-1]]
    place.questions.write_text(json.dumps(content))
    queries = read_queries(place)
    assert list(queries) == ["CLEVR_val_000000.png", "CLEVR_val_000001.png"]
    assert [[each.number for each in some] for some in queries.values()] == [[1, 2], [0]]
    assert {each.answer for some in queries.values() for each in some} == {-1}


def test_a_changed_target_of_a_link_is_read_again(tmp_path: Path) -> None:
    def open_linked() -> Path:
        source = DiskSource(
            tmp_path / "data", "val", width=6, height=4, cache=tmp_path, images_per_batch=1
        )
        return source.pool.folder

    shutil.copytree(SMALL, tmp_path / "data")
    link = tmp_path / "data/images/val/CLEVR_val_000000.png"
    link.rename(tmp_path / "store.png")
    link.symlink_to(tmp_path / "store.png")
    first = open_linked()
    shutil.copy(SMALL / "images/val/CLEVR_val_000001.png", tmp_path / "store.png")
    os.utime(tmp_path / "store.png", ns=(0, 1))
    assert open_linked() != first


def test_labels_are_the_objects_of_the_scenes_file(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_dataset(root, count=2, seed=3, split="val", width=36, height=48, samples=1)
    source = DiskSource(
        root, "val", width=6, height=4, cache=tmp_path, images_per_batch=2, labels=True
    )
    (batch,) = source.in_order()
    assert batch.objects is not None
    scenes = Recipe(seed=3, width=36, height=48, samples=1).scenes(0, 2)
    expected = torch.from_numpy(object_table(scenes)).long()
    assert torch.equal(batch.objects[..., :4], expected[..., :4])
    # Coordinates were rounded to pixels of an image of 36 columns.
    assert (batch.objects - expected).abs().max() <= 480 / 36
    plain = DiskSource(root, "val", width=6, height=4, cache=tmp_path, images_per_batch=2)
    assert (next(iter(plain.in_order())).objects == -1).all()
    record = json.loads((root / "scenes/CLEVR_val_scenes.json").read_text())
    record["scenes"].pop()
    (root / "scenes/CLEVR_val_scenes.json").write_text(json.dumps(record))
    with pytest.raises(FormatError, match=r"has no scene of CLEVR_val_000001\.png"):
        DiskSource(root, "val", width=6, height=4, cache=tmp_path, images_per_batch=2, labels=True)


@pytest.mark.parametrize("end", [0.0, 0.5, 0.9])
def test_a_share_of_a_pool_has_its_images(folder: Path, end: float) -> None:
    parts = [(0.0, end), (end, 1.0)] if end else [(0.0, 1.0)]
    sources = [PoolSource(folder, images_per_batch=1, share=part) for part in parts]
    assert [i for source in sources for i in source.image_range] == list(range(IMAGES))
    whole = list(PoolSource(folder, images_per_batch=1).in_order())
    found = [batch for source in sources for batch in source.in_order()]
    assert all(map(same, found, whole))
    for source in sources:
        first = {batch.images.numpy().tobytes() for batch in source.in_order()}
        steps = range(source.steps_per_epoch)
        assert {source.batch(step).images.numpy().tobytes() for step in steps} == first
    with pytest.raises(WorldError, match="share must rise"):
        PoolSource(folder, share=(1.0, 0.5))


@pytest.mark.skipif(not BLENDER.is_dir(), reason=f"official images not found at {BLENDER}")
def test_a_disk_source_reads_official_data(tmp_path: Path) -> None:
    source = DiskSource(BLENDER, "valA", cache=tmp_path, images_per_batch=8)
    batches = list(source.in_order())
    assert sum(len(batch.answers) for batch in batches) == 200
    for batch in batches:
        check_batch(batch)
        assert batch.types.min() >= 0 and (batch.questions != 1).all()
    means = torch.cat([batch.images for batch in batches]).float().mean((1, 2, 3))
    assert ((means > 100) & (means < 135)).all()


def test_pools_of_files_are_in_the_cache_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path / "chosen"))
    DiskSource(SMALL, "val", width=6, height=4, images_per_batch=2)
    (pool,) = (tmp_path / "chosen").glob("clevr-*")
    assert pool.name.startswith("clevr-val-6x4-")
