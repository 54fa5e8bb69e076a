"""Diffusion: schedule and DDIM against plain loops, and cases with exact solutions."""

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
    DiffusionSource,
    add_noise,
    cosine_alpha_bars,
    ddim,
    ddim_timesteps,
    guided,
    noise_error,
)
from featurewise.training.errors import ExperimentError


def f(t: float, times: int) -> float:
    return math.cos((t / times + 0.008) / 1.008 * math.pi / 2) ** 2


def test_the_schedule_equals_its_formula() -> None:
    found = cosine_alpha_bars(50)
    product = 1.0
    for t in range(50):
        product *= 1 - min(0.999, 1 - f(t + 1, 50) / f(t, 50))
        assert found[t].item() == pytest.approx(product, rel=1e-9)
    for t in range(49):  # only the last β is clamped
        assert found[t].item() == pytest.approx(f(t + 1, 50) / f(0, 50), rel=1e-9)


def test_the_schedule_decreases_from_almost_1_to_almost_0() -> None:
    found = cosine_alpha_bars(1000)
    assert found[0] > 0.9999
    assert 0 < found[-1] < 1e-5
    assert (found[1:] < found[:-1]).all()


def test_add_noise_uses_one_alpha_bar_per_image() -> None:
    images, noise = torch.randn(3, 1, 2, 2), torch.randn(3, 1, 2, 2)
    alpha_bar = torch.tensor([1.0, 0.36, 0.0])
    found = add_noise(images, noise, alpha_bar)
    for n, (signal, sigma) in enumerate([(1.0, 0.0), (0.6, 0.8), (0.0, 1.0)]):
        torch.testing.assert_close(found[n], signal * images[n] + sigma * noise[n])


def test_add_noise_preserves_unit_variance() -> None:
    images, noise = torch.randn(2, 100_000)
    found = add_noise(images[None], noise[None], torch.tensor([0.3]))
    assert found.var().item() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(("times", "steps"), [(10, 10), (10, 4), (1000, 50), (7, 1), (7, 3)])
def test_ddim_timesteps_are_evenly_spaced_and_descend_from_the_last(times: int, steps: int) -> None:
    found = ddim_timesteps(times, steps).tolist()
    assert len(found) == steps
    assert found[0] == times - 1
    gaps = [a - b for a, b in zip(found, [*found[1:], -1], strict=True)]
    assert all(abs(gap - times / steps) < 1 for gap in gaps)


def test_ddim_recovers_an_image_from_its_true_noise() -> None:
    schedule = cosine_alpha_bars(200)
    image = torch.rand(4, 1, 5, 5, dtype=torch.float64) * 2 - 1
    visited: list[int] = []

    def true_noise(x: Tensor, times: Tensor) -> Tensor:
        visited.append(int(times[0]))
        alpha_bar = schedule[times].reshape(-1, 1, 1, 1)
        return (x - alpha_bar.sqrt() * image) / (1 - alpha_bar).sqrt()

    noise = torch.randn_like(image)
    # The first prediction is exact up to rounding, and so are all later ones.
    for bound in (None, 1.0):
        found = ddim(true_noise, noise, schedule, 25, bound)
        torch.testing.assert_close(found, image, rtol=0, atol=1e-9)
    assert visited == 2 * list(range(199, 0, -8))


def test_ddim_with_constant_noise_follows_add_noise() -> None:
    # If the predicted noise is always the same, x equals `add_noise` at every visited timestep.
    schedule = cosine_alpha_bars(100)
    image, noise = torch.randn(2, 3, 3).double(), torch.randn(2, 3, 3).double()
    start = add_noise(image, noise, schedule[[99, 99]])
    path: list[tuple[int, Tensor]] = []

    def constant_noise(x: Tensor, times: Tensor) -> Tensor:
        path.append((int(times[0]), x))
        return noise

    torch.testing.assert_close(ddim(constant_noise, start, schedule, 10, None), image)
    for time, x in path:
        torch.testing.assert_close(x, add_noise(image, noise, schedule[[time, time]]))


def network(x: Tensor, times: Tensor) -> Tensor:
    """A smooth function of x and the timestep."""
    return torch.sin(2 * x) + 0.01 * times.reshape(-1, *(1,) * (x.ndim - 1)).to(x.dtype)


