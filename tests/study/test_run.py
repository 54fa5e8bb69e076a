"""Runs on disk, and models published from them."""

import dataclasses
import hashlib
import json
import shutil
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import nn

from featurewise.common.dataset import DatasetFacts
from featurewise.common.modes import on_cpu
from featurewise.common.seal import sealed
from featurewise.study.claims import Claim, Criterion, Verdict
from featurewise.study.metric import Metric
from featurewise.study.model import export_model, load_network, read_model
from featurewise.study.results import Measurement, Proportion, Results
from featurewise.study.run import Run, describe_run, read_run, train, write_run
from featurewise.study.system import Arm, Config, Paper, System
from featurewise.training import ExperimentError, Intervals, Supervised, distributed
from featurewise.training.checkpoint import CheckpointStore
from featurewise.training.errors import (
    CheckpointError,
    FormatVersionError,
    OccupiedError,
    StorageError,
)
from featurewise.training.files import locked
from featurewise.training.steppers.base import Learner


@dataclass(frozen=True)
class Part:
    kind: Literal["A", "B"] | None = None
    families: tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Toy(Config):
    FORMER_NAMES: ClassVar = {"rate": "learning_rate"}

    width: int = 3
    learning_rate: float = 0.01
    noise: bool = False
    parts: tuple[Part, ...] = (Part("A", (1, 2)), Part())
    pair: tuple[int, str] = (1, "x")
    noted: bool = field(default=True)


class Sums:
    def batch(self, index):
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(index))
        return x, x.sum(1, keepdim=True)


def build(config):
    layers = nn.Linear(3, config.width), nn.BatchNorm1d(config.width)
    return nn.Sequential(*layers, nn.Linear(config.width, 1))


def objective(network, batch):
    return (network(batch[0]) - batch[1]).square().mean(), {}


def stepper(network, config):
    optimizer = torch.optim.Adam(network.parameters(), config.learning_rate)
    return Supervised(network, objective, optimizer, average=0.9)


def evaluate(stepper, config):
    with stepper.evaluating() as network:
        error = objective(network, Sums().batch(999))[0].item()
    return Measurement(Proportion(3, 4), {"odd": Proportion(1, 2)}, {"error": error})


TOY = System(
    name="toy",
    doc="A toy. Nobody 2020, eq. 1.\n\nSums.",
    paper=Paper("Nobody 2020, Sums", "https://example.org", "eq. 1"),
    world=DatasetFacts("Random numbers.", "none needed"),
    presets={name: Toy(steps=6, intervals=Intervals(log=3)) for name in ("tiny", "small", "paper")},
    arms=(Arm("film", "the system"), Arm("blind", "sees noise", noise=True)),
    build=build,
    stepper=stepper,
    data=lambda config, seed: Sums(),
    evaluate=evaluate,
    claims=(Claim("It is good.", Criterion("Above 50 %.", lambda results: Verdict(1.0, low=0.5))),),
    departures=("It is a toy.",),
    metrics=(Metric("odd", "share of odd ones", "%"), Metric("error", "squared error")),
    cost={"tiny": "", "small": "", "paper": ""},
)
RUN = describe_run(TOY, preset="tiny", seed=3)


def test_versions_of_the_data_are_recorded_with_the_results(tmp_path):
    rendered = dataclasses.replace(TOY, versions=lambda config: {"pen": f"of {config.steps}"})
    train(tmp_path, rendered, RUN)
    assert Results.load(tmp_path / "results.json").data_versions == {"pen": "of 6"}


