"""FiLM in use: what the command line calls; the method does not import this file.

``featurewise ask``, ``evaluate``, ``demo`` and ``train --data`` come here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from featurewise.analysis import ParameterTable, parameter_table
from featurewise.retrofit import Conditioned
from featurewise.study.answerer import (
    Answer,
    Evaluation,
    Example,
    InputImage,
    Queries,
    TwinTest,
    UnknownWords,
)
from featurewise.study.results import Measurement, Proportion
from featurewise.systems.reasoning.film.config import Config
from featurewise.systems.reasoning.film.examples import described, rendered
from featurewise.systems.reasoning.film.experiment import (
    SWAP_ACCURACY,
    measure,
    measure_twins,
    predict_all,
)
from featurewise.systems.reasoning.film.places import places
from featurewise.training import hardware
from featurewise.worlds.clevr import (
    ANSWERS,
    Recipe,
    WorldError,
    collate,
    encode,
    unknown_words,
)
from featurewise.worlds.clevr.images import (
    framing_note,
    read_rgb_image,
    resize,
    visible_rows,
)
from featurewise.worlds.clevr.metrics import GROUPS, NUMBERS, TWINS
from featurewise.worlds.clevr.queries import (
    CountedUnknownWords,
    FolderQueries,
    splits_with_questions,
)
from featurewise.worlds.clevr.splits import (
    CLEVR,
    NO_RELATIONS,
    Folder,
    held_out_batches,
    twin_test,
)
from featurewise.worlds.clevr.twins import folder_twin_batches
from featurewise.worlds.clevr.words import has_known_word, near_words

_TWIN_TEST = TwinTest(
    "Two objects (twins) of one shape and different colors stand on either side of a "
    "third object. left, right, front, behind: accuracy on the question for the color "
    "of the twin there. pair: both answers correct; mirrored: the answer is the color "
    "of the other twin; changed: the two answers differ.",
    {name: name.removeprefix("twin ") for name in TWINS},
)


class FilmAnswerer:
    """See `featurewise.study.answerer.Answerer`."""

    twin_test = _TWIN_TEST

    def image(self, config: Config, path: Path) -> InputImage:
        """Reads an image file; see `Answerer.image`."""
        original, size = read_rgb_image(path), _size(config)
        pixels = np.array(resize(original, *size)).transpose(2, 0, 1).copy()
        note, rows = framing_note(original.size, size), visible_rows(original.size, size)
        return InputImage(original, torch.from_numpy(pixels), note, rows)

    def answer(
        self, network: nn.Module, image: UInt8[Tensor, "3 H W"], question: str
    ) -> Answer:
        """Answers one question; see `Answerer.answer`."""
        unknown = {word: tuple(near_words(word)) for word in unknown_words(question)}
        if not has_known_word(question):
            what = f"no word of the question is known: {question!r}" if unknown else ""
            raise WorldError(what or f"the question has no words: {question!r}")
        batch = collate(image.unsqueeze(0), [0], [encode(question)], [-1], [-1])
        batch = batch.to(_device(network))
        with torch.no_grad():
            logits: Tensor = network(batch).logits[0]
            values, order = logits.float().softmax(0).sort(descending=True, stable=True)
        ranked = zip((ANSWERS[i] for i in order.tolist()), values.tolist(), strict=True)
        return Answer(question, tuple(ranked), unknown, places(network, batch))

    def examples(self, config: Config, seed: int, count: int) -> list[Example]:
        """New scenes with ten questions each; see `Answerer.examples`."""
        recipe = replace(_recipe(config), seed=seed, questions_per_image=10)
        scenes = recipe.scenes(0, count)
        return [
            Example(
                described(scene),
                tuple((question.text, question.answer) for question in questions),
                partial(rendered, scene),
            )
            for scene, questions in zip(scenes, recipe.questions(0, scenes), strict=True)
        ]

    def parameters(
        self, network: nn.Module, questions: Sequence[str]
    ) -> ParameterTable | None:
        """γ and β of questions; see `Answerer.parameters`."""
        trunk = getattr(network, "trunk", None)
        if not isinstance(trunk, Conditioned):
            return None
        image = torch.zeros(1, 3, 1, 1, dtype=torch.uint8)
        none = [-1] * len(questions)
        batch = collate(
            image, [0] * len(questions), [encode(q) for q in questions], none, none
        )
        batch = batch.to(_device(network))
        with torch.no_grad():
            return parameter_table(trunk.represent((batch.questions, batch.lengths)))

    def splits(self, folder: Path) -> list[str]:
        """Splits of a data set in the layout of CLEVR v1.0 that have questions."""
        return splits_with_questions(folder)

    def queries(
        self,
        folder: Path,
        split: str,
        questions: Path | None = None,
        limit: int | None = None,
    ) -> FolderQueries:
        """Questions of a data set on disk; see `Answerer.queries`."""
        return FolderQueries(folder, split, questions, limit)

    def trained_on(self, config: Config, folder: Path, split: str) -> Config:
        """The config with a data set in the layout of CLEVR v1.0 to train on."""
        return replace(config, folder=Folder(path=str(folder.resolve()), split=split))

    def held_out(self, config: Config) -> str:
        """The held-out data of a config; see `Answerer.held_out`."""
        if config.folder is not None:
            return f"Held-out images of {config.folder.path}, trained on {config.folder.split}."
        recipe = _recipe(config)
        families = len(recipe.families or ())
        questions = (
            "all kinds of questions"
            if recipe.families is None
            else "questions without relations"
            if recipe.families == NO_RELATIONS.families
            else f"{families} question families"
        )
        return (
            f"{CLEVR.what} Held out from training: {config.test_images:,} images of "
            f"{recipe.width} x {recipe.height} pixels, {recipe.min_objects} to "
            f"{recipe.max_objects} objects, {questions}."
        )

    def evaluate(
        self,
        network: nn.Module,
        config: Config,
        queries: Queries | None = None,
        *,
        limit: int | None = None,
        shuffled: bool = False,
    ) -> Evaluation:
        """Answers many questions; see `Answerer.evaluate`."""
        if queries is None:
            recipe = _recipe(config)
            batches = held_out_batches(recipe, config.test_images, config.folder, limit)
        elif isinstance(queries, FolderQueries):
            batches = queries.batches(*_size(config))
        else:
            raise TypeError(
                f"queries are those of FilmAnswerer.queries, not {type(queries)}"
            )
        counted = CountedUnknownWords(batches)
        with _precision(network, config):
            found = predict_all(network, counted, shuffled=shuffled)
        answers = tuple(ANSWERS[index] for index in found.predicted.tolist())
        return Evaluation(
            measure(found), answers, UnknownWords(*counted.counts.tolist())
        )

    def groups(
        self, measured: Measurement
    ) -> dict[str, tuple[Proportion, tuple[str, ...]]]:
        """The five rows of published tables; of counts, the numbers if known."""
        found: dict[str, tuple[Proportion, tuple[str, ...]]] = {}
        for group, names in GROUPS.items():
            parts = {
                name: measured.by_type[name]
                for name in names
                if name in measured.by_type
            }
            if parts:
                first, *others = parts.values()
                found[group] = sum(others, first), tuple(parts)
        numbers = tuple(name for name in measured.by_type if name in NUMBERS)
        if "count" in found and numbers:
            found["count"] = found["count"][0], numbers
        return found

    def remark(self, measured: Measurement) -> str | None:
        """How often another question about an image gets its own answer."""
        share = measured.number(SWAP_ACCURACY)
        return f"Another question about the same image gets its own answer: {share:.1%} of pairs."

    def measure_twins(
        self,
        network: nn.Module,
        config: Config,
        folder: Path | None = None,
        split: str = "val",
        limit: int | None = None,
    ) -> dict[str, Proportion]:
        """The twin test; see `Answerer.measure_twins`."""
        if folder is None:
            batches = twin_test(_recipe(config), limit)
        else:
            batches = folder_twin_batches(folder, split, *_size(config), limit)
        with _precision(network, config):
            return measure_twins(network, batches)


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


def _precision(network: nn.Module, config: Config) -> torch.autocast:
    """That of the forward pass in training, on the network's device."""
    return hardware.autocast(_device(network), bfloat16=config.bfloat16)


def _recipe(config: Config) -> Recipe:
    """That of the last stage, which is tested on."""
    return config.curriculum[-1].recipe


def _size(config: Config) -> tuple[int, int]:
    """Width and height of the images that a network takes."""
    return _recipe(config).width, _recipe(config).height
