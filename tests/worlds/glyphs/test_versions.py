"""Versions of everything that renders the letters."""

from __future__ import annotations

import shutil
from pathlib import Path

import PIL
import pytest
from PIL import features

from featurewise.worlds.glyphs import DEBIAN_PACKAGES, TypefaceError, versions
from featurewise.worlds.glyphs.fontfiles import font_files
from featurewise.worlds.glyphs.versions import NEEDS, render_versions


def test_versions_of_renderer_and_fonts() -> None:
    found = render_versions("bundled")
    assert found["FreeType"] == features.version("freetype2")
    assert found["Pillow"] == PIL.__version__
    assert found["fonts"].startswith(f"{len(font_files('bundled'))} files, SHA-256 ")


def test_other_fonts_have_another_version(tmp_path: Path) -> None:
    first, second, *_ = font_files("bundled")
    seen = set()
    for fonts in ((first,), (second,), (first, second)):
        folder = tmp_path / str(len(seen))
        folder.mkdir()
        for font in fonts:
            shutil.copyfile(font, folder / font.name)
        seen.add(render_versions(folder)["fonts"])
    assert len(seen) == 3
    with pytest.raises(TypefaceError, match="is no folder"):
        render_versions(tmp_path / "nowhere")


def test_packages_have_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("dpkg-query") is None:
        pytest.skip("needs Debian's package manager")
    monkeypatch.setattr(versions, "DEBIAN_PACKAGES", ("dpkg", "no-such-package"))
    monkeypatch.setattr(versions, "font_files", lambda where: ())
    found = render_versions("debian")
    assert list(found) == ["FreeType", "Pillow", "dpkg"] and found["dpkg"][0].isdigit()


def test_the_command_installs_all_packages() -> None:
    assert NEEDS.startswith(f"the {len(DEBIAN_PACKAGES)} packages")
    assert all(f" {package}" in NEEDS for package in DEBIAN_PACKAGES)
