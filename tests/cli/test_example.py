"""``featurewise ask --example``: the shipped model answers its example correctly."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from featurewise.cli import discovery, example
from featurewise.worlds.clevr import render

pytestmark = pytest.mark.skipif(
    not (discovery.shipped_model(discovery.module("film")) / discovery.MODEL).is_file(),
    reason="no trained model ships with FiLM",
)


def test_the_example_is_answered_correctly(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(example, "IMAGE", Path(shutil.copy(example.IMAGE, tmp_path)))
    shown = run("ask", "--example").output
    assert f"question: {example.QUESTION}" in shown
    answer, probability = shown.splitlines()[2].split()[:2]
    assert answer == "gray" and float(probability.rstrip("%")) > 90
    facts = json.loads(run("ask", "--example", "--json", "--out", "seen.png").output)
    assert facts["answers"][0]["answer"] == "gray" and Path(facts["attention"]).is_file()


def test_the_example_is_rendered_by_the_built_in_world():
    """It is scene 6 of the seed of the demonstration, which no data set uses."""
    import numpy as np
    from PIL import Image

    recipe = discovery.load("film").preset("hour").curriculum[-1].recipe
    scene = replace(recipe, seed=201812).scenes(0, 7)[6]
    rendered = render([scene], width=480, height=320, samples=16).images[0]
    with Image.open(example.IMAGE) as image:
        shown = np.asarray(image.convert("RGB"), dtype=np.int16)
    difference = np.abs(shown - rendered.permute(1, 2, 0).numpy())
    assert difference.mean() < 1
    (sphere,) = (
        number
        for number, o in enumerate(scene.objects)
        if (o.size, o.material, o.shape) == ("large", "metal", "sphere")
    )
    left = [scene.objects[other] for other in scene.related("left")[sphere]]
    assert [thing.color for thing in left if thing.shape == "cube"] == ["gray"]
