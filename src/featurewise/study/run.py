"""One training in its folder: what it is, said on disk, and how it is trained and measured.

A run folder carries ``run.json`` beside its checkpoints: which system, preset, arm, seed and
settings, on what hardware; in the end ``results.json``, and ``sheet.png`` with the system's figure.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

from featurewise.common.errors import wrap_errors
from featurewise.common.files import write_bytes
from featurewise.common.json import MAX_BYTES, Node, dumps, loads
from featurewise.common.modes import on_cpu
from featurewise.common.opening import read_bytes
from featurewise.common.text import short
from featurewise.study.costs import count_flops, peak_memory, reset_peak_memory, thin_curve
from featurewise.study.decode import decoded
from featurewise.study.histories import observed_quantiles
from featurewise.study.results import Measurement, Results, Trial
from featurewise.study.system import MOST_WORKERS, Config, ConfigT, System
from featurewise.training import distributed, hardware
from featurewise.training.allocator import use_large_allocations
from featurewise.training.errors import ExperimentError, OccupiedError
from featurewise.training.facts import MOST, facts_text, read_facts, read_hardware, read_path_name
from featurewise.training.files import locked, storage_errors
from featurewise.training.loop import METRICS, fit
from featurewise.training.randomness import isolated, seed_everything
from featurewise.training.steppers import Stepper

RUN, MODEL, RESULTS, SHEET = "run.json", "model.json", "results.json", "sheet.png"
REMEDY = "Choose a folder that can be written."
_ELSEWHERE = "; choose another folder"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Which training this is.

    Attributes:
        system: name of the system.
        preset: name of the settings it began with.
        arm: what was trained.
        seed: of weights, data and noise.
        settings: the config before the arm changes it, as JSON values; it may differ from the
            preset's.
        hardware: what it ran on, and versions (see `featurewise.training.hardware.describe`).
        data_digests: of the data that the weights belong to, see `System.data_digests`; empty
            before training, and for systems that have none.
    """

    system: str
    preset: str
    arm: str
    seed: int
    settings: Mapping[str, Any]
    hardware: Mapping[str, str] = field(default_factory=dict)
    data_digests: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Its fields as JSON values; digests only where there are any."""
        found = dataclasses.asdict(self)
        if not self.data_digests:
            del found["data_digests"]
        return found

    def config(self, system: System[ConfigT]) -> ConfigT:
        """The config that its network is built and trained with: the settings, changed by the arm.

        Raises:
            ExperimentError: it is the run of another system, or of another version of its config.
        """
        if self.system != system.name:
            raise ExperimentError(f"this is a run of {self.system!r}, not of {system.name!r}")
        kind = type(next(iter(system.presets.values())))
        return system.config(decoded(kind, self.settings, "settings"), self.arm)


def describe_run(
    system: System[ConfigT],
    *,
    preset: str,
    arm: str | None = None,
    seed: int = 0,
    config: ConfigT | None = None,
) -> Run:
    """The facts of a run that is about to begin here.

    Args:
        system: its record.
        preset: name of the settings.
        arm: name of the arm; default: the first, the system itself.
        seed: of weights, data and noise.
        config: in place of the preset's, before the arm changes it.

    Raises:
        ExperimentError: there is no such preset or arm, the config cannot be written, or the seed
            is negative or too large.
    """
    require_seed(seed)
    chosen = system.preset(preset) if config is None else config
    return Run(
        system=system.name,
        preset=preset,
        arm=(system.arms[0] if arm is None else system.arm(arm)).name,
        seed=seed,
        settings=_as_json(chosen),
        hardware=hardware.describe(),
    )


def require_seed(seed: int) -> None:
    """Raise unless a seed can be used and written.

    Raises:
        ExperimentError: it is negative or too large.
    """
    if not 0 <= seed <= MOST:
        raise ExperimentError(f"a seed lies in 0..{MOST}, got {short(seed)}")


def _as_json(config: Config) -> dict[str, Any]:
    try:
        found: dict[str, Any] = loads(dumps(dataclasses.asdict(config)))
    except (TypeError, ValueError) as error:
        raise ExperimentError(f"this config cannot be written: {error}") from error
    return found


def changed_settings(system: System[Any], run: Run) -> dict[str, Any]:
    """The settings of a run that differ from its preset's, by name, as JSON values."""
    if run.preset not in system.presets:  # of an older version
        return {}
    usual = describe_run(system, preset=run.preset).settings
    return {name: value for name, value in run.settings.items() if usual.get(name) != value}


def write_run(folder: Path | str, run: Run, system: System[Any]) -> None:
    """Puts ``run.json`` into a folder, which is made when missing; or finds the same run there.

    Args:
        folder: of the run.
        run: that is to be there.
        system: its record; it knows the fields of its config by the names of any version.

    Raises:
        ExperimentError: the folder holds another run, or the same with other data, the message
            names what differs; or files that a run would write over.
        StorageError: the folder cannot be written.
    """
    folder = Path(folder)
    path = folder / RUN
    with storage_errors(folder, REMEDY):
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            for name in (METRICS, RESULTS, SHEET):
                if (folder / name).exists():
                    raise ExperimentError(
                        f"{folder}: holds {name}, but no run; choose another folder"
                    )
            write_bytes(path, facts_text(run.to_json()))
            return
    _require_same(folder, read_run(folder), run, system)


