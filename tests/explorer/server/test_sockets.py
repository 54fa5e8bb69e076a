"""A server with a socket: raw bytes of all kinds, slow and silent clients, start and end."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from starlette.types import ASGIApp
from torch import Tensor

from featurewise.core import TaskRepresentation
from featurewise.explorer import ExplorerError, server
from featurewise.explorer.live import Live

Run = Callable[[ASGIApp], AbstractContextManager[Any]]

REQUEST: dict[str, Any] = {"condition": 0, "terms": [{"condition": 0, "weight": 1}]}
CANARY = "c4n4ry"


@pytest.fixture(scope="module")
def running(live: Live, run_server: Run) -> Iterator[Any]:
    with run_server(server.app(live)) as running:
        yield running


def head(method: str = "POST", target: str = "/api/v1/answer", *lines: str) -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""]).encode("latin-1")


HOST = "Host: 127.0.0.1"
JSON = "Content-Type: application/json"


def post(body: bytes | str, *lines: str) -> bytes:
    raw = body.encode() if isinstance(body, str) else body
    return head("POST", "/api/v1/answer", HOST, JSON, f"Content-Length: {len(raw)}", *lines) + raw


def chunked(*parts: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    """A body in chunks."""
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return head("POST", "/api/v1/answer", HOST, JSON, "Transfer-Encoding: chunked") + body + end


def status(reply: bytes) -> int:
    """Of a reply, a preceding 100 (continue) left out; 0 of no reply."""
    reply = reply.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    return int(reply.split(b" ", 2)[1]) if reply else 0


def receive(client: socket.socket) -> bytes:
    """One reply, with the length that its head promises."""
    found = b""
    while b"\r\n\r\n" not in found:
        found += received(client)
    head, _, body = found.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    while len(body) < int(length[1]):
        body += received(client)
    return head + b"\r\n\r\n" + body


def received(client: socket.socket) -> bytes:
    part = client.recv(65536)
    assert part, "the connection was closed"
    return part


def is_served(running: Any, limit: float = 2.0) -> bool:
    """Whether a valid client gets an answer in time."""
    start = time.monotonic()
    reply = running.send(post(json.dumps(REQUEST)))
    return status(reply) == 200 and time.monotonic() - start < limit


# --- malformed requests --------------------------------------------------------------------------

GOOD = json.dumps(REQUEST)
TERM = '{"condition": 0, "weight": 1}'


def with_term(**fields: str) -> str:
    """A body whose term has other values, as JSON."""
    term = {"condition": "0", "weight": "1", **fields}
    inner = ", ".join(f'"{name}": {value}' for name, value in term.items())
    return f'{{"condition": 0, "terms": [{{{inner}}}]}}'


def with_edit(**fields: str) -> str:
    edit = {"site": '"1"', "parameter": '"gamma"', "feature": "0", "value": "1", **fields}
    inner = ", ".join(f'"{name}": {value}' for name, value in edit.items())
    return f'{{"condition": 0, "terms": [{TERM}], "edits": [{{{inner}}}]}}'


def with_condition(value: str) -> str:
    return f'{{"condition": {value}, "terms": [{TERM}]}}'


VALUES = [
    *("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "nan", "1e400", "9" * 101, "1" * 5_000),
    *("null", "true", '"1"', "[]", "{}", "[1]", "0x1", "01", "+1", ".5", "1.", "1e", "--1", "'1'"),
    *(f'"{CANARY}"', f'{{"{CANARY}": 1}}', f'["{CANARY}"]'),
]
BODIES = [
    *(with_condition(value) for value in [*VALUES, "1.0", "1.5", "-1", "12", "1e1", "9" * 40]),
    *(with_term(weight=value) for value in [*VALUES, "101", "-101", "1e38"]),
    *(with_term(condition=value) for value in ["-1", "12", "1.0", "null", "NaN", "true"]),
    *(with_edit(value=value) for value in [*VALUES, "1e39", "-1e300"]),
    *(with_edit(feature=value) for value in ["-1", "6", "1.0", "null", "NaN", "9" * 99]),
    *(
        with_edit(site=value)
        for value in ['"*"', '"2"', '""', "1", f'"{CANARY}"', f'"{"x" * 5000}"']
    ),
    *(with_edit(parameter=value) for value in ['"row"', '""', "1", "null", f'"{CANARY}"']),
    f'{{"condition": 0, "text": "{"x" * 501}"}}',
    '{"condition": 0, "text": ""}',
    '{"condition": 0, "text": "\\ud800"}',
    '{"condition": 0, "text": "\\u0000"}',
    '{"condition": 0, "text": 1}',
    f'{{"condition": 0, "text": ["{CANARY}"]}}',
    f'{{"condition": 0, "text": "class 1", "terms": [{TERM}]}}',
    '{"condition": 0, "terms": []}',
    '{"condition": 0}',
    f'{{"terms": [{TERM}]}}',
    f'{{"condition": 0, "condition": 1, "terms": [{TERM}]}}',
    f'{{"condition": 0, "terms": [{TERM}], "{CANARY}": 1}}',
    f'{{"condition": 0, "terms": [{TERM}], "{CANARY}": 1, "{CANARY}": 1}}',
    f'{{"condition": 0, "terms": [{TERM}], "network": 1}}',
    f'{{"condition": 0, "terms": [{TERM}], "network": "../../etc/passwd"}}',
    f'{{"condition": 0, "terms": [{", ".join([TERM] * 9)}]}}',
    f'{{"condition": 0, "terms": [{TERM}], "edits": {{}}}}',
    f'{{"condition": 0, "terms": [{TERM}], "edits": [{", ".join(["{}"] * 17)}]}}',
    f'{{"condition": 0, "terms": [{TERM}], "edits": [null]}}',
    f'{{"__proto__": {{}}, "condition": 0, "terms": [{TERM}]}}',
    *("", " ", "{", "}", "[", "[]", "null", "1", "NaN", '"x"', "true", "{}", "{}{}", "{'a': 1}"),
    *(f"{GOOD},", f"{GOOD}{GOOD}", f"//x\n{GOOD}", GOOD[:-1], GOOD[1:], GOOD.replace(":", "=")),
    "[" * 30_000,
    '{"condition":' * 5_000,
    "[" * 30_000 + "]" * 30_000,
    '{"a":' * 10 + "1" + "}" * 10,
    "\ufeff" + GOOD,
    "\x00" + GOOD,
    GOOD.replace("0", "\u0660"),
    f"condition=0&text={CANARY}",
    f"<x>{CANARY}</x>",
]
RAW_BODIES = [
    GOOD.encode("utf-16"),
    GOOD.encode("utf-32"),
    b"\xff\xfe",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b'{"condition": 0, "text": "\xff"}',
    bytes(range(256)),
    b"\x1f\x8b\x08\x00" + b"\x00" * 60,
]


@pytest.mark.parametrize("body", [*BODIES, *RAW_BODIES], ids=lambda body: repr(body)[:40])
def test_malformed_bodies(running: Any, body: str | bytes) -> None:
    reply = running.send(post(body))
    assert status(reply) == 422, reply[:500]
    found = json.loads(reply.partition(b"\r\n\r\n")[2])
    assert 5 < len(found.pop("error")) < 500 and not found
    assert CANARY.encode() not in reply and b"x" * 50 not in reply


LINES = (HOST, JSON)
TARGET = "/api/v1/answer"
#: (name, raw bytes, statuses; 0 is a connection that is closed without a reply). h11 limits the
#: length of a head only while it is incomplete, which depends on how the bytes arrive.
REQUESTS: list[tuple[str, bytes, set[int]]] = [
    ("no bytes of HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 99, {400}),
    ("words", b"hello\r\n\r\n", {400}),
    ("HTTP/0.9", b"GET /\r\n\r\n", {400}),
    ("HTTP/1.0 without a host", b"GET / HTTP/1.0\r\n\r\n", {421}),
    ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 421}),
    ("HTTP/9.9", b"GET / HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n", {200, 400, 505}),
    ("no host", head("GET", "/"), {400}),
    ("two hosts", head("GET", "/", HOST, "Host: evil.example"), {400, 421}),
    ("another host", head("GET", "/", "Host: evil.example"), {421}),
    ("a host of control characters", head("GET", "/", "Host: \x01"), {400, 421}),
    ("a host of other letters", head("GET", "/", "Host: 127.0.0.1é"), {400, 421}),
    ("an absolute target", head("GET", "http://evil.example/", HOST), {404}),
    ("an absolute target, own", head("GET", "http://127.0.0.1/", HOST), {404}),
    ("no slash", head("GET", "index.html", HOST), {400, 404}),
    ("an asterisk", head("OPTIONS", "*", HOST), {404, 405}),
    ("CONNECT", head("CONNECT", "127.0.0.1:22", HOST), {404, 405}),
    ("TRACE", head("TRACE", "/", HOST), {405}),
    ("an unknown method", head("BREW", "/", HOST), {405}),
    ("a lower-case method", head("get", "/", HOST), {405}),
    ("a method of signs", head("G<T", "/", HOST), {400}),
    ("traversal", head("GET", "/../../../../etc/passwd", HOST), {404}),
    ("encoded traversal", head("GET", "/..%2f..%2f..%2fetc/passwd", HOST), {404}),
    ("double encoding", head("GET", "/%252e%252e%252fetc/passwd", HOST), {404}),
    ("backslashes", head("GET", "/..\\..\\etc\\passwd", HOST), {400, 404}),
    ("a null byte", head("GET", "/%00", HOST), {404}),
    ("bytes that are no UTF-8", head("GET", "/%ff%fe", HOST), {404}),
    ("a raw null byte", head("GET", "/\x00", HOST), {400}),
    ("a space in the target", head("GET", "/ x", HOST), {400}),
    ("a long target", head("GET", "/" + "a" * 20_000, HOST), {404, 400, 0}),
    ("a long header", head("GET", "/", HOST, "X: " + "a" * 70_000), {200, 400, 0}),
    ("many headers", head("GET", "/", HOST, *(f"X{i}: 1" for i in range(5_000))), {200, 400, 0}),
    ("a header without a colon", head("GET", "/", HOST, "X"), {400}),
    ("a space before the colon", head("GET", "/", "Host : 127.0.0.1"), {400}),
    ("a folded header", head("GET", "/", HOST, "X: a", " b"), {200, 400}),
    ("a header of bytes", head("GET", "/", HOST, "Accept-Encoding: \xff\xfe"), {200}),
    ("a header with a null byte", head("GET", "/", HOST, "X: \x00"), {400}),
    ("If-None-Match of bytes", head("GET", "/", HOST, "If-None-Match: \xff\xfe"), {200}),
    ("a range", head("GET", "/", HOST, "Range: bytes=0-1"), {200}),
    ("a lone newline", b"GET / HTTP/1.1\nHost: 127.0.0.1\n\n", {200, 400}),
    ("a websocket", head("GET", "/", HOST, "Upgrade: websocket", "Connection: Upgrade"), {200}),
    ("h2c", head("GET", "/", HOST, "Upgrade: h2c", "Connection: Upgrade"), {200}),
    ("a body of GET", head("GET", "/", HOST, "Content-Length: 3") + b"abc", {200}),
    ("no content type", head("POST", TARGET, HOST, "Content-Length: 2") + b"{}", {415}),
    ("no length", head("POST", TARGET, *LINES), {422}),
    ("a length of letters", head("POST", TARGET, *LINES, "Content-Length: ten"), {400}),
    ("a negative length", head("POST", TARGET, *LINES, "Content-Length: -1"), {400}),
    ("a signed length", head("POST", TARGET, *LINES, "Content-Length: +2") + b"{}", {400}),
    ("a fractional length", head("POST", TARGET, *LINES, "Content-Length: 2.0") + b"{}", {400}),
    ("hexadecimal length", head("POST", TARGET, *LINES, "Content-Length: 0x2") + b"{}", {400}),
    ("a huge length", head("POST", TARGET, *LINES, f"Content-Length: {10**18}"), {413}),
    ("an endless length", head("POST", TARGET, *LINES, "Content-Length: " + "9" * 400), {400, 413}),
    ("too long by one", head("POST", TARGET, *LINES, "Content-Length: 65537"), {413}),
    (
        "two lengths",
        head("POST", TARGET, *LINES, "Content-Length: 2", "Content-Length: 3") + b"{}",
        {400},
    ),
    (
        "length and chunks",
        head("POST", TARGET, *LINES, "Content-Length: 2", "Transfer-Encoding: chunked")
        + b"0\r\n\r\n",
        {400, 422},
    ),
    (
        "chunks twice",
        head("POST", TARGET, *LINES, "Transfer-Encoding: chunked, chunked") + b"0\r\n\r\n",
        {400, 501},
    ),
    (
        "another encoding",
        head("POST", TARGET, *LINES, "Transfer-Encoding: gzip") + b"0\r\n\r\n",
        {400, 501},
    ),
    (
        "a compressed body",
        post(b"\x1f\x8b\x08\x00" + b"\x00" * 20, "Content-Encoding: gzip"),
        {422},
    ),
    ("2 MB", post(b" " * 2_000_000), {413}),
    ("2 MB in chunks", chunked(*[b" " * 20_000] * 100), {413}),
    ("an empty body in chunks", chunked(), {422}),
    ("good chunks", chunked(GOOD[:9].encode(), GOOD[9:].encode()), {200}),
    ("chunks of one byte", chunked(*(bytes([byte]) for byte in GOOD.encode())), {200}),
    ("a chunk of no length", chunked(end=b"zz\r\n\r\n"), {400, 0}),
    ("a negative chunk", chunked(end=b"-1\r\n\r\n"), {400, 0}),
    ("a huge chunk", chunked(end=b"f" * 30 + b"\r\n"), {400, 0}),
    ("a long chunk extension", chunked(end=b"1;" + b"a" * 70_000), {400, 0}),
    ("a body longer than its length", post(GOOD) + b"trailing\r\n\r\n", {200}),
    ("two requests in one", post(GOOD) + head("GET", "/nothing", HOST), {200}),
    ("another origin", post(GOOD, "Origin: http://evil.example"), {403}),
    ("no origin of a site", post(GOOD, "Origin: null"), {403}),
    ("two origins", post(GOOD, "Origin: http://127.0.0.1", "Origin: null"), {403}),
    ("a preflight", head("OPTIONS", TARGET, HOST, "Origin: http://evil.example"), {405}),
    ("text/plain", head("POST", TARGET, HOST, "Content-Type: text/plain"), {415}),
    ("two content types", post(GOOD, "Content-Type: text/plain"), {200, 415}),
    ("an expectation", post(GOOD, "Expect: 100-continue"), {200}),
    ("an unknown expectation", post(GOOD, "Expect: x"), {200, 417}),
    ("forwarded headers", post(GOOD, "X-Forwarded-Host: evil.example"), {200}),
    ("another method by header", post(GOOD, "X-HTTP-Method-Override: DELETE"), {200}),
    ("a trailing slash", head("POST", TARGET + "/", *LINES, "Content-Length: 0"), {404}),
]


@pytest.mark.parametrize(
    ("raw", "expected"), [each[1:] for each in REQUESTS], ids=[each[0] for each in REQUESTS]
)
def test_malformed_requests(running: Any, raw: bytes, expected: set[int]) -> None:
    start = time.monotonic()
    reply = running.send(raw)
    assert status(reply) in expected, reply[:500]
    assert time.monotonic() - start < 5
    assert b"root:x:" not in reply and b"evil" not in reply and b"Traceback" not in reply


def test_there_are_enough_malformed_requests() -> None:
    assert len(BODIES) + len(RAW_BODIES) + len(REQUESTS) >= 150


def test_the_server_is_sound_after_all_that(running: Any) -> None:
    assert is_served(running)
    page = running.send(head("GET", "/", HOST))
    assert b"Content-Security-Policy" in page and b'"server":"http://127.0.0.1"' in page
    assert b"content-security-policy: default-src 'none'" in page
    assert b"\r\nserver:" not in page.lower()


def test_requests_one_after_another_on_a_connection(running: Any) -> None:
    with running.connect() as client:
        for raw, expected in (
            (post(GOOD), 200),
            (post("{}"), 422),
            (post(b" " * 70_000), 413),
            (post(GOOD, "Origin: null"), 403),
            (post(GOOD), 200),
        ):
            client.sendall(raw)
            assert status(receive(client)) == expected


# --- slow, silent and many clients ---------------------------------------------------------------


def closed_after(client: socket.socket, limit: float) -> float:
    """Seconds until the server has closed a connection."""
    start = time.monotonic()
    client.settimeout(limit)
    try:
        while client.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return time.monotonic() - start


@pytest.fixture
def fast(live: Live, run_server: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A server whose limits are short."""
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.6)
    monkeypatch.setattr(server, "BODY_SECONDS", 0.6)
    with run_server(server.app(live)) as running:
        yield running


