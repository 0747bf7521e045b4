"""Worker processes: short tasks, all of whose time is the way there and back."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

from tests.benchmarks import floor
from tests.benchmarks.cases import Case, Reference
from tests.benchmarks.samples import Sample
from tests.benchmarks.works import POOL_WARM_UP_TASKS, POOL_WORKERS


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

    def by_hand(self, count: int, /) -> Sample:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(POOL_WORKERS, spawn) as pool:
            list(pool.map(_noop, range(POOL_WARM_UP_TASKS)))
            return floor.timed(lambda writer: _submit_all_by_hand(count, writer, pool), count)

    def references(self) -> Sequence[Reference]:
        return [Reference("ProcessPoolExecutor + rows", self.by_hand, at_most=1.3)]
