"""Two known functions: targets against a loop, the sets of examples, the control."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from featurewise.worlds.small import SmallWorldError
from featurewise.worlds.small.forms import CELLS, FormSource, functions

SOURCE = FormSource(width=3, condition=2, rank=2, few=5, batch_size=40, noise=0.0, seed=4)


def targets(x: Tensor, z: Tensor, cell: int) -> list[float]:
    """Of one row, term by term."""
    scale, shift, weight = (part.double() for part in functions(3, 2, 2))
    found = []
    for k in range(3):
        if CELLS[cell].startswith("film"):
            gamma = sum(z[j] * scale[j, k] for j in range(2))
            found.append(float(gamma * x[k] + sum(z[j] * shift[j, k] for j in range(2))))
        else:
            terms = [x[i] * weight[k, i, j] * z[j] for i in range(3) for j in range(2)]
            found.append(float(sum(terms)))
    return found


@pytest.mark.parametrize("exact", [False, True])
def test_targets_against_a_loop(exact: bool) -> None:
    pairs = SOURCE.exact(6) if exact else SOURCE.batch(2)
    for row in range(6):
        for cell in range(4):
            expected = targets(pairs.x[row, cell].double(), pairs.z[row, cell].double(), cell)
            assert pairs.y[row, cell].tolist() == pytest.approx(expected, abs=1e-5)


def test_small_sets_are_reused_and_other_examples_are_not() -> None:
    one, other = SOURCE.batch(0), SOURCE.batch(1)
    for cell, name in enumerate(CELLS):
        different = torch.unique(torch.cat((one.x[:, cell], other.x[:, cell])), dim=0)
        assert len(different) == (5 if name.endswith("few") else 80)


def test_batches_depend_on_seed_and_index_only() -> None:
    assert torch.equal(SOURCE.batch(3).y, SOURCE.batch(3).y)
    assert not torch.equal(SOURCE.batch(3).y, SOURCE.batch(4).y)
    other = replace(SOURCE, seed=5)
    assert not torch.equal(SOURCE.batch(3).y, other.batch(3).y)


def test_standard_deviation_of_noise_and_variance_of_targets() -> None:
    noisy = replace(SOURCE, width=64, condition=64, rank=64, batch_size=2_000, noise=0.5)
    quiet = replace(noisy, noise=0.0)
    added = (noisy.batch(0).y - quiet.batch(0).y).std()
    assert added == pytest.approx(0.5, abs=0.02)
    assert quiet.batch(0).y[:, 1::2].var() == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_bilinear_form_is_of_its_rank(rank: int) -> None:
    """Flattened to matrices in all three ways."""
    weight = functions(6, 5, rank)[2]
    for axis in range(3):
        assert torch.linalg.matrix_rank(weight.movedim(axis, 0).flatten(1), rtol=1e-4) == rank


def test_validation_and_test_examples_differ_from_each_other_and_from_all_batches() -> None:
    few = SOURCE.batch(0).x[:, 0], SOURCE.batch(1).x[:, 0]
    exact = SOURCE.exact(40).x[:, 0], SOURCE.exact(40, "validation").x[:, 0]
    assert len(torch.unique(torch.cat((*few, *exact)), dim=0)) == 5 + 80


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(SmallWorldError, match="few must be 1 or more, got 0"):
        replace(SOURCE, few=0)
