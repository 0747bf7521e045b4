"""Prefect 3 as it comes: a server that it starts for itself, with its database in SQLite.

Results are not persisted, which is the default: the database holds states and no values. The
client sends each state to the server as an event, which writes rows a while after the flow has
returned: the clock stops when the last one is there.
"""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

from prefect import Flow, flow, task  # pyright: ignore[reportMissingModuleSource]  # not in this env

from tests.benchmarks.peers.measurement import Measurement, insist, main, timed

_WARM_UP_TASKS = 20
_WAIT_SECONDS = 120.0
_DATABASE = Path(os.environ["PREFECT_HOME"]) / "prefect.db"


@task
def noop(number: int) -> int:
    return number


@flow
def call_all(count: int) -> int:
    for number in range(count):
        noop(number)
    return count


@flow
def submit_all(count: int) -> int:
    futures = [noop.submit(number) for number in range(count)]
    return sum(future.result() for future in futures)


def _measure(work: Flow[[int], int], count: int) -> Measurement:
    """The server is up, has served a flow and has written all its rows when the clock starts."""
    work(_WARM_UP_TASKS)
    _wait_for_task_runs(_WARM_UP_TASKS)
    expected = count + _WARM_UP_TASKS
    measurement = timed(lambda: work(count), count, lambda: _wait_for_task_runs(expected))
    insist("completed flow runs", _completed("flow_run"), 2)
    insist("completed task runs", _completed("task_run"), expected)
    return measurement._replace(records=expected)


def _wait_for_task_runs(expected: int) -> None:
    deadline = time.monotonic() + _WAIT_SECONDS
    while _completed("task_run") < expected and time.monotonic() < deadline:
        time.sleep(0.02)


def _completed(table: str) -> int:
    connection = sqlite3.connect(f"{_DATABASE.as_uri()}?mode=ro", uri=True)
    query = f"SELECT count(*) FROM {table} WHERE state_type = 'COMPLETED'"
    (rows,) = connection.execute(query).fetchone()
    connection.close()
    return int(rows)


if __name__ == "__main__":
    main(
        "prefect",
        {
            "direct": lambda count: _measure(call_all, count),
            "submit": lambda count: _measure(submit_all, count),
        },
    )
