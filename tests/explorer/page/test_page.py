"""The page in a browser: what it shows, how it is used, what it must never do."""

import base64
import csv
import io
import json
import os
import re
import zlib
from dataclasses import replace

import numpy as np
import pytest

from featurewise.explorer.labels import kinds, words_of
from featurewise.explorer.schema import Count, Parameter, SiteValues, TextLabel

VIEWS = "parameters", "projection", "interpolation", "arithmetic", "feature", "ask", "training"
HOSTILE = '</script><img src=x onerror="alert(1)">\u2028=1+1 & "quoted"'


@pytest.mark.parametrize("view", VIEWS)
def test_each_view_shows_itself(visit, view):
    """That no view logs or requests anything is checked by the fixture."""
    here = visit().go(view=view)
    assert here.page.locator("nav [aria-current]").get_attribute("id") == f"go-{view}"
    assert here.page.locator("main .card").count() >= 1
    if view != "ask":
        assert re.search(r"\d of [\d,]+", here.text("main"))
        assert "5f840670ef136863 · seed 0 · featurewise 0.1.0" in here.text("main")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_rule_of_accessibility_is_broken(visit, small, write, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe")
    here = visit(write(small), color_scheme=scheme)
    states = [{"view": view} for view in VIEWS]
    states += [
        {"mode": "one", "color": "question", "words": "front,behind", "selected": "0-9"},
        {"mode": "each", "color": "words"},
    ]
    for state in states:
        here.go(**state)
        found = axe.Axe().run(here.page).response["violations"]
        assert not found, (state, [(each["id"], each["nodes"][0]["html"]) for each in found])


def test_all_tasks_by_keyboard(visit):
    here = visit().go(mode="one", site="block 1", feature="26")
    keys = here.page.keyboard
    here.page.focus("#plot")
    keys.press("ArrowRight")
    first = here.text("[aria-live]")
    assert "feature 26" in first and "γ" in first
    keys.press("ArrowRight")
    assert here.text("[aria-live]") != first
    keys.press("Enter")
    assert here.text(".selection").startswith("1 of 256 conditions selected")
    keys.press("ArrowLeft")
    keys.press("Space")
    assert here.text(".selection").startswith("2 of 256")
    keys.press("]")
    assert here.state["feature"] == "28"
    keys.press("[")
    assert here.state["feature"] == "26"
    keys.press("+")
    assert "zoom" in here.state
    keys.press("0")
    assert "zoom" not in here.state
    keys.press("Escape")
    assert "selected" not in here.state
    keys.press("?")
    assert here.page.locator("dialog[open]").count() == 1
    keys.press("Escape")
    here.page.focus("#go-feature")
    keys.press("Enter")
    here.page.focus("[data-cell][aria-pressed=true]")
    before = here.text("#here")
    keys.press("ArrowUp")
    assert here.text("#here") != before
    here.page.focus("#go-interpolation")
    keys.press("Enter")
    here.page.focus("#step")
    keys.press("ArrowRight")
    assert here.state["step"] == "1"
    here.page.focus("#go-arithmetic")
    keys.press("Enter")
    keys.press("]")
    assert here.state["sum"] == "1"


def test_a_permalink_shows_the_same_pixels(visit):
    here = visit().go(mode="one", site="block 2", feature="30", color="words")
    here.brush((0.3, 0.2), (0.7, 0.2), (0.7, 0.7), (0.3, 0.7))
    here.page.click("#tool-in")
    here.page.mouse.move(1, 1)
    shown, address = here.pixels(), here.page.url
    other = visit()
    other.open(address)
    assert other.pixels() == shown
    other.page.click("#tool-reset")
    assert other.pixels() != shown


def test_the_back_button_goes_back(visit):
    here = visit().go(view="parameters")
    here.page.click("#go-projection")
    here.page.select_option("#projection", "1")
    assert "PCA" in here.text(".figure h3")
    here.page.go_back()
    assert "t-SNE" in here.text(".figure h3")
    here.page.go_back()
    assert here.page.locator("#go-parameters[aria-current]").count() == 1


def test_a_selection_holds_in_every_view(visit):
    here = visit().go(view="projection", tool="rectangle")
    here.brush((0.2, 0.1), (0.5, 0.6))
    count = int(here.text(".selection strong").split()[0])
    assert 5 < count < 200
    assert here.text("#rows-selected") == f"Selected {count}"
    here.page.click("#go-parameters")
    here.page.click("#mode-one")
    assert f"{count} selected" in here.text(".counts")
    assert here.text("#rows-selected") == f"Selected {count}"
    here.page.click("#go-training")
    assert "The line is that of the selected conditions" in here.text("main")
    here.page.click("#clear")
    assert "The line is that" not in here.text("main")


def test_a_brush_over_many_features_selects_dots(visit):
    here = visit().go(site="block 1")
    here.brush((0.4, 0.3), (0.6, 0.3), (0.6, 0.5), (0.4, 0.5))
    dots = int(re.search(r"([\d,]+) selected", here.text(".counts"))[1].replace(",", ""))
    conditions = int(here.text(".selection strong").split()[0])
    assert 0 < conditions <= 256 < 16 * conditions and conditions <= dots < 4096
    assert here.text("#table-count").startswith(f"{dots:,} of 4,096")
    other = visit()
    other.open(here.page.url)
    assert other.text(".counts") == here.text(".counts")


def test_selecting_needs_no_drag(visit):
    here = visit().go(mode="one")
    here.page.fill("#table-search", "metal")
    here.page.click("#select-found")
    count = int(here.text(".selection strong").split()[0])
    assert here.text("#table-count") == f"{count} of 256 conditions"
    here.page.fill("#table-search", "")
    here.page.click("#rows-selected")
    rows = here.page.locator("tbody tr").all_inner_texts()
    assert rows and all("metal" in row for row in rows)
    here.page.click("#rows-all")
    box = here.page.locator("tbody input[type=checkbox]:not(:checked)").first.get_attribute("id")
    here.page.check(f"#{box}")
    assert here.text(".selection").startswith(f"{count + 1} of")


def test_the_legend_isolates_a_group(visit):
    here = visit().go(mode="one", color="question type")
    shown = here.pixels()
    here.page.click("#legend-1")
    alone = int(here.text(".counts").split()[0])
    assert here.text("#legend-1 .count") == str(alone) and alone < 100
    assert here.pixels() != shown
    here.page.click("#legend-all")
    assert here.pixels() == shown


def test_words_color_the_dots(visit):
    here = visit().go(mode="one", color="question")
    here.page.check("#word-front")
    here.page.fill("#word", "METAL")
    here.page.click("#add-word")
    assert here.state["words"] == "front,metal"
    names = here.page.locator(".legend-name").all_inner_texts()
    assert names == ["front", "metal", "none of these words"]


def test_a_separation_opens_its_feature(visit):
    here = visit().go()
    here.page.click("#finding-0")
    state = here.state
    assert (state["site"], state["feature"], state["words"]) == ("block 1", "26", "front,behind")
    assert here.text(".figure h3") == "block 1: feature 26"


def test_words_are_those_of_the_library(visit, sample, write):
    texts = ["Don’t stop: x_y, -top-left- 3D!", "NAÏVE Straße's end", "plain ２ words", "…"] * 64
    here = visit(write(relabeled(sample, texts))).go(mode="one", color="question")
    shown = here.page.locator("#words option").evaluate_all("all => all.map(each => each.value)")
    assert sorted(shown) == sorted({word for text in texts for word in words_of(text)})


def test_a_separation_of_several_words_colors_two_groups(visit, sample, write):
    texts = ["a metal cube", "a shiny ball", "a rubber cube", "metal and matte", "a thing"]
    many = [texts[index % 5] for index in range(256)]
    first = replace(
        sample.content.separations[0], level="metal|metallic|shiny", other="rubber|matte"
    )
    bundle = relabeled(sample, many)
    bundle = replace(bundle, content=replace(bundle.content, separations=[first]))
    here = visit(write(bundle)).go()
    assert here.text("#finding-0").startswith("metal, metallic, shiny vs rubber, matte")
    here.page.click("#finding-0")
    (kind, *_) = kinds(bundle.content.labels[2], [(first.level, first.other)])
    expected = [int((kind.either & each).sum()) for each in (kind.kind, ~kind.kind)]
    names = here.page.locator(".legend-name").all_inner_texts()
    assert names == ["metal, metallic, shiny", "rubber, matte", "neither, or both"]
    counts = here.page.locator(".legend .count").all_inner_texts()
    assert counts == ["103", "51", "102"] == [*map(str, expected), str(256 - sum(expected))]
    here.page.check("#word-ball")
    names = here.page.locator(".legend-name").all_inner_texts()
    assert names[-1] == "none of these words"


def test_values_of_curves_are_read_at_a_step(visit):
    here = visit().go(view="training")
    chart = here.page.locator(".readable").first
    readout = here.page.locator(".readout").first
    box = chart.bounding_box()
    here.page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.5 * box["height"])
    step = int(re.match(r"step ([\d,]+): ", readout.inner_text())[1].replace(",", ""))
    assert step % 400 == 0 and 3200 <= step <= 5600
    loss = 2.3 * np.exp(-step / 1800) + 0.12
    assert f"training loss {loss:.3f}" in readout.inner_text()
    here.page.mouse.move(1, 1)
    assert readout.inner_text() == ""
    chart.focus()
    here.page.keyboard.press("End")
    assert "step 8,000" in chart.get_attribute("aria-valuetext")
    history = here.page.locator(".readable", has=here.page.locator("path[fill-opacity]")).first
    history.focus()
    here.page.keyboard.press("Home")
    assert re.search(r"step 0: 5 % .*median", history.get_attribute("aria-valuetext"))


