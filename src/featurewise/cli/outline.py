"""What help and completion say of a system, read from the text of its file without running it.

Importing a system imports torch, for which nobody who presses Tab wants to wait.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Outline:
    """A part of a system's record; None for what the file computes instead of writing it out.

    Attributes:
        title: what people call it.
        presets: name of a preset -> its expected cost, or an empty text.
        arms: name of an arm -> what it does differently.
    """

    title: str | None = None
    presets: Mapping[str, str] | None = None
    arms: Mapping[str, str] | None = None


def read_outline(path: Path) -> Outline:
    """The outline of the system in a file.

    Args:
        path: of a Python file that ends in ``SYSTEM = System(...)``; the value of a keyword may
            stand under a name in the same file, or in one beside it from which it is imported.
    """
    tree = ast.parse(path.read_bytes())
    record = _assigned(tree, "SYSTEM")
    if not isinstance(record, ast.Call):
        return Outline()
    given = {each.arg: _resolved(each.value, tree, path) for each in record.keywords if each.arg}
    given["doc"] = ast.get_docstring(tree)
    return Outline(**{part: _read(given, read) for part, read in _PARTS.items()})


def _read(given: Mapping[str, Any], read: Callable[[Mapping[str, Any]], Any]) -> Any:
    try:
        return read(given)
    except (KeyError, AttributeError, ValueError, TypeError):  # of a node of another kind
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


_PARTS = {"title": _title, "presets": _presets, "arms": _arms}


def _constants(call: Any) -> tuple[str, str]:
    """The two arguments of ``Arm(name, what, ...)``; the changes of the config do not matter."""
    name, what = (ast.literal_eval(argument) for argument in call.args)
    return name, what


def _resolved(node: ast.expr, tree: ast.Module, path: Path) -> Any:
    """The value that stands under a name; any other expression is its own value."""
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
