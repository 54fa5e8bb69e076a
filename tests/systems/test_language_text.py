"""Runs of language models belong to the text and the vocabulary that they were trained with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import pytest

from featurewise.study.model import load_network
from featurewise.study.run import describe_run, train
from featurewise.systems.language.gated_conv import SYSTEM as GATED_CONV
from featurewise.systems.language.hyper_lstm import SYSTEM as HYPER_LSTM
from featurewise.training.errors import ExperimentError
from featurewise.worlds.text import Document, corpus, sums
from featurewise.worlds.text.corpus import DOCUMENTS, _corpus


@pytest.fixture
def rewritten(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """For a change of the text, after which no corpus is cached."""
    yield monkeypatch
    monkeypatch.undo()
    _corpus.cache_clear()


def replaced(document: Document) -> Document:
    """With two letters in each other's place: another vocabulary, of the same size."""
    swapped = str.maketrans("io", "oi")
    return replace(
        document, paragraphs=tuple(each.translate(swapped) for each in document.paragraphs)
    )


@pytest.mark.parametrize("system", [GATED_CONV, HYPER_LSTM], ids=lambda each: each.name)
def test_weights_are_not_used_with_another_text(
    system: Any, tmp_path: Path, rewritten: pytest.MonkeyPatch
) -> None:
    run = describe_run(system, preset="tiny", config=replace(system.presets["tiny"], steps=1))
    train(tmp_path, system, run)
    load_network(tmp_path, system)
    unit: Literal["word", "character"] = "word" if system is GATED_CONV else "character"
    before = corpus("sums", unit).vocabulary
    documents = cast(dict[str, Any], DOCUMENTS)
    rewritten.setitem(documents, "sums", lambda: tuple(map(replaced, sums())))
    _corpus.cache_clear()
    after = corpus("sums", unit).vocabulary
    assert len(after) == len(before) and after != before, "the weights would fit, and be wrong"
    with pytest.raises(ExperimentError, match="another text of sums than there is here"):
        load_network(tmp_path, system)
    with pytest.raises(ExperimentError, match="another text of sums than there is here"):
        train(tmp_path, system, run)
