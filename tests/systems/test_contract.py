"""What every system promises, found by file name: a new one cannot stay out of this.

Each arm of each system is built and trained at its tiny preset; properties are checked one by one,
so that a run's report counts properties times arms.
"""

from __future__ import annotations

import copy
import importlib
import json
import math
import pkgutil
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import featurewise.systems
from featurewise.lab import card
from featurewise.lab.randomness import seed_everything
from featurewise.lab.record import PRESETS, Arm, System
from featurewise.lab.results import Measurement, Proportion, Results, Trial
from featurewise.lab.run import describe_run
from featurewise.lab.steppers import Stepper
from featurewise.worlds.clevr import Batch, build_pool
from featurewise.worlds.clevr import cache as clevr_cache

KEYS = Path(__file__).with_name("state_keys.json")


def systems() -> dict[str, System[Any]]:
    """Every system of the library, by the name of its file or folder."""
    found = {}
    for root in featurewise.systems.__path__:
        for family in pkgutil.iter_modules([root]):
            for each in pkgutil.iter_modules([str(Path(root, family.name))]):
                name = f"featurewise.systems.{family.name}.{each.name}"
                found[each.name] = importlib.import_module(name).SYSTEM
    return found


SYSTEMS = systems()
ARMS = [(name, arm.name) for name, system in SYSTEMS.items() for arm in system.arms]
CLAIMS = [(name, i) for name, system in SYSTEMS.items() for i in range(len(system.claims))]

each_arm = pytest.mark.parametrize(("name", "arm"), ARMS, ids=["-".join(pair) for pair in ARMS])
each_system = pytest.mark.parametrize("name", SYSTEMS)


