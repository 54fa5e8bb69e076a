"""Answers are those of the network; requests that do not fit are refused with a message."""

from __future__ import annotations

import base64
import io
import math
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

import featurewise as fw
from featurewise.core import Layout, Site, TaskRepresentation
from featurewise.core.operation import Affine, RowColumn, Scale
from featurewise.explorer import ExplorerError
from featurewise.explorer.live import Live, LiveError, Reply

NAMES = ("no", "yes", "red", "blue", "two")


def ask(live: Live, **request: Any) -> Reply:
    return live.answer(live.request({"condition": 0, **request}))


def one(condition: int, weight: float = 1.0) -> dict[str, Any]:
    return {"condition": condition, "weight": weight}


def outputs(reply: Reply) -> dict[str, float]:
    return {each.name: each.value for each in reply.outputs}


def direct(live: Live, task: TaskRepresentation, condition: int) -> dict[str, float]:
    with torch.no_grad():
        found = live.respond(task, condition)
    assert isinstance(found, Tensor)
    return dict(zip(NAMES, found[0].tolist(), strict=True))


# --- answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("condition", [0, 5, 11])
def test_a_condition_of_the_bundle(live: Live, condition: int) -> None:
    reply = ask(live, condition=condition, terms=[one(condition)])
    assert outputs(reply) == direct(live, live.task[[condition]], condition)
    assert [e.value for e in reply.outputs] == sorted(outputs(reply).values(), reverse=True)
    assert reply.nearest[0].condition == condition and reply.nearest[0].distance == 0
    assert len(reply.nearest) == 5 and reply.images == []


def test_the_image_is_that_of_the_condition(live: Live) -> None:
    assert outputs(ask(live, condition=1, terms=[one(3)])) == direct(live, live.task[[3]], 1)
    assert outputs(ask(live, condition=2, terms=[one(3)])) == direct(live, live.task[[3]], 2)


def test_a_text(live: Live) -> None:
    reply = ask(live, condition=4, text="class 7")
    assert outputs(reply) == direct(live, live.task[[7]], 4)
    assert reply == ask(live, condition=4, terms=[one(7)])
    assert reply == ask(live, condition=4, text="class 7", terms=[], edits=[])


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0, 1.7])
def test_two_terms_are_an_interpolation(live: Live, weight: float) -> None:
    task = live.task[[2]].lerp(live.task[[9]], weight)
    reply = ask(live, terms=[one(2, 1 - weight), one(9, weight)])
    assert outputs(reply) == pytest.approx(direct(live, task, 0), abs=1e-6)
    effective = task.effective()["1"]["gamma"][0].tolist()
    assert reply.values["1"]["gamma"] == pytest.approx(effective, abs=1e-6)


def test_three_terms_are_a_sum(live: Live) -> None:
    task = live.task[[1]] + live.task[[2]] - live.task[[3]]
    reply = ask(live, terms=[one(1), one(2), one(3, -1)])
    assert outputs(reply) == pytest.approx(direct(live, task, 0), abs=1e-6)
    rows = live.task.flat.double()
    unit = torch.pdist(rows).mean()
    distances = (rows - task.flat.double()).norm(dim=1) / unit
    assert [e.condition for e in reply.nearest] == distances.argsort()[:5].tolist()
    expected = distances.sort().values[:5].tolist()
    assert [e.distance for e in reply.nearest] == pytest.approx(expected, rel=1e-5)


def test_an_edit_sets_the_effective_value(live: Live) -> None:
    edits = [
        {"site": "1", "parameter": "gamma", "feature": 4, "value": -0.25},
        {"site": "4", "parameter": "beta", "feature": 2, "value": 1.5},
    ]
    task = live.task[[6]].edit(at="1", parameter="gamma", features=4).set(-1.25)
    task = task.edit(at="4", parameter="beta", features=2).set(1.5)
    reply = ask(live, terms=[one(6)], edits=edits)
    assert outputs(reply) == direct(live, task, 0)
    assert outputs(reply) != outputs(ask(live, terms=[one(6)]))
    assert reply.values["1"]["gamma"][4] == -0.25 and reply.values["4"]["beta"][2] == 1.5
    others = ask(live, terms=[one(6)]).values
    assert reply.values["1"]["beta"] == others["1"]["beta"]
    assert reply.values["1"]["gamma"][:4] == others["1"]["gamma"][:4]


