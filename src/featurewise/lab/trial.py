"""Runs one arm of one system with one seed, from record to measurement."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from featurewise.lab.loop import fit
from featurewise.lab.randomness import isolated, seed_everything
from featurewise.lab.record import SettingsT, System
from featurewise.lab.results import Measurement, Trial
from featurewise.lab.stepper import Stepper


def run_trial(
    system: System[SettingsT],
    run_dir: Path | str,
    *,
    preset: str,
    arm: str | None = None,
    seed: int = 0,
    resume: bool = False,
) -> Trial:
    """Trains one arm and measures it.

    Args:
        system: its record.
        run_dir: folder of the run (see `featurewise.lab.loop.fit`).
        preset: name of the settings.
        arm: name of the arm; the first, the system itself, unless told.
        seed: of weights, data and noise.
        resume: whether to go on with what the folder holds.

    Raises:
        LabError: there is no such preset or arm; otherwise what `fit` raises.
    """
    settings = system.preset(preset)
    chosen = system.arm(arm) if arm is not None else system.arms[0]
    seed_everything(seed)
    stepper = system.stepper(system.build(settings, chosen), settings, chosen)
    measured: list[Measurement] = []

    def evaluate(stepper: Stepper) -> Mapping[str, float]:
        measured.append(system.evaluate(stepper, settings, chosen))
        return _numbers(measured[-1])

    data = system.data(settings, chosen, seed)
    fitted = fit(
        run_dir,
        stepper,
        data,
        steps=settings.steps,
        evaluate=evaluate,
        every=settings.every,
        resume=resume,
        seed=seed,
        workers=settings.workers,
    )
    if not measured:  # the folder held a finished run
        with isolated():
            evaluate(stepper)
    return Trial(chosen.name, seed, fitted.step, fitted.seconds, _parameters(stepper), measured[-1])


def _numbers(measured: Measurement) -> dict[str, float]:
    accuracy = {"accuracy": measured.accuracy.value} if measured.accuracy else {}
    return {**accuracy, **measured.values}


def _parameters(stepper: Stepper) -> int:
    networks = stepper.networks.values()
    return sum(p.numel() for network in networks for p in network.parameters() if p.requires_grad)