@pytest.fixture(scope="module", autouse=True)
def _drawn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache filled in this process: to start another takes longer than to draw a few pictures."""

    def here(*args: Any, workers: int, **kwargs: Any) -> Path:
        return build_pool(*args, workers=0, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATUREWISE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(clevr_cache, "build_pool", here)
        yield


@dataclass
class Trained:
    """An arm after the tiny run, weight decay off: only a gradient can have moved a weight."""

    system: System[Any]
    arm: Arm
    stepper: Stepper
    before: dict[str, Tensor]
    losses: list[float]

    @property
    def settings(self) -> Any:
        return self.system.preset("tiny")

    def build(self) -> nn.Module:
        return self.system.build(self.settings, self.arm)

    def batch(self) -> Any:
        return self.system.data(self.settings, self.arm, 0).batch(7)


@cache
def trained(name: str, arm: str) -> Trained:
    system = SYSTEMS[name]
    stepper = begun(system, system.arm(arm))
    before = {key: value.clone() for key, value in weights(stepper).items()}
    metrics = steps(stepper, system, system.arm(arm), system.preset("tiny").steps)
    losses = [float(each["loss"]) for each in metrics if "loss" in each]
    return Trained(system, system.arm(arm), stepper, before, losses)


def begun(system: System[Any], arm: Arm, seed: int = 0) -> Stepper:
    seed_everything(seed)
    settings = system.preset("tiny")
    stepper = system.stepper(system.build(settings, arm), settings, arm)
    for optimizer in vars(stepper).values():
        if isinstance(optimizer, torch.optim.Optimizer):
            for group in optimizer.param_groups:
                group["weight_decay"] = 0.0
    return stepper


def steps(stepper: Stepper, system: System[Any], arm: Arm, count: int) -> list[Any]:
    data = system.data(system.preset("tiny"), arm, 0)
    return [stepper.step(data.batch(i)) for i in range(count)]


def weights(stepper: Stepper) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": value.detach()
        for name, network in stepper.networks.items()
        for key, value in network.named_parameters()
    }


def evaluated(name: str, arm: str) -> tuple[Trained, nn.Module]:
    """A trained arm and a copy of its network in eval mode."""
    found = trained(name, arm)
    return found, copy.deepcopy(next(iter(found.stepper.networks.values()))).eval()


@torch.no_grad()
def outputs(network: nn.Module, batch: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(network(batch)) if isinstance(leaf, Tensor)]


def cut(batch: Any, wanted: range) -> Any:
    """Only some of the questions of a batch; pictures stay."""
    if not isinstance(batch, Batch):
        pytest.skip(f"no way is known to cut a {type(batch).__name__}")
    names = ("image_index", "questions", "lengths", "answers", "types")
    rows = {name: getattr(batch, name)[wanted.start : wanted.stop] for name in names}
    return replace(batch, **rows)


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_there_are_systems() -> None:
    assert SYSTEMS
    assert all(system.name == name for name, system in SYSTEMS.items())


# Training


@each_arm
def test_training_reaches_every_parameter(name: str, arm: str) -> None:
    found = trained(name, arm)
    still = [k for k, v in weights(found.stepper).items() if torch.equal(v, found.before[k])]
    assert not still, f"never moved: {still}"
    assert all(value.isfinite().all() for value in weights(found.stepper).values())


@each_arm
def test_the_loss_falls(name: str, arm: str) -> None:
    losses = trained(name, arm).losses
    if not losses:
        pytest.skip("this stepper reports no loss")
    third = len(losses) // 3
    assert all(map(math.isfinite, losses))
    assert sum(losses[-third:]) < sum(losses[:third])


@each_arm
def test_every_parameter_has_a_finite_gradient(name: str, arm: str) -> None:
    stepper = begun(SYSTEMS[name], SYSTEMS[name].arm(arm))
    steps(stepper, SYSTEMS[name], SYSTEMS[name].arm(arm), 1)
    for network in stepper.networks.values():
        for key, parameter in network.named_parameters():
            assert parameter.grad is not None, f"{key} has no gradient"
            assert parameter.grad.isfinite().all(), f"the gradient of {key} is not finite"


@each_arm
def test_one_seed_gives_one_result(name: str, arm: str) -> None:
    system = SYSTEMS[name]
    ends = []
    for seed in (3, 3, 4):
        stepper = begun(system, system.arm(arm), seed)
        steps(stepper, system, system.arm(arm), 3)
        ends.append(list(weights(stepper).values()))
    assert equal(ends[0], ends[1])
    assert not equal(ends[0], ends[2])


@each_arm
def test_a_stepper_goes_on_bit_for_bit(name: str, arm: str) -> None:
    system = SYSTEMS[name]
    data = system.data(system.preset("tiny"), system.arm(arm), 0)
    one = begun(system, system.arm(arm))
    for i in range(2):
        one.step(data.batch(i))
    other = begun(system, system.arm(arm), seed=9)
    other.load_state(copy.deepcopy(one.state()))
    for stepper in (one, other):
        torch.manual_seed(0)
        stepper.step(data.batch(2))
    assert equal(list(weights(one).values()), list(weights(other).values()))


@each_arm
def test_a_batch_depends_on_its_index_alone(name: str, arm: str) -> None:
    system = SYSTEMS[name]
    data = system.data(system.preset("tiny"), system.arm(arm), 5)
    again = system.data(system.preset("tiny"), system.arm(arm), 5)
    first = [tensors(data.batch(i)) for i in (0, 1, 2)]
    assert all(equal(first[i], tensors(again.batch(i))) for i in (2, 0, 1))
    other = system.data(system.preset("tiny"), system.arm(arm), 6)
    assert not all(equal_shapes(first[i], tensors(other.batch(i))) for i in (0, 1, 2))


def tensors(batch: Any) -> list[Tensor]:
    values = vars(batch) if hasattr(batch, "__dict__") else batch
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def equal_shapes(one: list[Tensor], other: list[Tensor]) -> bool:
    """Equal, where tensors of another shape count as unequal."""
    return len(one) == len(other) and all(map(torch.equal, one, other))


# The network


@each_arm
def test_evaluation_is_deterministic(name: str, arm: str) -> None:
    found, network = evaluated(name, arm)
    assert equal(outputs(network, found.batch()), outputs(network, found.batch()))
    before = modes(found.stepper)
    measured = [found.system.evaluate(found.stepper, found.settings, found.arm) for _ in range(2)]
    assert measured[0] == measured[1]
    assert modes(found.stepper) == before, "evaluation changes what is in train or eval mode"


def modes(stepper: Stepper) -> list[bool]:
    return [m.training for network in stepper.networks.values() for m in network.modules()]


@each_arm
@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_small_batch_gives_the_rows_of_a_large_one(name: str, arm: str, count: int) -> None:
    found, network = evaluated(name, arm)
    whole = found.batch()
    rows = range(3, 3 + count)
    all_of_it, some = outputs(network, whole)[0], outputs(network, cut(whole, rows))[0]
    assert some.isfinite().all()
    assert len(some) == count
    torch.testing.assert_close(some, all_of_it[rows.start : rows.stop], rtol=1e-5, atol=1e-5)


@each_arm
def test_bfloat16_autocast_is_finite_and_near(name: str, arm: str) -> None:
    found, network = evaluated(name, arm)
    exact = outputs(network, found.batch())
    with torch.autocast("cpu", torch.bfloat16):
        rough = outputs(network, found.batch())
    for one, other in zip(exact, rough, strict=True):
        assert other.isfinite().all()
        assert (one - other).abs().max() <= 0.05 * one.abs().max()


@each_arm
def test_channels_last_gives_the_same(name: str, arm: str) -> None:
    found, network = evaluated(name, arm)
    results = [
        outputs(copy.deepcopy(network).to(memory_format=form), found.batch())
        for form in (torch.contiguous_format, torch.channels_last)
    ]
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@each_arm
def test_a_deep_copy_gives_the_same_and_is_apart(name: str, arm: str) -> None:
    found, network = evaluated(name, arm)
    other = copy.deepcopy(network)
    before = outputs(network, found.batch())
    assert equal(before, outputs(other, found.batch()))
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    assert equal(before, outputs(network, found.batch()))


# Weights on disk


@each_arm
def test_weights_survive_a_file_bit_for_bit(name: str, arm: str) -> None:
    found, network = evaluated(name, arm)
    saved = {key: value.contiguous() for key, value in network.state_dict().items()}
    file = safetensors.torch.save(saved)
    other = found.build().eval()
    other.load_state_dict(safetensors.torch.load(file))
    assert equal(list(network.state_dict().values()), list(other.state_dict().values()))
    assert equal(outputs(network, found.batch()), outputs(other, found.batch()))
    again = {key: value.contiguous() for key, value in other.state_dict().items()}
    assert safetensors.torch.save(again) == file


@each_arm
def test_names_and_shapes_of_weights_are_a_contract(name: str, arm: str) -> None:
    """Trained weights are known by these names; a change here makes every file useless."""
    pinned = json.loads(KEYS.read_text()).get(name, {}).get(arm)
    state = trained(name, arm).build().state_dict()
    shapes = {key: list(value.shape) for key, value in state.items()}
    assert shapes == pinned, f"{KEYS.name} has other weights for {name}, {arm}: {shapes}"


@each_arm
def test_a_network_is_built_without_memory(name: str, arm: str) -> None:
    """On the meta device, where nothing is allocated, a network has the same weights."""
    found = trained(name, arm)
    with torch.device("meta"):
        network = found.build()
    assert all(value.is_meta for value in network.parameters())
    assert network.state_dict().keys() == found.build().state_dict().keys()


@each_arm
@pytest.mark.parametrize("wrong", ["missing", "extra", "wider"])
def test_weights_of_another_network_are_refused(name: str, arm: str, wrong: str) -> None:
    network = trained(name, arm).build()
    state = dict(network.state_dict())
    key, value = next((k, v) for k, v in reversed(state.items()) if v.ndim)
    if wrong == "missing":
        del state[key]
    elif wrong == "extra":
        state[f"{key}_more"] = value
    else:
        state[key] = torch.cat((value, value))
    with pytest.raises(RuntimeError, match=key.replace(".", r"\.")):
        network.load_state_dict(state)


# The record


@each_system
def test_settings_survive_json(name: str) -> None:
    system = SYSTEMS[name]
    assert set(PRESETS) <= system.presets.keys()
    for preset, settings in system.presets.items():
        run = describe_run(system, preset=preset)
        assert run.typed(system) == (settings, system.arms[0])


@each_system
@pytest.mark.parametrize("measured", [False, True], ids=["unmeasured", "measured"])
def test_the_card_says_all_of_it(name: str, measured: bool) -> None:
    system = SYSTEMS[name]
    results = [next(made_up(name))] if measured else []
    text, data = card.to_markdown(system, *results), json.loads(card.to_json(system, *results))
    for heading in ("Run it", "Arms", "Claims", "Results", "Departures from the paper", "Data"):
        assert f"\n## {heading}\n" in text
    said = [system.title, system.what, system.paper.url, system.world, system.licence]
    said += [arm.name for arm in system.arms] + [claim.sentence for claim in system.claims]
    said += [f"--preset {preset}" for preset in system.presets] + list(system.departures)
    assert not [each for each in said if each not in text]
    assert ("None yet." in text) is not measured
    verdicts = {each["verdict"] for claim in data["claims"] for each in claim["verdicts"]}
    assert verdicts <= ({"held", "failed"} if measured else {"not tested"})


@pytest.mark.parametrize(("name", "index"), CLAIMS, ids=str)
def test_a_claim_can_hold_and_can_fail(name: str, index: int) -> None:
    claim = SYSTEMS[name].claims[index]
    verdicts = [claim.check(results) for results, _ in zip(made_up(name), range(300), strict=False)]
    assert None not in verdicts, "all arms were tried, so the claim must be decided"
    assert {verdict.held for verdict in verdicts if verdict} == {True, False}
    assert all(math.isfinite(verdict.value) for verdict in verdicts if verdict)


@pytest.mark.parametrize(("name", "index"), CLAIMS, ids=str)
def test_a_claim_is_not_decided_without_its_arms(name: str, index: int) -> None:
    results = replace(next(made_up(name)), trials=())
    assert SYSTEMS[name].claims[index].check(results) is None


def made_up(name: str) -> Iterator[Results]:
    """Results of all arms with what an evaluation measures, their numbers drawn by lot."""
    system = SYSTEMS[name]
    found = trained(name, system.arms[0].name)
    like = system.evaluate(found.stepper, found.settings, found.arm)
    rng = random.Random(0)

    def proportion(of: Proportion) -> Proportion:
        return Proportion(rng.randint(0, of.total), of.total)

    def measured() -> Measurement:
        accuracy = None if like.accuracy is None else proportion(like.accuracy)
        by_type = {key: proportion(of) for key, of in like.by_type.items()}
        return Measurement(accuracy, by_type, {key: rng.random() for key in like.values})

    while True:
        trials = tuple(Trial(arm.name, 0, 1, 1.0, 1, measured()) for arm in system.arms)
        yield Results(name, "tiny", trials, {})
