"""Noise and class into a picture: equal parameters, separate networks, who is told what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from featurewise.layers.dcgan import generator
from featurewise.systems.mechanisms.decoder import SIZE, SYSTEM, Decoder, sizes
from featurewise.worlds.glyphs.textures import TEXTURES, Textured

TINY = SYSTEM.preset("tiny")
ARMS = [arm.name for arm in SYSTEM.arms]
UNTOLD = {"nothing"}


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder: Path = tmp_path_factory.mktemp("decoder")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATUREWISE_CACHE", str(folder))
        yield


def decoder(arm: str) -> Decoder:
    """An arm with weights by lot, those of a condition too, which start at the identity."""
    torch.manual_seed(0)
    network = Decoder(TINY, arm, 5, 2, 9)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "generator" in name:
                weight.normal_()
    return network.eval()


def batch(rows: int = 8) -> Textured:
    count = torch.arange(rows)
    return Textured(count % 5, count % 4, count % TEXTURES, torch.zeros(rows, 1, SIZE, SIZE))


@pytest.mark.parametrize("arm", ARMS)
def test_letter_and_texture_count_where_they_are_told(arm: str) -> None:
    network, asked = decoder(arm), batch()
    before = network(asked)
    letter = network(replace(asked, letters=(asked.letters + 1) % 4))
    texture = network(replace(asked, textures=(asked.textures + 1) % TEXTURES))
    face = network(replace(asked, faces=(asked.faces + 1) % 5))
    assert torch.equal(before, letter) is torch.equal(before, texture) is (arm in UNTOLD)
    assert not torch.equal(before, face)


@pytest.mark.parametrize("preset", ["tiny", "small"])
@pytest.mark.parametrize("arm", ARMS)
def test_arms_have_the_same_number_of_parameters(arm: str, preset: str) -> None:
    settings = SYSTEM.preset(preset)
    channels, hidden = sizes(settings, arm)
    spent = [
        sum(p.numel() for p in Decoder(settings, arm, 1, channels, h).net.parameters())
        for h in (hidden, hidden + 1)
    ]
    assert spent[0] <= settings.budget < spent[1]
    assert spent[0] >= 0.95 * settings.budget


def test_separate_networks_are_separate() -> None:
    """A picture of a letter has gradients in the share of that letter alone."""
    network = decoder("separate")
    asked = replace(batch(), letters=torch.full((8,), 2))
    network(asked).sum().backward()
    for name, weight in network.net.named_parameters():
        assert weight.grad is not None
        touched = [bool(part.any()) for part in weight.grad.chunk(4)]
        assert touched == [False, False, True, False], name


def test_a_copy_draws_what_it_draws_alone() -> None:
    torch.manual_seed(0)
    together = generator(3, 5, 2, 8, copies=3).eval()
    alone = generator(3, 5, 2, 8).eval()
    noise = torch.randn(4, 9)
    for copy in range(3):
        state = {
            key: (value.chunk(3)[copy] if value.ndim else value)
            for key, value in together.state_dict().items()
        }
        alone.load_state_dict(
            {key: value.view_as(alone.state_dict()[key]) for key, value in state.items()}
        )
        expected = alone(noise[:, 3 * copy : 3 * copy + 3])
        torch.testing.assert_close(together(noise)[:, copy : copy + 1], expected)


def test_only_the_shuffled_arm_is_told_of_another_row() -> None:
    for arm in SYSTEM.arms:
        assert SYSTEM.data(TINY, arm, 0).shuffled is (arm.name == "shuffled")  # type: ignore[attr-defined]
