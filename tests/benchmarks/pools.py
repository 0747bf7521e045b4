"""Worker processes: short tasks, all of whose time is the way there and back."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

from penstock import flow
from penstock.task_runners import ProcessTaskRunner
from tests.benchmarks import floor, runs
from tests.benchmarks.cases import Case, Reference, Sample

_WORKERS = 2
_WARM_UP_TASKS = 100


@flow(task_runner=ProcessTaskRunner(max_workers=_WORKERS))
def submit_all(count: int) -> int:
    futures = [runs.noop.submit(number) for number in range(count)]
    return sum(future.result() for future in futures)


def _noop(number: int) -> int:
    return number


def _submit_all_by_hand(count: int, writer: floor.Writer, pool: ProcessPoolExecutor) -> None:
    futures = [(floor.now(), pool.submit(_noop, number)) for number in range(count)]
    for number, (submitted_at, future) in enumerate(futures):
        value = future.result()
        writer.add(floor.completed_row(number, submitted_at, floor.now(), value))


class ProcessPool(Case):
    name = "process-pool"
    what = "a sync flow submits a sync task to two worker processes"
    count = 20_000
    quick_count = 2_000

    def penstock(self, count: int, /) -> Sample:
        submit_all(_WARM_UP_TASKS)
        sample = runs.timed(lambda: submit_all(count), count)
        task_runs = sample.task_runs + _WARM_UP_TASKS
        return Sample(sample.value, task_runs, sample.flow_runs + 1)

    def by_hand(self, count: int, /) -> Sample:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(_WORKERS, spawn) as pool:
            list(pool.map(_noop, range(_WARM_UP_TASKS)))
            return floor.timed(lambda writer: _submit_all_by_hand(count, writer, pool), count)

    def references(self) -> Sequence[Reference]:
        return [Reference("ProcessPoolExecutor + rows", self.by_hand, at_most=1.5)]
