"""``stylize``: images of the user's own, in styles and mixtures; no file is overwritten."""

import importlib

import numpy as np
import pytest
from PIL import Image

from featurewise.worlds.pictures import PictureError


@pytest.fixture(scope="module")
def styles(run, tmp_path_factory):
    """Folder of a tiny run with the styles squares, rings and waves."""
    folder = tmp_path_factory.mktemp("runs") / "styles"
    run("train", "style_transfer", "--preset", "tiny", "--steps", 4, "--out", folder)
    return folder


@pytest.fixture
def image(tmp_path):
    """A photograph that is upright only by its EXIF orientation: 30 x 21 as it is seen."""
    path = tmp_path / "mine.jpg"
    image = Image.effect_mandelbrot((21, 30), (-2, -1.5, 1, 1.5), 50).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(path, exif=exif)
    return path


def test_styles_are_listed_and_images_painted(run, styles, image, tmp_path):
    assert run("stylize", styles).output.split() == ["squares", "rings", "waves"]
    out = tmp_path / "painted.png"
    shown = run("stylize", styles, image, "--style", "rings", "--out", out)
    assert shown.output == f"{out}: 100% rings\n"
    assert Image.open(out).size == (30, 21)
    whole = np.asarray(Image.open(out)).astype(int)
    assert whole.std() > 0
    run("stylize", styles, image, "--style", "ri", "--mix", "waves:1", "--out", out)
    other = tmp_path / "waves.png"
    run("stylize", styles, image, "--style", "waves", "--out", other)
    assert abs(np.asarray(Image.open(out)) - np.asarray(Image.open(other)).astype(int)).max() <= 1


def test_a_folder_gets_a_file_that_is_named_after_image_and_styles(run, styles, image, tmp_path):
    mix = ("--mix", "squares:0.25", "--mix", "waves:0.5")
    shown = run("stylize", styles, image, "--style", "rings", *mix, "--out", tmp_path)
    out = tmp_path / "mine.rings25+squares25+waves50.png"
    assert shown.output == f"{out}: 25% rings, 25% squares, 50% waves\n"
    assert out.is_file()


def test_painting_needs_neither_paintings_nor_the_loss_network(
    run, styles, image, tmp_path, monkeypatch
):
    # A module that is first imported while they are patched would keep what they are patched with.
    for module in ("application", "experiment", "tables"):
        importlib.import_module(f"featurewise.systems.style.style_transfer.{module}")
    importlib.import_module("featurewise.cli.own_styles")

    def absent(*_):
        raise PictureError("the package is not installed")

    monkeypatch.setattr("featurewise.systems.style.style_transfer.method.objective", absent)
    monkeypatch.setattr("featurewise.worlds.pictures.named.patterns", absent)
    run("stylize", styles, image, "--style", "rings", "--out", tmp_path / "out.png")
    assert (tmp_path / "out.png").is_file()


@pytest.fixture
def painting(tmp_path):
    path = tmp_path / "my painting.jpg"
    Image.effect_noise((90, 60), 90).convert("RGB").save(path)
    return path


def test_the_style_of_an_image_is_learned_once(run, styles, image, painting, tmp_path, monkeypatch):
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path / "cache"))
    shown = run("stylize", styles, image, "--style", painting, "--out", tmp_path)
    out = tmp_path / "mine.my painting.png"
    assert shown.output == f"{out}: 100% {painting}\n"
    assert "style of my painting.jpg: style loss" in shown.error
    (cached,) = (tmp_path / "cache" / "styles").iterdir()
    first = out.read_bytes()
    again = run("stylize", styles, image, "--style", painting, "--out", tmp_path)
    assert "style loss" not in again.error
    assert out.read_bytes() == first
    cached.write_bytes(cached.read_bytes()[:-3])  # damaged: it is learned again
    assert "style loss" in run("stylize", styles, image, "--style", painting, "--out", out).error
    assert out.read_bytes() == first
    Image.effect_noise((90, 60), 90).convert("RGB").save(painting)  # another one
    run("stylize", styles, image, "--style", painting, "--out", out)
    assert len(list(cached.parent.iterdir())) == 2
    assert out.read_bytes() != first


def test_the_style_of_an_image_mixes_with_others(
    run, styles, image, painting, tmp_path, monkeypatch
):
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path / "cache"))
    run("stylize", styles, image, "--style", "rings", "--mix", f"{painting}:.4", "--out", tmp_path)
    assert (tmp_path / "mine.rings60+my painting40.png").is_file()
    out, plain = tmp_path / "out.png", tmp_path / "plain.png"
    other = tmp_path / "other"
    other.mkdir()
    painting.rename(other / painting.name)
    Image.effect_noise((90, 60), 90).save(painting)
    both = ("--style", painting, "--mix", f"{other / painting.name}:.5")
    run("stylize", styles, image, *both, "--out", tmp_path)
    assert (tmp_path / "mine.my painting50+my painting50.png").is_file()
    learned = len(list((tmp_path / "cache" / "styles").iterdir()))
    new = tmp_path / "new.png"  # has no weight, and is not learned
    Image.effect_noise((80, 60), 90).save(new)
    run("stylize", styles, image, "--style", new, "--mix", "rings:1", "--out", out)
    assert len(list((tmp_path / "cache" / "styles").iterdir())) == learned
    run("stylize", styles, image, "--style", "rings", "--out", plain)
    difference = np.asarray(Image.open(out)).astype(int) - np.asarray(Image.open(plain))
    assert abs(difference).max() <= 1


