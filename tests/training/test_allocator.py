"""The process keeps large freed blocks, if the C library has options for it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from featurewise.training import allocator
from featurewise.training.allocator import use_large_allocations

#: Counts page faults of four copies of a 40 MiB tensor, before the setting, and after it and four
#: warm-up copies. In a separate process, because the setting cannot be undone.
FAULTS = """
import resource, torch
from featurewise.training.allocator import use_large_allocations

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        x.clone()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

x = torch.ones(10 << 20)
before, done = faults(), use_large_allocations()
faults()
print(int(done), before, faults(), float(x.clone().sum()))
"""


def glibc() -> bool:
    try:
        return str(os.confstr("CS_GNU_LIBC_VERSION")).startswith("glibc")
    except (AttributeError, ValueError):
        return False


@pytest.mark.skipif(not glibc(), reason="needs glibc")
def test_large_blocks_cause_page_faults_only_once() -> None:
    output = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True
    ).stdout.split()
    done, before, after, total = (float(each) for each in output)
    assert done == 1
    assert before > 100
    assert after < before / 10
    assert total == 10 << 20


def test_without_glibc_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> str:
        raise ValueError("unrecognized configuration name")

    def refused(name: object) -> None:
        raise AssertionError("a library was opened")

    monkeypatch.setattr(os, "confstr", unknown, raising=False)
    monkeypatch.setattr(allocator.ctypes, "CDLL", refused)
    assert use_large_allocations() is False
    monkeypatch.setattr(os, "confstr", lambda name: "musl 1.2.5")
    assert use_large_allocations() is False
    monkeypatch.delattr(os, "confstr")
    assert use_large_allocations() is False


@pytest.mark.parametrize("answers", [{-3: 0, -1: 1}, {-3: 1, -1: 0}])
def test_failure_of_mallopt_returns_false(
    monkeypatch: pytest.MonkeyPatch, answers: dict[int, int]
) -> None:
    def mallopt(which: int, value: int) -> int:
        return answers[which]

    class Library:
        def __init__(self, name: object) -> None:
            self.mallopt = mallopt

    monkeypatch.setattr(os, "confstr", lambda name: "glibc 2.36", raising=False)
    monkeypatch.setattr(allocator.ctypes, "CDLL", Library)
    assert use_large_allocations() is False
