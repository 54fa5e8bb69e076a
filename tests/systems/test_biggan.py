"""BigGAN: its equations against loops, arms that differ as they say, metrics by definition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import featurewise as fw
from featurewise.analysis.frechet import frechet_distance
from featurewise.systems.generation.biggan import SYSTEM, experiment
from featurewise.systems.generation.biggan.experiment import draw, evaluate, style_kept, swapped
from featurewise.systems.generation.biggan.method import (
    Config,
    Discriminator,
    Generator,
    discriminator_loss,
    generator_loss,
    stepper,
)
from featurewise.systems.generation.biggan.networks import SpectralNorm, spectral
from featurewise.training.errors import ExperimentError
from featurewise.training.steppers import Adversarial
from featurewise.worlds.glyphs.gan import GanBatch
from featurewise.worlds.glyphs.sheets import diversity, sheet

TINY = SYSTEM.preset("tiny")
ARMS = [arm.name for arm in SYSTEM.arms]


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path_factory.getbasetemp() / "biggan"))


def networks(arm: str) -> tuple[Generator, Discriminator]:
    torch.manual_seed(0)
    network = SYSTEM.build(SYSTEM.config("tiny", arm))
    generator, discriminator = network["generator"], network["discriminator"]
    assert isinstance(generator, Generator) and isinstance(discriminator, Discriminator)
    return generator.eval(), discriminator.eval()


def batch(count: int = 6) -> GanBatch:
    rng = torch.Generator().manual_seed(1)
    return GanBatch(
        torch.rand(count, 1, 16, 16, generator=rng),
        torch.arange(count) % 4,
        torch.randn(count, TINY.noise_size, generator=rng),
    )


def scale(weight: Tensor) -> float:
    return float(np.linalg.svd(weight.detach().flatten(1).double().numpy())[1][0])


# Spectral norms


def test_a_spectral_norm_divides_by_the_largest_singular_value() -> None:
    torch.manual_seed(3)
    weight = torch.randn(6, 4, 3, 3)
    norm = SpectralNorm(weight)
    for _ in range(200):
        norm(weight.requires_grad_())
    expected = weight.detach() / scale(weight)
    torch.testing.assert_close(norm(weight).detach(), expected, rtol=1e-4, atol=1e-5)


def test_passes_without_gradients_or_in_eval_mode_do_not_iterate() -> None:
    norm = SpectralNorm(torch.randn(6, 4))
    other = torch.randn(6, 4, requires_grad=True)
    before = norm.left.clone()
    with torch.no_grad():
        norm(other)
    norm.eval()(other)
    assert torch.equal(norm.left, before)
    norm.train()(other)
    assert not torch.equal(norm.left, before)


def test_the_gradient_of_a_spectral_norm_is_that_of_its_formula() -> None:
    """Left and right are constants: the gradient of W / (u' W v)."""
    norm = SpectralNorm(torch.randn(5, 3, dtype=torch.float64)).double().eval()
    assert torch.autograd.gradcheck(norm, torch.randn(5, 3, dtype=torch.float64).requires_grad_())


def test_weights_start_orthogonal() -> None:
    torch.manual_seed(0)
    weight = spectral(nn.Linear(8, 5)).weight.detach()
    torch.testing.assert_close(weight @ weight.T, torch.eye(5), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("arm", ARMS)
def test_all_matrices_but_the_class_embedding_have_a_spectral_norm_of_one(arm: str) -> None:
    for network in networks(arm):
        plain = [
            name
            for name, each in network.named_modules()
            if isinstance(each, nn.Linear | nn.Conv2d | nn.Embedding)
            and not nn.utils.parametrize.is_parametrized(each)
        ]
        assert plain == (["embed"] if isinstance(network, Generator) else [])
        for each in network.modules():
            if nn.utils.parametrize.is_parametrized(each):
                weight = each.weight
                assert isinstance(weight, Tensor)
                assert scale(weight) == pytest.approx(1, abs=0.02)


# Gains and biases


@pytest.mark.parametrize("arm", ["linear", "mlp", "shared"])
@torch.no_grad()
def test_every_norm_is_scaled_and_shifted_by_its_own_chunk_and_the_class(arm: str) -> None:
    """h <- (1 + W c_k) BatchNorm(h) + V c_k, in loops over samples and features."""
    generator, _ = networks(arm)
    trunk = generator.trunk
    assert isinstance(trunk, fw.Conditioned)
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    norms = {n: m for n, m in trunk.backbone.named_modules() if "norm_" in n}
    assert set(norms) == {site.name for site in trunk.layout} and len(norms) == 4
    for name, norm in norms.items():
        assert isinstance(norm, nn.BatchNorm2d) and norm.weight is None
        norm.running_mean.copy_(torch.randn(norm.num_features))  # type: ignore[union-attr]
        norm.register_forward_hook(
            lambda _, args, out, name=name: seen.update({name: (args[0], out)})
        )
    generator(batch())
    chunk, e = TINY.chunk_size, generator.embed(batch().labels)
    for name, (x, out) in seen.items():
        norm, k = norms[name], int(name.split(".")[1])
        pair = trunk.generator.maps[name.replace(".", "_")]
        for i in range(len(e)):
            own = batch().noise[i, (k + 1) * chunk : (k + 2) * chunk]
            c = e[i] if arm == "shared" else torch.cat((e[i], own))
            gain, bias = pair["gain"](c), pair["bias"](c)
            for f in range(len(gain)):
                plain = (x[i, f] - norm.running_mean[f]) / (norm.running_var[f] + norm.eps).sqrt()
                expected = (1 + gain[f]) * plain + bias[f]
                torch.testing.assert_close(out[i, f], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_gains_are_linear_in_the_condition_without_a_bias_and_those_of_mlp_are_not() -> None:
    for arm in ("linear", "mlp"):
        generator, _ = networks(arm)
        made = generator.trunk.generator
        assert isinstance(made, nn.Module)
        one, other = torch.randn(2, 3, 2, TINY.embedding_size + TINY.chunk_size)
        is_linear = torch.allclose(made(one + 2 * other), made(one) + 2 * made(other), atol=1e-5)
        assert is_linear is (arm == "linear")
        assert torch.equal(made(0 * one), torch.zeros_like(made(one))) is (arm == "linear")


@torch.no_grad()
def test_chunks_enter_where_the_arm_says() -> None:
    """What a change of the last chunk reaches: its block alone, or the first layer."""
    changed = batch()
    changed = replace(changed, noise=changed.noise.clone())
    changed.noise[:, -TINY.chunk_size :] += 1
    for arm in ARMS:
        generator, _ = networks(arm)
        firsts: list[Tensor] = []
        first = next(m for n, m in generator.named_modules() if n.endswith("first"))
        first.register_forward_hook(lambda _, args, out, firsts=firsts: firsts.append(out))
        one, other = generator(batch()), generator(changed)
        assert not torch.equal(one, other)
        assert torch.equal(*firsts) is (arm in ("linear", "mlp", "shuffled"))


@pytest.mark.parametrize("arm", ARMS)
@torch.no_grad()
def test_images_depend_on_class_and_noise(arm: str) -> None:
    generator, discriminator = networks(arm)
    for changed in (
        replace(batch(), labels=(batch().labels + 1) % 4),
        replace(batch(), noise=batch().noise.roll(1, 0)),
    ):
        assert not torch.equal(generator(batch()), generator(changed))
    assert not torch.equal(
        discriminator(batch()), discriminator(replace(batch(), labels=(batch().labels + 1) % 4))
    )
    assert isinstance(generator.trunk, fw.Conditioned) is (arm != "input")


# Losses and training


def test_the_discriminator_adds_the_projection_on_the_class() -> None:
    _, discriminator = networks("linear")
    net, features = discriminator.net, []
    net.linear.register_forward_hook(lambda _, args, out: features.append(args[0]))
    logits = discriminator(batch()).detach()
    for i, label in enumerate(batch().labels):
        h = features[0][i].detach()
        expected = net.linear.weight[0] @ h + net.linear.bias[0] + net.embed.weight[label] @ h
        assert logits[i].item() == pytest.approx(expected.item(), abs=1e-4)


def test_losses_are_hinges() -> None:
    generator, discriminator = networks("linear")
    with torch.no_grad():
        real = discriminator(batch())
        fake = discriminator(replace(batch(), images=generator(batch())))
    # Logits beyond the hinge, and within it.
    net = discriminator.net.linear
    for shift in (0.0, 3.0, -3.0):
        with torch.no_grad():
            net.bias.add_(shift)
        terms = [
            max(0.0, 1 - r - shift) + max(0.0, 1 + f + shift)
            for r, f in zip(real.tolist(), fake.tolist(), strict=True)
        ]
        found = discriminator_loss(generator, discriminator, batch())[0].item()
        assert found == pytest.approx(sum(terms) / len(terms), abs=1e-4)
        ours = generator_loss(generator, discriminator, batch())[0].item()
        assert ours == pytest.approx(-float(fake.mean()) - shift, abs=1e-4)
        with torch.no_grad():
            net.bias.sub_(shift)


def test_each_loss_reaches_its_own_network() -> None:
    generator, discriminator = networks("linear")
    discriminator_loss(generator, discriminator, batch())[0].backward()
    assert all(weight.grad is None for weight in generator.parameters())
    assert all(weight.grad is not None for weight in discriminator.parameters())
    generator_loss(generator, discriminator, batch())[0].backward()
    assert all(weight.grad is not None for weight in generator.parameters())


def untrained(config: Config = TINY) -> Adversarial:
    torch.manual_seed(0)
    return stepper(SYSTEM.build(config), config)


def test_two_learning_rates_and_an_average_of_the_generator() -> None:
    ours, theirs = untrained().learners
    rates = [each.optimizer.param_groups[0]["lr"] for each in (ours, theirs)]
    assert rates == [TINY.learning_rate, TINY.discriminator_learning_rate]
    paper = SYSTEM.preset("paper")
    assert (paper.learning_rate, paper.discriminator_learning_rate) == (1e-4, 4e-4)
    assert rates[1] / rates[0] == pytest.approx(4)
    assert all(each.optimizer.param_groups[0]["betas"] == (0.0, 0.999) for each in (ours, theirs))
    assert ours.average is not None and theirs.average is None


def test_statistics_of_the_average_leave_spectral_norms_as_they_are() -> None:
    trained = untrained()
    source = SYSTEM.data(TINY, 0)
    trained.step(source.batch(0))
    state = {
        f"{name}.{key}": value.clone()
        for name, network in trained.networks.items()
        for key, value in network.state_dict().items()
    }
    trained.calibrate([source.batch(0), source.batch(1)])
    for name, network in trained.networks.items():
        for key, value in network.state_dict().items():
            assert torch.equal(value, state[f"{name}.{key}"]), key


def test_only_the_shuffled_arm_permutes_labels_and_changes_nothing_else() -> None:
    batches = {arm: SYSTEM.data(SYSTEM.config("tiny", arm), 0).batch(2) for arm in ARMS}
    truth = batches["linear"]
    for arm, found in batches.items():
        assert torch.equal(found.images, truth.images)
        assert torch.equal(found.noise, truth.noise)
        assert torch.equal(found.labels, truth.labels) is (arm != "shuffled")
        assert torch.equal(found.labels.sort().values, truth.labels.sort().values)


@pytest.mark.parametrize("size", [4, 12, 20])
def test_an_image_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(ExperimentError, match="image_size must be 4 times"):
        Config(steps=1, image_size=size)


# Evaluation


def test_the_style_kept_is_a_correlation_of_valid_letters_of_one_noise() -> None:
    rng = torch.Generator().manual_seed(5)
    style = torch.randn(40, 3, 2, generator=rng) + 2 * torch.randn(40, 1, 2, generator=rng)
    valid = torch.rand(40, 3, generator=rng) < 0.8
    for shift in (0, 1):
        found = style_kept(style, valid, shift)
        for a in range(2):
            values = []
            for one, other in ((0, 1), (0, 2), (1, 2)):
                rows = [
                    (float(style[z, one, a]), float(style[(z - shift) % 40, other, a]))
                    for z in range(40)
                    if valid[z, one] and valid[(z - shift) % 40, other]
                ]
                values.append(np.corrcoef(np.array(rows).T)[0, 1])
            assert float(found[a]) == pytest.approx(np.mean(values), abs=1e-5)
    assert float(style_kept(style, valid).mean()) > float(style_kept(style, valid, 1).mean()) + 0.2


def test_no_style_is_kept_where_nothing_varies_or_too_little_is_valid() -> None:
    constant = torch.ones(40, 3, 2)
    assert torch.equal(style_kept(constant, torch.ones(40, 3, dtype=torch.bool)), torch.zeros(2))
    few = torch.zeros(40, 3, dtype=torch.bool)
    few[: experiment.FEWEST - 1] = True
    varied = torch.arange(40.0)[:, None, None].expand(40, 3, 2)
    assert torch.equal(style_kept(varied, few), torch.zeros(2))
    few[experiment.FEWEST - 1] = True
    assert style_kept(varied, few).tolist() == pytest.approx([1, 1])


@torch.no_grad()
def test_swapped_images_have_one_noise_in_a_row_and_one_class_in_a_column() -> None:
    trained = untrained()
    images = swapped(trained, TINY, 3)
    noise = torch.randn(3, TINY.noise_size, generator=torch.Generator().manual_seed(0))
    with trained.evaluating() as network:
        for z in range(3):
            for k in range(4):
                one = GanBatch(torch.zeros(1, 1, 16, 16), torch.tensor([k]), noise[z : z + 1])
                torch.testing.assert_close(network(one)[0], images[z, k])


def test_evaluation_is_its_definitions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples are replaced by test letters: row z is typeface z, and one class is wrong."""
    splits = TINY.splits
    test = splits.test
    real = test.ink.view(-1, 4, 1, 16, 16)
    rows = torch.arange(24) % len(real)
    images = real[rows].clone()
    images[:, 3] = real[rows, 0]  # A in place of O
    monkeypatch.setattr(experiment, "swapped", lambda *_: images)
    monkeypatch.setattr(experiment, "FEWEST", 2)  # there are few bundled typefaces
    config = replace(TINY, samples_per_class=24)
    measured = evaluate(untrained(), config)
    classifier = splits.classifier(TINY.classifier_steps)
    flat, labels = images.flatten(0, 1), torch.arange(4).repeat(24)
    with torch.no_grad():
        right = classifier.letters(flat).argmax(1) == labels
        style = classifier.attributes(flat).view(24, 4, 4)
        features, truth = (classifier.features(each) for each in (flat, test.ink))
    assert measured.accuracy is not None
    assert (measured.accuracy.correct, measured.accuracy.total) == (int(right.sum()), 96)
    kept = style_kept(style, right.view(24, 4))
    assert measured.number(experiment.STYLE) == pytest.approx(float(kept.mean()), abs=1e-4)
    for i, metric in enumerate(experiment.STYLES.values()):
        assert measured.number(metric) == pytest.approx(float(kept[i]), abs=1e-4)
    other = style_kept(style, right.view(24, 4), 1)
    assert measured.number(experiment.OTHER_WEIGHT) == pytest.approx(float(other[0]), abs=1e-4)
    with torch.no_grad():
        usable = (classifier.letters(test.ink).argmax(1) == test.labels).view(-1, 4)
        seen = classifier.attributes(test.ink).view(-1, 4, 4)
        trained_on = classifier.features(splits.train.ink)
    limit = float(style_kept(seen, usable).mean())
    assert limit != 0
    assert measured.number(experiment.REAL_STYLE) == pytest.approx(limit, abs=1e-4)
    for metric, those in ((experiment.FRECHET, features), (experiment.REAL_FRECHET, trained_on)):
        distance = frechet_distance(those, truth)
        assert measured.number(metric) == pytest.approx(distance, rel=1e-3)
    expected = diversity(flat, labels) / diversity(test.ink, test.labels)
    assert measured.number(experiment.DIVERSITY) == pytest.approx(expected)


def test_the_sheet_has_a_row_for_each_noise() -> None:
    trained = untrained()
    page = draw(trained, TINY)
    expected = sheet(swapped(trained, TINY, experiment.ROWS), zoom=3)
    assert page.tobytes() == expected.tobytes()
