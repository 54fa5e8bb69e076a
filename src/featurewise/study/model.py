"""The model that is published of a run, and the networks of runs and models alike.

A model folder is what others are given of a run::

    model/model.json            the facts of the run, what it was trained on, what it measured
    model/weights.safetensors   averaged weights and buffers, believed only if their hash agrees
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor, nn

from featurewise.common.errors import error_text, wrap_errors
from featurewise.common.files import sha256, write_folder
from featurewise.common.json import Node
from featurewise.common.opening import read_bytes
from featurewise.core import FeaturewiseError
from featurewise.core.numbers import untied
from featurewise.generators.config import building_at_most
from featurewise.study.results import Measurement
from featurewise.study.run import (
    MODEL,
    REMEDY,
    RUN,
    Run,
    read_file,
    read_run,
    require_same_data,
    run_from_json,
)
from featurewise.study.system import ConfigT, System
from featurewise.training.checkpoint import CheckpointStore
from featurewise.training.errors import CheckpointError, ExperimentError
from featurewise.training.facts import MOST, facts_text, read_names
from featurewise.training.files import storage_errors
from featurewise.training.steppers import HasLearners, Stepper
from featurewise.training.steppers.base import check_dtypes

WEIGHTS = "weights.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Facts of published weights.

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
    """The facts of the weights in a model folder.

    Raises:
        ExperimentError: there is no ``model.json`` or it is damaged; the message begins with the
            path.
    """
    return read_file(Path(folder) / MODEL, _model)


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
        ExperimentError: `out` exists, or the run folder is not one of this system.
        StorageError: it cannot be written.
    """
    run_folder, out = Path(run_folder), Path(out)
    if out.exists():
        raise ExperimentError(f"{out}: exists already; a model is never overwritten")
    run = read_file(run_folder / RUN, run_from_json)
    network, _ = load_network(run_folder, system)
    step, state = _newest(run_folder)
    tensors = untied(network.state_dict())
    content = safetensors.torch.save(tensors)
    facts = {
        "weights_sha256": sha256(content),
        "run": run.to_json(),
        "steps": step,
        "seconds": state["seconds"],
        "world": system.world.what,
        "licence": system.world.licence,
        "measured": {data: each.to_json() for data, each in (measured or {}).items()},
        "departures": list(system.departures),
    }
    with storage_errors(out, REMEDY):
        out.parent.mkdir(parents=True, exist_ok=True)
        write_folder(out, {WEIGHTS: content, MODEL: facts_text(facts)}, replace=False)
    return out


def load_network(folder: Path | str, system: System[ConfigT]) -> tuple[nn.Module, ConfigT]:
    """The trained network of a run folder or a model folder, in eval mode.

    Args:
        folder: a run's (newest sound checkpoint, averaged weights if it keeps them) or a model's.
        system: its record.

    Returns:
        The network and the settings it was built with.

    Raises:
        ExperimentError: the folder is neither, belongs to another system, was trained with data
            that differ from those at hand where its weights depend on them (see
            `System.data_digests`), holds no checkpoint yet, or is damaged; the message begins with
            the path.
    """
    folder = Path(folder)
    run = read_run(folder)
    published = _published(folder) if (folder / MODEL).is_file() else None
    state = _newest(folder)[1] if published is None else {}
    held = list(_tensors(published or state))
    try:
        config = run.config(system)
        if system.data_digests:
            require_same_data(run, system.data_digests(config))
        numbers = sum(tensor.numel() for tensor in held)
        with building_at_most(len(held), numbers, meta=False):
            network = system.build(config)
        if published is None:
            _settle(system.stepper(network, config), state)
        else:
            check_dtypes(network, published)
            network.load_state_dict(published)
    except (ExperimentError, FeaturewiseError) as error:
        raise ExperimentError(f"{folder}: {error}") from error
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ExperimentError(f"{folder}: its weights do not fit the network: {reason}") from error
    except Exception as error:  # of a state that is sealed and says something else
        raise ExperimentError(
            f"{folder}: is no state of this system: {error_text(error)}"
        ) from error
    return network.eval(), config


def _tensors(state: Any) -> Iterator[Tensor]:
    """All tensors in a nested state."""
    if isinstance(state, Tensor):
        yield state
    inner = state.values() if isinstance(state, Mapping) else state
    if isinstance(inner, Iterable) and not isinstance(inner, str | Tensor):
        for each in inner:
            yield from _tensors(each)


def _newest(folder: Path) -> tuple[int, dict[str, Any]]:
    """Step and state of the newest sound checkpoint."""
    if not (folder / "checkpoints").is_dir():
        raise ExperimentError(f"{folder}: holds no checkpoint yet")
    store = CheckpointStore(folder / "checkpoints")
    found = store.latest()
    if found is None:
        reason = "none of its checkpoints is sound" if store.steps() else "holds no checkpoint yet"
        raise ExperimentError(f"{folder}: {reason}")
    return found


def _settle(stepper: Stepper, state: Mapping[str, Any]) -> None:
    """Gives a stepper's networks the weights of a checkpoint, averaged where they are."""
    stepper.load_state(state["stepper"])
    if isinstance(stepper, HasLearners):
        for learner in stepper.learners:
            learner.apply_ema()


def _published(folder: Path) -> dict[str, Tensor]:
    """The weights of a model folder, proved equal to those that were published."""
    path = folder / WEIGHTS
    expected = read_file(folder / MODEL, lambda said: said["weights_sha256"].text())
    with wrap_errors(path, CheckpointError):
        content = read_bytes(path)
    if sha256(content) != expected:
        raise CheckpointError(f"{path}: is damaged: its SHA-256 is not the one in {MODEL}")
    with wrap_errors(path, CheckpointError, what="is no safetensors file"):
        return safetensors.torch.load(content)


def _model(said: Node) -> Model:
    facts = ("run", "steps", "seconds", "world", "licence", "measured", "departures")
    said.mapping((*facts, "weights_sha256"))
    measured = read_names(said["measured"])
    for each in measured.values():
        each.mapping(("accuracy", "by_type", "values"))
    return Model(
        run=run_from_json(said["run"]),
        steps=said["steps"].integer(0, MOST),
        seconds=said["seconds"].number(0),
        world=said["world"].text(),
        licence=said["licence"].text(),
        measured={data: Measurement.from_json(each) for data, each in measured.items()},
        departures=tuple(each.text() for each in said["departures"].items()),
    )
