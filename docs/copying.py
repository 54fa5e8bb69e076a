"""For the built pages: what a copy button copies is what one types, without prompts and outputs."""

from __future__ import annotations

import re
from html import escape, unescape
from typing import Any

_BLOCK = re.compile(r'<div class="[^"]*\bhighlight\b[^"]*">\s*<pre.*?</pre>', re.S)


def on_page_content(html: str, **_: Any) -> str:
    """A hook of MkDocs: gives the theme's copy button another text where a block has prompts."""
    return _BLOCK.sub(lambda block: _with_text(block[0]), html)


def _with_text(block: str) -> str:
    if 'class="gp"' not in block:
        return block
    return block.replace("<div ", f'<div data-copy="{escape(typed(block))}" ', 1)


def typed(block: str) -> str:
    """The lines of a highlighted session that one types.

    Args:
        block: HTML, as Pygments makes it of a session in a shell or in Python.
    """
    lines = (line for line in block.split("\n") if 'class="gp"' in line)
    without_prompts = (re.sub(r'<span class="gp">.*?</span>', "", line) for line in lines)
    return "\n".join(unescape(re.sub(r"<.*?>", "", line)) for line in without_prompts)
