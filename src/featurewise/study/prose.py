"""The docstring of a system's file as the text of its card: title, reference, equation, body."""

from __future__ import annotations

import re
from dataclasses import dataclass

from featurewise.training.errors import ExperimentError


@dataclass(frozen=True, slots=True)
class Prose:
    """What a docstring says.

    Attributes:
        title: its first sentence, without the full stop.
        reference: the rest of its first line: authors, year, equation or figure.
        body: all below, in Markdown.
    """

    title: str
    reference: str
    body: str


def read_prose(doc: str | None) -> Prose:
    """Reads the docstring of a system's file.

    Args:
        doc: begins with a line "Title. Authors year, equation."; a blank line and a body follow,
            in which indented blocks are code and names stand between double backticks.

    Raises:
        ExperimentError: it is missing, or not of this form.
    """
    head, blank, below = (doc or "").strip().partition("\n\n")
    title, dot, reference = " ".join(head.split()).partition(". ")
    if not (dot and blank and title and below.strip()):
        raise ExperimentError(
            "the docstring of a system's file begins with a line 'Title. Authors year, equation.', "
            f"then says what it is; found {head[:80]!r}"
        )
    paragraphs = (_markdown(each) for each in re.split(r"\n\s*\n", below.strip("\n")))
    return Prose(title, reference.rstrip("."), "\n\n".join(filter(None, paragraphs)))


def _markdown(paragraph: str) -> str:
    """A paragraph; one that is indented is code, but the command, which the card has anyway."""
    lines = paragraph.split("\n")
    if all(line.startswith("    ") for line in lines):
        code = [line[4:] for line in lines if not line.strip().startswith("featurewise run")]
        return "\n".join(["```text", *code, "```"]) if code else ""
    text = " ".join(line.strip() for line in lines)
    return re.sub(r"::$", ":", text.replace("``", "`"))
