"""The explorer's server: the page of one or more networks, and what they answer live.

It has three addresses and no parameters in any: ``GET /`` is the page, ``POST /api/v1/answer``
takes a JSON request (`Live.request`, with an optional ``network``: position of the network in the
page) and returns a `Reply`, ``GET /api/v1/openapi.json`` describes both. Errors are
``{"error": message}``, and a message repeats no text of the request, except that of a network about
its own text.

Whoever may send requests here can only compute with the networks: nothing is written, no file is
named. Other web sites are kept out by the names that a request may give this server (``Host``,
against DNS rebinding), by its ``Origin`` and by its content type; a token is needed where other
computers can connect.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import hmac
import html
import json
import logging
import re
import secrets
import socket
import threading
import webbrowser
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from http import HTTPStatus
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, ClassVar, Final, Generic, TypeAlias, TypeVar

from featurewise.common.json import JsonError, loads
from featurewise.explorer.api import ANSWER, PATH, openapi
from featurewise.explorer.bundle import ExplorerBundle, ExplorerError
from featurewise.explorer.document import page
from featurewise.explorer.live import Live, LiveError
from featurewise.explorer.live import Request as LiveRequest

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.datastructures import Headers, MutableHeaders
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
    from uvicorn.protocols.http.h11_impl import H11Protocol
except ImportError as error:
    raise ExplorerError(
        f"the server needs {error.name}: pip install 'featurewise[explorer]'"
    ) from error

LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")
"""Names of this computer, as in the ``Host`` of a request."""

MAX_BODY: Final = 64 * 1024
"""Longest body of a request, in bytes."""

PORT: Final = 8765
"""Port that is bound where it is free."""

THREADS: Final = 2
"""Requests that are computed at once."""

QUEUE: Final = 16
"""Requests that wait at most; a further one is answered 503."""

HEAD_SECONDS: Final = 10.0
"""Longest time from a connection, or from the last answer, to the end of the next head."""

BODY_SECONDS: Final = 4.0
"""Longest time that a body may take."""

ANSWER_SECONDS: Final = 30.0
"""Longest time that a request waits for its answer, its time in the queue included."""

_REQUEST_SECONDS: Final = 60.0  # for a request and its answer, or to read the last answer
_MAX_DEPTH: Final = 6
_MAX_WAITING: Final = 256  # connections without a request
_MAX_ACTIVE: Final = 256  # requests, their bodies included
_MIN_TOKEN: Final = 16  # characters
_PAGES: Final = 4  # a page for each name of this server that is in use
_CACHED_REPLIES: Final = 256
_CACHED_BYTES: Final = 32 * 2**20
_RETRY_SECONDS: Final = "1"

_JSON: Final = (
    f"expected JSON in UTF-8, at most {_MAX_DEPTH} deep, with finite numbers and without a key "
    "that occurs twice"
)
_HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?")
_POLICY: Final = re.compile(r'http-equiv="Content-Security-Policy" content="([^"]*)"')
_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}

_log: Final = logging.getLogger(__name__)

Network: TypeAlias = Live | ExplorerBundle
"""A network that answers, or one that is only shown."""

K = TypeVar("K")
V = TypeVar("V")


def app(
    shown: Network | Sequence[Network],
    *,
    hosts: Sequence[str] = LOOPBACK,
    token: str | None = None,
) -> Starlette:
    """The server as an ASGI application, without a socket.

    Args:
        shown: one network or several, which the page shows side by side.
        hosts: names that a request may give this server, without a port; 0.0.0.0 stands for any
            address (not name).
        token: that every request must carry, as a bearer token or as the password of a browser's
            dialog (HTTP basic authentication, with any user name).

    Raises:
        ExplorerError: nothing is shown, the token is weak, or it is missing although a host is not
            this computer.
    """
    networks = [shown] if isinstance(shown, Network) else [*shown]
    if not networks:
        raise ExplorerError("give at least one network to show")
    check_token(token, hosts)
    site = _Site(
        networks,
        openapi(
            [each if isinstance(each, Live) else None for each in networks], token=token is not None
        ),
    )
    application = Starlette(
        routes=[
            Route("/", site.page, methods=["GET"]),
            Route(ANSWER, site.answer, methods=["POST"]),
            Route(PATH, site.document, methods=["GET"]),
        ],
        middleware=[
            Middleware(_Guard, hosts=frozenset(each.lower() for each in hosts), token=token)
        ],
        exception_handlers={HTTPException: _on_error},
        lifespan=site.lifespan,
    )
    application.router.redirect_slashes = False
    return application


def serve(
    shown: Network | Sequence[Network],
    *,
    host: str = "127.0.0.1",
    port: int = PORT,
    hosts: Sequence[str] = (),
    token: str | None = None,
    open_browser: bool = True,
    on_message: Callable[[str], object] = print,
) -> None:
    """Serve the page until Ctrl-C.

    Args:
        shown: one network or several, as for `app`.
        host: address to bind; other computers can connect unless it is this computer's own.
        port: to bind; where another program uses it, a free one is bound instead.
        hosts: further names that a request may give this server, without a port.
        token: as for `app`; needed where other computers can connect.
        open_browser: whether a browser is opened.
        on_message: is called with lines for the user.

    Raises:
        ExplorerError: as `app`, or the address cannot be bound.
    """
    known = (*LOOPBACK, _host_name(host), *hosts)
    if _is_any(host):
        known = (*known, socket.gethostname().lower())
    application = app(shown, hosts=known, token=token)
    listener = _bind(host, port, on_message)
    with listener:
        port = listener.getsockname()[1]
        address = f"http://{_host_name(host)}:{port}/"
        if _is_any(host):
            address = f"http://{'[::1]' if ':' in host else '127.0.0.1'}:{port}/"
            on_message(f"other computers: http://{socket.gethostname()}:{port}/, or by address")
        on_message(f"{address} (stop with Ctrl-C)")
        if token is not None:
            on_message("a browser shows a dialog: any user name, the token as password")
        if open_browser:
            # A text browser would keep this thread until it is closed.
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        try:
            uvicorn.Server(configuration(application)).run(sockets=[listener])
        except KeyboardInterrupt:  # uvicorn raises it again after an orderly end
            on_message("stopped")


def configuration(application: ASGIApp) -> uvicorn.Config:
    """How uvicorn serves the application: with limits to what connections may hold."""
    return uvicorn.Config(
        application,
        http=type("Protocol", (_Protocol,), {"waiting": {}}),
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=3,
    )


# --- addresses -----------------------------------------------------------------------------------


def _host_name(host: str) -> str:
    """An address as in the ``Host`` of a request: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host.lower()


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """The address that a host is, if it is one; a name is none."""
    try:
        return ip_address(host.strip("[]"))
    except ValueError:
        return None


