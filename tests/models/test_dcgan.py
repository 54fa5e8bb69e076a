"""The networks of a DCGAN: upsampling by a pixel shuffle, and labels in every layer."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from featurewise.generators import GeneratorError
from featurewise.layers.concat import ConcatConv, ConcatLinear
from featurewise.models.dcgan import discriminator, generator


@pytest.mark.parametrize("labels", [0, 3])
@pytest.mark.parametrize("size", [8, 16])
def test_generator_gives_images_and_discriminator_logits(labels: int, size: int) -> None:
    label = torch.eye(3)[[0, 1]] if labels else None
    images = generator(5, 7, 4, size, labels=labels)(torch.randn(2, 5), label)
    assert images.shape == (2, 1, size, size)
    assert images.min() >= 0 and images.max() <= 1
    assert discriminator(7, 4, size, labels=labels)(images, label).shape == (2,)


def test_a_shuffled_convolution_is_a_transposed_one() -> None:
    """Output position 2i + a depends on inputs i - 1 .. i + 1: kernel 6, stride 2, padding 2."""
    convolve = nn.Conv2d(3, 8, 3, padding=1).double()
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    kernel = torch.zeros(3, 2, 6, 6, dtype=torch.float64)
    for channel in range(2):
        for a in range(2):
            for b in range(2):
                for i in range(3):
                    for j in range(3):
                        # Input i - 1 + k contributes to output 2i + a: tap 2(1 - k) + a + 2.
                        tap = (2 * (1 - i) + a + 2, 2 * (1 - j) + b + 2)
                        of = convolve.weight[4 * channel + 2 * a + b, :, i, j]
                        kernel[:, channel, tap[0], tap[1]] = of.detach()
    expected = F.conv_transpose2d(x, kernel, stride=2, padding=2)
    bias = F.pixel_shuffle(convolve.bias.view(1, 8, 1, 1).expand(1, 8, 5, 5), 2)
    torch.testing.assert_close(F.pixel_shuffle(convolve(x), 2), expected + bias)


def test_every_layer_has_the_label_at_its_input() -> None:
    for network in (generator(5, 7, 4, 8, labels=3), discriminator(7, 4, 8, labels=3)):
        layers = [stage.layer for stage in network.stages]
        assert all(isinstance(layer, (ConcatConv, ConcatLinear)) for layer in layers)
        network.eval()
        x = torch.randn(1, 5) if layers[0].in_features == 5 else torch.rand(1, 1, 8, 8)
        for only in range(4):
            # Only one layer depends on the label: the output must still differ between two labels.
            for i, layer in enumerate(layers):
                inner = layer.linear if isinstance(layer, ConcatLinear) else layer.convolve
                with torch.no_grad():
                    inner.weight[:, layer.in_features :] = float(i == only)
                    inner.weight[:, layer.in_features] *= 2.0
            one, other = (network(x, torch.eye(3)[[k]]) for k in (0, 1))
            assert not torch.equal(one, other), only


def test_several_copies_with_labels_raise() -> None:
    with pytest.raises(GeneratorError, match="labels=3"):
        generator(5, 7, 4, 8, labels=3, copies=2)
