import pytest
import torch

from featurewise.analysis import calibration_error


def plain(confidence: list[float], right: list[bool], bins: int) -> float:
    """Bin by bin, as the equation reads."""
    error = 0.0
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        rows = [i for i, p in enumerate(confidence) if low < p <= high or (number == 0 and p == 0)]
        if rows:
            accuracy = sum(right[i] for i in rows) / len(rows)
            mean = sum(confidence[i] for i in rows) / len(rows)
            error += len(rows) / len(confidence) * abs(accuracy - mean)
    return error


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_it_is_the_equation(bins: int) -> None:
    rng = torch.Generator().manual_seed(bins)
    confidence = torch.rand(500, generator=rng)
    right = torch.rand(500, generator=rng) < confidence.square()
    expected = plain(confidence.double().tolist(), right.tolist(), bins)
    assert calibration_error(confidence, right, bins) == pytest.approx(expected)


def test_ends_of_the_scale() -> None:
    sure = torch.tensor([1.0, 1.0, 0.0])
    assert calibration_error(sure, torch.tensor([True, True, False])) == 0
    assert calibration_error(sure, torch.tensor([False, False, True])) == 1
    assert calibration_error(torch.zeros(0), torch.zeros(0, dtype=torch.bool)) == 0
    with pytest.raises(ValueError, match="0 bins"):
        calibration_error(sure, sure > 0, 0)


def test_frequencies_that_are_the_probabilities_have_a_small_error() -> None:
    rng = torch.Generator().manual_seed(0)
    confidence = torch.rand(100_000, generator=rng)
    right = torch.rand(100_000, generator=rng) < confidence
    assert calibration_error(confidence, right) < 0.01
    assert calibration_error((confidence + 1) / 2, right) == pytest.approx(0.25, abs=0.01)
