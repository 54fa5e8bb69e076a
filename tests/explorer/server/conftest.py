"""Small networks behind their bundles, and a server with a real socket."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import torch
import uvicorn
from PIL import Image
from starlette.types import ASGIApp
from torch import Tensor, nn

import featurewise as fw
from featurewise.core import Layout, Site, TaskRepresentation
from featurewise.core.operation import Affine, Gate, LowRank, Scale, Shift
from featurewise.explorer.live import Live
from featurewise.explorer.server import configuration

CLASSES = 12
NAMES = ("no", "yes", "red", "blue", "two")


@pytest.fixture(scope="session")
def net() -> fw.Conditioned:
    torch.manual_seed(0)
    backbone = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 5, 3), nn.BatchNorm2d(5)
    )
    net = fw.condition(backbone, at=["1", "4"], operation=fw.Affine(), generator=fw.Lookup(CLASSES))
    for parameter in net.generator.parameters():
        nn.init.normal_(parameter, std=0.5)
    return net.eval()


@pytest.fixture(scope="session")
def respond(net: fw.Conditioned) -> Callable[[TaskRepresentation, int], Tensor]:
    """Probabilities of five answers about an image of noise that belongs to a condition."""

    def respond(task: TaskRepresentation, condition: int) -> Tensor:
        image = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(condition))
        out: Tensor = net(image.expand(len(task), -1, -1, -1), task=task)
        return out.mean((2, 3)).softmax(1)

    return respond


@pytest.fixture(scope="session")
def live(net: fw.Conditioned, respond: Callable[[TaskRepresentation, int], Tensor]) -> Live:
    with torch.no_grad():
        task = net.represent(torch.arange(CLASSES))

    def represent(text: str) -> TaskRepresentation:
        words = text.split()
        if words[0] != "class" or not words[-1].isdecimal() or int(words[-1]) >= CLASSES:
            raise ValueError("expected: class, and a number")
        return net.represent(torch.tensor([int(words[-1])]))

    return Live(
        bundle=fw.explore(task, title="A <small> network"),
        task=task,
        respond=respond,
        outputs=NAMES,
        represent=represent,
    )


def made(
    task: TaskRepresentation,
    respond: Callable[[TaskRepresentation, int], Tensor | Sequence[Image.Image]],
    outputs: Sequence[str] = (),
) -> Live:
    """A network without texts, which is any function of task representations."""
    return Live(bundle=fw.explore(task), task=task, respond=respond, outputs=outputs)


@pytest.fixture(scope="session")
def make() -> Callable[..., Live]:
    return made


@pytest.fixture(scope="session")
def operations() -> Live:
    """One site of each operation; the answers are the first numbers of the representation."""
    sites = (
        Site("affine", 3, Affine()),
        Site("scale", 3, Scale()),
        Site("shift", 3, Shift()),
        Site("raw", 3, Affine(raw=True)),
        Site("exp", 3, Affine(activation="exp")),
        Site("gate", 3, Gate()),
        Site("low", 3, LowRank(2)),
    )
    layout = Layout(sites)
    torch.manual_seed(1)
    return made(
        TaskRepresentation(layout, torch.randn(9, layout.size)),
        lambda task, condition: task.flat[:, : 4 + 0 * condition].sigmoid(),
    )


@dataclass(frozen=True)
class Running:
    """A server with a socket.

    Attributes:
        port: of the socket, on the loopback address.
        server: of uvicorn.
    """

    port: int
    server: uvicorn.Server

    def connect(self, timeout: float = 8) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout)

    def send(self, raw: bytes, timeout: float = 8) -> bytes:
        """The reply to raw bytes, until the server closes or is silent after its reply."""
        with self.connect(timeout) as client:
            client.sendall(raw)
            found = bytearray()
            try:
                while part := client.recv(65536):
                    found += part
                    if is_complete(found):
                        break
            except ConnectionResetError:
                pass
            return bytes(found)


def is_complete(reply: bytes | bytearray) -> bool:
    """Whether a reply has the body that its head promises."""
    reply = bytes(reply).removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    head, found, body = reply.partition(b"\r\n\r\n")
    lengths = [
        int(line.partition(b":")[2])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length:")
    ]
    return bool(found) and bool(lengths) and len(body) >= lengths[0]


@contextmanager
def running(application: ASGIApp) -> Iterator[Running]:
    """A server in a thread."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    server = uvicorn.Server(configuration(application))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    limit = time.monotonic() + 20
    while not server.started and time.monotonic() < limit:
        time.sleep(0.01)
    try:
        yield Running(listener.getsockname()[1], server)
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="session")
def run_server() -> Callable[[ASGIApp], object]:
    return running