def test_images_that_no_style_is_learned_of(run, fails, styles, image, tmp_path, monkeypatch):
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path / "cache"))
    out = ("--out", tmp_path / "x.png")
    assert "gone.jpg" in fails("stylize", styles, image, "--style", tmp_path / "gone.jpg", *out)
    line = tmp_path / "line.png"
    Image.new("RGB", (90, 3)).save(line)
    said = fails("stylize", styles, image, "--style", line, *out)
    assert "line.png: it has 90 x 3 pixels; a style is learned of images whose sides" in said
    strip, painting = tmp_path / "strip.png", tmp_path / "painting.png"
    Image.new("RGB", (900, 9)).save(strip)
    Image.effect_noise((90, 60), 90).save(painting)
    said = fails("stylize", styles, strip, "--style", painting, *out)
    assert "painting.png: the image to be painted has 900 x 9 pixels" in said
    small = tmp_path / "small.png"
    Image.new("RGB", (40, 7)).save(small)
    said = fails("stylize", styles, small, "--style", painting, *out)
    assert "small.png: at this size it has 40 x 7 pixels; the network needs at least 8" in said
    text = tmp_path / "text.png"
    text.write_text("no image")
    assert "text.png" in fails("stylize", styles, image, "--style", text, *out)
    assert not (tmp_path / "x.png").exists()


def test_large_images_are_reduced_and_it_is_said(run, styles, tmp_path):
    image = tmp_path / "large.png"
    Image.linear_gradient("L").resize((1100, 40)).save(image)
    out = tmp_path / "out.png"
    shown = run("stylize", styles, image, "--style", "rings", "--out", out)
    assert Image.open(out).size == (1024, 37)
    assert "painted at 1024 x 37, not 1100 x 40; --size" in " ".join(shown.error.split())
    run("stylize", styles, image, "--style", "rings", "--size", 550, "--out", out)
    assert Image.open(out).size == (550, 20)


def test_no_file_of_the_user_is_overwritten(run, fails, styles, image, tmp_path):
    own = tmp_path / "own.png"
    Image.new("RGB", (9, 9)).save(own)
    before = own.read_bytes()
    line = fails("stylize", styles, image, "--style", "rings", "--out", own)
    assert f"{own}: exists and was not made by this command" in line
    line = fails("stylize", styles, own, "--style", "rings", "--out", own)
    assert "is the image itself" in line
    assert own.read_bytes() == before
    for _ in range(2):  # its own file it replaces
        run("stylize", styles, image, "--style", "rings", "--out", tmp_path / "new.png")
    assert "ends in .png" in fails(
        "stylize", styles, image, "--style", "rings", "--out", tmp_path / "new.jpg"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "give --style, one of squares, rings, waves"),
        (("--style", "mona"), "no style is called 'mona'"),
        (("--style", "wave", "--mix", "rings"), "--mix rings: write a style, a colon"),
        (("--style", "waves", "--mix", "rings:2"), "a weight from 0 to 1"),
        (("--style", "waves", "--mix", "rings:nan"), "a weight from 0 to 1"),
        (("--style", "waves", "--mix", "rings:.6", "--mix", "rings:.1"), "names rings twice"),
        (("--style", "waves", "--mix", "rings:.6", "--mix", "squares:.6"), "add up to 1.2"),
        (("--style", "waves", "--mix", "waves:.6"), "waves is given by --style"),
        (("--style", ""), "no style is called ''"),
    ],
)
def test_wrong_styles_are_explained(fails, styles, image, tmp_path, options, message):
    assert message in fails("stylize", styles, image, *options, "--out", tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


def test_other_systems_files_and_sizes_are_refused(run, fails, film, styles, image, tmp_path):
    assert "film paints no images" in fails("stylize", film, image, "--style", "rings")
    missing = tmp_path / "missing.png"
    assert "missing.png" in fails("stylize", styles, missing, "--style", "rings")
    small = tmp_path / "small.png"
    Image.new("RGB", (40, 7)).save(small)
    out = tmp_path / "out.png"
    line = fails("stylize", styles, small, "--style", "rings", "--out", out)
    assert "small.png: at this size it has 40 x 7 pixels; the network needs at least 8 x 8" in line
    line = fails("stylize", styles, image, "--style", "rings", "--size", 100_000, "--out", out)
    assert "100000 x 70000 pixels are more than 16,777,216; --size gives" in line
    assert not out.exists()


def test_a_large_file_that_is_in_the_way_is_no_own_one(fails, styles, image, tmp_path):
    out = tmp_path / "bomb.png"
    Image.new("1", (30_000, 20_000)).save(out)
    line = fails("stylize", styles, image, "--style", "rings", "--out", out)
    assert "exists and was not made by this command" in line


def test_styles_without_an_image_are_an_error(fails, styles):
    assert "give the image to be painted" in fails("stylize", styles, "--style", "rings")


def test_an_unconditional_network_has_no_styles(run, fails, image, tmp_path):
    folder = tmp_path / "none"
    run(
        "train",
        "style_transfer",
        "--arm",
        "none",
        "--preset",
        "tiny",
        "--steps",
        2,
        "--out",
        folder,
    )
    line = fails("stylize", folder, image, "--style", "rings", "--out", tmp_path / "x.png")
    assert "trained without styles to choose from" in line
    assert "trained without styles to choose from" in fails("stylize", folder)
