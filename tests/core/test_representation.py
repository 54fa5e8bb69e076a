"""Task representations: a vector space, a batch, a file and a pytree."""

from __future__ import annotations

import contextlib
import copy
import json
import random
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from safetensors.torch import save_file
from torch import Tensor
from torch.utils import _pytree as pytree

from featurewise.core import (
    Affine,
    ArgumentTypeError,
    Gate,
    Layout,
    LayoutError,
    LowRank,
    RowColumn,
    ShapeError,
    Shift,
    Site,
    TaskRepresentation,
)

LAYOUT = Layout((Site("a", 3, Affine()), Site("b", 2, LowRank()), Site("c", 2, Gate())))
N = 6 + 4 + 2
KIND = (ArgumentTypeError, TypeCheckError)


def task(*shape: int, layout: Layout = LAYOUT) -> TaskRepresentation:
    """Random numbers; without a shape a single task."""
    return TaskRepresentation(
        layout, torch.randn(*shape, dtype=torch.float64) if shape else single()
    )


def single() -> Tensor:
    return torch.randn(N, dtype=torch.float64)


def same(a: TaskRepresentation, b: TaskRepresentation) -> None:
    assert a.layout == b.layout
    torch.testing.assert_close(a.flat, b.flat)


FORMS = [(N,), (3, N), (3, N, 4), (3, N, 1, 2), (0, N)]


# --- a vector space ------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", FORMS, ids=str)
def test_laws_of_a_vector_space(shape: tuple[int, ...]) -> None:
    a, b, c = task(*shape), task(*shape), task(*shape)
    zero = TaskRepresentation(LAYOUT, torch.zeros(shape, dtype=torch.float64))
    same(a + b, b + a)
    same((a + b) + c, a + (b + c))
    same(a + zero, a)
    same(a + -a, zero)
    same(a - b, a + -b)
    same(2.0 * (a + b), 2.0 * a + b * 2.0)
    same((2.0 + 3.0) * a, 2.0 * a + 3.0 * a)
    same(2.0 * (3.0 * a), 6.0 * a)
    same(1.0 * a, a)
    same(a / 4, 0.25 * a)
    same(a + b - c, TaskRepresentation(LAYOUT, a.flat + b.flat - c.flat))


@given(weight=st.floats(-3, 3), rows=st.integers(0, 4))
def test_linear_combinations_are_those_of_the_flat_tensors(weight: float, rows: int) -> None:
    a, b = task(rows, N), task(rows, N)
    torch.testing.assert_close((a - weight * b).flat, a.flat - weight * b.flat)


@pytest.mark.parametrize("shape", FORMS, ids=str)
def test_lerp(shape: tuple[int, ...]) -> None:
    a, b = task(*shape), task(*shape)
    assert torch.equal(a.lerp(b, 0).flat, a.flat)
    assert torch.equal(a.lerp(b, 1.0).flat, b.flat)
    same(a.lerp(b, 0.5), (a + b) / 2)
    same(a.lerp(b, 0.3), a + 0.3 * (b - a))
    same(a.lerp(b, 0.3), b.lerp(a, 0.7))
    same(a.lerp(b, torch.tensor(0.3)), a.lerp(b, 0.3).to(torch.float64))


@pytest.mark.parametrize("shape", [(3, N), (3, N, 4), (3, N, N), (N, N, 2, 2)], ids=str)
def test_a_single_task_is_repeated_over_rows_and_positions(shape: tuple[int, ...]) -> None:
    # N rows and N positions: shapes alone would not show a repetition along a wrong axis.
    one, many = task(), task(*shape)
    expanded = TaskRepresentation(
        LAYOUT, one.flat.reshape(1, N, *(1,) * (len(shape) - 2)).expand(shape).clone()
    )
    same(one + many, expanded + many)
    same(many + one, many + expanded)
    same(one - many, expanded - many)
    same(many - one, many - expanded)
    same(one.lerp(many, 0.3), expanded.lerp(many, 0.3))
    same(many.lerp(one, 0.3), many.lerp(expanded, 0.3))
    weight = torch.rand(shape[0], dtype=torch.float64)
    same(one.lerp(many, weight), expanded.lerp(many, weight))
    same(many.lerp(one, weight), many.lerp(expanded, weight))


