"""The server as an application: the page, answers, who may send requests, and limits."""

from __future__ import annotations

import base64
import gzip
import importlib.util
import json
import re
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient
from torch import Tensor

from featurewise.core import TaskRepresentation
from featurewise.explorer import ExplorerError, server
from featurewise.explorer.live import Live

HOST = "http://127.0.0.1:8765"
TOKEN = "a-long-token-of-a-test"


def client_of(application: Starlette, base_url: str = HOST) -> TestClient:
    return TestClient(application, base_url=base_url, raise_server_exceptions=False)


@pytest.fixture(scope="module")
def client(live: Live) -> Iterator[TestClient]:
    with client_of(server.app(live)) as client:
        yield client


def one(condition: int, weight: float = 1.0) -> dict[str, Any]:
    return {"condition": condition, "weight": weight}


REQUEST = {"condition": 0, "terms": [one(0)]}


def post(client: TestClient, request: Any = REQUEST, **headers: str) -> Any:
    return client.post("/api/v1/answer", json=request, headers=headers)


def post_raw(client: TestClient, body: bytes | str, kind: str = "application/json") -> Any:
    return client.post("/api/v1/answer", content=body, headers={"content-type": kind})


def error(response: Any) -> str:
    found = response.json()
    assert set(found) == {"error"} and found["error"]
    return str(found["error"])


# --- the page ------------------------------------------------------------------------------------


def test_the_page(client: TestClient, live: Live) -> None:
    response = client.get("/", headers={"accept-encoding": "identity"})
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "A &lt;small&gt; network" in response.text
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', response.text)
    found = json.loads(data[1])
    assert found["server"] == HOST
    assert found["bundles"] == [json.loads(json.dumps(asdict(live.bundle.packed())))]
    assert ".invalid" not in response.text


def test_the_policy_of_the_page(client: TestClient) -> None:
    response = client.get("/")
    policy = response.headers["content-security-policy"]
    meta = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', response.text)
    assert policy == f"{meta[1]}; frame-ancestors 'none'"
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split("; ")}
    assert rules["default-src"] == ["'none'"] and rules["connect-src"] == [HOST]
    assert [each[:8] for each in rules["script-src"]] == ["'sha256-"]


def test_the_page_names_the_origin_that_the_request_names(client: TestClient) -> None:
    for host in ("localhost:9000", "127.0.0.1:1", "[::1]:8765", "LOCALHOST"):
        response = client.get("/", headers={"host": host})
        origin = f"http://{host.lower()}"
        assert f'"server":"{origin}"' in response.text
        assert f"connect-src {origin};" in response.headers["content-security-policy"]
        assert post(client, host=host, origin=origin).status_code == 200


def test_compression_and_revalidation(client: TestClient) -> None:
    plain = client.get("/", headers={"accept-encoding": "identity"})
    zipped = client.get("/", headers={"accept-encoding": "br, gzip;q=0.5"})
    refused = client.get("/", headers={"accept-encoding": "gzip;q=0"})
    assert "content-encoding" not in plain.headers and "content-encoding" not in refused.headers
    assert zipped.headers["content-encoding"] == "gzip" and zipped.text == plain.text
    assert int(zipped.headers["content-length"]) == len(gzip.compress(plain.content, 6, mtime=0))
    assert int(zipped.headers["content-length"]) < len(plain.content) / 2
    assert plain.headers["etag"] == refused.headers["etag"] != zipped.headers["etag"]
    for first in (plain, zipped):
        known = first.headers["etag"]
        encoding = first.headers.get("content-encoding", "identity")
        for sent in (known, f'"other", W/{known}'):
            headers = {"if-none-match": sent, "accept-encoding": encoding}
            again = client.get("/", headers=headers)
            assert again.status_code == 304 and again.content == b""
            assert again.headers["etag"] == known
            assert "content-security-policy" in again.headers
    assert client.get("/", headers={"if-none-match": '"x"'}).status_code == 200
    assert "accept-encoding" in plain.headers["vary"]


