"""The model that is published of a run, and the networks of runs and models alike.

A model folder is what others are given of a run::

    model/model.json            the facts of the run, what it was trained on, what it measured
    model/weights.safetensors   averaged weights and buffers, believed only if their hash agrees
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from featurewise.common.files import write_folder
from featurewise.lab.checkpoint import CheckpointStore
from featurewise.lab.errors import CheckpointError, LabError
from featurewise.lab.files import storage_errors
from featurewise.lab.record import SettingsT, System
from featurewise.lab.results import Measurement
from featurewise.lab.run import (
    FORMAT,
    MODEL,
    REMEDY,
    RUN,
    Run,
    facts_text,
    read_facts,
    read_run,
    run_from_json,
)
from featurewise.lab.steppers import Learns, Stepper

WEIGHTS = "weights.safetensors"


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


def read_model(folder: Path | str) -> Model:
    """What a model folder tells of its weights.

    Raises:
        LabError: there is no ``model.json`` or it is damaged; the message begins with the path.
    """
    return read_facts(Path(folder) / MODEL, _model)


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
    run = read_facts(run_folder / RUN, run_from_json)
    network, _ = load_network(run_folder, system)
    step, state = _newest(run_folder)
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    content = safetensors.torch.save(tensors)
    facts = {
        "format": FORMAT,
        "weights_sha256": hashlib.sha256(content).hexdigest(),
        "run": dataclasses.asdict(run),
        "steps": step,
        "seconds": state["seconds"],
        "world": system.world,
        "licence": system.licence,
        "measured": {data: each.to_json() for data, each in (measured or {}).items()},
        "departures": list(system.departures),
    }
    with storage_errors(out, REMEDY):
        out.parent.mkdir(parents=True, exist_ok=True)
        write_folder(out, {WEIGHTS: content, MODEL: facts_text(facts)}, replace=False)
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
    published = _published(folder) if (folder / MODEL).is_file() else None
    state = _newest(folder)[1] if published is None else {}
    try:
        settings, arm = run.typed(system)
        network = system.build(settings, arm)
        if published is None:
            _settle(system.stepper(network, settings, arm), state)
        else:
            network.load_state_dict(published)
    except LabError as error:
        raise LabError(f"{folder}: {error}") from error
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise LabError(f"{folder}: its weights do not fit the network: {reason}") from error
    return network.eval(), settings


def _newest(folder: Path) -> tuple[int, dict[str, Any]]:
    """Step and state of the newest sound checkpoint."""
    if not (folder / "checkpoints").is_dir():
        raise LabError(f"{folder}: holds no checkpoint yet")
    store = CheckpointStore(folder / "checkpoints")
    found = store.latest()
    if found is None:
        reason = "none of its checkpoints is sound" if store.steps() else "holds no checkpoint yet"
        raise LabError(f"{folder}: {reason}")
    return found


def _settle(stepper: Stepper, state: Mapping[str, Any]) -> None:
    """Gives a stepper's networks the weights of a checkpoint, averaged where they are."""
    stepper.load_state(state["stepper"])
    if isinstance(stepper, Learns):
        for learner in stepper.learners:
            learner.settle()


def _published(folder: Path) -> dict[str, Tensor]:
    """The weights of a model folder, proved equal to those that were published."""
    path = folder / WEIGHTS
    told = read_facts(folder / MODEL, lambda content: str(content["weights_sha256"]))
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


def _model(content: Mapping[str, Any]) -> Model:
    return Model(
        run=run_from_json(content["run"]),
        steps=int(content["steps"]),
        seconds=float(content["seconds"]),
        world=str(content["world"]),
        licence=str(content["licence"]),
        measured={data: Measurement.from_json(each) for data, each in content["measured"].items()},
        departures=tuple(map(str, content["departures"])),
    )
