"""MAC against its equations, place by place and word by word; shares of the scenes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from featurewise.systems.reasoning.mac import PRESETS, SYSTEM, MacNetwork
from featurewise.systems.reasoning.mac.experiment import data
from featurewise.systems.reasoning.mac.method import build
from featurewise.worlds.clevr import Batch, collate, encode
from featurewise.worlds.clevr.maps import MAP_CHANNELS

QUESTIONS = ("How many cubes are left of the ball?", "Is there a red thing?", "What size is it?")
TINY = replace(PRESETS["tiny"], map_size=(3, 4))


def batch() -> Batch:
    rng = torch.Generator().manual_seed(0)
    maps = torch.randn(2, MAP_CHANNELS, 3, 4, generator=rng).bfloat16()
    return collate(maps, [0, 1, 1], [encode(q) for q in QUESTIONS], [0, 1, 2], [0, 0, 0])


def network(**changes: object) -> MacNetwork:
    torch.manual_seed(1)
    return MacNetwork(replace(TINY, **changes)).eval()  # type: ignore[arg-type]


def by_hand(net: MacNetwork, given: Batch, row: int) -> Tensor:
    """The answer to one question, without its padding, one word and one place at a time."""
    tokens = given.questions[row, : int(given.lengths[row])]
    states, (last, _) = net.words.encoder(net.words.embedding(tokens)[None])
    words, question = states[0], torch.cat((last[0, 0], last[1, 0]))
    image = given.images[int(given.image_index[row])].float()
    grid = F.elu(net.place(image[None]))[0]
    places = [grid[:, y, x] for y in range(3) for x in range(4)]
    control, memory = net.first_control, net.first_memory
    for project in net.questions:
        wanted = net.control.combine(torch.cat((control, project(question))))
        weights = torch.cat([net.control.score(wanted * word) for word in words]).softmax(0)
        control = torch.stack([w * word for w, word in zip(weights, words, strict=True)]).sum(0)
        scores = []
        for place in places:
            related = net.read.memory(memory) * net.read.place(place)
            found = net.read.combine(torch.cat((related, place)))
            scores.append(net.read.score(F.elu(control * found)))
        weights = torch.cat(scores).softmax(0)
        read = torch.stack([w * place for w, place in zip(weights, places, strict=True)]).sum(0)
        memory = net.write(torch.cat((read, memory)))
    logits: Tensor = net.answer(torch.cat((question, memory)))
    return logits


@pytest.mark.parametrize("cells", [1, 3])
def test_cells_follow_the_equations(cells: int) -> None:
    net, given = network(cells=cells), batch()
    with torch.no_grad():
        found = net(given)
        for row in range(len(found)):
            torch.testing.assert_close(found[row], by_hand(net, given, row), atol=1e-5, rtol=1e-5)


def test_longer_padding_changes_nothing() -> None:
    net, given = network(), batch()
    longer = replace(given, questions=F.pad(given.questions, (0, 5)))
    with torch.no_grad():
        torch.testing.assert_close(net(longer), net(given), atol=1e-6, rtol=1e-6)


def test_the_baseline_does_not_see_the_map() -> None:
    given = batch()
    other = replace(given, images=given.images.flip(2, 3))
    for kind in ("question only", "mac", "film"):
        torch.manual_seed(1)
        net = build(replace(TINY, network=kind)).eval()  # type: ignore[arg-type]
        with torch.no_grad():
            assert torch.equal(net(given), net(other)) is (kind == "question only")


def test_a_share_of_the_scenes_is_the_first_ones(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path_factory.mktemp("cache")))
    seen = []
    for share in (1.0, 0.25):
        source = data(replace(TINY, share=share), 0)
        batches = [source.batch(index) for index in range(20)]
        seen.append({tuple(m.float().flatten().tolist()) for b in batches for m in b.images})
    every, few = seen
    assert len(few) == 8  # a quarter of 32
    assert few < every


def test_shares_are_those_of_the_names() -> None:
    for arm in SYSTEM.arms:
        share = SYSTEM.config("small", arm.name).share
        number = arm.name.rpartition("_")[2]
        assert share == (int(number) / 100 if number.isdigit() else 1)
