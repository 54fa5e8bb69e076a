"""The page: self-contained, accessible to screen readers, safe with any text."""

import dataclasses
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest

from featurewise.explorer import (
    AccuracyRow,
    AccuracyTable,
    Claim,
    Curve,
    Report,
    ReportError,
    figures,
    render,
    write,
)

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Elements with their attributes; fails on tags that are not closed."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.text = [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.text += " "

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def html(report):
    return render(report)


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_nothing_is_loaded_and_nothing_runs(html, page):
    assert not page.all("script") and not page.all("link") and not page.all("iframe")
    for tag, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "srcset", "action", "data"):
            value = attributes.get(name) or ""
            assert value.startswith(("data:", "#")) or not value, (tag, name, value)
        assert not any(name.startswith("on") for name in attributes)
    assert "@import" not in html and not re.search(r"url\((?!#)", html)


def test_ids_are_unique_and_references_resolve(page):
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        for name in ("href", "xlink:href"):
            if (attributes.get(name) or "").startswith("#"):
                assert attributes[name][1:] in ids
        if "aria-labelledby" in attributes:
            assert attributes["aria-labelledby"] in ids


def test_figures_and_images_have_labels(page):
    assert len(page.all("svg")) == 3 and len(page.all("img")) == 3
    assert all(each["role"] == "img" and each["aria-label"] for each in page.all("svg"))
    assert all(each["alt"] for each in page.all("img"))
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("table")) == 7  # one beside each figure, one for each question, facts
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all(
        "meta"
    )


def test_text_is_escaped(html, page):
    assert "<b>" not in html and "<i>" not in html
    assert "Is the <b>large</b> & shiny thing a sphere?" in page.text
    hostile = "</svg><script>alert('\"')</script>"
    rows = (AccuracyRow(hostile, 0, (None,)),)
    shown = Report(
        title=hostile,
        summary=(hostile,),
        claims=(Claim(hostile, hostile, 1.0),),
        accuracy=(AccuracyTable(hostile, hostile, (hostile,), rows),),
        losses=(Curve(hostile, (1,), (1.0,)),),
        facts={hostile: hostile},
        commands=(hostile,),
    )
    assert not Page(render(shown)).all("script")


def test_numbers_are_on_the_page(page):
    words = " ".join(page.text.split())
    for expected in (
        "91.0 [88.0, 94.0]",
        "supported FiLM is at least 15 points above question. Measured: 39.",
        "refuted FiLM is at least 15 points above attention. Measured: 3.25.",
        "not tested FiLM is at least 15 points above shuffled.",
        "yes ✓ 83.0 %",
        "Wrong: the answer is no.",
        "blocks.1.norm",
        "featurewise train film",
    ):
        assert expected in words
    widths = [each["style"] for each in page.all("span") if "style" in each]
    assert widths[:3] == ["width:83.0%", "width:16.0%", "width:1.0%"]


def test_an_empty_report_is_a_page():
    assert Page(render(Report(title="Nothing"))).text.count("Nothing") == 2


def test_rendering_is_reproducible(report, html):
    assert render(report) == html


def test_the_page_is_small(html):
    assert len(html) < 1_500_000


def test_write_makes_folders_and_leaves_no_other_file(tmp_path):
    path = write(Report(title="Nothing"), tmp_path / "a" / "b.html")
    write(Report(title="Something"), path)
    assert "Something" in path.read_text(encoding="utf-8")
    assert [each.name for each in path.parent.iterdir()] == ["b.html"]


def test_figures_are_xml_in_the_colour_of_the_page(report):
    svgs = [
        figures.accuracy(report.accuracy[0]),
        figures.curves(report.losses),
        figures.histograms(report.parameters),
    ]
    for svg in svgs:
        root = ElementTree.fromstring(svg.replace("xlink:href", "href"))
        assert "viewBox" in root.attrib and "width" not in root.attrib
        assert "currentColor" in svg and "#010203" not in svg and "<metadata" not in svg
        assert "#ffffff" not in svg
    assert "question only" in svgs[0] and "query color" in svgs[0]


def test_plotting_leaves_the_global_style_unchanged(report):
    matplotlib = pytest.importorskip("matplotlib")
    before = dict(matplotlib.rcParams)
    figures.curves(report.losses)
    assert dict(matplotlib.rcParams) == before


def test_inconsistent_tables_raise():
    with pytest.raises(ReportError, match="1 scores for 2 columns"):
        AccuracyTable("t", "d", ("a", "b"), (AccuracyRow("r", 0, (None,)),))
    with pytest.raises(ReportError, match="level must be 0, 1 or 2, not 3"):
        AccuracyRow("r", 3, ())
    with pytest.raises(ReportError, match="1 steps, 2 values"):
        Curve("c", (1,), (1.0, 2.0))


@pytest.mark.parametrize("missing", ["matplotlib", "jinja2"])
def test_missing_packages_are_named(report, monkeypatch, missing):
    monkeypatch.setitem(__import__("sys").modules, missing, None)
    only_curves = dataclasses.replace(report, accuracy=(), parameters=None)
    with pytest.raises(ReportError, match=f"pip install {missing}"):
        render(only_curves)
