import functools
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from featurewise.cli import app
from featurewise.worlds.clevr import cache


@pytest.fixture(scope="session")
def run():
    """Runs a command, as in ``run("train", "film")``, checks its exit code, returns its output."""

    def call(*words, code=0, stdin=None):
        result = CliRunner().invoke(app, [str(word) for word in words], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        text = " ".join(result.output.split())
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        return SimpleNamespace(text=text, output=result.stdout, error=result.stderr)

    return call


@pytest.fixture(scope="session")
def fails(run):
    """Runs a command that must fail with exit code 2; returns its error, which is one line."""

    def call(*words):
        lines = run(*words, code=2).error.strip().splitlines()
        assert len(lines) == 1 and lines[0].startswith("error: "), lines
        return lines[0]

    return call


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Images are rendered in this process, into a cache folder of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATUREWISE_CACHE", str(tmp_path_factory.mktemp("cache")))
        here = functools.partial(cache.cached_pool, workers=0)
        patch.setattr("featurewise.worlds.clevr.splits.cached_pool", here)
        yield


@pytest.fixture(scope="session")
def film(run, tmp_path_factory):
    """Folder of a tiny FiLM run of four steps."""
    folder = tmp_path_factory.mktemp("runs") / "film"
    run("train", "film", "--preset", "tiny", "--steps", 4, "--out", folder)
    return folder


@pytest.fixture(scope="session")
def question(run, tmp_path_factory):
    """Folder of the same run of the question-only baseline."""
    folder = tmp_path_factory.mktemp("runs") / "question"
    run("train", "film", "--arm", "question", "--preset", "tiny", "--steps", 4, "--out", folder)
    return folder


@pytest.fixture(scope="session")
def data(run, tmp_path_factory):
    """A data set of two images in the layout of CLEVR v1.0."""
    folder = tmp_path_factory.mktemp("data") / "rendered"
    size = ("--questions-per-image", 4, "--width", 48, "--height", 32, "--samples-per-pixel", 1)
    run("world", "clevr", "--count", 2, "--out", folder, "--split", "val", *size)
    return folder


@pytest.fixture(scope="session")
def image(data):
    """Path of an image of the data set."""
    return data / "images" / "val" / "CLEVR_val_000000.png"
