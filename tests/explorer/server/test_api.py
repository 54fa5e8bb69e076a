"""The OpenAPI document: it accepts what the server accepts, and nothing else."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.protocols import Validator
from starlette.testclient import TestClient
from tests.explorer.server.test_live import REFUSED, one

from featurewise.explorer import server
from featurewise.explorer.api import ANSWER, PATH, openapi
from featurewise.explorer.live import Live, LiveError

HOST = "http://127.0.0.1:8765"
TOKEN = "a-long-token-of-a-test"


def requests_of(document: dict[str, Any]) -> Validator:
    body = document["paths"][ANSWER]["post"]["requestBody"]["content"]["application/json"]
    Draft202012Validator.check_schema(body["schema"])
    return Draft202012Validator(body["schema"])


def accepts(live: Live, request: dict[str, Any]) -> bool:
    try:
        live.request({key: value for key, value in request.items() if key != "network"})
    except LiveError:
        return False
    return True


# The words that a network knows are not in the document, and NaN and infinity are not in JSON.
STATED = [
    request
    for request, message in REFUSED
    if "class, and a number" not in message and "too large" not in message
]


@pytest.mark.parametrize("request_", STATED)
def test_what_the_server_refuses_does_not_fit(live: Live, request_: dict[str, Any]) -> None:
    assert not requests_of(openapi([live])).is_valid({"condition": 0, **request_})


SITES = ["1", "4", "2", "affine", "scale", "shift", "raw", "exp", "gate", "low"]
edit = st.fixed_dictionaries(
    {
        "site": st.sampled_from(SITES),
        "parameter": st.sampled_from(["gamma", "beta", "row", ""]),
        "feature": st.integers(-1, 6),
        "value": st.one_of(st.floats(-1e3, 1e3), st.sampled_from([True, "1", None, 1e39, 0])),
    }
)
edits = st.lists(edit, max_size=3) | st.sampled_from([[{}], [1], {}, "x"])


def terms() -> st.SearchStrategy[Any]:
    term = st.builds(one, st.integers(-1, 12), st.floats(-101, 101))
    return st.lists(term, max_size=9) | st.sampled_from([[{}], [[]], {}, None, "x"])


requests = st.fixed_dictionaries(
    {"condition": st.integers(-1, 12) | st.sampled_from(["0", None, True, 0.5])},
    optional={
        "text": st.sampled_from(["class 1", "x" * 500, "x" * 501, "", " \n", None, 5]),
        "terms": terms(),
        "edits": edits,
        "unknown": st.just(1),
    },
)


@pytest.fixture(scope="module")
def document(live: Live, operations: Live) -> Validator:
    return requests_of(openapi([live, operations]))


@given(requests)
@settings(max_examples=300)
def test_a_request_fits_where_the_server_accepts_it(
    document: Validator, live: Live, operations: Live, request: dict[str, Any]
) -> None:
    assert document.is_valid({**request, "network": 0}) == accepts(live, request)
    assert document.is_valid(request) == accepts(live, request)
    assert document.is_valid({**request, "network": 1}) == accepts(operations, request)
    assert not document.is_valid({**request, "network": 2})


@given(edit)
@settings(max_examples=400)
def test_an_edit_fits_where_the_server_accepts_it(
    document: Validator, live: Live, operations: Live, edit: dict[str, Any]
) -> None:
    for index, network in enumerate((live, operations)):
        request = {"condition": 0, "terms": [one(0)], "edits": [edit]}
        assert document.is_valid({**request, "network": index}) == accepts(network, request)


def test_a_reply_fits(live: Live) -> None:
    reply = live.answer(live.request({"condition": 0, "terms": [one(3)]}))
    document = openapi([live])
    answer = document["paths"][ANSWER]["post"]["responses"]["200"]
    assert answer["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Reply"}
    schema = Draft202012Validator(document["components"]["schemas"]["Reply"])
    found = json.loads(json.dumps(asdict(reply)))
    assert schema.is_valid(found) and not schema.is_valid({**found, "outputs": 1})


def test_the_server_has_it(live: Live) -> None:
    with TestClient(server.app([live, live.bundle]), base_url=HOST) as client:
        response = client.get(PATH)
        assert response.status_code == 200 and response.json() == openapi([live, None])
        statuses = response.json()["paths"][ANSWER]["post"]["responses"]
        for status, change in {
            "415": {"headers": {"content-type": "text/plain"}},
            "403": {"headers": {"origin": "http://evil.example"}, "json": {}},
            "421": {"headers": {"host": "evil.example"}, "json": {}},
            "422": {"json": {}},
            "413": {"content": b"x" * 70_000, "headers": {"content-type": "application/json"}},
        }.items():
            assert client.post(ANSWER, **change).status_code == int(status)
            assert status in statuses


def test_networks_that_cannot_answer_are_only_shown(live: Live) -> None:
    assert set(openapi([None])["paths"]) == {"/", PATH}
    request = {"condition": 0, "terms": [one(0)]}
    assert not requests_of(openapi([None, live])).is_valid(request)
    assert requests_of(openapi([None, live])).is_valid({**request, "network": 1})


def test_it_names_the_token(live: Live) -> None:
    with TestClient(server.app(live, token=TOKEN), base_url=HOST) as client:
        assert client.get(PATH).status_code == 401
        found = client.get(PATH, headers={"authorization": f"Bearer {TOKEN}"}).json()
    assert found["security"] == [{"token": []}] and TOKEN not in json.dumps(found)
    assert "security" not in openapi([live])
