"""Diffusion: the schedule and DDIM against plain loops, and what must come out exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from featurewise.core import Affine
from featurewise.generators import Generator
from featurewise.retrofit import Conditioned, condition
from featurewise.training.diffusion import (
    Denoiser,
    Noising,
    alphas,
    ddim,
    guided,
    noise_error,
    noised,
    spaced,
)
from featurewise.training.errors import ExperimentError


def f(t: float, times: int) -> float:
    return math.cos((t / times + 0.008) / 1.008 * math.pi / 2) ** 2


def test_schedule_is_the_cosine_one() -> None:
    found = alphas(50)
    product = 1.0
    for t in range(50):
        product *= 1 - min(0.999, 1 - f(t + 1, 50) / f(t, 50))
        assert found[t].item() == pytest.approx(product, rel=1e-9)
    for t in range(49):  # only the last step is cut off
        assert found[t].item() == pytest.approx(f(t + 1, 50) / f(0, 50), rel=1e-9)


def test_schedule_goes_from_almost_a_picture_to_almost_noise() -> None:
    found = alphas(1000)
    assert found[0] > 0.9999
    assert 0 < found[-1] < 1e-5
    assert (found[1:] < found[:-1]).all()


def test_noised_mixes_each_picture_by_its_own_share() -> None:
    images, noise = torch.randn(3, 1, 2, 2), torch.randn(3, 1, 2, 2)
    alpha = torch.tensor([1.0, 0.36, 0.0])
    found = noised(images, noise, alpha)
    for n, (left, right) in enumerate([(1.0, 0.0), (0.6, 0.8), (0.0, 1.0)]):
        torch.testing.assert_close(found[n], left * images[n] + right * noise[n])


def test_noised_keeps_the_variance() -> None:
    images, noise = torch.randn(2, 100_000)
    found = noised(images[None], noise[None], torch.tensor([0.3]))
    assert found.var().item() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(("times", "steps"), [(10, 10), (10, 4), (1000, 50), (7, 1), (7, 3)])
def test_times_go_down_evenly_from_the_last(times: int, steps: int) -> None:
    found = spaced(times, steps).tolist()
    assert len(found) == steps
    assert found[0] == times - 1
    gaps = [a - b for a, b in zip(found, [*found[1:], -1], strict=True)]
    assert all(abs(gap - times / steps) < 1 for gap in gaps)


def test_ddim_recovers_a_picture_exactly_from_its_true_noise() -> None:
    schedule = alphas(200)
    image = torch.rand(4, 1, 5, 5, dtype=torch.float64) * 2 - 1
    asked: list[int] = []

    def true(x: Tensor, times: Tensor) -> Tensor:
        asked.append(int(times[0]))
        left = schedule[times].reshape(-1, 1, 1, 1)
        return (x - left.sqrt() * image) / (1 - left).sqrt()

    noise = torch.randn_like(image)
    # From pure noise the first prediction is exact but for rounding, so are all after it.
    for bound in (None, 1.0):
        found = ddim(true, noise, schedule, 25, bound)
        torch.testing.assert_close(found, image, rtol=0, atol=1e-9)
    assert asked == 2 * list(range(199, 0, -8))


def test_ddim_follows_the_noise_that_a_picture_was_given() -> None:
    # With one noise for all times the path is that of `noised`, at every time visited.
    schedule = alphas(100)
    image, noise = torch.randn(2, 3, 3).double(), torch.randn(2, 3, 3).double()
    start = noised(image, noise, schedule[[99, 99]])
    path: list[tuple[int, Tensor]] = []

    def told(x: Tensor, times: Tensor) -> Tensor:
        path.append((int(times[0]), x))
        return noise

    torch.testing.assert_close(ddim(told, start, schedule, 10, None), image)
    for time, x in path:
        torch.testing.assert_close(x, noised(image, noise, schedule[[time, time]]))


def network(x: Tensor, times: Tensor) -> Tensor:
    """Some smooth function of place and time."""
    return torch.sin(2 * x) + 0.01 * times.reshape(-1, *(1,) * (x.ndim - 1)).to(x.dtype)


@pytest.mark.parametrize("bound", [None, 0.7])
def test_ddim_is_a_plain_loop_number_by_number(bound: float | None) -> None:
    schedule = alphas(60)
    noise = torch.randn(3, 4, dtype=torch.float64)
    found = ddim(network, noise, schedule, 6, bound)
    times = [59, 49, 39, 29, 19, 9]
    for n in range(3):
        for c in range(4):
            x = noise[n, c].item()
            for step, time in enumerate(times):
                left = schedule[time].item()
                seen = math.sin(2 * x) + 0.01 * time
                clean = (x - math.sqrt(1 - left) * seen) / math.sqrt(left)
                if bound is not None:
                    clean = max(-bound, min(bound, clean))
                    seen = (x - math.sqrt(left) * clean) / math.sqrt(1 - left)
                after = schedule[times[step + 1]].item() if step < 5 else 1.0
                x = math.sqrt(after) * clean + math.sqrt(1 - after) * seen
            assert found[n, c].item() == pytest.approx(x, rel=1e-9, abs=1e-9)


def test_more_steps_than_times_are_refused() -> None:
    with pytest.raises(ExperimentError, match="1 to 10 can be visited, not 11"):
        ddim(network, torch.randn(2, 3), alphas(10), 11)
    with pytest.raises(ExperimentError, match="at least 1 time"):
        alphas(0)


@dataclass(frozen=True)
class Plain:
    """Pictures that say which batch they are of."""

    def batch(self, index: int, /) -> tuple[Tensor, Tensor]:
        return torch.full((40, 1, 2, 2), 0.01 * index), torch.arange(40) % 5


def noising(seed: int = 0, drop: float = 0.0) -> Noising:
    return Noising(Plain(), lambda batch: batch, 50, seed, 5, drop)


def test_a_noised_batch_is_its_picture_its_noise_and_its_time() -> None:
    found = noising().batch(7)
    schedule = alphas(50)
    for n in range(40):
        left = schedule[found.times[n]].item()
        expected = math.sqrt(left) * 0.07 + math.sqrt(1 - left) * found.noise[n]
        torch.testing.assert_close(found.images[n], expected)
    assert torch.equal(found.classes, torch.arange(40) % 5)
    assert found.times.min() >= 0
    assert found.times.max() < 50
    assert len(found.times.unique()) > 15


def test_noise_depends_on_seed_and_index_alone() -> None:
    first = noising().batch(3)
    torch.manual_seed(9)
    assert torch.equal(noising().batch(3).noise, first.noise)
    for other in (noising(seed=1).batch(3), noising().batch(4)):
        assert not torch.equal(other.noise, first.noise)
        assert not torch.equal(other.times, first.times)
    assert torch.equal(noising(drop=0.5).batch(3).images, first.images)


def test_classes_are_dropped() -> None:
    assert (noising(drop=1.0).batch(0).classes == 5).all()
    dropped = torch.cat([noising(drop=0.2).batch(i).classes == 5 for i in range(50)])
    assert dropped.float().mean().item() == pytest.approx(0.2, abs=0.03)


class Told(nn.Module):
    """A number for each class, times the picture, and a trace of the time."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(6, 4)

    def forward(self, told: tuple[Tensor, Tensor]) -> Tensor:
        return self.table(told[1]) + told[0][:, None]