def test_an_effect_opens_its_feature(visit):
    here = visit().go(view="feature")
    bar = here.page.locator(".effects button").first
    number = bar.inner_text().split()[1]
    bar.click()
    assert here.state["view"] == "parameters" and here.state["feature"] == number


def test_hover_shows_the_condition(visit):
    here = visit().go(view="projection")
    box = here.page.locator("#plot").bounding_box()
    for x in np.linspace(0.15, 0.5, 40):
        here.page.mouse.move(box["x"] + x * box["width"], box["y"] + 0.3 * box["height"])
        if here.page.locator(".tooltip").is_visible():
            break
    tip = here.text(".tooltip")
    assert "?" in tip and "question type" in tip
    assert here.page.locator(".tooltip img").get_attribute("alt").startswith("scene")


def test_csv_is_quoted_and_holds_no_formula(visit, sample, write):
    texts = [f"={text}" if index == 0 else text for index, text in enumerate(questions(sample))]
    here = visit(write(relabeled(sample, texts))).go(mode="one", site="block 1", feature="26")
    name, content = here.save("#save-csv")
    assert re.fullmatch(r"FiLM_parameters_5f840670_seed0_v0\.1\.0\.csv", name)
    rows = list(csv.reader(io.StringIO(content.decode("utf-8"), newline="")))
    assert rows[0] == ["question type", "words", "question", "γ", "β"] and len(rows) == 257
    assert rows[1][2] == f"'={questions(sample)[0]}"
    values = decoded(sample, "sites/0/gamma")[:, sample.content.sites[0].numbers.index(26)]
    np.testing.assert_allclose([float(row[3]) for row in rows[1:]], values, rtol=1e-6)


