"""Run every benchmark in turn: ``python -m benchmarks [name ...]``."""

from __future__ import annotations

import importlib
import sys
import time
import traceback
from pathlib import Path


def run(name: str) -> bool:
    """Run one benchmark as if it were called alone; return whether it succeeded."""
    sys.argv = [name]
    try:
        code = importlib.import_module(f"benchmarks.{name}").main()
    except SystemExit as stop:
        code = stop.code
    except Exception:
        traceback.print_exc()
        code = 1
    return code in (None, 0)


def main(wanted: list[str]) -> int:
    """Run the benchmarks named, or all; return the number that failed."""
    known = sorted(p.stem for p in Path(__file__).parent.glob("[!_]*.py"))
    unknown = sorted(set(wanted) - set(known))
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; known: {', '.join(known)}", file=sys.stderr)
        return len(unknown)
    failed = []
    for name in wanted or known:
        print(f"\n=== {name} ===", flush=True)
        started = time.perf_counter()
        if not run(name):
            failed.append(name)
        print(f"({name}: {time.perf_counter() - started:.0f} s)", flush=True)
    if failed:
        print(f"\nFailed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
