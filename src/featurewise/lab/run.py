"""What a run says of itself on disk, and the model that is published of it.

A run folder carries ``run.json`` beside its checkpoints: which system, preset, arm, seed and
settings, on what hardware. A model folder is what others are given of a run::

    model/model.json            the same facts, what it was trained on, what it measured
    model/weights.safetensors   averaged weights and buffers, believed only if their hash agrees

`load_network` reads both kinds of folder alike.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from featurewise.lab import distributed, hardware
from featurewise.lab.allocator import use_large_allocations
from featurewise.lab.checkpoint import CheckpointStore
from featurewise.lab.errors import CheckpointError, FormatVersionError, LabError
from featurewise.lab.files import storage_errors, write_file
from featurewise.lab.loop import fit
from featurewise.lab.randomness import isolated, seed_everything
from featurewise.lab.record import Arm, SettingsT, System
from featurewise.lab.results import Measurement, Proportion, Results, Trial
from featurewise.lab.stepper import Stepper

FORMAT = 1
RUN, MODEL, WEIGHTS, RESULTS = "run.json", "model.json", "weights.safetensors", "results.json"
_REMEDY = "Choose a folder that can be written."


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Which training this is.

    Attributes:
        system: name of the system.
        preset: name of the settings it began with.
        arm: what was trained.
        seed: of weights, data and noise.
        settings: all of them, as JSON values; they may differ from the preset's.
        hardware: what it ran on, and versions (see `featurewise.lab.hardware.describe`).
    """

    system: str
    preset: str
    arm: str
    seed: int
    settings: Mapping[str, Any]
    hardware: Mapping[str, str] = field(default_factory=dict)

    def typed(self, system: System[SettingsT]) -> tuple[SettingsT, Arm]:
        """The settings and the arm as the system knows them.

        Raises:
            LabError: it is the run of another system, or of another version of its settings.
        """
        if self.system != system.name:
            raise LabError(f"this is a run of {self.system!r}, not of {system.name!r}")
        kind = type(next(iter(system.presets.values())))
        return _decoded(kind, self.settings, "settings"), system.arm(self.arm)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What is told of published weights.

    Attributes:
        run: the training they come from.
        steps: training steps taken.
        seconds: training time.
        world: what it was trained on, in a sentence.
        licence: of that data.
        measured: sentence that names the data -> what was measured on it.
        departures: how the system differs from its paper.
    """

    run: Run
    steps: int
    seconds: float
    world: str
    licence: str
    measured: Mapping[str, Measurement]
    departures: tuple[str, ...]


def describe_run(
    system: System[SettingsT],
    *,
    preset: str,
    arm: str | None = None,
    seed: int = 0,
    settings: SettingsT | None = None,
) -> Run:
    """The facts of a run that is about to begin here.

    Args:
        system: its record.
        preset: name of the settings.
        arm: name of the arm; the first, the system itself, unless told.
        seed: of weights, data and noise.
        settings: in place of the preset's.

    Raises:
        LabError: there is no such preset or arm.
    """
    chosen = system.preset(preset) if settings is None else settings
    return Run(
        system=system.name,
        preset=preset,
        arm=(system.arms[0] if arm is None else system.arm(arm)).name,
        seed=seed,
        settings=json.loads(json.dumps(dataclasses.asdict(chosen))),
        hardware=hardware.describe(),
    )


def write_run(folder: Path | str, run: Run) -> None:
    """Puts ``run.json`` into a folder, which is made when missing; or finds the same run there.

    Raises:
        LabError: the folder holds another run; the message names what differs.
        StorageError: the folder cannot be written.
    """
    folder = Path(folder)
    path = folder / RUN
    with storage_errors(folder, _REMEDY):
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            # Its own name for each process of a run: they all write the same.
            temporary = folder / f".{RUN}.{os.getpid()}"
            temporary.unlink(missing_ok=True)
            write_file(temporary, _text({"format": FORMAT, **dataclasses.asdict(run)}))
            temporary.replace(path)
            return
    _require_same(folder, read_run(folder), run)


def read_run(folder: Path | str) -> Run:
    """The facts of a run folder or a model folder.

    Raises:
        LabError: it is neither, or its JSON is damaged; the message begins with the path.
    """
    folder = Path(folder)
    if (folder / MODEL).is_file():
        return read_model(folder).run
    if not (folder / RUN).is_file():
        raise LabError(f"{folder}: is neither a run ({RUN}) nor a model ({MODEL})")
    return _read(folder / RUN, _run)


def read_model(folder: Path | str) -> Model:
    """What a model folder tells of its weights.

    Raises:
        LabError: there is no ``model.json`` or it is damaged; the message begins with the path.
    """
    return _read(Path(folder) / MODEL, _model)


def train(
    folder: Path | str,
    system: System[SettingsT],
    run: Run,
    *,
    resume: bool = True,
    seconds: float | None = None,
    workers: int | None = None,
    tensorboard: bool = False,
) -> Trial:
    """Trains and measures a run in its folder, and keeps the result there (``results.json``).

    Args:
        folder: of the run.
        system: its record.
        run: what to train.
        resume: goes on with what the folder holds of the same run.
        seconds: stops, saved and resumable, when this much time was spent; then measures.
        workers: processes that prepare batches; as the settings say unless told.
        tensorboard: also writes for TensorBoard.

    Raises:
        LabError: see `write_run` and `featurewise.lab.loop.fit`.
    """
    folder = Path(folder)
    settings, arm = run.typed(system)
    use_large_allocations()
    write_run(folder, run)
    seed_everything(run.seed)
    network = system.build(settings, arm).to(distributed.device())
    stepper = system.stepper(network, settings, arm)
    measured: list[Measurement] = []

    def evaluate(stepper: Stepper) -> Mapping[str, float]:
        measured.append(system.evaluate(stepper, settings, arm))
        accuracy = measured[-1].accuracy
        return {**({"accuracy": accuracy.value} if accuracy else {}), **measured[-1].values}

    fitted = fit(
        folder,
        stepper,
        system.data(settings, arm, run.seed),
        steps=settings.steps,
        evaluate=evaluate,
        every=settings.every,
        resume=resume,
        seed=run.seed,
        seconds=seconds,
        workers=settings.workers if workers is None else workers,
        tensorboard=tensorboard,
    )
    if fitted.step < settings.steps or not measured:
        with isolated():
            evaluate(stepper)
    networks = stepper.networks.values()
    size = sum(p.numel() for each in networks for p in each.parameters() if p.requires_grad)
    trial = Trial(arm.name, run.seed, fitted.step, fitted.seconds, size, measured[-1])
    if distributed.rank() == 0:
        with storage_errors(folder, _REMEDY):
            Results(system.name, run.preset, (trial,), run.hardware).save(folder / RESULTS)
    return trial


def export_model(
    run_folder: Path | str,
    out: Path | str,
    *,
    system: System[Any],
    measured: Mapping[str, Measurement] | None = None,
) -> Path:
    """Publishes the newest averaged weights of a run as a model folder, which appears whole.

    Args:
        run_folder: of the run.
        out: must not exist.
        system: its record.
        measured: sentence that names the data -> what was measured on it.

    Returns:
        The model folder.

    Raises:
        LabError: `out` exists, or the run folder is not one of this system.
        StorageError: it cannot be written.
    """
    run_folder, out = Path(run_folder), Path(out)
    if out.exists():
        raise LabError(f"{out}: exists already; a model is never overwritten")
    run = _read(run_folder / RUN, _run)
    run.typed(system)
    tensors, state = _newest(run_folder)
    content = safetensors.torch.save({name: t.contiguous() for name, t in tensors.items()})
    facts = {
        "format": FORMAT,
        "weights_sha256": hashlib.sha256(content).hexdigest(),
        "run": dataclasses.asdict(run),
        "steps": state["stepper"]["steps"],
        "seconds": state["seconds"],
        "world": system.world,
        "licence": system.licence,
        "measured": {data: _measured_json(each) for data, each in (measured or {}).items()},
        "departures": list(system.departures),
    }
    temporary = out.with_name(f".writing-{out.name}")
    try:
        with storage_errors(out, _REMEDY):
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            write_file(temporary / WEIGHTS, content)
            write_file(temporary / MODEL, _text(facts))
            temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return out


def load_network(folder: Path | str, system: System[SettingsT]) -> tuple[nn.Module, SettingsT]:
    """The trained network of a run folder or a model folder, in eval mode.

    Args:
        folder: a run's (newest sound checkpoint, averaged weights if it keeps them) or a model's.
        system: its record.

    Returns:
        The network and the settings it was built with.

    Raises:
        LabError: the folder is neither, belongs to another system, holds no checkpoint yet, or
            is damaged; the message begins with the path.
    """
    folder = Path(folder)
    run = read_run(folder)
    tensors = _published(folder) if (folder / MODEL).is_file() else _newest(folder)[0]
    try:
        settings, arm = run.typed(system)
        network = system.build(settings, arm)
        network.load_state_dict(tensors)
    except LabError as error:
        raise LabError(f"{folder}: {error}") from error
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise LabError(f"{folder}: its weights do not fit the network: {reason}") from error
    return network.eval(), settings


def _newest(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and buffers of the newest sound checkpoint, and its whole state."""
    if not (folder / "checkpoints").is_dir():
        raise LabError(f"{folder}: holds no checkpoint yet")
    store = CheckpointStore(folder / "checkpoints")
    found = store.latest()
    if found is None:
        reason = "none of its checkpoints is sound" if store.steps() else "holds no checkpoint yet"
        raise LabError(f"{folder}: {reason}")
    stepper = found[1].get("stepper", {})
    if "network" not in stepper:
        raise LabError(f"{folder}: its training keeps no single network")
    average = stepper.get("average") or {"average": {}}
    return {**stepper["network"], **average["average"]}, found[1]


