"""Title, presets and arms of a system, read from the source text without importing it.

Help and completion use this, because importing a system imports torch, which takes seconds.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Outline:
    """Parts of a system's record; None where the file computes the value.

    Attributes:
        title: title of the system.
        presets: name of each preset -> its expected cost; empty if the record gives none.
        arms: name of each arm -> its description.
        answers: True for a system that answers questions.
        paints: True for a system that paints images in styles.
    """

    title: str | None = None
    presets: Mapping[str, str] | None = None
    arms: Mapping[str, str] | None = None
    answers: bool | None = None
    paints: bool | None = None


def read_outline(path: Path) -> Outline:
    """Reads the outline of a system.

    Args:
        path: Python file that ends in ``SYSTEM = System(...)``; of a package, its ``__init__.py``.
            The value of a keyword may be a name that is assigned in the same file, or imported from
            a file in the same folder.
    """
    tree = ast.parse(path.read_bytes())
    record = _assigned(tree, "SYSTEM")
    if not isinstance(record, ast.Call):
        return Outline()
    given = {each.arg: _resolved(each.value, tree, path) for each in record.keywords if each.arg}
    given["doc"] = ast.get_docstring(tree)
    return Outline(**{part: _read(given, read) for part, read in _PARTS.items()})


def read_title(path: Path) -> str | None:
    """The title of a system; its docstring alone is parsed, as a list of all systems needs it."""
    text = path.read_text(encoding="utf-8")
    docstring = text[: text.find('"""', 3) + 3] if text.startswith('"""') else text
    title: str | None = _read({"doc": ast.get_docstring(ast.parse(docstring))}, _title)
    return title


def _read(given: Mapping[str, Any], read: Callable[[Mapping[str, Any]], Any]) -> Any:
    try:
        return read(given)
    except (KeyError, AttributeError, ValueError, TypeError):  # an expression of another form
        return None


def _title(given: Mapping[str, Any]) -> str:
    """The first sentence of the docstring, as `featurewise.study.prose` has it."""
    first = " ".join(given["doc"].partition("\n\n")[0].split())
    return first[: first.index(". ")]


def _presets(given: Mapping[str, Any]) -> dict[str, str]:
    cost = ast.literal_eval(given["cost"]) if "cost" in given else {}
    names = [ast.literal_eval(key) for key in given["presets"].keys]
    return {name: cost.get(name, "") for name in names}


def _arms(given: Mapping[str, Any]) -> dict[str, str]:
    return dict(_constants(arm) for arm in given["arms"].elts)


def _answers(given: Mapping[str, Any]) -> bool | None:
    return "answerer" in given or None


def _paints(given: Mapping[str, Any]) -> bool | None:
    return "stylist" in given or None


_PARTS = {
    "title": _title,
    "presets": _presets,
    "arms": _arms,
    "answers": _answers,
    "paints": _paints,
}


def _constants(call: Any) -> tuple[str, str]:
    """Name and description from ``Arm(name, what, ...)``."""
    name, what = (ast.literal_eval(argument) for argument in call.args)
    return name, what


def _resolved(node: ast.expr, tree: ast.Module, path: Path) -> Any:
    """The expression that is assigned to a name; other expressions are returned unchanged."""
    if not isinstance(node, ast.Name):
        return node
    if (found := _assigned(tree, node.id)) is not None:
        return found
    for statement in tree.body:
        if isinstance(statement, ast.ImportFrom) and statement.module:
            beside = path.with_name(f"{statement.module.split('.')[-1]}.py")
            if any(each.name == node.id for each in statement.names) and beside.is_file():
                return _assigned(ast.parse(beside.read_bytes()), node.id)
    return None


def _assigned(tree: ast.Module, name: str) -> ast.expr | None:
    for statement in tree.body:
        if isinstance(statement, ast.Assign):
            targets: list[ast.expr] = statement.targets
        elif isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
        else:
            continue
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return statement.value
    return None