def test_a_run_is_neither_used_nor_resumed_with_other_data(tmp_path):
    """The rows of an embedding would stand for other words."""

    def of(text):
        return dataclasses.replace(TOY, data_digests=lambda config: {"text of toys": text})

    train(tmp_path / "run", of("abc"), RUN)
    assert read_run(tmp_path / "run").data_digests == {"text of toys": "abc"}
    export_model(tmp_path / "run", tmp_path / "model", system=of("abc"))
    assert read_model(tmp_path / "model").run.data_digests == {"text of toys": "abc"}
    train(tmp_path / "run", of("abc"), RUN)
    message = r"another text of toys .*\(abc, here abd\).*: restore the data, or train again"
    for folder in ("run", "model"):
        load_network(tmp_path / folder, of("abc"))
        with pytest.raises(ExperimentError, match=f"^{tmp_path / folder}: .*{message}"):
            load_network(tmp_path / folder, of("abd"))
    with pytest.raises(ExperimentError, match=f"^{tmp_path / 'run'}: .*{message}"):
        train(tmp_path / "run", of("abd"), RUN)


def test_a_run_that_has_no_digests_goes_on(tmp_path):
    system = dataclasses.replace(TOY, data_digests=lambda config: {"text": "abc"})
    train(tmp_path / "run", TOY, RUN)
    assert "data_digests" not in json.loads((tmp_path / "run" / "run.json").read_text())
    train(tmp_path / "run", system, RUN)
    load_network(tmp_path / "run", system)


def failing(part, error):
    """The toy, one part of which fails."""

    def fail(*arguments):
        raise error

    class NoBatch:
        batch = fail

    if part == "batch":
        return dataclasses.replace(TOY, data=lambda config, seed: NoBatch())
    if part == "step":
        return dataclasses.replace(
            TOY,
            stepper=lambda net, config: Supervised(net, fail, torch.optim.SGD(net.parameters())),
        )
    return dataclasses.replace(TOY, **{part: fail})


@pytest.mark.parametrize("part", ["build", "data", "batch", "step", "data_digests"])
def test_a_run_that_fails_at_once_leaves_nothing(tmp_path, part):
    folder = tmp_path / "runs" / "toy"
    with pytest.raises(OSError, match="no such data"):
        train(folder, failing(part, OSError("no such data")), RUN)
    assert not list(tmp_path.iterdir())
    other = dataclasses.replace(RUN, settings={**RUN.settings, "steps": 2})
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, failing(part, KeyboardInterrupt()), RUN)
    assert train(tmp_path, TOY, other).steps == 2, "the retry may have other settings"


def test_a_run_that_was_killed_before_it_kept_anything_is_replaced(tmp_path):
    """It has left run.json, a lock, an empty log and no checkpoint."""
    write_run(tmp_path, RUN, TOY)
    for name in ("metrics.jsonl", ".lock"):
        (tmp_path / name).touch()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "mine.txt").write_text("mine")
    other = dataclasses.replace(RUN, settings={**RUN.settings, "steps": 2})
    with ExitStack() as stack:
        stack.enter_context(locked(tmp_path))
        with pytest.raises(OccupiedError):
            train(tmp_path, TOY, other)
    assert read_run(tmp_path) == RUN
    with pytest.warns(UserWarning, match="steps 6, not 2. It was stopped before it kept anything"):
        assert train(tmp_path, TOY, other).steps == 2
    assert read_run(tmp_path).settings["steps"] == 2
    assert (tmp_path / "mine.txt").read_text() == "mine"
    with pytest.raises(ExperimentError, match="holds a run with steps 2, not 6; choose"):
        train(tmp_path, TOY, RUN)


@pytest.mark.parametrize("kept", ["metrics.jsonl", "checkpoints/1", "results.json", "sheet.png"])
def test_a_run_that_kept_something_is_not_replaced(tmp_path, kept):
    write_run(tmp_path, RUN, TOY)
    (tmp_path / kept).parent.mkdir(exist_ok=True)
    (tmp_path / kept).write_text("{}")
    other = dataclasses.replace(RUN, settings={**RUN.settings, "steps": 2})
    with pytest.raises(ExperimentError, match="holds a run with steps 6, not 2; choose"):
        train(tmp_path, TOY, other)
    assert read_run(tmp_path) == RUN and (tmp_path / kept).exists()


