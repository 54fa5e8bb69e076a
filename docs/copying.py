"""For the built pages: copy buttons copy only the typed input, without prompts and outputs."""

from __future__ import annotations

import re
from html import escape, unescape
from typing import Any

_BLOCK = re.compile(r'<div class="[^"]*\bhighlight\b[^"]*">\s*<pre.*?</pre>', re.S)


def on_page_content(html: str, **_: Any) -> str:
    """A hook of MkDocs: sets the text of the copy button for blocks with prompts."""
    return _BLOCK.sub(lambda block: _with_text(block[0]), html)


def _with_text(block: str) -> str:
    if 'class="gp"' not in block:
        return block
    return block.replace("<div ", f'<div data-copy="{escape(typed(block))}" ', 1)


def typed(block: str) -> str:
    """The typed lines of a highlighted session.

    Args:
        block: HTML of a shell or Python session, as Pygments writes it.
    """
    lines = (line for line in block.split("\n") if 'class="gp"' in line)
    without_prompts = (re.sub(r'<span class="gp">.*?</span>', "", line) for line in lines)
    return "\n".join(unescape(re.sub(r"<.*?>", "", line)) for line in without_prompts)
