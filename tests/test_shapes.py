"""The checks of shapes that `make test` turns on do check, in every module that states shapes."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

import pytest
import torch
from jaxtyping import TypeCheckError

import featurewise
from featurewise.models.perceptual import gram

ROOT = Path(featurewise.__path__[0])
SOURCES = {path: path.read_text() for path in ROOT.rglob("*.py")}
ALIAS = re.compile(r"^(\w+)(?:: TypeAlias)? = .*\[Tensor, \"", re.MULTILINE)


@pytest.mark.skipif(
    not os.environ.get("FEATUREWISE_CHECK_SHAPES"), reason="shapes are not checked in this run"
)
def test_a_wrong_shape_is_refused() -> None:
    with pytest.raises(TypeCheckError):
        gram(torch.zeros(2, 3, 4))


def test_names_of_shapes_are_used_where_shapes_are_checked() -> None:
    """A module that states shapes only by a name from another module would not be checked."""
    aliases = {
        (path.relative_to(ROOT).parts[0], name)
        for path, text in SOURCES.items()
        for name in ALIAS.findall(text)
    }
    assert ("analysis", "ParameterMatrices") in aliases
    unchecked = [
        path
        for path, text in SOURCES.items()
        if path.name != "__init__.py" and "from jaxtyping import" not in text
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom)
        for package, name in aliases
        if f"{node.module}.".startswith(f"featurewise.{package}.")
        and name in {each.name for each in node.names}
    ]
    assert not unchecked