def test_what_was_there_before_a_failure_stays(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(OSError, match="late"):
        train(tmp_path, failing("evaluate", OSError("late")), RUN)
    assert {"mine.txt", "run.json", "metrics.jsonl"} <= {each.name for each in tmp_path.iterdir()}
    train(tmp_path / "done", TOY, RUN)
    with pytest.raises(OSError, match="late"):
        train(tmp_path / "done", failing("build", OSError("late")), RUN)
    assert (tmp_path / "done" / "run.json").exists()
    with pytest.raises(OSError, match="early"):
        train(tmp_path, failing("build", OSError("early")), RUN)
    assert (tmp_path / "run.json").exists() and (tmp_path / "mine.txt").exists()


def test_a_run_of_another_process_stays(tmp_path):
    folder = tmp_path / "toy"

    def build_elsewhere(config):
        occupied.enter_context(locked(folder))
        return build(config)

    with ExitStack() as occupied, pytest.raises(OccupiedError):
        train(folder, dataclasses.replace(TOY, build=build_elsewhere), RUN)
    assert (folder / "run.json").exists()


class Elsewhere(nn.Linear):
    """A network on a device that is not the processor, without being there."""

    def __init__(self):
        super().__init__(3, 1)
        self.moves = []

    def parameters(self, recurse=True):
        here = bool(self.moves) and self.moves[-1] == "cpu"
        return iter([self.weight if here else self.weight.to("meta"), self.bias])

    def to(self, device):
        self.moves.append(str(device))
        return self


@pytest.mark.parametrize("on_gpu", [False, True])
def test_a_network_on_a_gpu_is_measured_and_plotted_on_the_processor(tmp_path, monkeypatch, on_gpu):
    network, seen = Elsewhere(), []

    def measured(stepper, config):
        seen.append(list(stepper.networks["network"].moves))
        return evaluate(stepper, config)

    def plotted(stepper, config):
        seen.append(list(stepper.networks["network"].moves))
        return Image.new("L", (8, 8))

    monkeypatch.setattr(distributed, "device", lambda: torch.device("meta"))
    system = dataclasses.replace(
        TOY,
        build=lambda config: network,
        evaluate=measured,
        draw=plotted,
        caption="nothing",
        measured_on_gpu=on_gpu,
        stepper=lambda network, config: Supervised(
            network, objective, torch.optim.SGD([network.weight, network.bias], 0.01)
        ),
    )
    # Training moves its batches to the device: here it is the processor all the time.
    monkeypatch.setattr(Learner, "device", torch.device("cpu"))
    train(tmp_path / "run", system, RUN)
    if on_gpu:
        assert seen == [["meta"], ["meta"]]
    else:
        assert seen == [["meta", "cpu"], ["meta", "cpu", "meta", "cpu"]]
        assert network.moves == ["meta", "cpu", "meta", "cpu", "meta"]


@pytest.mark.parametrize("workers", [-1, 1025, 5000])
def test_more_processes_than_a_machine_has_are_refused(tmp_path, workers):
    with pytest.raises(ExperimentError, match=f"0 to 1024 processes .* not {workers}"):
        train(tmp_path / "run", TOY, RUN, workers=workers)
    assert not (tmp_path / "run").exists()


def test_a_finished_run_says_what_it_is_whatever_another_process_took_back(tmp_path):
    def taken_back(stepper, config):
        (tmp_path / "run" / "run.json").unlink(missing_ok=True)
        return evaluate(stepper, config)

    train(tmp_path / "run", dataclasses.replace(TOY, evaluate=taken_back), RUN)
    assert read_run(tmp_path / "run") == RUN


def test_networks_are_where_they_were_after_an_error():
    network = Elsewhere()
    with pytest.raises(KeyboardInterrupt), on_cpu([network, nn.Linear(2, 2)]):
        assert network.moves == ["cpu"]
        raise KeyboardInterrupt
    assert network.moves == ["cpu", "meta"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "toy"
    return folder, train(folder, TOY, RUN)


@pytest.fixture
def model(trained, tmp_path):
    measured = {"random numbers": trained[1].measured}
    return export_model(trained[0], tmp_path / "a" / "model", system=TOY, measured=measured)


def test_facts_come_back(tmp_path):
    write_run(tmp_path / "run", RUN, TOY)
    assert read_run(tmp_path / "run") == RUN
    assert RUN.config(TOY) == TOY.config("tiny", "film")
    assert {"torch", "processor"} <= RUN.hardware.keys()


def test_settings_of_an_override_come_back():
    other = Toy(
        steps=9,
        parts=(Part("B"),),
        pair=(2, "y"),
        learning_rate=1.0,
        intervals=Intervals(save=None),
    )
    run = describe_run(TOY, preset="tiny", arm="blind", config=other)
    assert run.config(TOY) == dataclasses.replace(other, noise=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": "3"}, "settings: width must be an integer, got '3'"),
        ({"width": True}, "settings: width must be an integer, got True"),
        ({"rate": None}, "settings: learning_rate must be a number, got None"),
        ({"noted": 1}, "settings: noted must be true or false, got 1"),
        (
            {"parts": [{"kind": "C"}]},
            r"settings.parts\[0\]: kind must be 'A' or 'B' \(or None\), got 'C'",
        ),
        ({"parts": 3}, "settings: parts must be several values, got 3"),
        ({"pair": [1]}, "settings: pair must have 2 values, got 1"),
        ({"every": 3}, "settings.intervals must be an object"),
        ({"every": {"log": 0}}, "settings.intervals: log must be 1 or more, got 0"),
        ({"depth": 1}, "settings: 'depth' is unknown"),
    ],
)
def test_settings_of_another_version_are_refused(change, message):
    run = dataclasses.replace(RUN, settings={**RUN.settings, **change})
    with pytest.raises(ExperimentError, match=message):
        run.config(TOY)


def test_settings_without_a_needed_field_are_refused():
    settings = {name: value for name, value in RUN.settings.items() if name != "steps"}
    with pytest.raises(ExperimentError, match="steps"):
        dataclasses.replace(RUN, settings=settings).config(TOY)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 4}, "a run with seed 3, not 4"),
        ({"arm": "blind"}, "arm film, not blind"),
        ({"settings": {**RUN.settings, "steps": 8}}, "steps 6, not 8"),
    ],
)
def test_another_run_in_the_folder_is_refused(tmp_path, change, message):
    write_run(tmp_path, RUN, TOY)
    with pytest.raises(ExperimentError, match=f"{tmp_path}: .*{message}; choose another folder"):
        write_run(tmp_path, dataclasses.replace(RUN, **change), TOY)
    write_run(tmp_path, dataclasses.replace(RUN, hardware={"processor": "another"}), TOY)