@pytest.mark.parametrize("sent", [b"", b"POST", head("GET", "/", HOST)[:-2]])
def test_half_open_connections_are_closed(fast: Any, sent: bytes) -> None:
    with fast.connect() as client:
        client.sendall(sent)
        assert 0.3 < closed_after(client, 5) < 3


def test_a_head_that_comes_byte_by_byte(fast: Any) -> None:
    with fast.connect() as client, pytest.raises(OSError):
        for byte in head("GET", "/", HOST, "X: " + "a" * 100):
            client.sendall(bytes([byte]))
            time.sleep(0.05)


def test_a_next_head_that_does_not_come(fast: Any) -> None:
    with fast.connect() as client:
        client.sendall(post("{}"))
        assert status(receive(client)) == 422
        client.sendall(b"G")  # the limit of uvicorn ends with the first byte
        assert closed_after(client, 5) < 3


def test_a_body_that_does_not_come(fast: Any) -> None:
    for raw in (post(GOOD)[:-5], chunked(b"{", end=b"")):
        with fast.connect() as client:
            client.sendall(raw)
            reply = receive(client)
            assert status(reply) == 408 and b"longer than 0.6 s" in reply
            assert b"connection: close" in reply.lower()
            assert closed_after(client, 5) < 1


def test_a_body_that_is_refused_and_does_not_come(fast: Any) -> None:
    with fast.connect() as client:
        client.sendall(head("POST", TARGET, HOST, "Content-Length: 100"))
        assert status(receive(client)) == 415
        with pytest.raises(OSError):
            for _ in range(60):
                client.sendall(b"x")
                time.sleep(0.05)