@pytest.mark.parametrize("shape", [(N, N), (N, N, N), (3, N, 4)], ids=str)
def test_one_weight_per_row(shape: tuple[int, ...]) -> None:
    a, b = task(*shape), task(*shape)
    weight = torch.linspace(0, 1, shape[0], dtype=torch.float64)
    for i, w in enumerate(weight.tolist()):
        same((a * weight)[i : i + 1], a[i : i + 1] * w)
        same((weight * a)[i : i + 1], a[i : i + 1] * w)
        same((a / (weight + 1))[i : i + 1], a[i : i + 1] / (w + 1))
        same(a.lerp(b, weight)[i : i + 1], a[i : i + 1].lerp(b[i : i + 1], w))


def test_numbers_of_numpy_and_torch_on_the_left() -> None:
    a = task(3, N)
    for two in (np.float64(2), torch.tensor(2.0), 2, np.float32(2), np.int64(2)):
        with contextlib.suppress(TypeCheckError):  # if enabled, it rejects the last two
            result = two * a
            assert isinstance(result, TaskRepresentation)
            same(result.to(torch.float64), a + a)


def test_invalid_arithmetic_raises() -> None:
    one, many = task(), task(3, N)
    for wrong, error, word in (
        (lambda: many + 1, KIND, "other"),
        (lambda: many - many.flat, KIND, "other"),
        (lambda: many.lerp(many.flat, 0.5), KIND, "other"),
        (lambda: many * many, KIND, "weight"),
        (lambda: many * "2", KIND, "weight"),
        (lambda: many / None, KIND, "weight"),
        (lambda: many * torch.ones(2), ShapeError, "weight"),
        (lambda: many * torch.ones(N), ShapeError, "weight"),
        (lambda: many * torch.ones(3, 1), ShapeError, "weight"),
        (lambda: one * torch.ones(N), ShapeError, "weight"),
        (lambda: one.lerp(one, torch.ones(1)), ShapeError, "weight"),
        (lambda: many.lerp(many, torch.ones(2)), ShapeError, "weight"),
        (lambda: many + task(2, N), ShapeError, "shape"),
        (lambda: many + task(1, N), ShapeError, "shape"),
        (lambda: many + task(3, N, 1), ShapeError, "shape"),
        (lambda: task(3, N, 2) - task(3, N, 1), ShapeError, "shape"),
    ):
        with pytest.raises(error, match=word):
            wrong()


def test_tasks_of_different_networks_raise() -> None:
    other_site = Layout((*LAYOUT.sites[:2], Site("d", 2, Gate())))
    other_order = Layout(LAYOUT.sites[::-1])
    other_operation = Layout((*LAYOUT.sites[:2], Site("c", 2, Shift())))
    for layout, word in ((other_site, "c, d"), (other_order, "order"), (other_operation, "Shift")):
        other = TaskRepresentation(layout, single())
        for mix in (
            lambda s: task() + s,
            lambda s: task().lerp(s, 0.5),
            lambda s: TaskRepresentation.stack([task(), s]),
        ):
            with pytest.raises(LayoutError, match=word):
                mix(other)


# --- construction and access ---------------------------------------------------------------------


def test_named_parameters() -> None:
    many = task(3, N)
    named = many.named
    assert torch.equal(named["a"]["beta"], many.flat[:, 3:6])
    assert torch.equal(many["b"]["right"], named["b"]["right"])
    assert many["b"]["right"].shape == (3, 1, 2)
    same(TaskRepresentation.from_named(LAYOUT, named), many)