def _is_any(host: str) -> bool:
    """Whether binding this address is binding all addresses."""
    address = _address(host)
    return host == "" or (address is not None and address.is_unspecified)


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host in LOOPBACK or (address is not None and address.is_loopback)


def check_token(token: str | None, hosts: Sequence[str]) -> None:
    """Whether a token is strong, and there is one where other computers can connect.

    Args:
        token: see `app`; None for none.
        hosts: addresses and names of the server.

    Raises:
        ExplorerError: it is weak, or missing.
    """
    if token is None:
        if others := [host for host in hosts if not _is_loopback(host)]:
            raise ExplorerError(
                f"other computers can connect to {others[0] or 'every address'}: give a token, "
                f"such as {secrets.token_urlsafe()}"
            )
    elif len(token) < _MIN_TOKEN or not re.fullmatch(r"[!-~]+", token):
        raise ExplorerError(
            f"token: use at least {_MIN_TOKEN} letters, digits or signs without a space"
        )


def _bind(host: str, port: int, on_message: Callable[[str], object]) -> socket.socket:
    """A socket that listens at the port, or at a free one where the port is in use."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        try:
            return socket.create_server((host, port), family=family, backlog=512)
        except OSError:
            if port == 0:
                raise
            free = socket.create_server((host, 0), family=family, backlog=512)
            on_message(f"port {port} cannot be used; {free.getsockname()[1]} is used instead")
            return free
    except (OSError, OverflowError) as error:
        raise ExplorerError(f"cannot listen at {host}, port {port}: {error}") from error


# --- who may send a request ----------------------------------------------------------------------


class _Guard:
    """Refuses requests of other web sites and strangers; adds headers; a failure is 503, not 500.

    Args:
        app: the application behind it.
        hosts: names that a request may give this server.
        token: that it must carry.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str], token: str | None) -> None:
        self.app, self.hosts, self.token = app, hosts, token
        self.any_address = any(_is_any(host) for host in hosts)
        self.active = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        self.active += 1
        try:
            answered = self._refusal(scope) or self.app
            await answered(scope, receive, guarded)
        except ClientDisconnect:
            return
        except Exception:
            if started:
                raise
            _log.exception("a request failed")
            await _busy("the server failed")(scope, receive, guarded)
        finally:
            self.active -= 1

    def _refusal(self, scope: Scope) -> Response | None:
        """The answer to a request that may not be sent."""
        if self.active > _MAX_ACTIVE:
            return _busy("too many requests")
        headers = Headers(scope=scope)
        host = headers.getlist("host")
        name = _HOST.fullmatch(host[0].lower()) if len(host) == 1 else None
        if name is None or not self._is_own(name[1]):
            return _failure(421, "this server does not have the name in the Host header")
        if self.token is not None and not _carries(headers.get("authorization", ""), self.token):
            refused = _failure(401, "give the token")
            refused.headers["www-authenticate"] = 'Basic realm="featurewise", charset="UTF-8"'
            return refused
        if scope["method"] != "POST":
            return None
        # A browser sends Origin with every POST. Programs that are no browser need not.
        if any(origin.lower() != _origin(headers) for origin in headers.getlist("origin")):
            return _failure(403, "requests of other web sites are refused")
        if not scope["path"].endswith(ANSWER):  # also where the application is mounted elsewhere
            return None  # no other address has a POST: the answer is 404 or 405
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            return _failure(415, "content-type must be application/json")
        return None

    def _is_own(self, host: str) -> bool:
        # Another site can give its name this computer's address, but not its page an address.
        return host in self.hosts or (self.any_address and _address(host) is not None)


