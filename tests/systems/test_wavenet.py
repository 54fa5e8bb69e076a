"""WaveNet: its gate by hand, causality, queues against the whole network, arms, measures."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

import featurewise as fw
from featurewise.systems.sound.wavenet import SYSTEM, experiment
from featurewise.systems.sound.wavenet.experiment import (
    bits,
    evaluated,
    listener,
    requested,
    sampled,
    waves,
)
from featurewise.systems.sound.wavenet.generate import choose, generate, generate_slowly
from featurewise.systems.sound.wavenet.listening import frame_blocks, real_clips
from featurewise.systems.sound.wavenet.method import ENTRIES, GatedStack, WaveNet
from featurewise.training.randomness import seed_everything
from featurewise.worlds.sound import PHONES, SoundError, SpeechSource
from featurewise.worlds.sound.waves import BLOCK, WaveBatch, made_waves, to_samples

TINY = SYSTEM.preset("tiny")
ARMS = [arm.name for arm in SYSTEM.arms]


def built(arm: str, **changes: Any) -> WaveNet:
    seed_everything(0)
    return cast(WaveNet, SYSTEM.build(replace(SYSTEM.config("tiny", arm), **changes)))


def perturbed(arm: str, **changes: Any) -> WaveNet:
    """Weights that are not those of the start, so that each of them matters."""
    network = built(arm, **changes)
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in network.parameters():
            value.add_(0.3 * torch.randn(value.shape, generator=rng))
    return network.double().eval()


def batch(blocks: int = 3) -> WaveBatch:
    return made_waves("test", 2).crops([0, 3, 6], blocks, [2, 3, 5])


def biases(network: Any, given: WaveBatch) -> Tensor:
    """V h of all layers (B, N, F) by hand: speaker and phones of three blocks, then the head."""
    encoder, head = network.stack.generator.encoder, network.stack.generator.head
    count, blocks = given.phones.shape
    found = torch.zeros(count, len(head.bias), blocks, dtype=torch.float64)
    for clip in range(count):
        for block in range(blocks):
            features = encoder.bias.clone()
            for tap, moved in enumerate((-1, 0, 1)):
                at = min(max(block + moved, 0), blocks - 1)
                if network.condition != "local":
                    features = features + encoder.weight[:, given.speakers[clip], tap]
                if network.condition != "global":
                    column = ENTRIES + int(given.phones[clip, at])
                    features = features + encoder.weight[:, column, tap]
            found[clip, :, block] = head.weight @ features + head.bias
    return found


def paper(network: Any, given: WaveBatch) -> Tensor:
    """Logits sample by sample: z = tanh(W_f * x + V_f h) σ(W_g * x + V_g h)."""
    conditioned = isinstance(network.stack, fw.Conditioned)
    stack = network.stack.backbone if conditioned else network.stack
    count, length = given.levels.shape
    found = torch.zeros(count, 64, length, dtype=torch.float64)
    parameters = biases(network, given) if conditioned else None
    affine = conditioned and isinstance(network.stack.layout.sites[0].operation, fw.Affine)
    for clip in range(count):
        rows = [torch.zeros(stack.embed.weight.shape[1], dtype=torch.float64)]
        rows += [stack.embed.weight[level] for level in given.levels[clip, :-1]]
        total = [torch.zeros_like(rows[0]) for _ in rows]
        start = 0
        for layer in stack.layers:
            weight, reach = layer.dilated.weight, layer.dilated.dilation[0]
            wide = len(layer.dilated.bias)
            following = []
            for t, now in enumerate(rows):
                past = rows[t - reach] if t >= reach else torch.zeros_like(now)
                y = weight[:, :, 0] @ past + weight[:, :, 1] @ now + layer.dilated.bias
                if parameters is not None:
                    own = parameters[clip, start:, t // BLOCK]
                    y = own[:wide] + y if not affine else (1 + own[:wide]) * y + own[wide:][:wide]
                signal, gate = y[: wide // 2], y[wide // 2 :]
                z = torch.tanh(signal) / (1 + torch.exp(-gate))
                mixed = layer.mix.weight[:, :, 0] @ z + layer.mix.bias
                following.append(now + mixed[: wide // 2])
                total[t] = total[t] + mixed[wide // 2 :]
            start += (2 if affine else 1) * wide
            rows = following
        for t, each in enumerate(total):
            for linear in (stack.head[1], stack.head[3]):
                each = linear.weight[:, :, 0] @ each.clamp_min(0) + linear.bias
            found[clip, :, t] = each
    return found


@torch.no_grad()
@pytest.mark.parametrize("arm", ["both", "local", "global", "none"])
def test_the_network_is_the_equation(arm: str) -> None:
    network, given = perturbed(arm), batch()
    torch.testing.assert_close(network(given), paper(network, given))


@torch.no_grad()
def test_with_a_scale_it_is_film() -> None:
    network, given = perturbed("both", operation="affine"), batch()
    torch.testing.assert_close(network(given), paper(network, given))


@torch.no_grad()
@pytest.mark.parametrize("arm", ARMS)
def test_no_output_depends_on_its_sample_or_a_later_one(arm: str) -> None:
    network, given = perturbed(arm), batch()
    before = network(given)
    for t in (0, 1, 39, 40, 77, 119):
        levels = given.levels.clone()
        levels[:, t] = (levels[:, t] + 31) % 64
        after = network(replace(given, levels=levels))
        assert torch.equal(after[:, :, : t + 1], before[:, :, : t + 1])
        if t + 1 < levels.shape[1]:
            assert (after[:, :, t + 1] != before[:, :, t + 1]).any()


@torch.no_grad()
@pytest.mark.parametrize("arm", ["both", "local", "global", "none"])
def test_each_arm_depends_on_its_codes_alone(arm: str) -> None:
    network, given = perturbed(arm), batch()
    before = network(given)
    for field, arms in (("speakers", ("both", "global")), ("phones", ("both", "local"))):
        changed = replace(given, **{field: (getattr(given, field) + 1) % ENTRIES})
        assert torch.equal(network(changed), before) == (arm not in arms)


def test_the_stack_is_the_same_network_in_all_arms() -> None:
    plain = built("none").stack
    assert type(plain) is GatedStack
    for arm in ("both", "local", "global", "shuffled"):
        stack: Any = built(arm).stack
        assert type(stack.backbone) is GatedStack
        for (name, one), (other, two) in zip(
            plain.named_parameters(), stack.backbone.named_parameters(), strict=True
        ):
            assert name == other and torch.equal(one, two)
        assert torch.equal(built(arm)(batch()), built("none")(batch()))  # before training


@torch.no_grad()
@pytest.mark.parametrize(
    ("arm", "operation"),
    [
        ("both", "shift"),
        ("both", "affine"),
        ("local", "shift"),
        ("global", "shift"),
        ("none", "shift"),
    ],
)
def test_queues_give_what_the_whole_network_gives(arm: str, operation: str) -> None:
    network, given = perturbed(arm, operation=operation), batch()
    uniform = torch.rand(3, 3 * BLOCK, generator=torch.Generator().manual_seed(2))
    fast = generate(network, given, uniform)
    assert torch.equal(fast, generate_slowly(network, given, uniform))
    assert len(fast.unique()) > 8
    if arm == "both":
        other = generate(network, replace(given, speakers=given.speakers.roll(1)), uniform)
        assert not torch.equal(fast, other)


def test_queues_are_faster() -> None:
    """By much more on long clips: the whole network takes time that grows with each sample."""
    network, given = built("both").eval(), batch(10)
    uniform = torch.rand(3, 10 * BLOCK)
    seconds = []
    for function in (generate, generate_slowly):
        before = time.process_time()
        function(network, given, uniform)
        seconds.append(time.process_time() - before)
    assert seconds[0] < seconds[1] / 1.5


def test_levels_are_chosen_by_their_probability() -> None:
    logits = torch.tensor([[0.0, math.log(2.0), 0.0]]).expand(4, 3)
    assert choose(logits, torch.tensor([0.1, 0.3, 0.7, 0.9])).tolist() == [0, 1, 1, 2]
    assert choose(logits, torch.ones(4)).tolist() == [2, 2, 2, 2]


def test_only_the_control_has_codes_of_other_speakers() -> None:
    plain = SpeechSource(made_waves("train", 3), 4, 6, 3).batch(2)
    for arm in SYSTEM.arms:
        found = SYSTEM.data(SYSTEM.config("tiny", arm.name), 3).batch(2)
        assert torch.equal(found.levels, plain.levels)
        for field in ("speakers", "phones"):
            own = getattr(plain, field)
            given = getattr(found, field)
            assert torch.equal(given, own.roll(1, 0) if arm.is_control else own)
        if arm.is_control:
            assert (found.speakers != plain.speakers).all()


def test_requested_speakers_are_not_those_of_the_clip() -> None:
    config = replace(TINY, sampled=2)
    test, codes = evaluated(config), requested(config)
    assert torch.equal(codes.phones, test.phones)
    assert (codes.speakers != test.speakers).all()
    assert torch.bincount(codes.speakers).tolist() == [2, 2, 2, 2]


def test_test_clips_of_people_are_parts_of_their_take(monkeypatch: pytest.MonkeyPatch) -> None:
    found = made_waves("test", 1)
    monkeypatch.setattr(experiment, "digit_waves", lambda part: found)
    config = replace(TINY, data="voices", people=True, tested=2, tested_blocks=10)
    clips = evaluated(config)
    assert clips.speakers.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert torch.equal(clips.levels[5], found.blocks[70:80].flatten().long())


@torch.no_grad()
def test_bits_are_those_of_each_sample() -> None:
    network = perturbed("both").float()
    test = evaluated(replace(TINY, tested=3))
    assert len(test.levels) == 12  # more than are read at a time
    logits = network(test)
    total = 0.0
    for clip, levels in enumerate(test.levels.tolist()):
        log2 = logits[clip].double().log_softmax(0) / math.log(2)
        total -= sum(float(log2[level, t]) for t, level in enumerate(levels))
    assert bits(network, test) == pytest.approx(total / test.levels.numel(), rel=1e-5)


@torch.no_grad()
def test_what_is_measured() -> None:
    measured = {}
    for arm in ("both", "local", "global", "none", "shuffled"):
        config = SYSTEM.config("tiny", arm)
        network, test = perturbed(arm).float(), evaluated(config)
        found = SYSTEM.evaluate(SYSTEM.stepper(network, config), config)
        measured[arm] = {**found.values, **found.by_type}
        previous = replace(test, speakers=test.speakers.roll(1), phones=test.phones.roll(1, 0))
        given = previous if arm == "shuffled" else test
        assert found.values["bits per sample"] == pytest.approx(bits(network, given))
        if arm == "both":
            for name, field in (("speaker", "speakers"), ("phones", "phones")):
                changed = replace(test, **{field: getattr(previous, field)})
                expected = bits(network, changed)
                assert found.values[f"bits, other {name}"] == pytest.approx(expected)
            made = sampled(network, requested(config), "test")
            heard = listener(config)
            right = int(heard.right_speaker(made).sum())
            assert found.by_type["requested speaker"].correct == right
    assert "bits, other phones" in measured["local"] and "bits, other speaker" in measured["global"]
    assert "bits, other phones" not in measured["global"]
    assert measured["none"].keys() == measured["shuffled"].keys() == {"bits per sample"}


def test_the_listener_hears_real_clips() -> None:
    config = replace(TINY, per_voice=6, tested_blocks=20, tested=4)
    heard, test = listener(config), evaluated(config)
    assert heard.right_speaker(test).float().mean() > 0.9
    assert heard.right_phones(test).float().mean() > 0.6
    assert heard.semitones(test).median() < 0.1  # some are heard an octave higher
    assert heard.right_pitch(test).float().mean() > 0.8
    other = replace(test, speakers=(test.speakers + 1) % 4)
    assert not heard.right_speaker(other).any()
    assert heard.semitones(other).median() > 4


def test_the_phone_of_a_frame_is_that_of_its_middle() -> None:
    test = evaluated(replace(TINY, tested_blocks=20))
    frames = frame_blocks(test)
    count = (20 * BLOCK - 256) // 128 + 1
    assert frames.shape == (len(test.phones), count)
    for t in range(count):
        assert torch.equal(frames[:, t], test.phones[:, (t * 128 + 128) // BLOCK])


def test_real_clips_overlap_by_half() -> None:
    found = made_waves("train", 3)
    clips = real_clips(found, 20)
    assert len(clips.levels) == 12 * 5
    assert torch.equal(clips.levels[1], found.blocks[10:30].flatten().long())


def test_silence_is_heard_at_the_lowest_pitch() -> None:
    config = replace(TINY, per_voice=6, tested_blocks=20, tested=4)
    heard = listener(config)
    silent = WaveBatch(
        torch.full((1, 20 * BLOCK), 32), torch.tensor([0]), torch.zeros(1, 20, dtype=torch.int64)
    )
    expected = 12 * abs(math.log2(60 / float(heard.pitches[0])))
    assert heard.semitones(silent).item() == pytest.approx(expected, rel=1e-4)


def test_people_and_voices_have_entries_of_the_code() -> None:
    network = built("both")
    h = network.h(batch())
    assert h.shape == (3, ENTRIES + len(PHONES), 3) and h.sum() == 3 * 3 * 2
    assert len(waves(TINY, "train", 2).names) <= ENTRIES
    assert to_samples(batch().levels).abs().max() <= 1
    assert nn.Module in type(network).__mro__


def test_the_figure() -> None:
    for arm in ("both", "none"):
        config = SYSTEM.config("tiny", arm)
        assert SYSTEM.draw is not None
        assert SYSTEM.draw(SYSTEM.stepper(built(arm), config), config).size == (800, 280)


@pytest.mark.parametrize(
    ("change", "uniform", "message"),
    [
        ({}, torch.rand(2, 8), r"uniform must be \(3, T\) with T at most 120"),
        ({}, torch.rand(3, 3 * BLOCK + 1), r"T at most 120, 40 for each of 3 phones"),
        ({}, torch.rand(3), r"uniform must be \(3, T\)"),
        ({}, torch.full((3, 4), 1.5), "random numbers must be from 0 to 1"),
        ({}, torch.full((3, 4), math.nan), "random numbers must be from 0 to 1"),
        ({"speakers": torch.tensor([0, 1, ENTRIES])}, torch.rand(3, 4), "speakers are 0 to 7"),
        ({"speakers": torch.tensor([0, -1, 1])}, torch.rand(3, 4), "speakers are 0 to 7"),
        ({"speakers": torch.tensor([0])}, torch.rand(3, 4), r"speakers \(B,\) and phones \(B, F\)"),
        ({"phones": torch.full((3, 3), len(PHONES))}, torch.rand(3, 4), "phones 0 to"),
    ],
)
@pytest.mark.traced
def test_clips_that_cannot_be_generated(
    change: dict[str, Tensor], uniform: Tensor, message: str
) -> None:
    network = built("none").eval()
    for make in (generate, generate_slowly):
        with pytest.raises(SoundError, match=message):
            make(network, replace(batch(), **change), uniform)


@pytest.mark.traced
def test_a_choice_needs_a_number_for_each_row() -> None:
    for logits, uniform in ((torch.randn(2, 4), torch.rand(3)), (torch.randn(4), torch.rand(4))):
        with pytest.raises(SoundError, match="are needed, got"):
            choose(logits, uniform)
    with pytest.raises(SoundError, match="from 0 to 1"):
        choose(torch.randn(2, 4), torch.tensor([0.5, -0.5]))


def test_real_clips_need_utterances_that_are_long_enough() -> None:
    for blocks, message in ((0, "1 or more"), (-3, "1 or more"), (10_000, "the longest has 60")):
        with pytest.raises(SoundError, match=message):
            real_clips(made_waves("train", 2), blocks)
