"""Help, version and completion do not import torch, and start fast.

The CPU time of a start depends on the machine and on what else it does. Hence each start is
compared with one of a program that has two empty commands: 0.12 s against the bar of 0.3 s.
"""

import json
import os
import subprocess
import sys

import pytest

RATIO = 2.5
"""Limit of CPU time, as a multiple of that of an empty program; with torch it would be 25."""

MEASURED = """
import json, resource, sys
sys.argv[0] = "featurewise"
try:
    {program}
finally:
    used = resource.getrusage(resource.RUSAGE_SELF)
    heavy = sorted({{"torch", "numpy", "PIL", "matplotlib", "optuna"}} & set(sys.modules))
    print(json.dumps([used.ru_utime + used.ru_stime, heavy]), file=sys.stderr)
"""
OURS = MEASURED.format(program="from featurewise.cli import main; main()")
EMPTY = MEASURED.format(
    program="import typer; app = typer.Typer(); [app.command(n)(lambda: 0) for n in 'ab']; app()"
)

pytest.importorskip("resource", reason="the CPU time of a process needs Unix")


def start(code, *words, **environment):
    """CPU seconds, heavy modules and standard output of one start."""
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )
    seconds, heavy = json.loads(done.stderr.splitlines()[-1])
    return seconds, heavy, done.stdout


def started(*words, **environment):
    """CPU time relative to an empty program, heavy modules and output of the best of eight."""
    ours, empty = [], []
    for _ in range(8):
        ours.append(start(OURS, *words, **environment))
        empty.append(start(EMPTY, "--help"))
        ratio = min(ours)[0] / min(empty)[0]
        if ratio < RATIO:
            break
    return ratio, *min(ours)[1:]


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
    ratio, heavy, output = started(*words)
    assert shown in output and not heavy
    assert ratio < RATIO


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("featurewise wor", "world"),
        ("featurewise train pix", "pixelcnn"),
        ("featurewise train film --preset t", "tiny"),
        ("featurewise run film --arms", "--arms"),
        ("featurewise train film --preset tiny --arm sh", "shuffled"),
        ("featurewise evaluate pix", "pixelcnn"),
    ],
)
def test_completion_is_fast(line, shown):
    ratio, heavy, output = started(
        _FEATUREWISE_COMPLETE="complete_bash",
        COMP_WORDS=line,
        COMP_CWORD=str(len(line.split()) - 1),
    )
    assert output.split() == [shown] and not heavy
    assert ratio < RATIO


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


def test_importing_everything_takes_little_more_than_torch():
    """No compiler, no data library: each takes as long to import as torch itself."""
    code = (
        "import sys, time, torch; alone = time.process_time()\n"
        "from featurewise import *\n"
        "heavy = {'torch._dynamo', 'torch._inductor', 'matplotlib', 'sklearn', 'scipy', 'pandas'}\n"
        "print(time.process_time() / alone, *(heavy & set(sys.modules)))"
    )
    ratios = []
    for _ in range(4):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        ratio, *heavy = done.stdout.split()
        assert not heavy
        ratios.append(float(ratio))
        if min(ratios) < 1.4:
            break
    assert min(ratios) < 1.4