def test_figures_are_saved_as_files(visit):
    here = visit().go(mode="one")
    name, image = here.save("#tool-png")
    assert name.endswith("_v0.1.0.png") and image[:8] == b"\x89PNG\r\n\x1a\n"
    width = int.from_bytes(image[16:20], "big")
    assert abs(width / 2 - here.page.locator("#plot").bounding_box()["width"]) < 1
    _, figure = here.save("#tool-svg")
    assert figure.count(b"<path") > 250 and b"5f840670ef136863" in figure
    _, state = here.save("#tool-json")
    assert json.loads(state)["state"]["mode"] == "one"
    here.go(view="training")
    _, chart = here.save("[id^=curve-svg]")
    assert b"<svg" in chart and b"seed 0" in chart


@pytest.mark.parametrize("view", VIEWS)
def test_a_phone_needs_no_sideways_scroll(visit, view):
    here = visit(viewport={"width": 375, "height": 812}, has_touch=True, is_mobile=True)
    here.go(view=view, selected="0-9", mode="one", color="question")
    assert here.page.evaluate("document.documentElement.scrollWidth") <= 375
    small = here.page.evaluate(
        "[...document.querySelectorAll('main button, main select, nav a, header button')]"
        ".filter(e => { const r = e.getBoundingClientRect(); return r.width && r.height < 39.5; })"
        ".map(e => e.outerHTML.slice(0, 120))"
    )
    assert not small


