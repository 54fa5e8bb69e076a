import pytest
import torch

from featurewise.analysis import pooled_places, share_inside
from featurewise.core import ShapeError


def test_positions_against_a_loop() -> None:
    features = torch.rand(3, 16, 4, 5, generator=torch.Generator().manual_seed(0))
    features[0, :4] = 0.0  # dead features have no position
    expected = torch.zeros(3, 4, 5)
    for n in range(3):
        alive = [f for f in range(16) if features[n, f].max() > features[n, f].min()]
        for f in alive:
            place = divmod(int(features[n, f].argmax()), 5)
            expected[n][place] += 1 / len(alive)
    torch.testing.assert_close(pooled_places(features), expected)


def test_weighted_positions_against_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(2, 9, 4, 5, generator=generator)
    features[0, :4] = 0.0
    weights = torch.rand(2, 9, generator=generator)
    weights[1, 2] = 0.0
    expected = torch.zeros(2, 4, 5)
    for n in range(2):
        for f in range(9):
            if features[n, f].max() > features[n, f].min():
                expected[n][divmod(int(features[n, f].argmax()), 5)] += weights[n, f]
    expected /= expected.sum((1, 2), keepdim=True)
    torch.testing.assert_close(pooled_places(features, weights), expected)
    assert pooled_places(features, torch.zeros(2, 9)).sum() == 0


def test_a_constant_map_has_zero_shares() -> None:
    assert pooled_places(torch.zeros(1, 3, 2, 2)).sum() == 0


def test_share_inside_a_finer_mask() -> None:
    features = torch.zeros(1, 4, 2, 2)
    features[0, :3, 0, 1] = 1.0
    features[0, 3, 1, 0] = 1.0
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, 1, 6] = True
    torch.testing.assert_close(share_inside(pooled_places(features), mask), torch.tensor([0.75]))


@pytest.mark.traced
def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ShapeError, match="features must be"):
        pooled_places(torch.zeros(3, 4, 5))
    with pytest.raises(ShapeError, match="weights must be"):
        pooled_places(torch.zeros(2, 3, 4, 5), torch.zeros(2, 4))
    with pytest.raises(ShapeError, match="mask must be"):
        share_inside(torch.zeros(2, 4, 5), torch.zeros(1, 4, 5))
