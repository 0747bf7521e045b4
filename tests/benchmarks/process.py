"""One side of one case, in a process of its own, which counts the rows before it says a figure.

`python -m tests.benchmarks.process CASE SIDE COUNT` is what that process runs.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from penstock._model.settings import PREFIX
from tests.benchmarks import floor, runs
from tests.benchmarks.cases import Sample
from tests.benchmarks.memory import peak_rss_bytes
from tests.benchmarks.registry import CASES, sides_of

_ROOT = Path(__file__).parents[2]


class Reading(msgspec.Struct, frozen=True):
    """What one process has measured.

    Attributes:
        value: in the case's unit, a task.
        peak_rss_bytes: of the process.
        rows: completed runs in the database.
        row_bytes: how long their histories and results are, on average.
        parts: see `Sample`.
    """

    value: float
    peak_rss_bytes: int
    rows: int
    row_bytes: float
    parts: dict[str, float]


def read(case: str, side: str, count: int, bytecode: Path) -> Reading:
    """Measure in a new process, in a new home; `bytecode` is the folder of compiled modules.

    Raises:
        RuntimeError: it failed, or its rows are not what they must be.
    """
    command = [sys.executable, "-m", __spec__.name, case, side, str(count)]
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            command,
            capture_output=True,
            check=False,
            cwd=_ROOT,
            env=_environment(home, bytecode),
            timeout=CASES[case].timeout_seconds,
        )
    if done.returncode:
        raise RuntimeError(f"{case}, {side}: {done.stderr.decode()}")
    return msgspec.json.decode(done.stdout, type=Reading)


def _environment(home: str, bytecode: Path) -> dict[str, str]:
    """The user's, but for what would change a figure: settings, and modules compiled each time."""
    others = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(PREFIX) and name != "PYTHONDONTWRITEBYTECODE"
    }
    return {**others, f"{PREFIX}HOME": home, "PYTHONPYCACHEPREFIX": str(bytecode)}


def main(case: str, side: str, count: str) -> None:
    """Measure in this process."""
    runs.set_up_logging()
    sample = sides_of(CASES[case])[side](int(count))
    rows, row_bytes = _check_rows(sample)
    parts = dict(sample.parts)
    reading = Reading(sample.value, peak_rss_bytes(), rows, row_bytes, parts)
    sys.stdout.buffer.write(msgspec.json.encode(reading))


_COUNT = """
SELECT count(*), sum(length(history) + length(result)) FROM {table}
WHERE state_type = 'COMPLETED' AND result IS NOT NULL
"""


def _check_rows(sample: Sample) -> tuple[int, float]:
    """Hold the database against what the sample says is in it; rows, and bytes a row."""
    expected = {"task_run": sample.task_runs, "flow_run": sample.flow_runs}
    if not any(expected.values()):
        return 0, 0.0
    rows, size = 0, 0
    connection = sqlite3.connect(floor.database())
    for table, wanted in expected.items():
        found, found_bytes = connection.execute(_COUNT.format(table=table)).fetchone()
        if found != wanted:
            raise RuntimeError(f"{table} has {found} completed rows instead of {wanted}")
        rows += found
        size += found_bytes or 0
    connection.close()
    return rows, size / rows


if __name__ == "__main__":
    main(*sys.argv[1:])