def read_run(folder: Path | str) -> Run:
    """The facts of a run folder or a model folder.

    Raises:
        ExperimentError: it is neither, or its JSON is damaged; the message begins with the path.
    """
    folder = Path(folder)
    if (folder / MODEL).is_file():
        return read_file(folder / MODEL, lambda said: run_from_json(said["run"]))
    if not (folder / RUN).is_file():
        raise ExperimentError(f"{folder}: is neither a run ({RUN}) nor a model ({MODEL})")
    return read_file(folder / RUN, run_from_json)


def train(
    folder: Path | str,
    system: System[ConfigT],
    run: Run,
    *,
    resume: bool = True,
    seconds: float | None = None,
    workers: int | None = None,
    tensorboard: bool = False,
) -> Trial:
    """Trains and measures a run in its folder, and keeps there what was found (``results.json``).

    Where it fails before anything of a new run was logged or saved, as for want of data, the folder
    is left as it was.

    Args:
        folder: of the run.
        system: its record.
        run: what to train.
        resume: goes on with what the folder holds of the same run.
        seconds: stops, saved and resumable, when this much time was spent; then measures.
        workers: processes that prepare batches; default: as the config says.
        tensorboard: also writes for TensorBoard.

    Raises:
        ExperimentError: see `write_run` and `featurewise.training.loop.fit`.
    """
    folder = Path(folder)
    config = run.config(system)
    if workers is not None and not 0 <= workers <= MOST_WORKERS:
        raise ExperimentError(
            f"0 to {MOST_WORKERS} processes prepare batches, not {short(workers)}"
        )
    use_large_allocations()
    digests = system.data_digests(config) if system.data_digests else {}
    written = dataclasses.replace(run, data_digests=digests)
    with _written(folder, written, system):
        trial = _trained(folder, system, run, config, resume, seconds, workers, tensorboard)
    if distributed.rank() == 0 and not (folder / RUN).exists():
        # Another process, which failed as it started here, took back what both had found.
        write_bytes(folder / RUN, facts_text(written.to_json()))
    return trial


