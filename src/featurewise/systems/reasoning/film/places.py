"""Where the network looks: the positions that an answer is due to."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from featurewise.analysis import pooled_places
from featurewise.systems.reasoning.film.network import PooledClassifier
from featurewise.worlds.clevr import Batch, Scene, render


def places(network: nn.Module, batch: Batch) -> Float[Tensor, "h w"] | None:
    """Which positions an answer is due to (Perez et al. 2018, figure 4).

    Every feature of the map that is max-pooled points to the position of its maximum.
    Its weight is how far the maximum rises over that of the same question about an
    empty scene, times the gradient of the answer's logit with respect to it, where that
    is positive. Features that respond alike without any object, as at the border, so
    have no weight.

    Args:
        network: of any arm, in eval mode.
        batch: one question about one image.

    Returns:
        Shares that sum to one over the positions, or zeros where no feature has a
        weight; None for a network that max-pools no map.
    """
    classifier = getattr(network, "answer", None)
    if not isinstance(classifier, PooledClassifier):
        return None
    features = pooled_map(network, classifier, batch)
    empty = pooled_map(
        network, classifier, replace(batch, images=_empty_like(batch.images))
    )
    pooled = features.amax(dim=(2, 3)).requires_grad_()
    with torch.enable_grad():
        best = classifier.classify(pooled).amax(dim=1).sum()
    (gradient,) = torch.autograd.grad(best, pooled)
    rise = pooled.detach() - empty.amax(dim=(2, 3))
    return pooled_places(features, rise.clamp_min(0) * gradient.clamp_min(0))[0]


def pooled_map(
    network: nn.Module, classifier: PooledClassifier, batch: Batch
) -> Float[Tensor, "1 F h w"]:
    """The map that is max-pooled on the way to the answer."""
    inputs: list[Tensor] = []
    handle = classifier.register_forward_pre_hook(
        lambda module, given: inputs.append(given[0])
    )
    try:
        with torch.no_grad():
            network(batch)
            return classifier.map(inputs[-1])
    finally:
        handle.remove()


def _empty_like(images: UInt8[Tensor, "1 3 H W"]) -> UInt8[Tensor, "1 3 H W"]:
    """An image of the world without objects, at the size of these."""
    height, width = images.shape[2:]
    # One image is not worth the time that the renderer in numba takes to compile.
    empty = render([Scene(())], width=width, height=height, renderer="torch")
    return empty.images.clone().to(images.device)