def test_a_run_that_version_0_1_began_goes_on(tmp_path):
    """Its fields have other names; those that are new have their defaults."""
    named = {"learning_rate": "rate", "intervals": "every"}
    settings = {named.get(name, name): value for name, value in RUN.settings.items()}
    del settings["noise"]
    write_run(tmp_path, RUN, TOY)
    edited(tmp_path, "run.json", settings=settings)
    write_run(tmp_path, RUN, TOY)
    edited(tmp_path, "run.json", settings={**settings, "rate": 0.5})
    with pytest.raises(ExperimentError, match=r"learning_rate 0\.5, not 0\.01"):
        write_run(tmp_path, RUN, TOY)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file"):
        write_run(tmp_path / "file" / "run", RUN, TOY)


def test_training_keeps_its_results_and_goes_on(trained):
    folder, trial = trained
    assert (trial.steps, trial.seed, trial.arm) == (6, 3, "film")
    assert Results.load(folder / "results.json").trials == (trial,)
    again = train(folder, TOY, RUN)
    assert (again.measured, again.steps) == (trial.measured, 6)
    with pytest.raises(ExperimentError, match="contains a run already"):
        train(folder, TOY, RUN, resume=False)


def test_training_within_a_time_is_measured_nonetheless(tmp_path):
    trial = train(tmp_path, TOY, RUN, seconds=1e-9)
    assert (trial.steps, trial.measured.accuracy) == (1, Proportion(3, 4))
    assert train(tmp_path, TOY, RUN).steps == 6