@pytest.mark.parametrize("bound", [None, 0.7])
def test_ddim_equals_a_loop_over_single_numbers(bound: float | None) -> None:
    schedule = cosine_alpha_bars(60)
    noise = torch.randn(3, 4, dtype=torch.float64)
    found = ddim(network, noise, schedule, 6, bound)
    times = [59, 49, 39, 29, 19, 9]
    for n in range(3):
        for c in range(4):
            x = noise[n, c].item()
            for step, time in enumerate(times):
                now = schedule[time].item()
                predicted = math.sin(2 * x) + 0.01 * time
                clean = (x - math.sqrt(1 - now) * predicted) / math.sqrt(now)
                if bound is not None:
                    clean = max(-bound, min(bound, clean))
                    predicted = (x - math.sqrt(now) * clean) / math.sqrt(1 - now)
                following = schedule[times[step + 1]].item() if step < 5 else 1.0
                x = math.sqrt(following) * clean + math.sqrt(1 - following) * predicted
            assert found[n, c].item() == pytest.approx(x, rel=1e-9, abs=1e-9)


def test_more_steps_than_timesteps_are_refused() -> None:
    with pytest.raises(ExperimentError, match="1 to 10 can be visited, not 11"):
        ddim(network, torch.randn(2, 3), cosine_alpha_bars(10), 11)
    with pytest.raises(ExperimentError, match="at least 1 timestep"):
        cosine_alpha_bars(0)


@dataclass(frozen=True)
class Plain:
    """Constant images, whose value depends on the index of the batch."""

    def batch(self, index: int, /) -> tuple[Tensor, Tensor]:
        return torch.full((40, 1, 2, 2), 0.01 * index), torch.arange(40) % 5


def source(seed: int = 0, drop: float = 0.0) -> DiffusionSource:
    return DiffusionSource(Plain(), lambda batch: batch, 50, seed, 5, drop)


def test_a_batch_is_images_plus_noise_at_random_timesteps() -> None:
    found = source().batch(7)
    schedule = cosine_alpha_bars(50)
    for n in range(40):
        alpha_bar = schedule[found.times[n]].item()
        expected = math.sqrt(alpha_bar) * 0.07 + math.sqrt(1 - alpha_bar) * found.noise[n]
        torch.testing.assert_close(found.images[n], expected)
    assert torch.equal(found.classes, torch.arange(40) % 5)
    assert found.times.min() >= 0
    assert found.times.max() < 50
    assert len(found.times.unique()) > 15


def test_noise_depends_only_on_seed_and_index() -> None:
    first = source().batch(3)
    torch.manual_seed(9)
    assert torch.equal(source().batch(3).noise, first.noise)
    for other in (source(seed=1).batch(3), source().batch(4)):
        assert not torch.equal(other.noise, first.noise)
        assert not torch.equal(other.times, first.times)
    assert torch.equal(source(drop=0.5).batch(3).images, first.images)


def test_classes_are_dropped() -> None:
    assert (source(drop=1.0).batch(0).classes == 5).all()
    dropped = torch.cat([source(drop=0.2).batch(i).classes == 5 for i in range(50)])
    assert dropped.float().mean().item() == pytest.approx(0.2, abs=0.03)


class TimeAndClass(nn.Module):
    """Encodes (times, classes): an embedding of the class plus the timestep."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(6, 4)

    def forward(self, condition: tuple[Tensor, Tensor]) -> Tensor:
        times, classes = condition
        return self.table(classes) + times[:, None]


def conditioned() -> Conditioned:
    torch.manual_seed(0)
    generator = Generator(TimeAndClass(), 4)
    net = condition(nn.Conv2d(1, 1, 1), at="", operation=Affine(), generator=generator)
    nn.init.normal_(net.generator.head.weight)
    return net


def test_guided_predictions_equal_the_formula() -> None:
    net, images, times = conditioned(), torch.randn(3, 1, 2, 2), torch.tensor([1, 4, 2])
    classes = torch.tensor([0, 3, 1])
    conditional = net(images, condition=(times, classes))
    unconditional = net(images, condition=(times, torch.full((3,), 5)))
    for weight in (0, 1, 2.5):
        found = guided(net, classes, 5, weight)(images, times)
        expected = unconditional + weight * (conditional - unconditional)
        torch.testing.assert_close(found, expected)


def test_denoiser_is_conditioned_on_time_and_class_and_samples_by_ddim() -> None:
    net = conditioned()
    network, batch = Denoiser(net, 5, 50), source().batch(0)
    expected = net(batch.images, condition=(batch.times, batch.classes))
    assert torch.equal(network(batch), expected)
    loss, _ = noise_error(network, batch)
    torch.testing.assert_close(loss, ((expected - batch.noise) ** 2).mean())
    with torch.no_grad():
        found = network.draw(batch, torch.Generator().manual_seed(4), 6, 2.0)
        noise = torch.randn(40, 1, 2, 2, generator=torch.Generator().manual_seed(4))
        expected = ddim(guided(net, batch.classes, 5, 2.0), noise, cosine_alpha_bars(50), 6)
    assert torch.equal(found, expected)
