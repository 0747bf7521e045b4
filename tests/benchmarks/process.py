"""Any side of a case, Penstock's or a reference, in a process of its own.

`python -m tests.benchmarks.process CASE SIDE COUNT` is what that process runs.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.benchmarks.measure import Reading, read_from, say
from tests.benchmarks.registry import CASES, sides_of


def read(case: str, side: str, count: int, bytecode: Path) -> Reading:
    """Measure in a new process, in a new home; `bytecode` is the folder of compiled modules.

    Raises:
        FailedSideError: it failed, or its rows are not what they must be.
    """
    command = [sys.executable, "-m", __spec__.name, case, side, str(count)]
    return read_from(command, os.environ, bytecode, CASES[case].timeout_seconds)


def main(case: str, side: str, count: str) -> None:
    """Measure in this process."""
    say(sides_of(CASES[case])[side], int(count))


if __name__ == "__main__":
    main(*sys.argv[1:])
