"""Where a network that pools a map looks for its answer (Perez et al. 2018, figure 4)."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from featurewise.analysis import pooled_places
from featurewise.models.trunks import PooledClassifier
from featurewise.worlds.clevr import Batch, Scene, render


def attention(network: nn.Module, batch: Batch) -> Float[Tensor, "h w"] | None:
    """Where the network looks for its answer to one question.

    Every feature of the map that is max-pooled points to the place of its maximum. It counts by
    how far the maximum rises over that of the same question about an empty scene, times the
    gradient of the answer's logit with respect to it, where that is positive. Features that fire
    alike without any object, as at the rim, so count nothing.

    Args:
        network: of any arm, in eval mode.
        batch: one question about one picture.

    Returns:
        Shares that sum to one over the places, or zeros where no feature counts; None for a
        network that pools no map.
    """
    classifier = getattr(network, "answer", None)
    if not isinstance(classifier, PooledClassifier):
        return None
    features = _pooled(network, classifier, batch)
    empty = _pooled(network, classifier, replace(batch, images=_empty_like(batch.images)))
    pooled = features.amax(dim=(2, 3)).requires_grad_()
    with torch.enable_grad():
        best = classifier.classify(pooled).amax(dim=1).sum()
    (gradient,) = torch.autograd.grad(best, pooled)
    rise = pooled.detach() - empty.amax(dim=(2, 3))
    return pooled_places(features, rise.clamp_min(0) * gradient.clamp_min(0))[0]


def _pooled(
    network: nn.Module, classifier: PooledClassifier, batch: Batch
) -> Float[Tensor, "1 F h w"]:
    """The map that is max-pooled on the way to the answer."""
    seen: list[Tensor] = []
    handle = classifier.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    try:
        with torch.no_grad():
            network(batch)
            return classifier.map(seen[-1])
    finally:
        handle.remove()


def _empty_like(images: UInt8[Tensor, "1 3 H W"]) -> UInt8[Tensor, "1 3 H W"]:
    """A picture of the world without objects, at the size of these."""
    height, width = images.shape[2:]
    return render([Scene(())], width=width, height=height).images.clone().to(images.device)
