"""``featurewise explore`` and ``featurewise export``."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featurewise.cli import discovery, options
from featurewise.cli.errors import UserError
from featurewise.cli.evaluate import RUN_HELP
from featurewise.cli.streams import notes

if TYPE_CHECKING:
    from featurewise.explorer import ExplorerBundle
    from featurewise.explorer.live import Live
    from featurewise.explorer.schema import Curve
    from featurewise.study.exploration import Exploration

_BUNDLE = ".safetensors"
_HELP = f"{RUN_HELP[:-1]}, or a saved bundle ({_BUNDLE})."

_Run = Annotated[
    str, typer.Argument(metavar="RUN", help=_HELP, autocompletion=discovery.complete_run)
]
_Compare = Annotated[
    list[str] | None,
    typer.Option(
        help="Another run, shown beside the first; may be repeated.",
        autocompletion=discovery.complete_run,
    ),
]


def export(
    run: _Run,
    out: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help=f"New file: .html is the page, {_BUNDLE} the bundle that the page shows.",
        ),
    ],
    compare: _Compare = None,
) -> None:
    """Write what a trained network does with many conditions as one HTML file.

    The page shows γ and β by feature, projections, interpolations and sums of conditions. It opens
    in any browser and loads nothing else.
    """
    from featurewise.explorer.bundle import save_page, writable

    options.require_installed("explorer", "pydantic", "sklearn")
    if out.suffix not in (".html", _BUNDLE):
        raise UserError(f"{out}: give a file name that ends in .html or {_BUNDLE}")
    if out.suffix == _BUNDLE and compare:
        raise UserError("a bundle is of one run; give an .html file, or leave out --compare")
    writable(out, overwrite=False)  # before minutes are spent
    bundles = [bundle_of(each)[0] for each in (run, *(compare or []))]
    if out.suffix == ".html":
        save_page(bundles, out)
    else:
        bundles[0].save(out)
    typer.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


def explore(
    run: _Run,
    compare: _Compare = None,
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port; a free one if it is in use.")
    ] = 8765,
    host: Annotated[
        str, typer.Option(help="Address; other than this computer's own, it needs a token.")
    ] = "127.0.0.1",
    token: Annotated[
        str | None,
        typer.Option(
            envvar="FEATUREWISE_TOKEN",
            help="Password that browsers must give, of 16 characters at least.",
            show_default="none",
        ),
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser.")] = True,
) -> None:
    """Show what a trained network does with many conditions, and let it answer new ones.

    A page as that of export, from a server on this computer, which also answers new questions and
    other values of γ and β. Ctrl-C ends it.
    """
    options.require_installed("explorer", "pydantic", "sklearn", "starlette", "uvicorn")
    from featurewise.explorer.server import check_token, serve

    check_token(token, [host])  # before minutes are spent
    networks = [_network(each) for each in (run, *(compare or []))]
    serve(
        networks,
        host=host,
        port=port,
        token=token,
        open_browser=browser,
        on_message=typer.echo,
    )


def _network(run: str) -> ExplorerBundle | Live:
    """What the server shows of a run: a network that answers, if its system says how."""
    from featurewise.explorer.live import Live

    bundle, shown = bundle_of(run)
    if shown is None or shown.respond is None:
        return bundle
    return Live(
        bundle=bundle,
        task=shown.task,
        respond=shown.respond,
        outputs=shown.outputs or (),
        represent=shown.represent,
    )


def bundle_of(run: str) -> tuple[ExplorerBundle, Exploration | None]:
    """The bundle of a run or a file, and what it was made of.

    Raises:
        UserError: there is no such run.
        ExperimentError: no part of its network is conditioned.
        ExplorerError: the file is no bundle.
    """
    from featurewise.explorer import ExplorerBundle, build
    from featurewise.study.histories import logged_quantiles
    from featurewise.study.model import load_network
    from featurewise.study.recorded import recorded

    if run.endswith(_BUNDLE):
        return ExplorerBundle.load(run), None
    found = discovery.find(run)
    network, config = load_network(found.folder, found.system)
    if found.system.explore is not None:
        shown = found.system.explore(network, config)
    else:
        shown = recorded(found.system, network, config)
    notes().print(f"computing what {run} does with many conditions, about a minute")
    given: dict[str, Any] = {each.name: getattr(shown, each.name) for each in fields(shown)}
    del given["represent"]
    task = given.pop("task")
    records = _records(found.folder)
    histories = logged_quantiles(records)
    bundle = build.explore(
        task, **given, curves=_curves(records), histories=histories, most=len(task)
    )
    return bundle, shown


def _records(folder: Path) -> list[dict[str, Any]]:
    """The log of a run; nothing of a model without its run."""
    from featurewise.training.metrics import read_metrics

    path = folder / "metrics.jsonl"
    return read_metrics(path) if path.is_file() else []


def _curves(records: list[dict[str, Any]]) -> list[Curve]:
    """Losses and accuracies that a run recorded in training."""
    from featurewise.explorer.schema import Curve

    values: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        for name, value in record.items():
            if name in ("loss", "accuracy") and isinstance(value, int | float):
                values.setdefault(f"{name}, {record['kind']}", []).append(
                    (int(record["step"]), float(value))
                )
    return [
        Curve(name=name, unit="", steps=[step for step, _ in line], values=[v for _, v in line])
        for name, line in values.items()
    ]
