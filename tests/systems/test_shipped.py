"""The shipped network is as accurate as its model file says."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from featurewise.analysis import pooled_places
from featurewise.cli import discovery
from featurewise.study.model import load_network, read_model
from featurewise.systems.reasoning.film import SYSTEM, Config, FilmNetwork
from featurewise.systems.reasoning.film.experiment import measure, predict_all
from featurewise.systems.reasoning.film.places import places as places_of
from featurewise.systems.reasoning.film.places import pooled_map
from featurewise.worlds.clevr import QuestionGenerator, Recipe, collate, encode, render
from featurewise.worlds.clevr.vocabulary import ANSWERS

LARGE_METAL_SPHERE = "large", "metal", "sphere"
FOLDER = discovery.shipped_model(discovery.module("film"))
ANSWERER = discovery.answerer(SYSTEM)


@pytest.fixture(scope="module")
def shipped() -> tuple[FilmNetwork, Config]:
    return load_network(FOLDER, SYSTEM)


def test_it_is_small_and_says_what_it_was_trained_on() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 10e6
    model = read_model(FOLDER)
    assert model.steps == 60_000
    assert "built-in CLEVR world" in model.world
    assert len(model.departures) == len(SYSTEM.departures)
    assert len(model.measured) == 5


def test_its_settings_are_those_of_the_preset(
    shipped: tuple[FilmNetwork, Config],
) -> None:
    assert shipped[1] == SYSTEM.config("full", "film")


def test_accuracy_on_images_of_blender_is_as_stated(
    shipped: tuple[FilmNetwork, Config],
    shared_data: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path))
    network, config = shipped
    queries = ANSWERER.queries(shared_data("clevr_blender"), "val")
    found = ANSWERER.evaluate(network, config, queries).measured.number()
    (stated,) = (m for name, m in read_model(FOLDER).measured.items() if "800 questions" in name)
    assert found == pytest.approx(
        stated.number(), abs=0.01
    )  # bfloat16 rounds as the processor does


def test_it_answers_questions_about_new_images(shipped: tuple[FilmNetwork, Config]) -> None:
    network, config = shipped
    recipe = replace(config.curriculum[-1].recipe, seed=77)
    scenes = recipe.scenes(0, 40)
    generated = [QuestionGenerator(i).generate(scene, 10) for i, scene in enumerate(scenes)]
    rows = [i for i, questions in enumerate(generated) for _ in questions]
    flat = [question for questions in generated for question in questions]
    answers = [ANSWERS.index(question.answer) for question in flat]
    images = render(scenes, width=recipe.width, height=recipe.height, samples=4).images
    batch = collate(images, rows, [encode(q.text) for q in flat], answers, [0] * len(flat))
    with torch.autocast("cpu", torch.bfloat16):
        assert measure(predict_all(network, [batch])).number() > 0.85


def looked(
    shipped: tuple[FilmNetwork, Config],
) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Questions for an attribute of one object: places as they are shown, as every feature counts
    alike, and the cells (10, 15) in which the object shows."""
    network, config = shipped
    recipe = replace(config.curriculum[0].recipe, seed=303, questions_per_image=6)
    scenes = recipe.scenes(0, 16)
    rendering = render(scenes, width=recipe.width, height=recipe.height, samples=4)
    found = []
    for row, questions in enumerate(recipe.questions(0, scenes)):
        for question in questions:
            if not question.program[-1].function.startswith("query"):
                continue
            filters = [
                (s.function[7:], s.value) for s in question.program if "filter" in s.function
            ]
            (target,) = (
                index
                for index, thing in enumerate(scenes[row].objects)
                if all(getattr(thing, name) == value for name, value in filters)
            )
            mask = (rendering.masks[row] == target).float()
            cells = F.max_pool2d(mask[None, None], 8)[0, 0] > 0
            batch = collate(
                rendering.images[[row]].clone(), [0], [encode(question.text)], [-1], [-1]
            )
            shown = places_of(network, batch)
            assert shown is not None
            alike = pooled_places(pooled_map(network, network.answer, batch))[0]
            found.append((shown, alike, cells))
    return found


def test_it_shows_the_object_of_the_question(
    shipped: tuple[FilmNetwork, Config],
) -> None:
    """Weighed by rise over an empty scene times gradient: less of it lies elsewhere."""

    def near(cells: torch.Tensor) -> torch.Tensor:
        """The object's cells and their neighbours, into which 3 × 3 convolutions move it."""
        return F.max_pool2d(cells.float()[None, None], 3, 1, 1)[0, 0] > 0

    found = looked(shipped)
    assert len(found) >= 40
    peaks = [bool(near(cells).flatten()[places.argmax()]) for places, _, cells in found]
    assert sum(peaks) / len(peaks) >= 0.95
    weighed, alike = (
        sum(float(case[which][near(case[2])].sum()) for case in found) / len(found)
        for which in (0, 1)
    )
    area = sum(float(near(cells).float().mean()) for _, _, cells in found) / len(found)
    assert weighed >= 0.9 and weighed > alike + 0.1 and area < 0.2
    assert all(places.sum().item() == pytest.approx(1) for places, _, _ in found)


def test_it_answers_the_example_of_the_documentation(
    shipped: tuple[FilmNetwork, Config], tmp_path: Path
) -> None:
    """Image and question stand in ``docs/cli.md``."""
    page = (Path(__file__).parents[2] / "docs/cli.md").read_text()
    question = "What color is the large metal sphere?"
    assert f'ask film data/images/val/CLEVR_val_000000.png "{question}"' in page
    assert "world clevr --count 1 --split val --seed 1 --out data" in page
    (scene,) = Recipe(seed=1, width=480, height=320, samples=16).scenes(0, 1)
    image = render([scene], width=480, height=320, samples=4).images[0]
    path = tmp_path / "image.png"
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    network, config = shipped
    pixels = ANSWERER.image(config, path).pixels
    best, probability = ANSWERER.answer(network, pixels, question).ranked[0]
    truth = [o.color for o in scene.objects if (o.size, o.material, o.shape) == LARGE_METAL_SPHERE]
    assert [best] == truth and probability > 0.95
