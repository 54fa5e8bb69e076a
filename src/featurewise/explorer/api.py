"""The server's interface as an OpenAPI 3.1 document, for the networks that it shows.

It states what a request may contain, down to the sites, features and conditions of each network, so
that clients can be generated from it and the server be tested against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch

import featurewise
from featurewise.explorer.live import MAX_EDITS, MAX_TERMS, MAX_TEXT, MAX_WEIGHT, Live, editable

PATH: Final = "/api/v1/openapi.json"
"""Where the server has the document."""

ANSWER: Final = "/api/v1/answer"
"""Where the server answers."""

_REFUSALS: Final = {
    "401": "The server needs a token, and the request does not carry it.",
    "403": "The request is of another web site.",
    "408": "The body of the request takes too long.",
    "413": "The body of the request is too long.",
    "415": "The content type is not application/json.",
    "421": "The Host header does not name this server.",
    "422": "The request does not fit the network; the message names the field.",
    "503": "The server is busy; the same request may succeed later.",
}

_NUMBER: Final = {"type": "number"}
_STRING: Final = {"type": "string"}


def openapi(networks: Sequence[Live | None], *, token: bool = False) -> dict[str, Any]:
    """The document.

    Args:
        networks: in the order of the page; None for one that is shown without its weights.
        token: whether requests must carry one.
    """
    requests = [_requests(live, at) for at, live in enumerate(networks) if live is not None]
    page = {"200": {"description": "The page.", "content": {"text/html": {"schema": _STRING}}}}
    document = {"200": _json("This document.", {"type": "object"})}
    answer = {"200": _json("What the network answers.", _reference("Reply"))}
    body = {"schema": {"oneOf": [each for group in requests for each in group]}}
    paths: dict[str, Any] = {
        "/": {"get": {"operationId": "page", "responses": page | _refusals("401", "421", "503")}},
        PATH: {"get": {"operationId": "document", "responses": document | _refusals("401", "421")}},
    }
    if requests:
        paths[ANSWER] = {
            "post": {
                "operationId": "answer",
                "summary": "The answer to a text, a sum of task representations, or edits of one.",
                "requestBody": {"required": True, "content": {"application/json": body}},
                "responses": answer | _refusals(*_REFUSALS),
            }
        }
    components: dict[str, Any] = {"schemas": {"Reply": _REPLY, "Error": _ERROR}}
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "featurewise explorer", "version": featurewise.__version__},
        "paths": paths,
        "components": components,
    }
    if token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"token": []}]
    return found


def _requests(live: Live, index: int) -> list[dict[str, Any]]:
    """The two forms of a request to a network: a sum of terms, or a text."""
    condition = _range(len(live.task))
    weight = _NUMBER | {"minimum": -MAX_WEIGHT, "maximum": MAX_WEIGHT}
    term = _record({"condition": condition, "weight": weight})
    common = {"network": {"const": index}, "condition": condition, "edits": _edits(live)}
    needed = ["condition"] if index == 0 else ["condition", "network"]
    terms = _list(term, MAX_TERMS) | {"minItems": 1}
    forms = [
        _record(common | {"terms": terms, "text": {"type": "null"}}, [*needed, "terms"]),
    ]
    if live.represent is not None:
        text = _STRING | {"maxLength": MAX_TEXT, "pattern": r"\S"}
        forms.append(_record(common | {"text": text, "terms": _list(term, 0)}, [*needed, "text"]))
    return forms


def _edits(live: Live) -> dict[str, Any]:
    largest = torch.finfo(live.task.flat.dtype).max
    value = _NUMBER | {"minimum": -largest, "maximum": largest}
    forms = [
        _record(
            {
                "site": {"const": site.name},
                "parameter": {"enum": list(site.parameters)},
                "feature": _range(site.width),
                "value": value,
            }
        )
        for site in live.task.layout
        if editable(site.operation)
    ]
    return _list({"oneOf": forms}, MAX_EDITS) if forms else _list({}, 0)


def _range(count: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": 0, "maximum": count - 1}


def _list(items: dict[str, Any], most: int | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "array", "items": items}
    return found if most is None else found | {"maxItems": most}


def _record(properties: dict[str, Any], required: Sequence[str] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties if required is None else required),
        "additionalProperties": False,
    }


def _map(values: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": values}


def _reference(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _refusals(*statuses: str) -> dict[str, Any]:
    return {status: _json(_REFUSALS[status], _reference("Error")) for status in statuses}


_ERROR: Final = _record({"error": _STRING})
_REPLY: Final = _record(
    {
        "outputs": _list(_record({"name": _STRING, "value": _NUMBER})),
        "images": _list(_STRING),
        "nearest": _list(_record({"condition": {"type": "integer"}, "distance": _NUMBER})),
        "values": _map(_map(_list(_NUMBER))),
    }
)
