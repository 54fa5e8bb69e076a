"""CAVIA for image completion: inner steps against gradients by hand, arms, controls, figure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from featurewise.study.inner_loops import ERROR, ERROR_BEFORE, ERROR_SWAPPED, RELATIVE_ERROR
from featurewise.systems.few_shot.cavia_image import SYSTEM, Config
from featurewise.systems.few_shot.cavia_image.baselines import Kriging
from featurewise.systems.few_shot.cavia_image.experiment import (
    ACCURACY,
    OVER_MEAN,
    OVER_NEAREST,
    REAL,
    data,
    draw,
    evaluate,
)
from featurewise.systems.few_shot.cavia_image.experiment import (
    test_completion as completion_of_test,
)
from featurewise.systems.few_shot.cavia_image.experiment import test_letters as letters_of_test
from featurewise.systems.few_shot.cavia_image.method import build
from featurewise.training.inner import Context, Weights
from featurewise.training.steppers import Episodic

S = replace(SYSTEM.preset("tiny"), tasks=3, test_tasks=12)


def config_of(arm: str, base: Config = S) -> Config:
    return SYSTEM.config(base, arm)


def made(arm: str) -> nn.Module:
    torch.manual_seed(0)
    return build(config_of(arm))


def trainer(config: Config) -> Episodic:
    torch.manual_seed(0)
    return SYSTEM.stepper(build(config), config)


def filmed(network: Context, x: Tensor, phi: Tensor) -> Tensor:
    """Every hidden layer, then γ and β by one linear map of φ, then a ReLU."""
    *hidden, last = (layer for layer in network.net.backbone if isinstance(layer, nn.Linear))
    for layer, numbers in zip(
        hidden, (network.net.generator.weight @ phi).split(2 * S.width), strict=True
    ):
        gamma, beta = numbers.split(S.width)
        x = torch.relu((1 + gamma) * layer(x) + beta)
    return last(x)


def test_three_steps_on_the_context_alone() -> None:
    network, tasks = made("cavia"), data(config_of("cavia"), 0).batch(0)
    assert isinstance(network, Context)
    for row in range(S.tasks):
        phi = torch.zeros(S.context)
        for _ in range(S.inner_steps):
            phi = phi.detach().requires_grad_()
            answers = filmed(network, tasks.support_x[row], phi)
            (answers - tasks.support_y[row]).square().mean().backward()
            phi = phi - S.inner_learning_rate * phi.grad
        torch.testing.assert_close(
            network(tasks)[row], filmed(network, tasks.query_x[row], phi), rtol=1e-4, atol=1e-5
        )


def test_what_each_arm_adapts() -> None:
    tasks = data(config_of("cavia"), 0).batch(0)
    width = config_of("film").width
    sizes = {"cavia": S.context, "concat": S.context, "film": 2 * width * S.depth}
    for name, size in sizes.items():
        network = made(name)
        assert isinstance(network, Context)
        assert network.fit(tasks).shape == (3, size)
    plain = made("unadapted")
    assert isinstance(plain, Weights)
    assert torch.equal(plain.fit(tasks), plain.initial(tasks))
    assert isinstance(made("kriging"), Kriging)
    sites = {name: list(made(name).net.layout.names) for name in sizes}
    assert sites == {"cavia": ["0", "2"], "concat": ["0"], "film": ["0", "2"]}


def test_arms_differ_in_what_is_given() -> None:
    batches = {n: data(config_of(n), 1).batch(0) for n in ("cavia", "ordered", "shuffled")}
    plain = batches["cavia"]
    assert all(torch.equal(each.query_y, plain.query_y) for each in batches.values())
    assert torch.equal(batches["ordered"].support_x, plain.query_x[:, : S.shots])
    assert torch.equal(batches["shuffled"].support_y, plain.support_y.roll(1, 0))


def test_arms_have_the_same_number_of_parameters() -> None:
    counts = [
        sum(p.numel() for p in build(SYSTEM.config("small", arm)).parameters())
        for arm in ("cavia", "concat", "film", "ordered", "shuffled")
    ]
    assert max(counts) - min(counts) < 0.01 * max(counts)


@torch.no_grad()
def test_kriging_is_the_mean_of_a_gaussian_process() -> None:
    """Against the sum over given pixels, image by image; with no noise it interpolates."""
    tasks, kriging = data(config_of("cavia"), 0).batch(0), Kriging()
    length, noise, mean = kriging.log_length.exp(), kriging.log_noise.exp(), kriging.mean

    def covariance(one: Tensor, other: Tensor) -> Tensor:
        distance = 3**0.5 * (one - other).norm() / length
        return (1 + distance) * torch.exp(-distance)

    predicted = kriging(tasks)
    for row in range(2):
        given = tasks.support_x[row]
        gram = torch.stack([torch.stack([covariance(a, b) for b in given]) for a in given])
        weights = torch.linalg.inv(gram + noise * torch.eye(len(given)))
        weights = weights @ (tasks.support_y[row] - mean)
        for pixel in (0, 100, 255):
            row_of = torch.stack([covariance(tasks.query_x[row, pixel], b) for b in given])
            expected = mean + row_of @ weights
            torch.testing.assert_close(predicted[row, pixel], expected, rtol=1e-3, atol=1e-4)
    kriging.log_noise.fill_(-20.0)
    at = torch.cdist(tasks.support_x, tasks.query_x).argmin(2, keepdim=True)
    torch.testing.assert_close(kriging(tasks).gather(1, at), tasks.support_y, rtol=1e-3, atol=1e-3)


def test_it_learns_and_the_control_does_not() -> None:
    s, found = replace(S, steps=300, tasks=8, test_tasks=60, learning_rate=1e-2), {}
    for name in ("cavia", "shuffled"):
        config = config_of(name, s)
        trained = trainer(config)
        source = data(config, 0)
        for index in range(s.steps):
            trained.step(source.batch(index))
        found[name] = evaluate(trained, config)
    assert found["cavia"].number(RELATIVE_ERROR) < 0.75
    assert found["cavia"].number(ERROR_SWAPPED) > found["cavia"].number(ERROR_BEFORE)
    assert found["shuffled"].number(ERROR) > 1.4 * found["cavia"].number(ERROR)
    tasks = completion_of_test(s)
    for metric, guess in ((OVER_MEAN, tasks.mean()), (OVER_NEAREST, tasks.nearest())):
        floor = ((guess - tasks.query_y) ** 2).mean().item()
        for each in found.values():  # of an image's own pixels, whatever the network is given
            assert each.number(ERROR) == pytest.approx(each.number(metric) * floor)


def test_letters_are_counted_image_by_image() -> None:
    """Of the predictions and of the true images, by the same classifier."""
    config = config_of("kriging")
    trained = trainer(config)
    letters, tasks = letters_of_test(config), completion_of_test(config)
    classifier = config.splits.classifier(config.classifier_steps)
    with trained.evaluating() as network:
        images = {ACCURACY: network(tasks), REAL: tasks.query_y}
    measured = evaluate(trained, config)
    for metric, ink in images.items():
        right = sum(
            int(classifier.letters(image.clamp(0, 1).view(1, 1, 16, 16)).argmax()) == int(label)
            for image, label in zip(ink, letters.labels, strict=True)
        )
        assert measured.number(metric) == pytest.approx(right / S.test_tasks)


def test_test_letters_are_of_the_test_typefaces() -> None:
    test, train = S.splits.test.images.flatten(1), S.splits.train.images.flatten(1)
    for image in letters_of_test(S).images.flatten(1):
        assert (test == image).all(1).any()
        assert not (train == image).all(1).any()


def test_the_sheet_ends_in_the_truth() -> None:
    page = draw(trainer(S), S)
    pixels = torch.from_numpy(np.array(page)).float() / 255
    left, cell = page.width - 12 * 34 - 2, 34
    bottom = pixels[3 * cell + 2 : 4 * cell : 2, left + 2 : left + cell : 2]
    truth = completion_of_test(S).query_y[0].view(16, 16)
    torch.testing.assert_close(1 - bottom, truth, rtol=0, atol=0.003)
    top = pixels[2:cell:2, left + 2 : left + cell : 2]
    given = ((top * 255).round() != 128).sum()
    assert 0 < given <= S.shots