def test_identity_and_effective_parameters() -> None:
    one = TaskRepresentation.identity(LAYOUT)
    assert one.shape == (N,) and not one.flat.any()
    many = TaskRepresentation.identity(LAYOUT, 3)
    assert many.shape == (3, N)
    many.flat[0, 0] = 5.0  # rows share no memory
    assert not many.flat[1:].any()
    felt = one.effective()
    assert torch.equal(felt["a"]["gamma"], torch.ones(3))
    assert torch.equal(felt["a"]["beta"], torch.zeros(3))
    assert torch.equal(felt["c"]["gamma"], torch.ones(2))
    assert list(felt) == ["a", "b", "c"]


def test_identity_leaves_features_unchanged_at_every_site() -> None:
    one = TaskRepresentation.identity(LAYOUT, 2)
    for site in LAYOUT:
        x = torch.randn(2, site.width, 3)
        assert torch.equal(site.modulate(x, one[site.name]), x)


def test_rows() -> None:
    many = task(4, N, 2)
    assert len(many) == 4
    flat = task(4, N)
    assert torch.equal(flat[2].flat, flat.flat[2]) and flat[2].shape == (N,)
    assert torch.equal(flat[-1].flat, flat.flat[-1])
    assert torch.equal(flat[torch.tensor(1)].flat, flat.flat[1])
    for rows in (
        slice(1, 3),
        [0, 2],
        torch.tensor([3, 1]),
        torch.tensor([True, False, True, True]),
    ):
        assert torch.equal(flat[rows].flat, flat.flat[rows])
        assert torch.equal(many[rows].flat, many.flat[rows])
    assert [row.shape for row in flat] == [(N,)] * 4
    same(TaskRepresentation.stack(list(flat)), flat)


def test_a_row_with_positions_keeps_its_batch_axis() -> None:
    with pytest.raises(ShapeError, match="positions"):
        task(N, N, N)[0]
    assert task(3, N, 2)[:1].shape == (1, N, 2)


def test_invalid_keys_raise() -> None:
    one, many = task(), task(3, N)
    for wrong, error, word in (
        (lambda: one[0], ShapeError, "single task"),
        (lambda: len(one), ShapeError, "single task"),
        (lambda: many["d"], LayoutError, "no site 'd'; the sites are a, b, c"),
        (lambda: many[1.0], ArgumentTypeError, "key"),
        (lambda: many[None], ArgumentTypeError, "key"),
        (lambda: many[0, 1], ArgumentTypeError, "key"),
        (lambda: many[:, 1], ArgumentTypeError, "key"),
        (lambda: many[...], ArgumentTypeError, "key"),
        (lambda: many[torch.tensor([[0, 1]])], ArgumentTypeError, "key"),
        (lambda: many[torch.tensor([0.5])], ArgumentTypeError, "key"),
        (lambda: many[3], IndexError, "3"),
        (lambda: TaskRepresentation(LAYOUT, torch.zeros(N + 1)), ShapeError, "flat"),
        (lambda: TaskRepresentation(LAYOUT, torch.zeros(N, 3)), ShapeError, "flat"),
        (lambda: TaskRepresentation(LAYOUT, torch.zeros(())), ShapeError, "flat"),
        (lambda: TaskRepresentation(LAYOUT, torch.zeros(N).long()), KIND, "flat"),
        (lambda: TaskRepresentation(LAYOUT, torch.zeros(N).cfloat()), KIND, "flat"),
        (lambda: TaskRepresentation(LAYOUT, [0.0] * N), KIND, "flat"),
    ):
        with pytest.raises(error, match=word):
            wrong()


