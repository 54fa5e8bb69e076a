"""All damage of our files is detected, and forged files raise errors of the library only.

Every kind of file is damaged at random, which must raise. Then its content is replaced by random
content under a valid seal, which must raise an error of the library or be valid. Each run tests a
few of each, the slow run hundreds.
"""

from __future__ import annotations

import copy
import functools
import json
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError
from safetensors.torch import save as to_bytes
from torch import nn

from featurewise.common.seal import PLACEHOLDER, seal_tensors, sealed
from featurewise.core import Affine, FeaturewiseError, Gate, Layout, Site, TaskRepresentation
from featurewise.deploy.bank import Bank
from featurewise.generators import MLP, from_config
from featurewise.retrofit import Conditioned, condition
from featurewise.study.model import read_model
from featurewise.study.results import Measurement, Proportion, Results, Trial
from featurewise.study.run import Run, read_run
from featurewise.training.checkpoint import load as load_checkpoint
from featurewise.training.checkpoint import save as save_checkpoint
from featurewise.training.errors import ExperimentError
from featurewise.training.facts import facts_text
from featurewise.training.metrics import MetricsLog, read_metrics

OURS = (FeaturewiseError, ExperimentError, TypeCheckError)  # the last where types are checked
LAYOUT = Layout((Site("0", 4, Affine()), Site("2", 2, Gate(), axis=-1)))
MEASURED = Measurement(Proportion(3, 4), {"odd": Proportion(1, 2)}, {"error": 0.25})
RUN = Run(
    system="toy", preset="tiny", arm="film", seed=3, settings={"steps": 6}, hardware={"cores": "2"}
)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        make: folder -> the files that may be damaged.
        read: folder -> what they say; raises when they are damaged.
    """

    make: Callable[[Path], list[Path]]
    read: Callable[[Path], Any]


def made_run(folder: Path) -> list[Path]:
    (folder / "run.json").write_bytes(facts_text(vars_of(RUN)))
    return [folder / "run.json"]


def model_facts() -> dict[str, Any]:
    return {
        "weights_sha256": "0" * 64,
        "run": {**vars_of(RUN)},
        "steps": 6,
        "seconds": 1.5,
        "world": "Sums.",
        "licence": "none needed",
        "measured": {"sums": MEASURED.to_json()},
        "departures": ["It is a toy."],
    }


def vars_of(run: Run) -> dict[str, Any]:
    return {name: getattr(run, name) for name in run.__slots__}


def made_model(folder: Path) -> list[Path]:
    (folder / "model.json").write_bytes(facts_text(model_facts()))
    return [folder / "model.json"]


def results() -> Results:
    trials = tuple(Trial(arm, s, 6, 1.5, 10, MEASURED) for arm in ("film", "blind") for s in (0, 1))
    return Results("toy", "tiny", trials, {"cores": "2"})


def made_results(folder: Path) -> list[Path]:
    results().save(folder / "results.json")
    return [folder / "results.json"]


def made_metrics(folder: Path) -> list[Path]:
    log = MetricsLog(folder / "metrics.jsonl", 0)
    for step in range(1, 6):
        log.write(step, "train", {"loss": 1 / step})
    log.sync()
    log.close()
    return [folder / "metrics.jsonl", folder / "metrics.jsonl.seal"]


def made_task(folder: Path) -> list[Path]:
    TaskRepresentation(LAYOUT, torch.randn(2, LAYOUT.size)).save(folder / "task")
    return [folder / "task"]


def made_bank(folder: Path) -> list[Path]:
    Bank(LAYOUT, torch.randn(3, LAYOUT.size), names=["a", "b", "c"]).save(folder / "bank")
    return [folder / "bank"]


def made_conditioner(folder: Path) -> list[Path]:
    net = condition(network(), at=["0", "2"], generator=MLP(5, [6]))
    net.save_pretrained(folder / "saved")
    return [path for path in (folder / "saved").iterdir() if path.name != "README.md"]


def made_checkpoint(folder: Path) -> list[Path]:
    save_checkpoint(folder / "step", {"a": [torch.randn(5), 1, {"b": (2.5, None)}], "c": "text"})
    return list((folder / "step").iterdir())


def read_conditioner(folder: Path) -> Any:
    return Conditioned.from_pretrained(folder / "saved", network())


KINDS = {
    "run.json": Kind(made_run, read_run),
    "model.json": Kind(made_model, read_model),
    "results.json": Kind(made_results, lambda folder: Results.load(folder / "results.json")),
    "metrics": Kind(made_metrics, lambda folder: read_metrics(folder / "metrics.jsonl")),
    "task": Kind(made_task, lambda folder: TaskRepresentation.load(folder / "task")),
    "bank": Kind(made_bank, lambda folder: Bank.load(folder / "bank")),
    "conditioner": Kind(made_conditioner, read_conditioner),
    "checkpoint": Kind(made_checkpoint, lambda folder: load_checkpoint(folder / "step")),
}


def damaged(good: bytes, rng: random.Random) -> bytes:
    """The content with one error of a disk, a copy or an editor; never unchanged."""
    at, long = rng.randrange(len(good)), rng.randrange(1, 1 + min(len(good), 64))
    line = good.rfind(b"\n", 0, len(good) - 1) + 1
    flaws: list[Callable[[], bytes]] = [
        lambda: good[:at] + bytes([good[at] ^ 1 << rng.randrange(8)]) + good[at + 1 :],
        lambda: good[:at] + bytes([rng.randrange(256)]) + good[at + 1 :],
        lambda: good[:at] + b"\0" * long + good[at + long :],
        lambda: good[:at] + rng.randbytes(long) + good[at + long :],
        lambda: good[:at],
        lambda: good[:line],
        lambda: good + rng.randbytes(long),
        lambda: good + rng.choice([b" ", b"\n", b"\0", b"{}", good]),
        lambda: good[:at] + rng.choice([b" ", b"\n", b"\r", b"0"]) + good[at:],
        lambda: good[:at] + good[at + long :],
        lambda: good[:at] + good[at : at + long] + good[at:],
        lambda: good.replace(b"\n", b"\r\n"),
        lambda: b"\xef\xbb\xbf" + good,
    ]
    while (bad := rng.choice(flaws)()) == good:
        at = rng.randrange(len(good))
    return bad


def refuse_damage(name: str, folder: Path, count: int) -> None:
    kind, rng = KINDS[name], random.Random(name)
    paths = sorted(kind.make(folder))
    kind.read(folder)
    for number in range(count):
        path = paths[number % len(paths)]
        good = path.read_bytes()
        bad = damaged(good, rng)
        path.write_bytes(bad)
        try:
            with pytest.raises(OURS) as caught:
                kind.read(folder)
        except BaseException as error:
            raise AssertionError(f"{path.name}, {number}: {bad[:2000]!r}") from error
        assert str(folder) in str(caught.value)
        path.write_bytes(good)
    kind.read(folder)


@pytest.mark.parametrize("name", KINDS)
def test_all_damage_is_detected(name: str, tmp_path: Path) -> None:
    refuse_damage(name, tmp_path, 40)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_all_damage_is_detected_in_many_trials(name: str, tmp_path: Path) -> None:
    refuse_damage(name, tmp_path, 1000)


def test_files_cannot_be_exchanged(tmp_path: Path) -> None:
    """The weights of one conditioner or checkpoint are not accepted in another."""
    for name in ("conditioner", "checkpoint"):
        one, other = tmp_path / name / "one", tmp_path / name / "other"
        for folder, seed in ((one, 1), (other, 2)):
            folder.mkdir(parents=True)
            torch.manual_seed(seed)
            paths = KINDS[name].make(folder)
        for path in paths:
            mine = one / path.relative_to(other)
            good = mine.read_bytes()
            if good != path.read_bytes():
                shutil.copy(path, mine)
                with pytest.raises(OURS):
                    KINDS[name].read(one)
                mine.write_bytes(good)


# --- forgeries ------------------------------------------------------------------------------------

DEEP: Any = functools.reduce(lambda inner, _: [inner], range(90), 0)
ODD: list[Any] = [
    *(None, True, False, 0, 1, -1, -3, 0.5, 1e308, -0.0, 2**31, 2**53, 2**63, -(2**64), 10**90),
    *("", "x", "\0", "\x1b[2J", "../../x", "a/b", "<script>", "\ud800", "x" * 5000, "9" * 5000),
    *("inf", "nan", "1e400", "float32", "int8", "complex64", "Linear", "Transformer", "Affine"),
    *([], [[]], [1, 2], ["a"], [None], [0.5] * 20, [10**9, 10**9], [{}] * 3, DEEP),
    *({}, {"a": 1}, {"": {}}, {"$tensor": "none"}, {"$items": [[[], 1]]}, {"$float": "x"}),
    *({"generator": {}}, {"tuple": 3}, {"module": {"kind": "GRU", "arguments": {}}}),
    *({"module": {"kind": "Linear", "arguments": {"in_features": 10**12}}}, {"layout": []}),
    *({"operation": {"kind": "Operation"}}, {"dtype": "load"}, {"tensor": {"shape": [-1]}}),
]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value if isinstance(value, list) else ())
    )
    for key, each in inner:
        yield from places(each, (*path, key))


def forged(value: Any, rng: random.Random) -> Any:
    """JSON values with one element replaced, removed, renamed or added."""
    value = copy.deepcopy(value)
    path = rng.choice([path for path in places(value) if path])
    *above, last = path
    holder = functools.reduce(lambda held, key: held[key], above, value)
    match rng.randrange(6):
        case 0:
            del holder[last]
        case 1 if isinstance(holder, dict):
            holder["\x1b" if rng.random() < 0.5 else f"{last}2"] = holder.pop(last)
        case 2 if isinstance(holder, list):
            holder *= rng.choice([2, 30, 2000])
        case 3 if isinstance(holder[last], dict):
            holder[last]["new"] = rng.choice(ODD)
        case _:
            holder[last] = rng.choice(ODD)
    return value


def text_of(value: Any, rng: random.Random) -> str:
    """JSON text, in some cases with invalid syntax."""
    text = json.dumps(value)
    match rng.randrange(12):
        case 0:
            return text.replace("1", "NaN", 1)
        case 1:
            return text.replace("1", "Infinity", 1)
        case 2:
            return text.replace("{", '{"format": 1, "format": 1, ', 1)
        case 3:
            return "[" * 100_000
        case 4:
            return text.replace("1", "9" * 5000, 1)
        case 5:
            return text.replace("1", "1e999", 1)
    return text


FORGED = TaskRepresentation.identity(LAYOUT)


def json_file(folder: Path, name: str, content: dict[str, Any], rng: random.Random) -> None:
    bad = forged(content, rng)
    try:
        (folder / name).write_bytes(sealed(bad))
    except ValueError:
        (folder / name).write_text(text_of(bad, rng), errors="replace")


def forge_facts(folder: Path, name: str, rng: random.Random) -> None:
    content = json.loads((folder / name).read_bytes())
    del content["seal"]
    json_file(folder, name, content, rng)


def forge_task(folder: Path, rng: random.Random) -> None:
    said = {"layout": LAYOUT.to_json(), "sha256": PLACEHOLDER}
    bad = {**forged({"layout": said["layout"]}, rng), "sha256": PLACEHOLDER}
    kinds = [torch.float32, torch.int8, torch.complex64, torch.float8_e5m2, torch.bool]
    flat = torch.zeros(rng.choice([(LAYOUT.size,), (2, LAYOUT.size), (), (0,)]))
    tensors = {rng.choice(["flat", "other"]): flat.to(rng.choice(kinds))}
    key = f"featurewise.TaskRepresentation.{rng.choice([1, 2, 2, 2])}"
    raw = to_bytes(tensors, metadata={key: text_of(bad, rng)})
    (folder / "task").write_bytes(
        seal_tensors(raw) if raw.count(PLACEHOLDER.encode()) == 1 else raw
    )


def forge_bank(folder: Path, rng: random.Random) -> None:
    from featurewise.common.files import sha256

    good = folder / "bank"
    raw = good.read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    outer = json.loads(raw[8:end])
    said = json.loads(outer["__metadata__"]["featurewise.Bank.1"])
    text = text_of(forged(json.loads(said["header"]), rng), rng)
    said = {"header": text, "sha256": sha256(raw[end:], text.encode(errors="replace"))}
    if rng.random() < 0.3:
        said = forged(said, rng)
    outer["__metadata__"]["featurewise.Bank.1"] = json.dumps(said)
    if rng.random() < 0.3:
        outer = forged(outer, rng)
    head = json.dumps(outer).encode()
    good.write_bytes(len(head).to_bytes(8, "little") + head + raw[end:])


def forge_conditioner(folder: Path, rng: random.Random) -> None:
    from featurewise.common.files import sha256

    saved = folder / "saved"
    config = json.loads((saved / "config.json").read_bytes())
    bad = forged(config, rng)
    if rng.random() < 0.7:  # in the generator or the layout, not in the many hashes
        part = rng.choice(["generator", "layout"])
        bad = {**config, part: forged(config[part], rng)}
    (saved / "config.json").write_text(text_of(bad, rng), errors="replace")
    if rng.random() < 0.2:
        kind = rng.choice([torch.int8, torch.complex64, torch.float8_e5m2, torch.float16])
        tensors = {f"generator.{n}": t.to(kind) for n, t in MLP(5, [6]).state_dict().items()}
        (saved / "model.safetensors").write_bytes(to_bytes(tensors))
    files = {}
    for name in ("config.json", "model.safetensors"):
        data = (saved / name).read_bytes()
        files[name] = {"bytes": len(data), "sha256": sha256(data)}
    manifest: Any = {"format": 1, "files": files}
    (saved / "manifest.json").write_bytes(
        sealed(manifest if rng.random() < 0.8 else forged(manifest, rng))
    )


def forge_checkpoint(folder: Path, rng: random.Random) -> None:
    from featurewise.common.files import sha256

    step = folder / "step"
    state = json.loads((step / "state.json").read_bytes())
    (step / "state.json").write_text(text_of(forged(state, rng), rng), errors="replace")
    if rng.random() < 0.2:
        (step / "tensors.safetensors").write_bytes(rng.randbytes(50))
    files = {}
    for name in ("state.json", "tensors.safetensors"):
        data = (step / name).read_bytes()
        files[name] = {"bytes": len(data), "sha256": sha256(data)}
    manifest: Any = {"files": files, "format": 1}
    (step / "manifest.json").write_bytes(
        sealed(manifest if rng.random() < 0.8 else forged(manifest, rng), end="")
    )


def forge_metrics(folder: Path, rng: random.Random) -> None:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        del line["seal"]
    bad = forged(lines, rng)
    text = "\n".join(text_of(line, rng) for line in bad) + "\n"
    (folder / "metrics.jsonl").write_text(text, errors="replace")
    (folder / "metrics.jsonl.seal").unlink()


FORGERS: dict[str, Callable[[Path, random.Random], None]] = {
    "run.json": lambda folder, rng: forge_facts(folder, "run.json", rng),
    "model.json": lambda folder, rng: forge_facts(folder, "model.json", rng),
    "results.json": lambda folder, rng: forge_facts(folder, "results.json", rng),
    "metrics": forge_metrics,
    "task": forge_task,
    "bank": forge_bank,
    "conditioner": forge_conditioner,
    "checkpoint": forge_checkpoint,
}


def refuse_forgeries(name: str, folder: Path, count: int) -> None:
    kind, rng, refused = KINDS[name], random.Random(name), 0
    folder.mkdir()
    kind.make(folder)
    good = folder.with_name(f"{folder.name}-good")
    shutil.copytree(folder, good)
    for number in range(count):
        shutil.copytree(good, folder, dirs_exist_ok=True)
        FORGERS[name](folder, rng)
        try:
            kind.read(folder)
        except OURS as error:
            refused += 1
            assert str(folder) in str(error)
        except BaseException as error:
            raise AssertionError(f"{name}, forgery {number}: {error!r}") from error
    assert refused > count / 2


@pytest.mark.parametrize("name", FORGERS)
def test_forgeries_raise_errors_of_the_library_only(name: str, tmp_path: Path) -> None:
    refuse_forgeries(name, tmp_path / "files", 30)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORGERS)
def test_many_forgeries_raise_errors_of_the_library_only(name: str, tmp_path: Path) -> None:
    refuse_forgeries(name, tmp_path / "files", 1000)


def forge_descriptions(count: int) -> None:
    rng = random.Random(0)
    readers: list[tuple[Callable[[Any], Any], Any]] = [
        (from_config, MLP(5, [6, 7]).config()),
        (Layout.from_json, LAYOUT.to_json()),
    ]
    for number in range(count):
        for read, good in readers:
            bad = forged(good, rng)
            try:
                with torch.device("meta"):
                    read(bad)
            except OURS:
                continue
            except BaseException as error:
                raise AssertionError(f"{read}, forgery {number}: {bad}: {error!r}") from error


def test_descriptions_raise_errors_of_the_library_only() -> None:
    forge_descriptions(100)


@pytest.mark.slow
def test_many_descriptions_raise_errors_of_the_library_only() -> None:
    forge_descriptions(3000)
