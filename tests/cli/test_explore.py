"""``export``: a run, a shipped model or a bundle becomes one page; nothing is overwritten."""

import json
import sys

import pytest

from featurewise.explorer import ExplorerBundle, Live


@pytest.fixture(scope="module")
def bundle(run, film, tmp_path_factory):
    """The bundle of a tiny run, as a file."""
    path = tmp_path_factory.mktemp("bundles") / "film.safetensors"
    shown = run("export", film, path)
    assert f"{path}: 0." in shown.text
    return path


def page_data(path):
    text = path.read_text()
    start = text.index('id="data">') + len('id="data">')
    return json.loads(text[start : text.index("</script>", start)])


def test_a_run_becomes_a_bundle_and_a_page(run, film, bundle, tmp_path):
    content = ExplorerBundle.load(bundle).content
    names = [label.name for label in content.labels]
    assert names == ["type of question", "question", "relations", "true answer"]
    assert {curve.name for curve in content.curves} >= {"loss, train", "accuracy, train"}
    assert len(content.sites) == 2 and content.arithmetic and content.grids
    run("export", bundle, tmp_path / "page.html")
    (shown,) = page_data(tmp_path / "page.html")["bundles"]
    assert shown["content"]["model"]["digest"] == content.model.digest


def test_two_networks_stand_side_by_side(run, bundle, tmp_path):
    run("export", bundle, tmp_path / "both.html", "--compare", bundle)
    assert len(page_data(tmp_path / "both.html")["bundles"]) == 2


def test_another_system_shows_the_conditions_of_its_batches(run, tmp_path):
    folder = tmp_path / "run"
    run("train", "operations", "--preset", "tiny", "--steps", 3, "--out", folder)
    run("export", folder, tmp_path / "page.html")
    (shown,) = page_data(tmp_path / "page.html")["bundles"]
    assert shown["content"]["conditions"]["total"] == 1_000


def test_what_cannot_be_written_is_said_before_minutes_are_spent(
    fails, film, bundle, tmp_path, monkeypatch
):
    mine = tmp_path / "mine.html"
    mine.write_text("mine")
    # The package's attribute of this name is the command.
    monkeypatch.setattr(sys.modules["featurewise.cli.explore"], "bundle_of", pytest.fail)
    assert "mine.html exists and is not replaced unasked" in fails("export", film, mine)
    assert mine.read_text() == "mine"
    assert "ends in .html or .safetensors" in fails("export", film, tmp_path / "page.pdf")
    assert "of one run" in fails("export", film, tmp_path / "a.safetensors", "--compare", bundle)


def test_what_cannot_be_explored_is_said(fails, question, tmp_path):
    assert "not conditioned by FiLM; explore a run of arm film" in fails(
        "export", question, tmp_path / "page.html"
    )
    assert "no such run folder" in fails("export", "flim", tmp_path / "page.html")
    (tmp_path / "odd.safetensors").write_text("{}")
    assert "not an explorer bundle" in fails(
        "export", tmp_path / "odd.safetensors", tmp_path / "page.html"
    )
    assert not (tmp_path / "page.html").exists()


def test_a_server_for_others_needs_a_token_before_minutes_are_spent(fails, film, monkeypatch):
    monkeypatch.setattr(sys.modules["featurewise.cli.explore"], "bundle_of", pytest.fail)
    assert "give a token" in fails("explore", film, "--host", "0.0.0.0", "--no-browser")
    assert "at least 16" in fails("explore", film, "--token", "short", "--no-browser")


def test_a_run_is_served_with_its_answers(run, film, monkeypatch):
    served = []
    monkeypatch.setattr(
        "featurewise.explorer.server.serve",
        lambda shown, **options: served.append((shown, options)),
    )
    run("explore", film, "--port", 0, "--no-browser")
    ((network,), options) = served[0]
    assert isinstance(network, Live) and options["open_browser"] is False
    wanted = network.request({"condition": 3, "text": "How many red things are there?"})
    assert len(network.answer(wanted).outputs) == 28