def told() -> Conditioned:
    torch.manual_seed(0)
    net = condition(nn.Conv2d(1, 1, 1), at="", operation=Affine(), generator=Generator(Told(), 4))
    nn.init.normal_(net.generator.head.weight)
    return net


def test_guided_predictions_are_the_formula() -> None:
    net, images, times = told(), torch.randn(3, 1, 2, 2), torch.tensor([1, 4, 2])
    classes = torch.tensor([0, 3, 1])
    with_it = net(images, condition=(times, classes))
    without = net(images, condition=(times, torch.full((3,), 5)))
    for weight in (0, 1, 2.5):
        found = guided(net, classes, 5, weight)(images, times)
        torch.testing.assert_close(found, without + weight * (with_it - without))


def test_denoiser_is_told_time_and_class_and_draws_by_ddim() -> None:
    net = told()
    network, batch = Denoiser(net, 5, 50), noising().batch(0)
    expected = net(batch.images, condition=(batch.times, batch.classes))
    assert torch.equal(network(batch), expected)
    loss, _ = noise_error(network, batch)
    torch.testing.assert_close(loss, ((expected - batch.noise) ** 2).mean())
    with torch.no_grad():
        found = network.draw(batch, torch.Generator().manual_seed(4), 6, 2.0)
        noise = torch.randn(40, 1, 2, 2, generator=torch.Generator().manual_seed(4))
        expected = ddim(guided(net, batch.classes, 5, 2.0), noise, alphas(50), 6)
    assert torch.equal(found, expected)
