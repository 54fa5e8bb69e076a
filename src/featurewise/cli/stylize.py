"""``featurewise stylize``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from featurewise.cli import discovery
from featurewise.cli.console import Terminal
from featurewise.cli.errors import UserError
from featurewise.cli.evaluate import RUN_HELP
from featurewise.cli.own_styles import is_image, own_style
from featurewise.cli.png import own_png, write_png
from featurewise.cli.streams import notes

if TYPE_CHECKING:
    from PIL.Image import Image

_SOFTWARE = "featurewise stylize"
LONGEST = 1024
"""Longer side, in pixels, to which larger images are reduced unless --size says otherwise."""


def stylize(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help=RUN_HELP, autocompletion=discovery.complete_run),
    ],
    image: Annotated[
        Path | None, typer.Argument(metavar="IMAGE", help="A PNG or JPEG file.")
    ] = None,
    style: Annotated[
        str | None,
        typer.Option(
            help="Name of a style, or the beginning of one; or a PNG or JPEG file whose style is "
            "learned first, which takes minutes, and is then cached."
        ),
    ] = None,
    mix: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STYLE:WEIGHT",
            help="Another style and its share, as in kandinsky:0.3 or my.jpg:0.3; the rest is that "
            "of --style. May be repeated.",
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            help="PNG file, or folder for it. Only a file that this command wrote is overwritten."
        ),
    ] = Path(),
    size: Annotated[
        int | None,
        typer.Option(
            min=8,
            help="Longer side of the result in pixels.",
            show_default=f"that of the image, at most {LONGEST}",
        ),
    ] = None,
) -> None:
    """Paint an image in styles that a network was trained on, or in those of images of your own.

    Without IMAGE the styles are listed.
    """
    from PIL.Image import Resampling, fromarray

    from featurewise.common.images import MAX_PIXELS, read_image, to_rgb
    from featurewise.study.model import load_network
    from featurewise.worlds.pictures.images import as_tensor

    found = discovery.find(run)
    stylist = discovery.stylist(found.system)
    network, config = load_network(found.folder, found.system)
    names = stylist.styles(config)
    console = Terminal(highlight=False, soft_wrap=True)
    if not names:
        raise UserError("this network was trained without styles to choose from")
    if image is None:
        if style is not None or mix:
            raise UserError("give the image to be painted after RUN")
        for name in names:
            console.print(name, markup=False)
        return
    weights = _weights(style, mix or [], names)
    name = f"{image.stem}.{_described(weights)}.png"
    target = own_png(out, image, "the image itself", name, _SOFTWARE)
    original = to_rgb(read_image(image))
    shape = _shape(original, size)
    if math.prod(shape) > MAX_PIXELS:
        raise UserError(
            f"{image}: {shape[0]} x {shape[1]} pixels are more than {MAX_PIXELS:,}; --size gives "
            "the longer side"
        )
    shown = original if shape == original.size else original.resize(shape, Resampling.LANCZOS)
    if shown.size != original.size:
        notes().print(
            f"[yellow]note[/]: {escape(str(image))} is painted at {shown.width} x "
            f"{shown.height}, not {original.width} x {original.height}; --size changes that"
        )
    if min(shown.size) < (least := stylist.least(network)):
        raise UserError(
            f"{image}: at this size it has {shown.width} x {shown.height} pixels; the network "
            f"needs at least {least} x {least}; --size gives the longer side"
        )
    used = {name: weight for name, weight in weights.items() if weight > 0}
    own = {
        name: own_style(stylist, network, config, Path(name), original)
        for name in used
        if name not in names
    }
    pixels = stylist.paint(network, config, as_tensor(shown), used, own)
    result = fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    if failure := write_png(target, result, _SOFTWARE):
        raise UserError(f"{target}: {failure}")
    mixture = ", ".join(f"{100 * weight:.3g}% {name}" for name, weight in weights.items())
    console.print(f"{target}: {mixture}", markup=False)


def _weights(style: str | None, mix: list[str], names: tuple[str, ...]) -> dict[str, float]:
    """Name of each style -> its weight.

    Raises:
        UserError: no style is given, a name or weight is not valid, or weights exceed one.
    """
    if style is None:
        raise UserError(f"give --style, one of {', '.join(names)}")
    found: dict[str, float] = {}
    for text in mix:
        name, colon, number = text.rpartition(":")
        weight = _number(number)
        if not colon or weight is None or not 0 < weight <= 1:
            raise UserError(
                f"--mix {text}: write a style, a colon and a weight from 0 to 1, as in "
                f"{names[0]}:0.3"
            )
        name = _style(name, names)
        if name in found:
            raise UserError(f"--mix names {name} twice")
        found[name] = weight
    first = _style(style, names)
    rest = 1 - math.fsum(found.values())
    if first in found:
        raise UserError(f"{first} is given by --style, its weight is the rest of --mix")
    if rest < -1e-9:
        raise UserError(f"the weights of --mix add up to {1 - rest:g}; they must not exceed 1")
    return {first: max(rest, 0.0), **found}


def _described(weights: dict[str, float]) -> str:
    """Styles and weights as part of a file name, which has an end."""
    plain = [
        (Path(name).stem if is_image(name) else name, weight) for name, weight in weights.items()
    ]
    if len(plain) == 1:
        return plain[0][0][:150]
    longest = 150 // len(plain)
    parts = [f"{name[:longest]}{100 * weight:.3g}" for name, weight in plain]
    return "+".join(parts)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _style(text: str, names: tuple[str, ...]) -> str:
    """The style of this name, or the only one that begins like this; or an image file.

    Raises:
        UserError: there is none, or more than one.
    """
    if text in names or is_image(text):
        return text
    begun = [name for name in names if name.startswith(text)] if text else []
    if len(begun) > 1:
        raise UserError(f"several styles begin with {text!r}: {', '.join(begun)}")
    if not begun:
        discovery.require(text, names, "style")
    return begun[0]


def _shape(image: Image, size: int | None) -> tuple[int, int]:
    """Width and height with a longer side of ``size`` pixels, or of at most `LONGEST`."""
    longer = max(image.size)
    wanted = min(longer, LONGEST) if size is None else size
    width, height = (max(1, round(side * wanted / longer)) for side in image.size)
    return width, height