def test_the_last_edit_of_a_value_counts(live: Live) -> None:
    edit = {"site": "1", "parameter": "beta", "feature": 0}
    both = ask(live, terms=[one(6)], edits=[{**edit, "value": 9}, {**edit, "value": 2}])
    assert both == ask(live, terms=[one(6)], edits=[{**edit, "value": 2}])


@pytest.mark.parametrize(
    ("site", "parameter"),
    [
        ("affine", "gamma"),
        ("affine", "beta"),
        ("scale", "gamma"),
        ("shift", "beta"),
        ("raw", "gamma"),
        ("raw", "beta"),
    ],
)
def test_effective_values_of_operations(operations: Live, site: str, parameter: str) -> None:
    edit = {"site": site, "parameter": parameter, "feature": 1, "value": 0.75}
    reply = ask(operations, terms=[one(2)], edits=[edit])
    before = ask(operations, terms=[one(2)]).values
    assert reply.values[site][parameter][1] == 0.75
    before[site][parameter][1] = 0.75
    assert reply.values == before


def test_values_are_those_that_the_bundle_shows(live: Live) -> None:
    few = fw.explore(live.task, features=3)
    reply = ask(replace(live, bundle=few), terms=[one(8)])
    for site in few.content.sites:
        for parameter in site.parameters:
            shown = few.arrays[parameter.array][8].tolist()
            assert len(shown) == 3 and reply.values[site.name][parameter.name] == shown


def test_parameters_of_another_width(make: Callable[..., Live]) -> None:
    layout = Layout((Site("a", 3, RowColumn(), extent=(4, 2)),))
    task = TaskRepresentation(layout, torch.randn(6, layout.size))
    live = make(task, lambda task, condition: task.flat[:, :2])
    assert ask(live, terms=[one(2)]).values["a (row)"]["row"] == task[2]["a"]["row"].tolist()


def test_a_sample_of_the_conditions(live: Live) -> None:
    seen = []

    def respond(task: TaskRepresentation, condition: int) -> Tensor:
        seen.append(condition)
        return task.flat[:, :2].sigmoid()

    rows = list(range(1, 12, 2))
    bundle = fw.explore(live.task[rows])
    count = replace(bundle.content.conditions, total=12)
    bundle = replace(bundle, content=replace(bundle.content, conditions=count))
    task = live.task[rows]
    with pytest.raises(ExplorerError, match="shows 6 of 12 conditions; give rows"):
        Live(bundle=bundle, task=task, respond=respond)
    ask(Live(bundle=bundle, task=task, respond=respond, rows=rows), condition=4, terms=[one(0)])
    assert seen == [9]


def test_images(live: Live, make: Callable[..., Live]) -> None:
    def respond(task: TaskRepresentation, condition: int) -> list[Image.Image]:
        level = round(255 * float(task.flat[0, 0].sigmoid()))
        return [Image.new("RGB", (200, 100), (level, level, condition))]

    reply = ask(make(live.task, respond), condition=3, terms=[one(7)])
    assert reply.outputs == [] and len(reply.images) == 1
    head, _, data = reply.images[0].partition(",")
    assert head == "data:image/webp;base64"
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    level = round(255 * float(live.task.flat[7, 0].sigmoid()))
    assert image.size == (96, 48) and abs(image.convert("RGB").getpixel((9, 9))[0] - level) < 5


def test_outputs_without_names(live: Live) -> None:
    reply = ask(replace(live, outputs=()), terms=[one(1)])
    assert {e.name for e in reply.outputs} == {"0", "1", "2", "3", "4"}