def test_head(client: TestClient) -> None:
    response = client.head("/")
    assert response.status_code == 200 and response.content == b""
    assert response.headers["etag"] == client.get("/").headers["etag"]


def test_the_page_is_made_once_for_an_origin(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    compress = server.gzip.compress
    monkeypatch.setattr(
        server.gzip, "compress", lambda *a, **k: (made.append(1), compress(*a, **k))[1]
    )
    with client_of(server.app(live)) as client:
        for _ in range(3):
            client.get("/")
        assert len(made) == 1
        client.get("/", headers={"host": "localhost:8765"})
        assert len(made) == 2


def test_bundles_without_a_network(live: Live) -> None:
    with client_of(server.app([live.bundle])) as client:
        page = client.get("/")
        assert '"server":null' in page.text
        assert "connect-src 'none'" in page.headers["content-security-policy"]
        response = post(client)
        assert response.status_code == 422 and "without its weights" in error(response)


def test_several_networks(live: Live, operations: Live) -> None:
    with client_of(server.app([operations, live.bundle, live])) as client:
        titles = re.findall(r'"title":"([^"]*)"', client.get("/").text)
        assert len(titles) == 3
        first, second = (post(client, {**REQUEST, "network": i}) for i in (0, 2))
        shown = {site.name for site in operations.bundle.content.sites}
        assert set(first.json()["values"]) == shown
        assert second.json() == post(client, {"network": 2, **REQUEST}).json()
        assert set(second.json()["values"]) == {"1", "4"}
        assert post(client).json() == first.json()
        for network in (1, 3, -1, True, "0", 1.0, None):
            response = post(client, {**REQUEST, "network": network})
            assert response.status_code == 422 and error(response).startswith("network: ")


# --- answers -------------------------------------------------------------------------------------


REQUESTS = [
    REQUEST,
    {"condition": 3, "text": "class 5"},
    {"condition": 3, "terms": [one(1), one(2, 0.5), one(3, -0.5)]},
    {
        "condition": 0,
        "terms": [one(2)],
        "edits": [{"site": "1", "parameter": "gamma", "feature": 3, "value": -2}],
    },
    {"condition": 11, "text": "class 5", "terms": [], "edits": []},
    {"condition": 11, "text": None, "terms": [one(5)]},
]


@pytest.mark.parametrize("request_", REQUESTS)
def test_an_answer_is_that_of_the_network(
    client: TestClient, live: Live, request_: dict[str, Any]
) -> None:
    expected = json.loads(json.dumps(asdict(live.answer(live.request(request_)))))
    first, again = post(client, request_), post(client, request_, origin=HOST)
    assert first.status_code == again.status_code == 200
    assert first.headers["content-type"] == "application/json"
    assert first.json() == again.json() == expected


def test_replies_are_kept(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_CACHED_REPLIES", 20)
    calls = []

    def respond(task: TaskRepresentation, condition: int) -> Tensor:
        calls.append(condition)
        return task.flat[:, :5].sigmoid()

    with client_of(server.app(replace(live, respond=respond))) as client:
        first = post(client)
        assert post(client, {"terms": [one(0, 1)], "condition": 0}).content == first.content
        assert calls == [0]
        assert calls == [0]
        for number in range(20):
            post(client, {"condition": 1, "terms": [one(0, number)]})
        assert post(client).content == first.content and calls.count(0) == 2


def test_a_cache_is_bounded() -> None:
    cache = server._Cache(3, 10, len)
    for key in "abcd":
        cache.put(key, key.encode())
    assert cache.get("a") is None and cache.get("b") == b"b"
    cache.put("e", b"e")  # c was not used for longest
    assert cache.get("c") is None and cache.get("b") == b"b"
    cache.put("f", b"12345678")
    assert cache.get("f") == b"12345678" and cache.get("b") == b"b" and cache.get("d") is None
    cache.put("f", b"12345")
    cache.put("b", b"12345")
    assert cache.get("f") == b"12345" and cache.get("b") == b"12345"
    cache.put("g", b"12345678901")
    assert cache.get("g") is None and cache.get("b") is None


def test_requests_at_once_get_their_own_answers(client: TestClient, live: Live) -> None:
    wanted = [{"condition": i % 12, "terms": [one(i % 5, 0.01 * i + 1)]} for i in range(48)]

    def ask(request: dict[str, Any]) -> Any:
        while (response := post(client, request)).status_code == 503:
            time.sleep(0.01)
        return response.json()

    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(ask, wanted))
    expected = [json.loads(json.dumps(asdict(live.answer(live.request(each))))) for each in wanted]
    assert found == expected
    assert len({json.dumps(each) for each in found}) == len(wanted)


# --- who may send requests -----------------------------------------------------------------------


HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


def test_every_response_has_the_headers(client: TestClient) -> None:
    responses = [
        client.get("/"),
        client.get("/nothing"),
        client.delete("/"),
        client.get("/", headers={"host": "evil.example"}),
        post(client),
        post(client, {}),
        post(client, origin="http://evil.example"),
        post_raw(client, b"x" * 70_000),
    ]
    assert [each.status_code for each in responses] == [200, 404, 405, 421, 200, 422, 403, 413]
    for response in responses:
        assert HEADERS.items() <= response.headers.items()
        assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
        assert "access-control-allow-origin" not in response.headers
        assert "server" not in response.headers


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8765",
        "127.0.0.1.evil.example",
        "localhost.evil.example:8765",
        "localhost:8765@evil.example",
        "127.0.0.1:",
        "127.0.0.1:port",
        "127.0.0.1:123456",
        "0.0.0.0:8765",
        "127.1",
        "::1",
        "localhost localhost",
        "localhost/",
        "localhost#",
        "localhost'; script-src *",
        "",
    ],
)
def test_other_names_are_refused(client: TestClient, host: str) -> None:
    for response in (client.get("/", headers={"host": host}), post(client, host=host)):
        assert response.status_code == 421 and "Host" in error(response)


