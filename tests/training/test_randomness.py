import random

import numpy as np
import pytest
import torch

from featurewise.training import randomness
from featurewise.training.state import flatten, unflatten


def draws():
    return (
        [random.random(), random.gauss(0, 1)],
        [*np.random.rand(3).tolist(), np.random.randn()],
        torch.rand(3).tolist(),
    )


def test_seed_repeats():
    randomness.seed_everything(11)
    first = draws()
    randomness.seed_everything(11)
    assert draws() == first
    randomness.seed_everything(12)
    assert all(a != b for a, b in zip(draws(), first, strict=True))


def test_restore_goes_on_after_a_trip_through_a_file():
    randomness.seed_everything(1)
    draws()  # leaves spare normal numbers behind in Python and NumPy
    captured = randomness.capture()
    state = unflatten(*flatten(captured))
    randomness.restore(captured)  # checks of types at run time draw numbers of their own
    expected = draws()
    draws()
    randomness.restore(state)
    assert draws() == expected


def test_isolated_leaves_no_trace():
    randomness.seed_everything(1)
    expected = draws()
    randomness.seed_everything(1)
    with pytest.raises(KeyError), randomness.isolated():
        draws()
        raise KeyError
    assert draws() == expected


def test_big_seeds():
    randomness.seed_everything(2**40 + 1)