def test_a_tap_shows_a_dot_and_a_second_selects_it(visit):
    here = visit(viewport={"width": 375, "height": 812}, has_touch=True, is_mobile=True)
    here.go(view="projection")
    here.page.locator("#plot").scroll_into_view_if_needed()
    here.page.focus("#plot")
    box = here.page.locator("#plot").bounding_box()
    for x in np.linspace(0.2, 0.6, 30):
        spot = box["x"] + x * box["width"], box["y"] + 0.3 * box["height"]
        here.page.touchscreen.tap(*spot)
        if here.page.locator(".tooltip").is_visible():
            break
    assert "selected" not in here.state
    here.page.touchscreen.tap(*spot)
    assert here.text(".selection").startswith("1 of 256")


def test_an_operation_with_one_parameter(visit, sample, make, write):
    bundle = single_parameter(sample, make)
    here = visit(write(bundle)).go()
    assert "16 of 40 features" in here.text(".figure h3")
    assert "row means nothing" in here.text(".explanation")
    here.brush((0.4, 0.3), (0.8, 0.3), (0.8, 0.6), (0.4, 0.6))
    assert int(here.text(".selection strong").split()[0]) > 0
    here.page.click("#mode-one")
    assert here.page.locator("thead th.n").all_inner_texts() == ["words", "scale"]


def test_an_operation_with_three_parameters(visit, sample, write):
    site = sample.content.sites[0]
    third = replace(site.parameters[1], name="gate", origin=None)
    site = replace(site, parameters=[*site.parameters, third])
    bundle = replace(sample, content=replace(sample.content, sites=[site]))
    here = visit(write(bundle)).go(mode="one")
    here.page.select_option("#up", "gate")
    assert "gate" in here.page.locator("#plot").get_attribute("aria-label")
    assert here.page.locator("thead th.n").all_inner_texts()[-3:] == ["γ", "β", "gate"]


def test_missing_parts_are_left_out(visit, sample, write):
    empty = replace(
        sample.content,
        labels=[],
        thumbnails=None,
        projections=[],
        interpolations=[],
        arithmetic=[],
        grids=[],
        curves=[],
        histories=[],
        parameters=[],
        axes=[],
        separations=[],
        sites=[replace(site, effects=[]) for site in sample.content.sites],
    )
    here = visit(write(replace(sample, content=empty))).go(mode="one")
    assert here.page.locator("nav a").all_inner_texts() == [
        "Parameters",
        "Ask",
        "Training and sites",
    ]
    assert "condition 0" in here.text("table")
    here.page.click("#go-training")
    assert here.page.locator(".chart").count() == 8
    nothing = replace(sample, content=replace(empty, sites=[]))
    here = visit(write(nothing)).go()
    assert "featurewise explore RUN" in here.text("main")


def test_broken_addresses_are_survived(visit):
    here = visit().go(
        view="no",
        site="no",
        feature="x",
        selected="zz-1.-5.é",
        zoom="1,0,a",
        brush="1,2",
        cell="-9",
    )
    assert here.page.locator("#go-parameters[aria-current]").count() == 1
    here.go(view="projection", projection="99", only="99.x", color="no", words=",,,")
    assert "t-SNE" in here.text(".figure h3")


def test_hostile_text_is_shown_as_text(visit, sample, write):
    bundle = relabeled(sample, [HOSTILE] * len(questions(sample)))
    label = replace(bundle.content.labels[0], levels=[HOSTILE] * 8, name=HOSTILE)
    content = replace(bundle.content, title=HOSTILE, labels=[label, *bundle.content.labels[1:]])
    sites = [replace(site, name=f"{HOSTILE} {index}") for index, site in enumerate(content.sites)]
    here = visit(write(replace(bundle, content=replace(content, sites=sites))))
    for view in VIEWS:
        here.go(view=view, mode="one")
        assert "onerror" in here.text("h1")
        assert here.page.locator("img[src=x], main script").count() == 0
    assert here.page.title().replace("\u2028", " ").startswith("</script><img")


