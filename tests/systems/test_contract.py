"""What every system promises, found by file name: a new one cannot stay out of this.

Each arm of each system is built and trained at its tiny preset; properties are checked one by one,
so that a run's report counts properties times arms. Properties that a system cannot have are
skipped, with the reason that `SKIPS` gives.
"""

from __future__ import annotations

import copy
import itertools
import json
import math
import os
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_origin

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import featurewise as fw
from featurewise.cli import discovery
from featurewise.common.ranges import Length, Range, hints, members
from featurewise.generators import LocalGenerator
from featurewise.study import card
from featurewise.study.recorded import recorded
from featurewise.study.results import Measurement, Proportion, Results, Trial
from featurewise.study.run import describe_run
from featurewise.study.system import PRESETS, Arm, System
from featurewise.training.batch import batch_size, rows, to_device, tree_map
from featurewise.training.errors import ExperimentError
from featurewise.training.randomness import seed_everything
from featurewise.training.steppers import CanSample, ClosedForm, Stepper
from featurewise.worlds.clevr import build_pool
from featurewise.worlds.clevr import cache as clevr_cache

RESULTS = Path(__file__).parents[2] / "results"
PIN = "pin it: python -m tests.systems.pin"
KEYS = Path(__file__).with_name("state_keys.json")
OUTPUTS = Path(__file__).with_name("reference_outputs.json")

#: (system, property) -> why this system cannot have it.
_INNER = "torch.export refuses gradients taken within a forward pass, as an inner loop does"
SKIPS: Mapping[tuple[str, str], str] = {
    ("cavia", "a_network_is_exported"): _INNER,
    ("cavia_image", "a_network_is_exported"): _INNER,
    ("film", "a_network_compiles_whole"): "dynamo traces no GRU but by an experimental option",
    ("film", "a_network_is_exported"): "dynamo traces no GRU but by an experimental option",
    ("ablations", "a_network_compiles_whole"): "as film",
    ("ablations", "a_network_is_exported"): "as film",
    ("cogent", "a_network_compiles_whole"): "as film",
    ("cogent", "a_network_is_exported"): "as film",
    ("humans", "a_network_compiles_whole"): "as film",
    ("humans", "a_network_is_exported"): "as film",
    ("regularization", "a_network_compiles_whole"): "as film",
    ("regularization", "a_network_is_exported"): "as film",
    ("gated_attention", "a_network_compiles_whole"): "as film",
    ("gated_attention", "a_network_is_exported"): "as film",
    ("mac", "a_network_compiles_whole"): "as film, of an LSTM",
    ("mac", "a_network_is_exported"): "as film, of an LSTM",
    ("modern", "a_network_compiles_whole"): "as film, of an LSTM",
    ("modern", "a_network_is_exported"): "as film, of an LSTM",
}

#: System -> largest error in bfloat16, relative to its largest output, where 0.05 is too tight.
ROUGH: Mapping[str, float] = {
    "dcgan": 0.15,  # after 30 steps its rival's logits are all near zero
    "style_transfer": 0.15,  # instance norms of a few positions enlarge what rounding changed
}

#: FEATUREWISE_SYSTEMS="highway tadam" tests these alone, as while one is being written.
NAMES = os.environ.get("FEATUREWISE_SYSTEMS", "").split() or list(discovery.names())
SYSTEMS: dict[str, System[Any]] = {name: discovery.load(name) for name in NAMES}
ARMS = [(name, arm.name) for name, system in SYSTEMS.items() for arm in system.arms]
CLAIMS = [(name, i) for name, system in SYSTEMS.items() for i in range(len(system.claims))]

each_arm = pytest.mark.parametrize(("name", "arm"), ARMS, ids=["-".join(pair) for pair in ARMS])
each_system = pytest.mark.parametrize("name", SYSTEMS)


@pytest.fixture(autouse=True)
def _skip(request: pytest.FixtureRequest) -> None:
    """Skips what `SKIPS` names, by the name of the test after ``test_``."""
    name = request.node.callspec.params.get("name") if hasattr(request.node, "callspec") else None
    what = request.function.__name__.removeprefix("test_")
    if reason := SKIPS.get((name, what)):
        pytest.skip(reason)


