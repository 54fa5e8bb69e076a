"""The catalogue and its figures, made from made-up results of made-up systems."""

import dataclasses
import hashlib
import re

import numpy as np
import pytest
from PIL import Image

from featurewise.common.dataset import DatasetFacts
from featurewise.study import card, card_page, catalogue
from featurewise.study.claims import Claim, Statement, above, at_least
from featurewise.study.metric import ACCURACY, Metric
from featurewise.study.results import Measurement, Proportion, Results, Trial
from featurewise.study.system import Arm, Config, Paper, System
from featurewise.training import ExperimentError

LOSS = Metric("loss", "mean error", "nats", "lower")


PAPER = Statement("one is better", "table 1", "95.0 %")


def made_up(name="alpha", score=ACCURACY):
    def nothing(*_):
        raise AssertionError("nothing is built for a catalogue")

    return System(
        name=name,
        doc=f"{name.capitalize()}: to be or not. Nobody 2020, eq. 1.\n\nNothing.",
        paper=Paper("Nobody 2020: Sums", "https://example.org", "eq. 1"),
        world=DatasetFacts("Random numbers.", "none needed"),
        presets={each: Config(steps=1) for each in ("tiny", "small", "paper")},
        arms=(Arm("one", "the system"), Arm("other", "a baseline")),
        build=nothing,
        stepper=nothing,
        data=nothing,
        evaluate=nothing,
        claims=(
            Claim("One helps.", above(ACCURACY, "one", "other", 20), PAPER),
            Claim("One is nearly perfect.", at_least(ACCURACY, "one", 99)),
            Claim("Other helps.", above(ACCURACY, "other", "none", 1)),
            Claim("One is good.", at_least(ACCURACY, "one", 90)),
        ),
        finding=f"{name.capitalize()} is better.",
        metrics=(LOSS,),
        score=score,
    )


def trial(arm, seed, right, seconds=60.0):
    measured = Measurement(Proportion(right, 100), {}, {"loss": right / 10})
    return Trial(arm, seed, 10, seconds, 5, measured)


def results(preset="small", seeds=(0, 1, 2), arms=("one", "other"), name="alpha"):
    right = {"one": 90, "other": 60}
    trials = tuple(trial(arm, seed, right[arm] + seed) for arm in arms for seed in seeds)
    hardware = {"processor": "A Fine One", "cores": "4", "threads": "1", "accelerator": "none"}
    return Results(name, preset, trials, hardware)