def test_a_connection_in_use_is_kept(fast: Any) -> None:
    with fast.connect() as client:
        for _ in range(5):
            client.sendall(post(GOOD))
            assert status(receive(client)) == 200
            time.sleep(0.3)


def test_a_client_that_does_not_read(
    live: Live, run_server: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(server, "_REQUEST_SECONDS", 0.5)
    with run_server(server.app(live)) as running, running.connect() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(1)
        client.sendall(head("GET", "/", HOST) * 200)
        assert client.recv(100)
        held = running.server.server_state.connections
        limit = time.monotonic() + 5
        while held and time.monotonic() < limit:
            time.sleep(0.02)
        assert not held and is_served(running)


def test_half_open_sockets_do_not_block_a_client(running: Any) -> None:
    """Ten times as many as there may be threads for, of three kinds."""
    with ExitStack() as stack:
        for sent in (b"", b"POST / HT", post(GOOD)[:-3]):
            for _ in range(100):
                stack.enter_context(running.connect()).sendall(sent)
        assert all(is_served(running) for _ in range(5))


def test_more_connections_than_may_wait(running: Any) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(running.connect()) for _ in range(server._MAX_WAITING + 40)]
        assert is_served(running)
        assert closed_after(clients[0], 2) < 1
        clients[-1].sendall(post(GOOD))
        assert status(receive(clients[-1])) == 200


