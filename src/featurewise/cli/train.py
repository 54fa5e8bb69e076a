"""``featurewise train``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featurewise.cli import discovery, options
from featurewise.cli.console import Terminal
from featurewise.cli.errors import UserError

if TYPE_CHECKING:
    from featurewise.study.system import System


def train(
    system: Annotated[
        str,
        typer.Argument(
            metavar="SYSTEM",
            help="Name of a system; 'featurewise systems' lists them.",
            autocompletion=discovery.complete_system,
        ),
    ],
    preset: Annotated[
        str,
        typer.Option(
            help="Size of network, data and training.", autocompletion=discovery.complete_preset
        ),
    ] = "small",
    arm: Annotated[
        str | None,
        typer.Option(
            help="Which variant to train: the system itself, a baseline or a control.",
            show_default="the system itself",
            autocompletion=discovery.complete_arm,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of weights, data and noise.")] = 0,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a data set in the layout of CLEVR v1.0 or CLEVR-CoGenT, in place of "
            "the built-in world; only for systems that answer questions."
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Training split of that data set. Evaluation uses the matching val split, or "
            "the last 10 % of the images if there is none.",
            show_default="train or trainA",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the run.", show_default="runs/SYSTEM-ARM-PRESET-sSEED"),
    ] = None,
    resume: Annotated[bool, typer.Option(help="Resume the same run from its folder.")] = True,
    seconds: Annotated[
        float | None,
        typer.Option(min=1, help="Stop after this training time, in seconds; can be resumed."),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Number of training steps.", show_default="as in the preset"),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0, help="Processes that prepare batches.", show_default="as in the preset"
        ),
    ] = None,
    tensorboard: Annotated[bool, typer.Option(help="Also write TensorBoard files.")] = False,
    device: options.Device = "auto",
) -> None:
    """Train a system, a baseline or a control.

    If it is stopped, run the same command again to resume.
    """
    discovery.require(system, discovery.names(), "system")
    if tensorboard:
        options.require_installed("tensorboard", "tensorboard")
    options.use_device(device)
    from featurewise.study import run as runs
    from featurewise.training import distributed

    record = discovery.load(system)
    discovery.require(preset, record.presets, f"preset of {system}")
    if arm is not None:
        discovery.require(arm, [each.name for each in record.arms], f"arm of {system}")
    config = record.preset(preset)
    on = ""
    if data is not None:
        split = _split(record, data, split)
        config = discovery.answerer(record).trained_on(config, data, split)
        on = f"-{split}"
    elif split is not None:
        raise UserError("--split needs --data, the folder of the data set")
    if steps is not None:
        config = replace(config, steps=steps)
    run = runs.describe_run(record, preset=preset, arm=arm, seed=seed, config=config)
    folder = out or Path("runs", f"{system}-{run.arm}-{preset}{on}-s{seed}")
    console = Terminal(highlight=False, soft_wrap=True, quiet=distributed.rank() > 0)
    console.print(f"[bold]{record.prose.title}[/]")
    console.print(f"arm {run.arm}, preset {preset}, seed {seed}, {config.steps} steps", end="")
    cost = record.cost.get(preset)
    console.print(f" ({cost})" if cost and steps is None else "", markup=False)
    trial = runs.train(
        folder,
        record,
        run,
        resume=resume,
        seconds=seconds,
        workers=workers,
        tensorboard=tensorboard,
    )
    if trial.steps < config.steps:
        console.print(f"{trial.steps} of {config.steps} steps; run again to resume")
    if trial.measured.accuracy is not None:
        found = trial.measured.accuracy.interval
        console.print(
            f"held-out accuracy {found.value:.1%} (95 % interval {found.low:.1%} to "
            f"{found.high:.1%}) after {trial.steps} steps, {trial.seconds:.0f} seconds"
        )
    hint = ""
    if record.answerer is not None:
        hint = f"; accuracy by type: featurewise evaluate {folder}"
    elif record.stylist is not None:
        hint = f"; its styles: featurewise stylize {folder}"
    console.print(f"saved in {folder}{hint}", markup=False)


def _split(record: System[Any], data: Path, split: str | None) -> str:
    """The split of a data set to train on.

    Raises:
        UserError: the system does not answer questions, or the split is missing or has no answers.
    """
    answerer = discovery.answerer(record)
    found = answerer.splits(data)
    if not found:
        raise UserError(f"{data}: holds no questions/CLEVR_SPLIT_questions.json")
    if split is None:
        split = next((name for name in ("train", "trainA") if name in found), None)
        if split is None:
            raise UserError(
                f"{data}: has no split train or trainA; choose one with --split: {', '.join(found)}"
            )
    discovery.require(split, found, f"split of {data}")
    queries = answerer.queries(data, split)
    if not queries.has_answers:
        raise UserError(f"{queries.path}: has no answers, which training needs")
    return split