def test_two_networks_side_by_side(visit, sample, make, write):
    other = make.bundle(seed=1, name="FiLM without β")
    curves = [
        replace(each, steps=each.steps[:9], values=[3 * value for value in each.values[:9]])
        for each in other.content.curves
    ]
    other = replace(other, content=replace(other.content, curves=curves))
    here = visit(write(sample, other)).go()
    here.page.select_option("#compare", "1")
    assert here.page.locator(".figure").count() == 2
    assert "FiLM without β" in here.page.locator(".provenance").nth(1).inner_text()
    here.page.click("#go-training")
    assert here.page.locator(".figures > div > h3").all_inner_texts() == ["FiLM", "FiLM without β"]
    columns = here.page.locator(".figures > div")
    ticks = [columns.nth(index).locator(".chart text").all_inner_texts() for index in (0, 1)]
    assert len(ticks[0]) > 100 and ticks[0] == ticks[1]
    here.page.select_option("#model", "1")
    assert here.text("h1").startswith("FiLM without β")


def test_the_colors_follow_the_switch(visit):
    here = visit(color_scheme="light").go()
    light = here.pixels()
    here.page.click("#scheme-dark")
    assert here.pixels() != light
    here.page.click("#scheme-auto")
    assert here.pixels() == light


def test_motion_is_left_out_where_it_is_unwanted(visit):
    still = visit(reduced_motion="reduce").go(view="interpolation")
    assert still.page.locator("#play").count() == 0
    here = visit().go(view="interpolation", step=18)
    here.page.click("#play")
    here.page.locator("output", has_text="step 21 of 21").wait_for()


def test_a_wrong_format_is_refused(visit, sample, write):
    here = visit(write(replace(sample, content=replace(sample.content, format=99))))
    here.page.goto(here.address)
    assert "format 99" in here.text("[role=alert]")


def test_51_200_dots_are_brushed_at_once(visit, make, write, capsys):
    here = visit(write(make.bundle(conditions=800, sites=1)))
    here.go(features="all")
    ready = here.page.evaluate("performance.now()")
    for shift in (0, 0.03, 0.06, 0.09, 0.12):
        here.brush((0.2 + shift, 0.2), (0.6, 0.2), (0.7, 0.6), (0.3, 0.7))
    taken = here.page.evaluate("performance.getEntriesByName('brush').map(e => e.duration)")
    with capsys.disabled():
        print(
            f"\n51,200 dots: ready {ready:.0f} ms, brush to redraw "
            f"{np.median(taken):.0f} ms (least {min(taken):.0f}); load {os.getloadavg()[0]:.1f}"
        )
    assert "51,200 of 51,200 dots" in here.text(".counts")
    assert len(taken) == 5 and min(taken) < 400


def questions(bundle):
    return bundle.content.labels[2].texts


def relabeled(bundle, texts):
    labels = [*bundle.content.labels[:2], TextLabel(name="question", texts=texts)]
    return replace(bundle, content=replace(bundle.content, labels=labels))


def decoded(bundle, name):
    packed = bundle.arrays[name]
    planes = zlib.decompress(base64.b64decode(packed.data))
    count = len(planes) // 4
    numbers = bytes(planes[at * count + index] for index in range(count) for at in range(4))
    return np.frombuffer(numbers, "<f4").reshape(packed.shape)


def single_parameter(bundle, make):
    arrays = make.arrays()
    values = 1 + 0.3 * np.random.default_rng(0).normal(size=(256, 40)).cumsum(axis=1)
    scale = Parameter(name="scale", origin=1.0, array=arrays.add("scale", values))
    site = SiteValues(
        name="gate",
        operation="Scale",
        features=Count(shown=40, total=40),
        numbers=list(range(40)),
        parameters=[scale],
    )
    content = replace(bundle.content, sites=[site], separations=[], grids=[])
    return replace(bundle, content=content, arrays={**bundle.arrays, **arrays.packed})
