"""Bundles: what is in them is what the network computes, and what is read is what was written."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from PIL import Image
from torch import Tensor, nn

import featurewise as fw
from featurewise.analysis import neighbour_purity, parameter_quantiles, parameter_table, separations
from featurewise.common.rng import seeded_rng
from featurewise.core import LayoutError, TaskRepresentation
from featurewise.core.operation import LowRank, RowColumn
from featurewise.explorer import ExplorerError
from featurewise.explorer.answers import data_url, distances
from featurewise.explorer.bundle import save_page
from featurewise.explorer.document import page as page_of
from featurewise.explorer.schema import CategoryLabel, Curve

CLASSES = 40
TEXTS = [f"is the {'left' if i % 2 else 'right'} thing of kind {i}" for i in range(CLASSES)]
Found = Callable[..., Path]


@pytest.fixture(scope="module")
def net() -> fw.Conditioned:
    torch.manual_seed(0)
    backbone = nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.BatchNorm2d(6),
        nn.Dropout(0.5),
        nn.Conv2d(6, 5, 3),
        nn.BatchNorm2d(5),
    )
    net = fw.condition(backbone, at=["1", "4"], operation=fw.Affine(), generator=fw.Lookup(CLASSES))
    for parameter in net.generator.parameters():
        nn.init.normal_(parameter, std=0.5)
    return net


@pytest.fixture(scope="module")
def classes() -> Tensor:
    return torch.arange(CLASSES)


def respond_to(net: fw.Conditioned) -> Callable[[TaskRepresentation, int], Tensor]:
    """Probabilities of five outputs for an image of noise that belongs to a condition."""

    def respond(task: TaskRepresentation, condition: int) -> Tensor:
        image = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(condition))
        was = net.training
        net.eval()
        with torch.no_grad():
            out: Tensor = net(image.expand(len(task), -1, -1, -1), task=task)
        net.train(was)
        return out.mean((2, 3)).softmax(1)

    return respond


@pytest.fixture(scope="module")
def bundle(net: fw.Conditioned, classes: Tensor) -> fw.ExplorerBundle:
    return fw.explore(
        net,
        classes,
        {"parity": (classes % 2).tolist(), "text": TEXTS},
        title="A small network",
        contrasts=[("left", "right")],
        respond=respond_to(net),
        pairs=[(3, 8)],
        triples=[(1, 2, 3, "nothing in particular")],
    )


def test_values_are_those_that_the_network_uses(
    net: fw.Conditioned, classes: Tensor, bundle: fw.ExplorerBundle
) -> None:
    effective = net.represent(classes).effective()
    for site in bundle.content.sites:
        assert site.operation == "Affine" and site.features.total == site.features.shown
        for parameter in site.parameters:
            assert torch.equal(bundle.arrays[parameter.array], effective[site.name][parameter.name])
    assert [p.origin for p in bundle.content.sites[0].parameters] == [1.0, 0.0]
    assert bundle.content.conditions.shown == bundle.content.conditions.total == CLASSES


def test_the_network_keeps_its_modes(net: fw.Conditioned, classes: Tensor) -> None:
    net.train()
    net.backbone[1].eval()
    before = [module.training for module in net.modules()]
    fw.explore(net, classes)
    assert [module.training for module in net.modules()] == before
    net.train()


def test_an_interpolation_is_a_straight_line(
    net: fw.Conditioned, classes: Tensor, bundle: fw.ExplorerBundle
) -> None:
    (found,) = bundle.content.interpolations
    assert (found.start, found.end) == (3, 8)
    assert found.nearest[0] == 3 and found.nearest[-1] == 8
    assert found.outputs is not None
    task = net.represent(classes)
    for step, weight in enumerate(found.weights):
        line = TaskRepresentation(
            task.layout, ((1 - weight) * task.flat[3] + weight * task.flat[8])[None]
        )
        expected = respond_to(net)(line, 3)[0]
        assert torch.allclose(bundle.arrays[found.outputs.array][step], expected, atol=1e-5)


def test_a_sum_is_a_sum(net: fw.Conditioned, classes: Tensor, bundle: fw.ExplorerBundle) -> None:
    (found,) = bundle.content.arithmetic
    flat = net.represent(classes).flat
    distance = (flat - (flat[1] + flat[2] - flat[3])).norm(dim=1)
    others = [row for row in distance.argsort().tolist() if row not in (1, 2, 3)]
    assert found.nearest == others[:5] and found.expected == "nothing in particular"
    pairs = torch.pdist(flat).mean()
    assert found.distances == pytest.approx((distance[others[:5]] / pairs).tolist(), rel=1e-4)


def test_a_grid_changes_one_feature_alone(
    net: fw.Conditioned, classes: Tensor, bundle: fw.ExplorerBundle
) -> None:
    grid = bundle.content.grids[0]
    assert grid.outputs is not None and grid.columns == sorted(grid.columns)
    assert grid.rows == sorted(grid.rows, reverse=True)  # the largest above
    condition = grid.condition
    for cell in (0, 7, 24):
        task = net.represent(classes)[[condition]].clone()
        task[grid.site]["gamma"][:, grid.feature] = grid.columns[cell % 5] - 1
        task[grid.site]["beta"][:, grid.feature] = grid.rows[cell // 5]
        expected = respond_to(net)(task, condition)[0]
        assert torch.allclose(bundle.arrays[grid.outputs.array][cell], expected, atol=1e-5)


def test_a_grid_is_of_the_condition_whose_answers_differ_most() -> None:
    layout = fw.Layout((fw.Site("a", 3, fw.Affine()),))
    task = TaskRepresentation(layout, torch.randn(10, 6))

    def respond(task: TaskRepresentation, condition: int) -> Tensor:
        strength = 1.0 if condition == 7 else 0.01 * condition
        return (strength * task.flat[:, :3]).softmax(1)

    for grid in fw.explore(task, labels={"kind": [0, 1] * 5}, respond=respond).content.grids:
        assert grid.condition == 7


def test_an_effect_is_that_of_the_mean(
    net: fw.Conditioned, classes: Tensor, bundle: fw.ExplorerBundle
) -> None:
    task, respond = net.represent(classes).detach(), respond_to(net)
    mean = task.mean()
    site = bundle.content.sites[1]
    (effect,) = site.effects
    order = torch.randperm(CLASSES, generator=seeded_rng(0, "conditions of effects"))[:16].tolist()
    for feature in (0, 4):
        changes = []
        for condition in order:
            one = task[[condition]]
            frozen = one.edit(at=site.name, features=feature).freeze(to=mean)
            changes.append((respond(frozen, condition) - respond(one, condition)).abs().sum() / 2)
        expected = torch.stack(changes).mean().item()
        assert float(bundle.arrays[effect.array][feature]) == pytest.approx(expected, abs=1e-5)


def test_separations_are_those_of_the_analysis(
    net: fw.Conditioned, classes: Tensor, bundle: fw.ExplorerBundle
) -> None:
    table = parameter_table(net.represent(classes))
    best = separations(table, torch.tensor(["left" in text.split() for text in TEXTS]))[0]
    first = bundle.content.separations[0]
    assert (first.level, first.other, first.conditions) == ("left", "right", [20, 20])
    assert (first.site, first.feature, first.parameter) == (
        best.site,
        best.feature,
        best.parameter,
    )
    assert first.auc == pytest.approx(best.auc) and 1 / 200 <= first.probability <= 1
    for each in bundle.content.separations:
        assert each.probability <= each.corrected <= 1


def test_kinds_of_all_labels_are_corrected_together() -> None:
    """Kinds over the same conditions share permutations; over others, p counts their groups."""
    layout = fw.Layout((fw.Site("maps", 4, fw.Affine()),))
    task = TaskRepresentation(layout, torch.randn(60, 8, generator=seeded_rng(0, "kinds")))
    rng = np.random.default_rng(0)
    one, two = ([f"{name}{code}" for code in rng.integers(3, size=60)] for name in "ab")
    together = fw.explore(task, labels={"one": one, "two": two}).content.separations
    alone = fw.explore(task, labels={"one": one}).content.separations
    assert len(together) == 6 and len(alone) == 3
    by_level = {each.level: each for each in together}
    for each in alone:
        assert by_level[each.level].probability == each.probability
        assert by_level[each.level].corrected >= each.corrected
    some = [name if row % 4 else None for row, name in enumerate(two)]
    apart = fw.explore(task, labels={"one": one, "two": some}).content.separations
    for each in apart:
        if each.label == "one":
            own = next(other for other in alone if other.level == each.level)
            assert each.corrected == min(1.0, 2 * own.corrected)


def test_projections_say_how_they_were_made(bundle: fw.ExplorerBundle) -> None:
    names = [(each.name, each.of) for each in bundle.content.projections]
    assert names[0] == ("PCA", "all sites")
    assert {("t-SNE", "all sites"), ("t-SNE", "1"), ("t-SNE", "4")} <= set(names)
    for each in bundle.content.projections:
        points = bundle.arrays[each.array]
        assert points.shape == (CLASSES, 2) and points.isfinite().all()
        (purity,) = each.purity
        share, random = neighbour_purity(points, torch.arange(CLASSES) % 2)
        assert (purity.share, purity.random) == pytest.approx((share, random))
    pca = bundle.content.projections[0]
    assert 0 < pca.explained[1] <= pca.explained[0] < 1 and pca.seed is None


def test_pca_is_that_of_scikit_learn(
    net: fw.Conditioned, classes: Tensor, bundle: fw.ExplorerBundle
) -> None:
    decomposition = pytest.importorskip("sklearn.decomposition")
    effective = net.represent(classes).effective()
    values = torch.cat([v for site in effective.values() for v in site.values()], 1)
    fitted = decomposition.PCA(2).fit(values.detach().numpy())
    points = bundle.arrays[bundle.content.projections[0].array]
    expected = torch.from_numpy(fitted.transform(values.detach().numpy()))
    assert torch.allclose(points.abs(), expected.abs(), atol=1e-4)
    found = bundle.content.projections[0].explained
    assert found == pytest.approx(fitted.explained_variance_ratio_.tolist(), abs=1e-5)


def test_a_sample_is_shown_as_one(net: fw.Conditioned, classes: Tensor) -> None:
    found = fw.explore(
        net, classes, {"number": classes.tolist()}, most=10, features=2, pairs=[(39, 0)]
    ).content
    assert (found.conditions.shown, found.conditions.total) == (10, CLASSES)
    (label,) = found.labels
    assert label.kind == "number" and {0.0, 39.0} <= set(label.values)
    (line,) = found.interpolations
    assert (label.values[line.start], label.values[line.end]) == (39.0, 0.0)
    for site in found.sites:
        assert site.features.shown >= 2 and site.features.total in (5, 6)
    same = fw.explore(net, classes, most=10, seed=0)
    other = fw.explore(net, classes, most=10, seed=1)
    keys = [p.array for p in same.content.sites[0].parameters]
    assert not torch.equal(same.arrays[keys[0]], other.arrays[keys[0]])


def test_the_best_features_are_among_those_that_are_shown(
    net: fw.Conditioned, classes: Tensor
) -> None:
    found = fw.explore(net, classes, {"parity": (classes % 2).tolist()}, features=1).content
    for each in found.separations:
        (site,) = (s for s in found.sites if s.name == each.site)
        assert each.feature in site.numbers


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([i % 3 for i in range(CLASSES)], "category"),
        ([None, *(i % 3 for i in range(CLASSES - 1))], "category"),
        ([i / 4 for i in range(CLASSES)], "number"),
        (list(range(CLASSES)), "number"),
        (["a", "b"] * (CLASSES // 2), "category"),
        ([f"text {i}" for i in range(CLASSES)], "text"),
        ([i % 2 == 0 for i in range(CLASSES)], "category"),
        (torch.arange(CLASSES) % 2, "category"),
        ([None] * CLASSES, "category"),
        ([math.pi] * CLASSES, "number"),
    ],
)
def test_kinds_of_labels(net: fw.Conditioned, classes: Tensor, values: Any, kind: str) -> None:
    (label,) = fw.explore(net, classes, {"label": values}).content.labels
    assert label.kind == kind
    if label.kind == "category":
        names = [label.levels[c] if c >= 0 else None for c in label.codes]
        plain = [v.item() if isinstance(v, Tensor) else v for v in values]
        assert names == [None if v is None else str(v) for v in plain]


@pytest.mark.parametrize(
    ("operation", "parameters"),
    [
        (fw.Scale(), ["gamma"]),
        (fw.Shift(), ["beta"]),
        (fw.Gate(), ["gamma"]),
        (fw.Affine(activation="exp"), ["gamma", "beta"]),
        (LowRank(2), ["left", "right"]),
    ],
)
def test_any_operation(operation: Any, parameters: list[str]) -> None:
    torch.manual_seed(1)
    net = fw.condition(
        nn.Sequential(nn.Conv2d(3, 4, 3)), at="0", operation=operation, generator=fw.Lookup(6)
    )
    found = fw.explore(net, torch.arange(6), {"class": list(range(6))})
    shown = [p for site in found.content.sites for p in site.parameters]
    assert [p.name for p in shown] == parameters
    assert all(len(found.arrays[p.array]) == 6 for p in shown)
    assert found.content.axes == [] or parameters == ["gamma", "beta"]


def test_one_condition_is_enough(net: fw.Conditioned) -> None:
    found = fw.explore(net, torch.tensor([3]), {"class": ["a"]})
    assert found.content.projections == [] and found.content.separations == []
    assert found.content.axes == []


def test_equal_conditions_have_projections() -> None:
    net = fw.condition(
        nn.Sequential(nn.Conv2d(3, 4, 3)), at="0", operation=fw.Affine(), generator=fw.Lookup(30)
    )  # starts at the identity: all conditions are equal
    found = fw.explore(net, torch.arange(30), {"class": [i % 2 for i in range(30)]})
    for each in found.content.projections:
        assert found.arrays[each.array].isfinite().all()
    json.dumps(asdict(found.content), allow_nan=False)


def test_images_stand_once(net: fw.Conditioned, classes: Tensor) -> None:
    two = [Image.new("RGB", (200, 100), color) for color in ("red", "blue")]
    found = fw.explore(net, classes, images=[two[i % 2] for i in range(CLASSES)]).content
    assert found.thumbnails is not None and len(found.thumbnails.images) == 2
    assert found.thumbnails.codes == [i % 2 for i in range(CLASSES)]


def test_a_network_that_generates_shows_its_images(net: fw.Conditioned, classes: Tensor) -> None:
    def respond(task: TaskRepresentation, condition: int) -> list[Image.Image]:
        return [Image.new("L", (8, 8), condition) for _ in range(len(task))]

    found = fw.explore(net, classes, respond=respond, pairs=[(0, 1)]).content
    (line,) = found.interpolations
    assert len(line.images) == len(line.weights) and line.outputs is None
    assert all(site.effects == [] for site in found.sites)


# --- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"labels": {"type": [1, 2]}}, "'type' has 2 values for 40 conditions"),
        ({"images": []}, "'images' has 0 values for 40 conditions"),
        ({"pairs": [(0, 40)]}, "no condition 40; they are 0 to 39"),
        ({"triples": [(0, -1, 2)]}, "no condition -1"),
        ({"most": 0}, "most must be at least 1"),
        ({"features": 0}, "features must be at least 1"),
        ({"respond": lambda task, row: torch.ones(3), "pairs": [(0, 1)]}, r"respond must return"),
        (
            {"respond": lambda task, row: torch.full((len(task), 2), torch.nan), "pairs": [(0, 1)]},
            "not finite",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    net: fw.Conditioned, classes: Tensor, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ExplorerError, match=message):
        fw.explore(net, classes, **given)


def test_conditions_are_given_once(net: fw.Conditioned, classes: Tensor) -> None:
    with pytest.raises(ExplorerError, match="give conditions"):
        fw.explore(net)
    task = net.represent(classes)
    with pytest.raises(ExplorerError, match="leave out conditions"):
        fw.explore(task, classes)
    with pytest.raises(LayoutError, match="expected a batch"):
        fw.explore(task[3] if task.flat.ndim == 1 else task.mean())


def test_values_that_are_not_finite_are_named(net: fw.Conditioned, classes: Tensor) -> None:
    task = net.represent(classes).detach().clone()
    task["4"]["beta"][7, 1] = torch.nan
    with pytest.raises(ExplorerError, match="beta of site '4' is not finite for condition 7"):
        fw.explore(task)


def test_an_image_that_is_made_on_the_way_is_not_another_one(
    net: fw.Conditioned, classes: Tensor
) -> None:
    """As of a data set that decodes at every access: an identity may be used again."""

    class Column(Sequence[Image.Image]):
        def __len__(self) -> int:
            return CLASSES

        def __getitem__(self, index: Any) -> Any:
            return Image.new("RGB", (8, 8), (index * 6, 0, 0))

    found = fw.explore(net, classes, images=Column()).content.thumbnails
    assert found is not None and len(set(found.codes)) == len(found.images) == CLASSES


def test_the_unit_of_distances_does_not_depend_on_the_order() -> None:
    layout = fw.Layout((fw.Site("a", 4, fw.Affine()),))
    near, far = torch.randn(600, 8) * 0.01, torch.randn(600, 8) * 10
    task = TaskRepresentation(layout, torch.cat((near, far)))
    (found,) = fw.explore(task, triples=[(0, 1, 700)], most=1_200).content.arithmetic
    assert max(found.distances) < 10


def test_near_conditions_far_from_the_origin_differ() -> None:
    layout = fw.Layout((fw.Site("a", 8, fw.Affine()),))
    flat = torch.randn(1, 16) * 30 + torch.randn(300, 16) * 0.01
    assert not distances(flat, flat).diagonal().any()  # exactly 0
    found = fw.explore(TaskRepresentation(layout, flat), pairs=[(3, 7)]).content.interpolations[0]
    line = [flat[3].double().lerp(flat[7].double(), w) for w in (0.05, 0.95)]
    nearest = [int((flat.double() - each).norm(dim=1).argmin()) for each in line]
    assert [found.nearest[1], found.nearest[-2]] == nearest


def test_rows_and_factors_are_no_features() -> None:
    """Also where there are as many rows as features."""
    layout = fw.Layout((fw.Site("a", 6, RowColumn(), extent=(6, 4)),))
    task = TaskRepresentation(layout, torch.zeros(30, layout.size))
    task["a"]["row"][:] = torch.randn(30, 6)

    def respond(task: TaskRepresentation, condition: int) -> Tensor:
        return (task["a"]["row"][:, :3] + task["a"]["gamma"][:, :3]).softmax(1)

    found = fw.explore(task, respond=respond)
    names = [(site.name, [p.name for p in site.parameters]) for site in found.content.sites]
    assert names == [("a", ["gamma", "beta"]), ("a (row)", ["row"]), ("a (column)", ["column"])]
    (effect,) = found.content.sites[0].effects
    assert not found.arrays[effect.array].any()  # γ is the same for all conditions
    low = fw.Layout((fw.Site("a", 4, LowRank(2)),))
    task = TaskRepresentation(low, torch.randn(30, low.size))
    shown = fw.explore(task, respond=lambda t, _: t.flat[:, :2]).content.sites
    assert [site.name for site in shown] == ["a (left)", "a (right)"]


def test_other_values_than_probabilities(net: fw.Conditioned, classes: Tensor) -> None:
    def respond(task: TaskRepresentation, condition: int) -> Tensor:
        return task.flat[:, :2] * 100

    found = fw.explore(net, classes, respond=respond, unit="°C", pairs=[(0, 1)])
    (line,) = found.content.interpolations
    assert line.outputs is not None and line.outputs.unit == "°C"
    (effect,) = found.content.sites[0].effects
    assert effect.unit == "°C" and effect.definition.startswith("The mean of the absolute")


def test_the_network_answers_in_eval_mode(net: fw.Conditioned, classes: Tensor) -> None:
    net.train()
    before = net.backbone[1].running_mean.clone()

    def respond(task: TaskRepresentation, condition: int) -> Tensor:
        images = torch.ones(len(task), 3, 8, 8)
        out: Tensor = net(images, task=task).mean((2, 3)).softmax(1)
        return out

    found = fw.explore(net, classes, respond=respond, pairs=[(0, 0)])
    (line,) = found.content.interpolations
    assert line.outputs is not None
    values = found.arrays[line.outputs.array]
    assert torch.allclose(values, values[:1].expand_as(values), atol=1e-5)
    assert torch.equal(net.backbone[1].running_mean, before) and net.training


def test_a_buffer_that_respond_uses_again_is_copied(net: fw.Conditioned, classes: Tensor) -> None:
    buffer = torch.zeros(100, 2)

    def respond(task: TaskRepresentation, condition: int) -> Tensor:
        buffer[: len(task)] = task.flat[:, :2].softmax(1)
        return buffer[: len(task)]

    found = fw.explore(net, classes, respond=respond, pairs=[(0, 1), (2, 3)])
    one, other = (found.arrays[f"interpolations/{name}"] for name in ("0-1", "2-3"))
    assert not torch.equal(one, other)


def test_half_precision_and_one_feature() -> None:
    layout = fw.Layout((fw.Site("a", 1, fw.Gate()), fw.Site("b", 8, fw.Affine())))
    task = TaskRepresentation(layout, torch.randn(30, layout.size).half())
    found = fw.explore(
        task,
        labels={"kind": [0, 1] * 15},
        respond=lambda t, _: t.flat.float()[:, :3].softmax(1),
    )
    assert found.content.grids and [p.of for p in found.content.projections][-1] == "b"


def test_images_are_generated_for_what_shows_them_alone(
    net: fw.Conditioned, classes: Tensor
) -> None:
    made = []

    def respond(task: TaskRepresentation, condition: int) -> list[Image.Image]:
        made.append(len(task))
        return [Image.new("L", (8, 8))] * len(task)

    fw.explore(net, classes, respond=respond)
    assert sum(made) == 1


def test_a_feature_that_does_not_vary_has_no_main_axis() -> None:
    layout = fw.Layout((fw.Site("a", 10, fw.Affine()),))
    flat = torch.zeros(30, 20)
    flat[:, 13] = torch.randn(30)  # β of one feature
    found = fw.explore(TaskRepresentation(layout, flat)).content
    assert found.axes[0].quarters == [0, 0, 1, 0]


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        ([1, "1", True] * 10, ["1", "True"]),
        ([str(i % 12) for i in range(30)], [str(i) for i in range(12)]),
        ([True, 1.0, 0] * 10, ["0", "1", "True"]),
        ([float("nan"), 1.0, 2.0] * 10, ["1", "2"]),
        (np.array(["2020-01-01", "2020-01-02", "NaT"] * 10, "datetime64[ns]"), None),
    ],
)
def test_levels_of_categories(values: Any, levels: list[str] | None) -> None:
    layout = fw.Layout((fw.Site("a", 3, fw.Affine()),))
    task = TaskRepresentation(layout, torch.randn(30, 6))
    (label,) = fw.explore(task, labels={"label": values}).content.labels
    assert isinstance(label, CategoryLabel)
    if levels is None:
        assert [each[:10] for each in label.levels] == ["2020-01-01", "2020-01-02"]
        assert label.codes[2] == -1
    else:
        assert label.levels == levels


def test_unknown_texts_are_compared_with_nothing() -> None:
    layout = fw.Layout((fw.Site("a", 3, fw.Affine()),))
    task = TaskRepresentation(layout, torch.randn(60, 6))
    texts = [f"the red thing {i}" for i in range(20)] + [f"the blue thing {i}" for i in range(20)]
    found = fw.explore(task, labels={"text": [*texts, *[None] * 20]}).content.separations
    (red,) = (each for each in found if each.level == "red")
    assert red.conditions == [20, 20]


def test_contrasts_take_alternatives_and_are_checked() -> None:
    layout = fw.Layout((fw.Site("a", 3, fw.Affine()),))
    task = TaskRepresentation(layout, torch.randn(60, 6))
    words = ["metal", "'shiny'", "Rubber"]
    texts = [f"is the {words[i % 3]} thing number {i}?" for i in range(60)]
    texts[:6] = [f"is the rubber thing left of the metal thing {i}?" for i in range(6)]  # both
    (first, *_) = fw.explore(
        task, labels={"text": texts}, contrasts=[("rubber", "Metal|shiny")]
    ).content.separations
    assert (first.level, first.other, first.conditions) == ("rubber", "Metal|shiny", [18, 36])
    with pytest.raises(ExplorerError, match="contrast 'wood': no text has this word"):
        fw.explore(task, labels={"text": texts}, contrasts=[("wood", "metal")])
    with pytest.raises(ExplorerError, match="no label is a text"):
        fw.explore(task, labels={"number": list(range(60))}, contrasts=[("wood", "metal")])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"labels": {"a": [math.inf] * CLASSES}}, "infinite"),
        ({"labels": {"a": [[1]] * CLASSES}}, "values of type list"),
        ({"labels": {"a": torch.ones(CLASSES, 2)}}, r"tensors of \(2,\)"),
        ({"respond": lambda task, row: [1.0], "pairs": [(0, 1)]}, "PIL images; got list"),
        ({"curves": [Curve(name="loss", unit="", steps=[1], values=[math.nan])]}, "'loss'"),
        ({"labels": {"images": [1]}, "images": [None] * CLASSES}, "'images' has 1 values"),
    ],
)
def test_what_cannot_be_shown_is_refused(
    net: fw.Conditioned, classes: Tensor, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ExplorerError, match=message):
        fw.explore(net, classes, **given)


@pytest.mark.parametrize(
    ("net", "given", "message"),
    [
        (nn.Linear(1, 1), {}, "must be a conditioned network|parameter 'net'"),
        (None, {"images": ["x.png"] * 3}, "images must be PIL images|parameter 'images'"),
        (None, {"labels": [1, 2, 3]}, "labels must be a mapping|parameter 'labels'"),
    ],
)
def test_other_types_are_refused(net: Any, given: dict[str, Any], message: str) -> None:
    layout = fw.Layout((fw.Site("a", 3, fw.Affine()),))
    task = TaskRepresentation(layout, torch.randn(3, 6))
    with pytest.raises((ExplorerError, TypeCheckError), match=message):
        fw.explore(net or task, **given)


def test_indices_may_be_a_tensor(net: fw.Conditioned, classes: Tensor) -> None:
    found = fw.explore(net, classes, pairs=torch.tensor([[3, 8]])).content
    assert (found.interpolations[0].start, found.interpolations[0].end) == (3, 8)


# --- files ---------------------------------------------------------------------------------------


def test_a_bundle_is_read_as_it_was_written(bundle: fw.ExplorerBundle, tmp_path: Path) -> None:
    path = bundle.save(tmp_path / "a.safetensors")
    again = fw.ExplorerBundle.load(path)
    assert again.content == bundle.content
    assert again.arrays.keys() == bundle.arrays.keys()
    assert all(torch.equal(again.arrays[name], bundle.arrays[name]) for name in bundle.arrays)
    assert again.save(tmp_path / "b.safetensors").read_bytes() == path.read_bytes()


def test_no_file_is_overwritten_unasked(bundle: fw.ExplorerBundle, tmp_path: Path) -> None:
    path = tmp_path / "mine"
    path.write_text("mine")
    for write in (bundle.save, bundle.export, lambda p: save_page([bundle], p)):
        with pytest.raises(
            ExplorerError, match="exists and is not replaced unasked; give another name"
        ):
            write(path)
    assert path.read_text() == "mine"
    bundle.export(path, overwrite=True)
    assert path.read_text().startswith("<!doctype html>")


def test_damaged_and_other_files_are_refused(bundle: fw.ExplorerBundle, tmp_path: Path) -> None:
    raw = bytearray(bundle.save(tmp_path / "a").read_bytes())
    raw[-1] ^= 1
    (tmp_path / "b").write_bytes(raw)
    with pytest.raises(ExplorerError, match=r"b: .*damaged"):
        fw.ExplorerBundle.load(tmp_path / "b")
    (tmp_path / "c").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(ExplorerError, match="c: not an explorer bundle"):
        fw.ExplorerBundle.load(tmp_path / "c")
    (tmp_path / "d").write_text("{}")
    with pytest.raises(ExplorerError, match="d: not an explorer bundle"):
        fw.ExplorerBundle.load(tmp_path / "d")
    bundle_of_other = TaskRepresentation.identity(fw.Layout((fw.Site("a", 3, fw.Affine()),)))
    bundle_of_other.save(tmp_path / "e")
    with pytest.raises(ExplorerError, match="that of a bundle is"):
        fw.ExplorerBundle.load(tmp_path / "e")


def test_the_page_holds_all_and_nothing_that_runs(net: fw.Conditioned, classes: Tensor) -> None:
    bad = "</script><script>alert(1)</script>\u2028<!--DATA-->"
    found = fw.explore(net, classes, {"text": [f"{bad} {i}" for i in range(CLASSES)]}, title=bad)
    text = found._repr_html_()
    assert "<script>alert" not in text and text.count("<iframe") == 1
    page = page_of([found.packed()])
    start = page.index('id="data">') + len('id="data">')
    text = page[start : page.index("</script>", start)]
    assert "\u2028" not in text and "<" not in text
    data = json.loads(text)
    (shown,) = data["bundles"]
    assert shown["content"] == json.loads(json.dumps(asdict(found.content)))
    assert shown["content"]["title"] == bad


def test_thumbnails_of_images_that_are_not_rgb() -> None:
    """16 bits are scaled, transparency is white; floating-point pixels have no known range."""
    gray = Image.fromarray(np.full((8, 8), 257 * 100, dtype=np.uint16))
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    for image, level in ((gray, 100), (clear, 255), (Image.new("L", (8, 8), 60), 60)):
        data = base64.b64decode(data_url(image).partition(",")[2])
        with Image.open(io.BytesIO(data)) as shown:
            assert abs(int(np.asarray(shown.convert("RGB")).mean()) - level) <= 3
    with pytest.raises(ExplorerError, match="floating-point"):
        data_url(Image.fromarray(np.zeros((8, 8), dtype=np.float32)))


def test_a_file_of_256_conditions_and_128_features_has_at_most_500_kb() -> None:
    values = torch.randn(256, 256, generator=seeded_rng(0, "values of a page"))
    layout = fw.Layout((fw.Site("maps", 128, fw.Affine()),))
    texts = [f"how many rubber things are left of the blue cube number {i}" for i in range(256)]
    found = fw.explore(TaskRepresentation(layout, values), labels={"question": texts})
    assert len(page_of([found.packed()]).encode()) <= 500_000


# --- the data of Distill's figures ---------------------------------------------------------------


def test_distills_figure_has_the_published_statistics(shared_data: Found) -> None:
    rows = json.loads(shared_data("distill", "clevr_gamma_beta_subsampled.json").read_text())
    by_map: dict[int, list[tuple[float, float]]] = {}
    for row in rows:
        by_map.setdefault(row["feature_map"], []).append((row["gamma"], row["beta"]))
    values = torch.tensor([by_map[key] for key in sorted(by_map)])
    layout = fw.Layout((fw.Site("maps", len(values), fw.Affine(raw=True)),))
    task = TaskRepresentation.from_named(
        layout, {"maps": {"gamma": values[..., 0].T, "beta": values[..., 1].T}}
    )
    found = fw.explore(task).content
    gamma, beta = found.parameters
    assert (gamma.explained, beta.explained) == pytest.approx((0.67, 0.84), abs=0.006)
    assert gamma.negative == pytest.approx(0.35, abs=0.01)
    assert all(share > 0 for share in found.axes[0].quarters)


def quantiles(values: Tensor) -> list[float]:
    """Of all values, each the nearest one."""
    return torch.quantile(
        values.flatten(), torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95]), interpolation="nearest"
    ).tolist()


def test_parameters_over_training_are_quantiles_of_what_was_recorded(
    net: fw.Conditioned, classes: Tensor
) -> None:
    task = net.represent(classes)
    early = TaskRepresentation(task.layout, task.flat / 2)
    histories = {step: parameter_quantiles(t) for step, t in ((9, task), (4, early))}
    bundle = fw.explore(net, classes, histories=histories)
    found = {(each.site, each.parameter): each for each in bundle.content.histories}
    assert list(found) == [(s, p) for s in ("1", "4") for p in ("gamma", "beta")]
    for (site, parameter), history in found.items():
        assert history.steps == [4, 9] and history.levels == [0.05, 0.25, 0.5, 0.75, 0.95]
        for row, known in zip(bundle.arrays[history.array], (early, task), strict=True):
            assert row.tolist() == pytest.approx(quantiles(known.effective()[site][parameter]))


def test_a_factor_over_training_has_the_title_of_its_site() -> None:
    """As in the values of sites: its page would find no site of another name."""
    backbone = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4))
    net = fw.condition(backbone, at=["0"], operation=LowRank(2), generator=fw.Lookup(6))
    task = net.represent(torch.arange(6))
    bundle = fw.explore(task, histories={1: parameter_quantiles(task)})
    sites = {(site.name, each.name) for site in bundle.content.sites for each in site.parameters}
    assert {(each.site, each.parameter) for each in bundle.content.histories} == sites


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: found.pop(("4", "beta")), "lacks beta of site '4'"),
        (lambda found: found.update({("x", "beta"): [0.0] * 5}), "beta of site 'x', which"),
        (lambda found: found.update({("4", "beta"): [0.0] * 4}), "5 finite quantiles"),
        (lambda found: found.update({("4", "beta"): [math.nan] * 5}), "5 finite quantiles"),
    ],
)
def test_parameters_over_training_must_be_those_of_the_network(
    net: fw.Conditioned, classes: Tensor, change: Callable[[Any], Any], message: str
) -> None:
    found = parameter_quantiles(net.represent(classes))
    change(found)
    with pytest.raises(ExplorerError, match=message):
        fw.explore(net, classes, histories={3: found})
