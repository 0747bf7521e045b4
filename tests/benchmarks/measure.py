"""One side of one case, in a process of its own, which counts the rows before it says a figure.

`python -m tests.benchmarks.measure CASE COUNT` is Penstock's side. It imports what older versions
have, too: public names alone.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from tests.benchmarks import runs
from tests.benchmarks.samples import Sample, Side, peak_rss_bytes
from tests.benchmarks.works import WORKS

_ROOT: Final = Path(__file__).parents[2]
_PREFIX: Final = "PENSTOCK_"


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


class FailedSideError(RuntimeError):
    """A side has given no figure, or its rows are not what they must be."""


def read_from(
    command: Sequence[str],
    environ: Mapping[str, str],
    bytecode: Path,
    timeout_seconds: float,
) -> Reading:
    """Measure in a new process, in a new home.

    Args:
        command: what says a reading.
        environ: the user's; what would change a figure is left out.
        bytecode: the folder of compiled modules.
        timeout_seconds: it is killed then.

    Raises:
        FailedSideError: it failed.
    """
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            command,
            capture_output=True,
            check=False,
            cwd=_ROOT,
            env=_environment(environ, home, bytecode),
            timeout=timeout_seconds,
        )
    if done.returncode:
        raise FailedSideError(done.stderr.decode())
    return msgspec.json.decode(done.stdout, type=Reading)


def _environment(environ: Mapping[str, str], home: str, bytecode: Path) -> dict[str, str]:
    """Without settings; and modules are compiled once, not in each process."""
    others = {
        name: value
        for name, value in environ.items()
        if not name.startswith(_PREFIX) and name != "PYTHONDONTWRITEBYTECODE"
    }
    return {**others, f"{_PREFIX}HOME": home, "PYTHONPYCACHEPREFIX": str(bytecode)}


def say(side: Side, count: int) -> None:
    """Measure in this process, and write the reading to stdout."""
    runs.set_up_logging()
    sample = side(count)
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
    with closing(sqlite3.connect(Path(os.environ[f"{_PREFIX}HOME"], "penstock.db"))) as connection:
        for table, wanted in expected.items():
            found, found_bytes = connection.execute(_COUNT.format(table=table)).fetchone()
            if found != wanted:
                raise FailedSideError(f"{table} has {found} completed rows instead of {wanted}")
            rows += found
            size += found_bytes or 0
    return rows, size / rows


if __name__ == "__main__":
    say(WORKS[sys.argv[1]], int(sys.argv[2]))
