"""What is paid once: the import, the first flow, and a flow that does nothing."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Sequence

import penstock
from penstock import flow
from penstock._model.rows import FlowRow
from tests.benchmarks import floor, runs
from tests.benchmarks.cases import Case, Reference, Sample, microseconds_a_task


@flow
def empty() -> None: ...


def _run_empty_flows(count: int) -> None:
    for _ in range(count):
        empty()


def _write_empty_flows(count: int) -> None:
    writer = floor.Writer(FlowRow)
    for _ in range(count):
        submitted_at = floor.now()
        started_at = floor.now()
        empty.fn()
        history = floor.completed_history(submitted_at, started_at, "All states completed.")
        writer.add(floor.flow_row("attentive-turaco", history))
    writer.close()


class EmptyFlows(Case):
    name = "empty-flow"
    what = "a flow that does nothing, warm"
    count = 2_000
    quick_count = 500
    limit = 500

    def penstock(self, count: int, /) -> Sample:
        sample = runs.timed(lambda: _run_empty_flows(count), count, flow_runs=count)
        return sample._replace(task_runs=runs.WARM_UP_RUNS)

    def by_hand(self, count: int, /) -> Sample:
        elapsed = microseconds_a_task(lambda: _write_empty_flows(count), count)
        return Sample(elapsed, flow_runs=count)

    def references(self) -> Sequence[Reference]:
        return [Reference("call + rows", self.by_hand)]


class FirstFlow(Case):
    name = "first-flow"
    what = "the first flow of a process, on a new database"
    count = 1
    quick_count = 1
    limit = 100_000

    def penstock(self, count: int, /) -> Sample:
        def run_and_flush() -> None:
            _run_empty_flows(count)
            penstock.shutdown()

        return Sample(microseconds_a_task(run_and_flush, count), flow_runs=count)

    def by_hand(self, count: int, /) -> Sample:
        elapsed = microseconds_a_task(lambda: _write_empty_flows(count), count)
        return Sample(elapsed, flow_runs=count)

    def references(self) -> Sequence[Reference]:
        return [Reference("open + call + row", self.by_hand)]


class Import(Case):
    name = "import"
    what = "import penstock"
    count = 5
    quick_count = 3
    limit = 100_000

    def penstock(self, count: int, /) -> Sample:
        return _import_time("penstock", count)

    def libraries(self, count: int, /) -> Sample:
        return _import_time("anyio, msgspec, aiosqlite", count)

    def references(self) -> Sequence[Reference]:
        return [Reference("anyio, msgspec, aiosqlite", self.libraries, at_most=1.5)]


def _import_time(modules: str, times: int) -> Sample:
    """The median over new interpreters; all modules are compiled already."""
    script = (
        "import time; began = time.perf_counter()\n"
        f"import {modules}\n"
        "print((time.perf_counter() - began) * 1e6)"
    )
    command = [sys.executable, "-c", script]
    outputs = (
        subprocess.run(command, capture_output=True, check=True, text=True).stdout
        for _ in range(times)
    )
    return Sample(statistics.median(map(float, outputs)))
