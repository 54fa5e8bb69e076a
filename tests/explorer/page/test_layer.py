"""The page of the documentation on which a FiLM layer is moved by hand."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

LAYER = Path(__file__).parents[3] / "docs/layer.py"


@pytest.fixture(scope="module")
def layer():
    found = importlib.util.spec_from_file_location("layer", LAYER)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def page(layer, browser, tmp_path_factory):
    path = tmp_path_factory.mktemp("layer") / "layer.html"
    path.write_text(layer.page(), encoding="utf-8")
    page = browser.new_page(viewport={"width": 900, "height": 800})
    page.errors = []
    page.on("console", lambda message: page.errors.append(message.text))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(path.as_uri())
    yield page
    page.close()


def shares(page):
    return [
        int(text.split()[3])
        for text in page.locator("#maps figcaption:has-text('%')").all_inner_texts()
    ]


def test_a_question_sets_gamma_and_beta_and_shows_what_the_network_does(page, layer):
    """The share of places above 0 is that of max(0, γ · x + β), computed here."""
    values = layer.values()
    maps = torch.tensor(values["maps"])
    for index, question in enumerate(values["questions"]):
        page.select_option("#question", index=index)
        shown = [
            float(text.replace("−", "-")) for text in page.locator("#maps output").all_inner_texts()
        ]
        wanted = [
            number
            for pair in zip(question["gamma"], question["beta"], strict=True)
            for number in pair
        ]
        assert shown == pytest.approx(wanted, abs=0.0051)  # two decimals are shown
        gamma, beta = torch.tensor(wanted).view(-1, 2).T[..., None, None]
        above = 100 * (gamma * maps + beta > 0).double().mean((1, 2))
        assert shares(page) == pytest.approx(above.tolist(), abs=0.51)
    page.click("#identity")
    assert shares(page) == pytest.approx(
        (100 * (maps > 0).double().mean((1, 2))).tolist(), abs=0.51
    )


def test_sliders_and_clicks_move_it(page):
    page.get_by_label("γ of feature 1").fill("2")
    page.get_by_label("x of feature 1").fill("-1.5")
    page.get_by_label("β of feature 1").fill("0.5")
    assert page.locator("#bars svg text").all_text_contents()[3] == "−2.50"
    canvas = page.locator("canvas.pick").first
    before = canvas.evaluate("each => each.toDataURL()")
    canvas.click(position={"x": 140, "y": 90})
    assert canvas.evaluate("each => each.toDataURL()") != before
    assert page.get_by_label("column of attention").input_value() == "13"
    assert page.errors == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everyone_can_use_it(page, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe")
    page.emulate_media(color_scheme=scheme)
    assert not axe.Axe().run(page).response["violations"]
