"""What FiLM learns, measured on networks whose γ, β and answers are known beforehand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from featurewise.study.results import Proportion
from featurewise.systems.reasoning.film import SYSTEM, FilmNetwork
from featurewise.systems.reasoning.film.exploration import exploration
from featurewise.systems.reasoning.film.learned import (
    contrast,
    interpolation,
    localisation,
    purities,
    with_noise,
    without_the_question,
)
from featurewise.systems.reasoning.film.probe import Probe, Sample, sample
from featurewise.systems.reasoning.film.sums import _other_color, sum_accuracy, sums
from featurewise.training.errors import ExperimentError
from featurewise.worlds.clevr import (
    ANSWERS,
    VOCABULARY,
    Recipe,
    WorldError,
    collate,
    encode,
    render,
)
from featurewise.worlds.clevr.programs import execute

RECIPE = Recipe(seed=5, width=48, height=32, samples=1, questions_per_image=8)


@pytest.fixture(scope="module")
def some() -> Sample:
    return sample(RECIPE, 12)


@pytest.fixture
def network() -> Iterator[FilmNetwork]:
    torch.manual_seed(0)
    config = replace(SYSTEM.presets["tiny"], head_std=1.0)
    yield FilmNetwork(config).eval()


def test_a_sample_holds_true_answers_and_what_they_are_about(some: Sample) -> None:
    scenes = RECIPE.scenes(0, 12)
    assert len(some.questions) == len(some.image_index) == len(some.answers) > 60
    for number, question in enumerate(some.questions):
        scene = scenes[int(some.image_index[number])]
        assert execute(question.program, scene) == ANSWERS[int(some.answers[number])]
        if question.program[-1].function == "count":
            assert int(some.queried[number].sum()) == int(question.answer)
    assert int(some.masks.max()) < max(len(scene.objects) for scene in scenes)


def test_a_probe_answers_as_the_network_does(some: Sample, network: FilmNetwork) -> None:
    probe = Probe(network, some)
    none = [-1] * len(some.questions)
    tokens = [encode(question.text) for question in some.questions]
    batch = collate(some.images, some.image_index.tolist(), tokens, none, none)
    with torch.no_grad():
        expected = network(batch).logits
    torch.testing.assert_close(probe.logits(probe.tasks), expected, atol=1e-5, rtol=1e-4)
    rows = torch.tensor([3, 1])
    torch.testing.assert_close(
        probe.logits(probe.tasks[rows], rows), expected[rows], atol=1e-5, rtol=1e-4
    )


def test_without_the_question_all_questions_of_an_image_are_alike(
    some: Sample, network: FilmNetwork
) -> None:
    probe = Probe(network, some)
    mean = probe.tasks.mean()
    both = probe.tasks.edit(parameter="gamma").freeze(to=mean)
    both = both.edit(parameter="beta").freeze(to=mean)
    logits = probe.logits(both)
    same = some.image_index[1:] == some.image_index[:-1]
    torch.testing.assert_close(logits[1:][same], logits[:-1][same])
    found = without_the_question(probe)
    assert set(found) == {
        ("none", "all"),
        *(
            (parameter, site)
            for parameter in ("gamma", "beta")
            for site in ("all", "blocks.0.norm", "blocks.1.norm")
        ),
    }
    # One block alone, as a plain twin: its γ is that of the mean, all else is the question's.
    flat = probe.tasks.flat.clone()
    first = slice(0, 8)
    flat[:, first] = flat[:, first].mean(0)
    right = probe.logits(type(probe.tasks)(probe.tasks.layout, flat)).argmax(1) == some.answers
    assert found["gamma", "blocks.0.norm"].correct == int(right.sum())


def test_noise_is_in_units_of_the_parameters_own_deviation(
    some: Sample, network: FilmNetwork
) -> None:
    probe = Probe(network, some)
    seen: list[torch.Tensor] = []

    def accuracy(tasks):  # type: ignore[no-untyped-def]
        seen.append(tasks.flat - probe.tasks.flat)
        return Proportion.of(torch.ones(4, dtype=torch.bool))

    probe.accuracy = accuracy  # type: ignore[method-assign]
    with_noise(probe, (0.0, 2.0))
    gamma = torch.tensor(([True] * 8 + [False] * 8) * 2)  # of the two blocks
    for selected, (none, much) in ((gamma, seen[:2]), (~gamma, seen[2:])):
        assert not none.any()
        assert not much[:, ~selected].any()
        own = float(probe.tasks.flat[:, selected].std())
        assert float(much[:, selected].std()) == pytest.approx(2 * own, rel=0.05)


class Contrived(Probe):
    """Answers with a number that one feature of γ gives, and looks at one object."""

    def logits(self, tasks, rows=None):  # type: ignore[no-untyped-def]
        zero = ANSWERS.index("0")
        number = tasks.flat[:, 0].clamp(0, 10)
        scores = torch.full((len(number), len(ANSWERS)), -100.0)
        distance = number[:, None] - torch.arange(11.0)
        scores[:, zero : zero + 11] = -10 * distance.square()
        return scores


def test_interpolation_between_numbers_is_monotone_where_the_network_is(
    some: Sample, network: FilmNetwork
) -> None:
    probe = Contrived(network, some)
    flat = probe.tasks.flat.clone()
    flat[:, 0] = (some.answers - ANSWERS.index("0")).float()
    probe.tasks = type(probe.tasks)(probe.tasks.layout, flat)
    found = interpolation(probe, steps=5)
    assert found.monotone == 1.0
    assert found.numbers.shape[1] == 5
    assert (found.numbers[:, -1] - found.numbers[:, 0] > 0.9).all()
    middle = (found.numbers[:, 0] + found.numbers[:, -1]) / 2
    torch.testing.assert_close(found.numbers[:, 2], middle, atol=0.3, rtol=0)


def test_a_contrast_is_found_in_the_feature_that_has_it(some: Sample, network: FilmNetwork) -> None:
    probe = Probe(network, some)
    texts = [question.text.lower().rstrip("?").split() for question in some.questions]
    flat = torch.randn(probe.tasks.flat.shape, generator=torch.Generator().manual_seed(0))
    flat[:, 11] = torch.tensor(
        [3.0 * any(word in text for word in ("metal", "metallic", "shiny")) for text in texts]
    )
    probe.tasks = type(probe.tasks)(probe.tasks.layout, flat)
    found = contrast(probe, ("rubber", "matte"), ("metal", "metallic", "shiny"))
    assert (found.best.site, found.best.feature, found.best.parameter) == (
        "blocks.0.norm",
        3,
        "beta",
    )
    assert found.best.auc > 0.99 and found.probability < 0.02
    assert min(found.questions) > 5


def test_purity_is_one_where_the_type_is_all_there_is(some: Sample, network: FilmNetwork) -> None:
    probe = Probe(network, some)
    flat = probe.tasks.flat * 0 + some.types[:, None].float()
    probe.tasks = type(probe.tasks)(probe.tasks.layout, flat)
    found = purities(probe, neighbours=1)
    several = some.types.bincount()[some.types] > 1
    for site in ("blocks.0.norm", "blocks.1.norm", "all"):
        assert found[site][0] == pytest.approx(float(several.double().mean()), abs=0.02)


def test_a_network_that_looks_at_the_queried_objects_is_seen_to(
    some: Sample, network: FilmNetwork
) -> None:
    probe = Probe(network, some)
    probe.logits = lambda tasks, rows=None: torch.nn.functional.one_hot(  # type: ignore[method-assign]
        some.answers, len(ANSWERS)
    ).float()
    masks = some.masks[some.image_index]
    queried = torch.zeros(masks.shape)
    for row, mask in enumerate(masks):
        for thing in some.queried[row].nonzero().flatten().tolist():
            queried[row][mask == thing] = 1.0

    def maps(tasks, rows=None):  # type: ignore[no-untyped-def]
        small = torch.nn.functional.adaptive_max_pool2d(queried[rows][:, None], (8, 12))
        yield small

    probe.maps = maps  # type: ignore[method-assign]

    class Itself(torch.nn.Module):
        def map(self, x: torch.Tensor) -> torch.Tensor:
            return x

    network.answer = Itself()  # type: ignore[assignment]
    found = localisation(probe)
    assert found.share == pytest.approx(1.0)
    assert 0 < found.area < 0.5 and found.ratio == pytest.approx(1 / found.area)
    assert found.questions > 10


# --- A + B - C ---------------------------------------------------------------------------------


def test_sums_are_questions_with_true_answers() -> None:
    scenes = RECIPE.scenes(0, 40)
    found = sums(scenes)
    assert len(found) > 12
    for each in found:
        scene = scenes[each.result.image]
        for question in (*each.questions, each.result):
            words = question.text.split()  # How many red cubes are there?
            color, shape = words[2], words[3].removesuffix("s")
            matching = [
                thing
                for thing in scene.objects
                if thing.color == color and shape in ("thing", thing.shape)
            ]
            assert str(len(matching)) == question.answer
        a, b, c = (question.text.split()[2:4] for question in each.questions)
        assert each.result.text.split()[2:4] == [a[0], b[1]] and c == [b[0], a[1]]
        assert each.result.answer not in {question.answer for question in each.questions}


def test_the_accuracy_of_sums_is_that_of_added_parameters(network: FilmNetwork) -> None:
    """Where γ and β add up exactly, a sum answers as its question; its control does not."""
    scenes = RECIPE.scenes(0, 40)
    found = sums(scenes)
    images = render(scenes, width=48, height=32, samples=1, renderer="torch").images
    generator = network.trunk.generator
    words = torch.randn(len(VOCABULARY), network.trunk.layout.size)
    generator.forward = lambda condition: words[condition[0]].sum(1)  # of padding, too: equal
    measured = sum_accuracy(network, images, found)
    assert measured.nearest.correct == len(found)
    assert measured.summed == measured.direct
    assert measured.unrelated.total == len(found)
    answers = Counter(each.result.answer for each in found)
    assert measured.constant.correct == max(answers.values())
    assert len(answers) >= 3 and measured.constant.value < 0.5  # no answer fits most of them


def test_a_control_is_about_another_color() -> None:
    found = sums(RECIPE.scenes(0, 40))
    for number, each in enumerate(found):
        colors = {question.text.split()[2] for question in each.questions}
        other = found[_other_color(found, number)].questions[2]
        assert other.text.split()[2] not in colors


def test_an_exploration_is_of_known_questions(network: FilmNetwork) -> None:
    config = replace(SYSTEM.presets["tiny"], head_std=1.0)
    found = exploration(network, config)
    texts = found.labels["question"]
    assert len(found.task) == len(texts) == len(found.images or ())
    for start, end in found.pairs:
        assert found.images is not None and found.images[start] is found.images[end]
        answers = [int(found.labels["true answer"][row]) for row in (start, end)]
        assert answers[0] < answers[1]
    assert found.respond is not None and found.represent is not None
    row = 3
    made = found.respond(found.task[[row, row]], row)
    assert made.shape == (2, len(ANSWERS)) and torch.equal(made[0], made[1])
    again = found.represent(texts[row])
    torch.testing.assert_close(again.flat[0], found.task.flat[row], atol=1e-5, rtol=1e-4)
    with pytest.raises(WorldError, match="no word of the question is known"):
        found.represent("xyzzy")
    with pytest.raises(ExperimentError, match="not conditioned by FiLM"):
        exploration(torch.nn.Linear(1, 1), config)