def test_stack_and_cat() -> None:
    a, b = task(), task()
    stacked = TaskRepresentation.stack([a, b])
    assert stacked.shape == (2, N) and torch.equal(stacked.flat[1], b.flat)
    many = TaskRepresentation.cat([stacked, task(3, N)])
    assert len(many) == 5
    same(many[:2], stacked)
    assert TaskRepresentation.cat([task(2, N, 3), task(1, N, 3)]).shape == (3, N, 3)
    for wrong, word in (
        (lambda: TaskRepresentation.stack([]), "no task"),
        (lambda: TaskRepresentation.cat([]), "no task"),
        (lambda: TaskRepresentation.stack([stacked]), "single"),
        (lambda: TaskRepresentation.cat([a, b]), "batches"),
        (lambda: TaskRepresentation.cat([task(2, N, 3), task(2, N, 4)]), "positions"),
        (lambda: TaskRepresentation.cat([task(2, N, 3), task(2, N)]), "positions"),
    ):
        with pytest.raises(ShapeError, match=word):
            wrong()


def test_printed() -> None:
    text = repr(task(3, N).to(torch.float16))
    assert text == f"TaskRepresentation(3 sites, flat (3, {N}), torch.float16, cpu)"


# --- devices and gradients -----------------------------------------------------------------------


def test_to_detach_clone() -> None:
    many = task(3, N)
    assert many.to(torch.float16).flat.dtype == torch.float16
    assert many.to("meta").flat.device.type == "meta"
    many.requires_grad_()
    assert many.flat.requires_grad and not many.detach().flat.requires_grad
    assert many.clone().flat.data_ptr() != many.flat.data_ptr()
    again = copy.deepcopy(many.detach())
    same(again, many.detach())
    assert again.flat.data_ptr() != many.flat.data_ptr()
    assert not many.requires_grad_(False).flat.requires_grad


def test_features_have_gradients_in_the_task() -> None:
    torch.manual_seed(1)
    x = torch.randn(64, 3)
    wanted = TaskRepresentation(LAYOUT, torch.randn(N))
    site = LAYOUT["a"]
    y = site.modulate(x, wanted["a"])
    found = TaskRepresentation.identity(LAYOUT).requires_grad_()
    optimizer = torch.optim.Adam([found.flat], lr=0.1)
    losses = []
    for _ in range(150):
        optimizer.zero_grad()
        loss = (site.modulate(x, found["a"]) - y).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.1 and losses[-1] < 1e-4
    torch.testing.assert_close(found.flat[:6].detach(), wanted.flat[:6], rtol=0, atol=0.05)
    assert not found.flat[6:].any()  # the other sites received no gradient


# --- files ---------------------------------------------------------------------------------------

