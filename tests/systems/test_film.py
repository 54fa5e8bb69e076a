"""What is particular to FiLM for visual reasoning: control, auxiliary task, measures."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensorMode

from featurewise.study.results import Measurement
from featurewise.systems.reasoning.film import SYSTEM, Config, FilmNetwork
from featurewise.systems.reasoning.film.experiment import SWAP_ACCURACY, measure, predict_all
from featurewise.systems.reasoning.film.network import Answers, image_features
from featurewise.systems.reasoning.film.perception import (
    ATTRIBUTE_CLASSES,
    AttributeHead,
    attribute_loss,
)
from featurewise.systems.reasoning.film.training import half_a_batch_on
from featurewise.training.shuffled import ShuffledCondition
from featurewise.worlds.clevr import ANSWERS, QUESTION_TYPES, VOCABULARY, Batch, sample_scenes
from featurewise.worlds.clevr.batch import cell_labels
from featurewise.worlds.clevr.camera import POSITION, Camera
from featurewise.worlds.clevr.data import object_table
from featurewise.worlds.clevr.splits import Curriculum
from featurewise.worlds.clevr.vocabulary import ATTRIBUTES

TINY: Config = SYSTEM.preset("tiny")
SIZE = 480, 320


def batch(images: int = 3, each: int = 2, height: int = 20, width: int = 30) -> Batch:
    """Noise, and questions of four to seven words about it."""
    count = images * each
    lengths = torch.randint(4, 8, (count,))
    tokens = torch.randint(2, len(VOCABULARY), (count, 7))
    return Batch(
        images=torch.randint(0, 256, (images, 3, height, width), dtype=torch.uint8),
        image_index=torch.arange(images).repeat_interleave(each),
        questions=tokens.where(torch.arange(7) < lengths.unsqueeze(1), 0),
        lengths=lengths,
        answers=torch.randint(len(ANSWERS), (count,)),
        types=torch.randint(len(QUESTION_TYPES), (count,)),
    )


@pytest.fixture
def film() -> Iterator[FilmNetwork]:
    """In eval mode, its head away from the identity, in float64."""
    torch.set_default_dtype(torch.float64)
    network = FilmNetwork(TINY).eval()
    nn.init.normal_(network.trunk.generator.head.weight)
    yield network
    torch.set_default_dtype(torch.float32)


# Sources


@dataclass(frozen=True)
class Numbered:
    """Batches that hold the name of their source, and their index."""

    name: int

    def batch(self, index: int) -> Batch:
        torch.manual_seed(100 * self.name + index)
        return replace(batch(), types=torch.tensor([self.name, index, 0, 0, 0, 0]))


def stage_and_index(curriculum: Curriculum, index: int) -> tuple[int, int]:
    types = curriculum.batch(index).types.tolist()
    return types[0], types[1]


def test_stages_follow_each_other_and_the_last_lasts_until_the_end() -> None:
    curriculum = Curriculum([Numbered(1), Numbered(2), Numbered(3)], [2, 3, 1])
    found = [stage_and_index(curriculum, index) for index in range(8)]
    assert found == [(1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (3, 0), (3, 1), (3, 2)]


def test_a_single_stage_is_its_source() -> None:
    curriculum = Curriculum([Numbered(1)], [4])
    assert [stage_and_index(curriculum, index) for index in (0, 3, 9)] == [(1, 0), (1, 3), (1, 9)]


def test_the_stages_of_every_preset_add_up_to_its_steps() -> None:
    for name, config in SYSTEM.presets.items():
        assert sum(stage.steps for stage in config.curriculum) == config.steps, name


def test_the_control_has_questions_of_other_images_and_keeps_the_answers() -> None:
    source = Numbered(1)
    control = ShuffledCondition(source, ("questions", "lengths"), half_a_batch_on).batch(4)
    plain = source.batch(4)
    assert torch.equal(control.images, plain.images)
    assert torch.equal(control.image_index, plain.image_index)
    assert torch.equal(control.answers, plain.answers)
    assert torch.equal(control.types, plain.types)
    for row in range(6):
        other = (row - 3) % 6
        assert torch.equal(control.questions[row], plain.questions[other])
        assert control.lengths[row] == plain.lengths[other]
        assert plain.image_index[row] != plain.image_index[other]


def test_the_control_moves_every_question_at_every_preset() -> None:
    for config in SYSTEM.presets.values():
        each = config.questions_per_image
        shown = batch(config.images_per_batch, each, height=1, width=1)
        moved = shown.image_index[half_a_batch_on(0, shown)]
        assert (shown.image_index != moved).all()


# The auxiliary task


def looped_labels(objects: Tensor, height: int, width: int) -> Tensor:
    """Cell by cell: the attributes of the object whose centre lies there."""
    labels = torch.zeros(len(objects), 4, height, width, dtype=torch.int64)
    for image, things in enumerate(objects.tolist()):
        for size, color, material, shape, x, y in things:
            if size < 0:
                continue
            for row in range(height):
                for column in range(width):
                    inside = column / width <= x / 480 < (column + 1) / width
                    if inside and row / height <= y / 320 < (row + 1) / height:
                        cell = [1 + each for each in (size, color, material, shape)]
                        labels[image, :, row, column] = torch.tensor(cell)
    return labels


def some_objects(images: int, height: int, width: int) -> Tensor:
    """Up to four objects in different cells of each image, the others -1."""
    objects = torch.full((images, 10, 6), -1)
    for image in objects:
        cells = torch.randperm(height * width)[:4]
        for thing, cell in zip(image, cells.tolist(), strict=False):
            values = [int(torch.randint(len(v), ())) for v in ATTRIBUTES.values()]
            x = (cell % width + float(torch.rand(()))) * 480 / width
            y = (cell // width + float(torch.rand(()))) * 320 / height
            thing[:] = torch.tensor([*values, int(x), int(y)])
    return objects


@pytest.mark.parametrize(("height", "width"), [(5, 7), (10, 15), (4, 6), (1, 1)])
def test_cell_labels_are_a_loop_over_cells(height: int, width: int) -> None:
    objects = some_objects(5, height, width)
    found = cell_labels(objects, height, width)
    assert torch.equal(found, looped_labels(objects, height, width))
    assert found.amax() > 0


def test_objects_at_the_rim_and_beyond_belong_to_the_last_cell() -> None:
    objects = torch.full((1, 10, 6), -1)
    objects[0, 0] = torch.tensor([1, 7, 0, 2, 479, 319])
    objects[0, 1] = torch.tensor([0, 0, 1, 1, 480, 0])
    labels = cell_labels(objects, 4, 6)
    assert labels[0, :, 3, 5].tolist() == [2, 8, 1, 3]
    assert labels[0, :, 0, 5].tolist() == [1, 1, 2, 2]
    assert int((labels[0, 0] > 0).sum()) == 2


@pytest.mark.parametrize(
    "size", [(120, 80), (224, 224), (160, 120), (480, 320), (80, 120), (240, 120)]
)
def test_a_cell_holds_its_object_in_an_image_of_any_shape(size: tuple[int, int]) -> None:
    width, height = size[0] // 8, size[1] // 8
    scenes = sample_scenes(12, seed=8)
    labels = cell_labels(torch.from_numpy(object_table(scenes)).long(), height, width, size)
    for scene, found in zip(scenes, labels, strict=True):
        camera = Camera.at(scene.camera or POSITION)
        expected: dict[tuple[int, int], list[int]] = {}
        for thing in scene.objects:
            # The places of objects are rounded to pixels of a 480 x 320 image.
            column, row, _ = camera.project(np.array(thing.position))
            column, row = round(column) * size[0] / 480, (round(row) - 160) * size[0] / 480
            cell = int((row + size[1] / 2) // 8), int(column // 8)
            values = [1 + v.index(getattr(thing, name)) for name, v in ATTRIBUTES.items()]
            if 0 <= cell[0] < height:
                expected[cell] = values
        assert len(expected) > 0
        there = {(int(r), int(c)) for r, c in (found[0] > 0).nonzero().tolist()}
        assert there == set(expected)
        for (r, c), values in expected.items():
            assert found[:, r, c].tolist() == values


def test_the_objective_labels_cells_by_the_shape_of_the_images() -> None:
    torch.manual_seed(1)
    film, seen = FilmNetwork(TINY), batch(height=30, width=30)
    objects = some_objects(3, 4, 6)
    supervised = SYSTEM.stepper(film, TINY)
    with torch.no_grad():
        answers = film(seen)
        alone, _ = supervised.objective(film, seen)
        both, _ = supervised.objective(film, replace(seen, objects=objects))
    square = 0.1 * attribute_loss(answers.attributes, objects, (30, 30))
    torch.testing.assert_close(both - alone, square)
    assert not torch.allclose(square, 0.1 * attribute_loss(answers.attributes, objects, SIZE))


def test_the_labels_of_a_batch_on_a_gpu_are_computed_without_waiting_for_it() -> None:
    # A fake tensor refuses what reads its values, which is what a GPU would be waited for.
    with FakeTensorMode():
        objects = torch.empty(4, 10, 6, dtype=torch.int64)
        names = torch.empty(4, sum(ATTRIBUTE_CLASSES), 3, 4)
        assert cell_labels(objects, 3, 4).shape == (4, 4, 3, 4)
        assert attribute_loss(names, objects, SIZE).shape == ()
        with pytest.raises(DynamicOutputShapeException):
            objects.nonzero()


def test_attribute_loss_is_weighted_cross_entropy_of_four_attributes() -> None:
    objects = some_objects(2, 3, 4)
    channels = sum(len(values) + 1 for values in ATTRIBUTES.values())
    names = torch.randn(2, channels, 3, 4)
    labels = looped_labels(objects, 3, 4)
    total, start = 0.0, 0
    for attribute, values in enumerate(ATTRIBUTES.values()):
        above = below = 0.0
        for image in range(2):
            for row in range(3):
                for column in range(4):
                    logits = names[image, start : start + len(values) + 1, row, column].double()
                    label = int(labels[image, attribute, row, column])
                    weight = 1.0 if label else 0.25
                    above += weight * float(logits.logsumexp(0) - logits[label])
                    below += weight
        total += above / below
        start += len(values) + 1
    assert float(attribute_loss(names, objects, SIZE)) == pytest.approx(total, rel=1e-5)


def test_confident_correct_attributes_have_no_loss() -> None:
    objects = some_objects(2, 3, 4)
    labels = cell_labels(objects, 3, 4)
    parts = [
        F.one_hot(labels[:, i], len(values) + 1).permute(0, 3, 1, 2)
        for i, values in enumerate(ATTRIBUTES.values())
    ]
    names = 50.0 * torch.cat(parts, dim=1)
    assert float(attribute_loss(names, objects, SIZE)) == pytest.approx(0, abs=1e-6)
    assert float(attribute_loss(-names, objects, SIZE)) > 100
    assert AttributeHead(3).out_channels == names.shape[1]


# Measurement


class Fixed(nn.Module):
    """A network with given answers, batch after batch."""

    def __init__(self, *answers: list[int]) -> None:
        super().__init__()
        self.answers = list(answers)
        self.seen: list[Batch] = []

    def forward(self, batch: Batch) -> Answers:
        self.seen.append(batch)
        given = torch.tensor(self.answers[len(self.seen) - 1])
        return Answers(F.one_hot(given, len(ANSWERS)).float(), None)


def questions(image_index: list[int], answers: list[int], types: list[int] | None = None) -> Batch:
    count = len(answers)
    return replace(
        batch(1 + max(image_index), 1),
        image_index=torch.tensor(image_index),
        questions=torch.arange(2, 2 + count).unsqueeze(1),
        lengths=torch.ones(count, dtype=torch.int64),
        answers=torch.tensor(answers),
        types=torch.tensor(types or [0] * count),
    )


def measured(network: nn.Module, batches: list[Batch], shuffled: bool = False) -> Measurement:
    return measure(predict_all(network, batches, shuffled=shuffled))


def test_swap_accuracy_counts_pairs_with_two_answers_and_the_first_correct() -> None:
    batches = [
        # Pairs about one image: (5, 6) both correct: counts. (6, 6): one answer.
        # (6, 7): second wrong: does not count. (1, 2): first wrong: left out.
        questions([0, 0, 0, 0, 1, 1], [5, 6, 6, 7, 1, 2]),
        # (3, 4) is of two images; (4, 0) counts.
        questions([0, 1, 1], [3, 4, 0]),
    ]
    found = measured(Fixed([5, 6, 6, 9, 9, 2], [3, 4, 0]), batches)
    assert found.number(SWAP_ACCURACY) == pytest.approx(2 / 3)
    assert found.accuracy is not None
    assert (found.accuracy.correct, found.accuracy.total) == (7, 9)


def test_swap_accuracy_is_zero_without_such_pairs() -> None:
    found = measured(Fixed([9, 9]), [questions([0, 0], [5, 6])])
    assert found.number(SWAP_ACCURACY) == 0
    assert found.accuracy is not None
    assert found.accuracy.value == 0


def test_types_without_questions_are_left_out() -> None:
    found = measured(Fixed([5, 9, 6]), [questions([0, 0, 1], [5, 6, 6], [1, 1, 0])])
    counts = {name: (p.correct, p.total) for name, p in found.by_type.items()}
    assert counts == {
        "exist": (1, 1),
        "count": (1, 2),
        "count 3": (1, 1),
        "count 4": (0, 1),
        "swap accuracy": (0, 1),
    }


def test_shuffling_changes_questions_and_not_the_true_answers() -> None:
    network, plain = Fixed([5, 6, 7, 8]), questions([0, 0, 1, 1], [5, 6, 7, 8])
    found = measured(network, [plain], shuffled=True)
    assert found.accuracy is not None
    assert found.accuracy.value == 1
    assert network.seen[0].questions.flatten().tolist() == [4, 5, 2, 3]


# Training


def test_learning_rates_cover_every_parameter_once() -> None:
    base = replace(
        TINY,
        learning_rate=1e-3,
        head_learning_rate=10.0,
        encoder_learning_rate=3.0,
        weight_decay=1e-5,
    )
    for arm in SYSTEM.arms:
        config = SYSTEM.config(base, arm.name)
        network = SYSTEM.build(config)
        found: dict[nn.Parameter, tuple[float, float]] = {}
        for group in SYSTEM.stepper(network, config).learner.optimizer.param_groups:
            for parameter in group["params"]:
                assert parameter not in found, "in two groups"
                found[parameter] = group["initial_lr"], group["weight_decay"]
        assert found.keys() == set(network.parameters()), arm.name
        for name, parameter in network.named_parameters():
            rate, decay = found[parameter]
            encodes = "generator.encoder." in name or name.startswith("read.")
            expected = 3e-3 if encodes else 1e-2 if name.endswith("head.weight") else 1e-3
            assert math.isclose(rate, expected), (arm.name, name, rate)
            plain = parameter.ndim < 2 or "embedding" in name
            assert decay == (0.0 if plain else 1e-5), (arm.name, name)


def test_the_objective_is_answers_and_a_tenth_of_the_attribute_loss() -> None:
    film, seen = FilmNetwork(TINY), batch()
    supervised = SYSTEM.stepper(film, TINY)
    objects = some_objects(3, 4, 6)
    with torch.no_grad():
        answers = film(seen)
        alone, metrics = supervised.objective(film, seen)
        both, _ = supervised.objective(film, replace(seen, objects=objects))
    assert torch.equal(alone, F.cross_entropy(answers.logits, seen.answers))
    torch.testing.assert_close(
        both - alone, 0.1 * attribute_loss(answers.attributes, objects, SIZE)
    )
    assert metrics["accuracy"] == (answers.logits.argmax(1) == seen.answers).float().mean()


# The conditioned network


def test_another_question_gives_another_answer(film: FilmNetwork) -> None:
    seen = batch(1, 2)
    seen.questions[:] = torch.tensor([[2, 3, 4, 5, 6, 7, 8], [2, 3, 4, 5, 6, 7, 9]])
    seen.lengths[:] = 7
    one, other = film(seen).logits
    assert not torch.allclose(one, other, atol=1e-4)
    swapped = replace(seen, questions=seen.questions.flip(0))
    torch.testing.assert_close(film(swapped).logits, torch.stack((other, one)))


def test_before_training_the_question_changes_nothing() -> None:
    network, seen = FilmNetwork(TINY).eval(), batch(1, 2)
    one, other = network(seen).logits
    torch.testing.assert_close(one, other)
    plain = network.answer(network.trunk.backbone(image_features(network.stem, seen.images)))
    torch.testing.assert_close(plain[0], one)


def test_padding_changes_nothing(film: FilmNetwork) -> None:
    seen = batch()
    longer = replace(seen, questions=F.pad(seen.questions, (0, 5)))
    torch.testing.assert_close(film(longer).logits, film(seen).logits)


@torch.no_grad()
def test_a_kept_representation_stands_for_its_question(film: FilmNetwork) -> None:
    seen = batch()
    task = film.trunk.represent((seen.questions, seen.lengths))
    features = image_features(film.stem, seen.images)[seen.image_index]
    direct = film(seen).logits
    for kept in (task, task.flat):
        found = film.answer(film.trunk(features, task=kept))
        torch.testing.assert_close(found, direct, rtol=0, atol=1e-12)
    order = torch.tensor([4, 0, 2])
    some = film.answer(film.trunk(features[order], task=task.flat[order]))
    torch.testing.assert_close(some, direct[order], rtol=0, atol=1e-12)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_an_image_given_once_equals_the_image_given_once_per_question(
    film: FilmNetwork, training: bool
) -> None:
    """In training too: images that all serve as many questions have the same statistics."""
    film.train(training)
    seen = batch()
    single = replace(
        seen, images=seen.images[seen.image_index], image_index=torch.arange(len(seen.lengths))
    )
    weights = [p for name, p in film.named_parameters() if not name.startswith("naming")]
    found = []
    for each in (seen, single):
        logits = film(each).logits
        loss = F.cross_entropy(logits, each.answers)
        found.append((logits.detach(), *torch.autograd.grad(loss, weights)))
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-9)


def test_the_paper_preset_has_the_papers_sizes() -> None:
    with torch.device("meta"):
        network = FilmNetwork(SYSTEM.preset("paper"))
    assert network.trunk.layout.size == 4 * 2 * 128
    gru = network.trunk.generator.encoder.recurrent
    assert (gru.input_size, gru.hidden_size) == (200, 4096)
    assert [
        each.weight.shape[0] for each in network.stem.layers if isinstance(each, nn.Conv2d)
    ] == ([128] * 4)
    assert network.answer.project.project.out_channels == 512
