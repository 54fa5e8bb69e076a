"""Style and content: what is hidden stays hidden, and the measures say what they are."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from featurewise.systems.mechanisms import style_content
from featurewise.systems.mechanisms.style_content import (
    SYSTEM,
    asked,
    data,
    draw,
    evaluate,
    known,
    solve,
    stepper,
)
from featurewise.training.steppers import ClosedForm
from featurewise.worlds.glyphs.sheets import sheet
from featurewise.worlds.glyphs.styles import styles

S = replace(SYSTEM.preset("tiny"), judging=1)


def fitted(arm: str) -> ClosedForm:
    found = stepper(SYSTEM.build(S, SYSTEM.arm(arm)), S, SYSTEM.arm(arm))
    found.step(data(S, SYSTEM.arm(arm), 0).batch(0))
    return found


@pytest.mark.parametrize("arm", [arm.name for arm in SYSTEM.arms])
def test_hidden_letters_are_not_read(arm: str) -> None:
    batch = styles(known(S).test)
    hidden = batch.shown == 0
    spoilt = replace(batch, letters=torch.where(hidden[..., None], 9.0, batch.letters))
    with fitted(arm).evaluating() as network:
        assert torch.equal(network(batch), network(spoilt))


def test_the_error_is_that_of_hidden_letters_alone() -> None:
    trained, batch = fitted("mean"), styles(known(S).test)
    mean = trained.network.get_submodule("model").known.mean(0)
    errors = [
        (mean[letter] - face[letter]).square().mean().sqrt()
        for face in batch.letters
        for letter in (2, 5)
    ]
    measured = evaluate(trained, S, SYSTEM.arm("mean"))
    assert measured.number("error") == pytest.approx(float(sum(errors)) / len(errors), rel=1e-5)
    assert measured.by_type["read"].total == 2 * len(batch.letters)
    assert measured.by_type["told"].total == 6 * len(batch.letters)


def test_ridge_and_blend_are_those_of_the_settings() -> None:
    asymmetric, symmetric = (
        SYSTEM.build(S, SYSTEM.arm(arm)).get_submodule("model")
        for arm in ("asymmetric", "symmetric")
    )
    assert S.ridge != S.blend
    assert (asymmetric.ridge, asymmetric.blend) == (S.ridge, S.blend)
    assert symmetric.ridge == S.blend


def test_only_the_control_is_asked_with_mixed_letters() -> None:
    for arm in SYSTEM.arms:
        batch, hidden = asked(S, arm)
        wanted = styles(known(S).test, shuffled=arm.name == "shuffled")
        assert torch.equal(batch.letters, wanted.letters)
        assert hidden.tolist() == [2, 5]


def test_the_error_of_the_fit_is_a_root_mean_square() -> None:
    batch = data(S, SYSTEM.arm("mean"), 0).batch(0)
    mean = batch.letters.mean(0)
    squares = sum(float((mean - face).square().sum()) for face in batch.letters)
    found = solve(SYSTEM.build(S, SYSTEM.arm("mean")), batch)["error"]
    assert float(found) == pytest.approx(math.sqrt(squares / batch.letters.numel()), rel=1e-5)


def test_what_is_drawn_is_read_and_what_is_seen_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a judge that reads the letter as asked, and a mixture that tells all but one face."""
    trained, here = fitted("mean"), known(S)
    faces, given = len(here.test.typefaces), []

    def letters(pictures: Tensor) -> Tensor:
        given.append(pictures)
        return F.one_hot(torch.tensor([2, 5]).repeat(faces), 6).float()

    def tell(model: Any, seen: Tensor, *how: float) -> Tensor:
        given.append((seen, how))
        chances = torch.eye(6).repeat(faces, 1, 1)
        chances[0] = chances[0].roll(1, 1)
        return chances

    judge = SimpleNamespace(letters=letters)
    stand_in = SimpleNamespace(test=here.test, classifier=lambda steps: judge)
    monkeypatch.setattr(style_content, "known", lambda s: stand_in)
    monkeypatch.setattr(style_content, "classify_contents", tell)
    measured = evaluate(trained, S, SYSTEM.arm("mean"))
    assert measured.by_type["read"].correct == 2 * faces
    assert measured.by_type["told"].correct == 6 * (faces - 1)
    (seen, how), pictures = given
    assert torch.equal(seen, styles(here.test).letters)
    assert how == (6, S.deviation, S.rounds)
    mean = trained.network.get_submodule("model").known.mean(0)
    drawn = mean[[2, 5]].repeat(faces, 1).view(-1, 1, S.size, S.size)
    torch.testing.assert_close(pictures, drawn)


def test_the_nearest_arm_tells_by_the_nearest_picture() -> None:
    trained, batch = fitted("nearest"), styles(known(S).test)
    pictures = trained.network.get_submodule("model").known
    right = 0
    for face in batch.letters:
        for letter, picture in enumerate(face):
            far = (pictures - picture).square().sum(2).amin(0)
            right += int(far.argmin()) == letter
    assert evaluate(trained, S, SYSTEM.arm("nearest")).by_type["told"].correct == right


def test_the_picture_has_the_true_letters_above_the_drawn() -> None:
    trained, batch = fitted("asymmetric"), styles(known(S).test)
    with trained.evaluating() as network:
        drawn = network(batch)
    rows = []
    for face in range(0, len(drawn), max(1, len(drawn) // 4)):
        rows += [batch.letters[face, [2, 5]], drawn[face, [2, 5]]]
    pictures = torch.stack(rows[:8]).view(-1, 2, 1, S.size, S.size)
    expected = sheet(pictures, rows=["true", "drawn"] * (len(pictures) // 2))
    page = draw(trained, S, SYSTEM.arm("asymmetric"))
    assert page.size == expected.size
    assert page.tobytes() == expected.tobytes()