KEPT = Layout(
    (
        Site("a", 3, Affine("exp"), axis=-1, batch_axis=None, when="input", leaf=2),
        Site("b.0", 2, RowColumn(), extent=(2, 3)),
        Site("c", 4, LowRank(2), batch_axis=2),
        Site("δ", 1, Gate(1.5)),
    )
)
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("lead", [(), (0,), (3,)], ids=str)
def test_save_load_save_is_byte_identical(
    tmp_path: Path, lead: tuple[int, ...], dtype: torch.dtype
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    kept = TaskRepresentation(KEPT, torch.randn(*lead, KEPT.size).to(dtype))
    kept.save(first)
    again = TaskRepresentation.load(first, KEPT)
    assert again.layout == KEPT
    assert again.flat.dtype == dtype and torch.equal(again.flat, kept.flat)
    for _ in range(8):  # a random order of keys would differ
        again.save(str(second))
        assert second.read_bytes() == first.read_bytes()
    assert sorted(tmp_path.iterdir()) == [first, second]


def test_saves_tensors_that_are_not_contiguous_or_plain(tmp_path: Path) -> None:
    leaf = TaskRepresentation(LAYOUT, torch.randn(N, 3).T).requires_grad_()
    leaf.save(tmp_path / "task")
    loaded = TaskRepresentation.load(tmp_path / "task")
    assert torch.equal(loaded.flat, leaf.flat) and not loaded.flat.requires_grad
    task(5, N)[1:3].save(tmp_path / "view")
    assert len(TaskRepresentation.load(tmp_path / "view")) == 2


def test_file_permissions_follow_the_umask(tmp_path: Path) -> None:
    task().save(tmp_path / "task")
    (tmp_path / "plain").touch()
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_operations_of_users_are_restored(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Doubled(Shift):
        times: tuple[int, ...] = (2,)

    layout = Layout((Site("a", 3, Doubled((4, 5))),))
    TaskRepresentation.identity(layout).save(tmp_path / "task")
    assert TaskRepresentation.load(tmp_path / "task", layout).layout == layout


def write(path: Path, tensors: dict[str, Tensor], layout: object) -> None:
    save_file(tensors, path, metadata={"featurewise.TaskRepresentation.1": str(layout)})


def bad_file(path: Path, what: str) -> None:
    task(3, N).save(path)
    good = path.read_bytes()
    sites = LAYOUT.to_json()["sites"]
    match what:
        case "empty":
            path.write_bytes(b"")
        case "half of it":
            path.write_bytes(good[: len(good) // 2])
        case "one byte short":
            path.write_bytes(good[:-1])
        case "bytes after the end":
            path.write_bytes(good + b"\0" * 16)
        case "noise":
            path.write_bytes(random.Random(0).randbytes(500))
        case "text":
            path.write_text("gamma = 1\n")
        case "a header of 2^60 bytes":
            path.write_bytes((2**60).to_bytes(8, "little") + good[8:])
        case "other safetensors":
            save_file({"flat": torch.zeros(N)}, path)
        case "other metadata":
            save_file({"flat": torch.zeros(N)}, path, metadata={"format": "pt"})
        case "no flat":
            write(path, {"weight": torch.zeros(N)}, json.dumps(sites))
        case "flat of integers":
            write(path, {"flat": torch.zeros(N).long()}, json.dumps(sites))
        case "flat too long":
            write(path, {"flat": torch.zeros(N + 1)}, json.dumps(sites))
        case "layout no JSON":
            write(path, {"flat": torch.zeros(N)}, "[{")
        case "layout an object":
            write(path, {"flat": torch.zeros(N)}, "{}")
        case "layout nested too deep":
            write(path, {"flat": torch.zeros(N)}, "[" * 100_000)
        case "layout of a huge number":
            write(path, {"flat": torch.zeros(N)}, "9" * 5000)
        case "layout too wide":
            wide = [{**site, "width": 10**30} for site in sites[:1]]
            write(path, {"flat": torch.zeros(N)}, json.dumps(wide))
        case "layout with NaN":
            write(path, {"flat": torch.zeros(N)}, '[{"name": NaN}]')
        case "layout with an unknown operation":
            unknown = [{**sites[0], "operation": {"kind": "Unheard"}}]
            write(path, {"flat": torch.zeros(N)}, json.dumps(unknown))
        case "layout with a bad operation":
            bad = [{**sites[0], "operation": {"kind": "Gate", "ceiling": -1}}]
            write(path, {"flat": torch.zeros(N)}, json.dumps(bad))
        case "layout with a bad site":
            write(path, {"flat": torch.zeros(N)}, json.dumps([{**sites[0], "width": "3"}]))
        case _:
            raise AssertionError(what)


BAD_FILES = (
    "empty",
    "half of it",
    "one byte short",
    "bytes after the end",
    "noise",
    "text",
    "a header of 2^60 bytes",
    "other safetensors",
    "other metadata",
    "no flat",
    "flat of integers",
    "flat too long",
    "layout no JSON",
    "layout an object",
    "layout nested too deep",
    "layout of a huge number",
    "layout too wide",
    "layout with NaN",
    "layout with an unknown operation",
    "layout with a bad operation",
    "layout with a bad site",
)


@pytest.mark.parametrize("what", BAD_FILES)
def test_bad_files_raise_with_their_path(tmp_path: Path, what: str) -> None:
    path = tmp_path / "bad.safetensors"
    bad_file(path, what)
    with pytest.raises((LayoutError, TypeCheckError)) as caught:
        TaskRepresentation.load(path)
    if isinstance(caught.value, LayoutError):
        assert str(caught.value).startswith(f"{path}: not a task representation")


def test_a_file_of_another_network_raises(tmp_path: Path) -> None:
    path = tmp_path / "task"
    task().save(path)
    with pytest.raises(LayoutError, match=r"task: .*different networks: a, b, c, b\.0|δ"):
        TaskRepresentation.load(path, KEPT)
    assert TaskRepresentation.load(path, LAYOUT).layout == LAYOUT


def test_a_missing_file_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        TaskRepresentation.load(tmp_path / "none")
    with pytest.raises((OSError, LayoutError)):
        TaskRepresentation.load(tmp_path)


# --- a pytree ------------------------------------------------------------------------------------


def test_tree_map_reaches_the_numbers() -> None:
    many = task(3, N)
    doubled = pytree.tree_map(lambda t: 2 * t, {"task": many})["task"]
    assert isinstance(doubled, TaskRepresentation)
    same(doubled, 2 * many)


def test_tree_paths_name_the_tensor() -> None:
    leaves, spec = pytree.tree_flatten_with_path({"task": task()})
    [(path, leaf)] = leaves
    assert pytree.keystr(path) == "['task'].flat" and leaf.shape == (N,)
    again = pytree.tree_unflatten([leaf], spec)["task"]
    assert again.layout is LAYOUT


def test_vmap_over_the_rows() -> None:
    many, x = task(4, N), torch.randn(4, 3, dtype=torch.float64)
    site = Site("a", 3, Affine(), axis=0, batch_axis=None)

    def one(x: Tensor, task: TaskRepresentation) -> Tensor:
        return site.modulate(x, task["a"])

    expected = LAYOUT["a"].modulate(x, many["a"])
    torch.testing.assert_close(torch.func.vmap(one)(x, many), expected)


def test_grad_with_respect_to_a_task() -> None:
    one, x = task(), torch.randn(4, 3, dtype=torch.float64)

    def loss(task: TaskRepresentation) -> Tensor:
        return LAYOUT["a"].modulate(x, task["a"]).square().sum()

    gradient = torch.func.grad(loss)(one)
    assert isinstance(gradient, TaskRepresentation)
    leaf = one.clone().requires_grad_()
    loss(leaf).backward()
    assert leaf.flat.grad is not None
    torch.testing.assert_close(gradient.flat, leaf.flat.grad)


class Modulated(torch.nn.Module):
    def forward(self, x: Tensor, task: TaskRepresentation) -> Tensor:
        other = task.lerp(-task, 0.25)
        return LAYOUT["a"].modulate(x, (task + other)["a"])


@pytest.mark.traced
@pytest.mark.parametrize("shape", [(N,), (4, N), (4, N, 5)], ids=str)
def test_exports(shape: tuple[int, ...]) -> None:
    x, given_task = torch.randn(4, 3, 5), task(*shape).to(torch.float32)
    program = torch.export.export(Modulated(), (x, given_task))
    other = task(*shape).to(torch.float32)
    torch.testing.assert_close(program.module()(x, other), Modulated()(x, other))


def test_tree_structures_are_serialised_with_their_layout() -> None:
    leaves, structure = pytree.tree_flatten({"task": task(4, N)})
    read = pytree.treespec_loads(pytree.treespec_dumps(structure))
    assert read == structure
    assert pytree.tree_unflatten(leaves, read)["task"].layout == task(4, N).layout


@pytest.mark.traced
def test_compiles_without_graph_breaks() -> None:
    torch.compiler.reset()
    compiled = torch.compile(Modulated(), fullgraph=True, backend="eager")
    x, given_task = torch.randn(4, 3, 5), task(4, N).to(torch.float32)
    torch.testing.assert_close(compiled(x, given_task), Modulated()(x, given_task))