@pytest.fixture(scope="module", autouse=True)
def _clevr_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache filled in this process: to start another takes longer than to render a few images."""

    def here(*args: Any, workers: int, **kwargs: Any) -> Path:
        return build_pool(*args, workers=0, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATUREWISE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(clevr_cache, "build_pool", here)
        yield


@dataclass
class Trained:
    """An arm after the tiny run, weight decay off: only a gradient can have moved a weight.

    Attributes:
        weights: before the first step and after each of the first `KEPT`.
        state: of the stepper, after all of these but the last.
        losses: of all steps that report one.
        finite: parameter -> whether its gradients were all finite; absent: it never had one.
    """

    system: System[Any]
    arm: Arm
    stepper: Stepper
    weights: list[dict[str, Tensor]]
    state: Any
    losses: list[float]
    finite: dict[str, bool]

    @property
    def config(self) -> Any:
        return self.system.config("tiny", self.arm.name)

    def build(self) -> nn.Module:
        return self.system.build(self.config)

    def begin(self) -> Stepper:
        """Another stepper of the same arm, untrained."""
        return self.system.stepper(self.build(), self.config)

    def batch(self) -> Any:
        return self.system.data(self.config, 0).batch(7)


KEPT = 3


@cache
def trained(name: str, arm: str) -> Trained:
    """The run that the tests of an arm share."""
    system = SYSTEMS[name]
    stepper = begun(system, system.arm(arm))
    found = Trained(system, system.arm(arm), stepper, [copied(stepper)], None, [], {})
    data = system.data(found.config, 0)
    for i in range(max(system.preset("tiny").steps, KEPT)):
        if i == KEPT - 1:
            found.state = copy.deepcopy(stepper.state())
        metrics = one_step(stepper, data, i)
        if "loss" in metrics:
            found.losses.append(float(metrics["loss"]))
        if i < KEPT:
            found.weights.append(copied(stepper))
        for key, parameter in learned(stepper).items():
            if parameter.grad is not None:
                finite = bool(parameter.grad.isfinite().all())
                found.finite[key] = found.finite.get(key, True) and finite
    return found


@cache
def built(name: str, arm: str) -> nn.Module:
    """A network of an arm whose weights do not matter."""
    return SYSTEMS[name].build(SYSTEMS[name].config("tiny", arm))


def one_step(stepper: Stepper, data: Any, index: int) -> Any:
    """A step whose random numbers depend on its index alone."""
    torch.manual_seed(index)
    return stepper.step(data.batch(index))


def begun(system: System[Any], arm: Arm, seed: int = 0) -> Stepper:
    seed_everything(seed)
    config = system.config("tiny", arm.name)
    stepper = system.stepper(system.build(config), config)
    for learner in stepper.learners:
        for group in learner.optimizer.param_groups:
            group["weight_decay"] = 0.0
    return stepper


def copied(stepper: Stepper) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in weights(stepper).items()}


def weights(stepper: Stepper, *, frozen_too: bool = False) -> dict[str, Tensor]:
    """Parameters in training; of one that is solved for, all that the solution is written to."""
    solved = isinstance(stepper, ClosedForm)
    return {
        f"{name}.{key}": value.detach()
        for name, network in stepper.networks.items()
        for key, value in (
            network.state_dict()
            if solved
            else dict(network.named_parameters() if frozen_too else _learned(network))
        ).items()
    }


def learned(stepper: Stepper) -> dict[str, nn.Parameter]:
    return {
        f"{name}.{key}": value
        for name, network in stepper.networks.items()
        for key, value in _learned(network)
    }


def _learned(network: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(key, value) for key, value in network.named_parameters() if value.requires_grad]


def descends(found: Trained | Stepper) -> None:
    """Skips what is solved for: it has no gradients and no losses that fall."""
    if isinstance(found.stepper if isinstance(found, Trained) else found, ClosedForm):
        pytest.skip("solved in closed form: nothing descends")


def evaluated(name: str, arm: str) -> tuple[Trained, dict[str, nn.Module]]:
    """A trained arm and copies of its networks in eval mode."""
    found = trained(name, arm)
    networks = found.stepper.networks.items()
    return found, {key: copy.deepcopy(network).eval() for key, network in networks}


@torch.no_grad()
def outputs(network: nn.Module, batch: Any) -> list[Tensor]:
    """All tensors that a network makes of a batch, on the global generator as seeded here."""
    torch.manual_seed(0)
    return leaves(network(batch))


def leaves(value: Any) -> list[Tensor]:
    found: list[Tensor] = []
    tree_map(lambda tensor: found.append(tensor) or tensor, value)
    return found


class Flat(nn.Module):
    """A network that takes the tensors of its batch one by one, as tracers want them."""

    def __init__(self, network: nn.Module, like: Any) -> None:
        super().__init__()
        self.network = network
        self.like = like

    def forward(self, *tensors: Tensor) -> list[Tensor]:
        given = iter(tensors)
        return leaves(self.network(tree_map(lambda _: next(given), self.like)))


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def close(one: list[Tensor], other: list[Tensor], tolerance: float) -> None:
    """Equal but for rounding, on the scale of each tensor."""
    for a, b in zip(one, other, strict=True):
        scale = float(a.detach().abs().max()) if a.numel() else 1.0
        torch.testing.assert_close(b, a, rtol=tolerance, atol=tolerance * max(scale, 1.0))


def test_there_are_systems() -> None:
    assert SYSTEMS
    assert all(system.name == name for name, system in SYSTEMS.items())
    assert not [key for key in SKIPS if key[0] not in discovery.names()]
    assert not [key for key in SKIPS if f"test_{key[1]}" not in globals()]


# Training


@each_arm
def test_training_reaches_every_parameter(name: str, arm: str) -> None:
    found = trained(name, arm)
    now = weights(found.stepper, frozen_too=True)  # some are frozen in a later phase
    still = [key for key, value in found.weights[0].items() if torch.equal(value, now[key])]
    assert not still, f"never moved: {still}"
    assert all(value.isfinite().all() for value in weights(found.stepper).values())


@each_arm
def test_the_loss_falls(name: str, arm: str) -> None:
    found = trained(name, arm)
    descends(found)
    if not found.losses:
        pytest.skip("this stepper reports no loss: its networks learn against each other")
    third = len(found.losses) // 3
    assert all(map(math.isfinite, found.losses))
    assert sum(found.losses[-third:]) < sum(found.losses[:third])


@each_arm
def test_every_parameter_has_a_finite_gradient(name: str, arm: str) -> None:
    found = trained(name, arm)
    descends(found)
    assert not [key for key, finite in found.finite.items() if not finite]
    without = found.weights[0].keys() - found.finite.keys()
    assert not without, f"without a gradient: {sorted(without)}"


@each_arm
def test_one_seed_gives_one_result(name: str, arm: str) -> None:
    found = trained(name, arm)
    again = begun(found.system, found.arm)
    data = found.system.data(found.config, 0)
    for i in range(KEPT):
        one_step(again, data, i)
    assert same(weights(again), found.weights[KEPT])


@each_arm
def test_a_stepper_goes_on_bit_for_bit(name: str, arm: str) -> None:
    """Nothing is left of what the stepper had learned before, from another seed."""
    found = trained(name, arm)
    other = begun(found.system, found.arm, seed=9)
    data = found.system.data(found.config, 9)
    for i in range(KEPT - 1):
        one_step(other, data, i)
    assert not same(weights(other), found.weights[KEPT - 1]), "the seed changes nothing"
    other.load_state(copy.deepcopy(found.state))
    assert same(weights(other), found.weights[KEPT - 1])
    one_step(other, found.system.data(found.config, 0), KEPT - 1)
    assert same(weights(other), found.weights[KEPT])


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    assert one.keys() == other.keys()
    return equal(list(one.values()), list(other.values()))


@each_arm
def test_a_batch_depends_on_its_index_alone(name: str, arm: str) -> None:
    system = SYSTEMS[name]
    data = system.data(system.config("tiny", arm), 5)
    again = system.data(system.config("tiny", arm), 5)
    first = [leaves(data.batch(i)) for i in (0, 1, 2)]
    assert all(equal(first[i], leaves(again.batch(i))) for i in (2, 0, 1))
    other = system.data(system.config("tiny", arm), 6)
    assert not all(equal_shapes(first[i], leaves(other.batch(i))) for i in (0, 1, 2))


def equal_shapes(one: list[Tensor], other: list[Tensor]) -> bool:
    """Equal, where tensors of another shape count as unequal."""
    return len(one) == len(other) and all(map(torch.equal, one, other))


# The network


@each_arm
def test_evaluation_is_deterministic(name: str, arm: str) -> None:
    found, networks = evaluated(name, arm)
    for network in networks.values():
        assert equal(outputs(network, found.batch()), outputs(network, found.batch()))
    before = modes(found.stepper)
    measured = [found.system.evaluate(found.stepper, found.config) for _ in range(2)]
    assert measured[0] == measured[1]
    assert modes(found.stepper) == before, "evaluation changes what is in train or eval mode"


def modes(stepper: Stepper) -> list[bool]:
    return [m.training for network in stepper.networks.values() for m in network.modules()]


@each_arm
def test_evaluation_measures_the_score(name: str, arm: str) -> None:
    found = trained(name, arm)
    measured = found.system.evaluate(found.stepper, found.config)
    assert math.isfinite(measured.number(found.system.score))


@pytest.mark.traced  # shape checks would refuse values of another type first
@each_system
def test_a_setting_is_refused_in_words_or_can_be_built(name: str) -> None:
    """At the ends of its range, beyond them, empty, and unknown."""
    system = SYSTEMS[name]
    config = system.config("tiny", system.arms[0].name)
    for setting, kind in hints(type(config)).items():
        value = getattr(config, setting)
        unknown = Literal in {get_origin(each) for each in members(kind)}
        for tried in ("no such choice",) if unknown else _ends(value):
            where = f"{setting}={tried!r}"
            try:
                changed = replace(config, **{setting: tried})
                refused = unknown or tried in (-1, -1.0, (), "")
                assert not refused or _is_meant(kind, tried), where
                system.build(changed)
            except Exception as error:
                assert type(error).__module__.startswith("featurewise."), f"{where}: {error!r}"


def _ends(value: Any) -> tuple[Any, ...]:
    """Values near the ends of the range of a setting."""
    if isinstance(value, tuple):
        return (), value[:1], ("nonsense",)
    ends: Mapping[type, tuple[Any, ...]] = {
        int: (-1, 0, 1, "7"),
        float: (-1.0, 0.0, 1.0, math.nan, "7"),
        str: ("", "nonsense", 7),
    }
    return ends.get(type(value), ())


def _is_meant(kind: Any, tried: Any) -> bool:
    """Whether the type of a setting says that it may be empty or below 0."""
    marks = getattr(kind, "__metadata__", ())
    least = [each.least for each in marks if isinstance(each, Range | Length)]
    return bool(least) and least[0] <= (len(tried) if isinstance(tried, tuple | str) else tried)


@each_system
def test_what_is_measured_is_explained(name: str) -> None:
    """On the card, with its unit; and nothing that neither this nor a published run measures."""
    found = [like(name, arm.name) for arm in SYSTEMS[name].arms]
    for path in RESULTS.glob(f"{name}/*.json"):
        found += [trial.measured for trial in Results.load(path).trials]
    names = {each for measured in found for each in (*measured.by_type, *measured.values)}
    assert names == {metric.name for metric in SYSTEMS[name].metrics} - {"accuracy"}


@each_arm
def test_a_run_is_explored(name: str, arm: str) -> None:
    """Every arm that a generator conditions; others say that there is nothing to explore."""
    system, network = SYSTEMS[name], built(name, arm).eval()
    conditioned = any(
        isinstance(each, fw.Conditioned) and not isinstance(each.generator, LocalGenerator)
        for each in network.modules()
    )
    try:
        found = recorded(system, network, system.config("tiny", arm), conditions=20)
    except ExperimentError as error:
        assert not conditioned or re.search("not use its condition|for each sample", str(error))
        return
    assert len(found.task) == 20 and found.task.flat.isfinite().all()
    assert all(len(values) == 20 for values in found.labels.values())
    assert system.prose.title == found.title


@each_arm
def test_training_and_evaluation_alternate(name: str, arm: str) -> None:
    """From eval to train and back: nothing is left of it but what training changes."""
    found, networks = evaluated(name, arm)
    for network in networks.values():
        before = outputs(network, found.batch())
        assert equal(before, outputs(network.train().eval(), found.batch()))


@each_arm
@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_small_batch_gives_the_rows_of_a_large_one(name: str, arm: str, count: int) -> None:
    found, networks = evaluated(name, arm)
    whole = found.batch()
    if batch_size(whole) < 2:
        pytest.skip("a batch of this system is one row: all that it is solved for")
    count = min(count, batch_size(whole) - 1)
    for network in networks.values():
        all_of_it = outputs(network, whole)[0]
        some = outputs(network, rows(whole, 1, 1 + count))[0]
        assert some.isfinite().all()
        assert len(some) == count
        torch.testing.assert_close(some, all_of_it[1 : 1 + count], rtol=1e-5, atol=1e-5)


@each_arm
def test_bfloat16_autocast_is_finite_and_near(name: str, arm: str) -> None:
    found, networks = evaluated(name, arm)
    for network in networks.values():
        exact = outputs(network, found.batch())
        with torch.autocast("cpu", torch.bfloat16):
            try:
                rough = outputs(network, found.batch())
            except RuntimeError as error:  # on processors without the instructions for it
                if "descriptor for the LSTM forward" not in str(error):
                    raise
                pytest.skip("torch has no LSTM in bfloat16 for this processor")
        for one, other in zip(exact, rough, strict=True):
            assert other.isfinite().all()
            assert (one - other).abs().max() <= ROUGH.get(name, 0.05) * one.abs().max()


@each_arm
def test_channels_last_gives_the_same(name: str, arm: str) -> None:
    found, networks = evaluated(name, arm)
    for network in networks.values():
        results = [
            outputs(copy.deepcopy(network).to(memory_format=form), found.batch())
            for form in (torch.contiguous_format, torch.channels_last)
        ]
        close(*results, tolerance=1e-5)


@each_arm
def test_a_gpu_gives_the_same(name: str, arm: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU here")
    found, networks = evaluated(name, arm)
    for network in networks.values():
        here = outputs(network, found.batch())
        device = torch.device("cuda")
        there = outputs(network.to(device), to_device(found.batch(), device))
        close(here, [each.cpu() for each in there], tolerance=1e-3)


@each_arm
def test_recomputed_activations_give_the_same_gradients(name: str, arm: str) -> None:
    found, networks = evaluated(name, arm)
    descends(found)
    for network in networks.values():
        gradients = []
        for again in (False, True):
            network.zero_grad(set_to_none=True)
            torch.manual_seed(0)
            batch = found.batch()
            made = checkpoint(network, batch, use_reentrant=False) if again else network(batch)
            sum(each.float().square().mean() for each in leaves(made)).backward()
            gradients.append([p.grad for p in network.parameters() if p.grad is not None])
        assert gradients[0]
        close(*gradients, tolerance=1e-5)


@each_arm
def test_a_deep_copy_gives_the_same_and_is_apart(name: str, arm: str) -> None:
    found, networks = evaluated(name, arm)
    for network in networks.values():
        other = copy.deepcopy(network)
        before = outputs(network, found.batch())
        assert equal(before, outputs(other, found.batch()))
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.add_(1)
        assert equal(before, outputs(network, found.batch()))


@each_arm
def test_samples_repeat_by_seed(name: str, arm: str) -> None:
    """Samples depend on the seed alone, and training never notices."""
    stepper = trained(name, arm).stepper
    if not isinstance(stepper, CanSample):
        pytest.skip("this system generates no samples")
    found = trained(name, arm)
    condition = found.system.data(found.config, 0).batch(0)
    before = torch.get_rng_state()
    one, again = (stepper.sample(rows(condition, 0, 2), seed=1) for _ in range(2))
    other = stepper.sample(rows(condition, 0, 2), seed=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert len(one) == 2
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.traced
@each_system
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_a_network_compiles_whole(name: str, dynamic: bool) -> None:
    """One graph, no break, also for another number of rows; gradients through it."""
    found, networks = evaluated(name, SYSTEMS[name].arms[0].name)
    batch = found.batch()
    for network in networks.values():
        torch.compiler.reset()
        compiled = torch.compile(
            Flat(network, batch), backend="aot_eager", fullgraph=True, dynamic=dynamic or None
        )
        parts = [batch] if not dynamic or batch_size(batch) < 3 else [batch, rows(batch, 0, 3)]
        for part in parts:
            with torch.no_grad():
                close(outputs(network, part), compiled(*leaves(part)), tolerance=1e-4)


@pytest.mark.traced
@each_system
def test_a_network_is_exported(name: str) -> None:
    found, networks = evaluated(name, SYSTEMS[name].arms[0].name)
    batch = found.batch()
    for network in networks.values():
        program = torch.export.export(Flat(network, batch), tuple(leaves(batch)))
        with torch.no_grad():
            made = program.module()(*leaves(batch))
        close(outputs(network, batch), list(made), tolerance=1e-4)


# Weights on disk


@each_arm
def test_weights_survive_a_file_bit_for_bit(name: str, arm: str) -> None:
    found, networks = evaluated(name, arm)
    for role, network in networks.items():
        saved = {key: value.contiguous() for key, value in network.state_dict().items()}
        file = safetensors.torch.save(saved)
        other = found.begin().networks[role].eval()
        other.load_state_dict(safetensors.torch.load(file))
        assert equal(list(network.state_dict().values()), list(other.state_dict().values()))
        assert equal(outputs(network, found.batch()), outputs(other, found.batch()))
        again = {key: value.contiguous() for key, value in other.state_dict().items()}
        assert safetensors.torch.save(again) == file


@each_arm
def test_names_and_shapes_of_weights_are_a_contract(name: str, arm: str) -> None:
    """Trained weights are known by these names; a change here makes every file useless."""
    pinned = json.loads(KEYS.read_text()).get(name, {}).get(arm)
    assert pinned is not None, f"{KEYS.name} has no weights of {name}, {arm}; {PIN}"
    assert shapes(name, arm) == pinned, f"{KEYS.name} has other weights for {name}, {arm}"


def shapes(name: str, arm: str) -> dict[str, list[int]]:
    return {key: list(value.shape) for key, value in built(name, arm).state_dict().items()}


@each_arm
def test_outputs_of_known_weights_are_a_contract(name: str, arm: str) -> None:
    """What weights of given values make of a batch of given values never changes."""
    pinned = json.loads(OUTPUTS.read_text()).get(name, {}).get(arm)
    assert pinned is not None, f"{OUTPUTS.name} has no outputs of {name}, {arm}; {PIN}"
    torch.testing.assert_close(reference(name, arm), pinned, rtol=2e-3, atol=2e-3)


def reference(name: str, arm: str) -> dict[str, list[float]]:
    """Mean and standard deviation of what networks with set weights make of set inputs, by network.

    Weights and inputs are sines of their position: no generator, no font, no image library
    has a say in them. Counts and indices in the batch stay.
    """
    system = SYSTEMS[name]
    config = system.config("tiny", arm)
    stepper = system.stepper(system.build(config), config)
    batch = tree_map(_waves, system.data(config, 0).batch(0))
    found = {}
    for role, network in stepper.networks.items():
        with torch.no_grad():
            for value in network.state_dict().values():
                if value.is_floating_point():
                    value.copy_(
                        (0.3 * _waves(value)).abs() if value.ndim < 2 else 0.3 * _waves(value)
                    )
        made = torch.cat([each.float().flatten() for each in outputs(network.eval(), batch)])
        assert made.isfinite().all()
        found[role] = [round(made.mean().item(), 5), round(made.std().item(), 5)]
    return found


def _waves(tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    waves = torch.sin(torch.arange(tensor.numel(), dtype=torch.float64) * 0.7 + 0.3)
    return waves.reshape(tensor.shape).to(tensor.dtype)


@each_arm
def test_a_network_is_built_without_memory(name: str, arm: str) -> None:
    """On the meta device, where nothing is allocated, a network has the same weights."""
    found = trained(name, arm)
    with torch.device("meta"):
        network = found.build()
    assert all(value.is_meta for value in network.parameters())
    assert network.state_dict().keys() == built(name, arm).state_dict().keys()


@each_arm
@pytest.mark.parametrize("wrong", ["missing", "extra", "wider"])
def test_weights_of_another_network_are_refused(name: str, arm: str, wrong: str) -> None:
    network = built(name, arm)
    state = dict(network.state_dict())
    if not any(value.ndim for value in state.values()):
        pytest.skip("this arm has no weights that another could be taken for")
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
def test_configs_survive_json(name: str) -> None:
    system = SYSTEMS[name]
    assert set(PRESETS) <= system.presets.keys()
    for preset, arm in itertools.product(system.presets, system.arms):
        run = describe_run(system, preset=preset, arm=arm.name)
        assert run.config(system) == system.config(preset, arm.name)


@each_system
@pytest.mark.parametrize("measured", [False, True], ids=["unmeasured", "measured"])
def test_the_card_says_all_of_it(name: str, measured: bool) -> None:
    system = SYSTEMS[name]
    results = [next(made_up(name))] if measured else []
    facts = card.content(system, *results)
    text, data = card.to_markdown(facts), json.loads(card.to_json(facts))
    for heading in ("What was found", "Arms", "Results", "Departures from the paper", "Data"):
        assert f"\n## {heading}\n" in text
    said = [system.prose.title, system.prose.body, system.paper.url]
    said += [system.world.what, system.world.licence]
    said += [part for metric in system.metrics for part in (metric.name, metric.what)]
    said += [arm.name for arm in system.arms] + [claim.sentence for claim in system.claims]
    said += [claim.criterion.sentence for claim in system.claims]
    said += [f"--preset {preset}" for preset in system.presets] + list(system.departures)
    assert not [each for each in said if each not in text]
    assert ("None yet." in text) is not measured
    verdicts = {each["verdict"] for claim in data["claims"] for each in claim["verdicts"]}
    unsure = {"one seed", "bar beyond the scale"}
    assert verdicts <= (unsure if measured else {"not tested"})


@each_system
def test_the_record_says_what_cannot_be_computed(name: str) -> None:
    system = SYSTEMS[name]
    controls = [arm.name for arm in system.arms if arm.is_control]
    assert controls, f"{name}: the text of an arm that is a control begins with 'control'"
    assert re.search(r"\d", system.tested_on), (
        f"{name}: tested_on is the size of the test set, a number of independent units; "
        f"found {system.tested_on!r}"
    )
    said = " ".join((*system.departures, system.cost.get("paper", "")))
    assert re.search("[Pp]reset paper|paper's sizes", said) or name == "cavia", (
        f"{name}: departures has no sentence with 'Preset paper', which says what sizes it has, "
        "nor does cost['paper'] say \"the paper's sizes\""
    )


@pytest.mark.parametrize(("name", "index"), CLAIMS, ids=str)
def test_a_claim_can_hold_and_can_fail(name: str, index: int) -> None:
    claim, seen = SYSTEMS[name].claims[index], set[bool]()
    for results in itertools.islice(made_up(name), 2000):
        verdict = claim.check(results)
        assert verdict, "all arms were tried, so the claim must be decided"
        assert math.isfinite(verdict.value)
        assert verdict.outcome in {"one seed", "bar beyond the scale"}
        seen.add(verdict.within)
        if len(seen) == 2:
            return
    raise AssertionError(f"whatever is measured, it is always {seen}")


@pytest.mark.parametrize(("name", "index"), CLAIMS, ids=str)
def test_a_claim_is_not_decided_without_its_arms(name: str, index: int) -> None:
    results = replace(next(made_up(name)), trials=())
    assert SYSTEMS[name].claims[index].check(results) is None


@pytest.mark.parametrize(("name", "index"), CLAIMS, ids=str)
def test_a_claim_takes_results_that_are_not_complete(name: str, index: int) -> None:
    """As a study has them while it runs: the first arms have a seed more than the others."""
    claim, found = SYSTEMS[name].claims[index], made_up(name)
    first, second = next(found).trials, next(found).trials
    for count in range(1, len(second)):
        begun = tuple(replace(trial, seed=1) for trial in second[:count])
        verdict = claim.check(Results(name, "tiny", (*first, *begun), {}))
        assert verdict is not None and math.isfinite(verdict.value)


@cache
def like(name: str, arm: str) -> Measurement:
    """What an evaluation of this arm measures."""
    found = trained(name, arm)
    return found.system.evaluate(found.stepper, found.config)


@cache
def all_measured(name: str, arm: str) -> Measurement:
    """The same, and what published runs of the arm measure that the tiny preset does not."""
    own = like(name, arm)
    by_type, values = {}, {}
    for path in sorted(RESULTS.glob(f"{name}/*.json")):
        for trial in Results.load(path).trials:
            if trial.arm == arm:
                by_type.update(trial.measured.by_type)
                values.update(trial.measured.values)
    return replace(own, by_type={**by_type, **own.by_type}, values={**values, **own.values})


def made_up(name: str) -> Iterator[Results]:
    """Results of all arms with what an evaluation measures, their numbers random."""
    rng = random.Random(0)

    def proportion(of: Proportion) -> Proportion:
        return Proportion(rng.randint(0, of.total), of.total)

    def measured(of: Measurement) -> Measurement:
        accuracy = None if of.accuracy is None else proportion(of.accuracy)
        by_type = {key: proportion(each) for key, each in of.by_type.items()}
        values = {key: rng.random() * rng.choice((1, 4, 100)) for key in of.values}
        return Measurement(accuracy, by_type, values)

    arms = [arm.name for arm in SYSTEMS[name].arms]
    while True:
        trials = tuple(Trial(arm, 0, 1, 1.0, 1, measured(all_measured(name, arm))) for arm in arms)
        yield Results(name, "tiny", trials, {})
