"""Styles of images of the user's own: learned once, then kept in the cache."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurewise.cli.errors import UserError
from featurewise.cli.streams import notes

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor, nn

    from featurewise.core import TaskRepresentation
    from featurewise.study.stylist import Stylist

SUFFIXES = (".png", ".jpg", ".jpeg")


def is_image(text: str) -> bool:
    """Whether a style is given as an image file, not by its name."""
    return text.lower().endswith(SUFFIXES)


def own_style(
    stylist: Stylist[Any], network: nn.Module, config: Any, painting: Path, photograph: Image
) -> TaskRepresentation:
    """The style of an image file, from the cache or learned now, with a progress bar.

    Args:
        stylist: of the network's system.
        network: trained, in eval mode.
        config: that it was built with.
        painting: a PNG or JPEG file.
        photograph: RGB; whose crops are painted meanwhile.

    Raises:
        UserError: no style can be learned of these images.
    """
    import safetensors.torch
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    from featurewise.common.cache import cache_folder
    from featurewise.common.files import sha256, write_bytes
    from featurewise.common.images import read_image, to_rgb
    from featurewise.core import TaskRepresentation
    from featurewise.models.pretrained.errors import WeightsError
    from featurewise.training.errors import ExperimentError
    from featurewise.worlds.pictures.images import as_tensor

    style, content = as_tensor(to_rgb(read_image(painting))), as_tensor(photograph)
    weights = {key: value.contiguous() for key, value in network.state_dict().items()}
    name = sha256(
        repr((config, style.shape, content.shape)).encode(),
        safetensors.torch.save(weights),
        style.numpy().tobytes(),
        content.numpy().tobytes(),
    )
    path = cache_folder() / "styles" / f"{name[:32]}.safetensors"
    layout = stylist.layout(network)
    if (flat := _cached(path, layout.size)) is not None:
        return TaskRepresentation(layout, flat)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        Remaining(),
    )
    with Progress(*columns, console=notes(), transient=True) as progress:
        bar = progress.add_task(f"learning the style of {painting.name}", total=None)

        def on_step(done: int, steps: int) -> None:
            progress.update(bar, completed=done, total=steps)

        try:
            found = stylist.learn(network, config, style, content, on_step)
        except (ExperimentError, WeightsError) as error:
            raise UserError(f"{painting}: {error}") from error
    notes().print(
        f"style of {painting.name}: style loss {found.after:.2f}, {found.before:.2f} before it "
        "was learned",
        markup=False,
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, safetensors.torch.save({"task": found.task.flat.contiguous()}))
    except OSError as error:  # the image is painted all the same
        notes().print(f"not cached: {error}", markup=False)
    return found.task


def _cached(path: Path, size: int) -> Tensor | None:
    """The task representation in a file; None for none, or for a file that is damaged."""
    import safetensors.torch
    from safetensors import SafetensorError

    try:
        flat = safetensors.torch.load(path.read_bytes())["task"]
    except (OSError, SafetensorError, KeyError):
        return None
    return flat if flat.shape == (size,) and bool(flat.isfinite().all()) else None