def test_more_requests_than_may_be_served(
    live: Live, run_server: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_MAX_ACTIVE", 10)
    with run_server(server.app(live)) as running, ExitStack() as stack:
        clients = [stack.enter_context(running.connect()) for _ in range(10)]
        for client in clients:
            client.sendall(post(GOOD)[:-1])
        time.sleep(0.3)
        reply = running.send(post(GOOD))
        assert status(reply) == 503 and b"too many requests" in reply
        clients[0].sendall(b"}")
        assert status(receive(clients[0])) == 200
        assert is_served(running)


def test_a_request_that_was_aborted_is_not_computed(live: Live, run_server: Run) -> None:
    opened, computed = threading.Event(), []

    def respond(task: TaskRepresentation, condition: int) -> Tensor:
        computed.append(condition)
        opened.wait(10)
        return torch.full((1, 5), 0.2)

    with run_server(server.app(replace(live, respond=respond))) as running:
        clients = [running.connect() for _ in range(12)]
        for condition, client in enumerate(clients):
            client.sendall(post(json.dumps({**REQUEST, "condition": condition})))
            time.sleep(0.02)
        for client in clients[2:-1]:
            client.close()
        time.sleep(0.3)
        opened.set()
        assert status(receive(clients[-1])) == 200
        assert sorted(computed) == [0, 1, 11]
        for client in clients:
            client.close()


# --- start and end -------------------------------------------------------------------------------


def test_a_port_that_is_in_use() -> None:
    messages: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with server._bind("127.0.0.1", port, messages.append) as found:
            other = found.getsockname()[1]
            assert found.getsockname()[0] == "127.0.0.1" and other != port
    assert messages == [f"port {port} cannot be used; {other} is used instead"]
    with server._bind("127.0.0.1", port, messages.append) as found:
        assert found.getsockname()[1] == port
    assert len(messages) == 1


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70_000), ("192.0.2.1", 0)])
def test_an_address_that_cannot_be_bound(host: str, port: int) -> None:
    with pytest.raises(ExplorerError, match=f"cannot listen at {host}, port {port}"):
        server._bind(host, port, print)