def _origin(headers: Headers) -> str:
    """This server, under the name that the request gives it."""
    return f"http://{headers['host'].lower()}"


def _carries(authorization: str, token: str) -> bool:
    """Whether a header holds the token, as a bearer token or as a password."""
    kind, _, given = authorization.partition(" ")
    if kind.lower() == "basic":
        try:
            given = base64.b64decode(given.strip(), validate=True).decode().partition(":")[2]
        except ValueError:  # neither base64 nor UTF-8
            return False
    elif kind.lower() != "bearer":
        return False
    return hmac.compare_digest(given.strip().encode(), token.encode())


def _failure(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": message}, status)


def _busy(message: str) -> JSONResponse:
    """503: the same request may succeed later."""
    response = _failure(503, message)
    response.headers["retry-after"] = _RETRY_SECONDS
    return response


async def _on_error(_request: Request, error: Exception) -> Response:
    """Starlette's own errors: an unknown address or method."""
    if not isinstance(error, HTTPException):
        raise error
    response = _failure(error.status_code, HTTPStatus(error.status_code).phrase.lower())
    response.headers.update(error.headers or {})
    return response


# --- page and answers ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Page:
    """The page for one origin.

    Attributes:
        plain: its bytes.
        zipped: the same, compressed.
        tag: of this content.
        policy: for the header ``Content-Security-Policy``.
    """

    plain: bytes
    zipped: bytes
    tag: str
    policy: str


class _Site:
    """What is behind the three addresses."""

    def __init__(self, networks: Sequence[Network], document: dict[str, Any]) -> None:
        self._networks = networks
        self._document = json.dumps(document).encode()
        self._pool = _Pool()
        self._replies: _Cache[tuple[int, LiveRequest], bytes] = _Cache(
            _CACHED_REPLIES, _CACHED_BYTES, len
        )
        self._pages: _Cache[str, _Page] = _Cache(_PAGES, _PAGES, lambda _: 1)
        # The page names the origin of its server, which depends on the name in a request (also that
        # of an SSH tunnel); all else is made once.
        self._unknown = f"http://{secrets.token_hex(16)}.invalid"
        live = any(isinstance(network, Live) for network in networks)
        text = page(
            [_bundle(each).packed() for each in networks],
            server=self._unknown if live else None,
        )
        policy = _POLICY.search(text)
        if policy is None:
            raise ExplorerError("the page has no content security policy")
        self._page, self._policy = text.encode(), html.unescape(policy[1])

    @asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        """Ends the threads with the server."""
        yield
        self._pool.close()

    async def page(self, request: Request) -> Response:
        """``GET /``."""
        origin = _origin(request.headers)
        found = self._pages.get(origin)
        if found is None:
            try:
                found = await self._pool.run(lambda: self._page_for(origin), request)
            except _BusyError as error:
                return _busy(str(error))
            self._pages.put(origin, found)
        zipped = _accepts_gzip(request.headers.get("accept-encoding", ""))
        tag = f'"{found.tag}-gzip"' if zipped else f'"{found.tag}"'
        headers = {
            "etag": tag,
            "vary": "accept-encoding",
            "cache-control": "private, no-cache",
            "content-security-policy": found.policy,
        }
        known = request.headers.get("if-none-match", "")
        if tag in [each.strip().removeprefix("W/") for each in known.split(",")]:
            return Response(status_code=304, headers=headers)
        if zipped:
            headers["content-encoding"] = "gzip"
        return Response(
            found.zipped if zipped else found.plain, headers=headers, media_type="text/html"
        )

    def _page_for(self, origin: str) -> _Page:
        plain = self._page.replace(self._unknown.encode(), origin.encode())
        return _Page(
            plain,
            gzip.compress(plain, 6, mtime=0),
            hashlib.sha256(plain).hexdigest()[:32],
            f"{self._policy.replace(self._unknown, origin)}; frame-ancestors 'none'",
        )

    async def document(self, _request: Request) -> Response:
        """``GET /api/v1/openapi.json``."""
        return Response(self._document, media_type="application/json")

    async def answer(self, request: Request) -> Response:
        """``POST /api/v1/answer``."""
        try:
            body = await _body(request)
            network, live, wanted = self._wanted(loads(body, max_depth=_MAX_DEPTH))
            reply = self._replies.get((network, wanted))
            if reply is None:
                reply = await self._pool.run(lambda: _reply(live, wanted), request)
                self._replies.put((network, wanted), reply)
        except _BodyError as error:
            response = _failure(error.status, str(error))
            response.headers.update(error.headers)
            return response
        except JsonError as error:
            return _failure(422, f"{error.where or 'the request'}: {_JSON}")
        except LiveError as error:
            return _failure(422, str(error))
        except _BusyError as error:
            return _busy(str(error))
        return Response(reply, media_type="application/json")

    def _wanted(self, value: Any) -> tuple[int, Live, LiveRequest]:
        """Position of the network, the network, and what it is to answer.

        Raises:
            LiveError: the request does not fit.
        """
        if not isinstance(value, dict):
            raise LiveError("the request: expected an object")
        network = value.pop("network", 0)
        last = len(self._networks) - 1
        if type(network) is not int or not 0 <= network <= last:
            raise LiveError(f"network: expected an integer from 0 to {last}")
        live = self._networks[network]
        if not isinstance(live, Live):
            raise LiveError("network: this one is shown without its weights and cannot answer")
        return network, live, live.request(value)


def _bundle(network: Network) -> ExplorerBundle:
    return network.bundle if isinstance(network, Live) else network


def _reply(live: Live, wanted: LiveRequest) -> bytes:
    """The answer of a network as JSON."""
    reply = asdict(live.answer(wanted))
    return json.dumps(reply, allow_nan=False, separators=(",", ":")).encode()


def _accepts_gzip(accepted: str) -> bool:
    """Whether ``gzip`` is among the encodings, and not refused by a weight of 0."""
    for each in accepted.lower().split(","):
        name, _, weight = each.partition(";")
        if name.strip() == "gzip":
            return not re.fullmatch(r"\s*q=0(\.0*)?\s*", weight)
    return False


class _BodyError(Exception):
    """A body that is refused, with the status to answer."""

    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers


async def _body(request: Request) -> bytes:
    """The body, whatever length its head claims.

    Raises:
        _BodyError: it is too long, or takes too long.
    """
    long = _BodyError(413, f"a request may have {MAX_BODY:,} bytes")
    claimed = request.headers.get("content-length", "0")
    if not claimed.isdecimal() or len(claimed) > 15 or int(claimed) > MAX_BODY:
        raise long
    found = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                found += part
                if len(found) > MAX_BODY:
                    raise long
    except TimeoutError as error:
        raise _BodyError(
            408, f"the request took longer than {BODY_SECONDS:g} s", connection="close"
        ) from error
    return bytes(found)


# --- computation ---------------------------------------------------------------------------------


class _BusyError(Exception):
    """A request that cannot be computed now."""


class _Pool:
    """A few threads with a bounded queue."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="explorer")
        self._free = threading.BoundedSemaphore(THREADS + QUEUE)

    def close(self) -> None:
        """Drop what waits; what is being computed ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def run(self, compute: Callable[[], V], request: Request) -> V:
        """The result of ``compute``, in a thread; a request that was aborted leaves the queue.

        Raises:
            LiveError: of ``compute``.
            _BusyError: the queue is full, it took too long, or ``compute`` failed.
            ClientDisconnect: the client no longer waits.
        """
        if not self._free.acquire(blocking=False):
            raise _BusyError("the server is busy")
        future = self._threads.submit(_isolated, compute)
        # A thread cannot be stopped: its place is free again when it ends, not when nobody waits.
        future.add_done_callback(lambda _: self._free.release())
        result = asyncio.wrap_future(future)
        aborted = asyncio.ensure_future(_disconnected(request))
        first: set[asyncio.Future[Any]] = {result, aborted}
        try:
            await asyncio.wait(first, timeout=ANSWER_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if result.done():
                return result.result()
            if aborted.done():
                raise ClientDisconnect
            raise _BusyError(f"the answer takes longer than {ANSWER_SECONDS:g} s")
        finally:
            result.cancel()
            aborted.cancel()


def _isolated(compute: Callable[[], V]) -> V:
    """``compute``, whose failures are logged and cannot end the server.

    Raises:
        LiveError: of ``compute``.
        _BusyError: it failed.
    """
    try:
        return compute()
    except LiveError:
        raise
    except BaseException as error:  # also SystemExit of a user's function
        _log.exception("the network failed")
        raise _BusyError("the network failed; the server's log has the error") from error


async def _disconnected(request: Request) -> None:
    """Returns when the client has closed its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _Cache(Generic[K, V]):
    """The values that were used last, of a bounded number and a bounded size; for one thread."""

    def __init__(self, most: int, largest: int, size: Callable[[V], int]) -> None:
        self._most, self._largest, self._size = most, largest, size
        self._values: OrderedDict[K, V] = OrderedDict()
        self._total = 0

    def get(self, key: K) -> V | None:
        """The value, if it is there."""
        if key in self._values:
            self._values.move_to_end(key)
        return self._values.get(key)

    def put(self, key: K, value: V) -> None:
        """Keep a value; the ones that were not used for longest go."""
        if key in self._values:
            self._total -= self._size(self._values.pop(key))
        self._values[key] = value
        self._total += self._size(value)
        while len(self._values) > self._most or self._total > self._largest:
            self._total -= self._size(self._values.popitem(last=False)[1])


# --- connections ---------------------------------------------------------------------------------


class _Protocol(H11Protocol):
    """HTTP/1.1 whose connections have limits of time.

    uvicorn itself waits without limit for the end of a request's head, drops the limit of an idle
    connection with its first byte, and waits without limit for a client that does not read. Where
    too many connections wait for a request, the oldest is closed.

    A subclass for each server has its connections that wait, the oldest first, as ``waiting``.
    """

    waiting: ClassVar[dict[_Protocol, None]]
    timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._limit()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self in self.waiting and self._is_busy():
            self._limit()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._limit()

    def _is_busy(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def _limit(self) -> None:
        """Start the limit of what comes next: the head of a request, or its answer."""
        self._stop()
        if self._is_busy():
            self.timer = self.loop.call_later(_REQUEST_SECONDS, self.transport.abort)
            return
        if len(self.waiting) >= _MAX_WAITING:
            next(iter(self.waiting))._end()
        self.waiting[self] = None
        self.timer = self.loop.call_later(HEAD_SECONDS, self._end)

    def _end(self) -> None:
        """Close the connection; the client has some time to read the last answer."""
        self._stop()
        self.transport.close()
        self.timer = self.loop.call_later(_REQUEST_SECONDS, self.transport.abort)

    def _stop(self) -> None:
        """End the limit that was started."""
        self.waiting.pop(self, None)
        if self.timer is not None:
            self.timer.cancel()