def test_names_of_the_server_may_be_in_capitals(live: Live) -> None:
    with client_of(server.app(live, hosts=["MyBox"], token=TOKEN), "http://mybox") as client:
        found = client.get("/", headers={"authorization": f"Bearer {TOKEN}"})
    assert found.status_code == 200


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "http://evil.example",
        "https://127.0.0.1:8765",
        "http://127.0.0.1",
        "http://127.0.0.1:8766",
        "http://localhost:8765",
        "http://127.0.0.1:8765.evil.example",
        "http://127.0.0.1:8765/",
        "127.0.0.1:8765",
        "",
    ],
)
def test_other_origins_are_refused(client: TestClient, origin: str) -> None:
    response = post(client, origin=origin)
    assert response.status_code == 403 and "other web sites" in error(response)


def test_two_origins_are_refused(client: TestClient) -> None:
    headers = [("origin", HOST), ("origin", "http://evil.example")]
    response = client.post("/api/v1/answer", json=REQUEST, headers=headers)
    assert response.status_code == 403


@pytest.mark.parametrize(
    "kind", ["text/plain", "", "application/x-www-form-urlencoded", "application/jsonp", "json"]
)
def test_other_content_types_are_refused(client: TestClient, kind: str) -> None:
    response = post_raw(client, json.dumps(REQUEST), kind)
    assert response.status_code == 415 and "application/json" in error(response)


