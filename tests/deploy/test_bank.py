"""Banks: exact rows instead of a generator, in memory and in verified files."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from featurewise.core import (
    Affine,
    ArgumentTypeError,
    Gate,
    Layout,
    LayoutError,
    ShapeError,
    Shift,
    Site,
)
from featurewise.deploy import Bank, BankError, Mixture, bank
from featurewise.generators import MLP, ConditionError, Linear, Lookup, SqueezeExcite
from featurewise.retrofit import CallError, Conditioned, condition

KIND = (ArgumentTypeError, TypeCheckError)
FIXTURES = Path(__file__).parents[1] / "retrofit/fixtures"


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 2))


def conditioned(generator: nn.Module | None = None) -> Conditioned:
    """A network with a generator with random weights."""
    net = condition(network(), at=["0", "2"], generator=generator or Linear(5))
    with torch.no_grad():
        for parameter in net.generator.parameters():
            parameter.normal_(std=0.3)
    return net


def layout(width: int = 2) -> Layout:
    return Layout((Site("a", width, Affine(), axis=-1), Site("b", 3, Gate(), axis=-1)))


def random_bank(count: int = 20, names: bool = False, dtype: torch.dtype = torch.float32) -> Bank:
    said = [f"row {i}" for i in range(count)] if names else None
    return Bank(layout(), torch.randn(count, layout().size).to(dtype), names=said)


# --- exact ---------------------------------------------------------------------------------------


def test_ten_thousand_rows_are_the_generator_bit_for_bit() -> None:
    net, z = conditioned(), torch.randn(10_000, 5)
    rows = bank(net, z, batch_size=256)
    assert len(rows) == 10_000
    assert rows.rows is not None and not rows.rows.requires_grad
    for start in range(0, 10_000, 256):
        batch = z[start : start + 256]
        ids = torch.arange(start, start + len(batch))
        assert torch.equal(rows(ids), net.represent(batch).flat)


def test_the_axis_is_unknown() -> None:
    net, z, x = conditioned(MLP(5, [16])), torch.randn(64, 5), torch.randn(16, 3)
    rows = bank(net, z, batch_size=16)
    order = torch.arange(16, 32)
    expected = net(x, condition=z[order])
    assert isinstance(net.replace_generator(rows), MLP)
    assert torch.equal(net(x, condition=order), expected)
    with pytest.raises(LayoutError, match="this bank has rows for the sites a, b"):
        net.replace_generator(random_bank())
    assert not any(name.startswith("generator") for name, _ in net.named_parameters())
    assert "generator.rows" in net.state_dict()


def test_a_mixed_batch_is_its_rows_alone() -> None:
    rows = random_bank()
    ids = torch.tensor([7, 0, 7, 19])
    assert torch.equal(rows(ids), torch.stack([rows(i) for i in ids]))


def test_ids_of_every_shape_against_a_loop() -> None:
    rows = random_bank()
    assert rows.rows is not None
    table = rows.rows.tolist()
    assert rows(torch.tensor(3)).tolist() == table[3]
    ids = torch.randint(20, (4, 2, 3), dtype=torch.int32)
    found = rows(ids)
    assert found.shape == (4, rows.layout.size, 2, 3)
    for b, i, j in torch.cartesian_prod(torch.arange(4), torch.arange(2), torch.arange(3)).tolist():
        assert found[b, :, i, j].tolist() == table[int(ids[b, i, j])]


def test_ids_per_position_in_a_network() -> None:
    net = condition(nn.Sequential(nn.Linear(3, 4)), at="0", generator=Lookup(5))
    with torch.no_grad():
        next(net.generator.parameters()).normal_()
    x, ids = torch.randn(2, 7, 3), torch.randint(5, (2, 7))
    expected = net(x, condition=ids)
    net.generator = bank(net, torch.arange(5))
    assert torch.equal(net(x, condition=ids), expected)


def test_conditions_of_any_form_make_the_same_rows() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Linear(5, 28)

        def forward(self, condition: dict[str, Any]) -> Tensor:
            return self.map(condition["a"] + condition["b"][0]) * condition["scale"]

    net = condition(network(), at=["0", "2"], generator=Two())
    a, b = torch.randn(10, 5), torch.randn(10, 5)
    whole = {"a": a, "b": (b,), "scale": 0.5}
    rows = bank(net, whole, batch_size=4)
    parts = [{"a": a[i : i + 4], "b": (b[i : i + 4],), "scale": 0.5} for i in (0, 4, 8)]
    for batches in (parts, iter(parts), (part for part in parts)):
        assert torch.equal(bank(net, batches).rows, rows.rows)
    singles = [{"a": a[i], "b": (b[i],), "scale": 0.5} for i in range(10)]
    torch.testing.assert_close(bank(net, singles).rows, rows.rows)


def test_the_generator_runs_in_evaluation_and_its_modes_come_back() -> None:
    net = conditioned(nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.5), nn.Linear(8, 28)))
    net.train()
    net.generator[0].eval()  # type: ignore[index]
    z = torch.randn(12, 5)
    rows = bank(net, z)
    assert [m.training for m in net.generator] == [False, True, True]  # type: ignore[union-attr]
    net.generator.eval()
    assert torch.equal(rows(torch.arange(12)), net.represent(z).flat)


def test_modes_come_back_after_an_error() -> None:
    net = conditioned()
    with pytest.raises(ShapeError):
        bank(net, torch.randn(4, 7))
    assert net.generator.training


# --- names and mixtures --------------------------------------------------------------------------


def test_names() -> None:
    net, z = conditioned(), torch.randn(3, 5)
    rows = bank(net, z, ids=["red", "green", "blue"])
    assert torch.equal(rows(["blue", "red"]), rows(torch.tensor([2, 0])))
    assert torch.equal(rows("green"), rows(torch.tensor(1)))
    assert torch.equal(rows.ids(("green", "blue")), torch.tensor([1, 2]))
    x = torch.randn(2, 3)
    net.generator = rows
    assert torch.equal(net(x, condition=["blue", "red"]), net(x, condition=torch.tensor([2, 0])))
    with pytest.raises(ConditionError, match="'pink'"):
        rows(["red", "pink"])
    with pytest.raises(ConditionError, match="without names"):
        random_bank()(["red"])


def test_mixtures_against_a_float64_loop() -> None:
    rows = random_bank()
    assert rows.rows is not None
    ids, weights = torch.randint(20, (4, 3)), torch.randn(4, 3)
    found = rows(Mixture(ids, weights))
    for b in range(4):
        expected = torch.zeros(rows.layout.size, dtype=torch.float64)
        for k in range(3):
            expected += weights[b, k].double() * rows.rows[ids[b, k]].double()
        torch.testing.assert_close(found[b].double(), expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(rows(Mixture(ids[0], weights[0])), found[0])


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_one_weight_of_one_is_that_row(autocast: bool, dtype: torch.dtype) -> None:
    rows = random_bank(dtype=dtype)
    ids = torch.tensor([[3, 5], [9, 1]])
    with torch.autocast("cpu", enabled=autocast):
        mixed = rows(Mixture(ids, torch.tensor([[1.0, 0.0], [0.0, 1.0]])))
    assert mixed.dtype == torch.promote_types(dtype, torch.float32)
    assert torch.equal(mixed, rows(torch.tensor([3, 1])).to(mixed.dtype))


def test_gradients_reach_the_weights_of_a_mixture_and_nothing_else() -> None:
    rows = random_bank().double()
    ids = torch.tensor([[0, 1], [2, 3]])
    weights = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w: rows(Mixture(ids, w)), (weights,))
    net = conditioned()
    net.generator = bank(net, torch.randn(4, 5))
    mixture = Mixture(ids, torch.randn(2, 2, requires_grad=True))
    net(torch.randn(2, 3), condition=mixture).sum().backward()
    assert mixture.weights.grad is not None and mixture.weights.grad.abs().min() > 0


def test_a_mixture_is_a_pytree() -> None:
    mixture = Mixture(torch.tensor([[0, 1]]), torch.tensor([[0.5, 0.5]]))
    doubled = torch.utils._pytree.tree_map(lambda t: t * 2, mixture)
    assert isinstance(doubled, Mixture)
    assert doubled.ids.tolist() == [[0, 2]] and doubled.weights.tolist() == [[1, 1]]


def test_vmap_over_ids_and_weights() -> None:
    rows = random_bank()
    ids = torch.tensor([4, 9, 1])
    assert torch.equal(torch.func.vmap(rows)(ids), rows(ids))
    pairs, weights = torch.tensor([[4, 9], [1, 0]]), torch.randn(2, 2)
    mixed = torch.func.vmap(lambda i, w: rows(Mixture(i, w)))(pairs, weights)
    torch.testing.assert_close(mixed, rows(Mixture(pairs, weights)))


# --- size -----------------------------------------------------------------------------------------


def test_report() -> None:
    net = conditioned()
    rows = bank(net, torch.randn(1000, 5))
    report = rows.report()
    assert (report.rows, report.numbers, report.bytes) == (1000, 28, 1000 * 28 * 4)
    assert report.replaces == (5 * 28 + 28) * 4
    assert report.share == pytest.approx(1000 * 28 / (6 * 28))
    assert report.error is None
    assert "1,000 rows of 28 values (float32), 112.0 kB" in str(report)
    assert "generator of 672 bytes (16666.7 %)" in repr(rows)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_the_bytes_with_the_error_measured(dtype: torch.dtype) -> None:
    net, z = conditioned(), torch.randn(300, 5)
    full, half = bank(net, z), bank(net, z, dtype=dtype)
    assert half.rows is not None and full.rows is not None and half.rows.dtype == dtype
    assert half.report().bytes * 2 == full.report().bytes
    exact = (half.rows.double() - full.rows.double()).abs().max().item()
    assert half.report().error == exact > 0
    assert f"rounded by at most {exact:.2e}" in repr(half)
    assert bank(net, z, dtype=torch.float32).report().error is None
    assert half.float().report().error is None  # cast since: nothing is known of it


def test_numbers_that_a_dtype_cannot_hold() -> None:
    net = conditioned()
    with torch.no_grad():
        net.generator.head.bias.fill_(1e6)  # type: ignore[union-attr]
    with pytest.raises(BankError, match="represented in torch.float16"):
        bank(net, torch.randn(4, 5), dtype=torch.float16)
    bank(net, torch.randn(4, 5), dtype=torch.bfloat16)


# --- copies, threads, compiled code --------------------------------------------------------------


@pytest.mark.parametrize("mapped", [False, True])
def test_copies_and_pickles(tmp_path: Path, mapped: bool) -> None:
    rows = random_bank(names=True)
    rows.save(tmp_path / "bank")
    rows = Bank.load(tmp_path / "bank", mapped=mapped)
    for other in (copy.deepcopy(rows), pickle.loads(pickle.dumps(rows))):  # noqa: S301
        assert torch.equal(other(["row 3", "row 0"]), rows(torch.tensor([3, 0])))


def test_threads(tmp_path: Path) -> None:
    net = conditioned()
    z, x = torch.randn(50, 5), torch.randn(2, 3)
    net.generator = bank(net, z, path=tmp_path / "bank")
    expected = [net(x, condition=torch.tensor([i, 49 - i])) for i in range(50)]
    wrong = []

    def work() -> None:
        for i in range(50):
            if not torch.equal(net(x, condition=torch.tensor([i, 49 - i])), expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.traced
def test_compiled_without_breaks_or_recompilation() -> None:
    net = conditioned().eval()
    net.generator = bank(net, torch.randn(30, 5))
    x = torch.randn(4, 3)
    compiled = torch.compile(net, fullgraph=True)
    compiled(x, condition=torch.tensor([0, 1, 2, 3]))
    mixture = Mixture(torch.tensor([[0, 1]] * 4), torch.rand(4, 2))
    compiled(x, condition=mixture)
    with torch.compiler.set_stance("fail_on_recompile"):
        for _ in range(3):
            ids = torch.randint(30, (4,))
            torch.testing.assert_close(compiled(x, condition=ids), net(x, condition=ids))
            mixture = Mixture(torch.randint(30, (4, 2)), torch.rand(4, 2))
            torch.testing.assert_close(compiled(x, condition=mixture), net(x, condition=mixture))


@pytest.mark.traced
def test_a_mapped_bank_breaks_the_graph_and_stays_right(tmp_path: Path) -> None:
    net = conditioned().eval()
    net.generator = bank(net, torch.randn(30, 5), path=tmp_path / "bank")
    x, ids = torch.randn(4, 3), torch.tensor([3, 1, 29, 0])
    torch.testing.assert_close(torch.compile(net)(x, condition=ids), net(x, condition=ids))
    whole = torch.compile(net, fullgraph=True)
    torch.testing.assert_close(whole(x, task=net.represent(ids)), net(x, condition=ids))


@pytest.mark.traced
def test_exported() -> None:
    net = conditioned().eval()
    net.generator = bank(net, torch.randn(30, 5))
    x, ids = torch.randn(4, 3), torch.tensor([3, 1, 29, 0])
    program = torch.export.export(net, (x,), {"condition": ids})
    other = torch.tensor([7, 7, 8, 20])
    assert torch.equal(program.module()(x, condition=other), net(x, condition=other))


# --- file -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [False, True])
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str
)
@pytest.mark.parametrize("mapped", [False, True])
def test_round_trip(tmp_path: Path, names: bool, dtype: torch.dtype, mapped: bool) -> None:
    path = tmp_path / "bank.safetensors"
    rows = random_bank(names=names, dtype=dtype)
    rows.replaces = 77
    rows.save(path)
    again = Bank.load(path, layout(), mapped=mapped)
    for ids in (torch.tensor(4), torch.tensor([19, 0, 4]), torch.randint(20, (2, 3))):
        assert torch.equal(again(ids), rows(ids)) and again(ids).dtype == dtype
    assert again.names == rows.names and len(again) == 20
    assert again.report().bytes == rows.report().bytes and again.report().replaces == 77
    again.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again", "bank.safetensors"]


def test_it_is_an_ordinary_safetensors_file(tmp_path: Path) -> None:
    rows = random_bank()
    rows.save(tmp_path / "bank")
    assert torch.equal(load_file(tmp_path / "bank")["rows"], rows.rows)
    head = (tmp_path / "bank").read_bytes()[:8]
    assert (8 + int.from_bytes(head, "little")) % 64 == 0


def test_rows_are_written_batch_by_batch(tmp_path: Path) -> None:
    net, z = conditioned(), torch.randn(1000, 5)
    said = [str(i) for i in range(1000)]
    made = bank(net, z, ids=said, batch_size=64, dtype=torch.bfloat16, path=tmp_path / "a")
    kept = bank(net, z, ids=said, batch_size=64, dtype=torch.bfloat16)
    kept.save(tmp_path / "b")
    assert made.report().mapped and made.rows is None and made.report().error is not None
    assert torch.equal(made(torch.arange(1000)), kept(torch.arange(1000)))
    assert Bank.load(tmp_path / "a").report() == Bank.load(tmp_path / "b").report()
    made.verify()


def test_a_mapped_bank_reads_only_the_rows_used(tmp_path: Path) -> None:
    """Damage in unused rows is not noticed; used rows are read from disk."""
    path = tmp_path / "bank"
    rows = random_bank(5000)
    rows.save(path)
    mapped = Bank.load(path, mapped=True)
    assert not list(mapped.buffers()) and not mapped.state_dict()
    size = rows.layout.size * 4
    with path.open("r+b") as file:
        file.seek(-size, 2)
        file.write(b"\0" * size)
    assert torch.equal(mapped(torch.tensor([17])), rows(torch.tensor([17])))
    assert not mapped(torch.tensor(4999)).any()
    with pytest.raises(BankError, match="SHA-256"):
        mapped.verify()
    with pytest.raises(BankError, match="SHA-256"):
        Bank.load(path)


def test_rows_read_from_a_map_are_copies(tmp_path: Path) -> None:
    random_bank().save(tmp_path / "bank")
    mapped = Bank.load(tmp_path / "bank", mapped=True)
    before = mapped(torch.tensor(0)).clone()
    mapped(torch.tensor(0)).zero_()
    assert torch.equal(mapped(torch.tensor(0)), before)


def test_every_flipped_bit_is_detected(tmp_path: Path) -> None:
    path = tmp_path / "bank"
    random_bank(4, names=True).save(path)
    good = path.read_bytes()
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= 1 << (place % 8)
        path.write_bytes(bad)
        with pytest.raises((BankError, LayoutError)) as caught:
            Bank.load(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("mapped", [False, True])
def test_every_truncation_is_detected(tmp_path: Path, mapped: bool) -> None:
    path = tmp_path / "bank"
    random_bank(4).save(path)
    good = path.read_bytes()
    for length in [0, 1, 7, 8, 100, *range(len(good) - 40, len(good))]:
        path.write_bytes(good[:length])
        with pytest.raises(BankError):
            Bank.load(path, mapped=mapped)
    path.write_bytes(good + b"\0")
    with pytest.raises(BankError):
        Bank.load(path, mapped=mapped)


def test_files_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "bank"
    with pytest.raises(FileNotFoundError):
        Bank.load(path)
    save_file({"rows": torch.zeros(2, 7)}, path)
    with pytest.raises(BankError, match="not those of a bank"):
        Bank.load(path)
    conditioned().represent(torch.randn(5)).save(path)
    with pytest.raises(BankError, match="not those of a bank"):
        Bank.load(path)


def test_another_layout(tmp_path: Path) -> None:
    path = tmp_path / "bank"
    rows = random_bank()
    rows.save(path)
    with pytest.raises(LayoutError, match="width=2.*width=4"):
        Bank.load(path, layout(4))
    with pytest.raises(LayoutError, match="sites a, b, not for 0, 2"):
        rows.bind(conditioned().layout)
    rows.bind(layout())
    with pytest.raises(KIND):
        rows.bind("layout")  # type: ignore[arg-type]


def test_a_map_of_a_replaced_file_is_refused_in_another_process(tmp_path: Path) -> None:
    random_bank().save(tmp_path / "bank")
    mapped = Bank.load(tmp_path / "bank", mapped=True)
    sent = pickle.dumps(mapped)
    before = mapped(torch.tensor(3)).clone()
    random_bank().save(tmp_path / "bank")
    assert torch.equal(mapped(torch.tensor(3)), before)  # the old file lives while it is open
    with pytest.raises(BankError, match="replaced"):
        pickle.loads(sent)  # noqa: S301


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    net, path = conditioned(), tmp_path / "bank"
    bank(net, torch.randn(8, 5), path=path)
    before = path.read_bytes()
    with pytest.raises(ShapeError):
        bank(net, [torch.randn(4, 5), torch.randn(4, 6)], path=path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["bank"]


def test_files_of_the_first_version_load() -> None:
    """Written by version 0.1.0; the numbers follow from the row and the column."""
    kept = Layout(
        (
            Site("stem", 3, Affine(), axis=1),
            Site("head", 4, Shift(), axis=-1, batch_axis=1),
        )
    )
    expected = torch.arange(5).unsqueeze(1) + torch.arange(10) / 16
    rows = Bank.load(FIXTURES / "bank_1.safetensors", kept)
    assert torch.equal(rows(torch.arange(5)), expected)
    assert rows.names is None and rows.report().replaces == 1234
    for mapped in (False, True):
        named = Bank.load(FIXTURES / "bank_1_named_bf16.safetensors", kept, mapped=mapped)
        assert named.names == ("null", "α", "b", "c", "d")
        assert named.report().error == 0.0078125
        assert torch.equal(named(["d", "α"]), expected[[4, 1]].bfloat16())


def test_the_sha_is_of_rows_and_header(tmp_path: Path) -> None:
    """Recomputed by hand: it can be checked without this library."""
    rows = random_bank()
    rows.save(tmp_path / "bank")
    data = (tmp_path / "bank").read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    said = json.loads(json.loads(data[8:start])["__metadata__"]["featurewise.Bank.1"])
    assert said["sha256"] == hashlib.sha256(data[start:] + said["header"].encode()).hexdigest()


def test_saved_with_its_network(tmp_path: Path) -> None:
    """A conditioner whose generator is a bank is saved and loaded like any other."""
    net = conditioned()
    net.replace_generator(bank(net, torch.randn(6, 5), ids=list("abcdef"), dtype=torch.bfloat16))
    net.save_pretrained(tmp_path / "saved")
    backbone = network()
    backbone.load_state_dict(net.backbone.state_dict())
    again = Conditioned.from_pretrained(tmp_path / "saved", backbone)
    x = torch.randn(2, 3)
    assert torch.equal(again(x, condition=["f", "a"]), net(x, condition=["f", "a"]))
    assert repr(again.generator) == repr(net.generator)


# --- wrong arguments -----------------------------------------------------------------------------


@pytest.mark.parametrize("mapped", [False, True])
def test_conditions_that_are_not_rows(tmp_path: Path, mapped: bool) -> None:
    random_bank().save(tmp_path / "bank")
    rows = Bank.load(tmp_path / "bank", mapped=mapped)
    for bad in (torch.tensor([0, 20]), torch.tensor(-1)):
        with pytest.raises(ConditionError, match=r"0\.\.19"):
            rows(bad)
    with pytest.raises(ConditionError, match="got None"):
        rows(None)
    with pytest.raises(KIND):
        rows(torch.randn(3))
    with pytest.raises(KIND):
        rows(3)
    with pytest.raises(KIND):
        rows([1, 2])
    with pytest.raises(ConditionError, match=r"0\.\.19"):
        rows(Mixture(torch.tensor([[0, 20]]), torch.ones(1, 2)))


def test_invalid_mixtures() -> None:
    with pytest.raises(KIND):
        Mixture(torch.ones(2, 2), torch.ones(2, 2))
    with pytest.raises(KIND):
        Mixture(torch.tensor([[0, 1]]), torch.tensor([[0, 1]]))
    for ids, weights in [((2, 2), (2, 3)), ((), ()), ((1, 2, 3), (1, 2, 3))]:
        with pytest.raises(ShapeError, match="must both be"):
            Mixture(torch.zeros(ids, dtype=torch.long), torch.zeros(weights))


def test_banks_that_cannot_be_made() -> None:
    net = conditioned()
    z = torch.randn(4, 5)
    with pytest.raises(KIND):
        bank(network(), z)  # type: ignore[arg-type]
    for bad in (3, "abc", None):
        with pytest.raises(KIND):
            bank(net, bad)
    with pytest.raises(BankError, match="same number"):
        bank(net, (z, torch.randn(3, 5)))
    with pytest.raises(BankError, match="at least one row"):
        bank(net, torch.randn(0, 5))
    with pytest.raises(BankError, match="no conditions"):
        bank(net, [])
    with pytest.raises(KIND):
        bank(net, z, batch_size=1.5)  # type: ignore[arg-type]
    with pytest.raises(KIND):
        bank(net, z, dtype=torch.int8)
    with pytest.raises(ShapeError, match="one row per condition"):
        bank(net, torch.randn(4, 5, 7))
    for names, error in [
        (["a", "b"], BankError),
        (["a", "b", "c", "a"], BankError),
        ("abcd", KIND),
        ([0, 1, 2, 3], KIND),
    ]:
        with pytest.raises(error):
            bank(net, z, ids=names)  # type: ignore[arg-type]
    local = condition(network(), at="0", generator=SqueezeExcite())
    with pytest.raises(CallError, match="features of each site"):
        bank(local, z)


def test_rows_that_fit_no_layout() -> None:
    with pytest.raises(ShapeError, match=r"\(K, 7\)"):
        Bank(layout(), torch.randn(3, 8))
    with pytest.raises(BankError):
        Bank(layout(), torch.randn(0, 7))
    with pytest.raises(KIND):
        Bank(layout(), torch.zeros(3, 7, dtype=torch.long))
    with pytest.raises(KIND):
        Bank("layout", torch.zeros(3, 7))  # type: ignore[arg-type]


def test_an_equal_header_in_other_bytes_is_refused(tmp_path: Path) -> None:
    """A change of padding, order of keys or white space in the header is detected."""
    path = tmp_path / "bank"
    random_bank(4).save(path)
    good = path.read_bytes()
    start = 8 + int.from_bytes(good[:8], "little")
    head = good[8:start]
    turned = json.dumps(dict(reversed(json.loads(head).items()))).encode()
    assert head.endswith(b"  ") and turned != head.rstrip()
    for bad in (head[:-1] + b"\n", turned.ljust(len(head)), head[:-1].replace(b":", b": ", 1)[:-1]):
        path.write_bytes(good[:8] + bad.ljust(len(head))[: len(head)] + good[start:])
        with pytest.raises(BankError, match="header is damaged"):
            Bank.load(path)
