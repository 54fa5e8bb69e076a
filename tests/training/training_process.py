"""Trains a tiny network in forked child processes, which can be killed.

Run as a script by `conftest.TrainingProcesses`: it imports torch once, then reads one JSON command
per line and prints the process id of the child and, when the child has ended, its wait status.
"""

import json
import os
import random
import signal
import socket
import sys
import tempfile
import time
import traceback
import warnings

import numpy as np
import torch
from torch import nn

from featurewise.generators import parameter_groups
from featurewise.training import Intervals, Supervised, fit, randomness
from featurewise.training.optim import cosine

STEPS = 30


class Numbers:
    def batch(self, index):
        generator = torch.Generator().manual_seed(1000 + index)
        x = torch.randn(8, 4, generator=generator)
        return {"x": x, "y": (x.sum(1) > 0).long()}


class Pairs:
    """The batches of two processes in one step, concatenated."""

    def batch(self, index):
        one, two = (Numbers().batch(2 * index + rank) for rank in (0, 1))
        return {key: torch.cat([one[key], two[key]]) for key in one}


def plain_objective(network, batch):
    loss = nn.functional.cross_entropy(network(batch["x"]), batch["y"])
    return loss, {}


def objective(network, batch):
    # The loss uses every global generator: one that is not restored changes the outcome.
    noise = random.random() + np.random.rand() + random.gauss(0, 1) + np.random.randn()
    logits = network(batch["x"]) * (1 + 0.01 * noise)
    loss = nn.functional.cross_entropy(logits, batch["y"])
    return loss, {"accuracy": (logits.argmax(1) == batch["y"]).float().mean(), "noise": noise}


def evaluate(stepper):
    with stepper.evaluating() as network:
        return {"mean": network(torch.ones(1, 4)).mean().item() + 0 * random.random()}


def build_plain():
    randomness.seed_everything(3)
    network = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(parameter_groups(network, weight_decay=1e-3), 0.1, momentum=0.9)
    return Supervised(network, plain_objective, optimizer, clip=1.0, average=0.9)


def build():
    randomness.seed_everything(3)
    network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 2))
    optimizer = torch.optim.Adam(parameter_groups(network, weight_decay=1e-3), lr=0.01)
    schedule = cosine(STEPS, warmup=5)
    return Supervised(network, objective, optimizer, schedule=schedule, clip=1.0, average=0.9)


def die_at(operation):
    """Kills this process at the n-th file operation; a write is half completed."""
    done = 0

    def wrap(name):
        original = getattr(os, name)

        def wrapped(*args, **options):
            nonlocal done
            done += 1
            if done == operation:
                if name == "write":
                    original(args[0], bytes(args[1])[: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **options)

        setattr(os, name, wrapped)

    for name in ("write", "fsync", "mkdir", "rename", "unlink", "rmdir"):
        wrap(name)


def slow_disk():
    """Slows down syncing, so that a kill at a random time often hits a save."""
    original = os.fsync

    def slow(descriptor):
        time.sleep(0.002)
        original(descriptor)

    os.fsync = slow


def train(command):
    warnings.simplefilter("error")
    if command.get("die_at"):
        die_at(command["die_at"])
    if command.get("slow"):
        slow_disk()
    if command.get("forget_random"):
        randomness.restore = lambda state: None
    plain = command.get("plain")
    fit(
        command["run"],
        build_plain() if plain else build(),
        Pairs() if plain == "pairs" else Numbers(),
        steps=STEPS,
        evaluate=None if plain else evaluate,
        intervals=Intervals(log=7, evaluate=10, save=3),
        resume=True,
        seed=5,
        keep=2,
        workers=command.get("workers", 0),
    )


def train_together(command):
    """Two processes as `torchrun` starts them; ``die_at`` applies to rank 0 only."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    children = []
    for rank in range(2):
        pid = os.fork()
        if pid == 0:
            os.environ.update(environment, RANK=str(rank), LOCAL_RANK=str(rank))
            attempt(train, command if rank == 0 else {**command, "die_at": None})
        children.append(pid)
    statuses = [os.waitpid(pid, 0)[1] for pid in children]
    sys.exit(0 if not any(statuses) else 1)


def attempt(action, command):
    """Calls the action, then exits with status 0, or 1 after an error."""
    status = 1
    try:
        action(command)
        status = 0
    except SystemExit as error:
        status = error.code
    except BaseException:
        if not command.get("quiet"):
            traceback.print_exc(file=sys.__stderr__)
    os._exit(status)


def main():
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as warm:  # torch imports modules in the first step
        train({"run": warm})
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123
            command = json.loads(line)
            attempt(train_together if command.get("together") else train, command)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(status, flush=True)


if __name__ == "__main__":
    main()