def _published(folder: Path) -> dict[str, Tensor]:
    """The weights of a model folder, proved equal to those that were published."""
    path = folder / WEIGHTS
    told = _read(folder / MODEL, lambda content: str(content["weights_sha256"]))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    if hashlib.sha256(content).hexdigest() != told:
        raise CheckpointError(f"{path}: is damaged: its SHA-256 is not the one in {MODEL}")
    try:
        return safetensors.torch.load(content)
    except SafetensorError as error:
        raise CheckpointError(f"{path}: is no safetensors file: {error}") from error


def _text(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


_ParsedT = TypeVar("_ParsedT")


def _read(path: Path, parse: Callable[[dict[str, Any]], _ParsedT]) -> _ParsedT:
    """What a JSON file of this format says."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content["format"]
        parsed = parse(content) if version == FORMAT else None
    except OSError as error:
        raise LabError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise LabError(f"{path}: is damaged: {type(error).__name__}: {error}") from error
    if parsed is None:
        raise FormatVersionError(
            f"{path}: has format {version}, this version of featurewise reads {FORMAT}"
        )
    return parsed


def _run(content: Mapping[str, Any]) -> Run:
    if not isinstance(content["settings"], dict) or not isinstance(content["hardware"], dict):
        raise TypeError("settings and hardware must be objects")
    names = [each.name for each in dataclasses.fields(Run)]
    run = Run(**{name: content[name] for name in names})
    if not all(isinstance(each, str) for each in (run.system, run.preset, run.arm)):
        raise TypeError("system, preset and arm must be names")
    return dataclasses.replace(run, seed=int(run.seed))


def _model(content: Mapping[str, Any]) -> Model:
    return Model(
        run=_run(content["run"]),
        steps=int(content["steps"]),
        seconds=float(content["seconds"]),
        world=str(content["world"]),
        licence=str(content["licence"]),
        measured={data: _measured(each) for data, each in content["measured"].items()},
        departures=tuple(map(str, content["departures"])),
    )


def _measured_json(measured: Measurement) -> dict[str, Any]:
    accuracy = measured.accuracy
    return {
        "accuracy": None if accuracy is None else [accuracy.correct, accuracy.total],
        "by_type": {name: [p.correct, p.total] for name, p in measured.by_type.items()},
        "values": dict(measured.values),
    }


def _measured(content: Mapping[str, Any]) -> Measurement:
    accuracy = content["accuracy"]
    return Measurement(
        None if accuracy is None else Proportion(*map(int, accuracy)),
        {name: Proportion(*map(int, pair)) for name, pair in content["by_type"].items()},
        {name: float(value) for name, value in content["values"].items()},
    )


def _require_same(folder: Path, begun: Run, wanted: Run) -> None:
    for name in ("system", "preset", "arm", "seed"):
        if getattr(begun, name) != getattr(wanted, name):
            raise LabError(
                f"{folder}: holds a run with {name} {getattr(begun, name)}, not "
                f"{getattr(wanted, name)}; choose another folder"
            )
    differing = [
        name
        for name in {**begun.settings, **wanted.settings}
        if begun.settings.get(name) != wanted.settings.get(name)
    ]
    if differing:
        name = differing[0]
        raise LabError(
            f"{folder}: holds a run with {name} {begun.settings.get(name)}, not "
            f"{wanted.settings.get(name)}; choose another folder"
        )


def _decoded(kind: Any, value: Any, where: str) -> Any:
    """A value of the given type from JSON: dataclasses, tuples, unions and plain values."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _decoded_dataclass(kind, value, where)
    if origin in (typing.Union, types.UnionType):
        return _decoded_union(arguments, value, where)
    if origin is typing.Literal and value in arguments:
        return value
    if origin is tuple and isinstance(value, list):
        kinds = arguments[:1] * len(value) if arguments[1:] == (...,) else arguments
        if len(kinds) == len(value):
            pairs = zip(kinds, value, strict=True)
            return tuple(_decoded(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(pairs))
    if kind is float and type(value) is int:
        return float(value)
    if isinstance(kind, type) and type(value) is kind:
        return value
    raise LabError(f"{where} must be {getattr(kind, '__name__', kind)}, not {value!r}")


def _decoded_union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    for kind in kinds:
        try:
            return _decoded(kind, value, where)
        except LabError as error:
            last = error
    raise last


def _decoded_dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise LabError(f"{where} must be an object, not {value!r}")
    hints = typing.get_type_hints(kind)
    names = {each.name for each in dataclasses.fields(kind)}
    if unknown := value.keys() - names:
        raise LabError(f"{where}: {sorted(unknown)[0]!r} is unknown to this version of featurewise")
    known = {name: _decoded(hints[name], each, f"{where}.{name}") for name, each in value.items()}
    try:
        return kind(**known)
    except (TypeError, ValueError) as error:
        raise LabError(f"{where}: {error}") from error
