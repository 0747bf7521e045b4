"""Many at once on one file: user threads, and processes, that each run flows."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Sequence
from multiprocessing.synchronize import Barrier

import penstock
from penstock._engine.process import get_engine
from tests.benchmarks import runs
from tests.benchmarks.cases import Case, Reference, Sample, microseconds_a_task
from tests.benchmarks.direct import call_all

_TASKS_A_FLOW = 100


def _run_flows(flows: int) -> None:
    for _ in range(flows):
        call_all(_TASKS_A_FLOW)


def _alone(count: int, /) -> Sample:
    flows = count // _TASKS_A_FLOW
    return runs.timed(lambda: _run_flows(flows), count, flows)


def _run_in_threads(threads: int, flows: int) -> None:
    workers = [threading.Thread(target=_run_flows, args=(flows,)) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


class Threads(Case):
    name = "threads"
    what = "8 threads, each running flows of 100 calls"
    count = 16_000
    quick_count = 1_600
    threads = 8

    def penstock(self, count: int, /) -> Sample:
        flows = count // _TASKS_A_FLOW
        return runs.timed(
            lambda: _run_in_threads(self.threads, flows // self.threads), count, flows
        )

    def references(self) -> Sequence[Reference]:
        return [Reference("one thread", _alone, at_most=1)]


class Processes(Case):
    name = "processes"
    what = "4 processes on one file, each running flows of 100 calls"
    count = 16_000
    quick_count = 1_600
    processes = 4

    def penstock(self, count: int, /) -> Sample:
        context = multiprocessing.get_context("spawn")
        line = context.Barrier(self.processes + 1)
        flows = count // _TASKS_A_FLOW
        share = flows // self.processes
        workers = [
            context.Process(target=_run_between, args=(line, share)) for _ in range(self.processes)
        ]
        for worker in workers:
            worker.start()
        line.wait()
        elapsed = microseconds_a_task(line.wait, count)
        for worker in workers:
            worker.join()
        warm_ups = self.processes * runs.WARM_UP_RUNS
        return Sample(elapsed, count + warm_ups, flows + warm_ups)

    def references(self) -> Sequence[Reference]:
        return [Reference("one process", _alone, at_most=1)]


def _run_between(line: Barrier, flows: int) -> None:
    """Run flows in a process of its own, between two meetings at the line."""
    runs.set_up_logging()
    runs.warm_up()
    get_engine().commit().wait()
    line.wait()
    _run_flows(flows)
    penstock.shutdown()
    line.wait()
