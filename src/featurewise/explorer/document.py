"""Bundles -> the page: one HTML file, which loads no other file."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path

from torch import Tensor

from featurewise.explorer.schema import PackedArray, PageBundle, PageData

_STATIC = Path(__file__).with_name("static")


def page(bundles: Sequence[PageBundle], server: str | None = None) -> str:
    """The page that shows one or more networks.

    Args:
        bundles: of the networks; several can be seen side by side.
        server: address of the server that computes what the page does not hold.
    """
    data = PageData(bundles=list(bundles), server=server)
    title = ", ".join(dict.fromkeys(each.content.title for each in bundles))
    script, style = _static("page.js"), _static("page.css")
    connect = "'none'" if server is None else server
    policy = (
        f"default-src 'none'; img-src data: blob:; script-src '{_digest(script)}'; "
        f"style-src 'unsafe-inline'; connect-src {connect}; base-uri 'none'; "
        "form-action 'none'"
    )
    parts = {
        "<!--TITLE-->": html.escape(title),
        "<!--CSP-->": f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        "<!--STYLE-->": style,
        "<!--DATA-->": _json(data),
        "<!--SCRIPT-->": script,
    }
    text = _static("page.html")
    for marker, part in parts.items():
        text = text.replace(marker, part, 1)
    return text


def packed(values: Tensor) -> PackedArray:
    """An array as the page reads it.

    Bytes of the same place in their number stand together: signs and exponents are alike, so
    that the file is a fifth smaller than without.
    """
    numbers = values.detach().cpu().contiguous().numpy().astype("<f4")
    planes = numbers.reshape(-1).view("u1").reshape(-1, 4).T
    data = base64.b64encode(zlib.compress(planes.tobytes(), 9)).decode()
    return PackedArray(shape=list(values.shape), data=data)


def _json(data: PageData) -> str:
    """JSON that may stand in a ``script`` element: no ``<``, no line separators of JavaScript."""
    text = json.dumps(asdict(data), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _digest(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


@cache
def _static(name: str) -> str:
    return (_STATIC / name).read_text(encoding="utf-8")