def test_a_charset_is_accepted(client: TestClient) -> None:
    kind = "Application/JSON; charset=utf-8"
    assert post_raw(client, json.dumps(REQUEST), kind).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/answer", 405),
        ("OPTIONS", "/api/v1/answer", 405),
        ("PUT", "/", 405),
        ("POST", "/", 405),
        ("GET", "/api/v1/schema", 404),
        ("GET", "/docs", 404),
        ("GET", "/redoc", 404),
        ("GET", "/openapi.json", 404),
        ("GET", "/favicon.ico", 404),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd", 404),
        ("GET", "/static/page.js", 404),
        ("POST", "/api/v1/answer/", 404),
        ("POST", "/api/v1/answer/1", 404),
        ("POST", "//api/v1/answer", 404),
    ],
)
def test_there_is_nothing_else(client: TestClient, method: str, path: str, status: int) -> None:
    body = {"json": REQUEST} if method == "POST" else {}
    response = client.request(method, f"{HOST}{path}", **body, follow_redirects=False)
    assert response.status_code == status and error(response)


@pytest.mark.parametrize(
    ("path", "status"), [("/", 405), ("/api/v1/openapi.json", 405), ("/x", 404)]
)
def test_an_address_without_a_post_says_so_whatever_the_content(
    client: TestClient, path: str, status: int
) -> None:
    response = client.post(path, content=b"text", headers={"content-type": "text/plain"})
    assert response.status_code == status and error(response)
    if status == 405:
        assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD"}
    headers = {"content-type": "text/plain", "origin": "http://evil.example"}
    assert client.post(path, content=b"text", headers=headers).status_code == 403


def test_the_content_type_counts_where_the_application_is_mounted(client: TestClient) -> None:
    outer = Starlette(routes=[Mount("/shown", client.app)])
    mounted = TestClient(outer, base_url=HOST)
    content = json.dumps(REQUEST)
    kind = {"content-type": "text/plain"}
    response = mounted.post("/shown/api/v1/answer", content=content, headers=kind)
    assert response.status_code == 415


def test_parameters_of_an_address_are_ignored(client: TestClient) -> None:
    assert client.get("/?path=/etc/passwd").content == client.get("/").content


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_a_token(live: Live) -> None:
    with client_of(server.app(live, hosts=["example.org"], token=TOKEN), "http://example.org") as c:
        for given in (f"Bearer {TOKEN}", f"bearer {TOKEN}", basic("", TOKEN), basic("me", TOKEN)):
            assert c.get("/", headers={"authorization": given}).status_code == 200
            assert post(c, authorization=given).status_code == 200
        wrong = [
            "",
            TOKEN,
            "Bearer",
            f"Bearer {TOKEN}x",
            f"Bearer {TOKEN[:-1]}",
            f"Digest {TOKEN}",
            basic(TOKEN, ""),
            basic("me", TOKEN[1:]),
            "Basic " + base64.b64encode(TOKEN.encode()).decode(),
            "Basic *",
            "Basic /w==",
            "Basic é",
            "Bearer é",
        ]
        for given in wrong:
            for response in (
                c.get("/", headers={"authorization": given.encode("latin-1")}),
                post(c, authorization=given.encode("latin-1")),
            ):
                assert response.status_code == 401 and error(response) == "give the token"
                assert response.headers["www-authenticate"].startswith("Basic ")
        assert c.get("/").status_code == 401
        assert c.get("/", headers={"host": "evil.example"}).status_code == 421


@pytest.mark.parametrize("host", ["example.org", "192.168.1.2", "0.0.0.0", "[::]", ""])
def test_other_computers_need_a_token(live: Live, host: str) -> None:
    with pytest.raises(ExplorerError, match=f"{re.escape(host) or 'every address'}: give a token"):
        server.app(live, hosts=["localhost", host])
    with pytest.raises(ExplorerError, match="give a token"):
        server.serve(live, host=host, open_browser=False)


@pytest.mark.parametrize(
    "token", ["", "short", "a long token with spaces", "a-long-tökén-of-a-test"]
)
def test_weak_tokens(live: Live, token: str) -> None:
    with pytest.raises(ExplorerError, match="token: use at least 16 letters"):
        server.app(live, token=token)


