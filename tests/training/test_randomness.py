import random

import numpy as np
import pytest
import torch

from featurewise.training import randomness
from featurewise.training.state import flatten, unflatten


def samples():
    return (
        [random.random(), random.gauss(0, 1)],
        [*np.random.rand(3).tolist(), np.random.randn()],
        torch.rand(3).tolist(),
    )


def test_equal_seeds_give_equal_numbers():
    randomness.seed_everything(11)
    first = samples()
    randomness.seed_everything(11)
    assert samples() == first
    randomness.seed_everything(12)
    assert all(a != b for a, b in zip(samples(), first, strict=True))


def test_restore_of_a_serialised_state():
    randomness.seed_everything(1)
    samples()  # Python and NumPy now have a cached normal number each
    captured = randomness.capture()
    state = unflatten(*flatten(captured))
    randomness.restore(captured)  # run-time type checks have used random numbers
    expected = samples()
    samples()
    randomness.restore(state)
    assert samples() == expected


def test_isolated_restores_all_generators():
    randomness.seed_everything(1)
    expected = samples()
    randomness.seed_everything(1)
    with pytest.raises(KeyError), randomness.isolated():
        samples()
        raise KeyError
    assert samples() == expected


def test_large_seeds():
    randomness.seed_everything(2**40 + 1)
