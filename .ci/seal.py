"""Seal results and models that were changed on purpose: python .ci/seal.py FILE ..."""

from __future__ import annotations

import sys
from pathlib import Path

from featurewise.common.files import write_bytes
from featurewise.common.json import loads
from featurewise.common.seal import SEAL
from featurewise.training.facts import facts_text


def main() -> None:
    """Writes each file again, with the format and the digest of today."""
    for path in map(Path, sys.argv[1:]):
        content = loads(path.read_bytes())
        said = {name: value for name, value in content.items() if name not in ("format", SEAL)}
        write_bytes(path, facts_text(said))


if __name__ == "__main__":
    main()