def test_any_address_with_a_token(live: Live) -> None:
    hosts = [*server.LOOPBACK, "0.0.0.0"]
    with client_of(server.app(live, hosts=hosts, token=TOKEN)) as client:
        names = {"192.168.1.2:1": 200, "[fe80::1]": 200, "localhost": 200, "evil.example": 421}
        for host, status in {**names, "1.2.3.4.evil.example": 421, "[::1::]": 421}.items():
            headers = {"host": host, "authorization": f"Bearer {TOKEN}"}
            assert client.get("/", headers=headers).status_code == status


def test_names_of_this_computer_need_no_token(live: Live) -> None:
    server.app(live, hosts=["127.0.0.1", "127.0.0.2", "[::1]", "localhost"])


def test_a_page_without_a_policy(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "page", lambda *a, **k: "<!doctype html>")
    with pytest.raises(ExplorerError, match="no content security policy"):
        server.app(live)


def test_something_is_shown() -> None:
    with pytest.raises(ExplorerError, match="at least one network"):
        server.app([])


# --- limits and failures -------------------------------------------------------------------------


def test_the_length_of_a_body(client: TestClient) -> None:
    body = json.dumps(REQUEST)
    longest = body + " " * (server.MAX_BODY - len(body))
    assert post_raw(client, longest).status_code == 200
    for long in (longest + " ", "[" * 1_000_000):
        response = post_raw(client, long)
        assert response.status_code == 413 and "65,536 bytes" in error(response)


def test_a_body_without_a_length(client: TestClient) -> None:
    def parts(count: int) -> Iterator[bytes]:
        yield json.dumps(REQUEST).encode()
        for _ in range(count):
            yield b" " * 1_000

    headers = {"content-type": "application/json"}
    for count, status in ((10, 200), (70, 413)):
        response = client.post("/api/v1/answer", content=parts(count), headers=headers)
        assert response.status_code == status