def averaged(folder):
    """What evaluation saw at the end of training, without the code under test."""
    fresh = stepper(build(TOY.presets["tiny"]), TOY.presets["tiny"])
    from featurewise.training import CheckpointStore

    fresh.load_state(CheckpointStore(folder / "checkpoints").load(6)["stepper"])
    with fresh.evaluating() as network:
        return {name: tensor.clone() for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize("kind", ["run", "model"])
def test_networks_come_back_with_averaged_weights(trained, model, kind):
    network, settings = load_network(trained[0] if kind == "run" else model, TOY)
    expected, found = averaged(trained[0]), network.state_dict()
    assert settings == TOY.presets["tiny"] and not network.training
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert evaluate(stepper(network, settings), settings) == trained[1].measured


def test_a_model_tells_where_it_comes_from(trained, model):
    facts = read_model(model)
    assert facts.run == read_run(trained[0]) == read_run(model) == RUN
    assert (facts.steps, facts.world, facts.departures) == (
        6,
        "Random numbers.",
        ("It is a toy.",),
    )
    assert facts.measured == {"random numbers": trained[1].measured}
    assert sorted(path.name for path in model.iterdir()) == ["model.json", "weights.safetensors"]
    assert not list(model.parent.glob(".*"))


def test_a_model_is_never_overwritten(trained, model):
    with pytest.raises(ExperimentError, match="exists already"):
        export_model(trained[0], model, system=TOY)


@pytest.mark.parametrize("position", [0, 9, 200, -1])
def test_a_flipped_bit_is_noticed(model, position):
    path = model / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"weights.safetensors: is damaged"):
        load_network(model, TOY)


def edited(folder, name, **change):
    """As a forger would: with the seal that belongs to it."""
    content = json.loads((folder / name).read_text())
    content.pop("seal")
    (folder / name).write_bytes(sealed({**content, **change}))


def test_damaged_facts(model, tmp_path):
    edited(model, "model.json", format=3)
    with pytest.raises(FormatVersionError, match="has format 3"):
        load_network(model, TOY)
    for content in ("", "{", "[1]", "{}", '{"format": 1}', "[" * 9999, "\xff"):
        (model / "model.json").write_text(content, encoding="latin-1")
        with pytest.raises(ExperimentError, match=r"model.json: is damaged"):
            read_model(model)
    edited_run = tmp_path / "run"
    write_run(edited_run, RUN, TOY)
    edited(edited_run, "run.json", settings=3)
    with pytest.raises(ExperimentError, match=r"run.json: is damaged"):
        read_run(edited_run)


def test_what_is_no_model(model, tmp_path):
    with pytest.raises(ExperimentError, match="is neither a run"):
        load_network(tmp_path / "nothing", TOY)
    write_run(tmp_path / "new", RUN, TOY)
    with pytest.raises(ExperimentError, match="holds no checkpoint yet"):
        load_network(tmp_path / "new", TOY)
    (model / "weights.safetensors").unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_network(model, TOY)


def test_a_damaged_run_says_so(trained, tmp_path):
    folder = shutil.copytree(trained[0], tmp_path / "run")
    for path in folder.glob("checkpoints/*/tensors.safetensors"):
        path.write_bytes(path.read_bytes()[:-1])
    with (
        pytest.warns(UserWarning, match="damaged"),
        pytest.raises(ExperimentError, match="none of its checkpoints is sound"),
    ):
        load_network(folder, TOY)


