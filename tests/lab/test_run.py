"""Runs on disk, and models published from them."""

import dataclasses
import json
import shutil
from dataclasses import dataclass, field
from typing import Literal

import pytest
import torch
from torch import nn

from featurewise.common.seal import sealed
from featurewise.lab import Every, LabError, Supervised
from featurewise.lab.errors import CheckpointError, FormatVersionError, StorageError
from featurewise.lab.model import export_model, load_network, read_model
from featurewise.lab.record import Arm, Claim, Paper, Settings, System, Verdict
from featurewise.lab.results import Measurement, Proportion, Results
from featurewise.lab.run import Run, describe_run, read_run, train, write_run


@dataclass(frozen=True)
class Part:
    kind: Literal["A", "B"] | None = None
    families: tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Toy(Settings):
    width: int = 3
    rate: float = 0.01
    parts: tuple[Part, ...] = (Part("A", (1, 2)), Part())
    pair: tuple[int, str] = (1, "x")
    noted: bool = field(default=True)


class Sums:
    def batch(self, index):
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(index))
        return x, x.sum(1, keepdim=True)


def build(settings, arm):
    layers = nn.Linear(3, settings.width), nn.BatchNorm1d(settings.width)
    return nn.Sequential(*layers, nn.Linear(settings.width, 1))


def objective(network, batch):
    return (network(batch[0]) - batch[1]).square().mean(), {}


def stepper(network, settings, arm):
    optimizer = torch.optim.Adam(network.parameters(), settings.rate)
    return Supervised(network, objective, optimizer, average=0.9)


def evaluate(stepper, settings, arm):
    with stepper.evaluating() as network:
        error = objective(network, Sums().batch(999))[0].item()
    return Measurement(Proportion(3, 4), {"odd": Proportion(1, 2)}, {"error": error})


TOY = System(
    name="toy",
    title="A toy",
    what="Sums.",
    paper=Paper("Nobody 2020, Sums", "https://example.org", "eq. 1"),
    world="Random numbers.",
    licence="none needed",
    presets={name: Toy(steps=6, every=Every(log=3)) for name in ("tiny", "small", "paper")},
    arms=(Arm("film", "the system"), Arm("blind", "sees noise")),
    build=build,
    stepper=stepper,
    data=lambda settings, arm, seed: Sums(),
    evaluate=evaluate,
    claims=(Claim("Above 50 %.", lambda results: Verdict(1.0, low=0.5)),),
    departures=("It is a toy.",),
    band="",
    cost={"tiny": "", "small": "", "paper": ""},
)
RUN = describe_run(TOY, preset="tiny", seed=3)


def test_versions_of_the_data_are_recorded_with_the_results(tmp_path):
    rendered = dataclasses.replace(TOY, versions=lambda settings: {"pen": f"of {settings.steps}"})
    train(tmp_path, rendered, RUN)
    assert Results.load(tmp_path / "results.json").data_versions == {"pen": "of 6"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "toy"
    return folder, train(folder, TOY, RUN)


@pytest.fixture
def model(trained, tmp_path):
    measured = {"random numbers": trained[1].measured}
    return export_model(trained[0], tmp_path / "a" / "model", system=TOY, measured=measured)


def test_facts_come_back(tmp_path):
    write_run(tmp_path / "run", RUN)
    assert read_run(tmp_path / "run") == RUN
    assert RUN.typed(TOY) == (TOY.presets["tiny"], TOY.arms[0])
    assert {"torch", "processor"} <= RUN.hardware.keys()


def test_settings_of_an_override_come_back():
    other = Toy(steps=9, parts=(Part("B"),), pair=(2, "y"), rate=1.0, every=Every(save=None))
    run = describe_run(TOY, preset="tiny", arm="blind", settings=other)
    assert run.typed(TOY) == (other, TOY.arms[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": "3"}, "settings.width must be int, not '3'"),
        ({"width": True}, "settings.width must be int"),
        ({"rate": None}, "settings.rate must be float"),
        ({"noted": 1}, "settings.noted must be bool"),
        ({"parts": [{"kind": "C"}]}, r"settings.parts\[0\].kind must be NoneType"),
        ({"parts": 3}, "settings.parts must be"),
        ({"pair": [1]}, "settings.pair must be"),
        ({"every": 3}, "settings.every must be an object"),
        ({"every": {"log": 0}}, "settings.every: every 0"),
        ({"depth": 1}, "settings: 'depth' is unknown"),
    ],
)
def test_settings_of_another_version_are_refused(change, message):
    run = dataclasses.replace(RUN, settings={**RUN.settings, **change})
    with pytest.raises(LabError, match=message):
        run.typed(TOY)


def test_settings_without_a_needed_field_are_refused():
    settings = {name: value for name, value in RUN.settings.items() if name != "steps"}
    with pytest.raises(LabError, match="steps"):
        dataclasses.replace(RUN, settings=settings).typed(TOY)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 4}, "a run with seed 3, not 4"),
        ({"arm": "blind"}, "arm film, not blind"),
        ({"settings": {**RUN.settings, "steps": 8}}, "steps 6, not 8"),
    ],
)
def test_another_run_in_the_folder_is_refused(tmp_path, change, message):
    write_run(tmp_path, RUN)
    with pytest.raises(LabError, match=f"{tmp_path}: .*{message}; choose another folder"):
        write_run(tmp_path, dataclasses.replace(RUN, **change))
    write_run(tmp_path, dataclasses.replace(RUN, hardware={"processor": "another"}))


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file"):
        write_run(tmp_path / "file" / "run", RUN)


