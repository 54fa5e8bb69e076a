"""Characters that the encoding of the terminal lacks are replaced; no command fails."""

import os
import subprocess
import sys
import warnings

import pytest

from featurewise.cli.streams import plain_warnings, spell_out
from featurewise.study import run


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("γ and β", "gamma and beta"),
        ("Δ 1 – 2", "Delta 1 - 2"),
        ("███", "###"),
        ("café ×", "cafe x"),
        ("日", "?"),
        ("plain", "plain"),
    ],
)
def test_text_in_ascii(text, plain):
    assert spell_out(text) == plain


def test_a_warning_of_the_library_is_one_line(capsys, monkeypatch):
    seen = []
    monkeypatch.setattr(warnings, "showwarning", lambda message, *place: seen.append(str(message)))
    plain_warnings()
    warnings.showwarning("the run [b]x[/b] is replaced", UserWarning, run.__file__, 3)
    warnings.showwarning("of another library", UserWarning, warnings.__file__, 3)
    assert capsys.readouterr().err == "warning: the run [b]x[/b] is replaced\n"
    assert seen == ["of another library"]


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("cp1252", ("systems", "film")),
        ("ascii", ("systems",)),
        ("ascii", ("world", "clevr", "--help")),
        ("latin-1", ("--help",)),
    ],
)
def test_commands_work_with_every_encoding(encoding, words):
    done = subprocess.run(
        [sys.executable, "-m", "featurewise", *words],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        check=False,
    )
    assert done.returncode == 0 and not done.stderr
    assert done.stdout.decode(encoding)


def test_bars_and_greek_letters(tmp_path):
    code = (
        "from featurewise.cli.streams import accept_any_terminal\n"
        "from rich.console import Console\n"
        "accept_any_terminal()\nConsole().print('█ γ \u65e5')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
        check=True,
    )
    assert done.stdout == "# gamma ?\n"