@contextmanager
def _written(folder: Path, run: Run, system: System[Any]) -> Iterator[None]:
    """`write_run`, undone if the block fails before anything of a new run was logged or saved."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    new = not (folder / RUN).exists()
    try:
        write_run(folder, run, system)
    except ExperimentError as error:
        if new or is_begun(folder):
            raise
        _begin_again(folder, run, system, error)
        new = True
    try:
        yield
    except OccupiedError:  # it belongs to the process that trains there
        raise
    except BaseException:
        if new and distributed.rank() == 0:
            with suppress(OSError, ExperimentError), locked(folder):
                _remove_unless_begun(folder)
            for path in made:
                with suppress(OSError):  # it holds something else
                    path.rmdir()
        raise


def _begin_again(folder: Path, run: Run, system: System[Any], found: ExperimentError) -> None:
    """Replaces a run that was stopped before it kept anything, as by a kill.

    Raises:
        OccupiedError: another process has just begun it.
        ExperimentError: see `write_run`.
    """
    if distributed.rank() > 0:  # the first process replaces it for all
        return
    with locked(folder):
        _remove_unless_begun(folder)
        write_run(folder, run, system)
    warnings.warn(
        f"{str(found).removesuffix(_ELSEWHERE)}. It was stopped before it kept anything, and this "
        "run replaces it",
        stacklevel=2,
    )


def is_begun(folder: Path) -> bool:
    """Whether a run has a checkpoint, something in its log, or results."""
    log, saved = folder / METRICS, folder / "checkpoints"
    return (
        (log.exists() and log.stat().st_size > 0)
        or (saved.is_dir() and any(saved.iterdir()))
        or any((folder / name).exists() for name in (MODEL, RESULTS, SHEET))
    )


def _remove_unless_begun(folder: Path) -> None:
    """Removes the files of a run that has kept nothing."""
    saved = folder / "checkpoints"
    if is_begun(folder):
        return
    if saved.is_dir():
        saved.rmdir()
    for name in (METRICS, f"{METRICS}.seal", RUN, ".lock"):
        (folder / name).unlink(missing_ok=True)


def _trained(
    folder: Path,
    system: System[ConfigT],
    run: Run,
    config: ConfigT,
    resume: bool,
    seconds: float | None,
    workers: int | None,
    tensorboard: bool,
) -> Trial:
    """See `train`."""
    seed_everything(run.seed)
    network = system.build(config).to(distributed.device())
    stepper = system.stepper(network, config)
    source = system.data(config, run.seed)
    measured: list[Measurement] = []

    def evaluate(stepper: Stepper) -> Mapping[str, float]:
        with _where_measured(system, stepper):
            measured.append(system.evaluate(stepper, config))
        accuracy = measured[-1].accuracy
        return {**({"accuracy": accuracy.value} if accuracy else {}), **measured[-1].values}

    def observe(stepper: Stepper) -> Mapping[str, float]:
        return observed_quantiles(stepper.networks.values(), source.batch(0))

    reset_peak_memory()
    fitted = fit(
        folder,
        stepper,
        source,
        steps=config.steps,
        evaluate=evaluate,
        intervals=config.intervals,
        resume=resume,
        seed=run.seed,
        seconds=seconds,
        workers=config.workers if workers is None else workers,
        tensorboard=tensorboard,
        observe=observe,
    )
    memory = peak_memory()
    if fitted.step < config.steps or not measured:
        with isolated():
            evaluate(stepper)
    trial = Trial(
        run.arm,
        run.seed,
        fitted.step,
        fitted.seconds,
        _parameters(stepper),
        measured[-1],
        count_flops(stepper, source),
        memory,
        thin_curve(folder / METRICS),
    )
    if distributed.rank() == 0:
        with storage_errors(folder, REMEDY):
            versions = system.versions(config) if system.versions else {}
            changed = changed_settings(system, run)
            found = Results(system.name, run.preset, (trial,), run.hardware, versions, changed)
            found.save(folder / RESULTS)
            if system.draw is not None:
                with isolated(), _where_measured(system, stepper):
                    sheet = system.draw(stepper, config)
                sheet.save(buffer := BytesIO(), "PNG", optimize=True)
                write_bytes(folder / SHEET, buffer.getvalue())
    return trial


def _where_measured(system: System[Any], stepper: Stepper) -> AbstractContextManager[None]:
    """The device that a system is measured and plotted on."""
    return nullcontext() if system.measured_on_gpu else on_cpu(stepper.networks.values())


def _parameters(stepper: Stepper) -> int:
    """How many are trained; of what is solved for, all that the solution is written to."""
    networks = stepper.networks.values()
    trained = sum(p.numel() for each in networks for p in each.parameters() if p.requires_grad)
    return trained or sum(v.numel() for each in networks for v in each.state_dict().values())


_ParsedT = TypeVar("_ParsedT")


def read_file(path: Path, parse: Callable[[Node], _ParsedT]) -> _ParsedT:
    """What ``run.json`` or ``model.json`` says.

    Args:
        path: of the file.
        parse: its content -> what is wanted.

    Raises:
        ExperimentError: it cannot be read or is damaged; the message begins with the path.
        FormatVersionError: another version of the library wrote it.
    """
    with wrap_errors(path, ExperimentError, ExperimentError):
        return parse(read_facts(read_bytes(path, limit=MAX_BYTES), path, first=1))


def run_from_json(said: Node) -> Run:
    """A run from what JSON says of it; raises what the node makes of anything else."""
    names = [each.name for each in dataclasses.fields(Run)]
    said.mapping([name for name in names if name != "data_digests"], ["data_digests"])
    return Run(
        system=read_path_name(said["system"]),
        preset=read_path_name(said["preset"]),
        arm=read_path_name(said["arm"]),
        seed=said["seed"].integer(0, MOST),
        settings=said["settings"].mapping(),
        hardware=read_hardware(said["hardware"]),
        data_digests=read_hardware(said["data_digests"]) if "data_digests" in said else {},
    )


def require_same_data(run: Run, digests: Mapping[str, str]) -> None:
    """Raise unless the data at hand are those that a run was trained with.

    Args:
        run: of an earlier training; one that has no digest of something is not checked for it.
        digests: of the data at hand.

    Raises:
        ExperimentError: they differ; the message names what.
    """
    for name, digest in digests.items():
        if run.data_digests.get(name, digest) != digest:
            raise ExperimentError(
                f"was trained with another {name} than there is here ({run.data_digests[name]}, "
                f"here {digest}), in which its weights have no meaning: restore the data, or train "
                "again in another folder"
            )


def _require_same(folder: Path, begun: Run, wanted: Run, system: System[Any]) -> None:
    for name in ("system", "preset", "arm", "seed"):
        if getattr(begun, name) != getattr(wanted, name):
            raise ExperimentError(
                f"{folder}: holds a run with {name} {getattr(begun, name)}, not "
                f"{getattr(wanted, name)}{_ELSEWHERE}"
            )
    with wrap_errors(folder, ExperimentError, ExperimentError):
        configs = begun.config(system), wanted.config(system)
    for field_ in dataclasses.fields(configs[0]):
        values = [getattr(config, field_.name) for config in configs]
        if values[0] != values[1]:
            raise ExperimentError(
                f"{folder}: holds a run with {field_.name} {values[0]}, not {values[1]}{_ELSEWHERE}"
            )
    with wrap_errors(folder, ExperimentError, ExperimentError):
        require_same_data(begun, wanted.data_digests)
