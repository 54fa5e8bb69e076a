"""Documentation strings and source of Python's standard library, which is on every machine."""

from __future__ import annotations

import ast
import inspect
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from featurewise.common.opening import read_bytes
from featurewise.worlds.text.errors import MissingTextError, TextFileError
from featurewise.worlds.text.novels import Document, paragraphs

_LONGEST = 1 << 22  # bytes of a module


def docstrings(folder: Path | str = "") -> tuple[Document, ...]:
    """The documentation strings of each module, in the order of names.

    Args:
        folder: of the modules; default: that of the standard library. Only the files in it are
            read, not those of packages below it.

    Raises:
        MissingTextError: there are no modules.
        TextFileError: a module cannot be read or parsed.
    """
    return _docstrings(_folder(folder))


def sources(folder: Path | str = "") -> tuple[Document, ...]:
    """The source of each module, in the order of names; a line of it is a paragraph.

    Lines keep their indentation. Arguments and errors are those of `docstrings`.
    """
    return tuple(
        Document(path.name, tuple(line.rstrip() for line in _text(path).splitlines()))
        for path in _modules(_folder(folder))
    )


def _folder(folder: Path | str) -> Path:
    return Path(folder or sysconfig.get_paths()["stdlib"])


def _modules(folder: Path) -> list[Path]:
    found = sorted(folder.glob("*.py"))
    if not found:
        raise MissingTextError(f"{folder}: no modules of Python's standard library are there")
    return found


def _text(path: Path) -> str:
    try:
        return read_bytes(path, limit=_LONGEST).decode("utf-8-sig")
    except OSError as error:
        raise TextFileError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise TextFileError(f"{path}: not UTF-8: {error}") from error


@cache
def _docstrings(folder: Path) -> tuple[Document, ...]:
    documents = (
        Document(path.name, tuple(_of_module(_text(path), path))) for path in _modules(folder)
    )
    return tuple(each for each in documents if each.paragraphs)


def _of_module(source: str, path: Path) -> Iterator[str]:
    """Paragraphs of the strings of a module, its classes and functions, in the order of lines."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError) as error:
        raise TextFileError(f"{path}: not a module of this Python: {error}") from error
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = [node for node in ast.walk(tree) if isinstance(node, owners)]
    for node in sorted(found, key=lambda each: getattr(each, "lineno", 0)):
        if text := ast.get_docstring(node, clean=False):
            yield from paragraphs(inspect.cleandoc(text).splitlines())
