import dataclasses
from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from featurewise.training import hardware
from featurewise.training.batch import to_device
from featurewise.training.errors import ExperimentError
from featurewise.training.optim import cosine
from featurewise.training.steppers import Stepper, Supervised


def objective(network, batch):
    x, y = batch
    loss = (network(x).float() - y).square().mean()
    return loss, {"error": loss.sqrt()}


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(16, 3, generator=generator), torch.randn(16, 1, generator=generator)


def build(**options):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    return Supervised(network, objective, torch.optim.SGD(network.parameters(), 0.1), **options)


def weights(stepper):
    return [p.detach().clone() for p in stepper.network.parameters()]


def test_a_step_equals_gradient_descent_written_out():
    stepper: Stepper = build(schedule=cosine(10, warmup=1), clip=0.05)
    twin = build().network
    metrics = stepper.step(batch())
    loss, _ = objective(twin, batch())
    gradients = torch.autograd.grad(loss, list(twin.parameters()))
    norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
    factor = 0.05 / norm * 0.1 * 0.5
    for parameter, old, gradient in zip(
        weights(stepper), twin.parameters(), gradients, strict=True
    ):
        torch.testing.assert_close(parameter, old - factor * gradient, atol=1e-6, rtol=1e-4)
    assert metrics["lr"] == pytest.approx(0.05)
    assert float(metrics["loss"]) == pytest.approx(loss.item())
    assert not metrics["loss"].requires_grad
    assert set(metrics) == {"loss", "error", "lr"}


def test_the_loss_decreases():
    stepper = build()
    x = batch()[0]
    losses = [float(stepper.step((x, x.sum(1, keepdim=True)))["loss"]) for _ in range(50)]
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize("average", [None, 0.9])
def test_a_restored_stepper_continues_exactly(average):
    one, two = (build(average=average, schedule=cosine(20)) for _ in range(2))
    for seed in range(5):
        one.step(batch(seed))
    two.load_state(one.state())
    for seed in range(5, 9):
        assert one.step(batch(seed)) == two.step(batch(seed))
    assert all(map(torch.equal, weights(one), weights(two)))
    with one.evaluating() as a, two.evaluating() as b:
        assert torch.equal(a(batch()[0]), b(batch()[0]))


def test_evaluating_restores_weights_modes_and_gradients():
    stepper = build(average=0.5)
    stepper.network[1].eval()  # a frozen module
    for seed in range(3):
        stepper.step(batch(seed))
    before, modes = weights(stepper), [m.training for m in stepper.network.modules()]
    with stepper.evaluating() as network:
        assert not any(m.training for m in network.modules())
        assert not network(batch()[0]).requires_grad
        assert not torch.equal(network[0].weight, before[0])
    assert all(map(torch.equal, weights(stepper), before))
    assert [m.training for m in stepper.network.modules()] == modes
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("computed", [True, False])
def test_bfloat16_where_the_device_computes_it(computed, monkeypatch):
    monkeypatch.setattr(hardware, "computes_bfloat16", lambda device_type: computed)
    stepper = build(bfloat16=True)
    dtypes = []
    stepper.network[2].register_forward_hook(lambda module, args, out: dtypes.append(out.dtype))
    stepper.step(batch())
    with stepper.evaluating() as network:
        network(batch()[0])
    assert dtypes == [torch.bfloat16 if computed else torch.float32] * 2
    assert stepper.network[2].weight.dtype == torch.float32


def test_a_state_of_another_stepper_is_refused():
    with pytest.raises(ExperimentError, match="another network or optimizer"):
        other = nn.Linear(2, 1)
        build().load_state(
            Supervised(other, objective, torch.optim.SGD(other.parameters(), 0.1)).state()
        )
    with pytest.raises(
        ExperimentError, match="the stepper has a weight average, the state has none"
    ):
        build(average=0.9).load_state(build().state())


def test_to_device_keeps_container_types():
    @dataclass(frozen=True)
    class Record:
        x: torch.Tensor
        name: str

    pair = namedtuple("pair", "x y")
    meta = torch.device("meta")
    x = torch.ones(2)
    batch = {"a": x, "b": (x, [x]), "c": pair(x, 1), "d": Record(x, "n"), "e": "text", "f": None}
    found = to_device(batch, meta)
    assert found["a"].device == found["b"][0].device == found["b"][1][0].device == meta
    assert isinstance(found["c"], pair)
    assert found["c"].x.device == meta
    assert found["d"].x.device == meta
    assert dataclasses.replace(found["d"], x=x) == batch["d"]
    assert (found["e"], found["f"]) == ("text", None)
    assert x.device.type == "cpu"