def test_another_system_or_size_is_refused(trained, model):
    with pytest.raises(ExperimentError, match="a run of 'toy', not of 'other'"):
        load_network(model, dataclasses.replace(TOY, name="other"))
    run = json.loads((model / "model.json").read_text())["run"]
    edited(model, "model.json", run={**run, "settings": {**run["settings"], "width": 4}})
    with pytest.raises(ExperimentError, match=r"weights do not fit the network: size mismatch"):
        load_network(model, TOY)


def test_a_run_is_a_record():
    assert Run(system="a", preset="b", arm="c", seed=0, settings={}).hardware == {}


# --- what a file may say --------------------------------------------------------------------------


def reweighed(folder, change):
    """A forger's weights, under a digest that agrees."""
    path = folder / "weights.safetensors"
    tensors = safetensors.torch.load_file(path)
    change(tensors)
    content = safetensors.torch.save(tensors)
    path.write_bytes(content)
    edited(folder, "model.json", weights_sha256=hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("dtype", [torch.int8, torch.complex64, torch.float8_e5m2, torch.float64])
def test_weights_of_another_kind_are_refused_and_not_cast(model, dtype):
    reweighed(model, lambda tensors: tensors.update({"0.weight": tensors["0.weight"].to(dtype)}))
    with pytest.raises(ExperimentError, match=f"0.weight is {dtype} in the state"):
        load_network(model, TOY)


def test_settings_that_ask_for_more_than_the_weights_are_not_built(model):
    run = json.loads((model / "model.json").read_text())["run"]
    built = []

    def deep(config):
        for _ in range(config.width):
            built.append(nn.Linear(3, 3))
        return nn.Sequential(*built)

    for system in (TOY, dataclasses.replace(TOY, build=deep)):
        settings = {**run["settings"], "width": 10**9}
        edited(model, "model.json", run={**run, "settings": settings})
        with pytest.raises(ExperimentError, match="more than the file holds|not fit|memory"):
            load_network(model, system)
        assert len(built) < 2000


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("format", True),
        ("format", 0.5),
        ("format", 0),
        ("format", -3),
        ("format", "2"),
        ("format", None),
        ("steps", -5),
        ("steps", 1.0),
        ("steps", 10**90),
        ("seconds", -1),
        ("seconds", True),
        ("measured", {"\x1b": {"accuracy": None, "by_type": {}, "values": {}}}),
        ("measured", {"a": {"accuracy": [2, 1], "by_type": {}, "values": {}}}),
        ("departures", [1]),
        ("weights_sha256", 3),
        ("note", 1),
    ],
)
def test_facts_of_a_model_stay_within_their_ranges(model, place, value):
    edited(model, "model.json", **{place: value})
    with pytest.raises(ExperimentError) as caught:
        read_model(model)
        load_network(model, TOY)
    assert str(caught.value).startswith(str(model)) and "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        *(("seed", seed) for seed in (-3, 0.5, True, None, 2**63, 10**90)),
        *(
            (p, name)
            for p in ("system", "preset", "arm")
            for name in ("../x", "", "a/b", "\x1b", 3)
        ),
        ("settings", []),
        ("hardware", {"cores": 2}),
        ("note", 1),
    ],
)
def test_facts_of_a_run_stay_within_their_ranges(tmp_path, place, value):
    write_run(tmp_path, RUN, TOY)
    edited(tmp_path, "run.json", **{place: value})
    with pytest.raises(ExperimentError) as caught:
        read_run(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'run.json'}: ")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000])
@pytest.mark.parametrize("name", ["run.json", "model.json", "results.json"])
def test_numbers_that_json_has_not_are_refused(trained, model, tmp_path, name, number):
    folder = shutil.copytree(trained[0] if name != "model.json" else model, tmp_path / "copy")
    path = folder / name
    text = path.read_text()
    for place in ('"seed": 3', '"seconds": '):
        if place in text:
            path.write_text(text.replace(place, f'"new": {number}, {place}', 1))
            with pytest.raises(ExperimentError, match=f"{name}: "):
                read = {"run.json": read_run, "model.json": read_model}.get(name)
                Results.load(path) if read is None else read(folder)


