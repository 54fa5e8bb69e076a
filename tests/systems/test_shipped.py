"""The network that comes with the library does as well as its model file says."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from featurewise.cli import discovery
from featurewise.lab.model import load_network, read_model
from featurewise.systems.reasoning.film import SYSTEM, answering
from featurewise.worlds.clevr import QuestionGenerator, collate, encode, render
from featurewise.worlds.clevr.vocabulary import ANSWERS

FOLDER = discovery.shipped_model(discovery.module("film"))


@pytest.fixture(scope="module")
def shipped() -> tuple[torch.nn.Module, answering.Reasoning]:
    return load_network(FOLDER, SYSTEM)


def test_it_is_small_and_says_what_it_was_trained_on() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 10e6
    model = read_model(FOLDER)
    assert model.steps == 40_000
    assert model.world == SYSTEM.world
    assert model.departures == SYSTEM.departures
    assert len(model.measured) == 5


def test_it_answers_blenders_pictures_as_measured(
    shipped: tuple[torch.nn.Module, answering.Reasoning],
    shared_data: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path))
    network, settings = shipped
    batches = answering.from_folder(settings, shared_data("clevr_blender"), "val")
    found = answering.measured(network, settings, batches).number()
    (told,) = (m for name, m in read_model(FOLDER).measured.items() if "800 questions" in name)
    assert found == pytest.approx(told.number(), abs=0.01)  # bfloat16 rounds as the processor does


def test_it_answers_new_pictures(shipped: tuple[torch.nn.Module, answering.Reasoning]) -> None:
    network, settings = shipped
    recipe = replace(settings.lessons[-1].recipe, seed=77)
    scenes = recipe.scenes(0, 40)
    asked = [QuestionGenerator(i).ask(scene, 10) for i, scene in enumerate(scenes)]
    rows = [i for i, questions in enumerate(asked) for _ in questions]
    flat = [question for questions in asked for question in questions]
    answers = [ANSWERS.index(question.answer) for question in flat]
    images = render(scenes, width=recipe.width, height=recipe.height, samples=4).images
    batch = collate(images, rows, [encode(q.text) for q in flat], answers, [0] * len(flat))
    assert answering.measured(network, settings, [batch]).number() > 0.6