@pytest.mark.parametrize(
    "failure",
    [RuntimeError("CUDA"), ValueError("shape"), MemoryError(), SystemExit(1), KeyError(3)],
)
def test_a_network_that_fails(
    live: Live, failure: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def respond(task: TaskRepresentation, condition: int) -> Tensor:
        if condition == 0:
            raise failure
        return task.flat[:, :5].sigmoid()

    with client_of(server.app(replace(live, respond=respond))) as client:
        for _ in range(server.THREADS + server.QUEUE + 2):  # each gives its place back
            response = post(client)
            assert response.status_code == 503 and "the network failed" in error(response)
            assert response.headers["retry-after"] == "1"
        assert "CUDA" not in response.text
        assert post(client, {**REQUEST, "condition": 1}).status_code == 200
    assert "the network failed" in caplog.text and type(failure).__name__ in caplog.text


def test_a_network_with_values_that_are_not_finite(live: Live) -> None:
    def respond(task: TaskRepresentation, condition: int) -> Tensor:
        return torch.full((1, 5), [torch.nan, torch.inf][condition])

    with client_of(server.app(replace(live, respond=respond))) as client:
        for condition in (0, 1):
            response = post(client, {**REQUEST, "condition": condition})
            assert response.status_code == 422 and "not finite" in error(response)


def test_a_failure_of_the_server_itself(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "loads", lambda *a, **k: 1 / 0)
    with client_of(server.app(live)) as client:
        response = post(client)
        assert response.status_code == 503 and error(response) == "the server failed"
        assert HEADERS.items() <= response.headers.items()


class Gate:
    """A network whose answers wait."""

    def __init__(self, live: Live) -> None:
        self.opened, self.computed = threading.Event(), 0
        self.live = replace(live, respond=self.respond)

    def respond(self, task: TaskRepresentation, condition: int) -> Tensor:
        self.computed += 1
        self.opened.wait(10)
        return task.flat[:, :5].sigmoid()


def test_a_full_queue(live: Live) -> None:
    gate = Gate(live)
    places = server.THREADS + server.QUEUE
    with (
        client_of(server.app(gate.live)) as client,
        ThreadPoolExecutor(places + 8) as threads,
    ):
        client.get("/")
        sent = [
            threads.submit(post, client, {"condition": i % 12, "terms": [one(0, 1 + i)]})
            for i in range(places + 8)
        ]
        limit = time.monotonic() + 10
        while sum(each.done() for each in sent) < 8 and time.monotonic() < limit:
            time.sleep(0.01)
        refused = [each.result() for each in sent if each.done()]
        assert [each.status_code for each in refused] == [503] * 8
        assert all(error(each) == "the server is busy" for each in refused)
        assert all(each.headers["retry-after"] == "1" for each in refused)
        assert gate.computed == server.THREADS
        assert client.get("/").status_code == 200  # the page needs no network
        gate.opened.set()
        assert sorted(each.result().status_code for each in sent) == [200] * places + [503] * 8
        assert post(client).status_code == 200


def test_an_answer_that_takes_too_long(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "ANSWER_SECONDS", 0.2)
    gate = Gate(live)
    with client_of(server.app(gate.live)) as client:
        start = time.monotonic()
        response = post(client)
        assert response.status_code == 503 and "longer than 0.2 s" in error(response)
        assert time.monotonic() - start < 5
        gate.opened.set()
        assert post(client).status_code == 200


# --- any request ---------------------------------------------------------------------------------

TEXTS = st.text(max_size=20) | st.sampled_from(["class 1", "gamma", "beta", "1", "4"])
NUMBERS = st.integers(-3, 15) | st.floats() | st.integers(-(10**120), 10**120)
ANY = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def record(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Objects with these fields, some of them missing or of another kind."""
    loose = {name: values | ANY for name, values in fields.items()}
    return st.fixed_dictionaries(fields) | st.fixed_dictionaries({}, optional=loose)


TERMS = record(condition=st.integers(-1, 12), weight=st.floats(-101, 101))
EDITS = record(
    site=st.sampled_from(["1", "4", "5", "*"]),
    parameter=st.sampled_from(["gamma", "beta", "row"]),
    feature=st.integers(-1, 7),
    value=st.floats(-1e3, 1e3) | st.floats(),
)
BODIES = (
    record(
        condition=st.integers(-1, 12),
        text=TEXTS,
        terms=st.lists(TERMS, max_size=9),
        edits=st.lists(EDITS, max_size=17),
        network=st.integers(-1, 1),
    )
    | st.fixed_dictionaries(
        {
            "condition": st.integers(0, 11),
            "terms": st.lists(TERMS, min_size=1, max_size=3),
            "edits": st.lists(EDITS, max_size=3),
        }
    )
    | ANY
)


def check_any(response: Any) -> None:
    assert response.status_code in (200, 413, 422), response.text
    found = response.json()
    assert set(found) == (
        {"error"} if response.status_code != 200 else {"outputs", "images", "nearest", "values"}
    )
    assert HEADERS.items() <= response.headers.items()


@settings(max_examples=250)
@given(body=BODIES)
def test_any_json(client: TestClient, body: Any) -> None:
    check_any(post_raw(client, json.dumps(body)))  # with NaN and Infinity, which are not JSON


@settings(max_examples=100)
@given(body=st.binary(max_size=200))
def test_any_bytes(client: TestClient, body: bytes) -> None:
    check_any(post_raw(client, body))


@settings(max_examples=150)
@given(body=BODIES, place=st.floats(0, 1), change=st.binary(max_size=3))
def test_any_damaged_json(client: TestClient, body: Any, place: float, change: bytes) -> None:
    raw = json.dumps(body).encode()
    at = int(place * len(raw))
    check_any(post_raw(client, raw[:at] + change + raw[at + len(change) :]))


# --- packages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", ["uvicorn", "starlette.applications"])
def test_a_missing_package(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    spec = importlib.util.spec_from_file_location("server_without", server.__file__)
    with pytest.raises(ExplorerError, match=r"pip install 'featurewise\[explorer\]'"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
