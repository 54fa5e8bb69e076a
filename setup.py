"""What pyproject.toml cannot say: on a package index, the links of the README lead to the pages."""

import re
from pathlib import Path

PAGES = "https://featurewise.readthedocs.io/en/latest/"
"""Where the pages of the documentation are."""


def absolute(readme: str) -> str:
    """The README with its links into the repository as addresses of pages.

    Args:
        readme: Markdown, its links relative to the repository's root.
    """
    return re.sub(r"(?<=\]\()(?!https?:|#)([^)\s]+)", lambda link: _address(link[1]), readme)


def _address(path: str) -> str:
    path, _, anchor = path.partition("#")
    anchor = f"#{anchor}" if anchor else ""
    if path.startswith("docs/") and not path.endswith(".md"):
        return f"{PAGES}{path.removeprefix('docs/')}"  # an image
    page = path.removeprefix("docs/").removesuffix(".md")
    page = _ELSEWHERE.get(path, "" if page == "index" else f"{page}/")
    return f"{PAGES}{page}{anchor}"


_ELSEWHERE = {
    "examples/README.md": "first_hour/",
    "CONTRIBUTING.md": "contributing/",
    "CITATION.cff": "cite/",
}

if __name__ == "__main__":
    from setuptools import setup

    setup(
        long_description=absolute(Path("README.md").read_text(encoding="utf-8")),
        long_description_content_type="text/markdown",
    )
