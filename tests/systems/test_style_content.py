"""Style and content: what is hidden stays hidden, and the measures say what they are."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from featurewise.lab.steppers import ClosedForm
from featurewise.systems.mechanisms.style_content import (
    SYSTEM,
    data,
    draw,
    evaluate,
    known,
    stepper,
)
from featurewise.worlds.glyphs.styles import styles

S = replace(SYSTEM.preset("tiny"), judging=1)


def fitted(arm: str) -> ClosedForm:
    found = stepper(SYSTEM.build(S, SYSTEM.arm(arm)), S, SYSTEM.arm(arm))
    found.step(data(S, SYSTEM.arm(arm), 0).batch(0))
    return found


@pytest.mark.parametrize("arm", [arm.name for arm in SYSTEM.arms])
def test_hidden_letters_are_not_read(arm: str) -> None:
    batch = styles(known(S).held_out)
    hidden = batch.shown == 0
    spoilt = replace(batch, letters=torch.where(hidden[..., None], 9.0, batch.letters))
    with fitted(arm).evaluating() as network:
        assert torch.equal(network(batch), network(spoilt))


def test_the_error_is_that_of_hidden_letters_alone() -> None:
    trained, batch = fitted("mean"), styles(known(S).held_out)
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


def test_the_nearest_arm_tells_by_the_nearest_picture() -> None:
    trained, batch = fitted("nearest"), styles(known(S).held_out)
    pictures = trained.network.get_submodule("model").known
    right = 0
    for face in batch.letters:
        for letter, picture in enumerate(face):
            far = (pictures - picture).square().sum(2).amin(0)
            right += int(far.argmin()) == letter
    assert evaluate(trained, S, SYSTEM.arm("nearest")).by_type["told"].correct == right


def test_the_picture_has_the_true_letters_above_the_drawn() -> None:
    page = draw(fitted("asymmetric"), S, SYSTEM.arm("asymmetric"))
    faces = min(4, len(known(S).held_out.faces))
    assert page.height == 2 * faces * (2 * S.size + 2) + 2
