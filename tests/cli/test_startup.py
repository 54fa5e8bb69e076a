"""Help, version and completion take less than 0.3 s of CPU time: they do not import torch."""

import json
import os
import subprocess
import sys

import pytest

SECONDS = 0.3
"""Limit of CPU time; with torch it would be 3 seconds."""

CODE = """
import json, resource, sys
sys.argv[0] = "featurewise"
try:
    from featurewise.cli import main
    main()
finally:
    used = resource.getrusage(resource.RUSAGE_SELF)
    heavy = sorted({"torch", "numpy", "PIL", "matplotlib", "optuna"} & set(sys.modules))
    print(json.dumps([used.ru_utime + used.ru_stime, heavy]), file=sys.stderr)
"""

pytest.importorskip("resource", reason="the CPU time of a process needs Unix")


def started(*words, **environment):
    """Standard output, CPU seconds and heavy modules of the best of eight starts."""
    starts = []
    for _ in range(8):
        done = subprocess.run(
            [sys.executable, "-c", CODE, *words],
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
            check=False,
        )
        seconds, heavy = json.loads(done.stderr.splitlines()[-1])
        starts.append((seconds, heavy, done.stdout))
        if seconds < SECONDS:
            break
    return min(starts)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--help"], "systems"),
        (["--version"], "featurewise 0."),
        (["systems"], "FiLM: visual reasoning"),
        *(([name, "--help"], "Usage") for name in ("train", "run", "cards", "evaluate", "ask")),
        *(([name, "--help"], "Usage") for name in ("demo", "world", "systems")),
        (["world", "clevr", "--help"], "--workers"),
    ],
)
def test_help_is_fast(words, shown):
    seconds, heavy, output = started(*words)
    assert shown in output and not heavy
    assert seconds < SECONDS


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("featurewise wor", "world"),
        ("featurewise train fi", "film"),
        ("featurewise train film --preset t", "tiny"),
        ("featurewise run film --arms", "--arms"),
        ("featurewise train film --preset tiny --arm sh", "shuffled"),
        ("featurewise evaluate fi", "film"),
    ],
)
def test_completion_is_fast(line, shown):
    seconds, heavy, output = started(
        _FEATUREWISE_COMPLETE="complete_bash",
        COMP_WORDS=line,
        COMP_CWORD=str(len(line.split()) - 1),
    )
    assert output.split() == [shown] and not heavy
    assert seconds < SECONDS


@pytest.mark.parametrize("module", ["featurewise", "featurewise.cli"])
def test_as_a_module(module):
    done = subprocess.run(
        [sys.executable, "-m", module, "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("featurewise 0.")


def test_importing_the_library_imports_no_torch():
    code = (
        "import sys, featurewise as fw; assert not {'torch', 'numpy'} & set(sys.modules)\n"
        "assert set(fw.__all__) <= set(dir(fw)); assert callable(fw.film) and callable(fw.bank)\n"
        "from featurewise import *\nassert Affine is fw.Affine and 'torch' in sys.modules\n"
        "try: fw.nothing\nexcept AttributeError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "module 'featurewise' has no attribute 'nothing'\n"