def test_training_keeps_its_results_and_goes_on(trained):
    folder, trial = trained
    assert (trial.steps, trial.seed, trial.arm) == (6, 3, "film")
    assert Results.load(folder / "results.json").trials == (trial,)
    again = train(folder, TOY, RUN)
    assert (again.measured, again.steps) == (trial.measured, 6)
    with pytest.raises(LabError, match="holds a run already"):
        train(folder, TOY, RUN, resume=False)


def test_training_within_a_time_is_measured_nonetheless(tmp_path):
    trial = train(tmp_path, TOY, RUN, seconds=1e-9)
    assert (trial.steps, trial.measured.accuracy) == (1, Proportion(3, 4))
    assert train(tmp_path, TOY, RUN).steps == 6


def averaged(folder):
    """What evaluation saw at the end of training, without the code under test."""
    fresh = stepper(build(TOY.presets["tiny"], None), TOY.presets["tiny"], None)
    from featurewise.lab import CheckpointStore

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
    assert evaluate(stepper(network, settings, None), settings, None) == trained[1].measured


def test_a_model_tells_where_it_comes_from(trained, model):
    told = read_model(model)
    assert told.run == read_run(trained[0]) == read_run(model) == RUN
    assert (told.steps, told.world, told.departures) == (6, "Random numbers.", ("It is a toy.",))
    assert told.measured == {"random numbers": trained[1].measured}
    assert sorted(path.name for path in model.iterdir()) == ["model.json", "weights.safetensors"]
    assert not list(model.parent.glob(".*"))


def test_a_model_is_never_overwritten(trained, model):
    with pytest.raises(LabError, match="exists already"):
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
        with pytest.raises(LabError, match=r"model.json: is damaged"):
            read_model(model)
    edited_run = tmp_path / "run"
    write_run(edited_run, RUN)
    edited(edited_run, "run.json", settings=3)
    with pytest.raises(LabError, match=r"run.json: is damaged"):
        read_run(edited_run)


def test_what_is_no_model(model, tmp_path):
    with pytest.raises(LabError, match="is neither a run"):
        load_network(tmp_path / "nothing", TOY)
    write_run(tmp_path / "new", RUN)
    with pytest.raises(LabError, match="holds no checkpoint yet"):
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
        pytest.raises(LabError, match="none of its checkpoints is sound"),
    ):
        load_network(folder, TOY)


def test_another_system_or_size_is_refused(trained, model):
    with pytest.raises(LabError, match="a run of 'toy', not of 'other'"):
        load_network(model, dataclasses.replace(TOY, name="other"))
    run = json.loads((model / "model.json").read_text())["run"]
    edited(model, "model.json", run={**run, "settings": {**run["settings"], "width": 4}})
    with pytest.raises(LabError, match=r"weights do not fit the network: size mismatch"):
        load_network(model, TOY)


def test_a_run_is_a_record():
    assert Run(system="a", preset="b", arm="c", seed=0, settings={}).hardware == {}