def noise(width=240, height=200):
    """The worst there is to compress."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def published(tmp_path):
    folder = tmp_path / "results"
    sheet = tmp_path / "sheet.png"
    noise().save(sheet)
    catalogue.publish(folder, made_up("alpha"), results(), {"one": sheet})
    catalogue.publish(folder, made_up("beta"), results(seeds=(0,), arms=("one",), name="beta"), {})
    return folder


def test_published_trials_are_not_lost_unasked(published, tmp_path):
    file, image = published / "alpha" / "small.json", published / "alpha" / "small" / "one.png"
    before, shown = file.read_bytes(), image.read_bytes()
    beta = dataclasses.replace(results(seeds=(2, 3), arms=("other",)), data_versions={})
    with pytest.raises(
        ExperimentError, match=r"have not \(one-s0, one-s1, one-s2, other-s0, other-s1"
    ):
        catalogue.publish(published, made_up(), beta, {})
    assert (file.read_bytes(), image.read_bytes()) == (before, shown)

    better = dataclasses.replace(beta, trials=(trial("other", 2, 99), trial("other", 3, 7)))
    catalogue.publish(published, made_up(), better, {}, "keep")
    found = {(each.arm, each.seed): each for each in Results.load(file).trials}
    assert len(found) == 7
    assert found["other", 2] == better.trials[0]
    assert found["other", 1] == results().trials[4]
    assert image.read_bytes() == shown

    catalogue.publish(published, made_up(), better, {}, "drop")
    assert Results.load(file) == better
    assert not image.exists()


def test_trials_of_other_data_are_not_kept(published):
    other = dataclasses.replace(results(seeds=(7,)), data_versions={"pen": "2"})
    with pytest.raises(ExperimentError, match="data versions differ in .*pen"):
        catalogue.publish(published, made_up(), other, {}, "keep")
    assert len(Results.load(published / "alpha" / "small.json").trials) == 6


def test_trials_of_another_machine_name_their_own(published):
    file = published / "alpha" / "small.json"
    new = {"processor": "A Finer One", "cores": "4", "threads": "1", "bfloat16": "none"}
    other = dataclasses.replace(results(seeds=(7,), arms=("one",)), hardware=new)
    catalogue.publish(published, made_up(), other, {}, "keep")
    found = Results.load(file)
    assert found.hardware == {
        "processor": "A Fine One / A Finer One",
        "cores": "4",
        "threads": "1",
        "accelerator": "none / not recorded",
        "bfloat16": "not recorded / none",
    }
    old = {"processor": "A Fine One", "accelerator": "none", "bfloat16": "not recorded"}
    own = {"processor": "A Finer One", "accelerator": "not recorded", "bfloat16": "none"}
    assert [each.hardware for each in found.trials] == [old] * 6 + [own]

    again = dataclasses.replace(results(seeds=(8,), arms=("one",)), hardware=new)
    catalogue.publish(published, made_up(), again, {}, "keep")
    assert [each.hardware for each in Results.load(file).trials] == [old] * 6 + [own] * 2
    entry = catalogue.read(published, "sea_shells", made_up())
    page = card.content(entry.system, *entry.results)
    first, second = page["results"][0]["hardware_of"]
    assert first["arms"] == {"one": [0, 1, 2], "other": [0, 1, 2]}
    assert second == {"arms": {"one": [7, 8]}, "hardware": own}
    text = card_page.to_markdown(page)
    described = "Processor A Finer One; Accelerator not recorded; bfloat16 none"
    assert f"Of these, {described}: `one` with seed 7, 8." in text


def entries(folder, *names):
    return [
        catalogue.read(folder, "sea_shells", made_up(name))
        for name in names or ("alpha", "beta", "gamma")
    ]


def test_the_page_says_it_all(published):
    page = catalogue.to_markdown(entries(published))
    for expected in (
        "3 systems, 12 claims: 1 supported, 1 refuted, 1 inconclusive, 2 one seed, 7 not tested. "
        "3 claims repeat a statement of their paper, 3 of these with its number beside ours.",
        "## Sea shells",
        "### [Alpha: to be or not](cards/alpha.md)",
        "[Nobody 2020: Sums](https://example.org), eq. 1.",
        "Preset `small`: 2 arms, seeds 0, 1, 2; 6 minutes for 6 trials on A Fine One, 1 of 4 core",
        "**Partial**: 1 of 2 arms, 1 of 3 seeds; missing: one with seed 1, 2; other.",
        "| what was found | supported | refuted | inconclusive | one seed | not tested | measured",
        "| [alpha](cards/alpha.md) | Alpha is better. | 1 | 1 | 1 |  | 1 | `small`, 3 seeds |",
        "| [beta](cards/beta.md) | Beta is better. |  |  |  | 2 | 2 | `small`, partial, 1 seed |",
        "| [gamma](cards/gamma.md) | Gamma is better. |  |  |  |  | 4 | never run |",
        "![Verdicts of each system's claims](catalogue.png)",
    ):
        assert expected in page, expected
    alpha, beta, gamma = page.split("\n### ")[1:]
    assert "seed 1, 2" in beta and "**Partial**" not in alpha
    assert "Never run." in gamma and "![" not in gamma
    assert "![Alpha: to be or not: its arms side by side](cards/alpha.png)" in alpha


def test_what_is_missing():
    system = made_up()
    assert card.missing(system, results()) is None
    assert card.missing(system, results(seeds=(4, 7, 9))) is None
    assert "2 of 3 seeds; missing: all with seed 1" in card.missing(system, results(seeds=(0, 4)))
    assert "3 of 5 seeds; missing: all with seed 3, 4" in card.missing(system, results(), range(5))
    nothing = Results("alpha", "small", ())
    assert card.missing(system, nothing) == "0 of 2 arms, 0 of 3 seeds; missing: one, other"


def test_the_card_shows_the_score_first_whatever_it_is():
    for score, head in ((LOSS, "| arm | loss (nats) |"), (ACCURACY, "| arm | accuracy (%) |")):
        facts = card.content(made_up(score=score), results())
        assert head in card.to_markdown(facts)
        shown = "9.1 [8.85, 9.35]" if score is LOSS else "91.0 [88.5, 93.5]"
        assert f"| `one` | {shown} |" in card.to_markdown(facts)


def test_every_image_has_a_text_in_its_place(published, tmp_path):
    catalogue.save(entries(published), tmp_path / "docs")
    pages = [*(tmp_path / "docs").rglob("*.md")]
    images = [
        found for page in pages for found in re.findall(r"!\[(.*?)\]\((.*?)\)", page.read_text())
    ]
    assert len(images) == 6 and all(len(words) > 10 for words, _ in images)


def test_what_drifted_is_found(published, tmp_path):
    docs = tmp_path / "docs"
    names = lambda paths: sorted(path.name for path in paths)  # noqa: E731
    assert len(catalogue.stale(entries(published), docs)) == 3 * 2 + 2 + 2
    written = catalogue.save(entries(published), docs)
    assert {path for path in docs.rglob("*") if path.is_file()} == set(written)
    assert catalogue.stale(entries(published), docs) == []

    page = docs / "catalogue.md"
    page.write_text(page.read_text().replace("better", "worse"))
    assert names(catalogue.stale(entries(published), docs)) == ["catalogue.md"]
    catalogue.save(entries(published), docs)

    better = results(seeds=(0, 1), arms=("one",), name="beta")
    catalogue.publish(published, made_up("beta"), better, {})
    assert names(catalogue.stale(entries(published), docs)) == [
        "beta.json",
        "beta.md",
        "beta.png",
        "catalogue.md",
        "catalogue.png",
    ]
    catalogue.save(entries(published), docs)

    left = entries(published, "alpha", "beta")
    assert names(catalogue.stale(left, docs)) == ["catalogue.md", "gamma.json", "gamma.md"]
    catalogue.save(left, docs)
    assert catalogue.stale(left, docs) == []


def test_a_chart_is_plotted_again_only_when_its_source_changed(published, tmp_path, monkeypatch):
    catalogue.save(entries(published), tmp_path)
    for plot in ("draw_arms", "draw_verdicts"):
        monkeypatch.setattr(catalogue, plot, lambda facts: pytest.fail("plotted again"))
    catalogue.save(entries(published), tmp_path)


def test_figures_of_arms_stand_once(published, tmp_path):
    """The card shows them where they are published; none is copied."""
    catalogue.save(entries(published), tmp_path / "docs")
    assert not [*(tmp_path / "docs").rglob("*one.png")]
    text = (tmp_path / "docs/cards/alpha.md").read_text()
    (address,) = re.findall(r"!\[Figure of what arm one does\]\((.*?)\)", text)
    assert address == "../../results/alpha/small/one.png"
    assert (tmp_path / "docs/cards" / address).resolve() == published / "alpha/small/one.png"


def test_images_stay_small(published, tmp_path):
    catalogue.save(entries(published), tmp_path)
    images = [*published.rglob("*.png"), *tmp_path.rglob("cards/*.png"), tmp_path / "catalogue.png"]
    assert len(images) == 4
    for path in images:
        assert path.stat().st_size <= catalogue.COLOUR_LIMIT == 100_000
        with Image.open(path) as image:
            assert image.width >= 60  # and are still something to look at


def colourful(size):
    """Smooth colours of all hues under grain, as photographs have."""
    rows, columns = np.mgrid[0:size, 0:size] / size
    red, green = 255 * rows, 255 * columns
    blue = 127 + 127 * np.sin(9 * rows * columns)
    grain = np.random.default_rng(0).normal(0, 6, (size, size, 3))
    pixels = np.stack([red, green, blue], 2) + grain
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def test_photographs_keep_their_colours():
    image = colourful(320)
    content = catalogue.small(image)
    assert catalogue.LIMIT < len(content) <= catalogue.COLOUR_LIMIT
    with Image.open(catalogue.io.BytesIO(content)) as found:
        assert found.size == image.size
        assert len(found.convert("RGB").getcolors(257)) > 200
        error = np.asarray(found.convert("RGB"), float) - np.asarray(image, float)
    assert np.sqrt(np.square(error).mean()) < 12  # 16 colours: more than 20
    with Image.open(catalogue.io.BytesIO(catalogue.small(image, 20_000))) as found:
        assert found.width < 320 and len(found.convert("RGB").getcolors(257)) > 200


def test_grey_images_may_have_fewer_colours():
    grey = Image.fromarray(np.random.default_rng(0).integers(0, 256, (250, 250), np.uint8))
    content = catalogue.small(grey)
    with Image.open(catalogue.io.BytesIO(content)) as found:
        assert found.size == grey.size and len(content) <= catalogue.LIMIT
        assert len(found.convert("RGB").getcolors(257)) <= 64


def test_an_image_that_is_small_already_keeps_its_size():
    plain = Image.new("RGB", (300, 200), (10, 20, 30))
    with Image.open(catalogue.io.BytesIO(catalogue.small(plain))) as image:
        assert image.size == (300, 200) and image.convert("RGB").getpixel((5, 5)) == (10, 20, 30)


def test_shrinking_notes_what_it_was_made_from(tmp_path):
    source, path = tmp_path / "a.png", tmp_path / "b.png"
    noise().save(source)
    catalogue.shrink(source, path)
    assert catalogue._digest_in(path) == hashlib.sha256(source.read_bytes()).hexdigest()
    before = path.stat().st_mtime_ns
    catalogue.shrink(source, path)
    assert path.stat().st_mtime_ns == before


def test_the_chart_shows_values_where_they_are():
    arms = {
        "low": {"value": 0.0, "low": None, "high": None},
        "high": {"value": 1.0, "low": 0.9, "high": 1.1},
        "none": None,
    }
    pixels = np.asarray(
        catalogue.draw_arms({"score": "accuracy", "arms": arms}).convert("RGB"), int
    )
    first = np.argwhere(np.abs(pixels - (0xC2, 0x41, 0x0C)).sum(2) < 30)
    second = np.argwhere(np.abs(pixels - (0x52, 0x60, 0x6D)).sum(2) < 30)
    assert len(first) and len(second)
    # The middle of each: words share a colour with the second point.
    assert (np.median(first, 0) < np.median(second, 0)).all()


def test_the_score_stands_for_the_system(tmp_path):
    entry = catalogue.Entry("f", made_up(score=LOSS), (results(),))
    assert catalogue._chart(entry)["arms"]["one"]["value"] == pytest.approx(9.1)


def test_which_results_stand_for_a_system():
    system = made_up()
    tiny, small, paper = (results(preset) for preset in ("tiny", "small", "paper"))
    partial = results("small", seeds=(0,))
    stands = lambda *found: catalogue.headline(catalogue.Entry("f", system, found))  # noqa: E731
    assert stands() is None
    assert stands(tiny, small, paper) is small
    assert stands(tiny, partial) is tiny
    long = dataclasses.replace(
        paper, trials=tuple(dataclasses.replace(each, seconds=1e4) for each in paper.trials)
    )
    assert stands(tiny, long) is long


def test_wrong_files_are_refused(published):
    with pytest.raises(ExperimentError, match="results of beta, not of alpha"):
        catalogue.publish(published, made_up("alpha"), results(name="beta"), {})
    (published / "alpha" / "paper.json").write_text(results("tiny").to_json())
    with pytest.raises(ExperimentError, match=r"paper.json: holds results of alpha at preset tiny"):
        entries(published)


def test_reading_is_quick(tmp_path):
    import time

    names = [f"s{index}" for index in range(60)]
    for name in names:
        catalogue.publish(tmp_path, made_up(name), results(name=name), {})
    begun = time.process_time()
    found = entries(tmp_path, *names)
    catalogue.to_markdown(found)
    assert time.process_time() - begun < 3