def test_requests_at_once_do_not_mix(live: Live) -> None:
    wanted = [
        {"condition": i % 12, "terms": [one(i % 7, 0.1 * i), one(i % 5, 1.0)]} for i in range(64)
    ]
    expected = [ask(live, **each) for each in wanted]
    found: list[Reply | None] = [None] * len(wanted)

    def work(part: int) -> None:
        for index in range(part, len(wanted), 16):
            found[index] = ask(live, **wanted[index])

    threads = [threading.Thread(target=work, args=(part,)) for part in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected


def test_nothing_is_left_on_the_network(net: fw.Conditioned, live: Live) -> None:
    before = {name: value.clone() for name, value in net.state_dict().items()}
    task = live.task.flat.clone()
    edit = {"site": "1", "parameter": "gamma", "feature": 0, "value": 5}
    reply = ask(live, terms=[one(0)], edits=[edit])
    assert ask(live, terms=[one(0)]) != reply
    assert torch.equal(live.task.flat, task)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(value.requires_grad for value in [live.task.flat])


def test_an_edit_leaves_a_stored_representation_as_it_is(live: Live) -> None:
    before = live.task.flat.clone()
    stored = replace(live, represent=lambda text: live.task[7:8])
    edit = {"site": "1", "parameter": "gamma", "feature": 0, "value": 5}
    assert ask(stored, text="x", edits=[edit]).values["1"]["gamma"][0] == 5
    assert torch.equal(live.task.flat, before)


# --- what is refused -----------------------------------------------------------------------------


EDIT = {"site": "1", "parameter": "gamma", "feature": 0, "value": 1.0}
REFUSED = [
    ({"condition": 12, "terms": [one(0)]}, "condition: 12 lies outside 0..11"),
    ({"condition": -1, "terms": [one(0)]}, "condition: -1 lies outside 0..11"),
    ({"condition": "0", "terms": [one(0)]}, "condition: expected an integer, found a text"),
    ({"condition": True, "terms": [one(0)]}, "condition: expected an integer"),
    ({"condition": None, "terms": [one(0)]}, "condition: expected an integer, found null"),
    ({}, "give either text, or terms"),
    ({"terms": []}, "give either text, or terms"),
    ({"text": "class 1", "terms": [one(0)]}, "give either text, or terms"),
    ({"text": " \n"}, "text: expected at least one word"),
    ({"text": "x" * 501}, "text: the text is longer than 500 characters"),
    ({"text": 5}, "text: expected a text, found 5"),
    ({"text": "class 99"}, "text: expected: class, and a number"),
    ({"terms": one(0)}, "terms: expected a list, found an object"),
    ({"terms": [one(0)] * 9}, "terms: expected at most 8 entries, found 9"),
    ({"terms": [[]]}, r"terms\[0\]: expected an object, found a list"),
    ({"terms": [{"condition": 1}]}, r'terms\[0\]: key "weight" is missing'),
    ({"terms": [one(0), one(12)]}, r"terms\[1\].condition: 12 lies outside 0..11"),
    ({"terms": [one(0, 101)]}, r"terms\[0\].weight: 101 lies outside -100..100"),
    ({"terms": [one(0, math.nan)]}, r"terms\[0\].weight: the number is too large"),
    ({"terms": [one(0, math.inf)]}, r"terms\[0\].weight: the number is too large"),
    ({"terms": [{**one(0), "extra": 1}]}, r"terms\[0\]: unknown key; the keys are condition, w"),
    ({"terms": [one(0)], "secret word": 1}, "the request: unknown key; the keys are condition, te"),
    ({"terms": [one(0)], "edits": [EDIT] * 17}, "edits: expected at most 16 entries, found 17"),
    ({"terms": [one(0)], "edits": [{**EDIT, "site": "2"}]}, "no such site; the sites are 1, 4"),
    ({"terms": [one(0)], "edits": [{**EDIT, "site": "*"}]}, "no such site"),
    ({"terms": [one(0)], "edits": [{**EDIT, "parameter": "row"}]}, "the site has gamma, beta"),
    ({"terms": [one(0)], "edits": [{**EDIT, "feature": 6}]}, "feature: 6 lies outside 0..5"),
    ({"terms": [one(0)], "edits": [{**EDIT, "feature": -1}]}, "feature: -1 lies outside 0..5"),
    ({"terms": [one(0)], "edits": [{**EDIT, "value": 1e39}]}, "value: 1e.39 lies outside"),
    ({"terms": [one(0)], "edits": [{**EDIT, "value": "1"}]}, "value: expected a number"),
    ({"terms": [one(0)], "edits": [{**EDIT, "value": False}]}, "value: expected a number"),
]


@pytest.mark.parametrize(("request_", "message"), REFUSED)
def test_refused(live: Live, request_: dict[str, Any], message: str) -> None:
    with pytest.raises(LiveError, match=message) as found:
        ask(live, **request_)
    assert "secret" not in str(found.value)


@pytest.mark.parametrize("value", [None, 1, "x", [], [1], True])
def test_a_request_that_is_no_object(live: Live, value: object) -> None:
    with pytest.raises(LiveError, match="the request: expected an object"):
        live.request(value)


@pytest.mark.parametrize("site", ["exp", "gate", "low"])
def test_operations_that_cannot_be_edited(operations: Live, site: str) -> None:
    edit = {"site": site, "parameter": "gamma", "feature": 0, "value": 1}
    with pytest.raises(LiveError, match=r"edits\[0\].site: its operation is .*only where it is A"):
        ask(operations, terms=[one(0)], edits=[edit])


def test_an_operation_of_a_user_cannot_be_edited(make: Callable[..., Live]) -> None:
    class Doubled(Scale):
        def scale(self, gamma: Tensor) -> Tensor:
            return 2 * super().scale(gamma)

    layout = Layout((Site("a", 3, Doubled()),))
    live = make(TaskRepresentation(layout, torch.randn(6, 3)), lambda task, _: task.flat)
    with pytest.raises(LiveError, match="its operation is Doubled"):
        ask(live, terms=[one(0)], edits=[{**EDIT, "site": "a"}])


def test_a_network_without_texts(operations: Live) -> None:
    with pytest.raises(LiveError, match="text: this network takes no texts; give terms"):
        ask(operations, text="class 1")


def test_values_that_are_not_finite(live: Live, operations: Live) -> None:
    largest = {**EDIT, "value": 3e38}
    edits = [{**largest, "feature": feature} for feature in range(6)]
    with pytest.raises(LiveError, match="answers to these values of γ and β are not finite"):
        ask(live, terms=[one(0)], edits=edits)
    with pytest.raises(LiveError, match="effective values are not finite; use smaller weights"):
        ask(operations, terms=[one(0, 100), one(1, 100), one(2, -100)])
    large = Layout((Site("a", 2, Affine()),))
    task = TaskRepresentation(large, torch.full((3, 4), 1e37))
    with pytest.raises(LiveError, match="too large for torch.float32; use smaller weights"):
        ask(Live(bundle=fw.explore(task), task=task, respond=live.respond), terms=[one(0, 100)])


def test_a_large_value_has_a_finite_distance(operations: Live) -> None:
    edit = {"site": "shift", "parameter": "beta", "feature": 0, "value": 1e30}
    reply = ask(operations, terms=[one(0)], edits=[edit])
    assert all(math.isfinite(each.distance) and each.distance > 1e20 for each in reply.nearest)


def test_functions_that_return_another_shape(live: Live) -> None:
    wide = replace(live, outputs=[*NAMES, "more"])
    with pytest.raises(ExplorerError, match=r"respond must return \(1, 6\) values, got \(1, 5\)"):
        ask(wide, terms=[one(0)])
    many = replace(live, represent=lambda text: live.task)
    with pytest.raises(ExplorerError, match=r"represent must return one row \(1, 22\)"):
        ask(many, text="x")


def test_representations_that_are_not_those_of_the_bundle(live: Live, operations: Live) -> None:
    with pytest.raises(ExplorerError, match="shows 12 conditions; there are 11 task repr"):
        replace(live, task=live.task[:11])
    with pytest.raises(ExplorerError, match="shows 12 conditions; .* and 1 rows"):
        replace(live, rows=[0])
    with pytest.raises(ExplorerError, match="gamma of site '1' is not that of the bundle"):
        replace(live, task=live.task[list(range(11, -1, -1))])
    with pytest.raises(ExplorerError, match="the bundle has gamma of 6 features at site '1'"):
        replace(live, task=operations.task)
