"""Shifts of a data set: what each does to an image."""

from __future__ import annotations

import torch

from featurewise.common.rng import seeded_rng
from featurewise.worlds.glyphs.shifts import SHIFTS


def test_each_shift_by_its_definition() -> None:
    images = torch.rand(200, 1, 6, 6, generator=seeded_rng(0))
    found = {shift.name: shift.change(images, seeded_rng(1)) for shift in SHIFTS}
    low, high = found["contrast"].min(), found["contrast"].max()
    assert 0.35 <= low < 0.36 and 0.64 < high <= 0.65
    torch.testing.assert_close(found["ink"] / images, torch.full_like(images, 0.3))
    noise = found["noise"] - images
    assert abs(float(noise.mean())) < 0.01 and abs(float(noise.std()) - 0.3) < 0.01
    again = next(each for each in SHIFTS if each.name == "noise").change(images, seeded_rng(1))
    assert torch.equal(found["noise"], again)
    for row in range(6):
        assert torch.equal(found["upside down"][:, :, row], images[:, :, 5 - row])
        assert torch.equal(found["rotated"][:, :, 5 - row], images[:, :, :, row])
    middle = found["blur"][:, 0, 3, 3]
    weights = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    expected = torch.einsum("nij,i,j->n", images[:, 0, 1:6, 1:6], weights, weights)
    torch.testing.assert_close(middle, expected)
    assert [shift.kind for shift in SHIFTS] == ["statistics"] * 4 + ["geometry"] * 2