def test_files_of_version_0_1_have_no_seals_and_are_read(trained, model):
    """As they were written then: the same facts, of format 1 or of none, without a digest."""
    folder = trained[0]
    for path, first in ((folder / "run.json", 1), (model / "model.json", 1)):
        content = json.loads(path.read_text())
        content["format"] = first
        del content["seal"]
        whole = path.read_bytes()
        path.write_text(json.dumps(content, indent=1) + "\n")
        assert read_run(path.parent) == RUN
        content["format"] = 2
        path.write_text(json.dumps(content, indent=1) + "\n")
        with pytest.raises(ExperimentError, match="seal is missing"):
            read_run(path.parent)
        path.write_bytes(whole)
    new = Results.load(folder / "results.json")
    content = json.loads((folder / "results.json").read_text())
    del content["seal"], content["format"]
    (model / "old.json").write_text(json.dumps(content, indent=1) + "\n")
    assert Results.load(model / "old.json") == new
    for version in (1, 2, None):
        (model / "old.json").write_text(json.dumps({**content, "format": version}))
        with pytest.raises(ExperimentError):
            Results.load(model / "old.json")


def test_what_cannot_be_written_is_refused_in_words():
    for seed in (-3, 2**63):
        with pytest.raises(ExperimentError, match="a seed lies in"):
            describe_run(TOY, preset="tiny", seed=seed)
    with pytest.raises(ExperimentError, match=r"pair\[1\] must be a text"):
        Toy(steps=1, pair=(1, object()))
    with pytest.raises(ExperimentError, match="config cannot be written: a text holds half"):
        describe_run(TOY, preset="tiny", config=Toy(steps=1, pair=(1, "\ud800")))
    with pytest.raises(ExperimentError, match="learning_rate must be a finite number, got nan"):
        Toy(steps=1, learning_rate=float("nan"))
    for value in (float("nan"), float("inf")):
        with pytest.raises(ExperimentError, match="only finite numbers are results"):
            Measurement(None, {}, {"loss": value})
    for name in ("../a", "", "a b", "a/b", "\x1b"):
        with pytest.raises(ExperimentError, match="called like a file"):
            Arm(name, "leads elsewhere")
        with pytest.raises(ExperimentError, match="called like a file"):
            dataclasses.replace(TOY, presets={**TOY.presets, name: TOY.presets["tiny"]})
    for change in ({"steps": 0}, {"steps": -5}, {"workers": -1}, {"workers": 10**6}):
        with pytest.raises(ExperimentError):
            Toy(**{"steps": 1, **change})


@pytest.mark.parametrize("part", ["stepper", "processes", "evaluated", "log_bytes", "seconds"])
@pytest.mark.parametrize("value", [None, -1, float("nan"), {}, [], "x", [{}], {"a": [1]}], ids=str)
def test_a_checkpoint_that_says_something_else_is_refused_in_words(trained, tmp_path, part, value):
    """Sealed by hand: whole, and of no state that a run has."""
    if (part, value) in (("evaluated", {}),):
        return  # which is one
    folder = shutil.copytree(trained[0], tmp_path / "run")
    shutil.rmtree(folder / "checkpoints" / "step-00000006", ignore_errors=True)
    store = CheckpointStore(trained[0] / "checkpoints")
    state = {**store.load(6), part: value}
    CheckpointStore(folder / "checkpoints").save(6, state)
    with pytest.raises(ExperimentError) as caught:
        train(folder, TOY, RUN)
    assert str(folder) in str(caught.value)
    if part == "stepper":
        with pytest.raises(ExperimentError, match=str(folder)):
            load_network(folder, TOY)
