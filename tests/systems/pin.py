"""Pins names and shapes of weights, and outputs of known weights, of systems that are new.

python -m tests.systems.pin            # adds arms that have no pins; changes none
python -m tests.systems.pin NAME ...   # pins these systems again: their old files no longer load
"""

import json
import os
import sys
import tempfile

from tests.systems import test_contract as contract


def written(pins: dict[str, dict[str, object]]) -> str:
    """JSON with a line for each arm, so that a change shows whose it is."""
    systems = [
        f"{json.dumps(name)}: {{\n"
        + ",\n".join(f" {json.dumps(arm)}: {json.dumps(pin)}" for arm, pin in arms.items())
        + "\n}"
        for name, arms in pins.items()
    ]
    return "{\n" + ",\n".join(systems) + "\n}\n"


def main() -> None:
    """Rewrites both files; prints each arm that it pinned."""
    for name in sys.argv[1:]:
        contract.discovery.require(name, contract.NAMES, "system")
    os.environ["FEATUREWISE_CACHE"] = tempfile.mkdtemp()
    for path, describe in (
        (contract.KEYS, contract.shapes),
        (contract.OUTPUTS, contract.reference),
    ):
        old = json.loads(path.read_text()) if path.is_file() else {}
        # Pins of systems that FEATUREWISE_SYSTEMS leaves out stay.
        new = {name: old[name] for name in contract.discovery.names() if name in old}
        new = {name: {} if name in contract.NAMES else pins for name, pins in new.items()}
        for name, arm in contract.ARMS:
            kept = None if name in sys.argv[1:] else old.get(name, {}).get(arm)
            new.setdefault(name, {})[arm] = kept or describe(name, arm)
            if not kept:
                print(f"{path.name}: {name}, {arm}")
        path.write_text(written(dict(sorted(new.items()))))


if __name__ == "__main__":
    main()
