"""Load on the explorer's server: 64 clients at once, answers from the cache and from the network.

    python -m benchmarks.explorer_server [--clients 64] [--seconds 20]

The server is a process of its own with a convolutional network of FiLM's size (4 sites of 128
features, features of 14 x 14); the clients are threads of this process, on the same computer, each
with a connection that stays open. Printed are, for each kind of request, how many were answered,
how many of them 503 (the queue was full, which is deliberate), the median and the 99th percentile
of the time to a reply, and the growth of the server's memory. Another status than 200 or 503 fails.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import re
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import featurewise as fw
from featurewise.core import TaskRepresentation
from featurewise.explorer.live import Live
from featurewise.explorer.server import serve

CONDITIONS = 200
WIDTH = 128


@dataclass
class Load:
    """What the clients measured.

    Attributes:
        statuses: how often each was answered.
        seconds: time to a reply of status 200.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)


def network() -> Live:
    """A network with random weights behind its bundle."""
    torch.manual_seed(0)
    blocks = [
        layer
        for _ in range(4)
        for layer in (nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH), nn.ReLU())
    ]
    net = fw.condition(
        nn.Sequential(*blocks), at=["1", "4", "7", "10"], generator=fw.Lookup(CONDITIONS)
    ).eval()
    for parameter in net.generator.parameters():
        nn.init.normal_(parameter, std=0.1)
    images = torch.randn(CONDITIONS, WIDTH, 14, 14)
    with torch.no_grad():
        task = net.represent(torch.arange(CONDITIONS))

    def respond(task: TaskRepresentation, condition: int) -> Tensor:
        out: Tensor = net(images[[condition]].expand(len(task), -1, -1, -1), task=task)
        return out.mean((2, 3))[:, :28].softmax(1)

    return Live(bundle=fw.explore(task), task=task, respond=respond)


def run_server(out: Connection) -> None:
    """Send the port, then serve."""
    torch.set_num_threads(1)

    def on_message(text: str) -> None:
        if found := re.match(r"http://127\.0\.0\.1:(\d+)/", text):
            out.send(int(found[1]))

    serve(network(), port=0, open_browser=False, on_message=on_message)


def load(port: int, clients: int, seconds: float, request: Callable[[int], Any]) -> Load:
    """What ``clients`` threads measure that send requests without a pause."""
    found, lock, end = Load(), threading.Lock(), time.monotonic() + seconds

    def work(client: int) -> None:
        own = Load()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        number = client
        while time.monotonic() < end:
            body = json.dumps(request(number))
            start = time.monotonic()
            connection.request("POST", "/api/v1/answer", body, {"content-type": "application/json"})
            response = connection.getresponse()
            response.read()
            own.statuses[response.status] += 1
            if response.status == 200:
                own.seconds.append(time.monotonic() - start)
            else:
                time.sleep(0.05)  # a client that waits, as Retry-After says, but less long
            number += clients
        connection.close()
        with lock:
            found.statuses += own.statuses
            found.seconds += own.seconds

    threads = [threading.Thread(target=work, args=(client,)) for client in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def memory(process: int) -> float:
    """Resident memory of a process in MB; 0 where the system does not say."""
    path = Path(f"/proc/{process}/status")
    text = path.read_text() if path.exists() else ""
    found = re.search(r"VmRSS:\s+(\d+) kB", text)
    return int(found[1]) / 1e3 if found else 0.0


def term(condition: int, weight: float) -> dict[str, Any]:
    return {"condition": condition, "weight": weight}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10)
    args = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=run_server, args=(sender,), daemon=True)
    process.start()
    failed = False
    try:
        port = receiver.recv()
        kinds: dict[str, Callable[[int], Any]] = {
            "warm-up": lambda n: {"condition": n % 50, "terms": [term(n % 50, 1)]},
            "answers from the cache": lambda n: {"condition": n % 50, "terms": [term(n % 50, 1)]},
            "new answers": lambda n: {"condition": n % 200, "terms": [term(n % 7, n / 1e5)]},
            "one new answer in ten": lambda n: {
                "condition": n % 50,
                "terms": [term(n % 50, 1 + (n % 10 == 0) * n / 1e5)],
            },
        }
        start = 0.0
        for name, request in kinds.items():
            found = load(port, args.clients, args.seconds, request)
            count = sum(found.statuses.values())
            ordered = sorted(found.seconds)
            middle, slow = statistics.median(ordered), ordered[int(0.99 * len(ordered))]
            print(
                f"{name}: {count:,} replies ({count / args.seconds:.0f}/s), "
                f"{found.statuses[503]:,} of them 503; {1e3 * middle:.0f} ms median, "
                f"{1e3 * slow:.0f} ms 99th percentile; {memory(process.pid or 0):.0f} MB"
            )
            failed |= not found.statuses.keys() <= {200, 503}
            start = start or memory(process.pid or 0)
        print(f"memory after the warm-up: {memory(process.pid or 0) / start - 1:+.1%}")
    finally:
        process.terminate()
        process.join(10)
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
