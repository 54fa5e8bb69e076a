"""Scenes for people: in words, and as images that are larger than those of a network."""

from __future__ import annotations

from PIL import Image

from featurewise.worlds.clevr import Scene, render


def rendered(scene: Scene) -> Image.Image:
    """A scene as a person sees it, larger than a network does."""
    found = render([scene], width=480, height=320, samples=4, renderer="torch")
    pixels = found.images[0]
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def described(scene: Scene) -> str:
    """Its objects, in words."""
    things = [f"a {o.size} {o.color} {o.material} {o.shape}" for o in scene.objects]
    return (
        f"{', '.join(things[:-1])} and {things[-1]}."
        if len(things) > 1
        else f"{things[0]}."
    )
