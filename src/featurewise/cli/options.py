"""Options that several commands share."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from featurewise.cli import discovery
from featurewise.cli.errors import UserError
from featurewise.cli.streams import notes

if TYPE_CHECKING:
    from featurewise.study.system import Config, System

Device: TypeAlias = Annotated[
    str,
    typer.Option(
        envvar="FEATUREWISE_DEVICE",
        help="Where to train: auto (a GPU where there is one, else the CPU), cpu, cuda, cuda:1.",
    ),
]


def use_device(name: str) -> None:
    """Selects the training device, for worker processes too; prints a note if it is a GPU.

    Raises:
        ExperimentError: this machine has no such device.
    """
    import torch

    from featurewise.training import distributed

    os.environ[distributed.DEVICE] = name
    device = distributed.device()
    if device.type == "cuda" and distributed.rank() == 0:
        gpu = torch.cuda.get_device_name(device)
        notes().print(f"training on {gpu} ({device}); --device cpu trains on the CPU")


def require_installed(extra: str, *modules: str) -> None:
    """Checks that optional packages of a command are installed.

    Args:
        extra: extra of featurewise that installs them; empty if there is none.
        modules: names by which they are imported.

    Raises:
        UserError: a package is not installed; the message says how to install it.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        what = f"featurewise[{extra}]" if extra else " ".join(missing)
        raise UserError(f"{', '.join(missing)} is not installed: pip install '{what}'")


def changed(record: System[Any], preset: str, assignments: Sequence[str]) -> Config | None:
    """The settings of a preset with assignments applied; None without assignments.

    Args:
        record: record of the system.
        preset: name of the preset to change.
        assignments: texts ``name=value`` with the value as JSON; ``intervals.log=5`` sets the field
            ``log`` of the setting ``every``.

    Raises:
        UserError: there is no setting of that name; the message suggests similar names.
        ExperimentError: the value has the wrong type.
    """
    from featurewise.study.decode import decoded
    from featurewise.study.run import describe_run

    if not assignments:
        return None
    settings = dict(describe_run(record, preset=preset).settings)
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise UserError(f"--set {assignment}: write NAME=VALUE, as in learning_rate=0.001")
        *path, last = name.strip().split(".")
        place: Any = settings
        for part in path:
            discovery.require(part, _names(place), f"setting of {record.name}")
            place = place[part]
        discovery.require(last, _names(place), f"setting of {record.name}")
        place[last] = _value(text)
    typed: Config = decoded(type(record.preset(preset)), settings, "settings")
    return typed


def _names(place: Any) -> list[str]:
    return list(place) if isinstance(place, Mapping) else []


def _value(text: str) -> Any:
    """The value of a JSON text; a text that is not JSON is the value itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text
