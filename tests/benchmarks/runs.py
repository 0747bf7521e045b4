"""The Penstock side: the engine is warm before the clock starts, and shut down before it stops."""

from __future__ import annotations

import logging
from collections.abc import Callable

import penstock
from penstock import flow, history, task
from tests.benchmarks.samples import Sample, microseconds_a_task

WARM_UP_RUNS = 1
"""Flow runs, and task runs, that `warm_up` leaves in the database."""


@task
def noop(number: int) -> int:
    """The task of most cases."""
    return number


@task
async def async_noop(number: int) -> int:
    """The same for an event loop."""
    return number


@flow
def warm_up() -> None:
    """Start the engine and a worker, and have their rows on disk."""
    noop.submit(0).result()


def set_up_logging() -> None:
    """As a script that wants to hear of trouble only."""
    logging.basicConfig(level=logging.WARNING)


def flush() -> None:
    """Have all rows on disk: the history is read from there."""
    history.flow_runs(limit=1)


def timed(work: Callable[[], object], tasks: int, flow_runs: int = 1) -> Sample:
    """Time what runs `tasks` tasks in `flow_runs` flows, to the last row on disk."""
    warm_up()
    flush()

    def work_and_flush() -> None:
        work()
        penstock.shutdown()

    elapsed = microseconds_a_task(work_and_flush, tasks)
    return Sample(elapsed, tasks + WARM_UP_RUNS, flow_runs + WARM_UP_RUNS)