SCRIPT = """
import sys
from featurewise.core import TaskRepresentation
from featurewise.explorer.bundle import ExplorerBundle
from featurewise.explorer.live import Live
from featurewise.explorer.server import serve

bundle, task = ExplorerBundle.load(sys.argv[1]), TaskRepresentation.load(sys.argv[2])
live = Live(bundle=bundle, task=task, respond=lambda task, _: task.flat[:, :2])
serve(live, port=0, open_browser=False, on_message=lambda text: print(text, flush=True))
print("after", flush=True)
"""


def test_serve_until_ctrl_c(live: Live, tmp_path: Path) -> None:
    files = tmp_path / "bundle.safetensors", tmp_path / "task.safetensors"
    live.bundle.save(files[0])
    live.task.save(files[1])
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *files],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        assert line.startswith("http://127.0.0.1:") and "Ctrl-C" in line, process.stderr.read()
        port = int(line.split(":")[2].split("/")[0])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(post(GOOD))
            assert status(receive(client)) == 200  # and the connection stays open
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
        assert out.splitlines() == ["stopped", "after"] and err == ""
        assert process.returncode == 0
    finally:
        process.kill()


def test_the_messages_and_the_browser(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, messages = [], []
    shown = threading.Event()
    monkeypatch.setattr(
        server.webbrowser, "open", lambda address: (opened.append(address), shown.set())
    )
    monkeypatch.setattr(server.uvicorn.Server, "run", lambda self, sockets: shown.wait(5))
    server.serve(live, port=0, on_message=messages.append)
    address = messages[0].split()[0]
    assert opened == [address] and address.startswith("http://127.0.0.1:")
    assert messages == [f"{address} (stop with Ctrl-C)"]
    messages.clear()
    token = "a-long-token-of-a-test"
    server.serve(live, host="0.0.0.0", port=0, token=token, on_message=messages.append)
    assert any("token as password" in each for each in messages)
    assert not any(token in each for each in messages) and token not in "".join(opened)
    assert opened[1].startswith("http://127.0.0.1:")
