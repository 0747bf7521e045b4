"""DBOS on SQLite as it comes: a step returns when its result is committed, and synced to the disk.

Its database is in the journal mode and at the level of synchronisation that SQLite defaults to.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from dbos import DBOS  # pyright: ignore[reportMissingModuleSource]  # not in this env

from tests.benchmarks.peers.measurement import Measurement, insist, main, timed

_WARM_UP_STEPS = 20
_DATABASE = Path("dbos.sqlite").resolve()


@DBOS.step()
def noop(number: int) -> int:
    return number


@DBOS.workflow()
def call_all(count: int) -> int:
    for number in range(count):
        noop(number)
    return count


def _measure(count: int) -> Measurement:
    DBOS(
        config={
            "name": "benchmark",
            "system_database_url": f"sqlite:///{_DATABASE}",
            "log_level": "WARNING",
        }
    )
    DBOS.launch()
    call_all(_WARM_UP_STEPS)
    measurement = timed(lambda: call_all(count), count)
    steps = _WARM_UP_STEPS + count
    insist("steps", _rows("operation_outputs WHERE output IS NOT NULL"), steps)
    insist("successful workflows", _rows("workflow_status WHERE status = 'SUCCESS'"), 2)
    DBOS.destroy()
    return measurement._replace(records=steps)


def _rows(where: str) -> int:
    connection = sqlite3.connect(f"{_DATABASE.as_uri()}?mode=ro", uri=True)
    (rows,) = connection.execute(f"SELECT count(*) FROM {where}").fetchone()
    connection.close()
    return int(rows)


if __name__ == "__main__":
    main("dbos", {"direct": _measure, "strict": _measure})
